//! The mapping of a burst, and the targets of its clients.

use cpu_vector::{Blocks, EachKey};

use super::super::arrival::Arrival;
use super::columns::number_of;
use super::ways::{Way, Ways, packed, route};
use super::{Fast, for_each_lane};
use crate::relay::mapping::BURST;
use crate::relay::pool::permutation::map_each;
use crate::relay::targets::rendezvous::hash_each;

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
            let one = first.mode.permutation();
            let (mut keys, mut bits) = ([one.keys(); BURST], [one.number_bits(); BURST]);
            for way in ways {
                let one = way.mode.permutation();
                for_each_lane(way.lanes, |lane| {
                    (keys[lane], bits[lane]) = (one.keys(), one.number_bits());
                });
            }
            let keys = EachKey::new(&keys, count, &mut self.rows);
            map_each(keys, bits, self.isa, inverse, numbers, count)
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
        let (mut messages, mut keys) = (Blocks::ZERO, [first.relay.targets.hashes().keys(); BURST]);
        for way in several() {
            let hashes = way.relay.targets.hashes();
            for_each_lane(way.lanes, |lane| {
                keys[lane] = hashes.keys();
                messages.0[lane] = hashes.message(number_of(self.columns.from[lane]));
            });
        }
        let keys = EachKey::new(&keys, count, &mut self.rows);
        let hashes = hash_each(&keys, self.isa, &messages, count);
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
