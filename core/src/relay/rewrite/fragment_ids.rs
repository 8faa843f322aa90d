//! The IDs of datagrams that a POP sends in fragments (RFC 791, section 3.2; RFC 6864).

use crate::crypto::{Aes128, Key128};
use crate::net::IpEndpoint;
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
    /// sequence number: IPv4's 16 bits are the upper half of it, IPv6's all. An IPv6 address is
    /// enciphered first, and what comes out XORed with the rest.
    pub fn of(&self, client: IpEndpoint, id: u16, seq: SeqNum) -> u32 {
        let (first, ip) = match client {
            IpEndpoint::V4(client) => (0, client.ip),
            IpEndpoint::V6(client) => (self.encrypt(client.ip), 0),
        };
        let rest = u128::from(ip) << 96
            | u128::from(client.port()) << 80
            | u128::from(id) << 64
            | u128::from(seq.0) << 32;
        let [a, b, c, d, ..] = self.encrypt(first ^ rest).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn encrypt(&self, block: u128) -> u128 {
        u128::from_be_bytes(self.0.encrypt_block(&block.to_be_bytes()))
    }
}
