//! Attackers: beside the path with what they have stolen, and blind.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::tunnel::{TAIL, Tap, Tunnels};
use crate::common::{eventually, full, milliseconds};
use anyrelay_kit::frames::{ACK, PSH, RST, Segment};
use anyrelay_kit::rng::Rng;
use anyrelay_lab::packet::Injector;
use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::tunnel::stream::{Flow, Plan};

const STRIDE: u32 = 4096;

fn lab() -> TunnelLab {
    TunnelLab::builder().pops(1).tick_ms(1000).build().unwrap()
}

/// Steals what an agent sends and sends it once more, changed, from beside the path.
struct Thief {
    tunnels: Tunnels,
    flow: Flow,
    tap: Tap,
    outsider: Injector,
}

impl Thief {
    fn start() -> Self {
        let tunnels = Tunnels::start(lab());
        let outsider = Injector::open(&tunnels.lab.topology.outsider).unwrap();
        let tap = Tap::open(&tunnels.lab, 1);
        let flow = tunnels.flow(Plan::both(500));
        Self { tunnels, flow, tap, outsider }
    }

    /// How many of 50 were forwarded: a copy of a datagram that was sent arrives as a duplicate.
    fn forwarded(&self, change: impl Fn(&mut Segment)) -> u64 {
        let before = self.flow.duplicates().0;
        let mut stolen = Vec::new();
        eventually("50 segments are stolen", Duration::from_secs(30), || {
            // All of one time: none is to be old.
            stolen = self.tap.data_up(milliseconds(300));
            stolen.len() >= 50
        });
        for segment in stolen.iter_mut().take(50) {
            change(segment);
            self.outsider.send(&segment.from_host()).unwrap();
        }
        std::thread::sleep(TAIL);
        self.flow.duplicates().0 - before
    }
}

#[test]
fn stolen_token_is_good_only_from_its_source_and_in_sequence() {
    let thief = Thief::start();
    // Who sees an agent's packets can send as that agent: the rest could not fail otherwise.
    assert!(thief.forwarded(|_| {}) >= 45);
    let elsewhere: SocketAddr = "198.18.99.2:50000".parse().unwrap();
    assert_eq!(thief.forwarded(|segment| segment.src = elsewhere), 0);
    assert_eq!(thief.forwarded(|segment| segment.src.set_port(segment.src.port() ^ 1)), 0);
    let sequence = |n: u32| move |segment: &mut Segment| segment.seq = segment.seq.wrapping_add(n);
    assert_eq!(thief.forwarded(sequence(5 * STRIDE)), 0);
    assert_eq!(thief.forwarded(sequence(0x4000_0000)), 0);
    let ack = |n: u32| move |segment: &mut Segment| segment.ack = segment.ack.wrapping_sub(n);
    assert_eq!(thief.forwarded(ack(1)), 0);
    assert_eq!(thief.forwarded(ack(20 * STRIDE)), 0);
    assert!(thief.forwarded(|_| {}) >= 45, "as at first");
    let (up, _) = thief.flow.finish(TAIL);
    assert_eq!((up.lost.len(), up.corrupted), (0, 0), "{}", thief.tunnels.account());
}

/// With the right numbers and ahead of time, so that it would move the ack if anything did.
#[test]
fn forged_data_down_does_not_move_the_ack() {
    let tunnels = Tunnels::start(lab());
    let outsider = Injector::open(&tunnels.lab.topology.outsider).unwrap();
    let tap = Tap::open(&tunnels.lab, 1);
    let flow = tunnels.flow(Plan::both(500));
    let down = tap.data_down(milliseconds(100));
    let invalid = tunnels.lab.site(1).nat.invalid().unwrap();
    for ticks in 0..4 {
        for segment in down.iter().take(10) {
            let mut forged = segment.clone();
            forged.seq = forged.seq.wrapping_add(ticks * STRIDE + 64);
            outsider.send(&forged.from_host()).unwrap();
        }
    }
    std::thread::sleep(milliseconds(50));
    assert_eq!(tunnels.lab.site(1).nat.invalid().unwrap(), invalid, "the NAT lets it through");
    // Four ticks later the POP's numbers are there by themselves.
    let newest = down.iter().map(|segment| segment.seq).max().unwrap();
    for segment in tap.data_up(milliseconds(300)) {
        let ahead = segment.ack.wrapping_sub(newest).cast_signed();
        assert!(ahead <= 0, "ack {ahead} ahead of what was received from a POP");
    }
    std::thread::sleep(milliseconds(2000));
    tunnels.wait_for_arrivals(&flow, Duration::from_secs(20));
    let (up, _) = flow.finish(TAIL);
    assert!(up.lost.is_empty(), "{}", tunnels.account());
}

