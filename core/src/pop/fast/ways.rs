//! The ways that the segments of a burst go: a direction of a service, and what its headers become.

use arrayvec::ArrayVec;

use super::super::arrival::Arrival;
use crate::link::RouteKey;
use crate::net::{Endpoint, IpEndpoint, ServiceIndex, Towards};
use crate::relay::mapping::BURST;
use crate::relay::pool::PoolMode;
use crate::relay::pool::permutation::to_number;
use crate::relay::targets::{TargetIndex, Window};
use crate::relay::{Mode, Relay};
use crate::snapshot::PoolIndex;

/// A direction of a service in pool mode, each of whose clients has one target.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub relay: &'a Relay,
    pub mode: &'a PoolMode,
    /// What goes into the columns of these names.
    pub near: u64,
    pub far: u64,
    pub index_mask: u64,
    /// The route of those to `far`.
    pub route: RouteKey,
    /// The segments that go this way, a bit for each.
    pub lanes: u64,
    pub service: ServiceIndex,
    /// The target that sent the segments, or to which all go; without it, the client decides.
    pub target: Option<TargetIndex>,
    pub is_down: bool,
}

/// Those of a burst, each once at most for each of its frames.
pub(super) type Ways<'a> = ArrayVec<Way<'a>, BURST>;

impl<'a> Way<'a> {
    /// To the service at a VIP, on a port that takes clients.
    #[inline]
    pub fn at_vip(arrival: &Arrival<'a>, dst: Endpoint) -> Option<Self> {
        let service = arrival.snapshot.service_at(dst.ip, dst.port)?;
        let (relay, mode, window) = pool_mode(arrival, service)?;
        if !arrival.takes_clients() {
            return None;
        }
        let (pool, target) = (mode.pool(), window.only());
        let far = target.and_then(|target| relay.targets.at(target));
        Some(Way {
            relay,
            mode,
            near: u64::from(pool.first) << 16,
            far: far.map_or(0, |far| packed(*far)),
            index_mask: u64::from(pool.bits.addresses() - 1),
            route: far.map_or(RouteKey::NONE, |far| route(arrival, *far)),
            lanes: 0,
            service,
            target,
            is_down: false,
        })
    }

    /// From a target behind that pool, on a port that takes targets.
    #[inline]
    pub fn behind_pool(arrival: &Arrival<'a>, src: Endpoint, pool: PoolIndex) -> Option<Self> {
        let (service, target) = arrival.snapshot.service_behind(pool, src.ip, src.port)?;
        let (relay, mode, _) = pool_mode(arrival, service)?;
        arrival.takes_targets().then(|| Way {
            relay,
            mode,
            near: packed(relay.vip),
            far: 0,
            index_mask: u64::from(mode.pool().bits.addresses() - 1),
            route: RouteKey::NONE,
            lanes: 0,
            service,
            target: Some(target),
            is_down: true,
        })
    }

    /// Whether `ip` is an address of its pool.
    #[inline(always)]
    pub fn holds(&self, ip: u32) -> bool {
        u64::from(ip) & !self.index_mask == u64::from(self.mode.pool().first)
    }
}

/// The relay with this index, if it is in pool mode, and no client has more than one candidate now.
#[inline(always)]
fn pool_mode<'a>(
    arrival: &Arrival<'a>,
    service: ServiceIndex,
) -> Option<(&'a Relay, &'a PoolMode, Window<'a>)> {
    let relay = arrival.snapshot.relay(service)?;
    let Mode::Pool(mode) = &relay.mode else { return None };
    let window = relay.targets.window(arrival.unix);
    window.is_settled().then_some((relay, &**mode, window))
}

/// The route to a target.
#[inline]
pub(super) fn route(arrival: &Arrival<'_>, target: IpEndpoint) -> RouteKey {
    arrival.soft.links.route_key(Towards::Targets, (packed(target) >> 16) as u32)
}

/// An address and port as 48 bits; 0 for one of IPv6, which pool mode has not.
#[inline(always)]
pub(super) fn packed(at: IpEndpoint) -> u64 {
    match at {
        IpEndpoint::V4(at) => to_number(at),
        IpEndpoint::V6(_) => 0,
    }
}
