//! What others send to an agent: blind injection through its NAT and straight at it, and replies
//! forged by those who know much but not its key.

use anyrelay_core::net::Family;
use anyrelay_core::predict::{self, Constants};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::Tick;
use anyrelay_core::tunnel::Token;
use anyrelay_core::tunnel::agent::FlowState;
use anyrelay_core::tunnel::message::{KEEPALIVE_LEN_MAX, KeepaliveReply};
use anyrelay_core::wire::tcp::{ACK, FIN, RST, SYN};
use anyrelay_kit::nat::{Boxes, Packet};
use anyrelay_kit::tunnel;

use crate::flows::{PLAIN, pair, seeds};
use crate::world::World;

/// A segment from the VIP to the site's public address with these numbers.
pub fn from_vip(
    world: &World,
    site: usize,
    flags: u8,
    numbers: (u32, u32),
    payload: &[u8],
) -> Packet {
    let mut keepalive = world.sites[site].last_keepalive.clone().unwrap();
    let public = world.sites[site].flows.last().unwrap().public;
    keepalive.set_addresses(public, keepalive.dst);
    let numbers = (SeqNum(numbers.0), SeqNum(numbers.1));
    tunnel::back(&keepalive, numbers, flags, &[], payload)
}

/// The same, behind the NAT.
fn inside(world: &World, site: usize, mut packet: Packet) -> Packet {
    let here = &world.sites[site];
    packet.set_addresses(packet.src, (here.local, here.agent.port()).into());
    packet
}

fn still_works(world: &mut World, seed: u64, a: usize, b: usize) {
    let (to_a, to_b) = (world.token(a), world.token(b));
    for (from, to, token) in [(a, b, to_b), (b, a, to_a)] {
        world.sites[to].received.clear();
        world.send(from, &token, b"alive").unwrap();
        world.run(500);
        let last = [from, to].map(|site| world.sites[site].invalid.last().copied());
        let flows = [from, to].map(|site| world.sites[site].flows.last());
        assert_eq!(
            world.sites[to].received.len(),
            1,
            "seed {seed}, from {from}: INVALID {last:?} of {flows:#?}, dropped {:?}",
            world.drops
        );
    }
}

/// 20 trials of 2000 guesses each: RSTs, data, and acks, by someone who knows both addresses and
/// ports but no numbers.
#[test]
fn blind_injection_does_not_kill_the_flow() {
    for seed in seeds(20) {
        let mut world = World::new(seed, Constants::default()).with_pops(&[0, 8000]);
        let (a, b) = pair(&mut world, PLAIN);
        world.exchange(a, b, 100, 100);
        let port = world.sites[a].agent.port();
        let before = world.arrived();
        for guess in 0..2000u64 {
            let numbers = (world.rng.next() as u32, world.rng.next() as u32);
            let data = [&[0x40, 0, 0, 0][..], &[7; 8], &[1; 16], b"forged"].concat();
            let (flags, payload): (u8, &[u8]) = match guess % 6 {
                0 => (RST, &[]),
                1 => (RST | ACK, &[]),
                2 => (ACK, &data),
                3 => (ACK, &[]),
                4 => (FIN | ACK, &[]),
                _ => (SYN | ACK, &[]),
            };
            let packet = from_vip(&world, a, flags, numbers, payload);
            world.arrive(a, packet.clone());
            // And once more where no firewall helps.
            let packet = inside(&world, a, packet);
            world.deliver(a, &packet);
            world.run(5);
        }
        assert_eq!(world.arrived(), before, "seed {seed}: forged data was taken");
        world.run(20_000);
        still_works(&mut world, seed, a, b);
        let counters = *world.sites[a].agent.counters();
        assert_eq!((world.sites[a].agent.port(), counters.new_ports), (port, 0), "seed {seed}");
        assert!(counters.re_syns <= 1, "seed {seed}");
    }
}

