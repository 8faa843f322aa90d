//! The mapping of a burst, and the targets of its clients.

use cpu_vector::Blocks;

use super::super::arrival::Arrival;
use super::columns::number_of;
use super::ways::{Way, Ways, packed, route};
use super::{Fast, for_each_lane};
use crate::relay::mapping::BURST;
use crate::relay::pool::feistel::Each;
use crate::relay::pool::permutation::map_each;

impl Fast {
    /// Maps the taken lanes.
    #[inline]
    pub(super) fn map(&mut self, arrival: &Arrival<'_>, ways: &Ways<'_>) {
        let Some(first) = ways.first() else { return };
        let (taken, inverse) = (self.lanes.taken, self.lanes.down);
        let count = BURST - taken.leading_zeros() as usize;
        let numbers = &mut self.columns.numbers;
        let good = if ways.iter().all(|way| way.service == first.service) {
            first.mode.permutation().map(self.isa, inverse, numbers, count)
        } else {
            let permutation = first.mode.permutation();
            let mut each = Each::new(permutation.one());
            for way in ways {
                let one = way.mode.permutation().one();
                for_each_lane(way.lanes, |lane| each.set(lane, one));
            }
            map_each(permutation.keys(), &each, self.isa, inverse, numbers, count)
        };
        self.lanes.bad |= taken & !good;
        let several = |way: &&Way<'_>| way.target.is_none() && way.lanes != 0;
        if let Some(first) = ways.iter().find(several) {
            self.choose(arrival, first, ways, count);
        }
    }

    /// Chooses the targets of clients whose services have several; `first` is the first of these.
    #[inline(never)]
    fn choose(&mut self, arrival: &Arrival<'_>, first: &Way<'_>, ways: &Ways<'_>, count: usize) {
        let several = || ways.iter().filter(|way| way.target.is_none());
        let (hashes, mut messages) = (first.relay.targets.hashes(), Blocks::ZERO);
        for way in several() {
            for_each_lane(way.lanes, |lane| {
                messages.0[lane] = hashes.message(number_of(self.columns.from[lane]));
            });
        }
        let hashes = hashes.of_messages(self.isa, &messages, count);
        for way in several() {
            let window = way.relay.targets.window(arrival.unix);
            for_each_lane(way.lanes, |lane| {
                let target = window.winner(hashes.of(lane));
                match target.and_then(|index| Some((index, way.relay.targets.at(index)?))) {
                    Some((index, target)) => {
                        self.targets[lane] = index;
                        self.columns.far[lane] = packed(*target);
                        self.columns.route[lane] = route(arrival, *target);
                    }
                    None => self.lanes.taken &= !(1 << lane),
                }
            });
        }
    }
}
