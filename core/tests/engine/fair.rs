//! What the POP originates because of others is limited: one network that floods leaves the others
//! their answers (docs/limits.md, "Limits shared by all").

use anyrelay_core::link::{EXPIRE_MS, REFRESH_MS};
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::*;

/// Answers a second that all have together; a network has a tenth of it.
const LIMIT: i64 = 20;
const SHARE: usize = 2;

fn limited(limit: &str) -> World {
    World::of(&config().limit(limit, LIMIT))
}

/// A host of another network for each number, 0 being the one that floods.
fn host(number: u32) -> u32 {
    CLIENT.0 + (number << 8)
}

/// How many of 50 datagrams of one network are answered, and how many of one from each of 30
/// others.
fn answered(world: &mut World, datagram: impl Fn(u32) -> Vec<u8>) -> (usize, usize) {
    let mut answers = |src| world.datagram(WAN, &datagram(src)).len();
    let one = (0..50).map(|last| answers(host(0) & !0xff | last)).sum();
    (one, (1..=30).map(|number| answers(host(number))).sum())
}

#[test]
fn resets_are_shared() {
    let mut world = limited("rst_per_second");
    let unserved = (WEB.0, 9);
    let syn = |src| Tcp::new((src, 4000), unserved, SYN).datagram();
    assert_eq!(answered(&mut world, syn), (SHARE, LIMIT as usize - SHARE));
    assert_eq!(world.drops(WAN, DropReason::RateRst), 80 - LIMIT as u64);
    assert_eq!(world.counters.withheld(ReplyKind::UnservedPort), 80 - LIMIT as u64);
    // A target without timestamps is told all the same, and has no share of its own.
    let (egress, port, _) = world.egress("web", CLIENT);
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).datagram();
    let told: usize = (0..30).map(|_| world.datagram(LAN, &syn_ack).len()).sum();
    assert_eq!(told, LIMIT as usize);
    world.later(1000);
    assert_eq!(answered(&mut world, syn).0, SHARE);
}

#[test]
fn echo_replies_are_shared() {
    let request = |src, dst, fragment| {
        let header = Ipv4Header { protocol: 1, fragment, ..Ipv4Header::new(src, dst) };
        header.with(&icmp(8, 0, [1, 2, 3, 4], &[7; 64]))
    };
    for fragment in [0, 0x2000] {
        let mut world = limited("echo_per_second");
        let echo = |src| request(src, WEB.0, fragment);
        assert_eq!(answered(&mut world, echo), (SHARE, LIMIT as usize - SHARE));
        assert_eq!(world.drops(WAN, DropReason::RateEcho), 80 - LIMIT as u64);
    }
    // Private addresses, and those of no client, are of a network like others.
    let mut world = limited("echo_per_second");
    let private = (0..9).map(|_| request(ip("10.9.9.9"), ip("10.1.0.2"), 0));
    assert_eq!(private.map(|echo| world.datagram(LAN, &echo).len()).sum::<usize>(), SHARE);
}

#[test]
fn echo_replies_over_ipv6_are_shared() {
    let mut world = World::of(&relay6_config().limit("echo_per_second", LIMIT));
    let echo = |src| {
        let message = [&[128, 0, 0, 0, 0, 1, 0, 2][..], &[9; 16]].concat();
        Ipv6Header::icmp(src, RAW6.0).with(&message)
    };
    // All of a /56 are one network.
    let one = (0..50).map(|number| echo(CLIENT6.0 + (number << 60)));
    let one: usize = { one }.map(|echo| world.datagram(WAN, &echo).len()).sum();
    let others = (1..=30).map(|number| echo(CLIENT6.0 + (number << 72)));
    let others: usize = { others }.map(|echo| world.datagram(WAN, &echo).len()).sum();
    assert_eq!((one, others), (SHARE, LIMIT as usize - SHARE));
}

/// A world with a large link towards the clients, and limited queries.
fn on_link() -> World {
    let config = config().setting("wan", "addresses", ["192.0.2.2/16"]);
    World::of(&config.limit("neighbour_per_second", LIMIT))
}

/// A target of a transparent service sends to somebody on the link. How it ended, and whether the
/// POP asked for the hardware address.
fn send_to(world: &mut World, host: &str) -> (Verdict, bool) {
    let segment = Tcp::new(RAW_TARGETS[0], (ip(host), 4000), ACK).datagram();
    let sent = world.datagram(LAN, &segment);
    let asked = sent.iter().any(|(port, frame)| *port == WAN && frame[12..14] == [8, 6]);
    (world.verdict(), asked)
}

#[test]
fn queries_for_hosts_on_a_link_are_shared() {
    const NOT_ADMITTED: Verdict = Verdict::Drop(DropReason::RateNeighbour);
    const UNRESOLVED: Verdict = Verdict::Drop(DropReason::NeighbourUnresolved);
    let mut world = on_link();
    assert_eq!(send_to(&mut world, "192.0.7.7"), (UNRESOLVED, true));
    let reply = arp(2, ([2, 0, 0, 0, 7, 7], ip("192.0.7.7")), (WAN_MAC, ip("192.0.2.2")));
    world.bytes(WAN, &ethernet(WAN_MAC, [2, 0, 0, 0, 7, 7], None, 0x0806, &reply));
    assert_eq!(send_to(&mut world, "192.0.7.7"), (Verdict::Forward(WAN), false));
    world.later(1000);
    // Somebody sends from all addresses of a network, and the target answers.
    let flood: Vec<_> =
        (1..=50).map(|last| send_to(&mut world, &format!("192.0.9.{last}"))).collect();
    assert_eq!(flood[..SHARE], [(UNRESOLVED, true); SHARE]);
    assert_eq!(flood[SHARE..], [(NOT_ADMITTED, false); 50 - SHARE]);
    assert_eq!(world.drops(LAN, DropReason::RateNeighbour), 50 - SHARE as u64);
    // Others are asked for, as far as all may.
    let others = (10..40).map(|net| send_to(&mut world, &format!("192.0.{net}.1")).1);
    assert_eq!(others.filter(|asked| *asked).count(), LIMIT as usize - SHARE);
    // Who is known is reached, and asked for again in time.
    assert_eq!(send_to(&mut world, "192.0.7.7"), (Verdict::Forward(WAN), false));
    world.later(REFRESH_MS);
    for last in 1..=50 {
        send_to(&mut world, &format!("192.0.7.{}", 100 + last));
    }
    assert_eq!(send_to(&mut world, "192.0.7.7"), (Verdict::Forward(WAN), true));
    // A silent one is asked for again when its network has something left.
    world.later(EXPIRE_MS);
    assert_eq!(send_to(&mut world, "192.0.9.1"), (UNRESOLVED, true));
    assert_eq!(send_to(&mut world, "192.0.9.1"), (UNRESOLVED, false));
}

#[test]
fn targets_on_a_link_need_no_admission() {
    let config = config()
        .edit(|config| {
            config.relays[0].set("targets", ["10.1.0.9:8443"]);
        })
        .limit("neighbour_per_second", 1);
    let mut world = World::of(&config);
    for _ in 0..5 {
        let sent = world.datagram(WAN, &Tcp::new(CLIENT, WEB, SYN).datagram());
        assert_eq!((sent.len(), world.reason()), (1, DropReason::NeighbourUnresolved));
        world.later(1000);
    }
}