/// Data with numbers that are right but for one of them moves nothing and is not taken.
#[test]
fn data_is_taken_only_with_both_numbers_right() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, b) = pair(&mut world, PLAIN);
        world.exchange(a, b, 50, 100);
        // A real one, caught before the agent, is the pattern.
        let token = world.token(a);
        let mut body = [3; 100];
        body[..8].copy_from_slice(&seed.to_be_bytes());
        world.sites[a].caught = Some(Vec::new());
        world.send(b, &token, &body).unwrap();
        world.run(30);
        let good = world.sites[a].caught.take().unwrap().pop().expect("caught");
        let ack_before = world.highest_ack(a);
        for (seq, ack) in [
            (1, 0),
            (64, 0),
            (0, 1),
            (0, 4096),
            (4096, 0),
            (9 * 4096, 9 * 4096),
            ((9u32 * 4096).wrapping_neg(), (9u32 * 4096).wrapping_neg()),
            (0x8000_0000, 0),
        ] {
            let mut packet = good.clone();
            packet.set_seq(good.head().seq.plus(seq));
            packet.set_ack(good.head().ack.plus(ack));
            world.deliver(a, &packet);
            assert!(world.sites[a].received.iter().all(|(_, got, _)| *got != body), "{seq} {ack}");
        }
        // A tick later or earlier in both is a POP whose clock is off.
        for moved in [0, 4096, 4096u32.wrapping_neg()] {
            let mut packet = good.clone();
            packet.set_seq(good.head().seq.plus(moved));
            packet.set_ack(good.head().ack.plus(moved));
            world.deliver(a, &packet);
        }
        let taken = world.sites[a].received.iter().filter(|(_, got, _)| *got == body).count();
        assert_eq!(taken, 3, "seed {seed}");
        assert_eq!(world.highest_ack(a), ack_before, "data moved the ack");
        let counters = *world.sites[a].agent.counters();
        assert_eq!(counters.refused_data_seq + counters.refused_data_ack, 8, "{counters:?}");
        world.run(16_000);
        // Nor did the tick move.
        world.exchange(a, b, 100, 100);
        world.assert_clean(seed);
    }
}

/// Whoever sees all of an agent's requests and has another agent's key of the same tenant cannot
/// answer them; nor can an answer be used twice, changed, or moved to other numbers.
#[test]
fn forged_replies_are_refused() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, b) = pair(&mut world, PLAIN);
        let (version, token) = (world.sites[a].agent.token_version(), world.token(a));
        let before = *world.sites[a].agent.counters();
        let status = world.sites[a].agent.status(world.instant());
        // The answers to the next keepalive are caught: what it asked is known to the attacker.
        world.sites[a].caught = Some(Vec::new());
        world.run(9000);
        let real = world.sites[a].caught.take().unwrap();
        let real = real.into_iter().rfind(|packet| !packet.payload().is_empty()).unwrap();
        let reply = KeepaliveReply::parse(real.payload(), Family::V4).unwrap();
        let forged = KeepaliveReply {
            tick: Tick(reply.tick.0 + 2),
            public: "198.51.100.1:1".parse().unwrap(),
            token: Some(Token::V4([9; 16])),
            ..reply
        };
        let own = world.agent_key(a as u32).key;
        let deliver = |world: &mut World, payload: &[u8], seq: u32, ack: u32| {
            let head = real.head();
            let mut packet = real.clone();
            packet.tcp.truncate(20);
            packet.tcp.extend_from_slice(payload);
            packet.set_seq(head.seq.plus(seq));
            packet.set_ack(head.ack.plus(ack));
            world.deliver(a, &packet);
        };
        // By another member of the tenant.
        let mut bytes = [0; KEEPALIVE_LEN_MAX];
        let other = world.agent_key(b as u32).key;
        let vip = world.sites[a].vip;
        let len = forged.write(vip, &other, &mut bytes);
        deliver(&mut world, &bytes[..len], 2 * 4096, 0);
        // A request sent back as an answer, each byte of the real one changed, numbers moved.
        let mut request = world.sites[a].last_keepalive.clone().unwrap().payload().to_vec();
        request[0] = 0x21;
        deliver(&mut world, &request, 0, 0);
        for at in 0..real.payload().len() {
            let mut changed = real.payload().to_vec();
            changed[at] ^= 1 << (at % 8);
            deliver(&mut world, &changed, 0, 0);
        }
        for (seq, ack) in [(1, 0), (4096, 0), (0, 1), (0, 4096), (0x8000_0000, 0)] {
            deliver(&mut world, real.payload(), seq, ack);
        }
        // With the right key, but of another VIP.
        let len = forged.write("203.0.113.21:443".parse().unwrap(), &own, &mut bytes);
        deliver(&mut world, &bytes[..len], 2 * 4096, 0);
        // With the right key but another nonce: an answer to nothing that was asked.
        let len = KeepaliveReply { nonce: !reply.nonce, ..forged }.write(vip, &own, &mut bytes);
        deliver(&mut world, &bytes[..len], 2 * 4096, 0);
        let after = *world.sites[a].agent.counters();
        assert_eq!(after.keepalives_answered, before.keepalives_answered, "seed {seed}");
        assert_eq!(world.token(a), token);
        assert_eq!(world.sites[a].agent.token_version(), version);
        assert_eq!(world.sites[a].agent.status(world.instant()).public, status.public);
        for (name, value) in [
            ("mac", after.refused_reply_mac),
            ("nonce", after.refused_reply_nonce),
            ("numbers", after.refused_reply_numbers),
            ("version", after.refused_reply_version),
        ] {
            assert!(value > 0, "seed {seed}: none refused for its {name}: {after:?}");
        }
        // The real one is taken once.
        deliver(&mut world, real.payload(), 0, 0);
        deliver(&mut world, real.payload(), 0, 0);
        let after = *world.sites[a].agent.counters();
        assert_eq!(after.keepalives_answered, before.keepalives_answered + 1, "seed {seed}");
        world.run(20_000);
        assert_eq!(world.sites[a].agent.status(world.instant()).state, FlowState::Ready);
        still_works(&mut world, seed, a, b);
        world.assert_clean(seed);
    }
}

