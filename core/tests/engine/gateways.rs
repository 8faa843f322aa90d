//! Gateways and targets that fall silent, come back and move.

use crate::*;
use anyrelay_core::link::{ASK_INTERVAL_MS, EXPIRE_MS, REFRESH_MS};
use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{AbsorbKind, DropReason, Verdict};
use anyrelay_kit::config::{Table, mac_text};

const BROADCAST: Mac = [0xff; 6];
const OTHER: Mac = [2, 0, 0, 0, 1, 3];
const STRANGER: Mac = [2, 0, 0, 0, 9, 9];
const FIRST: &str = "192.0.2.1";
const SECOND: &str = "192.0.2.3";

fn neighbours() -> Table {
    Table::default()
}

/// Two gateways towards clients, with or without their hardware addresses in the config.
fn pair(fixed: bool, neighbours: Table) -> World {
    let config = config().edit(|config| {
        let wan = config.named("wan").set("gateways", [FIRST, SECOND]);
        if fixed {
            wan.set("gateway_macs", [mac_text(WAN_GATEWAY), mac_text(OTHER)]);
        } else {
            wan.remove("gateway_macs");
        }
    });
    World::of(&config.other("neighbours", neighbours))
}

/// Polls; the addresses that are asked for, and where the requests go to.
fn asked(world: &mut World) -> Vec<(Mac, u32)> {
    world.poll();
    let sent = std::mem::take(&mut world.out.sent).into_iter();
    sent.map(|(_, frame)| {
        assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1], "an ARP request");
        let target: [u8; 4] = frame[38..42].try_into().unwrap();
        (frame[..6].try_into().unwrap(), u32::from_be_bytes(target))
    })
    .collect()
}

fn asked_of(world: &mut World) -> Vec<u32> {
    asked(world).into_iter().map(|(_, ip)| ip).collect()
}

/// Receives what the host `mac` says of itself by ARP.
fn tell(world: &mut World, operation: u16, (mac, from): (Mac, &str), about: &str) -> Verdict {
    let port = if from.starts_with("192") { WAN } else { LAN };
    let own = ["192.0.2.2", "10.1.0.2"].contains(&about);
    let to = if own { world.mac(port) } else { BROADCAST };
    let body = arp(operation, (mac, ip(from)), ([0; 6], ip(about)));
    world.bytes(port, &ethernet(to, mac, None, 0x0806, &body));
    world.verdict()
}

fn answer(world: &mut World, mac: Mac, from: &str) {
    let own = if from.starts_with("192") { "192.0.2.2" } else { "10.1.0.2" };
    assert_eq!(tell(world, 2, (mac, from), own), Verdict::Absorb(AbsorbKind::Neighbour));
}

/// How many of 100 clients are reached through each of the two gateways.
fn shares(world: &mut World) -> [usize; 2] {
    let mut counts = [0; 2];
    for number in 0..100 {
        let (egress, port, tag) = world.egress("web", (CLIENT.0 + number, CLIENT.1));
        let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(3, tag).datagram();
        let sent = world.datagram(LAN, &down);
        let mac: Mac = sent.last().unwrap().1[..6].try_into().unwrap();
        counts[[WAN_GATEWAY, OTHER].iter().position(|known| *known == mac).unwrap()] += 1;
    }
    counts
}

fn is_cut_off(world: &World) -> bool {
    !world.soft.links.cut_off_gateways(world.now.instant).is_empty()
}

/// Lets time pass in steps of the timer, with the first gateway alone answering.
fn one_answers(world: &mut World, ms: u64) -> usize {
    let mut questions = 0;
    for _ in 0..ms / 100 {
        world.later(100);
        for ip_asked in asked_of(world) {
            if ip_asked == ip(FIRST) {
                answer(world, WAN_GATEWAY, FIRST);
            } else {
                questions += 1;
            }
        }
    }
    questions
}

