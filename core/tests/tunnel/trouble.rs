//! What agents do when something goes wrong: sleep, lost handshakes, RSTs, NATs that forget,
//! proxies that keep old numbers, programs that start again, keys that change.

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

/// The NAT was restarted: it knows nothing of the flow and gives it another public port.
#[test]
fn a_nat_that_forgot_is_told_anew_and_a_new_token_is_announced() {
    for seed in seeds(10) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let version = world.sites[a].agent.token_version();
        let public = world.sites[a].agent.status(world.instant()).public;
        world.sites[a].flows.clear();
        world.run(20_000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        assert_ne!(status.public, public);
        assert!(world.sites[a].agent.token_version() > version);
        assert_eq!((status.counters.re_syns, status.counters.new_ports), (1, 0), "seed {seed}");
        assert_reaches(&mut world, seed, b, a);
        assert_reaches(&mut world, seed, a, b);
    }
}

/// A program that starts again with its state file keeps port, numbers and token.
#[test]
fn a_restart_with_saved_state_keeps_the_token() {
    for seed in seeds(10) {
        for strips_scale in [false, true] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, Boxes { strips_scale, ..PLAIN });
            world.exchange(a, b, 50, 100);
            let token = world.token(a);
            let saved = world.sites[a].agent.saved().map(|saved| saved.serialize());
            world.run(3000);
            // Its own clock may be wrong by two minutes now.
            world.restart_with_wrong_clock(a, Saved::parse(&saved.unwrap()).unwrap());
            world.run_until_ready(a);
            world.sites[a].received.clear();
            world.send(b, &token, b"old token").unwrap();
            world.run(1000);
            assert_eq!(world.sites[a].received.len(), 1, "seed {seed}: {:?}", world.drops);
            world.exchange(a, b, 300, 100);
            assert_eq!(world.sites[a].agent.counters().new_ports, 0, "seed {seed}");
            world.assert_clean(seed);
        }
    }
}

/// Of another service's state nothing is used.
#[test]
fn state_of_another_vip_is_not_used() {
    let mut world = two_pops(1);
    let (a, _) = pair(&mut world, PLAIN);
    let saved = world.sites[a].agent.saved().unwrap();
    let other = Saved { vip: "203.0.113.21:443".parse().unwrap(), ..saved };
    world.restart(a, Some(other));
    assert_ne!(world.sites[a].agent.port(), saved.port);
    world.run_until_ready(a);
}

/// An ISN rewriter that moves numbers otherwise after a new handshake: acks that are made from old
/// tokens would be wrong, so that port must not be reached by them again.
#[test]
fn a_rewriter_that_changes_its_mind_leads_to_a_new_port() {
    for seed in seeds(10) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, Boxes { rewrites: true, ..PLAIN });
        let (port, version) = (world.sites[a].agent.port(), world.sites[a].agent.token_version());
        world.sites[a].asleep_until_ms = world.now_ms() + 20 * 8000;
        world.run(20 * 8000);
        world.run_until_ready(a);
        world.run(1000);
        let counters = *world.sites[a].agent.counters();
        assert_eq!((counters.re_syns, counters.new_ports), (1, 1), "seed {seed}");
        assert_ne!(world.sites[a].agent.port(), port);
        assert!(world.sites[a].agent.token_version() > version);
        world.exchange(a, b, 300, 100);
        world.assert_clean(seed);
        assert_reaches(&mut world, seed, b, a);
    }
}

/// Behind a proxy that answers SYNs by itself and keeps an old translation, a handshake succeeds
/// and no keepalive is answered: only another port helps.
#[test]
fn a_proxy_that_keeps_old_numbers_leads_to_a_new_port() {
    fn mistranslate(_: &mut Rng, packet: &mut Packet) -> bool {
        if packet.src.port() % 2 == 1 && packet.payload().len() > 1 {
            packet.set_ack(packet.head().ack.plus(12_345));
        }
        true
    }
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let a = world.add_site(PLAIN);
        world.sites[a].spoil_up = Some(mistranslate);
        // The model's NAT would find the spoilt ack INVALID: here that stands for the proxy.
        world.run(120_000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.state, FlowState::Ready, "seed {seed}: {status:#?}");
        assert_eq!(status.port % 2, 0);
    }
}

#[test]
fn a_wrong_key_is_told_and_does_not_flood() {
    for seed in seeds(3) {
        let mut world = World::new(seed, Constants::default());
        let config = world.config(false);
        let key = world.agent_key(9).key;
        let a = world.add_agent(
            anyrelay_core::tunnel::agent::AgentSetup {
                key: anyrelay_core::keys::AgentKey { key, ..config.key },
                ..config
            },
            PLAIN,
        );
        world.run(3600 * 1000);
        let status = world.sites[a].agent.status(world.instant());
        assert_eq!(status.problem, Some(FlowProblem::NoAnswer), "seed {seed}: {status:#?}");
        assert!(status.counters.new_ports <= 70, "seed {seed}: {status:#?}");
        assert!(world.sites[a].agent.token().is_none());
    }
}

