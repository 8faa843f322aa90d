//! The mapping of a burst, and the targets of its clients.

use cpu_vector::Blocks;

use super::super::arrival::Arrival;
use super::columns::number_of;
use super::ways::{Ways, route};
use super::{Fast, for_each_lane};
use crate::relay::mapping::BURST;
use crate::relay::pool::feistel::OwnNetworks;
use crate::relay::pool::permutation::{map, to_number};
use crate::relay::pool::plan::Goal;

impl Fast {
    /// Maps the taken lanes.
    #[inline]
    pub(super) fn map(&mut self, arrival: &Arrival<'_>, ways: &Ways<'_>) {
        let Some(first) = ways.first() else { return };
        let (taken, inverse) = (self.lanes.taken, self.lanes.down);
        let count = BURST - taken.leading_zeros() as usize;
        let numbers = &mut self.columns.numbers;
        let keys = &arrival.snapshot.relay_keys().permutation;
        let network = first.plan.network();
        let good = if ways.iter().all(|way| way.service == first.service) {
            map(keys, &network, self.isa, inverse, numbers, count)
        } else {
            let mut networks = OwnNetworks::new(network);
            for way in ways {
                let network = way.plan.network();
                for_each_lane(way.lanes, |lane| networks.set(lane, network));
            }
            map(keys, &networks, self.isa, inverse, numbers, count)
        };
        self.lanes.bad |= taken & !good;
        if ways.iter().any(|way| way.target.is_none() && way.lanes != 0) {
            self.choose(arrival, ways, count);
        }
    }

    /// Chooses the targets of clients whose services have several.
    #[inline(never)]
    fn choose(&mut self, arrival: &Arrival<'_>, ways: &Ways<'_>, count: usize) {
        let several = || ways.iter().filter(|way| way.target.is_none());
        let (hashes, mut messages) = (&arrival.snapshot.relay_keys().hashes, Blocks::ZERO);
        for way in several() {
            for_each_lane(way.lanes, |lane| {
                messages.0[lane] = hashes.message(number_of(self.columns.from[lane]));
            });
        }
        let hashes = hashes.of_messages(self.isa, &messages, count);
        for way in several() {
            for_each_lane(way.lanes, |lane| match way.plan.choice().winner(hashes.of(lane)) {
                Some(Goal { at, slot }) => {
                    self.targets[lane] = slot;
                    self.columns.far[lane] = to_number(at);
                    self.columns.route[lane] = route(arrival, at);
                }
                None => self.lanes.taken &= !(1 << lane),
            });
        }
    }
}