#[test]
fn three_unanswered_questions_move_the_share_of_a_gateway() {
    let mut world = pair(false, neighbours());
    assert_eq!(asked_of(&mut world), [ip(FIRST), ip(SECOND)]);
    answer(&mut world, WAN_GATEWAY, FIRST);
    answer(&mut world, OTHER, SECOND);
    let both = shares(&mut world);
    assert!(both.iter().all(|count| *count > 20), "{both:?}");
    assert_eq!(one_answers(&mut world, REFRESH_MS + 2 * ASK_INTERVAL_MS), 3);
    assert_eq!(shares(&mut world), both, "the third question has its time");
    one_answers(&mut world, ASK_INTERVAL_MS - 100);
    assert_eq!(shares(&mut world), both);
    one_answers(&mut world, 100);
    assert_eq!(shares(&mut world), [100, 0]);
    // The POP says so, is not cut off, and keeps asking, no more often than before.
    let unresolved = world.unresolved_gateways();
    assert_eq!(unresolved, [(WAN, std::net::Ipv4Addr::from_bits(ip(SECOND)).into())]);
    assert!(!is_cut_off(&world));
    assert_eq!(one_answers(&mut world, 10 * ASK_INTERVAL_MS), 10);
    // What it announces is no sign that it hears the POP. Its answer is.
    tell(&mut world, 1, (OTHER, SECOND), SECOND);
    assert_eq!(shares(&mut world), [100, 0]);
    answer(&mut world, OTHER, SECOND);
    assert_eq!(shares(&mut world), both);
}

#[test]
fn a_gateway_is_missed_within_half_a_second_if_the_operator_wants_that() {
    let fast = neighbours().with("refresh_ms", 100).with("probe_interval_ms", 100);
    let mut world = pair(false, fast);
    asked(&mut world);
    answer(&mut world, WAN_GATEWAY, FIRST);
    answer(&mut world, OTHER, SECOND);
    one_answers(&mut world, 300);
    assert!(shares(&mut world)[1] > 20);
    one_answers(&mut world, 100);
    assert_eq!(shares(&mut world), [100, 0]);
    assert_eq!(one_answers(&mut world, 1000), 10, "a question each 100 ms");
}

#[test]
fn without_another_gateway_the_last_known_address_is_used_and_asked_for() {
    let mut world = World::of(&learning_config());
    asked(&mut world);
    answer(&mut world, WAN_GATEWAY, FIRST);
    answer(&mut world, LAN_GATEWAY, "10.1.0.1");
    let segment = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
    for _ in 0..230 {
        world.later(100);
        if asked_of(&mut world).contains(&ip(FIRST)) {
            answer(&mut world, WAN_GATEWAY, FIRST);
        }
    }
    let cut_off = world.soft.links.cut_off_gateways(world.now.instant);
    assert_eq!(cut_off, [(LAN, std::net::Ipv4Addr::from_bits(ip("10.1.0.1")).into())]);
    assert_eq!(world.forwarded(WAN, &segment).1.dst_mac, LAN_GATEWAY);
    world.later(EXPIRE_MS - 23_000 - 1);
    assert!(asked_of(&mut world).contains(&ip("10.1.0.1")));
    world.forwarded(WAN, &segment);
    world.later(1);
    let sent = world.datagram(WAN, &segment.datagram());
    assert_eq!(world.reason(), DropReason::NeighbourUnresolved);
    assert!(sent.is_empty(), "the question was sent a millisecond ago");
    answer(&mut world, LAN_GATEWAY, "10.1.0.1");
    assert!(!is_cut_off(&world));
}

#[test]
fn a_question_that_was_not_sent_is_not_unanswered() {
    let mut world = pair(false, neighbours());
    asked(&mut world);
    answer(&mut world, WAN_GATEWAY, FIRST);
    answer(&mut world, OTHER, SECOND);
    world.out.frames_left = Some(0);
    world.later(REFRESH_MS);
    for _ in 0..10 {
        assert_eq!(asked(&mut world), []);
        world.later(ASK_INTERVAL_MS);
    }
    assert!(world.drops(WAN, DropReason::NoBuffer) >= 20);
    assert_eq!(world.unresolved_gateways(), []);
}