/// Without having seen a packet: addresses and ports are known, numbers are guessed.
#[test]
fn blind_injection_does_not_kill_the_flow() {
    let (trials, guesses) = if full() { (20, 2000) } else { (3, 2000) };
    let tunnels = Tunnels::start(lab());
    let outsider = Injector::open(&tunnels.lab.topology.outsider).unwrap();
    let entry = tunnels.lab.site(1).nat.entries().unwrap().pop().unwrap();
    let agent = SocketAddr::new(tunnels.lab.site(1).public(), entry.public_port);
    let vip = tunnels.lab.topology.family.vip();
    let flow = tunnels.flow(Plan::both(500));
    let seed = 42;
    println!("seed {seed}");
    let mut rng = Rng(seed);
    let mut kinds = [RST, RST | ACK, PSH | ACK, ACK].iter().cycle();
    for _ in 0..trials {
        for n in 0..guesses {
            let random = rng.next();
            let flags = *kinds.next().unwrap();
            let (src, dst) = if n % 2 == 0 { (vip, agent) } else { (agent, vip) };
            let data = if flags & PSH == 0 { Vec::new() } else { vec![0x40; 60] };
            let (seq, ack) = ((random >> 32) as u32, random as u32);
            let segment = Segment { seq, ack, data, ttl: 64, ..Segment::new(src, dst, flags) };
            outsider.send(&segment.from_host()).unwrap();
            if n % 100 == 99 {
                std::thread::sleep(milliseconds(2));
            }
        }
        tunnels.wait_for_arrivals(&flow, Duration::from_secs(20));
    }
    let (up, down) = flow.finish(TAIL);
    assert_eq!((up.corrupted, down.corrupted), (0, 0));
    assert_eq!(up.lost.len() + down.lost.len(), 0, "{}", tunnels.account());
    assert_eq!(tunnels.connecting[0].counter("handshakes").unwrap(), 1);
}

/// A RST that the NAT believes makes its entry close within seconds. The agent comes back.
#[test]
fn reset_with_the_exact_number_is_survived() {
    let tunnels = Tunnels::start(lab());
    let outsider = Injector::open(&tunnels.lab.topology.outsider).unwrap();
    let tap = Tap::open(&tunnels.lab, 1);
    let flow = tunnels.flow(Plan::both(500));
    let vip = tunnels.lab.topology.family.vip();
    // A busy machine may be late for the tick whose number it saw: then once more with the next.
    eventually("the agent saw it", Duration::from_secs(30), || {
        let up = tap.collect(milliseconds(1500));
        let up: Vec<_> = up.into_iter().filter(|segment| segment.dst == vip).collect();
        let age = |segment: &&Segment| segment.ack.wrapping_sub(up[0].ack).cast_signed();
        // The newest ack of all, a keepalive's.
        let newest = up.iter().max_by_key(age).unwrap();
        let segment = Segment { seq: newest.ack, ttl: 64, ..Segment::new(vip, newest.src, RST) };
        outsider.send(&segment.from_host()).unwrap();
        std::thread::sleep(milliseconds(100));
        tunnels.connecting[0].counter("resets").unwrap() >= 1
    });
    // Longer than the entry would live if nothing was done.
    std::thread::sleep(Duration::from_secs(if full() { 15 } else { 3 }));
    tunnels.wait_for_arrivals(&flow, Duration::from_secs(20));
    eventually("the entry is open again", Duration::from_secs(30), || {
        let entry = tunnels.lab.site(1).nat.entries().unwrap().pop();
        entry.is_some_and(|entry| entry.state == "ESTABLISHED")
    });
}
