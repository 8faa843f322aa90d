//! The lookups of the packet path, of one address family each.
//!
//! They allocate nothing and take a bounded, small number of steps.

use super::addresses::AddressMap;
use super::meanings::{Meanings, embedded, is_client, meanings, reachable};
use super::service::{PoolIndex, Service, TargetPlace};
use super::table::{Key, Table};
use crate::config::{Config, Protocols};
use crate::net::{
    Endpoint, IpEndpoint, IpNet, MAX_SERVICES, Protocol, ServiceIndex, SpecialAddresses,
};
use crate::relay::targets::{TargetIndex, TargetSlot};

/// The tables of both families.
#[derive(Clone, Debug)]
pub(super) struct Lookups {
    pub ipv4: Tables<u32>,
    pub ipv6: Tables<u128>,
    /// The place of the first tunnel among the services.
    first_tunnel: usize,
    /// Of each tunnel with an open side, what its agents may send to.
    reachable: Vec<Option<AddressMap<u128>>>,
}

impl Lookups {
    /// The tables of `config`, whose `services` are compiled and whose different prefixes of egress
    /// addresses are `egress`.
    pub fn new(config: &Config, services: &[Service], egress: &[IpNet]) -> Self {
        let ipv4 = meanings(config, egress);
        let mut ipv6 = embedded(config, &ipv4, egress);
        ipv6.extend(meanings(config, egress));
        let opens = config.tunnels.iter().map(|tunnel| tunnel.open.as_ref());
        let reachable = opens
            .map(|open| Some(AddressMap::new(&reachable(config, open?, &ipv4, &ipv6))))
            .collect();
        Lookups {
            ipv4: Tables::new(&ipv4, services, egress),
            ipv6: Tables::new(&ipv6, services, egress),
            first_tunnel: config.relays.len(),
            reachable,
        }
    }
}

impl Lookups {
    /// Whether agents of the tunnel `index` may send to `ip`, which is no open address.
    #[inline]
    pub fn may_reach(&self, index: ServiceIndex, ip: u128) -> bool {
        let tunnel = usize::from(index.0).checked_sub(self.first_tunnel);
        let map = tunnel.and_then(|tunnel| self.reachable.get(tunnel)?.as_ref());
        map.is_some_and(|map| map.get(ip) != 0)
    }
}

/// What addresses mean, and which service an endpoint is of.
#[derive(Clone, Debug)]
pub(super) struct Tables<A: Tabled> {
    pub meanings: AddressMap<A>,
    endpoints: Table<A::Key>,
}

/// An address of a family that a snapshot has tables of.
pub trait Tabled: SpecialAddresses {
    /// The key of an endpoint.
    #[doc(hidden)]
    #[expect(private_bounds, reason = "sealed: there are two families")]
    type Key: Key + Clone + std::fmt::Debug;

    /// The key of an endpoint in one of the spaces of endpoints.
    #[doc(hidden)]
    fn key(space: u16, at: Endpoint<Self>) -> Self::Key;

    /// The tables of the family.
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: there are two families")]
    fn tables(lookups: &Lookups) -> &Tables<Self>;
}

impl Tabled for u32 {
    type Key = u64;

    #[inline(always)]
    fn key(space: u16, at: Endpoint) -> u64 {
        u64::from(space) << 48 | u64::from(at.ip) << 16 | u64::from(at.port)
    }

    #[inline(always)]
    #[expect(private_interfaces, reason = "sealed: there are two families")]
    fn tables(lookups: &Lookups) -> &Tables<u32> {
        &lookups.ipv4
    }
}

impl Tabled for u128 {
    type Key = (u128, u32);

    #[inline]
    fn key(space: u16, at: Endpoint<u128>) -> (u128, u32) {
        (at.ip, u32::from(space) << 16 | u32::from(at.port))
    }

    #[inline]
    #[expect(private_interfaces, reason = "sealed: there are two families")]
    fn tables(lookups: &Lookups) -> &Tables<u128> {
        &lookups.ipv6
    }
}

