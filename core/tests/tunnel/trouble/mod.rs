//! What agents do when something goes wrong: sleep, lost handshakes, RSTs, NATs that forget,
//! proxies that keep old numbers, programs that start again, keys that change.

mod middleboxes;
mod restarts;

use anyrelay_core::keys::{Epoch, Epochs, Secret};
use anyrelay_core::predict::Constants;
use anyrelay_core::tunnel::agent::{FlowProblem, FlowState, Saved, SendError};
use anyrelay_core::wire::tcp::{ACK, FIN, RST};
use anyrelay_kit::nat::{Boxes, Invalid, Packet, Side};
use anyrelay_kit::rng::Rng;
use anyrelay_kit::tunnel;

use crate::flows::{PLAIN, pair, seeds};
use crate::world::World;

fn two_pops(seed: u64) -> World {
    World::new(seed, Constants::default()).with_pops(&[0, 8000])
}

/// A datagram from `from` to the token arrives at `to` within a second.
fn assert_reaches(world: &mut World, seed: u64, from: usize, to: usize) {
    let token = world.token(to);
    world.sites[to].received.clear();
    world.send(from, &token, b"hello").unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    world.run(1000);
    let status = world.sites[to].agent.status(world.instant());
    assert_eq!(world.sites[to].received.len(), 1, "seed {seed}: {status:#?} {:?}", world.drops);
}

fn reset(world: &World, site: usize, exact: bool) -> Packet {
    let mut keepalive = world.sites[site].last_keepalive.clone().unwrap();
    let public = world.sites[site].flows.last().unwrap().public;
    keepalive.set_addresses(public, keepalive.dst);
    let head = keepalive.head();
    let seq = if exact { head.ack } else { head.ack.plus(100) };
    tunnel::back(&keepalive, (seq, head.seq), RST | ACK, &[], &[])
}

/// The same behind the NAT.
fn inside(world: &World, site: usize, mut packet: Packet) -> Packet {
    let site = &world.sites[site];
    packet.set_addresses(packet.src, (site.local, site.agent.port()).into());
    packet
}

#[test]
fn a_sleep_of_some_ticks_is_bridged() {
    for seed in seeds(10) {
        for ticks in [2, 4, 8] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, Boxes { strips_scale: true, ..PLAIN });
            world.exchange(a, b, 100, 100);
            world.sites[a].asleep_until_ms = world.now_ms() + ticks * 8000;
            for _ in 0..ticks * 8 {
                let token = world.token(a);
                world.send(b, &token, &[1; 1200]).unwrap();
                world.run(1000);
            }
            world.run(200);
            assert_reaches(&mut world, seed, a, b);
            assert_reaches(&mut world, seed, b, a);
            if ticks > 4 {
                // With more than LAG + 2 ticks of silence, skew and the keepalive's interval
                // counted in, POPs ack what the sleeper has not sent: what comes then is for
                // nobody.
                let woken = |at: u64| at + 1200 >= world.now_ms();
                let late: Vec<_> =
                    world.sites[a].invalid.iter().filter(|one| woken(one.0)).collect();
                assert!(late.is_empty(), "seed {seed}: {late:?}");
                let expected = (Side::Reply, Invalid::AckOverUpper);
                assert!(world.sites[a].invalid.iter().all(|one| (one.1, one.2) == expected));
                world.sites[a].invalid.clear();
            }
            world.assert_clean(seed);
            let counters = *world.sites[a].agent.counters();
            assert_eq!((counters.re_syns, counters.new_ports), (0, 0), "seed {seed}");
        }
    }
}

#[test]
fn after_a_long_sleep_the_old_token_still_works() {
    for seed in seeds(10) {
        for boxes in [PLAIN, Boxes { strips_scale: true, ..PLAIN }] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, boxes);
            let (port, token) = (world.sites[a].agent.port(), world.token(a));
            let version = world.sites[a].agent.token_version();
            world.sites[a].asleep_until_ms = world.now_ms() + 20 * 8000;
            world.run(20 * 8000);
            let refused = world.send(a, &token, b"too early");
            assert_eq!(refused, Err(SendError::NotReady), "seed {seed}");
            world.run(1000);
            assert_eq!(world.sites[a].agent.status(world.instant()).state, FlowState::Ready);
            assert_eq!(world.sites[a].agent.port(), port);
            assert_eq!(world.sites[a].agent.token_version(), version);
            assert_eq!(world.sites[a].agent.counters().re_syns, 1, "seed {seed}");
            world.send(b, &token, b"to the old token").unwrap();
            world.run(1000);
            assert_eq!(world.sites[a].received.len(), 1, "seed {seed}");
            world.exchange(a, b, 300, 100);
            world.assert_clean(seed);
        }
    }
}

