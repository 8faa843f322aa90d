//! The ways that the segments of a burst go: a direction of a service, and what its headers become.

use arrayvec::ArrayVec;

use super::super::arrival::Arrival;
use crate::net::{Endpoint, IpEndpoint, ServiceIndex};
use crate::relay::mapping::BURST;
use crate::relay::pool::PoolMode;
use crate::relay::pool::permutation::to_number;
use crate::relay::targets::TargetIndex;
use crate::relay::{Mode, Relay};
use crate::snapshot::Destination;

/// A direction of a service in pool mode, each of whose clients has one target.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub relay: &'a Relay,
    pub mode: &'a PoolMode,
    pub service: ServiceIndex,
    pub is_down: bool,
    /// The target that sent the segments, or to which all go; without it, the client decides.
    pub target: Option<TargetIndex>,
    pub near: u64,
    pub far: u64,
    pub index_mask: u64,
}

/// Those of a burst, each once at most for each of its frames.
pub(super) type Ways<'a> = ArrayVec<Way<'a>, BURST>;

impl<'a> Way<'a> {
    /// To the service at a VIP, on a port that takes clients.
    pub fn at_vip(arrival: &Arrival<'a>, dst: Endpoint) -> Option<Self> {
        if arrival.snapshot.classify(dst.ip) != Destination::Vip {
            return None;
        }
        let index = arrival.snapshot.service_at(dst.ip, dst.port)?;
        let way = Way::new(arrival, index, None)?;
        arrival.takes_clients().then_some(way)
    }

    /// From a target behind the pool of `dst`, on a port that takes targets.
    pub fn behind_pool(arrival: &Arrival<'a>, src: Endpoint, dst: u32) -> Option<Self> {
        let Destination::Pool(pool) = arrival.snapshot.classify(dst) else { return None };
        let (index, target) = arrival.snapshot.service_behind(pool, src.ip, src.port)?;
        let way = Way::new(arrival, index, Some(target))?;
        arrival.takes_targets().then_some(way)
    }

    fn new(
        arrival: &Arrival<'a>,
        service: ServiceIndex,
        from: Option<TargetIndex>,
    ) -> Option<Self> {
        let relay = arrival.snapshot.relay(service)?;
        let Mode::Pool(mode) = &relay.mode else { return None };
        let window = relay.targets.window(arrival.unix);
        if !window.is_settled() {
            return None;
        }
        let (pool, is_down) = (mode.pool(), from.is_some());
        let target = from.or(window.only());
        let far = target.and_then(|target| relay.targets.at(target));
        Some(Way {
            relay,
            mode,
            service,
            is_down,
            target,
            near: if is_down { packed(relay.vip) } else { u64::from(pool.first) << 16 },
            far: far.map_or(0, |far| packed(*far)),
            index_mask: u64::from(pool.bits.addresses() - 1),
        })
    }

    /// Whether `ip` is an address of its pool.
    #[inline(always)]
    pub fn holds(&self, ip: u32) -> bool {
        u64::from(ip) & !self.index_mask == u64::from(self.mode.pool().first)
    }
}

/// Adds a way; gives back its place.
#[inline(never)]
pub(super) fn add<'a>(ways: &mut Ways<'a>, way: Way<'a>) -> usize {
    let at = ways.len();
    match ways.try_push(way) {
        Ok(()) => at,
        Err(_) => NO_WAY,
    }
}

/// No place of a way.
pub(super) const NO_WAY: usize = usize::MAX;

/// An address and a port of the columns, each in the lowest bits.
#[inline(always)]
pub(super) fn endpoint(ip: u64, port: u64) -> Endpoint {
    Endpoint { ip: (ip as u32).swap_bytes(), port: (port as u16).swap_bytes() }
}

/// An address and port as 48 bits; 0 for one of IPv6, which pool mode has not.
#[inline(always)]
pub(super) fn packed(at: IpEndpoint) -> u64 {
    match at {
        IpEndpoint::V4(at) => to_number(at),
        IpEndpoint::V6(_) => 0,
    }
}
