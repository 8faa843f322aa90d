//! The fast way of nearly all segments of relays in pool mode: their headers are read into columns,
//! checked and rewritten for the whole burst at once.
//!
//! ```text
//!   gather --> sort --> look up --> map --> compute --> send
//!  (columns)  (plain?)  (service)  (cipher) (headers)  (scatter)
//! ```
//!
//! It takes what is plain: [`sort`] says which segments, and [`Fast::look_up`] of which services.
//! Everything else goes the general way, in the order of arrival, and so does a burst in which the
//! POP has to look closer at segments: it remembers refusals, or was asked to explain. What comes
//! out is the same, byte for byte: `tests/engine/fast.rs` shows it.

mod columns;
mod compute;
mod hops;
mod sort;
mod ways;

use arrayvec::ArrayVec;
use cpu_vector::Isa;

use super::arrival::Arrival;
use super::egress::Egress;
use super::lanes::lanes_mask;
use super::limits::Limits;
use super::output::Output;
use crate::frame::Frame;
use crate::net::{Endpoint, IpEndpoint, Towards};
use crate::relay::Relay;
use crate::relay::mapping::BURST;
use crate::relay::pool::PoolMode;
use crate::relay::pool::permutation::{Numbers, to_number};
use crate::relay::targets::{Chosen, TargetIndex, Window};
use crate::verdict::DropReason;

use columns::{Columns, Kind, word};
use compute::Compute;
use sort::{Number, Sort};
use ways::{NO_WAY, Way, Ways, add, endpoint, packed};

pub(super) use hops::Hops;

/// Room for the columns of a burst, and what the lanes are.
#[derive(Debug)]
pub(super) struct Fast {
    isa: Isa,
    columns: Columns,
    index_mask: [u64; BURST],
    ways: [u8; BURST],
    targets: [TargetIndex; BURST],
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
    /// What stands for the client is mapped to none.
    bad: u64,
}

/// What became of a burst's frames.
pub(super) struct Prepared<'a> {
    /// Those that go the fast way, a bit for each.
    pub taken: u64,
    ways: Ways<'a>,
}

impl Fast {
    /// Computes with `isa`, or the largest set of instructions below it that the CPU has.
    pub fn new(isa: Isa) -> Self {
        Fast {
            isa: isa.or_less(),
            columns: Columns::EMPTY,
            index_mask: [0; BURST],
            ways: [0; BURST],
            targets: [TargetIndex(0); BURST],
            lanes: Lanes::default(),
            l3: 0,
        }
    }

