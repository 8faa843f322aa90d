//! An IP header whose family is known at run time only.

use std::net::IpAddr;

use super::{ipv4, ipv6};

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

#[cfg(test)]
mod tests {
    use super::*;
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