#[test]
fn fixed_addresses_are_asked_where_another_gateway_can_take_over() {
    let mut world = pair(true, neighbours());
    assert_eq!(asked(&mut world), [(WAN_GATEWAY, ip(FIRST)), (OTHER, ip(SECOND))]);
    let both = shares(&mut world);
    // The second never answers: it may be one that answers nobody.
    one_answers(&mut world, 2 * EXPIRE_MS);
    assert_eq!(shares(&mut world), both);
    // Somebody else's answer is not its own.
    tell(&mut world, 2, (STRANGER, SECOND), "192.0.2.2");
    one_answers(&mut world, REFRESH_MS + 4 * ASK_INTERVAL_MS);
    assert_eq!(shares(&mut world), both);
    answer(&mut world, OTHER, SECOND);
    one_answers(&mut world, REFRESH_MS + 3 * ASK_INTERVAL_MS + 100);
    assert_eq!(shares(&mut world), [100, 0], "it answered once, and is silent");
    one_answers(&mut world, EXPIRE_MS);
    assert_eq!(shares(&mut world), [100, 0], "not judged anew as one that never answered");
    answer(&mut world, OTHER, SECOND);
    assert_eq!(shares(&mut world), both);
}

#[test]
fn whether_fixed_addresses_are_asked_is_the_operators_word() {
    let mut silent = pair(true, neighbours().with("probe_fixed", false));
    assert_eq!(asked(&mut silent), []);
    let single = config().other("neighbours", neighbours().with("probe_fixed", true));
    let mut world = World::of(&single);
    assert_eq!(asked(&mut world), [(WAN_GATEWAY, ip(FIRST)), (LAN_GATEWAY, ip("10.1.0.1"))]);
    world.later(10 * EXPIRE_MS);
    assert!(!is_cut_off(&world), "neither has answered yet");
    answer(&mut world, LAN_GATEWAY, "10.1.0.1");
    for _ in 0..REFRESH_MS / 100 + 31 {
        world.later(100);
        asked(&mut world);
    }
    assert!(is_cut_off(&world));
    world.later(10 * EXPIRE_MS);
    assert!(is_cut_off(&world));
    let segment = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
    assert_eq!(world.forwarded(WAN, &segment).1.dst_mac, LAN_GATEWAY, "the operator's word holds");
}

#[test]
fn a_gateway_of_both_sides_is_asked_once() {
    let config = learning_config().edit(|config| {
        config.named("wan").set("side", "both");
    });
    let mut world = World::of(&config);
    assert_eq!(asked_of(&mut world), [ip(FIRST), ip("10.1.0.1")]);
}

/// A target on the link, which has answered.
fn with_target() -> World {
    let mut world = World::of(&config().setting("web", "targets", ["10.1.0.44:8443"]));
    assert_eq!(asked_of(&mut world), [ip("10.1.0.44")]);
    answer(&mut world, STRANGER, "10.1.0.44");
    world
}

fn target_mac(world: &mut World) -> Mac {
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, ACK).stamped(1, 2)).1.dst_mac
}

#[test]
fn a_target_that_announces_a_new_address_is_believed_at_once() {
    // Gratuitous ARP as a request and as a reply, and a question about somebody else.
    for (operation, about) in [(1, "10.1.0.44"), (2, "10.1.0.44"), (1, "10.1.0.99")] {
        let mut world = with_target();
        let later = if operation == 1 { 5 } else { 3 * ASK_INTERVAL_MS };
        world.later(later);
        let verdict = tell(&mut world, operation, (OTHER, "10.1.0.44"), about);
        assert_eq!(verdict, Verdict::Absorb(AbsorbKind::Neighbour));
        world.later(ASK_INTERVAL_MS);
        let sent = world.datagram(WAN, &Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).datagram());
        assert_eq!(sent.len(), 2, "the segment, and a question whether that is true");
        assert_eq!(sent[0].1[12..14], [8, 6]);
        assert_eq!(sent[1].1[..6], OTHER);
        // The host that has the address says so.
        answer(&mut world, STRANGER, "10.1.0.44");
        assert_eq!(target_mac(&mut world), STRANGER);
        // What is known already tells nothing.
        let verdict = tell(&mut world, operation, (STRANGER, "10.1.0.44"), about);
        assert_eq!(verdict, Verdict::Drop(DropReason::ArpNotOurs));
    }
}

