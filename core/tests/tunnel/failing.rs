//! The model can tell right from wrong: each rule of the protocol that is broken shows.

use anyrelay_core::predict::Constants;
use anyrelay_core::seq::SeqNum;
use anyrelay_kit::nat::{Boxes, Invalid, Packet, Rules, Side, Spoil};
use anyrelay_kit::rng::Rng;

use crate::flows::{PLAIN, pair, seeds};
use crate::world::World;

/// What is INVALID at the first of two sites when this is done to what comes to it from outside.
fn spoilt_down(seed: u64, ahead_ms: &[i64], strips_scale: bool, spoil: Spoil) -> Vec<Invalid> {
    let mut world = World::new(seed, Constants::default()).with_pops(ahead_ms);
    let (a, b) = pair(&mut world, Boxes { strips_scale, ..PLAIN });
    world.sites[a].spoil_down = Some(spoil);
    // The agent sends no data of its own: then all that it sent is what its keepalives said.
    let token = world.token(a);
    for _ in 0..500 {
        world.send(b, &token, &[7; 1000]).unwrap();
        world.run(100);
    }
    world.sites[a].invalid.iter().map(|(_, _, reason, _)| *reason).collect()
}

fn move_data(packet: &mut Packet, seq: u32, ack: u32) -> bool {
    let head = packet.head();
    if packet.is_data() {
        packet.set_seq(head.seq.plus(seq));
        packet.set_ack(head.ack.plus(ack));
    }
    true
}

#[test]
fn nothing_spoilt_is_clean() {
    for seed in seeds(5) {
        assert_eq!(spoilt_down(seed, &[0, 8000], true, |_, _| true), []);
        assert_eq!(spoilt_down(seed, &[0, 8000], false, |_, packet| move_data(packet, 0, 0)), []);
    }
}

#[test]
fn a_random_or_zero_ack_is_invalid() {
    fn random(rng: &mut Rng, packet: &mut Packet) -> bool {
        let ack = rng.next() as u32;
        move_data(packet, 0, ack)
    }
    fn zero(_: &mut Rng, packet: &mut Packet) -> bool {
        if packet.is_data() {
            packet.set_ack(SeqNum(0));
        }
        true
    }
    for seed in seeds(5) {
        let invalid = spoilt_down(seed, &[0], false, random);
        assert!(invalid.contains(&Invalid::AckOverUpper), "seed {seed}: {invalid:?}");
        assert!(invalid.contains(&Invalid::AckUnderLower), "seed {seed}: {invalid:?}");
        assert!(spoilt_down(seed, &[0], false, zero).len() > 100, "seed {seed}");
    }
}

/// A base rounded up by half a block, as if agents did not align it.
#[test]
fn a_base_rounded_up_is_invalid() {
    for seed in seeds(5) {
        let invalid = spoilt_down(seed, &[0], false, |_, packet| move_data(packet, 0, 0x8000));
        assert!(invalid.len() > 300, "seed {seed}: {invalid:?}");
        assert!(invalid.iter().all(|reason| *reason == Invalid::AckOverUpper), "seed {seed}");
    }
}

/// LAG = 0 with a POP that is three ticks ahead acks what the agent has not sent; LAG = 4 does not.
#[test]
fn without_lag_a_fast_pop_acks_too_much() {
    for seed in seeds(5) {
        for lag in [0, 4] {
            let mut world = World::new(seed, Constants::default()).with_pops(&[0, 24_000]);
            let (a, b) = (world.add_site(PLAIN), world.add_site(PLAIN));
            // The agent speaks to the slow POP, its peer to the fast one.
            world.sites[a].route = Some(0);
            world.sites[b].route = Some(1);
            world.run_until_ready(a);
            world.run_until_ready(b);
            if lag == 0 {
                world.sites[a].spoil_down = Some(|_, packet| move_data(packet, 0, 4 * 4096));
            }
            let token = world.token(a);
            for _ in 0..100 {
                world.send(b, &token, &[7; 1000]).unwrap();
                world.run(100);
            }
            let invalid = &world.sites[a].invalid;
            // Most of them: while ticks turn, the slow POP's may be a tick nearer.
            let expected = if lag == 0 { 50..=100 } else { 0..=0 };
            assert!(expected.contains(&invalid.len()), "seed {seed}: {}", invalid.len());
            assert!(invalid.iter().all(|(_, _, reason, _)| *reason == Invalid::AckOverUpper));
        }
    }
}

/// With a STRIDE eight times as large, data of a tick or two later is over a stripped window.
#[test]
fn a_large_stride_passes_the_window() {
    for seed in seeds(5) {
        let larger = |_: &mut Rng, packet: &mut Packet| move_data(packet, 2 * 7 * 4096, 0);
        let invalid = spoilt_down(seed, &[0, 8000], true, larger);
        assert!(invalid.contains(&Invalid::SeqOverUpper), "seed {seed}: {invalid:?}");
    }
}

/// The first segment of the server after the SYN-ACK must ack exactly what the agent sent.
#[test]
fn acks_that_run_ahead_are_invalid() {
    fn ahead(_: &mut Rng, packet: &mut Packet) -> bool {
        let head = packet.head();
        if packet.is_data() {
            packet.set_ack(head.ack.plus(12 * 4096));
        }
        true
    }
    for seed in seeds(5) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
        let (a, b) = pair(&mut world, PLAIN);
        world.sites[a].spoil_up = Some(ahead);
        world.exchange(a, b, 300, 100);
        let invalid = &world.sites[a].invalid;
        assert!(invalid.len() > 100, "seed {seed}");
        let expected = (Side::Original, Invalid::AckOverUpper);
        assert!(invalid.iter().all(|(_, side, reason, _)| (*side, *reason) == expected));
    }
}

/// Three minutes of silence with an established timeout of 15 s and T = 5 s.
#[test]
fn keepalives_keep_an_idle_flow_and_nothing_else_does() {
    for seed in seeds(5) {
        for with in [true, false] {
            let constants = Constants { tick_ms: 5000, ..Constants::default() };
            let mut world = World::new(seed, constants).with_pops(&[0, 5000]);
            let rules = Rules { established_ms: 15_000, ..PLAIN.rules };
            let (a, b) = pair(&mut world, Boxes { rules, ..PLAIN });
            let token = world.token(a);
            world.sites[a].cut[0] = !with;
            world.run(180_000);
            world.send(b, &token, b"are you there?").unwrap();
            world.run(100);
            assert_eq!(world.sites[a].received.len(), usize::from(with), "seed {seed}");
            assert_eq!(world.sites[a].strays, u64::from(!with), "seed {seed}");
            if with {
                world.assert_clean(seed);
                assert_eq!(world.sites[a].agent.counters().re_syns, 0, "seed {seed}");
            }
        }
    }
}
