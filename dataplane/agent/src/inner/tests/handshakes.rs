//! Sessions are established, rekeyed and re-established.

use std::collections::HashSet;

use super::with_seeds;
use super::world::*;
use crate::inner::counters::InnerDrop;
use crate::inner::routes::PeerIndex;

/// Sends a packet each way every `every_ms`, for `ms`; returns the number of packets each way.
fn talk(world: &mut World, start: u64, ms: u64, every_ms: u64) -> u64 {
    let count = ms / every_ms;
    for number in start..start + count {
        world.send(0, &packet(0, 1, number));
        world.send(1, &packet(1, 0, number));
        world.run_ms(every_ms);
    }
    count
}

#[test]
fn the_first_packets_wait_for_the_handshake_and_arrive_in_order() {
    let mut world = World::pair(1, PERFECT);
    for number in 0..10 {
        world.send(0, &packet(0, 1, number));
    }
    world.run_ms(100);
    assert_eq!(world.numbers(1), (0..10).collect::<Vec<_>>());
    // The responder may send from the first received packet on.
    world.send(1, &packet(1, 0, 77));
    world.run_ms(30);
    assert_eq!(world.numbers(0), [77]);
    assert_eq!((world.sessions(0), world.sessions(1)), (1, 1));
}

#[test]
fn a_rekey_under_load_and_reordering_loses_no_packet() {
    with_seeds(|seed| {
        // No loss but much reordering and many duplicates, over more than two rekeys.
        let network = Network { loss_percent: 0, duplicate_percent: 30, ..BAD };
        let mut world = World::pair(seed, network);
        world.send(0, &packet(0, 1, 0));
        world.run_ms(500);
        let count = talk(&mut world, 1, 260_000, 20);
        world.run_ms(1000);
        let mut heard = world.numbers(1);
        assert_eq!(heard.len() as u64, count + 1, "each exactly once");
        heard.sort_unstable();
        assert_eq!(heard, (0..=count).collect::<Vec<_>>());
        assert_eq!(world.numbers(0).len() as u64, count);
        assert_eq!(world.sessions(0), world.sessions(1));
        assert!((3..=4).contains(&world.sessions(0)), "{} sessions", world.sessions(0));
        for side in 0..2 {
            assert_eq!(world.drops(side, InnerDrop::Expired), 0);
            assert_eq!(world.drops(side, InnerDrop::NotAuthentic), 0);
        }
    });
}

#[test]
fn on_a_bad_network_no_packet_is_lost_but_by_the_network() {
    with_seeds(|seed| {
        let mut world = World::pair(seed, BAD);
        world.send(0, &packet(0, 1, 0));
        world.run_ms(30_000);
        assert!(!world.sides[0].status(world.now().instant)[0].handshaking);
        world.numbers(1);
        let count = talk(&mut world, 1, 300_000, 50);
        world.run_ms(1000);
        for side in 0..2 {
            let heard = world.numbers(side);
            let distinct: HashSet<_> = heard.iter().collect();
            assert_eq!(distinct.len(), heard.len(), "a packet came twice");
            // 20% loss of 6000: six standard deviations are 3%.
            assert!(heard.len() as u64 * 100 > count * 77, "{} of {count}", heard.len());
            assert_eq!(world.drops(side, InnerDrop::UnknownSession) * 1000 / count, 0);
            assert_eq!(world.drops(side, InnerDrop::QueueFull), 0);
        }
    });
}

#[test]
fn of_simultaneous_handshakes_one_wins() {
    let mut world = World::pair(1, PERFECT);
    world.send(0, &packet(0, 1, 1));
    world.send(1, &packet(1, 0, 2));
    world.run_ms(1000);
    assert_eq!((world.numbers(0), world.numbers(1)), (vec![2], vec![1]));
    assert_eq!((world.sessions(0), world.sessions(1)), (1, 1));
    // The handshake of the smaller public key wins: its side is the next initiator too.
    let smaller = usize::from(public(1) < public(0));
    let before = world.log.len();
    world.run_ms(120_000);
    world.send(1 - smaller, &packet(1 - smaller, smaller, 3));
    world.run_ms(15);
    assert!(world.log[before..].iter().all(|(_, _, body)| body[0] == 4), "the wrong side began");
    world.run_ms(15);
    let begun = world.log[before..].iter().find(|(_, _, body)| body[0] == 1).unwrap();
    assert_eq!(begun.0, 100 + smaller as u32);
}

