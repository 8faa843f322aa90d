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

use arrayvec::ArrayVec;
use cpu_vector::{Isa, Job, Vector};

use super::arrival::Arrival;
use super::egress::Egress;
use super::limits::Limits;
use super::output::Output;
use crate::frame::Frame;
use crate::net::{Endpoint, IpEndpoint, ServiceIndex, Towards};
use crate::relay::mapping::BURST;
use crate::relay::pool::PoolMode;
use crate::relay::pool::permutation::Numbers;
use crate::relay::targets::{Chosen, TargetIndex, Window};
use crate::relay::{Mode, Relay};
use crate::snapshot::Destination;
use crate::verdict::DropReason;

use columns::{Columns, Kind, word};
use compute::Compute;
use sort::{Number, Sort};

pub(super) use hops::Hops;

/// Room for the columns of a burst, and what the lanes are.
#[derive(Debug)]
pub(super) struct Fast {
    isa: Isa,
    columns: Columns,
    index_mask: [u64; BURST],
    services: [ServiceIndex; BURST],
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

impl Default for Fast {
    fn default() -> Self {
        Fast {
            isa: Isa::best(),
            columns: Columns::EMPTY,
            index_mask: [0; BURST],
            services: [ServiceIndex(0); BURST],
            targets: [TargetIndex(0); BURST],
            lanes: Lanes::default(),
            l3: 0,
        }
    }
}

/// A service in pool mode, each of whose clients has one target.
#[derive(Clone, Copy)]
struct Found<'a> {
    index: ServiceIndex,
    relay: &'a Relay,
    mode: &'a PoolMode,
    /// The target of all clients, if there is one alone.
    only: Option<TargetIndex>,
}

impl<'a> Found<'a> {
    /// The service at a VIP, on a port that takes clients.
    #[inline(never)]
    fn at_vip(arrival: &Arrival<'a>, dst: Endpoint) -> Option<Self> {
        let index = arrival.snapshot.service_at(dst.ip, dst.port)?;
        let found = Found::new(arrival, index)?;
        arrival.takes_clients().then_some(found)
    }

    /// The service that has a target behind the pool of `dst`, on a port that takes targets.
    #[inline(never)]
    fn behind_pool(arrival: &Arrival<'a>, src: Endpoint, dst: u32) -> Option<(Self, TargetIndex)> {
        let Destination::Pool(pool) = arrival.snapshot.classify(dst) else { return None };
        let (index, target) = arrival.snapshot.service_behind(pool, src.ip, src.port)?;
        let found = Found::new(arrival, index)?;
        arrival.takes_targets().then_some((found, target))
    }

    fn new(arrival: &Arrival<'a>, index: ServiceIndex) -> Option<Self> {
        let relay = arrival.snapshot.relay(index)?;
        let Mode::Pool(mode) = &relay.mode else { return None };
        let window = relay.targets.window(arrival.unix);
        window.is_settled().then(|| Found { index, relay, mode, only: window.only() })
    }

    /// Whether `ip` is an address of its pool.
    #[inline(always)]
    fn holds(&self, ip: u32) -> bool {
        let pool = self.mode.pool();
        ip & !(pool.bits.addresses() - 1) == pool.first
    }
}

impl Fast {
    /// Computes with `isa`, or the largest set of instructions below it that the CPU has.
    pub fn with(isa: Isa) -> Self {
        Fast { isa: isa.or_less(), ..Fast::default() }
    }

