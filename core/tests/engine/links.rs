//! ARP, gateways and on-link hosts.

use crate::*;
use anyrelay_core::link::{ASK_INTERVAL_MS, EXPIRE_MS, REFRESH_MS};
use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use etherparse::{ArpOperation, ArpPacketSlice};

const BROADCAST: Mac = [0xff; 6];
const STRANGER: Mac = [2, 0, 0, 0, 9, 9];

/// The config without static MAC addresses of gateways.
fn learning() -> World {
    World::of(&learning_config())
}

/// An ARP frame, read back: destination and source of the frame, operation, sender, target.
type SeenArp = (Mac, Mac, ArpOperation, (Mac, u32), (Mac, u32));

fn seen_arp(frame: &[u8]) -> SeenArp {
    assert_eq!((frame.len(), &frame[12..14]), (60, &[8, 6][..]));
    let arp = ArpPacketSlice::from_slice(&frame[14..]).unwrap();
    let host = |mac: &[u8], ip: &[u8]| {
        (mac.try_into().unwrap(), u32::from_be_bytes(ip.try_into().unwrap()))
    };
    (
        frame[..6].try_into().unwrap(),
        frame[6..12].try_into().unwrap(),
        arp.operation(),
        host(arp.sender_hw_addr(), arp.sender_protocol_addr()),
        host(arp.target_hw_addr(), arp.target_protocol_addr()),
    )
}

/// The addresses that `poll` asks for now, and on which port.
fn asked(world: &mut World) -> Vec<(PortIndex, u32)> {
    world.poll();
    let sent = std::mem::take(&mut world.out.sent);
    let asked = sent.iter().map(|(port, frame)| {
        let (dst, src, operation, sender, target) = seen_arp(frame);
        assert_eq!((dst, src, operation), (BROADCAST, world.mac(*port), ArpOperation::REQUEST));
        assert_eq!((sender.0, target.0), (src, [0; 6]));
        let own = if *port == WAN { "192.0.2.2" } else { "10.1.0.2" };
        assert_eq!(sender.1, ip(own));
        (*port, target.1)
    });
    asked.collect()
}

fn answer(world: &mut World, port: PortIndex, mac: Mac, from: &str) {
    let own = if port == WAN { "192.0.2.2" } else { "10.1.0.2" };
    let reply = arp(2, (mac, ip(from)), (world.mac(port), ip(own)));
    let sent = world.bytes(port, &ethernet(world.mac(port), mac, None, 0x0806, &reply));
    assert!(sent.is_empty());
    assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::Neighbour));
}

fn segment_up() -> Tcp {
    Tcp::new(CLIENT, WEB, ACK).stamped(1, 2)
}

#[test]
fn requests_for_the_ports_addresses_are_answered() {
    let mut world = World::new();
    for dst in [BROADCAST, WAN_MAC] {
        let request = arp(1, (STRANGER, ip("192.0.2.77")), ([0; 6], ip("192.0.2.2")));
        let sent = world.bytes(WAN, &ethernet(dst, STRANGER, None, 0x0806, &request));
        assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Arp));
        let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
        assert_eq!(
            seen_arp(frame),
            (
                STRANGER,
                WAN_MAC,
                ArpOperation::REPLY,
                (WAN_MAC, ip("192.0.2.2")),
                (STRANGER, ip("192.0.2.77"))
            )
        );
    }
    // Neither another port's address, nor a VIP, nor an egress address: they are routed.
    for other in ["10.1.0.2", "192.0.2.3", "203.0.113.10", "100.64.8.1"] {
        let request = arp(1, (STRANGER, ip("192.0.2.77")), ([0; 6], ip(other)));
        let frame = ethernet(BROADCAST, STRANGER, None, 0x0806, &request);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::ArpNotOurs);
    }
}