#[test]
fn simultaneous_handshakes_settle_on_any_network() {
    with_seeds(|seed| {
        let mut world = World::pair(seed, BAD);
        for round in 0..5 {
            // 200 s of silence end every session.
            world.run_ms(200_000);
            let jitter = world.rng.below(30);
            world.send(0, &packet(0, 1, 2 * round));
            world.run_ms(jitter);
            world.send(1, &packet(1, 0, 2 * round));
            world.run_ms(20_000);
            // The responder counts a session when it receives a packet on it.
            talk(&mut world, 50, 500, 20);
            world.numbers(0);
            world.numbers(1);
            let (before, count) = (world.sessions(0) + world.sessions(1), 200);
            talk(&mut world, 100, 4000, 20);
            let heard = (world.numbers(0).len(), world.numbers(1).len());
            assert!(heard.0 > count / 2 && heard.1 > count / 2, "{heard:?}");
            assert_eq!(world.sessions(0) + world.sessions(1), before, "it has not settled");
        }
    });
}

#[test]
fn a_restarted_side_gets_a_new_session() {
    with_seeds(|seed| {
        let mut world = World::pair(seed, PERFECT);
        talk(&mut world, 0, 2000, 20);
        // The side that has a packet to send starts.
        world.restart(1, vec![peer(0, Some(100))]);
        world.numbers(0);
        world.send(1, &packet(1, 0, 900));
        world.run_ms(100);
        assert_eq!(world.numbers(0), [900]);
        // A side that knows the peer's locator starts on a packet of an unknown session.
        world.restart(0, vec![peer(1, Some(101))]);
        world.send(1, &packet(1, 0, 901));
        world.run_ms(100);
        world.numbers(0);
        world.send(1, &packet(1, 0, 902));
        world.run_ms(30);
        assert_eq!(world.numbers(0), [902]);
        // A side that does not know it is detected by a timeout.
        world.restart(1, vec![peer(0, None)]);
        talk(&mut world, 1000, 11_000, 20);
        assert_eq!(world.drops(1, InnerDrop::NoHandshake), 0);
        world.numbers(1);
        world.send(0, &packet(0, 1, 5000));
        world.run_ms(30);
        assert_eq!(world.numbers(1), [5000]);
    });
}

#[test]
fn answers_go_to_the_last_locator_of_a_peer_that_moves() {
    let mut world = World::pair(3, PERFECT);
    talk(&mut world, 0, 1000, 20);
    world.run_ms(100);
    world.locators.remove(&101);
    world.locators.insert(201, 1);
    world.numbers(1);
    // No message came from the new locator yet.
    world.send(0, &packet(0, 1, 500));
    world.run_ms(50);
    assert_eq!(world.numbers(1), NOTHING);
    world.send(1, &packet(1, 0, 501));
    world.run_ms(50);
    world.send(0, &packet(0, 1, 502));
    world.run_ms(50);
    assert_eq!(world.numbers(1), [502]);
    // A late packet from before the move changes nothing, nor does a replayed one.
    let mut old = world.log.iter().filter(|(from, _, body)| *from == 101 && body[0] == 4);
    let old = old.next_back().unwrap().2.clone();
    world.inject(999, 0, &old);
    world.send(0, &packet(0, 1, 503));
    world.run_ms(50);
    assert_eq!(world.numbers(1), [503]);
}

#[test]
fn a_new_configured_locator_is_used_at_once() {
    let mut world = World::new(4, PERFECT, vec![vec![peer(1, None)], vec![peer(0, None)]]);
    world.send(0, &packet(0, 1, 1));
    world.run_ms(3000);
    assert!(world.log.is_empty());
    assert!(world.drops(0, InnerDrop::NoLocator) > 0);
    let now = world.now();
    world.sides[0].set_locator(now, PeerIndex(0), Some(101));
    world.run_ms(100);
    assert_eq!(world.numbers(1), [1]);
    // The responder has learned the locator of the initiator.
    world.send(1, &packet(1, 0, 2));
    world.run_ms(50);
    assert_eq!(world.numbers(0), [2]);
}