/// While peers send: what they send in between is for nobody, but the flow must come up again.
#[test]
fn a_handshake_from_the_same_port_comes_up_while_peers_send() {
    for seed in seeds(20) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let now = world.instant();
        let mut out = Vec::new();
        world.sites[a].agent.rebound(now, &mut crate::world::collect(&mut out));
        world.leave(a, out);
        let (before, token) = (world.now_ms(), world.token(a));
        for _ in 0..2000 {
            world.send(b, &token, &[2; 500]).unwrap();
            world.run(1);
        }
        world.run(100);
        world.assert_clean(seed);
        let last = world.sites[a].received.last().expect("received").0;
        assert!(last > before + 1900, "seed {seed}: nothing after {last}");
        // Nothing is lost at all: the firewall has the flow as it was.
        assert_eq!(world.sites[a].received.len(), 2000, "seed {seed}");
    }
}

#[test]
fn a_lost_handshake_is_repeated() {
    for seed in seeds(10) {
        for way in [0, 1] {
            let mut world = two_pops(seed);
            let a = world.add_site(PLAIN);
            world.sites[a].cut[way] = true;
            world.run(5000);
            let status = world.sites[a].agent.status(world.instant());
            assert_eq!(status.problem, Some(FlowProblem::NoHandshake), "seed {seed}");
            assert_eq!(status.state, FlowState::Connecting);
            world.sites[a].cut[way] = false;
            world.run_until_ready(a);
            world.run(60_000);
            world.assert_clean(seed);
            let status = world.sites[a].agent.status(world.instant());
            assert_eq!((status.problem, status.counters.new_ports), (None, 0), "seed {seed}");
        }
    }
}

/// Half of all segments of the first minutes are lost: handshakes, third ACKs, keepalives.
#[test]
fn a_bad_start_ends_well() {
    for seed in seeds(40) {
        for strips_scale in [false, true] {
            let mut world = two_pops(seed);
            world.weather.lost = 500;
            world.weather.doubled = 100;
            world.weather.jitter_us = 50_000;
            let a = world.add_site(Boxes { strips_scale, ..PLAIN });
            let b = world.add_site(Boxes { strips_scale, ..PLAIN });
            world.exchange(a, b, 1200, 100);
            world.weather.lost = 0;
            world.weather.doubled = 0;
            world.run_until_ready(a);
            world.run_until_ready(b);
            world.run(20_000);
            assert_reaches(&mut world, seed, a, b);
            assert_reaches(&mut world, seed, b, a);
        }
    }
}

#[test]
fn a_reset_at_the_last_ack_leads_to_a_handshake_and_another_to_a_keepalive() {
    for seed in seeds(10) {
        for exact in [true, false] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, PLAIN);
            world.exchange(a, b, 200, 100);
            let (port, token) = (world.sites[a].agent.port(), world.token(a));
            let before = *world.sites[a].agent.counters();
            let packet = reset(&world, a, exact);
            world.arrive(a, packet.clone());
            world.run(2);
            world.sites[a].invalid.clear();
            world.run(200);
            let after = *world.sites[a].agent.counters();
            assert_eq!(after.resets, before.resets + 1, "seed {seed}");
            assert_eq!(after.re_syns, before.re_syns + u64::from(exact), "seed {seed}");
            assert!(after.keepalives_sent > before.keepalives_sent, "seed {seed}");
            // Again at once: not more than one of each in a tick's length.
            for _ in 0..10 {
                let packet = reset(&world, a, exact);
                world.deliver(a, &inside(&world, a, packet));
            }
            let again = *world.sites[a].agent.counters();
            assert_eq!(again.re_syns, after.re_syns, "seed {seed}");
            assert!(again.keepalives_sent <= after.keepalives_sent + 1, "seed {seed}");
            world.run(60_000);
            assert_eq!(world.sites[a].agent.port(), port, "seed {seed}");
            world.send(b, &token, b"still there").unwrap();
            world.run(1000);
            world.assert_clean(seed);
            let heard = world.sites[a].received.last().map(|(_, body, _)| body.clone());
            assert_eq!(heard, Some(b"still there".to_vec()), "seed {seed}");
        }
    }
}

#[test]
fn fins_are_ignored() {
    for seed in seeds(3) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let mut packet = reset(&world, a, true);
        packet.tcp[13] = FIN | ACK;
        world.deliver(a, &inside(&world, a, packet));
        assert_eq!(world.sites[a].agent.counters().fins, 1);
        assert_reaches(&mut world, seed, b, a);
        world.assert_clean(seed);
    }
}
