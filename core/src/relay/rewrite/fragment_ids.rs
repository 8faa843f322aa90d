//! The IDs of datagrams that a POP sends in fragments (RFC 791, section 3.2; RFC 6864).

use std::net::SocketAddrV4;

use crate::crypto::{Aes128, Key128};
use crate::seq::SeqNum;

/// Gives fragmented datagrams of a service their IDs.
///
/// Clients share egress addresses, so the IDs that they chose would meet: two datagrams with the
/// same addresses and ID, both in fragments, would be mixed up where they are reassembled. These
/// depend on the client and the place in its stream, are the same on all POPs, and tell nobody
/// anything.
#[derive(Clone, Debug)]
pub struct FragmentIds(Aes128);

impl FragmentIds {
    /// The IDs under this key.
    pub fn new(key: &Key128) -> Self {
        FragmentIds(Aes128::new(key))
    }

    /// The ID of a segment of the connection of `client`, which came with the ID `id` and has this
    /// sequence number: IPv4's 16 bits are the upper half of it, IPv6's all.
    pub fn of(&self, client: SocketAddrV4, id: u16, seq: SeqNum) -> u32 {
        let [a, b, c, d] = client.ip().octets();
        let [e, f] = client.port().to_be_bytes();
        let [g, h] = id.to_be_bytes();
        let [i, j, k, l] = seq.0.to_be_bytes();
        let block = self.0.encrypt_block(&[a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 0]);
        let [a, b, c, d, ..] = block;
        u32::from_be_bytes([a, b, c, d])
    }
}