#[test]
fn what_is_not_arp_of_ipv4_over_ethernet_is_refused() {
    let mut world = World::new();
    let request = arp(1, (STRANGER, ip("192.0.2.77")), ([0; 6], ip("192.0.2.2")));
    for at in 0..8 {
        let mut wrong = request.clone();
        wrong[at] ^= 0x20;
        let frame = ethernet(BROADCAST, STRANGER, None, 0x0806, &wrong);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::ArpMalformed);
    }
    for len in 0..request.len() {
        let frame = ethernet(BROADCAST, STRANGER, None, 0x0806, &request[..len]);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::ArpMalformed);
    }
}

#[test]
fn gateways_are_asked_learned_refreshed_and_forgotten() {
    let mut world = learning();
    let gateways = [(WAN, ip("192.0.2.1")), (LAN, ip("10.1.0.1"))];
    assert_eq!(asked(&mut world), gateways);
    assert_eq!(world.unresolved_gateways().len(), 2);
    assert_eq!(asked(&mut world), [], "asked just now");
    // Traffic does not wait for it, and does not ask more often.
    assert_eq!(world.dropped(WAN, &segment_up().datagram()), DropReason::NeighbourUnresolved);
    world.later(ASK_INTERVAL_MS);
    assert_eq!(asked(&mut world), gateways);

    answer(&mut world, LAN, LAN_GATEWAY, "10.1.0.1");
    assert_eq!(world.unresolved_gateways().len(), 1);
    assert_eq!(world.forwarded(WAN, &segment_up()).1.dst_mac, LAN_GATEWAY);
    answer(&mut world, WAN, WAN_GATEWAY, "192.0.2.1");
    assert_eq!(world.unresolved_gateways(), []);

    world.later(REFRESH_MS - 1);
    assert_eq!(asked(&mut world), []);
    world.later(1);
    assert_eq!(asked(&mut world), gateways, "asked again while still in use");
    assert_eq!(world.forwarded(WAN, &segment_up()).1.dst_mac, LAN_GATEWAY);
    answer(&mut world, LAN, STRANGER, "10.1.0.1");
    assert_eq!(world.forwarded(WAN, &segment_up()).1.dst_mac, STRANGER, "it has a new card");

    world.later(EXPIRE_MS - 1);
    assert_eq!(asked(&mut world), gateways);
    world.forwarded(WAN, &segment_up());
    world.later(1);
    assert_eq!(
        world.dropped(WAN, &segment_up().datagram()),
        DropReason::NeighbourUnresolved,
        "silent for too long"
    );
    answer(&mut world, LAN, LAN_GATEWAY, "10.1.0.1");
    world.forwarded(WAN, &segment_up());
}

