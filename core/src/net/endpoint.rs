//! An address and a TCP port.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address, as the number that its text stands for, and a TCP port: of IPv4, or of IPv6 as
/// [`Endpoint6`]. Ordered by address, then port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint<A = u32> {
    /// The address.
    pub ip: A,
    /// The port.
    pub port: u16,
}

/// An IPv6 address and a TCP port.
pub type Endpoint6 = Endpoint<u128>;

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddrV4::from(*self).fmt(f)
    }
}

impl fmt::Display for Endpoint6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddrV6::from(*self).fmt(f)
    }
}

impl From<SocketAddrV4> for Endpoint {
    fn from(from: SocketAddrV4) -> Self {
        Endpoint { ip: from.ip().to_bits(), port: from.port() }
    }
}

impl From<SocketAddrV6> for Endpoint6 {
    fn from(from: SocketAddrV6) -> Self {
        Endpoint { ip: from.ip().to_bits(), port: from.port() }
    }
}

impl From<Endpoint> for SocketAddrV4 {
    fn from(from: Endpoint) -> Self {
        SocketAddrV4::new(Ipv4Addr::from_bits(from.ip), from.port)
    }
}

impl From<Endpoint6> for SocketAddrV6 {
    fn from(from: Endpoint6) -> Self {
        SocketAddrV6::new(Ipv6Addr::from_bits(from.ip), from.port, 0, 0)
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(from: Endpoint) -> Self {
        SocketAddr::V4(from.into())
    }
}

impl From<Endpoint6> for SocketAddr {
    fn from(from: Endpoint6) -> Self {
        SocketAddr::V6(from.into())
    }
}
