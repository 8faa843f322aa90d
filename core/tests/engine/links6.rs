//! Neighbour discovery: what is answered, who is asked, who is believed.

use std::net::Ipv6Addr;

use crate::*;
use anyrelay_core::link::{ASK_INTERVAL_MS, AddressQuery, EXPIRE_MS, NoHop, REFRESH_MS};
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::Towards;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_core::wire::MacAddr;

const STRANGER: Mac = [2, 0, 0, 0, 9, 9];
const ALL_NODES: u128 = 0xff02 << 112 | 1;

/// The config without static hardware addresses.
fn learning() -> World {
    World::of(&config6().edit(|config| {
        config.named("wan").remove("gateway_macs");
    }))
}

fn framed(dst: Mac, src: Mac, datagram: &[u8]) -> Vec<u8> {
    ethernet(dst, src, None, 0x86dd, datagram)
}

/// The solicitations that `poll` sends: port, source, target.
pub fn asked(world: &mut World) -> Vec<(PortIndex, u128, u128)> {
    world.poll();
    let sent = std::mem::take(&mut world.out.sent);
    let ipv6 = sent.into_iter().filter(|(_, frame)| frame[12..14] == [0x86, 0xdd]);
    ipv6.map(|(port, frame)| (port, Seen6::frame(&frame).src, solicited_in(world, port, &frame)))
        .collect()
}

/// The target of a solicitation, all of which is checked.
fn solicited_in(world: &World, port: PortIndex, frame: &[u8]) -> u128 {
    let seen = Seen6::frame(frame);
    let target = u128::from_be_bytes(seen.message[8..24].try_into().unwrap());
    let mac = world.mac(port);
    assert_eq!((seen.dst, seen.hop_limit), (solicited_node(target), 255));
    assert_eq!((seen.dst_mac, seen.src_mac), (group_mac(seen.dst), mac));
    assert_eq!(seen.message, nd(135, 0, target, Some((1, mac))));
    target
}

/// A host tells that it has an address.
pub fn tell(world: &mut World, port: PortIndex, mac: Mac, ip: u128) {
    let to = if port == WAN { WAN_IP6 } else { LAN_IP6 };
    let frame = framed(world.mac(port), mac, &advertisement(ip, to, 0x60, mac));
    assert!(world.bytes(port, &frame).is_empty());
    assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::Neighbour));
}

pub fn hop(world: &World, dst: u128) -> Result<Mac, NoHop> {
    let (hop, _) = world.soft.links.resolve(
        world.now.instant,
        Towards::Targets,
        Ipv6Addr::from_bits(dst).into(),
        |_| true,
    );
    hop.map(|hop| {
        assert_eq!(hop.port, LAN);
        hop.mac.octets()
    })
}

#[test]
fn solicitations_for_the_ports_addresses_are_answered() {
    let mut world = world6();
    for own in [WAN_IP6, LINK_LOCAL] {
        for src in [NEIGHBOUR6, ip6("fe80::77")] {
            let with = solicitation(src, own, Some(STRANGER));
            let without = solicitation(src, own, None);
            let alone = Ipv6Header::icmp(src, own).with(&nd(135, 0, own, Some((1, STRANGER))));
            let group = group_mac(solicited_node(own));
            for (datagram, to) in
                [(&with, group), (&without, group), (&with, WAN_MAC), (&alone, WAN_MAC)]
            {
                let sent = world.bytes(WAN, &framed(to, STRANGER, datagram));
                assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::NeighbourAdvertisement));
                let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
                let want = Seen6 {
                    dst_mac: STRANGER,
                    src_mac: WAN_MAC,
                    src: own,
                    dst: src,
                    hop_limit: 255,
                    traffic_class: 0,
                    // Router, solicited, override.
                    message: nd(136, 0xe0, own, Some((2, WAN_MAC))),
                };
                assert_eq!(Seen6::frame(frame), want);
            }
        }
    }
}

#[test]
fn who_looks_whether_an_address_is_taken_is_told_through_the_group() {
    let mut world = world6();
    let group = group_mac(solicited_node(WAN_IP6));
    let sent = world.bytes(WAN, &framed(group, STRANGER, &solicitation(0, WAN_IP6, None)));
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::NeighbourAdvertisement));
    let seen = Seen6::frame(&sent[0].1);
    assert_eq!((seen.src, seen.dst, seen.dst_mac), (WAN_IP6, ALL_NODES, group_mac(ALL_NODES)));
    assert_eq!(seen.message, nd(136, 0xa0, WAN_IP6, Some((2, WAN_MAC))));
    // Who has no address has no hardware address to tell either, and asks the group.
    let telling = solicitation(0, WAN_IP6, Some(STRANGER));
    assert_eq!(
        world.dropped_bytes(WAN, &framed(group, STRANGER, &telling)),
        DropReason::NdMalformed
    );
    let alone = Ipv6Header::icmp(0, WAN_IP6).with(&nd(135, 0, WAN_IP6, None));
    assert_eq!(
        world.dropped_bytes(WAN, &framed(WAN_MAC, STRANGER, &alone)),
        DropReason::NdMalformed
    );
}

