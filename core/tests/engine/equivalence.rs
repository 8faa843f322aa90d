//! POP equivalence: POPs built separately from the same config text, each with its own earlier
//! traffic, grouping into bursts, number of workers, restarts and clock, give the same output from
//! the IP header on to the same frame.
//!
//! To see that this can fail, give a POP a memory. A mutant that must not pass: in `pop/burst.rs`
//! add to `Scratch` a set of the clients whose segments had timestamps, and let `segment::outward`
//! set the low bit of a bare segment of a client that is not in it to 0. That is what a relay with
//! connection state would do, and what breaks when the next segment meets another POP. The test
//! then names the seed, the run and the frames that differ.
//!
//! `ANYRELAY_SEED=N` runs one seed, `ANYRELAY_FULL=1` many.

use std::sync::Arc;

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{BURST, Pop};
use anyrelay_core::relay::memo::LIFETIME_MS;

use crate::traffic::{Run, Traffic};
use crate::*;

/// How one of the POPs came to where it is.
#[derive(Clone, Copy, Debug)]
struct History {
    /// Runs of other traffic of the same clients, before any that is compared.
    earlier_runs: usize,
    clock_ahead_ms: u64,
    workers: usize,
    /// One frame at a time, or bursts of random sizes.
    bursts: bool,
    /// Restarts after one run in so many; 0 is never.
    restarts: usize,
    /// Learns its gateways instead of being told.
    learns: bool,
    /// Has buffers that were used before.
    used: bool,
}

const PLAIN: History = History {
    earlier_runs: 0,
    clock_ahead_ms: 0,
    workers: 1,
    bursts: false,
    restarts: 0,
    learns: false,
    used: false,
};

/// A POP of several workers. The first one of its world polls and learns; the others, each with
/// counters of its own, take the traffic.
struct Subject {
    history: History,
    world: World,
    rng: Rng,
}

impl Subject {
    fn new(history: History, seed: u64) -> Subject {
        let config = if history.learns { learning_config() } else { config() };
        let mut world = World::with(&Config::parse("other name.toml", &config.text()).unwrap());
        world.later(history.clock_ahead_ms);
        let mut subject = Subject { history, world, rng: Rng(seed ^ 0x5eed) };
        subject.start();
        let mut earlier = Traffic::new(seed.wrapping_mul(77) ^ history.clock_ahead_ms);
        for _ in 0..history.earlier_runs {
            let run = earlier.run();
            subject.run(&run);
        }
        // What waits for a segment of the earlier traffic is forgotten, as restarts forget it.
        subject.world.later(LIFETIME_MS + 1);
        subject.start();
        subject
    }

    /// Starts over, with nothing remembered.
    fn start(&mut self) {
        let world = &mut self.world;
        if self.history.restarts > 0 || world.workers.len() == 1 {
            world.workers.truncate(1);
            world.restart();
            let counters = || Arc::new(Counters::new(world.snapshot.slots()));
            let worker = |_| Pop::new(world.soft.clone(), counters());
            let workers: Vec<_> = (0..self.history.workers).map(worker).collect();
            world.workers.extend(workers);
        }
        world.restart_worker(0);
        world.poll();
        world.out.sent.clear();
        for (port, gateway, from, own) in [
            (WAN, WAN_GATEWAY, "192.0.2.1", "192.0.2.2"),
            (LAN, LAN_GATEWAY, "10.1.0.1", "10.1.0.2"),
        ] {
            let mac = world.mac(port);
            let reply = arp(2, (gateway, ip(from)), (mac, ip(own)));
            world.bytes(port, &ethernet(mac, gateway, None, 0x0806, &reply));
        }
    }

    /// What the frames of a run give, from the IP header on.
    fn run(&mut self, run: &Run) -> Vec<(PortIndex, Vec<u8>)> {
        let mut sent = Vec::new();
        let mut left = &run.datagrams[..];
        while !left.is_empty() {
            let count = if self.history.bursts { 1 + self.rng.index(BURST) } else { 1 };
            let (now, later) = left.split_at(count.min(left.len()));
            left = later;
            self.world.worker = 1 + self.rng.index(self.history.workers);
            let of = if self.history.used { burst::<Used> } else { burst::<HeapFrame> };
            sent.extend(of(&mut self.world, run.port, now));
            self.world.worker = 0;
            self.world.later(self.rng.index(3) as u64);
        }
        let restarts = self.history.restarts;
        // A restart forgets RSTs that wait: not between a RST and the segment that it answers.
        if restarts > 0 && run.port == WAN && self.rng.chance(1, restarts as u64) {
            self.start();
        }
        sent.into_iter().map(|(port, frame)| (port, frame[14..].to_vec())).collect()
    }
}

