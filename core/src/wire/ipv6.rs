//! IPv6 header (RFC 8200), as far as it is needed to tell whose datagram is dropped.

use super::get_u16;

/// Offsets from the start of the IPv6 header.
mod field {
    pub const VERSION: usize = 0;
    pub const PAYLOAD_LEN: usize = 4;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SRC: usize = 8;
    pub const DST: usize = 24;
}

/// Length in bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Smallest MTU in bytes that a link may have (RFC 8200, section 5).
pub const MTU_MIN: usize = 1280;

/// An IPv6 header whose payload is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// What follows the header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Length of what follows, in bytes.
    pub payload_len: usize,
}

impl Ipv6 {
    /// Reads the header at the start of `bytes`; `None` when it is not whole, not version 6, or
    /// claims more payload than there is.
    pub fn parse(bytes: &[u8]) -> Option<Ipv6> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let payload_len = usize::from(get_u16(head, field::PAYLOAD_LEN));
        if head[field::VERSION] >> 4 != 6 || payload_len > bytes.len() - HEADER_LEN {
            return None;
        }
        let address =
            |at: usize| head[at..at + 16].iter().fold(0u128, |a, b| a << 8 | u128::from(*b));
        Some(Ipv6 {
            src: address(field::SRC),
            dst: address(field::DST),
            next_header: head[field::NEXT_HEADER],
            hop_limit: head[field::HOP_LIMIT],
            payload_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_refuses() {
        let mut bytes = [0; 44];
        bytes[0] = 0x60;
        bytes[5] = 4;
        bytes[6] = 6;
        bytes[23] = 1;
        bytes[39] = 2;
        let parsed = Ipv6::parse(&bytes).unwrap();
        assert_eq!((parsed.src, parsed.dst, parsed.next_header), (1, 2, 6));
        assert_eq!(Ipv6::parse(&bytes[..43]), None);
        bytes[0] = 0x40;
        assert_eq!(Ipv6::parse(&bytes), None);
    }
}
