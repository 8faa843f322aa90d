//! The parsed headers of an IP datagram of either family.

use std::net::IpAddr;

use super::ipv4::Ipv4;
use super::ipv6::{Ipv6, Upper};
use crate::net::{Address, Family};

/// The headers of an IPv6 datagram.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Datagram {
    /// The fixed header.
    pub header: Ipv6,
    /// The upper-layer header behind its extension headers.
    pub upper: Upper,
}

/// The headers of an IP datagram.
#[derive(Clone, Copy, Debug)]
pub enum Datagram {
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6Datagram),
}

impl Datagram {
    /// Its family.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        match self {
            Datagram::V4(_) => Family::V4,
            Datagram::V6(_) => Family::V6,
        }
    }

    /// Its source address.
    #[inline(always)]
    pub fn src(&self) -> IpAddr {
        match self {
            Datagram::V4(ip) => ip.src.ip(),
            Datagram::V6(ip) => ip.header.src.ip(),
        }
    }

    /// Its destination address.
    #[inline(always)]
    pub fn dst(&self) -> IpAddr {
        match self {
            Datagram::V4(ip) => ip.dst.ip(),
            Datagram::V6(ip) => ip.header.dst.ip(),
        }
    }

    /// Its TTL or hop limit.
    #[inline(always)]
    pub const fn hops(&self) -> u8 {
        match self {
            Datagram::V4(ip) => ip.ttl,
            Datagram::V6(ip) => ip.header.hop_limit,
        }
    }

    /// Its length in bytes, header included.
    #[inline(always)]
    pub const fn total_len(&self) -> usize {
        match self {
            Datagram::V4(ip) => ip.total_len,
            Datagram::V6(ip) => ip.header.total_len(),
        }
    }

    /// Length in bytes of its headers: the offset of the segment or message that it carries.
    #[inline(always)]
    pub const fn headers_len(&self) -> usize {
        match self {
            Datagram::V4(ip) => ip.header_len,
            Datagram::V6(ip) => ip.upper.at,
        }
    }

    /// Length in bytes of the segment or message that it carries.
    #[inline(always)]
    pub const fn payload_len(&self) -> usize {
        self.total_len().saturating_sub(self.headers_len())
    }

    /// Whether routers must not fragment it; always so in IPv6.
    #[inline(always)]
    pub const fn dont_fragment(&self) -> bool {
        match self {
            Datagram::V4(ip) => ip.dont_fragment(),
            Datagram::V6(_) => true,
        }
    }
}
