//! The fast way of nearly all segments of relays in pool mode: their headers are read into columns,
//! checked and rewritten for the whole burst at once.
//!
//! ```text
//!   gather --> sort --> look up --> map --> compute --> finish
//!  (columns)  (plain?)  (service)  (cipher) (headers)  (scatter, send)
//! ```
//!
//! It takes what is plain: [`sort`] says which segments, and [`look_up`] of which services. What is
//! not, and the segments of egress endpoints of which the POP remembers something, go the general
//! way, in the order of arrival. What comes out is the same, byte for byte: `tests/engine/fast.rs`
//! shows it.

mod clients;
mod columns;
mod compute;
mod finish;
mod hops;
mod look_up;
mod map;
mod refuse;
mod sort;
mod ways;

use cpu_vector::Isa;

use super::arrival::Arrival;
use super::lanes::lanes_mask;
use super::limits::Limits;
use crate::bucket::BucketPlace;
use crate::frame::Frame;
use crate::net::{Endpoint, IpEndpoint};
use crate::relay::mapping::BURST;
use crate::relay::targets::TargetSlot;
use crate::wire::ethernet;

use columns::{Columns, Kind};
use compute::Compute;
use sort::{Number, Sort};
use ways::{Way, Ways};

pub(super) use hops::Hops;

/// Room for the columns of a burst, and what the lanes are.
#[derive(Debug)]
pub(super) struct Fast {
    /// That of the snapshot.
    isa: Isa,
    columns: Columns,
    index_mask: [u64; BURST],
    ways: [u8; BURST],
    targets: [TargetSlot; BURST],
    /// The buckets of SYNs.
    places: [[BucketPlace; 2]; BURST],
    lanes: Lanes,
    l3: usize,
}

/// Which frames of a burst are what, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Lanes {
    /// They go the fast way.
    taken: u64,
    /// They are of targets.
    down: u64,
    /// They have no options.
    bare: u64,
    /// What stands for the client is mapped to none, or to what cannot be one.
    bad: u64,
    /// They are to a port of a VIP where there is no service.
    unserved: u64,
    /// They are SYNs that the limits refuse.
    syns: u64,
    /// Of these, those whose service has used up what it has, and whose network has not.
    crowded: u64,
}

impl Lanes {
    /// They are dropped.
    #[inline(always)]
    fn refused(&self) -> u64 {
        self.bad | self.unserved | self.syns
    }
}

/// What became of a burst's frames.
pub(super) struct Prepared<'a> {
    /// Those that go the fast way, a bit for each.
    pub taken: u64,
    ways: Ways<'a>,
    /// Those that left.
    sent: u64,
}

impl Prepared<'_> {
    /// Of a burst that was not looked at. It is filled in its place: it is too large to be moved.
    pub fn new() -> Self {
        Prepared { taken: 0, ways: Ways::new(), sent: 0 }
    }
}

impl Default for Fast {
    fn default() -> Self {
        Fast {
            isa: Isa::Baseline,
            columns: Columns::EMPTY,
            index_mask: [0; BURST],
            ways: [0; BURST],
            targets: [TargetSlot(0); BURST],
            places: [[BucketPlace::FIRST; 2]; BURST],
            lanes: Lanes::default(),
            l3: 0,
        }
    }
}

impl Fast {
    /// Reads `frames`, and finds out which go the fast way and what they become. `prepared` is
    /// new.
    #[inline]
    pub fn prepare<'a, F: Frame>(
        &mut self,
        arrival: &Arrival<'a>,
        limits: &Limits<'_>,
        frames: &[F],
        prepared: &mut Prepared<'a>,
    ) {
        let kind = Kind::new(arrival.link.mac, arrival.link.vlan);
        self.l3 = kind.l3;
        match kind.l3 {
            ethernet::HEADER_LEN => self.columns.gather::<{ ethernet::HEADER_LEN }, F>(frames),
            _ => self.columns.gather::<{ ethernet::TAGGED_HEADER_LEN }, F>(frames),
        }
        let max_len = arrival.soft.links.min_mtu();
        self.isa = arrival.snapshot.isa();
        let sorted = self.isa.run(Sort { columns: &mut self.columns, kind, max_len });
        let [plain, syns] = [sorted.plain, sorted.syns].map(|it| it & lanes_mask(frames.len()));
        self.lanes = Lanes { bare: sorted.bare, ..Lanes::default() };
        self.look_up(arrival, plain, &mut prepared.ways);
        if syns != 0 {
            self.refuse_syns(arrival, limits, frames, syns, &mut prepared.ways);
        }
        prepared.taken = self.lanes.unserved | self.lanes.syns;
        if self.lanes.taken == 0 {
            return;
        }
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Number { columns, down: lanes.down, index_mask: &self.index_mask });
        self.map(arrival, &prepared.ways);
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Compute { columns, down: lanes.down, bare: lanes.bare });
        self.check_clients(arrival);
        self.leave_known(arrival);
        prepared.taken |= self.lanes.taken;
    }

    /// The way of the segment in `lane`; `None` for one of no service.
    #[inline(always)]
    fn way<'w, 'a>(&self, ways: &'w Ways<'a>, lane: usize) -> Option<&'w Way<'a>> {
        ways.get(usize::from(self.ways[lane % BURST]))
    }

    /// What the POP may remember something of is looked at closely.
    #[inline]
    fn leave_known(&mut self, arrival: &Arrival<'_>) {
        if !arrival.soft.memo.knows_nothing() {
            for_each_lane(self.lanes.taken & !self.lanes.bad, |lane| {
                self.lanes.taken &= !(u64::from(self.may_be_known(arrival, lane)) << lane);
            });
        }
    }

    /// Whether the POP may remember something of the egress endpoint of the segment in `lane`. One
    /// that is refused has none.
    #[inline]
    pub fn may_be_known(&self, arrival: &Arrival<'_>, lane: usize) -> bool {
        if self.lanes.taken >> lane & 1 == 0 {
            return false;
        }
        let egress = self.columns.egress[lane % BURST];
        let egress = Endpoint { ip: (egress >> 16) as u32, port: egress as u16 };
        arrival.soft.memo.may_know(arrival.now, IpEndpoint::V4(egress))
    }
}

/// Calls `each` with the number of every bit in `lanes`.
#[inline(always)]
fn for_each_lane(lanes: u64, mut each: impl FnMut(usize)) {
    let mut rest = lanes;
    while rest != 0 {
        each(rest.trailing_zeros() as usize % BURST);
        rest &= rest - 1;
    }
}
