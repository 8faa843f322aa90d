//! Packets to open addresses, from hosts that know nothing of tunnels.

use super::*;

#[test]
fn a_packet_goes_down_to_its_agent_as_it_is() {
    let mut three = Three::new();
    let (a, b) = (three.a.clone(), three.b.clone());
    let slot = three.world.snapshot.tunnel_at(a.agent.vip).unwrap().slot;
    let mut count = 0;
    for to in [&a, &b] {
        let header = Ipv6Header::new(HOST, to.address);
        for inner in [
            header.with(&Tcp::new((1, 7), (2, 9), SYN).segment()),
            Ipv6Header { next: 17, ..header.clone() }.with(&BODY),
            Ipv6Header { next: 17, ..header.clone() }.with(&[3; 1316]),
            Ipv6Header { next: 59, ..header.clone() }.with(&[]),
            Ipv6Header { hop_limit: 2, traffic_class: 3, ..header.clone() }.with(&[7]),
            Ipv6Header::icmp(HOST, to.address).with(&icmp6(128, 0, [0; 4], b"echo")),
            Ipv6Header::icmp(HOST, to.address).with(&icmp6(2, 0, [0, 0, 5, 0], &[0x60; 99])),
            // Fragments, and headers that the POP itself would not take, are the agent's.
            header.after(FRAGMENT, &fragment6(17, 1400, true, 7, &[5; 64])),
            header.after(ROUTING, &[17, 0, 4, 0, 0, 0, 0, 0, 1, 2]),
            header.after(HOP_BY_HOP, &[17, 0, 0xc3, 4, 0, 0, 0, 0]),
        ] {
            let down = three.down(&inner);
            assert_carries(&three.world, &down, &to.agent, &one_hop_less(&inner));
            let said = three.world.out.said.iter();
            assert_eq!(said.filter(|said| matches!(said, Said::OpenAddress { .. })).count(), 1);
            count += 1;
        }
    }
    assert_eq!(three.world.counters.service(slot).down.packets.get(), count);
}

#[test]
fn buffers_as_ports_have_them_do() {
    let mut three = Three::new();
    let inner = Ipv6Header::new(HOST, three.a.address).with(&BODY);
    let frame = three.world.framed(WAN, &inner);
    let sent = three.world.bytes(WAN, &frame);
    assert_eq!(three.world.frame(WAN, Used::from_bytes(&frame)), sent);
    let padded = [&frame[..], &[0xee; 9]].concat();
    assert_eq!(three.world.bytes(WAN, &padded), sent);
    assert!(three.world.frame(WAN, Tight::from_bytes(&frame)).is_empty());
    assert_eq!(three.world.reason(), DropReason::NoRoom);
}

#[test]
fn every_pop_sends_the_same() {
    let mut three = Three::new();
    for mut pop in [open_world(2), open_world(9)] {
        for number in 0..50u8 {
            let inner = Ipv6Header::new(HOST, three.a.address).with(&[number; 30]);
            let down = three.down(&inner);
            let (_, frame) = pop.passed(WAN, &inner);
            assert_eq!(outer(&frame), down);
        }
    }
}

#[test]
fn offsets_are_spread_by_what_differs_between_packets() {
    let mut three = Three::new();
    let mut offsets = std::collections::BTreeSet::new();
    for ack in 0..2000u32 {
        let header = Ipv6Header::new(HOST, three.a.address);
        let segment = Tcp::new((1, 443), (2, 50_000), ACK).numbers(7, ack * 1460);
        offsets.insert(three.down(&header.with(&segment.segment())).data[1]);
    }
    // 256 places for 64 bytes, each of which is missed with a chance of e^-7.8: 0.1 of them.
    assert!((250..=256).contains(&offsets.len()), "{}", offsets.len());
    // The longest packet has the fewest places.
    let longest = |number: u32| {
        let body = [&number.to_be_bytes()[..], &[0; 1312]].concat();
        three.down(&Ipv6Header::new(HOST, three.a.address).with(&body)).data[1]
    };
    assert_eq!((0..3000).map(longest).max(), Some(((16384 - 1360) / 64) as u8));
    // What is behind the first 16 bytes does not matter.
    let mut of = |end: u8| {
        let body = [[1; 16], [end; 16]].concat();
        three.down(&Ipv6Header::new(HOST, three.a.address).with(&body)).data[1]
    };
    assert!(of(1) == of(2) && of(2) == of(3));
}

#[test]
fn addresses_that_no_pop_gave() {
    let mut three = Three::new();
    let address = three.a.address;
    let to = |address| Ipv6Header { next: 17, ..Ipv6Header::new(HOST, address) }.with(&BODY);
    for bit in 0..79 {
        three.refuses_datagram(&to(address ^ 1 << bit), DropReason::OpenAddress);
    }
    three.refuses_datagram(&to(address ^ 1 << 79), DropReason::OpenEpoch);
    // Another prefix of the same tunnel's keys, and the other tunnel's.
    let moved = address & !(u128::MAX << 80) | three.rival.address >> 80 << 80;
    assert_eq!(three.world.dropped(WAN, &to(moved)), DropReason::OpenAddress);
    assert_eq!(three.world.dropped(WAN, &to(address ^ 1 << 90)), DropReason::NotOurs);
}