#[test]
fn traffic_asks_for_the_gateway_that_it_needs() {
    let mut world = learning();
    let sent = world.datagram(WAN, &segment_up().datagram());
    let [(LAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
    assert_eq!(seen_arp(frame).4, ([0; 6], ip("10.1.0.1")));
    assert_eq!(world.reason(), DropReason::NeighbourUnresolved);
}

#[test]
fn only_hosts_that_were_queried_are_believed() {
    let mut world = learning();
    asked(&mut world);
    let own = (WAN_MAC, ip("192.0.2.2"));
    // A reply of somebody nobody asked for; on the wrong port; from a group.
    for (port, sender, target) in [
        (WAN, (STRANGER, ip("192.0.2.9")), own),
        (WAN, (STRANGER, ip("10.1.0.1")), own),
        (WAN, ([3, 0, 0, 0, 0, 1], ip("192.0.2.1")), own),
    ] {
        let frame = ethernet(WAN_MAC, STRANGER, None, 0x0806, &arp(2, sender, target));
        assert_eq!(world.dropped_bytes(port, &frame), DropReason::ArpNotOurs);
        assert_eq!(world.unresolved_gateways().len(), 2);
    }
    // A gateway that asks for us tells its own address along.
    let request = arp(1, (WAN_GATEWAY, ip("192.0.2.1")), ([0; 6], ip("192.0.2.2")));
    let sent = world.bytes(WAN, &ethernet(BROADCAST, WAN_GATEWAY, None, 0x0806, &request));
    assert_eq!(sent.len(), 1);
    assert_eq!(world.unresolved_gateways().len(), 1);
}

#[test]
fn a_static_address_is_neither_asked_for_nor_moved() {
    let mut world = World::new();
    assert_eq!(asked(&mut world), []);
    assert_eq!(world.unresolved_gateways(), []);
    let reply = arp(2, (STRANGER, ip("10.1.0.1")), (LAN_MAC, ip("10.1.0.2")));
    world.bytes(LAN, &ethernet(LAN_MAC, STRANGER, None, 0x0806, &reply));
    world.later(10 * EXPIRE_MS);
    assert_eq!(world.forwarded(WAN, &segment_up()).1.dst_mac, LAN_GATEWAY);
}

#[test]
fn several_gateways_share_the_clients() {
    let mut world = World::of(&config().edit(|config| {
        let gateways = ["192.0.2.1", "192.0.2.3", "192.0.2.4"];
        config.named("wan").set("gateways", gateways).remove("gateway_macs");
    }));
    let macs = [WAN_GATEWAY, [2, 0, 0, 0, 1, 3], [2, 0, 0, 0, 1, 4]];
    let down = |world: &World, number: u32| {
        let client = (CLIENT.0 + number, CLIENT.1);
        let (egress, port, tag) = world.egress("web", client);
        Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(3, tag)
    };
    let spread = |world: &mut World| {
        let mut counts = [0; 3];
        for number in 0..300 {
            let segment = down(world, number);
            let (_, seen) = world.forwarded(LAN, &segment);
            counts[macs.iter().position(|mac| *mac == seen.dst_mac).unwrap()] += 1;
            assert_eq!(
                world.forwarded(LAN, &segment).1.dst_mac,
                seen.dst_mac,
                "one path per client"
            );
        }
        counts
    };
    // One that answers carries all; a second shares with it; then all three.
    asked(&mut world);
    answer(&mut world, WAN, macs[1], "192.0.2.3");
    assert_eq!(spread(&mut world), [0, 300, 0]);
    answer(&mut world, WAN, macs[0], "192.0.2.1");
    let counts = spread(&mut world);
    assert!(counts[0] > 50 && counts[1] > 50 && counts[2] == 0, "{counts:?}");
    answer(&mut world, WAN, macs[2], "192.0.2.4");
    let counts = spread(&mut world);
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn a_target_on_the_link_is_reached_directly() {
    let mut world = World::of(&config().setting("web", "targets", ["10.1.0.44:8443"]));
    // It is asked for before there is traffic.
    assert_eq!(asked(&mut world), [(LAN, ip("10.1.0.44"))]);
    assert_eq!(world.dropped(WAN, &segment_up().datagram()), DropReason::NeighbourUnresolved);
    answer(&mut world, LAN, STRANGER, "10.1.0.44");
    let (port, seen) = world.forwarded(WAN, &segment_up());
    assert_eq!((port, seen.dst_mac, seen.dst), (LAN, STRANGER, ip("10.1.0.44")));
    world.later(EXPIRE_MS);
    let sent = world.datagram(WAN, &segment_up().datagram());
    assert_eq!(world.reason(), DropReason::NeighbourUnresolved);
    assert_eq!(seen_arp(&sent[0].1).4.1, ip("10.1.0.44"));
}

#[test]
fn a_client_on_the_link_is_reached_directly() {
    let mut world = World::new();
    let client = (ip("192.0.2.99"), 5555);
    let (egress, port, tag) = world.egress("web", client);
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(3, tag);
    let sent = world.datagram(LAN, &down.datagram());
    assert_eq!(seen_arp(&sent[0].1).4.1, client.0);
    answer(&mut world, WAN, STRANGER, "192.0.2.99");
    assert_eq!(world.forwarded(LAN, &down).1.dst_mac, STRANGER);
}

#[test]
fn frames_of_our_own_need_a_buffer() {
    let mut world = learning();
    world.out.frames_left = Some(1);
    assert_eq!(asked(&mut world).len(), 1);
    assert_eq!(world.drops(LAN, DropReason::NoBuffer), 1);
}