#[test]
fn an_absent_peer_is_given_up_until_the_next_packet() {
    let mut world = World::pair(5, PERFECT);
    world.locators.remove(&101);
    world.locators.insert(555, 1);
    for number in 0..100 {
        world.send(0, &packet(0, 1, number));
    }
    assert_eq!(world.drops(0, InnerDrop::QueueFull), 36);
    world.run_ms(120_000);
    let sent = world.log.len();
    assert!((10..=20).contains(&sent), "{sent} initiations in 90 s");
    assert_eq!(world.drops(0, InnerDrop::NoHandshake), 64);
    world.run_ms(120_000);
    assert_eq!(world.log.len(), sent, "it goes on for ever");
    world.locators.insert(101, 1);
    world.send(0, &packet(0, 1, 7));
    world.run_ms(100);
    assert_eq!(world.numbers(1), [7]);
}

#[test]
fn keepalives_are_periodic_and_answer_packets() {
    let keep = |side, locator| {
        let mut peer = peer(side, Some(locator));
        peer.keepalive_seconds = 15;
        peer
    };
    let mut world = World::new(6, PERFECT, vec![vec![keep(1, 101)], vec![peer(0, None)]]);
    world.run_ms(1000);
    assert_eq!(world.sessions(1), 1, "the session comes without a packet");
    let before = world.log.len();
    world.run_ms(60_000);
    assert_eq!(world.log.len() - before, 4);
    // An unanswered packet gets a keepalive, which is not answered.
    let before = world.log.len();
    world.send(1, &packet(1, 0, 1));
    world.run_ms(6000);
    assert_eq!(world.log.len() - before, 2);
    // A session exists all the time, with at most one rekey every two minutes.
    let before = world.sessions(0);
    world.run_ms(3_600_000);
    let sessions = world.sessions(0) - before;
    assert!((25..=30).contains(&sessions), "{sessions} sessions in an hour");
}

#[test]
fn an_idle_side_sends_nothing() {
    let mut world = World::pair(7, PERFECT);
    talk(&mut world, 0, 1000, 20);
    world.run_ms(10_000);
    let before = world.log.len();
    world.run_ms(1_000_000);
    assert_eq!(world.log.len(), before);
    assert_eq!(world.sides[0].next_timer(), None);
}

#[test]
fn the_locator_of_received_packets_has_precedence() {
    let mut world = World::pair(31, PERFECT);
    world.send(0, &packet(0, 1, 1));
    world.run_ms(200);
    assert_eq!(world.numbers(1), [1]);
    // Side 1 moves and sends from its new locator; then a file supplies an outdated one.
    world.locators.insert(201, 1);
    world.send(1, &packet(1, 0, 2));
    world.run_ms(200);
    assert_eq!(world.numbers(0), [2]);
    let now = world.now();
    world.sides[0].set_locator(now, PeerIndex(0), Some(999));
    world.log.clear();
    world.send(0, &packet(0, 1, 3));
    world.run_ms(200);
    assert_eq!(world.numbers(1), [3]);
    assert!(world.log.iter().all(|(_, to, _)| *to != 999), "sent to where it is not");
}

#[test]
fn the_configured_locator_is_used_when_the_peer_is_silent() {
    let mut world = World::pair(32, PERFECT);
    world.send(0, &packet(0, 1, 1));
    world.run_ms(200);
    // It moves silently: packets to its old locator are lost, until the new one is configured.
    world.locators.remove(&101);
    world.locators.insert(201, 1);
    world.send(0, &packet(0, 1, 2));
    let now = world.now();
    world.sides[0].set_locator(now, PeerIndex(0), Some(201));
    world.run_ms(15_000);
    world.send(0, &packet(0, 1, 3));
    world.run_ms(200);
    assert_eq!(world.numbers(1), [1, 3]);
}

#[test]
fn pending_handshakes_are_retried_when_the_tunnel_comes_up() {
    let mut world = World::pair(33, PERFECT);
    world.network.loss_percent = 100;
    world.send(0, &packet(0, 1, 1));
    // Into the timeout of 8 s.
    world.run_ms(16_000);
    world.network.loss_percent = 0;
    let now = world.now().instant;
    world.sides[0].retry_now(now);
    world.run_ms(1100);
    assert_eq!(world.numbers(1), [1]);
}
