//! Rate limits: a worker's token buckets, and the questions that are put to them.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use cpu_vector::Blocks;

use super::arrival::Arrival;
use crate::bucket::{
    Bucket, BucketHash, BucketPlace, BucketSketch, BucketTable, NetworkPlaces, Purpose,
};
use crate::config;
use crate::counters::Counters;
use crate::net::{MAX_SERVICES, ServiceSlot};
use crate::relay::memo::LIFETIME_MS;
use crate::verdict::{DropReason, ReplyKind};

/// A worker's token buckets. Their rates are in `[limits]`.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    own: OwnBuckets,
    syn_acks: BucketTable,
    keepalive_macs: BucketTable,
    keepalive_macs_of_endpoints: BucketTable,
    syns: BucketSketch,
    errors: BucketSketch,
    syns_of_services: ServiceBuckets,
    open_agents: BucketSketch,
    open_services: [ServiceBuckets; OpenWay::COUNT],
    remembered_syns: BucketSketch,
    hints: Bucket,
}

/// What the POP originates because of others: a bucket for each kind, and for the shares of
/// networks.
#[derive(Debug, Default)]
struct OwnBuckets {
    all: [Bucket; Own::COUNT],
    networks: BucketSketch,
}

/// What the POP originates. Each kind has its own bucket, since anybody can cause most of them at
/// no cost.
#[derive(Clone, Copy, Debug)]
enum Own {
    TimeExceeded,
    TooBig,
    PortUnreachable,
    Echo,
    /// A RST to a client.
    Refusal,
    /// A RST to a target.
    NoTimestamps,
    /// A query for the hardware address of a host on a link.
    Query,
}

impl Own {
    const COUNT: usize = Own::Query as usize + 1;

    fn of(kind: ReplyKind) -> Own {
        match kind {
            ReplyKind::TimeExceeded => Own::TimeExceeded,
            ReplyKind::PortUnreachable => Own::PortUnreachable,
            ReplyKind::Echo => Own::Echo,
            ReplyKind::UnservedPort => Own::Refusal,
            ReplyKind::NoTimestamps => Own::NoTimestamps,
            _ => Own::TooBig,
        }
    }

    fn rate(self, rates: &config::LimitsConfig) -> u32 {
        match self {
            Own::TimeExceeded | Own::TooBig | Own::PortUnreachable => rates.icmp_per_second,
            Own::Echo => rates.echo_per_second,
            Own::Refusal | Own::NoTimestamps => rates.rst_per_second,
            Own::Query => rates.neighbour_per_second,
        }
    }
}

/// The two ways of open packets, each with limits of its own: nobody uses up what an agent may send
/// by sending to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum OpenWay {
    Up,
    Down,
}

impl OpenWay {
    const COUNT: usize = OpenWay::Down as usize + 1;
}

/// A bucket for each service, by the place of its counters.
#[derive(Debug)]
struct ServiceBuckets(Box<[Bucket]>);

impl Default for ServiceBuckets {
    fn default() -> Self {
        ServiceBuckets(vec![Bucket::new(); MAX_SERVICES].into_boxed_slice())
    }
}

/// The rate limits while a burst is handled.
pub(super) struct Limits<'a> {
    buckets: &'a mut Buckets,
    counters: &'a Counters,
    arrival: Arrival<'a>,
}

impl<'a> Limits<'a> {
    /// The limits of a worker with these buckets.
    pub fn new(arrival: Arrival<'a>, buckets: &'a mut Buckets, counters: &'a Counters) -> Self {
        Limits { buckets, counters, arrival }
    }

    fn look_for_gateway(&self, src: IpAddr) {
        if self.arrival.snapshot.is_gateway(src) {
            self.count_gateway_syn();
        }
    }

    /// Counts a SYN that comes from a gateway: a NAT, or infrastructure that is no client.
    pub fn count_gateway_syn(&self) {
        self.counters.port(self.arrival.port).gateway_syns.add(1);
    }