#[test]
fn solicitations_for_other_addresses_are_not_answered() {
    let mut world = world6();
    // Another host's, another port's, another port's link-local one, in the same group.
    for other in [NEIGHBOUR6, LAN_IP6, ip6("fe80::b"), WAN_IP6 ^ 1 << 64] {
        let frame = framed(WAN_MAC, STRANGER, &solicitation(NEIGHBOUR6, other, Some(STRANGER)));
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::NdNotOurs, "{other:x}");
    }
    // In a group that is not the target's.
    let odd = Ipv6Header::icmp(NEIGHBOUR6, ALL_NODES).with(&nd(135, 0, WAN_IP6, None));
    assert_eq!(world.dropped_bytes(WAN, &framed(WAN_MAC, STRANGER, &odd)), DropReason::NdNotOurs);
    for src in [WAN_IP6, LAN_IP6, LINK_LOCAL, 1, ip6("ff02::1"), ip6("::ffff:1.2.3.4")] {
        let frame = framed(WAN_MAC, STRANGER, &solicitation(src, WAN_IP6, Some(STRANGER)));
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::SourceNotAllowed, "{src:x}");
    }
}

#[test]
fn groups_of_others_are_not_heard() {
    let mut world = world6();
    let datagram = solicitation(NEIGHBOUR6, WAN_IP6, None);
    let own = [WAN_IP6, LINK_LOCAL].map(solicited_node);
    let other = [LAN_IP6 ^ 7, NEIGHBOUR6].map(solicited_node);
    for group in own {
        assert_eq!(world.bytes(WAN, &framed(group_mac(group), STRANGER, &datagram)).len(), 1);
    }
    for group in other.into_iter().chain([ip6("ff02::2"), ip6("ff02::1:3")]) {
        let frame = framed(group_mac(group), STRANGER, &datagram);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::OtherGroup);
    }
    for broadcast in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let frame = framed(broadcast, STRANGER, &datagram);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::OtherGroup);
    }
    // What is for one host must not come to a group of them.
    for dst in [WAN_IP6, LINK_LOCAL, FAR6] {
        let frame = framed(group_mac(solicited_node(WAN_IP6)), STRANGER, &echo6(FAR6, dst, b""));
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::WrongMac);
    }
    // A port without IPv6 hears none of it.
    let mut without = World::new();
    for group in [ALL_NODES, solicited_node(WAN_IP6)] {
        let frame = framed(group_mac(group), STRANGER, &datagram);
        assert_eq!(without.dropped_bytes(WAN, &frame), DropReason::OtherGroup);
    }
}

#[test]
fn messages_that_were_forwarded_or_lie_are_refused() {
    let mut world = learning();
    asked(&mut world);
    let question = solicitation(NEIGHBOUR6, WAN_IP6, Some(STRANGER));
    let answer = advertisement(ip6("fe80::1"), WAN_IP6, 0x60, STRANGER);
    for datagram in [question, answer] {
        let frame = framed(WAN_MAC, STRANGER, &datagram);
        let mut refused = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut wrong = frame.clone();
            edit(&mut wrong);
            let len = (wrong.len() - 54) as u16;
            wrong[18..20].copy_from_slice(&len.to_be_bytes());
            repair_at(&mut wrong[14..], ICMPV6, 40);
            assert_eq!(world.dropped_bytes(WAN, &wrong), DropReason::NdMalformed, "{wrong:02x?}");
        };
        for hop_limit in [0, 1, 64, 254] {
            refused(&|frame| frame[21] = hop_limit);
        }
        // A group is nobody's address, an option has a length, and is whole.
        refused(&|frame| frame[62] = 0xff);
        for units in [0, 2, 255] {
            refused(&|frame| frame[79] = units);
        }
        for len in (62..78).chain(79..86) {
            refused(&|frame| frame.truncate(len));
        }
        for bit in 0..32 * 8 {
            let mut wrong = frame.clone();
            wrong[54 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(world.dropped_bytes(WAN, &wrong), DropReason::IcmpChecksum);
        }
    }
    // What is told to all answers nobody.
    let all = framed(WAN_MAC, STRANGER, &advertisement(ip6("fe80::1"), ALL_NODES, 0x60, STRANGER));
    assert_eq!(world.dropped_bytes(WAN, &all), DropReason::NdMalformed);
    assert_eq!(world.unresolved_gateways().len(), 5);
}