    /// Reads `frames`, and finds out which go the fast way and what they become.
    #[inline]
    pub fn prepare<'a, F: Frame>(&mut self, arrival: &Arrival<'a>, frames: &[F]) -> Prepared<'a> {
        let mut prepared = Prepared { taken: 0, ways: Ways::new() };
        self.lanes = Lanes::default();
        let kind = Kind::new(arrival.link.mac, arrival.link.vlan);
        self.l3 = kind.l3;
        self.columns.gather(kind.l3, frames);
        let max_len = arrival.soft.links.min_mtu().saturating_sub(INSERTED);
        let sorted = self.isa.run(Sort { columns: &self.columns, kind, max_len });
        let plain = sorted.plain & lanes_mask(frames.len());
        self.lanes.bare = sorted.bare;
        self.look_up(arrival, plain, &mut prepared.ways);
        if self.lanes.taken == 0 {
            return prepared;
        }
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Number { columns, down: lanes.down, index_mask: &self.index_mask });
        self.map(arrival, &prepared.ways);
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Compute { columns, down: lanes.down, bare: lanes.bare });
        self.check_clients(arrival);
        prepared.taken = self.lanes.taken;
        prepared
    }

    /// Finds the ways of the segments in the lanes of `plain`.
    #[inline]
    fn look_up<'a>(&mut self, arrival: &Arrival<'a>, plain: u64, ways: &mut Ways<'a>) {
        // Nearly always what the one before had: numbers alone, so that no struct is copied.
        let (mut up, mut up_at, mut down, mut down_at) = (NO_KEY, NO_WAY, NO_KEY, NO_WAY);
        let bare = self.lanes.bare;
        for_each_lane(plain, |lane| {
            let (source, destination) = (self.columns.source[lane], self.columns.destination[lane]);
            let src = endpoint(source >> 32, destination >> 32);
            let dst = endpoint(destination, destination >> 48);
            let (src_key, dst_key) = (to_number(src), to_number(dst));
            // What a target sends without a tag is looked at closely.
            let has_tag = bare >> lane & 1 == 0;
            if src_key == down
                && has_tag
                && let Some(way) = ways.get(down_at)
                && way.holds(dst.ip)
            {
                return self.take(lane, down_at, way);
            }
            if dst_key != up {
                let found = Way::at_vip(arrival, dst);
                (up, up_at) = (dst_key, found.map_or(NO_WAY, |way| add(ways, way)));
            }
            if let Some(way) = ways.get(up_at) {
                if arrival.snapshot.is_client(&src.into()) {
                    self.take(lane, up_at, way);
                }
                return;
            }
            if has_tag && let Some(way) = Way::behind_pool(arrival, src, dst.ip) {
                (down, down_at) = (src_key, add(ways, way));
                if let Some(way) = ways.get(down_at) {
                    self.take(lane, down_at, way);
                }
            }
        });
    }

    #[inline(always)]
    fn take(&mut self, lane: usize, at: usize, way: &Way<'_>) {
        self.lanes.taken |= 1 << lane;
        self.lanes.down |= u64::from(way.is_down) << lane;
        self.ways[lane] = at as u8;
        self.targets[lane] = way.target.unwrap_or(TargetIndex(0));
        self.index_mask[lane] = way.index_mask;
        self.columns.near[lane] = way.near;
        self.columns.far[lane] = way.far;
    }

    /// Maps the taken lanes, those of one service after the other.
    #[inline]
    fn map(&mut self, arrival: &Arrival<'_>, ways: &Ways<'_>) {
        let mut rest = self.lanes.taken;
        let mut each = ways.iter();
        while rest != 0 {
            let Some(first) = each.next() else { break };
            let mut of_service = 0u64;
            for (at, way) in ways.iter().enumerate() {
                of_service |= u64::from(way.service == first.service) << at;
            }
            let mut same = 0;
            for (lane, at) in self.ways.iter().enumerate() {
                same |= (of_service >> (at % 64) & 1) << lane;
            }
            same &= rest;
            if same == 0 {
                continue;
            }
            rest &= !same;
            let (mode, inverse) = (first.mode, self.lanes.down);
            let good = if same == self.lanes.taken {
                let count = BURST - same.leading_zeros() as usize;
                mode.permutation().map(self.isa, inverse, &mut self.columns.numbers, count)
            } else {
                self.map_some(mode, inverse, same)
            };
            self.lanes.bad |= same & !good;
            let window = first.relay.targets.window(arrival.unix);
            if window.only().is_none() {
                self.choose(first.relay, window, same & !self.lanes.down);
            }
        }
    }

    /// Chooses the targets of the clients in the lanes of `which`.
    #[inline(never)]
    fn choose(&mut self, relay: &Relay, window: Window<'_>, which: u64) {
        let mut clients = ArrayVec::<IpEndpoint, BURST>::new();
        for_each_lane(which, |lane| {
            let (source, destination) = (self.columns.source[lane], self.columns.destination[lane]);
            let _ = clients.try_push(endpoint(source >> 32, destination >> 32).into());
        });
        let mut chosen = [Chosen::default(); BURST];
        window.choose(&clients, &mut chosen);
        let mut chosen = chosen.iter();
        for_each_lane(which, |lane| {
            let target = chosen.next().and_then(|chosen| chosen.candidates.first());
            match target.and_then(|index| Some((index, relay.targets.at(index)?))) {
                Some((index, target)) => {
                    self.targets[lane] = index;
                    self.columns.far[lane] = packed(*target);
                }
                None => self.lanes.taken &= !(1 << lane),
            }
        });
    }

    /// Maps the lanes of `which`, side by side.
    fn map_some(&mut self, mode: &PoolMode, inverse: u64, which: u64) -> u64 {
        let (mut numbers, mut back, mut count) = (Numbers([0; BURST]), 0, 0);
        for_each_lane(which, |lane| {
            numbers.0[count % BURST] = self.columns.numbers.0[lane];
            back |= (inverse >> lane & 1) << count;
            count += 1;
        });
        let mapped = mode.permutation().map(self.isa, back, &mut numbers, count);
        let (mut good, mut at) = (0, 0);
        for_each_lane(which, |lane| {
            self.columns.numbers.0[lane] = numbers.0[at % BURST];
            good |= (mapped >> at & 1) << lane;
            at += 1;
        });
        good
    }

    /// A target's segment goes to what can be a client alone.
    #[inline]
    fn check_clients(&mut self, arrival: &Arrival<'_>) {
        for_each_lane(self.lanes.taken & self.lanes.down & !self.lanes.bad, |lane| {
            let ip = self.columns.client[lane] as u32;
            let port = self.columns.numbers.0[lane] as u16;
            let is_client = arrival.snapshot.is_client(&Endpoint { ip, port }.into());
            self.lanes.bad |= u64::from(!is_client) << lane;
        });
    }

    /// Sends on the frame in `lane`, or drops it, as the general way would.
    #[inline]
    pub fn finish<F: Frame, O: Output<F>>(
        &self,
        egress: &mut Egress<'_, O>,
        limits: &mut Limits<'_>,
        (prepared, hops): (&Prepared<'_>, &mut Hops),
        lane: usize,
        mut frame: F,
    ) {
        let lane = lane % BURST;
        let Some(way) = prepared.ways.get(usize::from(self.ways[lane])) else {
            return egress.drop(None, DropReason::UnservedPort, frame);
        };
        let (relay, of) = (way.relay, Some(way.service));
        if self.lanes.bad >> lane & 1 == 1 {
            return egress.drop(of, DropReason::BadTag, frame);
        }
        let (towards, ip) = match way.is_down {
            true => (Towards::Clients, self.columns.client[lane] as u32),
            false => (Towards::Targets, (self.columns.far[lane] >> 16) as u32),
        };
        let hop = match hops.find(egress, limits, towards, ip) {
            Ok(hop) => hop,
            Err(reason) => return egress.drop(of, reason, frame),
        };
        let is_bare = self.lanes.bare >> lane & 1 == 1;
        let inserted = if is_bare { INSERTED as usize } else { 0 };
        let len = self.columns.new_len[lane] as usize;
        let numbers = word(frame.bytes(), self.l3 + 24);
        let head = hop.header_len;
        let Some(bytes) = frame.reshape(head + inserted, self.l3, head + len) else {
            return egress.drop(of, DropReason::NoRoom, frame);
        };
        hop.put(bytes);
        let headers = bytes.get_mut(head..).unwrap_or_default();
        self.columns.scatter(lane, numbers, headers);
        egress.out.transmit(hop.port, frame);
        let counters = egress.counters.service(relay.slot);
        let traffic = if way.is_down { &counters.down } else { &counters.up };
        traffic.add(1, len as u64);
        let slot = relay.targets.slot(self.targets[lane]);
        counters.target(slot.0).sent(towards, false, len as u64);
    }
}

/// No endpoint: those have 48 bits.
const NO_KEY: u64 = u64::MAX;

/// Calls `each` with the number of every bit in `lanes`.
#[inline(always)]
fn for_each_lane(lanes: u64, mut each: impl FnMut(usize)) {
    let mut rest = lanes;
    while rest != 0 {
        each(rest.trailing_zeros() as usize % BURST);
        rest &= rest - 1;
    }
}

/// Bytes of the timestamps that a bare segment gets.
const INSERTED: u64 = 12;
