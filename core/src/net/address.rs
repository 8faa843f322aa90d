//! Addresses and prefixes, of either family.
//!
//! The packet path works on numbers, `u32` for IPv4 and `u128` for IPv6, so that neither family
//! pays for the other; [`Address`] is what both have in common.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitAnd, BitOr, Not};

/// An IP address as the number that its text stands for.
pub trait Address:
    Copy + Eq + fmt::Debug + BitAnd<Output = Self> + BitOr<Output = Self> + Not<Output = Self>
{
    /// Bits of an address.
    const BITS: u8;
    /// The last prefix length at which the addresses of a link that are no host's are set apart.
    const RESERVED_LEN_MAX: u8;

    /// Its bytes, in the order of the wire.
    fn bytes(self) -> impl Iterator<Item = u8>;
    /// The mask of a prefix of `len` bits.
    fn mask(len: u8) -> Self;
    /// The address of this family, if `ip` is of it.
    fn of(ip: IpAddr) -> Option<Self>;
    /// The address of either family.
    fn ip(self) -> IpAddr;
    /// The number, as wide as the wider family's.
    fn number(self) -> u128;
    /// A number that is spread evenly over addresses which are alike.
    fn spread(self) -> u32;
    /// The prefix of this family, if `net` is of it.
    fn of_net(net: IpNet) -> Option<Net<Self>>;
}

impl Address for u32 {
    const BITS: u8 = 32;
    // A /31 has two hosts and nothing else (RFC 3021).
    const RESERVED_LEN_MAX: u8 = 30;

    #[inline]
    fn bytes(self) -> impl Iterator<Item = u8> {
        self.to_be_bytes().into_iter()
    }

    #[inline]
    fn mask(len: u8) -> Self {
        u32::MAX.checked_shl(u32::BITS.saturating_sub(u32::from(len))).unwrap_or(0)
    }

    #[inline(always)]
    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn ip(self) -> IpAddr {
        Ipv4Addr::from_bits(self).into()
    }

    #[inline]
    fn number(self) -> u128 {
        u128::from(self)
    }

    #[inline]
    fn spread(self) -> u32 {
        self.wrapping_mul(0x9e37_79b9) >> 8
    }

    fn of_net(net: IpNet) -> Option<Net<Self>> {
        match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    // A /127 has two routers and nothing else (RFC 6164).
    const RESERVED_LEN_MAX: u8 = 126;

    #[inline]
    fn bytes(self) -> impl Iterator<Item = u8> {
        self.to_be_bytes().into_iter()
    }

    #[inline]
    fn mask(len: u8) -> Self {
        u128::MAX.checked_shl(u128::BITS.saturating_sub(u32::from(len))).unwrap_or(0)
    }

    #[inline(always)]
    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.to_bits()),
        }
    }

    #[inline(always)]
    fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self).into()
    }

    #[inline]
    fn number(self) -> u128 {
        self
    }

    #[inline]
    fn spread(self) -> u32 {
        let halves = (self >> 64) as u64 ^ (self as u64).rotate_left(29);
        (halves.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32
    }

    fn of_net(net: IpNet) -> Option<Net<Self>> {
        match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }
}

/// An address together with the prefix that is on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net<A> {
    /// The address.
    pub address: A,
    /// Bits of the prefix, at most those of an address.
    pub prefix_len: u8,
}

/// An IPv4 address with its prefix.
pub type Ipv4Net = Net<u32>;
/// An IPv6 address with its prefix.
pub type Ipv6Net = Net<u128>;

impl<A: Address> Net<A> {
    /// The prefix's mask.
    #[inline]
    pub fn mask(self) -> A {
        A::mask(self.prefix_len)
    }

    /// Whether `ip` is in the prefix.
    #[inline]
    pub fn contains(self, ip: A) -> bool {
        ip & self.mask() == self.first()
    }

    /// The lowest address of the prefix.
    #[inline]
    pub fn first(self) -> A {
        self.address & self.mask()
    }

    /// The highest address of the prefix.
    #[inline]
    pub fn last(self) -> A {
        self.address | !self.mask()
    }

    /// The addresses of the link that are no host's: network and broadcast address (IPv4), the
    /// anycast address of the link's routers (IPv6: RFC 4291, section 2.6.1).
    pub fn reserved(self) -> impl Iterator<Item = A> {
        let has_some = self.prefix_len <= A::RESERVED_LEN_MAX;
        let broadcast = (A::BITS == u32::BITS as u8).then(|| self.last());
        std::iter::once(self.first()).chain(broadcast).filter(move |_| has_some)
    }
}

impl<A: Address> fmt::Display for Net<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address.ip(), self.prefix_len)
    }
}

/// An address of either family together with the prefix that is on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpNet {
    /// IPv4.
    V4(Ipv4Net),
    /// IPv6.
    V6(Ipv6Net),
}

impl IpNet {
    /// The address.
    pub fn ip(self) -> IpAddr {
        match self {
            IpNet::V4(net) => net.address.ip(),
            IpNet::V6(net) => net.address.ip(),
        }
    }

    /// Bits of the prefix.
    pub fn prefix_len(self) -> u8 {
        match self {
            IpNet::V4(net) => net.prefix_len,
            IpNet::V6(net) => net.prefix_len,
        }
    }

    /// Whether `ip` is in the prefix.
    pub fn contains(self, ip: IpAddr) -> bool {
        match self {
            IpNet::V4(net) => u32::of(ip).is_some_and(|ip| net.contains(ip)),
            IpNet::V6(net) => u128::of(ip).is_some_and(|ip| net.contains(ip)),
        }
    }

    /// Whether an address is in both prefixes.
    pub fn overlaps(self, other: IpNet) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    /// The lowest address of the prefix.
    pub fn first(self) -> IpAddr {
        match self {
            IpNet::V4(net) => net.first().ip(),
            IpNet::V6(net) => net.first().ip(),
        }
    }

    /// Reads `ADDRESS/LENGTH`.
    pub fn parse(text: &str) -> Option<IpNet> {
        let (address, len) = text.split_once('/')?;
        let digits = len.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_len: u8 = len.parse().ok().filter(|_| digits)?;
        match address.parse().ok()? {
            IpAddr::V4(ip) => {
                let fits = prefix_len <= u32::BITS as u8;
                fits.then(|| IpNet::V4(Net { address: ip.to_bits(), prefix_len }))
            }
            IpAddr::V6(ip) => {
                let fits = prefix_len <= u128::BITS as u8;
                fits.then(|| IpNet::V6(Net { address: ip.to_bits(), prefix_len }))
            }
        }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpNet::V4(net) => net.fmt(f),
            IpNet::V6(net) => net.fmt(f),
        }
    }
}