fn burst<F: FromBytes>(world: &mut World, port: PortIndex, datagrams: &[Vec<u8>]) -> Sent {
    let frames = datagrams.iter().map(|bytes| F::from_bytes(&world.framed(port, bytes))).collect();
    world.burst::<F>(port, frames)
}

fn histories() -> Vec<History> {
    let burst = History { bursts: true, earlier_runs: 5, clock_ahead_ms: 1000, ..PLAIN };
    vec![
        burst,
        History { earlier_runs: 20, clock_ahead_ms: 2000, restarts: 3, ..PLAIN },
        History { workers: 3, clock_ahead_ms: 700, used: true, ..burst },
        History { workers: 2, restarts: 4, learns: true, ..burst },
    ]
}

fn compare(seed: u64, runs: usize) {
    let mut traffic = Traffic::new(seed);
    let mut reference = Subject::new(PLAIN, seed);
    let mut others: Vec<_> =
        histories().into_iter().map(|history| Subject::new(history, seed)).collect();
    let mut sent = 0;
    for number in 0..runs {
        let run = traffic.run();
        let want = reference.run(&run);
        sent += want.len();
        for other in &mut others {
            let got = other.run(&run);
            assert_eq!(
                want.len(),
                got.len(),
                "seed {seed}, run {number}, {:?}: other frames are dropped or answered",
                other.history
            );
            for (at, (want, got)) in want.iter().zip(&got).enumerate() {
                assert_eq!(
                    want, got,
                    "seed {seed}, run {number} ({:?}), output {at} of {:?}",
                    run.port, other.history
                );
            }
        }
    }
    assert!(sent > runs * 5, "seed {seed}: only {sent} frames were sent in {runs} runs");
}

#[test]
fn pops_with_different_histories_give_the_same_output() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let one = std::env::var("ANYRELAY_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 1..if full { 400 } else { 31 },
    };
    for seed in seeds {
        compare(seed, 100);
    }
}

/// The same for tunnels: POPs of one number, apart in what they saw before, in how frames came in
/// bursts, in buffers and restarts, answer and send on the same.
#[test]
fn tunnels_get_the_same_from_pops_with_different_histories() {
    use crate::tunnel_hostile::{agents, good, mutate, random};
    let seeds = match std::env::var("ANYRELAY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) if std::env::var_os("ANYRELAY_FULL").is_some() => (1..400).collect(),
        Err(_) => (1..20u64).collect::<Vec<_>>(),
    };
    for seed in seeds {
        let mut rng = Rng(seed);
        let mut plain = tunnel_world(1);
        let known = agents(&mut plain);
        let frame = |rng: &mut Rng, world: &World| {
            let mut segment = good(rng, world, &known);
            match rng.index(6) {
                0 => segment = random(rng),
                1 => segment = known[rng.index(4)].syn(world),
                2 => drop(mutate(rng, &mut segment)),
                _ => {}
            }
            world.framed(WAN, &segment.datagram())
        };
        // Another past, at another time.
        let mut other = tunnel_world(1);
        other.later(3_600_000);
        for _ in 0..rng.index(300) {
            let earlier = frame(&mut rng, &other);
            other.bytes(WAN, &earlier);
            other.later(rng.index(50) as u64);
        }
        other.now.unix = plain.now.unix;
        for run in 0..50 {
            let count = 1 + rng.index(BURST);
            let frames: Vec<_> = (0..count).map(|_| frame(&mut rng, &plain)).collect();
            let one_by_one: Sent =
                frames.iter().flat_map(|frame| plain.bytes(WAN, frame)).collect();
            if rng.chance(1, 8) {
                other.restart_worker(0);
            }
            let in_a_burst = match rng.chance(1, 2) {
                true => {
                    other.burst(WAN, frames.iter().map(|frame| Used::from_bytes(frame)).collect())
                }
                false => {
                    other.burst(WAN, frames.iter().map(|frame| HeapFrame::new(frame)).collect())
                }
            };
            assert_eq!(one_by_one.len(), in_a_burst.len(), "seed {seed}, run {run}");
            for (place, (left, right)) in one_by_one.iter().zip(&in_a_burst).enumerate() {
                assert_eq!(left, right, "seed {seed}, run {run}, output {place}");
            }
            let ms = rng.index(3000) as u64;
            plain.later(ms);
            other.later(ms);
        }
    }
}