    /// Reads `frames`, and finds out which go the fast way and what they become; gives back these.
    #[inline]
    pub fn prepare<F: Frame>(&mut self, arrival: &Arrival<'_>, frames: &[F]) -> u64 {
        self.lanes = Lanes::default();
        let kind = Kind::new(arrival.link.mac, arrival.link.vlan);
        self.l3 = kind.l3;
        self.columns.gather(kind.l3, frames);
        let sort = Sort {
            columns: &self.columns,
            kind,
            max_len: arrival.soft.links.min_mtu().saturating_sub(INSERTED),
        };
        let sorted = self.isa.run(sort);
        let plain = sorted.plain & first_bits(frames.len());
        self.lanes.bare = sorted.bare;
        self.look_up(arrival, plain);
        if self.lanes.taken == 0 {
            return 0;
        }
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Number { columns, down: lanes.down, index_mask: &self.index_mask });
        self.map(arrival);
        let Fast { columns, lanes, .. } = self;
        self.isa.run(Compute { columns, down: lanes.down, bare: lanes.bare });
        self.check_clients(arrival);
        self.lanes.taken
    }

    /// Finds the services of the segments in the lanes of `plain`.
    #[inline]
    fn look_up(&mut self, arrival: &Arrival<'_>, plain: u64) {
        // Nearly always what the one before had.
        let mut last_up = None;
        let mut last_down: Option<(Endpoint, Found<'_>, TargetIndex)> = None;
        for_each_lane(plain, |lane| {
            // What a target sends without a tag is looked at closely.
            let has_tag = self.lanes.bare >> lane & 1 == 0;
            let (source, destination) = (self.columns.source[lane], self.columns.destination[lane]);
            let src = endpoint(source >> 32, destination >> 32);
            let dst = endpoint(destination, destination >> 48);
            if let Some((behind, found, target)) = last_down
                && behind == src
                && found.holds(dst.ip)
                && has_tag
            {
                return self.take(lane, found, target, true);
            }
            let up = match last_up {
                Some((at, found)) if at == dst => found,
                _ => Found::at_vip(arrival, dst),
            };
            last_up = Some((dst, up));
            if let Some(found) = up {
                if arrival.snapshot.is_client(&src.into()) {
                    self.take(lane, found, found.only.unwrap_or(TargetIndex(0)), false);
                }
                return;
            }
            if has_tag && let Some((found, target)) = Found::behind_pool(arrival, src, dst.ip) {
                last_down = Some((src, found, target));
                self.take(lane, found, target, true);
            }
        });
    }

    #[inline(always)]
    fn take(&mut self, lane: usize, found: Found<'_>, target: TargetIndex, is_down: bool) {
        let pool = found.mode.pool();
        self.lanes.taken |= 1 << lane;
        self.lanes.down |= u64::from(is_down) << lane;
        self.index_mask[lane] = u64::from(pool.bits.addresses() - 1);
        self.services[lane] = found.index;
        self.targets[lane] = target;
        let vip = found.relay.vip;
        self.columns.near[lane] = if is_down { packed(vip) } else { u64::from(pool.first) << 16 };
        self.columns.far[lane] = found.relay.targets.at(target).map_or(0, |it| packed(*it));
    }

    /// Maps the taken lanes, those of one service after the other.
    #[inline]
    fn map(&mut self, arrival: &Arrival<'_>) {
        let mut rest = self.lanes.taken;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize % BURST;
            let service = self.services[first];
            let mut same = 0;
            for (lane, other) in self.services.iter().enumerate() {
                same |= u64::from(*other == service) << lane;
            }
            same &= rest;
            rest &= !same;
            let relay = arrival.snapshot.relay(service);
            let Some((relay, Mode::Pool(mode))) = relay.map(|relay| (relay, &relay.mode)) else {
                self.lanes.taken &= !same;
                continue;
            };
            let window = relay.targets.window(arrival.unix);
            let inverse = self.lanes.down;
            let good = if same == self.lanes.taken {
                let count = BURST - same.leading_zeros() as usize;
                self.isa.run(Map { mode, inverse, numbers: &mut self.columns.numbers, count })
            } else {
                self.map_some(mode, inverse, same)
            };
            self.lanes.bad |= same & !good;
            if window.only().is_none() {
                self.choose(relay, window, same & !self.lanes.down);
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
        let mapped = self.isa.run(Map { mode, inverse: back, numbers: &mut numbers, count });
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
        hops: &mut Hops,
        lane: usize,
        mut frame: F,
    ) {
        let lane = lane % BURST;
        let (service, target) = (self.services[lane], self.targets[lane]);
        let of = Some(service);
        if self.lanes.bad >> lane & 1 == 1 {
            return egress.drop(of, DropReason::BadTag, frame);
        }
        let Some(relay) = egress.arrival.snapshot.relay(service) else {
            return egress.drop(of, DropReason::UnservedPort, frame);
        };
        let is_down = self.lanes.down >> lane & 1 == 1;
        let (towards, ip) = match is_down {
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
        self.columns.scatter(lane, numbers, true, headers);
        egress.out.transmit(hop.port, frame);
        let counters = egress.counters.service(relay.slot);
        let traffic = if is_down { &counters.down } else { &counters.up };
        traffic.add(1, len as u64);
        let slot = relay.targets.slot(target);
        counters.target(slot.0).sent(towards, false, len as u64);
    }
}

/// The mapping of some lanes.
struct Map<'a> {
    mode: &'a PoolMode,
    inverse: u64,
    numbers: &'a mut Numbers,
    count: usize,
}

impl Job for Map<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<V: Vector>(self, vector: V) -> u64 {
        let Map { mode, inverse, numbers, count } = self;
        mode.permutation().map(vector, inverse, numbers, count)
    }
}

/// An address and a port of the columns, each in the lowest bits.
#[inline(always)]
fn endpoint(ip: u64, port: u64) -> Endpoint {
    Endpoint { ip: (ip as u32).swap_bytes(), port: (port as u16).swap_bytes() }
}

/// An address and port as 48 bits; 0 for one of IPv6, which pool mode has not.
#[inline(always)]
fn packed(at: IpEndpoint) -> u64 {
    match at {
        IpEndpoint::V4(at) => u64::from(at.ip) << 16 | u64::from(at.port),
        IpEndpoint::V6(_) => 0,
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

fn first_bits(count: usize) -> u64 {
    u64::MAX.checked_shr(BURST.saturating_sub(count) as u32).unwrap_or(0)
}

/// Bytes of the timestamps that a bare segment gets.
const INSERTED: u64 = 12;
