//! IDs of IPv4 datagrams that were IPv6 and may be fragmented on their way (RFC 7915, section 5.1;
//! RFC 6864): fragments of two datagrams that are under way at once must not be taken for one.
//!
//! ```text
//! id = first 2 bytes of AES-128_K(client ip 4 | client port 2 | target port 2 | seq 4 |
//!                                 total length 2 | 0 0)
//! ```
//!
//! with K = HKDF(relay secret, "packet id", VIP, port). A POP keeps no count, so the ID comes from
//! what differs from one segment of a connection to the next, and all POPs choose the same.

use crate::crypto::{Aes128, Key128};
use crate::net::Endpoint;
use crate::seq::SeqNum;

/// The IDs of one service.
#[derive(Clone, Debug)]
pub struct PacketIds(Aes128);

impl PacketIds {
    /// The IDs under `key`.
    pub fn new(key: &Key128) -> Self {
        PacketIds(Aes128::new(key))
    }

    /// The ID of a datagram of `total_len` bytes to `client`, with a segment from `target_port`
    /// that begins at `seq`.
    #[inline]
    pub fn id(&self, client: Endpoint, target_port: u16, seq: SeqNum, total_len: usize) -> u16 {
        let ends = u128::from(client.ip) << 96
            | u128::from(client.port) << 80
            | u128::from(target_port) << 64;
        let block = ends | u128::from(seq.0) << 32 | u128::from(total_len as u16) << 16;
        (u128::from_be_bytes(self.0.encrypt_block(&block.to_be_bytes())) >> 112) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_every_field_and_on_the_key() {
        let ids = PacketIds::new(&Key128::new(*b"packet id tests!"));
        let client = Endpoint { ip: 0xc612_0509, port: 40_001 };
        let id = |client, port, seq, len| ids.id(client, port, SeqNum(seq), len);
        let base = id(client, 443, 7, 1240);
        let others = [
            id(Endpoint { ip: client.ip + 1, ..client }, 443, 7, 1240),
            id(Endpoint { port: 40_002, ..client }, 443, 7, 1240),
            id(client, 444, 7, 1240),
            id(client, 443, 8, 1240),
            id(client, 443, 7, 1241),
            PacketIds::new(&Key128::new([1; 16])).id(client, 443, SeqNum(7), 1240),
        ];
        assert_eq!(id(client, 443, 7, 1240), base);
        assert!(others.iter().all(|other| *other != base), "{base} {others:?}");
    }

    #[test]
    fn segments_under_way_together_have_different_ids_as_far_as_chance_allows() {
        let ids = PacketIds::new(&Key128::new([9; 16]));
        let client = Endpoint { ip: 1, port: 2 };
        let mut seen: Vec<_> =
            (0..1000).map(|n| ids.id(client, 443, SeqNum(n * 1220), 1260)).collect();
        seen.sort_unstable();
        seen.dedup();
        // About 7.6 pairs of 1000 draws out of 65,536 meet.
        assert!(seen.len() > 975, "{}", seen.len());
    }
}
