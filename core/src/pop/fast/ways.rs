//! The ways that the segments of a burst go: a direction of a service, and what its headers become.

use arrayvec::ArrayVec;

use super::super::arrival::Arrival;
use crate::link::RouteKey;
use crate::net::{Endpoint, Protocol, ServiceIndex, Towards};
use crate::relay::mapping::BURST;
use crate::relay::pool::permutation::to_number;
use crate::relay::pool::plan::Plan;
use crate::relay::targets::TargetSlot;
use crate::snapshot::PoolIndex;

/// A direction of a service in pool mode, each of whose clients has one target.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub plan: &'a Plan,
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
    pub target: Option<TargetSlot>,
    pub is_down: bool,
}

/// Those of a burst, each once at most for each of its frames.
pub(super) type Ways<'a> = ArrayVec<Way<'a>, BURST>;

impl<'a> Way<'a> {
    /// To the service at a VIP, on a port that takes clients.
    #[inline]
    pub fn at_vip(arrival: &Arrival<'a>, dst: Endpoint) -> Option<Self> {
        let service = arrival.snapshot.service_at(Protocol::Tcp, dst.ip, dst.port)?;
        let plan = arrival.snapshot.plan(service, arrival.unix)?;
        if !arrival.takes_clients() {
            return None;
        }
        let only = plan.choice().only();
        Some(Way {
            plan,
            near: u64::from(plan.first()) << 16,
            far: only.map_or(0, |goal| to_number(goal.at)),
            index_mask: plan.index_mask().into(),
            route: only.map_or(RouteKey::NONE, |goal| route(arrival, goal.at)),
            lanes: 0,
            service,
            target: only.map(|goal| goal.slot),
            is_down: false,
        })
    }

    /// From a target behind that pool, on a port that takes targets.
    #[inline]
    pub fn behind_pool(arrival: &Arrival<'a>, src: Endpoint, pool: PoolIndex) -> Option<Self> {
        let found = arrival.snapshot.service_behind(Protocol::Tcp, pool, src.ip, src.port)?;
        let plan = arrival.snapshot.plan(found.service, arrival.unix)?;
        arrival.takes_targets().then(|| Way {
            plan,
            near: plan.vip(),
            far: 0,
            index_mask: plan.index_mask().into(),
            route: RouteKey::NONE,
            lanes: 0,
            service: found.service,
            target: Some(found.slot),
            is_down: true,
        })
    }

    /// Whether `ip` is an address of its pool.
    #[inline(always)]
    pub fn holds(&self, ip: u32) -> bool {
        u64::from(ip) & !self.index_mask == u64::from(self.plan.first())
    }
}

/// The route to a target.
#[inline]
pub(super) fn route(arrival: &Arrival<'_>, target: Endpoint) -> RouteKey {
    arrival.soft.links.route_key(Towards::Targets, target.ip)
}
