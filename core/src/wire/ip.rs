//! An IP header whose family is known at run time only.

use std::net::IpAddr;

use super::checksum::Change;
use super::{get_u16, ipv4, ipv6, put_u16};
use crate::net::Family;

/// The fields that IPv4 and IPv6 headers have in common. All others are those of datagrams that a
/// POP originates: DF set in IPv4, flow label 0 in IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub class: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Length in bytes of the payload.
    pub payload_len: u16,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
}

impl Header {
    /// Writes the header at the start of `bytes`; nothing when they are shorter than the header, or
    /// the addresses are of different families.
    #[inline]
    pub fn write(&self, bytes: &mut [u8]) {
        let Header { class, hops, protocol, payload_len, .. } = *self;
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4::Header {
                tos: class,
                total_len: payload_len.wrapping_add(ipv4::HEADER_LEN as u16),
                ttl: hops,
                protocol,
                src: src.to_bits(),
                dst: dst.to_bits(),
                ..ipv4::ORIGINATED
            }
            .write(bytes),
            (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6::Header {
                traffic_class: class,
                payload_len,
                next_header: protocol,
                hop_limit: hops,
                src: src.to_bits(),
                dst: dst.to_bits(),
                ..ipv6::ORIGINATED
            }
            .write(bytes),
            _ => {}
        }
    }
}

/// The family of the datagram at the start of `bytes`: IPv4 unless its version is 6.
#[inline]
pub fn family(bytes: &[u8]) -> Family {
    match bytes.first().map(|first| first >> 4) {
        Some(6) => Family::V6,
        _ => Family::V4,
    }
}

/// The protocol number of a datagram of `family` inside another (RFC 2003, RFC 2473).
#[inline]
pub const fn protocol_inside(family: Family) -> u8 {
    match family {
        Family::V4 => ipv4::PROTOCOL_IPV4,
        Family::V6 => ipv6::PROTOCOL_IPV6,
    }
}

/// DSCP and ECN of the datagram at the start of `bytes`.
#[inline]
pub fn class(bytes: &[u8]) -> u8 {
    let word = get_u16(bytes, 0);
    match family(bytes) {
        Family::V4 => word as u8,
        Family::V6 => (word >> 4) as u8,
    }
}

/// Writes DSCP and ECN of the datagram at the start of `bytes`, and what its header's checksum
/// becomes by that.
pub fn set_class(bytes: &mut [u8], class: u8) {
    let old = get_u16(bytes, 0);
    match family(bytes) {
        Family::V4 => {
            let new = old & 0xff00 | u16::from(class);
            let sum = get_u16(bytes, ipv4::field::CHECKSUM);
            put_u16(bytes, 0, new);
            put_u16(bytes, ipv4::field::CHECKSUM, Change::NONE.word(old, new).apply(sum));
        }
        Family::V6 => put_u16(bytes, 0, old & 0xf00f | u16::from(class) << 4),
    }
}

/// DSCP and ECN of a datagram that comes out of a tunnel, from those of both headers (RFC 6040,
/// section 4.2). `None` for one that must be dropped: a router marked it, and its sender does not
/// know of marks.
pub const fn decapsulated_class(outer: u8, inner: u8) -> Option<u8> {
    let ecn = match (inner & ECN, outer & ECN) {
        (NOT_ECT, CE) => return None,
        (NOT_ECT | CE, _) => inner & ECN,
        (_, CE) => CE,
        (_, ECT_1) => ECT_1,
        (own, _) => own,
    };
    Some(inner & !ECN | ecn)
}

/// The bits of ECN, and their values (RFC 3168, section 5).
const ECN: u8 = 3;
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const CE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_out_of_tunnels() {
        // Rows: Not-ECT, ECT(0), ECT(1), CE inside; columns: the same outside.
        let (zero, one) = (2, 1);
        let expected = [
            (0, [Some(0), Some(0), Some(0), None]),
            (zero, [Some(zero), Some(zero), Some(one), Some(CE)]),
            (one, [Some(one), Some(one), Some(one), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in expected {
            for (outer, wanted) in [0, zero, one, CE].into_iter().zip(row) {
                let found = decapsulated_class(0xf8 | outer, 0x28 | inner);
                assert_eq!(found, wanted.map(|ecn| 0x28 | ecn), "{inner} in {outer}");
            }
        }
    }

    #[test]
    fn classes_are_read_and_written() {
        let header = ipv4::Header { tos: 0xb8, src: 1, dst: 2, ..ipv4::ORIGINATED };
        let mut bytes = [0; 40];
        header.write(&mut bytes);
        assert_eq!((family(&bytes), class(&bytes)), (Family::V4, 0xb8));
        set_class(&mut bytes, 0xbb);
        let mut expected = [0; 40];
        ipv4::Header { tos: 0xbb, ..header }.write(&mut expected);
        assert_eq!(bytes, expected);
        let flow = ipv6::Header { traffic_class: 0xb8, ..ipv6::ORIGINATED };
        flow.write(&mut bytes);
        put_u16(&mut bytes, 2, 0x1234);
        assert_eq!((family(&bytes), class(&bytes)), (Family::V6, 0xb8));
        let before = bytes;
        set_class(&mut bytes, 0x47);
        assert_eq!((class(&bytes), bytes[4..] == before[4..]), (0x47, true));
        assert_eq!(get_u16(&bytes, 2), 0x1234);
    }
    use crate::net::Address;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_of_both_families_parse(
            (class, hops, protocol) in any::<(u8, u8, u8)>(), payload_len in 0u16..64,
            ips: [u128; 2],
        ) {
            let mut bytes = [0xee; 40 + 64];
            let [src, dst] = ips.map(|ip| ip as u32);
            let header =
                Header { class, hops, protocol, payload_len, src: src.ip(), dst: dst.ip() };
            header.write(&mut bytes);
            let (tos, ttl, total_len) = (class, hops, 20 + payload_len);
            let parsed =
                ipv4::Header { tos, total_len, ttl, protocol, src, dst, ..ipv4::ORIGINATED };
            prop_assert_eq!(ipv4::Header::parse(&bytes), Ok(parsed));

            let [src, dst] = ips;
            let header = Header { src: src.ip(), dst: dst.ip(), ..header };
            header.write(&mut bytes);
            let (traffic_class, next_header, hop_limit) = (class, protocol, hops);
            let parsed = ipv6::Header {
                traffic_class, payload_len, next_header, hop_limit, src, dst, ..ipv6::ORIGINATED
            };
            prop_assert_eq!(ipv6::Header::parse(&bytes), Some(parsed));

            let before = bytes;
            Header { src: 1u32.ip(), ..header }.write(&mut bytes);
            prop_assert_eq!(bytes, before);
        }
    }
}
