//! Segments of clients that are dropped whatever else a burst holds: floods cost less than what is
//! sent on.

use std::net::Ipv4Addr;

use cpu_vector::Blocks;

use super::super::arrival::Arrival;
use super::super::limits::Limits;
use super::columns::{HEADERS, endpoint};
use super::ways::{Way, Ways};
use super::{Fast, for_each_lane};
use crate::bucket::BucketPlace;
use crate::frame::Frame;
use crate::net::{IpEndpoint, ServiceSlot};
use crate::relay::mapping::BURST;
use crate::relay::rewrite::options;
use crate::snapshot::Destination;
use crate::verdict::DropReason;

impl Fast {
    /// Takes the segments in the lanes of `alike`, which are to a port of a VIP where there is no
    /// service, on a port that takes clients.
    pub(super) fn refuse_unserved(&mut self, arrival: &Arrival<'_>, alike: u64) {
        for_each_lane(alike, |lane| {
            let from = IpEndpoint::V4(endpoint(self.columns.from[lane]));
            self.lanes.unserved |= u64::from(arrival.snapshot.is_client(&from)) << lane;
            self.ways[lane] = NO_WAY;
        });
    }

    /// Takes the SYNs in the lanes of `syns` that the limits refuse: no time passes within a burst,
    /// so what is used up stays so.
    #[inline(never)]
    pub(super) fn refuse_syns<'a, F: Frame>(
        &mut self,
        arrival: &Arrival<'a>,
        limits: &Limits<'_>,
        frames: &[F],
        syns: u64,
        ways: &mut Ways<'a>,
    ) {
        let mut rest = syns;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize % BURST;
            let (alike, dst) = (self.alike_to(rest, first), endpoint(self.columns.to[first]));
            rest &= !alike;
            let way = match arrival.snapshot.classify(dst.ip) {
                Destination::Vip => Way::at_vip(arrival, dst),
                _ => None,
            };
            let Some(way) = way else { continue };
            let (mut sources, mut count) = (Blocks::ZERO, 0);
            for_each_lane(alike, |lane| {
                let src = Ipv4Addr::from_bits(endpoint(self.columns.from[lane]).ip);
                sources.0[count % BURST] = Limits::syn_message(way.plan.slot, src.into());
                count += 1;
            });
            let (places, mut at) = (limits.syn_places_of_all(&sources, count), 0);
            for_each_lane(alike, |lane| {
                let way = (&way, ways.len());
                self.refuse_syn(arrival, limits, frames, lane, (way, places.both(at)));
                at += 1;
            });
            let _ = ways.try_push(way);
        }
    }

    /// Takes the SYN in `lane` if the limits refuse it. Its `way` has the number `at`.
    #[inline]
    fn refuse_syn<F: Frame>(
        &mut self,
        arrival: &Arrival<'_>,
        limits: &Limits<'_>,
        frames: &[F],
        lane: usize,
        ((way, at), places): ((&Way<'_>, usize), [BucketPlace; 2]),
    ) {
        let (from, slot) = (endpoint(self.columns.from[lane]), way.plan.slot);
        let Some(reason) = limits.refuses_syn(slot, places) else { return };
        let Some(is_gateway) = arrival.snapshot.client_is_gateway(from.ip) else { return };
        let holds = frames.get(lane).is_some_and(|frame| self.has_syn_options(lane, frame));
        if from.port == 0 || !holds {
            return;
        }
        if is_gateway {
            limits.count_gateway_syn();
        }
        self.lanes.syns |= 1 << lane;
        self.lanes.crowded |= u64::from(reason == DropReason::RateSynService) << lane;
        (self.ways[lane], self.places[lane]) = (at as u8, places);
    }

    /// Whether the options of the SYN in `lane` hold: else they are why it is dropped.
    fn has_syn_options(&self, lane: usize, frame: &impl Frame) -> bool {
        let len = (self.columns.tcp[lane] >> 4 & 0xf) as usize * 4 + HEADERS / 2;
        let datagram = frame.bytes().get(self.l3..).unwrap_or_default();
        let found = options::read(datagram.get(HEADERS..len).unwrap_or_default(), true);
        found.is_ok()
    }

    /// Why the segment in `lane` is dropped, which goes to none, and the counters of its service.
    #[inline]
    pub(super) fn reason(
        &self,
        limits: &mut Limits<'_>,
        ways: &Ways<'_>,
        lane: usize,
    ) -> (Option<ServiceSlot>, DropReason) {
        let is = |lanes: u64| lanes >> lane & 1 == 1;
        let way = self.way(ways, lane);
        let reason = match way {
            None => DropReason::UnservedPort,
            Some(way) if is(self.lanes.crowded) => {
                // It uses up what its network has.
                let admitted = limits.admit_syn_at(way.plan.slot, self.places[lane % BURST]);
                admitted.err().unwrap_or(DropReason::RateSynService)
            }
            Some(_) if is(self.lanes.syns) => DropReason::RateSynPrefix,
            Some(_) => DropReason::BadTag,
        };
        (way.map(|way| way.plan.slot), reason)
    }
}

/// Of no service.
const NO_WAY: u8 = u8::MAX;