    #[inline(always)]
    fn rates(&self) -> &'a config::LimitsConfig {
        &self.arrival.snapshot.config.limits
    }

    /// Whether the relay whose counters are in `slot` takes a SYN from `src`. The network of `src`
    /// uses its own share first: SYNs beyond it use up nothing of the service's.
    ///
    /// Only SYNs are limited, so established connections are unaffected.
    ///
    /// # Errors
    /// [`DropReason::RateSynPrefix`] or [`DropReason::RateSynService`].
    // A call of its own, so that it burdens only SYNs.
    #[inline(never)]
    pub fn admit_syn(&mut self, slot: ServiceSlot, src: IpAddr) -> Result<(), DropReason> {
        self.look_for_gateway(src);
        self.admit_syn_at(slot, self.syn_places(slot, src))
    }

    /// Where the buckets of SYNs from `src` are.
    #[inline]
    pub fn syn_places(&self, slot: ServiceSlot, src: IpAddr) -> [BucketPlace; 2] {
        self.arrival.snapshot.bucket_hash.both(Purpose::Syn, slot.0, src)
    }

    /// [`Limits::syn_places`] of many sources at once: of as many as there are messages, which
    /// [`Limits::syn_message`] gives.
    #[inline]
    pub fn syn_places_of_all(&self, messages: &Blocks, count: usize) -> NetworkPlaces {
        let snapshot = self.arrival.snapshot;
        snapshot.bucket_hash.both_of_all(snapshot.isa(), messages, count)
    }

    /// What stands for a source of SYNs there.
    #[inline]
    pub fn syn_message(slot: ServiceSlot, src: IpAddr) -> [u64; 2] {
        BucketHash::message(Purpose::Syn, slot.0, src)
    }

    /// Why [`Limits::admit_syn`] refuses a SYN at `places`, now and as long as no time passes.
    #[inline]
    pub fn refuses_syn(&self, slot: ServiceSlot, places: [BucketPlace; 2]) -> Option<DropReason> {
        let (rates, now) = (self.rates(), self.arrival.now);
        if !self.buckets.syns.has(places, now, rates.syn_per_prefix_per_second) {
            return Some(DropReason::RateSynPrefix);
        }
        let service = self.buckets.syns_of_services.0.get(usize::from(slot.0))?;
        let has = service.has(now, rates.syn_per_service_per_second);
        (!has).then_some(DropReason::RateSynService)
    }

    /// [`Limits::admit_syn`] of a source whose buckets are at `places`, but for gateways.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn admit_syn_at(
        &mut self,
        slot: ServiceSlot,
        places: [BucketPlace; 2],
    ) -> Result<(), DropReason> {
        let (rates, now) = (self.rates(), self.arrival.now);
        if !self.buckets.syns.take(places, now, rates.syn_per_prefix_per_second) {
            return Err(DropReason::RateSynPrefix);
        }
        let service = self.buckets.syns_of_services.0.get_mut(usize::from(slot.0));
        let taken = service.is_none_or(|bucket| bucket.take(now, rates.syn_per_service_per_second));
        if taken { Ok(()) } else { Err(DropReason::RateSynService) }
    }

    /// Whether a SYN of `client` may be remembered. A network of clients has a share of the table,
    /// so that a flood of SYNs from one makes no other forgotten.
    pub fn admit_remembered_syn(&mut self, client: IpAddr) -> bool {
        let lifetimes = NETWORKS_AT_LIMIT * (LIFETIME_MS / 1000) as u32;
        let rate = self.rates().remembered_syns.div_ceil(lifetimes);
        let places = self.arrival.snapshot.bucket_hash.both(Purpose::RememberedSyn, 0, client);
        self.buckets.remembered_syns.take(places, self.arrival.now, rate)
    }

    /// Whether other POPs may be told of a refusal.
    pub fn admit_hint(&mut self) -> bool {
        let rate = self.arrival.snapshot.config.hints.as_ref().map_or(0, |hints| hints.per_second);
        self.buckets.hints.take(self.arrival.now, rate)
    }

    /// Whether an open packet of the agent at `agent`, or to it, may pass. It uses its own share
    /// first: what is beyond that uses up nothing of the service's.
    ///
    /// # Errors
    /// [`DropReason::RateOpenAgent`] or [`DropReason::RateOpenService`].
    pub fn admit_open(
        &mut self,
        way: OpenWay,
        slot: ServiceSlot,
        agent: SocketAddrV4,
    ) -> Result<(), DropReason> {
        let (rates, now) = (self.rates(), self.arrival.now);
        let purpose = match way {
            OpenWay::Up => Purpose::OpenUp,
            OpenWay::Down => Purpose::OpenDown,
        };
        let places = self.arrival.snapshot.bucket_hash.both_of_endpoint(purpose, slot.0, agent);
        if !self.buckets.open_agents.take(places, now, rates.open_per_agent_per_second) {
            return Err(DropReason::RateOpenAgent);
        }
        let of_services = &mut self.buckets.open_services[way as usize].0;
        let service = of_services.get_mut(usize::from(slot.0));
        let rate = rates.open_per_service_per_second;
        let taken = service.is_none_or(|bucket| bucket.take(now, rate));
        if taken { Ok(()) } else { Err(DropReason::RateOpenService) }
    }

    /// Whether an ICMP error may be passed on that is about a segment between a service and
    /// `client`, a client or an agent.
    ///
    /// # Errors
    /// [`DropReason::RateIcmp`].
    #[inline(never)]
    pub fn admit_error(&mut self, slot: ServiceSlot, client: IpAddr) -> Result<(), DropReason> {
        let rate = self.rates().icmp_forward_per_second;
        let places = self.arrival.snapshot.bucket_hash.both(Purpose::Icmp, slot.0, client);
        let taken = self.buckets.errors.take(places, self.arrival.now, rate);
        if taken { Ok(()) } else { Err(DropReason::RateIcmp) }
    }

    /// Whether an answer of the POP's own, a RST, an echo reply or an ICMP error, may go to `to`.
    #[cold]
    pub fn admit_own(&mut self, kind: ReplyKind, to: IpAddr) -> bool {
        self.take_own(Own::of(kind), to)
    }

    /// Whether a RST may go to a target.
    pub fn admit_reply(&mut self, kind: ReplyKind) -> bool {
        self.take_own_of_all(Own::of(kind))
    }

    /// Whether a query may be sent for the hardware address of `host`, which is on a link.
    #[cold]
    pub fn admit_query(&mut self, host: IpAddr) -> bool {
        self.take_own(Own::Query, host)
    }

    /// Each network has a share of the whole: what it causes beyond its share uses up nothing of
    /// the others'. Few targets may send to very many clients, and have no shares.
    fn take_own(&mut self, kind: Own, to: IpAddr) -> bool {
        let (now, snapshot) = (self.arrival.now, self.arrival.snapshot);
        let share = kind.rate(self.rates()).div_ceil(NETWORKS_AT_LIMIT);
        let places = || snapshot.bucket_hash.both(Purpose::Own, kind as u16, to);
        let within = snapshot.is_target(to) || self.buckets.own.networks.take(places(), now, share);
        within && self.take_own_of_all(kind)
    }

    fn take_own_of_all(&mut self, kind: Own) -> bool {
        let (now, rate) = (self.arrival.now, kind.rate(self.rates()));
        self.buckets.own.all[kind as usize].take(now, rate)
    }

    /// Whether the tunnel whose counters are in `slot` answers a SYN from `from`.
    pub fn admit_syn_ack(&mut self, slot: ServiceSlot, from: IpAddr) -> bool {
        self.look_for_gateway(from);
        let (rate, now) = (self.rates().syn_ack_per_second, self.arrival.now);
        let place = self.arrival.snapshot.bucket_hash.of(Purpose::SynAck, slot.0, from);
        self.buckets.syn_acks.at(place).is_some_and(|bucket| bucket.take(now, rate))
    }

    /// The buckets of wrong keepalive MACs of `from` at the tunnel whose counters are in `slot`;
    /// `None` when its host, or the address and port alone, have used up theirs. Many agents may be
    /// behind the address of one NAT: each port has a share of what the host has, and one that has
    /// sent no wrong MAC for a second is verified though others have used up the host's. So each
    /// worker verifies at most [`crate::bucket::BUCKETS`] a second beyond what hosts have.
    pub fn keepalive_buckets(&mut self, slot: ServiceSlot, from: SocketAddr) -> Option<WrongMacs> {
        let (rate, now) = (self.rates().keepalive_mac_per_second, self.arrival.now);
        let hash = &self.arrival.snapshot.bucket_hash;
        let places = WrongMacs {
            host: hash.of(Purpose::KeepaliveMac, slot.0, from.ip()),
            endpoint: hash.of_endpoint(Purpose::KeepaliveMac, slot.0, from),
        };
        let Buckets { keepalive_macs, keepalive_macs_of_endpoints, .. } = &mut *self.buckets;
        let host = keepalive_macs.at(places.host)?.has(now, rate);
        let of_endpoint = keepalive_macs_of_endpoints.at(places.endpoint)?;
        let endpoint = of_endpoint.has(now, port_share(rate));
        (endpoint && (host || of_endpoint.is_rested(now))).then_some(places)
    }

    /// Charges a wrong keepalive MAC to a host, and to the address and port that sent it.
    pub fn charge_wrong_mac(&mut self, places: WrongMacs) {
        let (rate, now) = (self.rates().keepalive_mac_per_second, self.arrival.now);
        if let Some(bucket) = self.buckets.keepalive_macs.at(places.host) {
            bucket.take(now, rate);
        }
        if let Some(bucket) = self.buckets.keepalive_macs_of_endpoints.at(places.endpoint) {
            bucket.take(now, port_share(rate));
        }
    }
}

/// The places of the two buckets of wrong keepalive MACs of an address and port.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongMacs {
    host: BucketPlace,
    endpoint: BucketPlace,
}

/// What one port may use of the wrong keepalive MACs of its host.
fn port_share(rate: u32) -> u32 {
    rate.div_ceil(PORTS_AT_LIMIT)
}

/// How many ports that use up their shares it takes to use up the bucket of their host.
const PORTS_AT_LIMIT: u32 = 10;

/// How many networks that use up their shares it takes to use up a bucket, or a table, that all
/// share.
const NETWORKS_AT_LIMIT: u32 = 10;
