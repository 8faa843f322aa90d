//! Ground types: addresses, endpoints, and the numbers that name ports and services.
//!
//! They stand below everything else in this crate and know nothing of it.

mod address;
mod endpoint;
mod special;

use std::net::IpAddr;

pub use address::{Address, IpNet, Ipv4Net, Ipv6Net, Net};
pub use endpoint::{Endpoint, Endpoint6, Endpoints, IpEndpoint, IpEndpoints};
pub use special::{
    GLOBAL_UNICAST6, NAT64, SIX_TO_FOUR, SpecialAddresses, is_link_local6, is_unicast, stand_ins,
};

/// Services of one POP, of both kinds together, and counter slots for them.
pub const MAX_SERVICES: usize = 256;
/// Ports of one POP.
pub const MAX_PORTS: usize = 16;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of `ip`.
    #[inline]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Length of the IP header without options, in bytes.
    #[inline]
    pub const fn ip_header_len(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// A transport protocol that relays carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    /// Its number in IP headers.
    #[inline]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    /// The one with this number in IP headers.
    #[inline]
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            _ => None,
        }
    }
}

/// A port's place among the `[[port]]` tables of the config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u8);

impl PortIndex {
    /// The index into what holds one entry for each port.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A service's place: the relays between IPv4 and IPv4, then those with IPv6, then the tunnels,
/// each in the order of the file. Another snapshot may have it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(pub u16);

/// The place of a service's counters, below [`MAX_SERVICES`]: kept by its name over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceSlot(pub u16);

/// Which frames are taken from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those from clients.
    Client,
    /// Those from targets.
    Target,
    /// All.
    Both,
}

impl Side {
    /// Whether frames from clients are taken.
    pub const fn takes_clients(self) -> bool {
        matches!(self, Side::Client | Side::Both)
    }

    /// Whether frames from targets are taken.
    pub const fn takes_targets(self) -> bool {
        matches!(self, Side::Target | Side::Both)
    }
}

/// A side of the relay, as a direction to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The clients.
    Clients,
    /// The targets.
    Targets,
}
