//! An address and a port of TCP or UDP, and the two of a segment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::address::Address;

/// An address and a port. The address is a number, as its text stands for, of IPv4 or (as
/// [`Endpoint6`]) of IPv6. Ordered by address, then port. Packed, since lanes are full of them: one
/// of IPv6 is 20 bytes long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, packed(4))]
pub struct Endpoint<A: Copy = u32> {
    /// The address.
    pub ip: A,
    /// The port.
    pub port: u16,
}

/// An IPv6 address and a port.
pub type Endpoint6 = Endpoint<u128>;

/// An address of either family and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpEndpoint {
    /// Of IPv4.
    V4(Endpoint),
    /// Of IPv6.
    V6(Endpoint6),
}

impl IpEndpoint {
    /// Length of [`IpEndpoint::to_mapped_bytes`].
    pub const MAPPED_LEN: usize = 18;

    /// The address in 16 bytes, one of IPv4 as ::ffff:0:0/96 has it (RFC 4291, section 2.5.5.2),
    /// and the port, both big-endian.
    pub fn to_mapped_bytes(self) -> [u8; Self::MAPPED_LEN] {
        let ip = match self.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; Self::MAPPED_LEN];
        let fields = ip.octets().into_iter().chain(self.port().to_be_bytes());
        bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        bytes
    }

    /// The endpoint of [`IpEndpoint::to_mapped_bytes`]. A mapped address is one of IPv4.
    pub fn from_mapped_bytes(bytes: &[u8; Self::MAPPED_LEN]) -> Self {
        let [ip @ .., high, low] = *bytes;
        let (ip, port) = (Ipv6Addr::from(ip), u16::from_be_bytes([high, low]));
        match ip.to_ipv4_mapped() {
            Some(ip) => Endpoint { ip: ip.to_bits(), port }.into(),
            None => Endpoint { ip: ip.to_bits(), port }.into(),
        }
    }

    /// The address.
    #[inline(always)]
    pub fn ip(&self) -> IpAddr {
        match self {
            IpEndpoint::V4(at) => at.ip.ip(),
            IpEndpoint::V6(at) => at.ip.ip(),
        }
    }

    /// The port.
    #[inline(always)]
    pub const fn port(&self) -> u16 {
        match self {
            IpEndpoint::V4(at) => at.port,
            IpEndpoint::V6(at) => at.port,
        }
    }

    /// The same address with another port.
    #[inline]
    #[must_use]
    pub const fn with_port(self, port: u16) -> Self {
        match self {
            IpEndpoint::V4(at) => IpEndpoint::V4(Endpoint { ip: at.ip, port }),
            IpEndpoint::V6(at) => IpEndpoint::V6(Endpoint { ip: at.ip, port }),
        }
    }

    /// The endpoint as one of the family of `A`, if it is of that family.
    #[inline(always)]
    pub fn of_family<A: Address>(&self) -> Option<Endpoint<A>> {
        Some(Endpoint { ip: A::of(self.ip())?, port: self.port() })
    }
}

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

impl fmt::Display for IpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
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

impl From<SocketAddr> for IpEndpoint {
    fn from(from: SocketAddr) -> Self {
        match from {
            SocketAddr::V4(at) => IpEndpoint::V4(at.into()),
            SocketAddr::V6(at) => IpEndpoint::V6(at.into()),
        }
    }
}

impl From<Endpoint> for IpEndpoint {
    #[inline(always)]
    fn from(from: Endpoint) -> Self {
        IpEndpoint::V4(from)
    }
}

impl From<Endpoint6> for IpEndpoint {
    #[inline(always)]
    fn from(from: Endpoint6) -> Self {
        IpEndpoint::V6(from)
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

impl From<IpEndpoint> for SocketAddr {
    fn from(from: IpEndpoint) -> Self {
        SocketAddr::new(from.ip(), from.port())
    }
}

/// Source and destination of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints<A: Copy = u32> {
    /// The source.
    pub src: Endpoint<A>,
    /// The destination.
    pub dst: Endpoint<A>,
}

/// Source and destination of a segment, which are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpEndpoints {
    /// Both are of IPv4.
    V4(Endpoints<u32>),
    /// Both are of IPv6.
    V6(Endpoints<u128>),
}

impl IpEndpoints {
    /// From `src` to `dst`; `None` when they are of different families.
    #[inline(always)]
    pub fn new(src: IpEndpoint, dst: IpEndpoint) -> Option<Self> {
        match (src, dst) {
            (IpEndpoint::V4(src), IpEndpoint::V4(dst)) => {
                Some(IpEndpoints::V4(Endpoints { src, dst }))
            }
            (IpEndpoint::V6(src), IpEndpoint::V6(dst)) => {
                Some(IpEndpoints::V6(Endpoints { src, dst }))
            }
            _ => None,
        }
    }

    /// The source.
    #[inline(always)]
    pub fn src(&self) -> IpEndpoint {
        match self {
            IpEndpoints::V4(endpoints) => endpoints.src.into(),
            IpEndpoints::V6(endpoints) => endpoints.src.into(),
        }
    }

    /// The destination.
    #[inline(always)]
    pub fn dst(&self) -> IpEndpoint {
        match self {
            IpEndpoints::V4(endpoints) => endpoints.dst.into(),
            IpEndpoints::V6(endpoints) => endpoints.dst.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ipv4_addresses_are_mapped() {
        let at = IpEndpoint::V4(Endpoint { ip: 0xc633_640a, port: 0x1f90 });
        let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 10, 0x1f, 0x90];
        assert_eq!(at.to_mapped_bytes(), bytes);
        assert_eq!(IpEndpoint::from_mapped_bytes(&bytes), at);
    }

    proptest! {
        #[test]
        fn mapped_bytes_are_read_as_they_are_written(bytes: [u8; IpEndpoint::MAPPED_LEN]) {
            prop_assert_eq!(IpEndpoint::from_mapped_bytes(&bytes).to_mapped_bytes(), bytes);
        }
    }
}
