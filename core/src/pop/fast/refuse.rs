//! Segments of clients that are dropped whatever else a burst holds: floods cost less than what is
//! sent on.

use std::net::Ipv4Addr;

use super::super::arrival::Arrival;
use super::super::limits::Limits;
use super::columns::{HEADERS, endpoint};
use super::ways::{Way, Ways};
use super::{Fast, for_each_lane};
use crate::frame::Frame;
use crate::net::IpEndpoint;
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
            for_each_lane(alike, |lane| {
                let from = endpoint(self.columns.from[lane]);
                let places = limits.syn_places(way.plan.slot, Ipv4Addr::from_bits(from.ip).into());
                let is_refused = arrival.snapshot.is_client(&from.into())
                    && limits.refuses_syn(way.plan.slot, places)
                    && frames.get(lane).is_some_and(|frame| self.has_syn_options(lane, frame));
                self.lanes.syns |= u64::from(is_refused) << lane;
                self.ways[lane] = ways.len() as u8;
                self.places[lane] = places;
            });
            let _ = ways.try_push(way);
        }
    }

    /// Whether the options of the SYN in `lane` hold: else they are why it is dropped.
    fn has_syn_options(&self, lane: usize, frame: &impl Frame) -> bool {
        let len = (self.columns.tcp[lane] >> 4 & 0xf) as usize * 4 + HEADERS / 2;
        let datagram = frame.bytes().get(self.l3..).unwrap_or_default();
        let found = options::read(datagram.get(HEADERS..len).unwrap_or_default(), true);
        found.is_ok()
    }

    /// Why the segment in `lane` is dropped, which goes to none.
    #[inline]
    pub(super) fn reason(
        &self,
        limits: &mut Limits<'_>,
        ways: &Ways<'_>,
        lane: usize,
    ) -> DropReason {
        let is = |lanes: u64| lanes >> lane & 1 == 1;
        match ways.get(usize::from(self.ways[lane % BURST])) {
            Some(way) if is(self.lanes.syns) => {
                let from = Ipv4Addr::from_bits(endpoint(self.columns.from[lane % BURST]).ip);
                let places = self.places[lane % BURST];
                let admitted = limits.admit_syn_at(way.plan.slot, from.into(), places);
                admitted.err().unwrap_or(DropReason::RateSynService)
            }
            None => DropReason::UnservedPort,
            _ => DropReason::BadTag,
        }
    }
}

/// Of no service.
const NO_WAY: u8 = u8::MAX;
