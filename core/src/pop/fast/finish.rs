//! How the prepared segments end: each in its turn, and counted together.

use arrayvec::ArrayVec;
use cpu_vector::{Job, Vector, lane_mask};

use super::super::egress::Egress;
use super::super::limits::Limits;
use super::super::output::Output;
use super::columns::{INSERTED, WITH_STAMPS, Words};
use super::hops::Hops;
use super::{Fast, Lanes, Prepared, for_each_lane};
use crate::counters::Counters;
use crate::frame::Frame;
use crate::net::Towards;
use crate::relay::mapping::BURST;
use crate::verdict::DropReason;

impl Fast {
    /// Ends all `frames`, each of which is taken.
    #[inline(never)]
    pub fn finish_all<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        (prepared, hops): (&mut Prepared<'_>, &mut Hops),
        frames: &mut ArrayVec<F, BURST>,
    ) {
        for (lane, frame) in frames.drain(..).enumerate() {
            self.finish(egress, limits, (prepared, hops), lane, frame);
        }
    }

    /// Sends on the frame in `lane`, or drops it, as the general way would.
    #[inline(always)]
    pub fn finish<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        (prepared, hops): (&mut Prepared<'_>, &mut Hops),
        lane: usize,
        mut frame: F,
    ) {
        let lane = lane % BURST;
        let is = |lanes: u64| lanes >> lane & 1 == 1;
        let Lanes { bad, unserved, syns, .. } = self.lanes;
        if is(bad | unserved | syns) {
            let (slot, reason) = self.reason(limits, &prepared.ways, lane);
            egress.counters.count_drop(egress.arrival.port, slot, reason);
            return;
        }
        let route = self.columns.route[lane];
        if !hops.has(route) {
            let (towards, ip) = self.next(lane);
            if let Err(reason) = hops.find(egress, limits, (route, towards, ip)) {
                return self.count_drop(egress, prepared, lane, reason);
            }
        }
        let hop = hops.of(route);
        let inserted = if is(self.lanes.bare) { INSERTED as usize } else { 0 };
        let len = self.columns.new_len[lane] as usize;
        let head = hop.header_len;
        let bytes = frame.reshape(head + inserted, self.l3, head + len).unwrap_or_default();
        let headers = bytes.split_at_mut_checked(head);
        let headers = headers.and_then(|(ethernet, datagram)| {
            Some((ethernet, datagram.first_chunk_mut::<WITH_STAMPS>()?))
        });
        let Some((ethernet, headers)) = headers else {
            return self.count_drop(egress, prepared, lane, DropReason::NoRoom);
        };
        hop.put(ethernet);
        self.columns.scatter(lane, headers);
        egress.out.transmit(hop.port, frame);
        prepared.sent |= 1 << lane;
    }

    /// Where the segment in `lane` goes.
    fn next(&self, lane: usize) -> (Towards, u32) {
        match self.lanes.down >> lane & 1 {
            1 => (Towards::Clients, self.columns.client[lane % BURST] as u32),
            _ => (Towards::Targets, (self.columns.far[lane % BURST] >> 16) as u32),
        }
    }

    /// Counts the drop of the frame in `lane`, which was to be sent on.
    #[cold]
    #[inline(never)]
    fn count_drop<O>(
        &self,
        egress: &Egress<'_, O>,
        prepared: &Prepared<'_>,
        lane: usize,
        reason: DropReason,
    ) {
        let slot = self.way(&prepared.ways, lane).map(|way| way.plan.slot);
        egress.counters.count_drop(egress.arrival.port, slot, reason);
    }

    /// Counts what left.
    #[inline]
    pub fn count(&self, counters: &Counters, prepared: &Prepared<'_>) {
        for way in &prepared.ways {
            let (lanes, lens) = (way.lanes & prepared.sent, &self.columns.new_len);
            let packets = u64::from(lanes.count_ones());
            let bytes = match packets {
                0..=4 => {
                    let mut bytes = 0;
                    for_each_lane(lanes, |lane| bytes += lens[lane]);
                    bytes
                }
                _ => self.isa.run(Sum { lens, lanes }),
            };
            let towards = if way.is_down { Towards::Clients } else { Towards::Targets };
            let of_service = counters.service(way.plan.slot);
            of_service.traffic(towards).add(packets, bytes);
            match way.target {
                Some(target) => {
                    of_service.target(target.0).traffic(towards).add(packets, bytes);
                }
                None => for_each_lane(lanes, |lane| {
                    let target = of_service.target(self.targets[lane].0);
                    target.traffic(towards).add(1, lens[lane]);
                }),
            }
        }
    }
}

/// The sum of the lengths in some lanes.
struct Sum<'a> {
    lens: &'a Words,
    lanes: u64,
}

impl Job for Sum<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> u64 {
        let Sum { lens, lanes } = self;
        let mut sum = 0;
        for (lane, len) in lens.iter().enumerate() {
            sum += len & lane_mask(lanes, lane);
        }
        sum
    }
}
