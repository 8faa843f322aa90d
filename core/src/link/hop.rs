//! A next hop, and why there is none.

use std::net::IpAddr;

use crate::net::{Address, PortIndex, Towards};
use crate::wire::MacAddr;

/// The next hop of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Port to send through.
    pub port: PortIndex,
    /// Hardware address to send to.
    pub mac: MacAddr,
}

/// What a next hop depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteKey(u64);

impl RouteKey {
    /// The key of no datagram.
    pub const NONE: RouteKey = RouteKey(u64::MAX);

    /// Of datagrams for which that gateway is tried first, by its place.
    #[inline(always)]
    pub(super) fn gateway(towards: Towards, place: usize) -> Self {
        RouteKey((place as u64) << 1 | towards as u64)
    }

    /// Of datagrams to a host on a port's own prefix.
    #[inline(always)]
    pub(super) fn host(towards: Towards, ip: u32) -> Self {
        RouteKey(1 << 33 | u64::from(ip) << 1 | towards as u64)
    }

    /// A number by which they are put into tables.
    #[inline(always)]
    pub fn spread(self) -> usize {
        self.0 as usize
    }
}

/// A query for the hardware address of a host: an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressQuery<A> {
    /// Port to send it through.
    pub port: PortIndex,
    /// Address whose hardware address is asked for.
    pub ip: A,
}

impl<A: Address> AddressQuery<A> {
    /// The query with an address of either family.
    pub fn of_either(self) -> AddressQuery<IpAddr> {
        AddressQuery { port: self.port, ip: self.ip.ip() }
    }
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// No prefix and no gateway leads there.
    NoRoute,
    /// The hardware address of the next hop is not known yet.
    Unresolved,
    /// It is not known, and a query for it was not admitted.
    NotAdmitted,
}

/// The outcome of looking for a next hop, and a query that is to be sent in either case.
pub type Resolved<A> = (Result<Hop, NoHop>, Option<AddressQuery<A>>);
