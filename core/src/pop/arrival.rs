//! What the frames of a burst have in common: when and through which port they arrived.

use std::net::IpAddr;

use super::soft::SoftState;
use crate::config::PortConfig;
use crate::link::Link;
use crate::net::{Address, PortIndex, is_link_local6};
use crate::snapshot::{Destination, Snapshot, Tabled};
use crate::time::{Instant, Now, UnixTime};
use crate::wire::{ipv4, ipv6};

/// The arrival of a burst.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    /// The monotonic clock: for rate limits and soft state.
    pub now: Instant,
    /// The wall clock: for ticks and the lifetimes of keys.
    pub unix: UnixTime,
    pub snapshot: &'a Snapshot,
    pub soft: &'a SoftState,
    /// The port that the burst came in through.
    pub port: PortIndex,
    pub link: &'a Link,
    pub config: &'a PortConfig,
}

impl<'a> Arrival<'a> {
    /// `None` when there is no such port.
    pub fn new(
        now: Now,
        snapshot: &'a Snapshot,
        soft: &'a SoftState,
        port: PortIndex,
    ) -> Option<Self> {
        let (link, config) = (soft.links.link(port)?, snapshot.config.ports.get(port.index())?);
        Some(Arrival { now: now.instant, unix: now.unix, snapshot, soft, port, link, config })
    }

    /// Whether frames from clients are taken from the port.
    #[inline(always)]
    pub fn takes_clients(&self) -> bool {
        self.config.side.takes_clients()
    }

    /// Whether frames from targets are taken from the port.
    #[inline(always)]
    pub fn takes_targets(&self) -> bool {
        self.config.side.takes_targets()
    }

    /// What the destination `ip` means on this port: a link-local address is another host's on the
    /// link of another port.
    #[inline]
    pub fn meaning<A: Tabled>(&self, ip: A) -> Destination {
        match self.snapshot.classify(ip) {
            Destination::Own(_) if is_link_local(ip) && !self.is_port_address(ip) => {
                Destination::Other { client_ok: false }
            }
            to => to,
        }
    }

    /// Whether an ICMP message can come from `ip`: the address of a host, and none of the POP's
    /// own.
    pub fn source_ok(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let ip = ip.to_bits();
                ipv4::can_be_source(ip) && self.meaning(ip).is_other()
            }
            IpAddr::V6(ip) => {
                let ip = ip.to_bits();
                ipv6::can_be_source(ip) && self.meaning(ip).is_other()
            }
        }
    }

    /// Whether `ip` is an address of the port.
    pub fn is_port_address<A: Address>(&self, ip: A) -> bool {
        self.config.has_address(ip)
    }
}

fn is_link_local<A: Address>(ip: A) -> bool {
    A::BITS == u128::BITS as u8 && is_link_local6(ip.number())
}
