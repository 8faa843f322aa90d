//! A service in pool mode as the fast way needs it: all in one cache line, and its targets in the
//! next ones. With hundreds of services the time of a packet is what it reads of its own.

use super::super::Relay;
use super::feistel::Network;
use super::permutation::{network_of, to_number};
use crate::config::Pool;
use crate::net::{Endpoint, IpEndpoint, ServiceSlot};
use crate::relay::Mode;
use crate::relay::targets::TargetSlot;
use crate::relay::targets::rendezvous::Choice;
use crate::time::UnixTime;

/// A service while each of its clients has one candidate among the same targets.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Plan {
    from: UnixTime,
    until: UnixTime,
    choice: Choice<Goal>,
    vip: Endpoint,
    pool: Pool,
    /// The place of its counters.
    pub slot: ServiceSlot,
    /// Whether segments of clients without data get an option that tells the client's address.
    pub tells_clients: bool,
}

/// A target of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Its address and port.
    pub at: Endpoint,
    /// The place of its counters.
    pub slot: TargetSlot,
}

const _: () = assert!(size_of::<Plan>() == 64);

impl Plan {
    /// The plans of `relay`, of one period each; none for one that is not in pool mode.
    pub fn all_of(relay: &Relay) -> Vec<Plan> {
        let (Mode::Pool(mode), IpEndpoint::V4(vip)) = (&relay.mode, relay.vip) else {
            return Vec::new();
        };
        let goal = |index| {
            let IpEndpoint::V4(at) = *relay.targets.at(index)? else { return None };
            Some(Goal { at, slot: relay.targets.slot(index) })
        };
        let (pool, slot, tells_clients) = (mode.pool(), relay.slot, relay.client_address.is_some());
        let periods = relay.targets.settled(goal);
        let plan =
            |(from, until, choice)| Plan { from, until, choice, vip, pool, slot, tells_clients };
        periods.map(plan).collect()
    }

    /// Whether it holds at `now`.
    #[inline(always)]
    pub fn holds(&self, now: UnixTime) -> bool {
        self.from <= now && now < self.until
    }

    /// The choice among its targets.
    #[inline(always)]
    pub fn choice(&self) -> &Choice<Goal> {
        &self.choice
    }

    /// The address and port that clients connect to, as 48 bits.
    #[inline(always)]
    pub fn vip(&self) -> u64 {
        to_number(self.vip)
    }

    /// The first address of its pool.
    #[inline(always)]
    pub fn first(&self) -> u32 {
        self.pool.first
    }

    /// The bits of an address that tell those of its pool apart.
    #[inline(always)]
    pub fn index_mask(&self) -> u32 {
        self.pool.bits.addresses() - 1
    }

    /// Its network of the permutation.
    #[inline(always)]
    pub fn network(&self) -> Network {
        network_of(self.vip, self.pool.bits)
    }
}
