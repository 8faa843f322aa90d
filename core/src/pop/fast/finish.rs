//! How the prepared segments end: each in its turn, and counted together.

use arrayvec::ArrayVec;
use cpu_vector::{Job, Vector, lane_mask};

use super::super::egress::Egress;
use super::super::lanes::lanes_mask;
use super::super::limits::Limits;
use super::super::output::Output;
use super::columns::{INSERTED, WITH_STAMPS, Words};
use super::hops::{Hops, Ready};
use super::{Fast, Prepared, for_each_lane};
use crate::counters::Counters;
use crate::frame::Frame;
use crate::net::{PortIndex, Towards};
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
        let (mut frames, mut lane) = (std::mem::take(frames).into_iter(), 0);
        loop {
            let (ready, port) = self.rewrite_alike(hops, lane, frames.as_mut_slice());
            if ready > 0 {
                egress.out.transmit_all(port, frames.by_ref().take(ready));
                prepared.sent |= lanes_mask(ready) << lane;
                lane += ready;
            }
            let Some(frame) = frames.next() else { break };
            self.finish(egress, limits, (prepared, hops), lane, frame);
            lane += 1;
        }
    }

    /// Rewrites the first of `frames`, which begin in lane `first`: as many as leave through the
    /// same port, by next hops that were found. Gives back their number, and the port.
    #[inline(always)]
    fn rewrite_alike<F: Frame>(
        &self,
        hops: &Hops,
        first: usize,
        frames: &mut [F],
    ) -> (usize, PortIndex) {
        let routes = &self.columns.route;
        let port = hops.of(routes[first % BURST]).port;
        let count = (self.lanes.refused() >> (first % BURST)).trailing_zeros() as usize;
        let frames = frames.iter_mut().take(count);
        let mut ready = 0;
        for frame in frames {
            let lane = (first + ready) % BURST;
            let (is_found, hop) = (hops.has(routes[lane]), hops.of(routes[lane]));
            if !is_found || hop.port != port || !self.rewrite(lane, hop, frame) {
                break;
            }
            ready += 1;
        }
        (ready, port)
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
        if self.lanes.refused() >> lane & 1 == 1 {
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
        if !self.rewrite(lane, hop, &mut frame) {
            return self.count_drop(egress, prepared, lane, DropReason::NoRoom);
        }
        egress.out.transmit(hop.port, frame);
        prepared.sent |= 1 << lane;
    }

    /// Writes the new headers of the frame in `lane`, which goes to `hop`; false if it has no room
    /// for them.
    #[inline(always)]
    fn rewrite<F: Frame>(&self, lane: usize, hop: &Ready, frame: &mut F) -> bool {
        let inserted = self.lanes.bare >> lane & 1;
        let (head, len) = (hop.header_len, self.columns.new_len[lane % BURST] as usize);
        let inserted = (INSERTED * inserted) as usize;
        let bytes = frame.reshape(head + inserted, self.l3, head + len).unwrap_or_default();
        let Some((ethernet, datagram)) = bytes.split_at_mut_checked(head) else { return false };
        let Some(headers) = datagram.first_chunk_mut::<WITH_STAMPS>() else { return false };
        hop.put(ethernet);
        self.columns.scatter(lane, headers);
        true
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