/// All POPs are gone for a while; then the flow goes on by itself from the same port.
#[test]
fn an_outage_is_survived() {
    for seed in seeds(10) {
        for outage_ms in [300, 3000, 30_000, 300_000] {
            let mut world = two_pops(seed);
            let (a, b) = pair(&mut world, PLAIN);
            let token = world.token(a);
            world.pops.iter_mut().for_each(|pop| pop.alive = false);
            world.run(outage_ms);
            world.pops.iter_mut().for_each(|pop| pop.alive = true);
            world.run(10_000);
            world.send(b, &token, b"back").unwrap();
            world.run(1000);
            let status = world.sites[a].agent.status(world.instant());
            assert_eq!(world.sites[a].received.len(), 1, "seed {seed} {outage_ms}: {status:#?}");
            assert_eq!(status.counters.new_ports, 0, "seed {seed} {outage_ms}");
            world.assert_clean(seed);
        }
    }
}

/// A token epoch begins while data flows: nothing is lost, new tokens are announced, and the old
/// ones lead to the agents for another day.
#[test]
fn a_token_epoch_begins_while_data_flows() {
    for seed in seeds(5) {
        let mut world = two_pops(seed);
        let (a, b) = pair(&mut world, PLAIN);
        let old = [world.token(a), world.token(b)];
        let versions = [a, b].map(|site| world.sites[site].agent.token_version());
        let not_before = world.pop_time(0).plus_millis(60_000);
        let secret = Secret::new([world.rng.next() as u8; 32]);
        world.change_keys(|keys| {
            let first = keys.tokens.iter().next().unwrap().clone();
            let next = Epoch { number: first.number.wrapping_add(1), secret, not_before };
            keys.tokens = Epochs::new(first, Some(next)).unwrap();
        });
        let mut sent = 0u64;
        for _ in 0..1200 {
            for (from, to) in [(a, old[1]), (b, old[0])] {
                sent += 1;
                world.send(from, &to, &[&sent.to_be_bytes()[..], &[0; 500]].concat()).unwrap();
            }
            world.run(100);
        }
        world.run(1000);
        assert_eq!(world.arrived(), sent, "seed {seed}");
        world.assert_clean(seed);
        for (site, old, version) in [(a, old[0], versions[0]), (b, old[1], versions[1])] {
            let token = world.token(site);
            assert_eq!(token.epoch, old.epoch.wrapping_add(1), "seed {seed}");
            assert_eq!(world.sites[site].agent.token_version(), version + 1, "seed {seed}");
            // The sender's token that came with data is as good as the published one.
            let other = if site == a { b } else { a };
            let from = world.sites[other].received.last().unwrap().2;
            world.send(other, &from, b"back").unwrap();
            world.run(1000);
            assert_eq!(world.sites[site].received.last().unwrap().1, b"back", "seed {seed}");
        }
        world.run(25 * 3600 * 1000);
        world.send(b, &old[0], b"too late").unwrap();
        world.run(1000);
        assert_eq!(world.drops.len(), 1, "seed {seed}: {:?}", world.drops);
        let token = world.token(a);
        world.send(b, &token, b"in time").unwrap();
        world.run(1000);
        assert_eq!(world.sites[a].received.last().unwrap().1, b"in time", "seed {seed}");
    }
}

/// Something on the way shifts the numbers of each keepalive by another amount, and those of its
/// answer back: the base never comes to where it should be. The agent goes on asking, but not
/// without end.
#[test]
fn numbers_that_are_changed_each_time_are_not_chased() {
    /// By the nonce, whose last byte is here, and which request and reply share.
    fn shift(packet: &Packet, at: usize) -> u32 {
        u32::from(packet.payload()[at]) << 6 | 0x20
    }
    fn up(_: &mut Rng, packet: &mut Packet) -> bool {
        if matches!(packet.payload().first().map(|first| first >> 4), Some(1)) {
            packet.set_seq(packet.head().seq.plus(shift(packet, 15)));
        }
        true
    }
    fn down(_: &mut Rng, packet: &mut Packet) -> bool {
        if matches!(packet.payload().first().map(|first| first >> 4), Some(2)) {
            packet.set_ack(packet.head().ack.plus(shift(packet, 9).wrapping_neg()));
        }
        true
    }
    for seed in seeds(5) {
        let mut world = World::new(seed, Constants::default());
        let a = world.add_site(PLAIN);
        world.sites[a].spoil_up = Some(up);
        world.sites[a].spoil_down = Some(down);
        world.run(40_000);
        let counters = *world.sites[a].agent.counters();
        // Five ticks: four steps at once, then one or two in each tick.
        assert!(counters.keepalives_answered > 4, "seed {seed}: {counters:?}");
        assert!(counters.keepalives_sent < 40, "seed {seed}: {counters:?}");
    }
}
