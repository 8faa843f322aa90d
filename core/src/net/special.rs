//! Addresses that are no host's, or not known to the whole Internet.

use super::address::{Address, Ipv4Net, Ipv6Net, Net};

/// Addresses that no host on the Internet has (RFC 6890): this network, loopback, link-local,
/// multicast, reserved.
const NOT_UNICAST: [Ipv4Net; 5] = [
    Net { address: 0, prefix_len: 8 },
    Net { address: 0x7f00_0000, prefix_len: 8 },
    Net { address: 0xa9fe_0000, prefix_len: 16 },
    Net { address: 0xe000_0000, prefix_len: 4 },
    Net { address: 0xf000_0000, prefix_len: 4 },
];

/// Addresses that no host on the Internet has (RFC 6890, RFC 4291): unspecified, loopback and
/// IPv4-compatible, IPv4-mapped, discard-only, link-local, site-local, multicast.
const NOT_UNICAST6: [Ipv6Net; 6] = [
    Net { address: 0, prefix_len: 96 },
    Net { address: 0xffff_0000_0000, prefix_len: 96 },
    Net { address: 0x0100 << 112, prefix_len: 64 },
    LINK_LOCAL6,
    Net { address: 0xfec0 << 112, prefix_len: 10 },
    Net { address: 0xff00 << 112, prefix_len: 8 },
];

const LINK_LOCAL6: Ipv6Net = Net { address: 0xfe80 << 112, prefix_len: 10 };

/// What addresses of a family are no host's, or not known to the whole Internet.
pub trait SpecialAddresses: Address + 'static {
    /// Addresses that no host on the Internet has.
    const NOT_UNICAST: &'static [Net<Self>];
    /// Private addresses: RFC 1918 and RFC 6598, RFC 4193.
    const PRIVATE: &'static [Net<Self>];
}

impl SpecialAddresses for u32 {
    const NOT_UNICAST: &'static [Ipv4Net] = &NOT_UNICAST;
    const PRIVATE: &'static [Ipv4Net] = &PRIVATE;
}

impl SpecialAddresses for u128 {
    const NOT_UNICAST: &'static [Ipv6Net] = &NOT_UNICAST6;
    const PRIVATE: &'static [Ipv6Net] = &PRIVATE6;
}

/// Whether a host of the Internet could have this address.
pub fn is_unicast<A: SpecialAddresses>(ip: A) -> bool {
    !A::NOT_UNICAST.iter().any(|net| net.contains(ip))
}

/// Whether it is an IPv6 address of one link only.
pub fn is_link_local6(ip: u128) -> bool {
    LINK_LOCAL6.contains(ip)
}

/// The IPv6 addresses that stand for those of `net`: of NAT64 (RFC 6052) and 6to4 (RFC 3056).
pub fn stand_ins(net: Ipv4Net) -> [Ipv6Net; 2] {
    let (first, len) = (u128::from(net.first()), net.prefix_len);
    [
        Net { address: NAT64.address | first, prefix_len: NAT64.prefix_len + len },
        Net {
            address: SIX_TO_FOUR.address | first << 80,
            prefix_len: SIX_TO_FOUR.prefix_len + len,
        },
    ]
}

/// Global unicast addresses of IPv6, as they are given out (RFC 4291, section 2.4).
pub const GLOBAL_UNICAST6: Ipv6Net = Net { address: 0x2000 << 112, prefix_len: 3 };
/// The well-known prefix of NAT64 (RFC 6052).
pub const NAT64: Ipv6Net = Net { address: 0x0064_ff9b << 96, prefix_len: 96 };
/// The prefix of 6to4 (RFC 3056).
pub const SIX_TO_FOUR: Ipv6Net = Net { address: 0x2002 << 112, prefix_len: 16 };

/// Private addresses (RFC 1918, RFC 6598).
const PRIVATE: [Ipv4Net; 4] = [
    Net { address: 0x0a00_0000, prefix_len: 8 },
    Net { address: 0x6440_0000, prefix_len: 10 },
    Net { address: 0xac10_0000, prefix_len: 12 },
    Net { address: 0xc0a8_0000, prefix_len: 16 },
];

/// Unique local addresses (RFC 4193).
const PRIVATE6: [Ipv6Net; 1] = [Net { address: 0xfc00 << 112, prefix_len: 7 }];
