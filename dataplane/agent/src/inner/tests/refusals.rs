//! Invalid messages are dropped, each for its own reason.

use super::world::*;
use crate::inner::counters::InnerDrop;
use crate::inner::message::OVERHEAD;

/// A pair with a session.
fn connected(seed: u64) -> World {
    let mut world = World::pair(seed, PERFECT);
    world.send(0, &packet(0, 1, 0));
    world.run_ms(100);
    world.send(1, &packet(1, 0, 0));
    world.run_ms(100);
    assert_eq!((world.numbers(0), world.numbers(1)), (vec![0], vec![0]));
    world
}

/// The last message of a kind from a locator.
fn last(world: &World, from: Locator, kind: u8) -> Vec<u8> {
    let mut all = world.log.iter().rev();
    all.find(|(at, _, body)| *at == from && body[0] == kind).unwrap().2.clone()
}

#[test]
fn replayed_messages_are_dropped() {
    let mut world = connected(1);
    let messages = std::mem::take(&mut world.log);
    for (from, to, body) in &messages {
        let side = world.locators[to];
        world.inject(*from, side, body);
    }
    assert_eq!(world.numbers(0), NOTHING);
    assert_eq!(world.numbers(1), NOTHING);
    assert!(world.log.is_empty(), "a replay was answered");
    assert_eq!(world.drops(1, InnerDrop::OldInitiation), 1);
    assert_eq!(world.drops(0, InnerDrop::UnknownSession), 1, "the response");
    assert_eq!(world.drops(1, InnerDrop::Replayed), 1);
    assert_eq!(world.drops(0, InnerDrop::Replayed), 1);
}

#[test]
fn a_replayed_initiation_changes_no_locator_even_after_a_restart() {
    let mut world = connected(2);
    let initiation = last(&world, 100, 1);
    world.restart(1, vec![peer(0, Some(100))]);
    // The time stamp is forgotten: it is answered, but the answer is useless without the key.
    world.inject(666, 1, &initiation);
    assert_eq!(world.log.last().unwrap().1, 666);
    world.send(1, &packet(1, 0, 5));
    world.run_ms(100);
    assert_eq!(world.numbers(0), [5]);
    assert_eq!(world.log.iter().filter(|(_, to, _)| *to == 666).count(), 1);
}

#[test]
fn any_modified_byte_is_detected() {
    let mut world = connected(3);
    world.network.loss_percent = 100;
    world.send(0, &packet(0, 1, 9));
    let message = last(&world, 100, 4);
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        world.inject(100, 1, &changed);
        assert_eq!(world.numbers(1), NOTHING, "byte {at}");
    }
    for len in 0..message.len() {
        world.inject(100, 1, &message[..len]);
        assert_eq!(world.numbers(1), NOTHING, "length {len}");
    }
    world.inject(100, 1, &message);
    assert_eq!(world.numbers(1), [9]);
}

#[test]
fn a_modified_handshake_is_refused_and_the_authentic_one_still_works() {
    let mut world = World::pair(4, PERFECT);
    world.network.loss_percent = 100;
    world.send(0, &packet(0, 1, 1));
    let initiation = last(&world, 100, 1);
    // The kind and the sender's index are not sealed: changing them does not break the handshake.
    for at in 4..initiation.len() {
        let mut changed = initiation.clone();
        changed[at] ^= 1;
        world.run_ms(200);
        world.inject(100, 1, &changed);
    }
    assert_eq!(world.drops(1, InnerDrop::HandshakeNotAuthentic), initiation.len() as u64 - 4);
    assert!(world.log.iter().all(|(from, _, _)| *from == 100));
    let initiation = last(&world, 100, 1);
    world.inject(100, 1, &initiation);
    let response = last(&world, 101, 3);
    for at in 8..response.len() {
        let mut changed = response.clone();
        changed[at] ^= 1;
        world.now_ms += 200;
        world.inject(101, 0, &changed);
    }
    assert_eq!(world.drops(0, InnerDrop::HandshakeNotAuthentic), response.len() as u64 - 8);
    world.inject(101, 0, &response);
    assert_eq!(world.sessions(0), 1);
}

#[test]
fn only_peers_of_the_config_are_answered() {
    // Side 2 has side 1 in its config, but not the reverse.
    let peers = vec![vec![peer(1, Some(101))], vec![peer(0, Some(100))], vec![peer(1, Some(101))]];
    let mut world = World::new(5, PERFECT, peers);
    world.send(2, &packet(2, 1, 1));
    world.run_ms(5000);
    // Its key is unknown, so it is banned for a while.
    assert_eq!(world.drops(1, InnerDrop::UnknownPeer), 1);
    assert!(world.drops(1, InnerDrop::RateLimited) >= 1);
    assert!(world.log.iter().all(|(from, _, _)| *from == 102));
    // Side 0 confuses side 2 with side 1: the initiation is for another key.
    let now = world.now();
    world.sides[0].set_locator(now, crate::inner::routes::PeerIndex(0), Some(102));
    world.send(0, &packet(0, 1, 2));
    world.run_ms(1000);
    assert_eq!(world.drops(2, InnerDrop::HandshakeNotAuthentic), 1);
    assert_eq!(world.numbers(2), NOTHING);
}