#[test]
fn gateways_are_asked_learned_refreshed_and_forgotten() {
    let mut world = world6();
    let (link_local, global) = (ip6("fe80::1"), ip6("2001:db8:2::1"));
    let questions = [(LAN, ip6("fe80::b"), link_local), (LAN, LAN_IP6, global)];
    assert_eq!(asked(&mut world), questions, "each from an address of its scope");
    assert_eq!(asked(&mut world), [], "asked just now");
    assert_eq!(hop(&world, FAR6), Err(NoHop::Unresolved));
    world.later(ASK_INTERVAL_MS);
    assert_eq!(asked(&mut world), questions);

    let unresolved = |world: &World| {
        let gateways = world.unresolved_gateways();
        gateways.iter().filter(|(_, ip)| ip.is_ipv6()).count()
    };
    assert_eq!(unresolved(&world), 2);
    tell(&mut world, LAN, LAN_GATEWAY, global);
    assert_eq!((unresolved(&world), hop(&world, FAR6)), (1, Ok(LAN_GATEWAY)));
    tell(&mut world, LAN, STRANGER, link_local);
    assert_eq!(unresolved(&world), 0);

    world.later(REFRESH_MS - 1);
    assert_eq!(asked(&mut world), []);
    world.later(1);
    assert_eq!(asked(&mut world), questions, "asked again while still in use");
    assert!(hop(&world, FAR6).is_ok());
    world.later(EXPIRE_MS - REFRESH_MS - 1);
    assert!(hop(&world, FAR6).is_ok());
    world.later(1);
    assert_eq!(hop(&world, FAR6), Err(NoHop::Unresolved), "silent for too long");
}

#[test]
fn several_gateways_share_the_addresses() {
    let mut world = world6();
    asked(&mut world);
    tell(&mut world, LAN, LAN_GATEWAY, ip6("2001:db8:2::1"));
    tell(&mut world, LAN, STRANGER, ip6("fe80::1"));
    // Hosts of one network, and networks of which each has the same host.
    for step in [1, 1 << 64, 1 << 80] {
        let hops = (0..300).map(|number| hop(&world, FAR6 + number * step).unwrap());
        let first = hops.filter(|mac| *mac == STRANGER).count();
        assert!((50..250).contains(&first), "{first} of 300");
    }
}

#[test]
fn only_hosts_that_were_queried_are_believed() {
    let mut world = world6();
    asked(&mut world);
    let gateway = ip6("2001:db8:2::1");
    let group: Mac = [3, 0, 0, 0, 0, 1];
    // Somebody nobody asked for; on the wrong port; to somebody else; from a group; from ourselves.
    for (port, datagram) in [
        (LAN, advertisement(ip6("2001:db8:2::9"), LAN_IP6, 0x60, STRANGER)),
        (WAN, advertisement(gateway, WAN_IP6, 0x60, STRANGER)),
        (LAN, advertisement(gateway, ip6("2001:db8:2::9"), 0x60, STRANGER)),
        (LAN, advertisement(gateway, LAN_IP6, 0x60, group)),
        (
            LAN,
            Ipv6Header::icmp(LAN_IP6, LAN_IP6).with(&nd(136, 0x60, gateway, Some((2, STRANGER)))),
        ),
        (LAN, Ipv6Header::icmp(gateway, LAN_IP6).with(&nd(136, 0x60, gateway, None))),
        (
            LAN,
            Ipv6Header::icmp(gateway, LAN_IP6).with(&nd(136, 0x60, gateway, Some((1, STRANGER)))),
        ),
    ] {
        let frame = framed(world.mac(port), STRANGER, &datagram);
        assert_eq!(world.dropped_bytes(port, &frame), DropReason::NdNotOurs, "{datagram:02x?}");
    }
    assert_eq!(hop(&world, FAR6), Err(NoHop::Unresolved));
    // A gateway that asks for us tells its own address along.
    let question = solicitation(gateway, LAN_IP6, Some(LAN_GATEWAY));
    assert_eq!(world.bytes(LAN, &framed(LAN_MAC, LAN_GATEWAY, &question)).len(), 1);
    assert_eq!(hop(&world, FAR6), Ok(LAN_GATEWAY));
    // One that takes over says so, to all; one that does not say so changes nothing.
    let timid = advertisement(gateway, LAN_IP6, 0x40, STRANGER);
    world.bytes(LAN, &framed(LAN_MAC, STRANGER, &timid));
    assert_eq!(hop(&world, FAR6), Ok(LAN_GATEWAY));
    let taking_over = advertisement(gateway, ALL_NODES, 0x20, STRANGER);
    world.bytes(LAN, &framed(group_mac(ALL_NODES), STRANGER, &taking_over));
    assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::Neighbour));
    assert_eq!(hop(&world, FAR6), Ok(STRANGER));
    // That is asked about as soon as may be. Told again to all, it is no answer.
    world.later(ASK_INTERVAL_MS);
    assert!(asked(&mut world).contains(&(LAN, LAN_IP6, gateway)));
    for _ in 0..3 {
        world.bytes(LAN, &framed(group_mac(ALL_NODES), STRANGER, &taking_over));
        assert_eq!(world.reason(), DropReason::NdNotOurs);
        world.later(ASK_INTERVAL_MS);
        asked(&mut world);
    }
    let gateway = std::net::IpAddr::from(Ipv6Addr::from_bits(gateway));
    assert!(world.unresolved_gateways().iter().any(|(_, ip)| *ip == gateway));
}

