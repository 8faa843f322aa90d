//! IPv6 (RFC 8200): the header, its extension headers, the fragment header.

mod extensions;
mod fragment;
mod header;

pub use extensions::{EXTENSIONS_MAX, ExtensionError, Upper, is_extension};
pub use fragment::{FRAGMENT_LEN, FragmentHeader};
pub use header::{Header, Ipv6, ORIGINATED};

use super::{get_u64, put_u64};
use crate::net::{Family, Protocol};

/// Offsets in bytes from the start of the IPv6 header.
pub mod field {
    /// Version, traffic class and flow label.
    pub const VERSION_CLASS_FLOW: usize = 0;
    /// Payload length: all bytes after this header.
    pub const PAYLOAD_LEN: usize = 4;
    /// Next header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SRC: usize = 8;
    /// Destination address.
    pub const DST: usize = 24;
}

/// Length in bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
const _: () = assert!(HEADER_LEN == Family::V6.ip_header_len());

/// The smallest MTU in bytes that a link may have (RFC 8200, section 5).
pub const MTU_MIN: usize = 1280;

/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = Protocol::Tcp.number();
/// Protocol number of IPv6 in another datagram (RFC 2473), the same in IPv4.
pub const PROTOCOL_IPV6: u8 = 41;
/// Number of the fragment header.
pub const PROTOCOL_FRAGMENT: u8 = 44;
/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// Hop limit of datagrams that a POP originates.
pub const ORIGINATED_HOP_LIMIT: u8 = 64;
const _: () = assert!(ORIGINATED_HOP_LIMIT == super::ipv4::ORIGINATED_TTL);

/// Turns the header at the start of `header` into that of an answer: to its sender, with a new hop
/// limit.
pub fn turn_round(header: &mut [u8]) {
    let (src, dst) = (get_address(header, field::SRC), get_address(header, field::DST));
    put_address(header, field::SRC, dst);
    put_address(header, field::DST, src);
    if let Some(hop_limit) = header.get_mut(field::HOP_LIMIT) {
        *hop_limit = ORIGINATED_HOP_LIMIT;
    }
}

/// Whether `ip` may be the source of a datagram: not unspecified, loopback, multicast,
/// IPv4-compatible or IPv4-mapped (RFC 4291). Link-local sources are allowed, as neighbours send
/// from them.
#[inline]
pub const fn can_be_source(ip: u128) -> bool {
    let high = ip >> 32;
    high != 0 && high != 0xffff && !is_multicast(ip)
}

/// Whether `ip` is a multicast address.
#[inline]
pub const fn is_multicast(ip: u128) -> bool {
    ip >> 120 == 0xff
}

/// The address at `at`; 0 past the end.
#[inline]
pub(crate) fn get_address(bytes: &[u8], at: usize) -> u128 {
    u128::from(get_u64(bytes, at)) << 64 | u128::from(get_u64(bytes, at + 8))
}

/// Writes an address at `at`; nothing past the end.
#[inline]
pub(crate) fn put_address(bytes: &mut [u8], at: usize, ip: u128) {
    put_u64(bytes, at, (ip >> 64) as u64);
    put_u64(bytes, at + 8, ip as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_distinguished() {
        let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        for text in ["2001:db8::1", "fe80::1", "fd00::1", "64:ff9b::1.2.3.4"] {
            assert!(can_be_source(ip(text)), "{text}");
        }
        for text in ["::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "ff02::1", "ff00::"] {
            assert!(!can_be_source(ip(text)), "{text}");
        }
    }
}
