//! Services, and what addresses mean to the POP.

use super::tunnels::Tunnel;
use crate::net::{PortIndex, ServiceIndex, ServiceSlot};
use crate::relay::Relay;
use crate::relay::targets::{TargetIndex, TargetSlot};

/// The place of a prefix of egress addresses, of either family, among the different ones of a
/// snapshot. Services that share one share its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u16);

/// What an address means to the POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The address of at least one service.
    Vip,
    /// An egress address of this pool or prefix.
    Pool(PoolIndex),
    /// An address of one of the POP's own ports.
    Own(PortIndex),
    /// An open address of the agents of this tunnel.
    Open(ServiceIndex),
    /// None of these.
    Other {
        /// Whether the address can be a client's.
        client_ok: bool,
    },
}

impl Destination {
    /// Whether it is nothing of the POP's.
    #[inline]
    pub fn is_other(self) -> bool {
        matches!(self, Destination::Other { .. })
    }
}

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPlace {
    /// The service that has it.
    pub service: ServiceIndex,
    /// Its place in that.
    pub target: TargetIndex,
    /// The place of its counters.
    pub slot: TargetSlot,
}

/// A service, ready for use.
#[derive(Clone, Debug)]
pub enum Service {
    /// A `[[relay]]`.
    Relay(Box<Relay>),
    /// A `[[tunnel]]`.
    Tunnel(Box<Tunnel>),
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Service::Relay(relay) => &relay.name,
            Service::Tunnel(tunnel) => &tunnel.name,
        }
    }

    /// The place of its counters.
    #[inline]
    pub fn slot(&self) -> ServiceSlot {
        match self {
            Service::Relay(relay) => relay.slot,
            Service::Tunnel(tunnel) => tunnel.slot,
        }
    }
}