#[test]
fn a_static_address_is_neither_asked_for_nor_moved() {
    let mut world = world6();
    let to_clients = |world: &World| {
        let now = world.now.instant;
        world
            .soft
            .links
            .resolve(now, Towards::Clients, Ipv6Addr::from_bits(FAR6).into(), |_| true)
            .0
            .unwrap()
            .mac
            .octets()
    };
    assert!(asked(&mut world).iter().all(|(port, ..)| *port == LAN));
    let frame = framed(WAN_MAC, STRANGER, &advertisement(ip6("fe80::1"), WAN_IP6, 0x60, STRANGER));
    world.bytes(WAN, &frame);
    world.later(10 * EXPIRE_MS);
    assert_eq!(to_clients(&world), WAN_GATEWAY);
}

#[test]
fn a_host_on_the_link_is_reached_directly() {
    let world = &mut world6();
    let host = ip6("2001:db8:2::44");
    let ip = Ipv6Addr::from_bits(host).into();
    let ask = |world: &World| {
        let now = world.now.instant;
        world.soft.links.resolve(now, Towards::Targets, ip, |_| true).1
    };
    assert_eq!(ask(world), Some(AddressQuery { port: LAN, ip }));
    assert_eq!(ask(world), None, "asked just now");
    // A host with the same last bytes on the same link is another one.
    let similar = ip6("2001:db8:2:0:1::44");
    let told = advertisement(similar, LAN_IP6, 0x60, LAN_GATEWAY);
    let frame = framed(LAN_MAC, LAN_GATEWAY, &told);
    assert_eq!(world.dropped_bytes(LAN, &frame), DropReason::NdNotOurs);
    tell(world, LAN, STRANGER, host);
    assert_eq!(hop(world, host), Ok(STRANGER));
    assert_eq!(hop(world, similar), Err(NoHop::Unresolved));
    world.later(EXPIRE_MS);
    assert_eq!(hop(world, host), Err(NoHop::Unresolved));
}

#[test]
fn a_link_local_gateway_is_asked_from_what_there_is() {
    for (addresses, from) in [
        (["2001:db8:2::2/64", "fe80::b/128"], "fe80::b"),
        (["2001:db8:2::2/64", "2001:db8:3::2/64"], "2001:db8:2::2"),
    ] {
        let [one, other] = addresses;
        let addresses = [one, other, "10.1.0.2/24"];
        let world = World::of(&config6().setting("lan", "addresses", addresses));
        let gateway = AddressQuery { port: LAN, ip: ip6("fe80::1") };
        assert_eq!(world.soft.links.solicitation_source(gateway), ip6(from));
    }
}

#[test]
fn frames_of_our_own_need_a_buffer_and_room() {
    let mut world = world6();
    world.out.frames_left = Some(2);
    assert_eq!(asked(&mut world).len(), 1, "the other was for ARP");
    assert_eq!(world.drops(LAN, DropReason::NoBuffer), 1);
    // An answer is longer than the question without an option.
    let short = framed(WAN_MAC, STRANGER, &solicitation(NEIGHBOUR6, WAN_IP6, None));
    world.frame(WAN, Tight::from_bytes(&short));
    assert_eq!(world.reason(), DropReason::NoRoom);
    let long = framed(WAN_MAC, STRANGER, &solicitation(NEIGHBOUR6, WAN_IP6, Some(STRANGER)));
    assert_eq!(world.frame(WAN, Tight::from_bytes(&long)).len(), 1);
}

#[test]
fn own_link_addresses_are_known() {
    let world = world6();
    let link = world.soft.links.link(WAN).unwrap();
    assert_eq!((link.ipv6, link.mac), (WAN_IP6, MacAddr::new(WAN_MAC)));
    let without = World::new();
    assert_eq!(without.soft.links.link(WAN).unwrap().ipv6, 0);
}