#[test]
fn keys_and_epochs_decide_alone() {
    let Three { a, .. } = Three::new();
    let packet = Ipv6Header::new(HOST, a.address).with(&BODY);
    let keys = KEYS.replace("4041", "4140");
    let mut other = tunnel_world_of(&open_config(1), &keys);
    assert_eq!(other.dropped(WAN, &packet), DropReason::OpenAddress);
    // The epoch of the address is odd then, or over.
    let (relay, _) = KEYS.split_once("token").unwrap();
    let epoch = |number: u8, from: &str| {
        let secret = KEYS.split('"').nth(5).unwrap();
        let secret = if number == 0 { secret.to_owned() } else { "51".repeat(32) };
        format!("[[token]]\nepoch = {number}\nsecret = \"{secret}\"\n{from}\n")
    };
    let started = "2026-11-17T18:06:44Z";
    let both = format!("{relay}{}{}", epoch(0, ""), epoch(1, &format!("not_before = {started}")));
    let started = anyrelay_core::time::parse_time(started).unwrap().as_millis();
    let day = 24 * 3600 * 1000;
    for (ms, is_taken) in [(-1i64, true), (0, true), (day - 1, true), (day, false)] {
        let mut world = tunnel_world_of(&open_config(1), &both);
        world.now.unix =
            anyrelay_core::time::UnixTime::from_millis(started.wrapping_add_signed(ms));
        match is_taken {
            true => drop(world.passed(WAN, &packet)),
            false => assert_eq!(world.dropped(WAN, &packet), DropReason::OpenEpoch),
        }
        // A new one is of the new epoch from its time on, and differs.
        let opened = Opened::connected(&mut world, OPEN, (1, 1), A4);
        assert_eq!(opened.address == a.address, ms < 0);
        assert_eq!(opened.address >> 79 & 1 == 1, ms >= 0);
        world.passed(WAN, &Ipv6Header::new(HOST, opened.address).with(&BODY));
    }
}

#[test]
fn who_may_not_send_to_open_addresses() {
    let mut three = Three::new();
    let (a, b, rival) = (three.a.clone(), three.b.clone(), three.rival.clone());
    let from = |src| Ipv6Header::new(src, a.address).with(&BODY);
    for src in [a.address, b.address, rival.address, a.address ^ 1] {
        three.refuses_datagram(&from(src), DropReason::OpenSpoofed);
    }
    for src in
        ["::", "::1", "fe80::7", "ff02::1", "::ffff:8.8.8.8", "2001:db8:f::20", "2001:db8:1::2"]
    {
        three.refuses_datagram(&from(ip6(src)), DropReason::SourceNotAllowed);
    }
    // What POPs send messages to agents from.
    three.refuses_datagram(&from(ip6(SOURCE)), DropReason::OpenSpoofed);
    let frame = three.world.framed(LAN, &from(HOST));
    assert_eq!(three.world.dropped_bytes(LAN, &frame), DropReason::WrongSide);
}

#[test]
fn an_address_that_can_be_no_agents() {
    let mut three = Three::new();
    let elsewhere = Opened::connected(&mut three.world, OPEN, (1, 2), "198.51.100.77:9");
    let config = open_config(1).setting("web", "targets", ["198.51.100.77:8443"]);
    let now = three.world.now;
    three.world = tunnel_world_of(&config, KEYS);
    three.world.now = now;
    let packet = Ipv6Header::new(HOST, elsewhere.address).with(&BODY);
    three.refuses_datagram(&packet, DropReason::DestinationNotAllowed);
}

/// Where POPs reassemble, fragments to agents pass as they are, in any form: their hosts look.
#[test]
fn fragments_are_for_the_host_of_the_agent() {
    use anyrelay_core::frame::HeapFrame;
    use anyrelay_core::pop::{Arrived, Pop};
    let config = open_config(1).set("fragments", "reassemble");
    let Three { mut world, a, .. } = Three::of(&config);
    let header = Ipv6Header::new(HOST, a.address);
    let options = [&[FRAGMENT, 0, 1, 4, 0, 0, 0, 0][..], &fragment6(17, 0, true, 7, &[5; 64])];
    let packets = [
        header.after(FRAGMENT, &fragment6(17, 0, true, 7, &[5; 64])),
        header.after(60, &options.concat()),
        Ipv6Header::icmp(HOST, a.address).after(FRAGMENT, &fragment6(58, 0, true, 7, &[135; 64])),
    ];
    for packet in packets {
        let mut frame = HeapFrame::new(&world.framed(WAN, &packet));
        let looked = Pop::incoming(&world.workers[0], &world.snapshot, WAN, &mut frame);
        assert_eq!(looked, Arrived::Whole);
        let (_, frame) = world.passed(WAN, &packet);
        assert_eq!(outer(&frame).data[4..], one_hop_less(&packet));
    }
}