#[test]
fn announcements_of_hosts_that_nobody_asked_for_move_nothing() {
    let mut world = with_target();
    for from in ["10.1.0.45", "192.0.2.77", "10.1.0.1"] {
        for (operation, about) in [(1, from), (2, from), (1, "10.1.0.99")] {
            let verdict = tell(&mut world, operation, (OTHER, from), about);
            assert_eq!(verdict, Verdict::Drop(DropReason::ArpNotOurs), "{from}");
        }
    }
    // The same address on the wrong port, and a group's.
    let body = arp(1, (OTHER, ip("10.1.0.44")), ([0; 6], ip("10.1.0.44")));
    world.bytes(WAN, &ethernet(BROADCAST, OTHER, None, 0x0806, &body));
    tell(&mut world, 1, ([3, 0, 0, 0, 0, 9], "10.1.0.44"), "10.1.0.44");
    assert_eq!(target_mac(&mut world), STRANGER);
    assert_eq!(world.counters.absorbed(AbsorbKind::Neighbour), 1, "the target's answer");
}

#[test]
fn a_gateway_that_announces_a_new_address_is_believed_and_asked() {
    let mut world = pair(false, neighbours());
    asked(&mut world);
    answer(&mut world, WAN_GATEWAY, FIRST);
    let alone = shares(&mut world);
    assert_eq!(alone, [100, 0]);
    tell(&mut world, 1, (OTHER, FIRST), FIRST);
    assert_eq!(shares(&mut world), [0, 100]);
    world.later(ASK_INTERVAL_MS);
    assert!(asked_of(&mut world).contains(&ip(FIRST)), "whether that is true");
    // One that is in the config does not move.
    let mut fixed = pair(true, neighbours());
    let both = shares(&mut fixed);
    let verdict = tell(&mut fixed, 1, (STRANGER, FIRST), FIRST);
    assert_eq!(verdict, Verdict::Drop(DropReason::ArpNotOurs));
    assert_eq!(shares(&mut fixed), both);
}

#[test]
fn targets_of_a_reload_are_asked_for_before_there_is_traffic_and_kept() {
    let mut world = World::new();
    assert_eq!(asked(&mut world), []);
    let next = World::of(&config().setting("web", "targets", ["10.1.0.44:8443"]));
    world.snapshot = std::sync::Arc::clone(&next.snapshot);
    assert_eq!(asked_of(&mut world), [ip("10.1.0.44")]);
    answer(&mut world, STRANGER, "10.1.0.44");
    assert_eq!(target_mac(&mut world), STRANGER, "the first segment gets through");
    world.later(REFRESH_MS);
    assert_eq!(asked_of(&mut world), [ip("10.1.0.44")], "without traffic");
    // One that is gone is not asked for.
    let before = World::new();
    world.snapshot = std::sync::Arc::clone(&before.snapshot);
    world.later(REFRESH_MS);
    assert_eq!(asked(&mut world), []);
}

#[test]
fn only_targets_of_the_side_are_asked_for() {
    let on = |ip: &str| World::of(&config().setting("web", "targets", [format!("{ip}:8443")]));
    let targets = |world: &World| world.snapshot.targets_on_link().to_vec();
    assert_eq!(targets(&on("10.1.0.44")), [(LAN, "10.1.0.44".parse().unwrap())]);
    assert_eq!(targets(&on("198.51.100.10")), []);
    // It is on the link of clients, where no target is reached directly.
    assert_eq!(targets(&on("192.0.2.44")), Vec::<(PortIndex, std::net::IpAddr)>::new());
}
