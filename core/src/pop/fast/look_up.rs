//! Which services the segments of a burst are of. Those that go the same way are found together.

use cpu_vector::{Bytes, Job, Vector};

use super::super::arrival::Arrival;
use super::columns::endpoint;
use super::sort::swap16;
use super::ways::{Way, Ways};
use super::{Fast, for_each_lane};
use crate::net::Protocol;
use crate::relay::mapping::BURST;
use crate::snapshot::Destination;

impl Fast {
    /// Finds the ways of the segments in the lanes of `plain`.
    #[inline]
    pub(super) fn look_up<'a>(&mut self, arrival: &Arrival<'a>, plain: u64, ways: &mut Ways<'a>) {
        let mut rest = plain;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize % BURST;
            let dst = endpoint(self.columns.to[first]);
            rest &= !match arrival.snapshot.classify(dst.ip) {
                Destination::Pool(pool) => {
                    let src = endpoint(self.columns.from[first]);
                    match Way::behind_pool(arrival, src, pool) {
                        Some(way) if way.holds(dst.ip) => self.take_down(rest, first, way, ways),
                        _ => 1 << first,
                    }
                }
                Destination::Vip => match Way::at_vip(arrival, dst) {
                    Some(way) => self.take_up(arrival, rest, first, way, ways),
                    None => {
                        let alike = self.alike_to(rest, first);
                        let is_served =
                            arrival.snapshot.service_at(Protocol::Tcp, dst.ip, dst.port).is_some();
                        if !is_served && arrival.takes_clients() {
                            self.refuse_unserved(arrival, alike);
                        }
                        alike
                    }
                },
                _ => 1 << first,
            };
        }
    }

    /// The lanes that have the mark of lane `first`: those alike, and by chance some more.
    #[inline]
    fn marked(&self, marks: &Bytes, first: usize) -> u64 {
        self.isa.run(Equal { marks, value: marks.0[first % BURST] })
    }

    /// The lanes of `rest` that have the destination of lane `first`.
    #[inline(never)]
    pub(super) fn alike_to(&self, rest: u64, first: usize) -> u64 {
        let to = &self.columns.to;
        let mut alike = self.marked(&self.columns.to_mark, first) & rest;
        for_each_lane(alike, |lane| alike &= !(u64::from(to[lane] != to[first]) << lane));
        alike
    }

    /// Takes the clients' segments in the lanes of `rest` that go where that in lane `first` goes,
    /// which is this way. Gives back all that do, also those that go the general way after all.
    #[inline]
    fn take_up<'a>(
        &mut self,
        arrival: &Arrival<'a>,
        rest: u64,
        first: usize,
        mut way: Way<'a>,
        ways: &mut Ways<'a>,
    ) -> u64 {
        let to = self.columns.to[first];
        let mut alike = self.marked(&self.columns.to_mark, first) & rest;
        way.lanes = alike;
        for_each_lane(alike, |lane| {
            let from = endpoint(self.columns.from[lane]);
            if self.columns.to[lane] != to {
                (alike, way.lanes) = (alike & !(1 << lane), way.lanes & !(1 << lane));
            } else if way.plan.tells_clients && self.has_no_data(lane) {
                // An option is inserted.
                way.lanes &= !(1 << lane);
            } else if arrival.snapshot.is_client(&from.into()) {
                self.put(lane, &way, ways.len());
            } else {
                way.lanes &= !(1 << lane);
            }
        });
        self.lanes.taken |= way.lanes;
        // As many ways as lanes at most.
        let _ = ways.try_push(way);
        alike
    }

    /// Whether the segment in `lane` is a TCP header and nothing else.
    fn has_no_data(&self, lane: usize) -> bool {
        let (total, header) = (swap16(self.columns.ip[lane] >> 16), self.columns.tcp[lane] >> 4);
        total == 20 + 4 * (header & 0xf)
    }

    /// Takes the segments in the lanes of `rest` that are of the target of lane `first` and go this
    /// way. Gives back all that are and go, also those without a tag, which are looked at closely.
    #[inline]
    fn take_down<'a>(
        &mut self,
        rest: u64,
        first: usize,
        mut way: Way<'a>,
        ways: &mut Ways<'a>,
    ) -> u64 {
        let from = self.columns.from[first];
        let mut alike = self.marked(&self.columns.from_mark, first) & rest;
        for_each_lane(alike, |lane| {
            let to = endpoint(self.columns.to[lane]);
            if self.columns.from[lane] == from && way.holds(to.ip) {
                self.put(lane, &way, ways.len());
            } else {
                alike &= !(1 << lane);
            }
        });
        way.lanes = alike & !self.lanes.bare;
        self.lanes.taken |= way.lanes;
        self.lanes.down |= way.lanes;
        let _ = ways.try_push(way);
        alike
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, way: &Way<'_>, at: usize) {
        self.ways[lane] = at as u8;
        self.index_mask[lane] = way.index_mask;
        self.columns.near[lane] = way.near;
        self.columns.far[lane] = way.far;
        self.columns.route[lane] = way.route;
    }
}

/// Finds the lanes with this mark.
struct Equal<'a> {
    marks: &'a Bytes,
    value: u8,
}

impl Job for Equal<'_> {
    /// A bit for each.
    type Output = u64;

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) -> u64 {
        vector.equal(self.marks, self.value)
    }
}