#[test]
fn a_preshared_key_must_be_the_same_on_both_sides() {
    for (ours, theirs, reason) in [
        (shared(1), shared(2), (0, InnerDrop::HandshakeNotAuthentic)),
        (shared(1), None, (1, InnerDrop::PresharedKeyMismatch)),
        (None, shared(2), (1, InnerDrop::PresharedKeyMismatch)),
    ] {
        let mut peers = vec![vec![peer(1, Some(101))], vec![peer(0, Some(100))]];
        peers[0][0].preshared_key = ours;
        peers[1][0].preshared_key = theirs;
        let mut world = World::new(6, PERFECT, peers);
        world.send(0, &packet(0, 1, 1));
        world.run_ms(5000);
        assert_eq!(world.numbers(1), NOTHING);
        assert!(world.drops(reason.0, reason.1) >= 1, "{reason:?}");
        assert_eq!((world.sessions(0), world.sessions(1)), (0, 0));
    }
    let mut peers = vec![vec![peer(1, Some(101))], vec![peer(0, Some(100))]];
    peers[0][0].preshared_key = shared(3);
    peers[1][0].preshared_key = shared(3);
    let mut world = World::new(6, PERFECT, peers);
    world.send(0, &packet(0, 1, 1));
    world.run_ms(100);
    assert_eq!(world.numbers(1), [1]);
}

#[test]
fn a_peer_may_only_send_from_its_own_addresses() {
    let mut peers = vec![vec![peer(1, Some(101))], vec![peer(0, Some(100))]];
    // Side 0 sends to 10.9.0.1 from several sources.
    let mut third = peer(2, None);
    third.allowed = vec!["0.0.0.0/0".parse().unwrap()];
    peers[1].push(third);
    let mut world = World::new(7, PERFECT, peers);
    world.send(0, &packet(0, 1, 1));
    // An address of no peer, and one of the third peer, whose longer prefix wins.
    world.send(0, &packet(77, 1, 2));
    world.send(0, &packet(2, 1, 3));
    world.run_ms(100);
    assert_eq!(world.numbers(1), [1]);
    assert_eq!(world.drops(1, InnerDrop::SourceNotAllowed), 2);
    assert_eq!(world.drops(1, InnerDrop::InnerMalformed), 0);
}

#[test]
fn packets_from_the_device_are_checked() {
    let mut world = connected(8);
    world.send(0, &packet(0, 77, 1));
    assert_eq!(world.drops(0, InnerDrop::NoRoute), 1);
    world.send(0, &packet(0, 1, 1)[..27]);
    assert_eq!(world.drops(0, InnerDrop::Malformed), 1);
    let mut long = vec![0; 9001];
    long[..28].copy_from_slice(&packet(0, 1, 1));
    long[2..4].copy_from_slice(&9001u16.to_be_bytes());
    world.send(0, &long);
    assert_eq!(world.drops(0, InnerDrop::TooBig), 1);
    long[2..4].copy_from_slice(&9000u16.to_be_bytes());
    world.send(0, &long[..9000]);
    assert_eq!(world.log.last().unwrap().2.len(), 9000 + OVERHEAD);
    world.run_ms(50);
    assert_eq!(world.delivered[1].last().unwrap().len(), 9000);
}

#[test]
fn a_flood_of_handshakes_is_bounded_and_does_not_block_peers() {
    let mut world = World::pair(9, PERFECT);
    let mut forged = vec![7; 108];
    forged[0] = 1;
    let looked_at = |world: &World| world.drops(1, InnerDrop::HandshakeNotAuthentic);
    for _ in 0..5 {
        for source in 0..3000u64 {
            // 2000 other agents, one of which sends a third of the messages.
            let locator = if source % 3 == 0 { 1000 } else { 2000 + source as u32 };
            world.inject(locator, 1, &forged);
        }
        world.run_ms(1000);
    }
    // Once each: an unknown key is banned for a minute.
    assert!(looked_at(&world) <= 100 * 6, "{} in 5 s", looked_at(&world));
    assert!(world.drops(1, InnerDrop::RateLimited) > 14_000);
    world.inject(1000, 1, &forged);
    for source in 0..3000 {
        world.inject(5000 + source, 1, &forged);
    }
    world.send(0, &packet(0, 1, 1));
    world.run_ms(100);
    assert_eq!(world.numbers(1), [1]);
}

/// An agent of the tenant with 2000 tokens keeps all budgets empty; a peer from a new locator still
/// succeeds.
#[test]
fn a_flood_from_many_tokens_does_not_block_a_peer_that_moved() {
    let mut world = World::pair(19, PERFECT);
    let mut forged = vec![7; 108];
    forged[0] = 1;
    let flood = |world: &mut World, ms| {
        for _ in 0..ms {
            for _ in 0..2 {
                let locator = 2000 + world.rng.below(2000) as Locator;
                world.inject(locator, 1, &forged);
            }
            world.run_ms(1);
        }
    };
    // Within half a minute all tokens of the flooder are banned.
    flood(&mut world, 30_000);
    world.locators.insert(555, 0);
    world.send(0, &packet(0, 1, 1));
    flood(&mut world, 5000);
    assert_eq!(world.numbers(1), [1]);
    assert!(world.drops(1, InnerDrop::HandshakeNotAuthentic) <= 2 * 2000);
}

#[test]
fn random_bytes_of_all_lengths_are_dropped() {
    let mut world = connected(10);
    let before = world.log.len();
    for round in 0..20_000u64 {
        let len = world.rng.below(200) as usize;
        let mut body = vec![0; len];
        let mut rng = world.rng.clone();
        body.fill_with(|| rng.next() as u8);
        world.rng = rng;
        if let Some(kind) = body.first_mut() {
            *kind = (round % 6) as u8;
        }
        world.inject(4000 + round as u32 % 100, 1, &body);
    }
    assert_eq!(world.log.len(), before);
    assert_eq!(world.numbers(1), NOTHING);
    world.send(0, &packet(0, 1, 3));
    world.run_ms(50);
    assert_eq!(world.numbers(1), [3]);
}
