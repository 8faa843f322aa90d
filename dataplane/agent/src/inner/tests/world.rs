//! Inner sides on a network that loses, delays, reorders and duplicates, from a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use anyrelay_core::time::{Instant, Now, UnixTime};

use crate::inner::counters::InnerDrop;
use crate::inner::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::inner::{InnerSide, PeerConfig};

/// No numbers, with the type that comparisons need.
pub const NOTHING: [u64; 0] = [];

/// The locator of a side.
pub type Locator = u32;

/// Small, fast, and the same on all machines (SplitMix64).
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The faults of the network.
#[derive(Clone, Copy)]
pub struct Network {
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay_ms: u64,
    pub jitter_ms: u64,
}

pub const PERFECT: Network =
    Network { loss_percent: 0, duplicate_percent: 0, delay_ms: 20, jitter_ms: 0 };
pub const BAD: Network =
    Network { loss_percent: 20, duplicate_percent: 10, delay_ms: 20, jitter_ms: 60 };

/// A message in flight.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at_ms: u64,
    order: u64,
    from: Locator,
    to: Locator,
    body: Vec<u8>,
}

pub struct World {
    pub now_ms: u64,
    pub network: Network,
    pub rng: Rng,
    pub sides: Vec<InnerSide<Locator>>,
    /// The side at each locator.
    pub locators: HashMap<Locator, usize>,
    /// Packets delivered to each side's device.
    pub delivered: Vec<Vec<Vec<u8>>>,
    /// All messages ever sent, with source and destination.
    pub log: Vec<(Locator, Locator, Vec<u8>)>,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
}

pub fn private(side: usize) -> PrivateKey {
    PrivateKey::new([side as u8 + 1; 32])
}

pub fn public(side: usize) -> PublicKey {
    private(side).public().unwrap()
}

/// Side `side` owns 10.9.0.`side`.
pub fn peer(side: usize, locator: Option<Locator>) -> PeerConfig<Locator> {
    PeerConfig {
        name: format!("side-{side}"),
        public_key: public(side),
        preshared_key: None,
        locator,
        allowed: vec![format!("10.9.0.{side}/32").parse().unwrap()],
        keepalive_seconds: 0,
    }
}

pub fn shared(byte: u8) -> Option<PresharedKey> {
    Some(PresharedKey::new([byte; 32]))
}

/// A packet from side `src` to side `dst` with a number.
pub fn packet(src: usize, dst: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[0] = 0x45;
    bytes[3] = 28;
    bytes[12..16].copy_from_slice(&[10, 9, 0, src as u8]);
    bytes[16..20].copy_from_slice(&[10, 9, 0, dst as u8]);
    bytes[20..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub fn number_of(packet: &[u8]) -> u64 {
    u64::from_be_bytes(packet[20..28].try_into().unwrap())
}

impl World {
    /// Sides 0, 1, ... at locators 100, 101, ..., each with its peers.
    pub fn new(seed: u64, network: Network, peers: Vec<Vec<PeerConfig<Locator>>>) -> World {
        let mut world = World {
            now_ms: 1_000_000,
            network,
            rng: Rng(seed),
            sides: Vec::new(),
            locators: HashMap::new(),
            delivered: vec![Vec::new(); peers.len()],
            log: Vec::new(),
            flying: BinaryHeap::new(),
            order: 0,
        };
        for (side, peers) in peers.into_iter().enumerate() {
            let inner = world.side(side, peers);
            world.sides.push(inner);
            world.locators.insert(100 + side as Locator, side);
        }
        world
    }

    /// Two sides that have each other's key and locator.
    pub fn pair(seed: u64, network: Network) -> World {
        World::new(seed, network, vec![vec![peer(1, Some(101))], vec![peer(0, Some(100))]])
    }

    pub fn side(&mut self, side: usize, peers: Vec<PeerConfig<Locator>>) -> InnerSide<Locator> {
        let mut rng = Rng(self.rng.next());
        let random = move |bytes: &mut [u8]| {
            bytes.fill_with(|| rng.next() as u8);
            true
        };
        InnerSide::new(private(side), peers, Box::new(random)).unwrap()
    }

    /// Replaces a side by a new one without state, like a restarted process.
    pub fn restart(&mut self, side: usize, peers: Vec<PeerConfig<Locator>>) {
        self.sides[side] = self.side(side, peers);
    }

    pub fn now(&self) -> Now {
        Now {
            instant: Instant::from_millis(self.now_ms),
            unix: UnixTime::from_millis(self.now_ms + 1_700_000_000_000),
        }
    }

    pub fn locator_of(&self, side: usize) -> Locator {
        let here = self.locators.iter().filter(|(_, at)| **at == side).map(|(locator, _)| *locator);
        here.max().unwrap()
    }

    pub fn send(&mut self, side: usize, packet: &[u8]) {
        self.with(side, |inner, now, out| inner.send(now, packet, out));
    }

    /// Delivers a message, which may be forged.
    pub fn inject(&mut self, from: Locator, side: usize, body: &[u8]) {
        let mut delivered = None;
        self.with(side, |inner, now, out| {
            delivered = inner.receive(now, from, body, out).map(<[u8]>::to_vec);
        });
        self.delivered[side].extend(delivered);
    }

    /// Advances the time in steps of a millisecond.
    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            while self.flying.peek().is_some_and(|Reverse(next)| next.at_ms <= self.now_ms) {
                let Reverse(next) = self.flying.pop().unwrap();
                if let Some(&side) = self.locators.get(&next.to) {
                    self.inject(next.from, side, &next.body);
                }
            }
            let now = self.now().instant;
            for side in 0..self.sides.len() {
                if self.sides[side].next_timer().is_some_and(|at| at <= now) {
                    self.with(side, |inner, now, out| inner.poll(now, out));
                }
                let next = self.sides[side].next_timer();
                assert!(next.is_none_or(|at| at > now), "a timer that poll does not move on");
            }
        }
    }

    pub fn drops(&self, side: usize, reason: InnerDrop) -> u64 {
        self.sides[side].drops().get(reason)
    }

    pub fn sessions(&self, side: usize) -> u64 {
        self.sides[side].status(self.now().instant)[0].traffic.sessions
    }

    /// The numbers delivered to `side` since the last call.
    pub fn numbers(&mut self, side: usize) -> Vec<u64> {
        let packets = std::mem::take(&mut self.delivered[side]);
        packets.iter().map(|packet| number_of(packet)).collect()
    }

    fn with(
        &mut self,
        side: usize,
        act: impl FnOnce(&mut InnerSide<Locator>, Now, &mut crate::inner::Out<'_, Locator>),
    ) {
        let (now, from) = (self.now(), self.locator_of(side));
        let mut sent = Vec::new();
        act(&mut self.sides[side], now, &mut |to, body: &[u8]| sent.push((to, body.to_vec())));
        for (to, body) in sent {
            self.log.push((from, to, body.clone()));
            if self.rng.percent(self.network.loss_percent) {
                continue;
            }
            let copies = 1 + u64::from(self.rng.percent(self.network.duplicate_percent));
            for _ in 0..copies {
                let delay = self.network.delay_ms + self.rng.below(self.network.jitter_ms);
                self.order += 1;
                let (at_ms, order) = (self.now_ms + delay, self.order);
                self.flying.push(Reverse(Flying { at_ms, order, from, to, body: body.clone() }));
            }
        }
    }
}