impl<A: Tabled> Tables<A> {
    fn new(meanings: &Meanings<A>, services: &[Service], egress: &[IpNet]) -> Self {
        let mut endpoints = Vec::new();
        for (index, service) in (0..).zip(services) {
            for (space, at, target, slot) in endpoints_of(service, egress) {
                let value =
                    u32::from(slot.0) << SLOT_SHIFT | u32::from(target) << TARGET_SHIFT | index;
                let spaces = protocols(service).iter().map(|protocol| space_of(protocol, space));
                endpoints.extend(
                    spaces.filter_map(|space| Some((A::key(space, at.of_family()?), value))),
                );
            }
        }
        Tables { meanings: AddressMap::new(meanings), endpoints: Table::new(&endpoints) }
    }

    /// Whether `ip` can be a client's.
    #[inline(always)]
    pub fn can_be_client(&self, ip: A) -> bool {
        is_client(self.meanings.get(ip))
    }

    /// The service at the VIP `ip`:`port`.
    #[inline]
    pub fn at_vip(&self, protocol: Protocol, at: Endpoint<A>) -> Option<ServiceIndex> {
        self.find(space_of(protocol, AT_VIP), at).map(|found| found.service)
    }

    /// The service that has the target `at` behind that egress prefix.
    #[inline]
    pub fn behind(
        &self,
        protocol: Protocol,
        egress: PoolIndex,
        at: Endpoint<A>,
    ) -> Option<TargetPlace> {
        self.find(space_of(protocol, egress.0), at)
    }

    /// The transparent service that has the target `at`.
    #[inline]
    pub fn transparent(&self, protocol: Protocol, at: Endpoint<A>) -> Option<TargetPlace> {
        self.find(space_of(protocol, TRANSPARENT), at)
    }

    #[inline]
    fn find(&self, space: u16, at: Endpoint<A>) -> Option<TargetPlace> {
        let value = self.endpoints.get(A::key(space, at))?;
        let (target, slot) = ((value >> TARGET_SHIFT) as u8, (value >> SLOT_SHIFT) as u8);
        let (target, slot) = (TargetIndex(target), TargetSlot(slot));
        Some(TargetPlace { service: ServiceIndex(value as u16), target, slot })
    }
}

/// The endpoints that a service is found by, each in its space, and the places of a target and of
/// its counters.
fn endpoints_of(service: &Service, egress: &[IpNet]) -> Vec<(u16, IpEndpoint, u8, TargetSlot)> {
    let at_vip = |vip| (AT_VIP, vip, 0, TargetSlot(0));
    match service {
        Service::Tunnel(tunnel) => {
            let vips = [&tunnel.service.vip4, &tunnel.service.vip6].into_iter().flatten();
            vips.map(|vip| at_vip(vip.addr.into())).collect()
        }
        Service::Relay(relay) => {
            if relay.mode.tunnel().is_some() {
                // Its targets are found by the VIP that they answer as.
                return vec![at_vip(relay.vip)];
            }
            let space = match relay.egress {
                None => TRANSPARENT,
                Some(net) => {
                    egress.iter().position(|other| *other == net).unwrap_or_default() as u16
                }
            };
            let targets = relay.targets.with_slots().zip(0..);
            let targets = targets.map(|((target, slot), place)| (space, *target, place, slot));
            targets.chain([at_vip(relay.vip)]).collect()
        }
    }
}

/// What a service relays.
fn protocols(service: &Service) -> Protocols {
    match service {
        Service::Tunnel(_) => Protocols::Tcp,
        Service::Relay(relay) => relay.protocols,
    }
}

/// The space of endpoints that `space` of TCP is for `protocol`.
#[inline(always)]
const fn space_of(protocol: Protocol, space: u16) -> u16 {
    match protocol {
        Protocol::Tcp => space,
        Protocol::Udp => space ^ UDP,
    }
}

/// Spaces of endpoints beside those of egress prefixes, which are below [`MAX_SERVICES`].
const AT_VIP: u16 = u16::MAX;
const TRANSPARENT: u16 = u16::MAX - 1;
/// What the spaces of UDP differ in.
const UDP: u16 = 1 << 14;

/// Where the places of a target and of its counters are in the value of an endpoint.
const TARGET_SHIFT: u32 = 16;
const SLOT_SHIFT: u32 = 24;

const _: () = assert!(MAX_SERVICES < UDP as usize && UDP < TRANSPARENT ^ UDP);