/// Segments of random bytes, and real ones with changed bytes or cut off: no panic, and the flow
/// goes on.
#[test]
fn damaged_segments_harm_nothing() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, b) = pair(&mut world, PLAIN);
        world.sites[a].caught = Some(Vec::new());
        let token = world.token(a);
        world.send(b, &token, b"pattern").unwrap();
        world.run(9000);
        let patterns = world.sites[a].caught.take().unwrap();
        for _ in 0..2000 {
            let which = world.rng.below(patterns.len() as u64) as usize;
            let mut packet = patterns[which].clone();
            for _ in 0..1 + world.rng.below(4) {
                // Ports stay, so that more is looked at.
                let at = 4 + world.rng.below(packet.tcp.len() as u64 - 4) as usize;
                packet.tcp[at] = world.rng.next() as u8;
            }
            let len = world.rng.below(packet.tcp.len() as u64 * 2) as usize;
            packet.tcp.truncate(len);
            world.deliver(a, &packet);
        }
        world.run(60_000);
        still_works(&mut world, seed, a, b);
    }
}

/// What an ICMP error quotes must be of the flow: its own numbers, or those that a POP writes whose
/// clock is up to three ticks off, and hardly any other.
#[test]
fn quoted_numbers_are_told_from_guessed_ones() {
    for seed in seeds(10) {
        let mut world = World::new(seed, Constants::default());
        let (a, b) = pair(&mut world, PLAIN);
        let token = world.token(b);
        for _ in 0..100 {
            world.send(a, &token, &[7; 1000]).unwrap();
            let own = world.sites[a].last_data.as_ref().unwrap().head().seq;
            let agent = &world.sites[a].agent;
            assert!(agent.bears(own), "seed {seed}");
            assert!(!agent.bears(own.plus(1 << 31)), "seed {seed}");
            world.run(100);
        }
        let saved = world.sites[a].agent.saved().unwrap();
        let tick = world.pop_time(0).tick(saved.tick_ms);
        for skew in -3..=3 {
            let tick = Tick(tick.0.wrapping_add_signed(skew));
            let number = predict::at(SeqNum(saved.base), saved.stride, tick).plus(1);
            assert!(world.sites[a].agent.bears(number), "seed {seed}: skew {skew}");
        }
        let guessed = (0..1_000_000)
            .filter(|_| {
                let guess = SeqNum(world.rng.next() as u32);
                world.sites[a].agent.bears(guess)
            })
            .count();
        assert!(guessed < 50, "seed {seed}: {guessed} of a million guesses");
    }
}

/// Behind a box that rewrites them nobody can tell.
#[test]
fn quoted_numbers_are_not_judged_behind_a_rewriter() {
    let mut world = World::new(1, Constants::default());
    let (a, _) = pair(&mut world, Boxes { rewrites: true, ..PLAIN });
    let rewritten = world.sites[a].agent.status(world.instant()).numbers_rewritten;
    assert!(rewritten && world.sites[a].agent.bears(SeqNum(0)));
}
