//! Generic UDP Encapsulation, variant 0 without flags (draft-ietf-intarea-gue-09, section 3), and
//! the UDP header in front of it (RFC 768).

use std::net::IpAddr;

use super::{checksum, get_u16, ipv4, put_u16};

/// Offsets in bytes from the UDP header.
pub mod field {
    /// UDP source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// UDP destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Length of the UDP datagram, 2 bytes.
    pub const LEN: usize = 4;
    /// UDP checksum, 2 bytes.
    pub const CHECKSUM: usize = 6;
    /// Variant, control bit and length of optional fields.
    pub const VARIANT: usize = 8;
    /// Protocol number of what is inside.
    pub const PROTOCOL: usize = 9;
    /// Flags, 2 bytes.
    pub const FLAGS: usize = 10;
}

/// Length in bytes of both headers.
pub const HEADERS_LEN: usize = 12;
/// The UDP port that GUE is sent to.
pub const PORT: u16 = 6080;

/// The protocol number of what a UDP datagram to [`PORT`] carries; `None` for other ports, and for
/// control messages, optional fields and flags.
///
/// The UDP checksum is not looked at: what is inside has checksums of its own.
pub fn parse(udp: &[u8]) -> Option<u8> {
    let plain = udp.get(field::VARIANT)? == &0 && get_u16(udp, field::FLAGS) == 0;
    let whole = udp.len() >= HEADERS_LEN && get_u16(udp, field::DST_PORT) == PORT;
    (plain && whole).then(|| udp.get(field::PROTOCOL).copied()).flatten()
}

/// Writes both headers at the start of `udp`, all of which they carry, for a datagram with this
/// `protocol` inside, from `src` to `dst`. Over IPv4 the checksum is 0, none; IPv6 has one (RFC
/// 8200, section 8.1).
pub fn write(src_port: u16, protocol: u8, (src, dst): (IpAddr, IpAddr), udp: &mut [u8]) {
    let len = udp.len();
    let Some(headers) = udp.first_chunk_mut::<HEADERS_LEN>() else { return };
    *headers = [0; HEADERS_LEN];
    headers[field::PROTOCOL] = protocol;
    put_u16(headers, field::SRC_PORT, src_port);
    put_u16(headers, field::DST_PORT, PORT);
    put_u16(headers, field::LEN, len as u16);
    if src.is_ipv6() {
        let pseudo = checksum::pseudo_header_of(src, dst, ipv4::PROTOCOL_UDP, len);
        let sum = !checksum::fold(checksum::sum(pseudo, udp));
        // 0 stands for none.
        put_u16(udp, field::CHECKSUM, if sum == 0 { u16::MAX } else { sum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            src_port: u16, protocol: u8, inner in prop::collection::vec(any::<u8>(), 0..99),
            src: u128, dst: u128,
        ) {
            let mut udp = [&[0xee; HEADERS_LEN][..], &inner].concat();
            write(src_port, protocol, (1_u32.ip(), 2_u32.ip()), &mut udp);
            prop_assert_eq!(parse(&udp), Some(protocol));
            prop_assert_eq!(get_u16(&udp, field::CHECKSUM), 0);
            prop_assert_eq!(get_u16(&udp, field::SRC_PORT), src_port);
            prop_assert_eq!(usize::from(get_u16(&udp, field::LEN)), udp.len());
            write(src_port, protocol, (src.ip(), dst.ip()), &mut udp);
            prop_assert_eq!(parse(&udp), Some(protocol));
            let sum = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_UDP, udp.len());
            prop_assert_eq!(checksum::fold(checksum::sum(sum, &udp)), u16::MAX);
            prop_assert_eq!(&udp[HEADERS_LEN..], &inner);
            for (at, value) in [(2, 1), (8, 1), (8, 0x20), (8, 0x40), (10, 0x80), (11, 1)] {
                let mut other = udp.clone();
                other[at] ^= value;
                prop_assert_eq!(parse(&other), None, "{}", at);
            }
            prop_assert_eq!(parse(&udp[..HEADERS_LEN - 1]), None);
        }
    }
}
