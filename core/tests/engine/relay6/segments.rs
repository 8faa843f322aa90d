//! Segments that are relayed.

use super::*;

#[test]
fn an_ipv4_clients_segments_reach_its_ipv6_target() {
    let mut world = relay6_world();
    let (egress, port) = world.egress6("web6", CLIENT);
    for (options, data) in [
        (linux_syn_options(1460, 7, 0), &b""[..]),
        (plain_syn_options(1460), b""),
        (timestamps(7, 8), b"GET / odd"),
        (Vec::new(), b"even"),
        (Vec::new(), &[0x5a; 1400]),
    ] {
        let syn = options.first() == Some(&2);
        let segment = up(if syn { SYN } else { ACK | PSH }).options(&options).data(data);
        let (out, frame) = world.passed(WAN, &segment.datagram());
        let seen = SeenTcp6::frame(&frame, 0);
        assert_eq!((out, seen.dst_mac, seen.src_mac), (LAN, LAN_GATEWAY, LAN_MAC));
        assert_eq!((seen.src, seen.dst), (egress, WEB6_TARGET.0));
        assert_eq!((seen.tcp.sport, seen.tcp.dport), (port, WEB6_TARGET.1));
        assert_eq!((seen.hop_limit, seen.traffic_class, seen.flow), (56, 0xb9, 0));
        assert_eq!(fixed(&seen.tcp), sent_fields(&segment));
        let mut want = options.clone();
        if syn {
            // 1500 less the headers of IPv6 and TCP.
            want[2..4].copy_from_slice(&1440u16.to_be_bytes());
        }
        assert_eq!(seen.tcp.options, want);
        let egress = Endpoint { ip: egress, port }.into();
        let target = Endpoint { ip: WEB6_TARGET.0, port: WEB6_TARGET.1 }.into();
        let client = Endpoint { ip: CLIENT.0, port: CLIENT.1 }.into();
        let mapping = Mapping { client, egress, target, tag: None };
        assert!(world.out.said.contains(&Said::Mapped("prefix", mapping)));
    }
    let counters = world.counters.service(world.service("web6").slot);
    assert_eq!((counters.up.packets.get(), counters.down.packets.get()), (5, 0));
}

#[test]
fn ipv4_options_do_not_go_on_and_padding_is_cut_off() {
    let mut world = relay6_world();
    let segment = up(ACK).data(b"x").edit(|s| s.ip.options = vec![7, 7, 4, 1, 2, 3, 4, 0]);
    let mut frame = world.framed(WAN, &segment.datagram());
    frame.extend([0xee; 9]);
    let sent = world.bytes(WAN, &frame);
    let seen = SeenTcp6::frame(&sent[0].1, 0);
    assert_eq!(fixed(&seen.tcp), sent_fields(&segment));
}

#[test]
fn an_ipv6_targets_segments_reach_its_ipv4_client() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    let padding = [6u8, 0, 1, 4, 0, 0, 0, 0];
    for (options, data, extended) in [
        (linux_syn_options(1460, 7, 9), &b""[..], false),
        (timestamps(7, 8), b"200 OK odd", false),
        (Vec::new(), b"even", true),
        (Vec::new(), &[0x5a; 1220][..], false),
        (Vec::new(), &[0x5a; 1221], false),
        (Vec::new(), &[0x5a; 1400], true),
    ] {
        let syn = options.first() == Some(&2);
        let segment = plain(if syn { SYN | ACK } else { ACK | PSH }).options(&options).data(data);
        let bytes = segment6(WEB6_TARGET, egress, &segment);
        let ip = Ipv6Header::new(WEB6_TARGET.0, egress.0);
        let datagram = match extended {
            true => ip.after(60, &[&padding, &bytes[..]].concat()),
            false => ip.with(&bytes),
        };
        let (out, frame) = world.passed(LAN, &datagram);
        let seen = Seen::frame(&frame);
        let tcp = seen.tcp();
        assert_eq!((out, seen.dst_mac, seen.src_mac), (WAN, WAN_GATEWAY, WAN_MAC));
        assert_eq!((seen.src, seen.dst, seen.ttl, seen.tos), (WEB6.0, CLIENT.0, 56, 0xb9));
        assert_eq!((tcp.sport, tcp.dport, seen.ip_options.len()), (WEB6.1, CLIENT.1, 0));
        assert_eq!(fixed(&tcp), sent_fields(&segment));
        let mut want = options.clone();
        if syn {
            want[2..4].copy_from_slice(&1440u16.to_be_bytes());
        }
        assert_eq!(tcp.options, want);
        // RFC 7915, section 5.1: up to 1260 bytes may be fragmented, and then have an ID.
        assert_eq!(seen.dont_fragment, seen.datagram.len() > 1260, "{}", seen.datagram.len());
        assert!(seen.id == 0 || !seen.dont_fragment);
    }
}

#[test]
fn ids_of_what_may_be_fragmented_differ_by_segment_and_not_by_pop() {
    let ids = |world: &mut World| -> Vec<u16> {
        let egress = world.egress6("web6", CLIENT);
        let segment = |seq| plain(ACK).numbers(seq, 1).data(&[7; 1220]);
        let down = |seq| over6(WEB6_TARGET, egress, &segment(seq));
        (0..50).map(|n| Seen::frame(&world.passed(LAN, &down(n * 1220)).1).id).collect()
    };
    let one = ids(&mut relay6_world());
    assert_eq!(one, ids(&mut World::of(&relay6_config().set("id", 2))));
    let mut distinct = one.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 45, "{one:?}");
}

#[test]
fn ipv6_clients_and_targets_meet_in_transparent_mode() {
    let mut world = relay6_world();
    let target = world.target6("raw6", CLIENT6);
    let options = linux_syn_options(1460, 7, 0);
    let syn = plain(SYN).options(&options);
    let (out, frame) = world.passed(WAN, &over6(CLIENT6, RAW6, &syn));
    let seen = SeenTcp6::frame(&frame, 0);
    assert_eq!((out, seen.src, seen.dst), (LAN, CLIENT6.0, target.0));
    assert_eq!((seen.tcp.sport, seen.tcp.dport), (CLIENT6.1, target.1));
    assert_eq!((seen.hop_limit, seen.traffic_class, seen.flow), (56, 0xb9, 0xa_bcde));
    assert_eq!(seen.tcp.options[..4], [2, 4, 0x05, 0xa0]);
    assert_eq!(seen.tcp.options[4..], options[4..]);

    let segment = plain(ACK | PSH).stamped(1, 2).data(b"odd");
    let (out, frame) = world.passed(LAN, &over6(target, CLIENT6, &segment));
    let seen = SeenTcp6::frame(&frame, 0);
    assert_eq!((out, seen.src, seen.dst), (WAN, RAW6.0, CLIENT6.0));
    assert_eq!((seen.tcp.sport, seen.tcp.dport), (RAW6.1, CLIENT6.1));
    assert_eq!((fixed(&seen.tcp), &seen.tcp.options), (sent_fields(&segment), &timestamps(1, 2)));
    let end = |(ip, port)| IpEndpoint::from(Endpoint6 { ip, port });
    let (client, target_end) = (end(CLIENT6), end(target));
    let mapping = Mapping { client, egress: client, target: target_end, tag: None };
    let passed = Said::Mapped("transparent", mapping);
    assert!(world.out.said.contains(&passed), "{:?}", world.out.said);

    // Extension headers stay, as routers leave them.
    let padding = [&[6u8, 0, 1, 4, 0, 0, 0, 0], &segment6(target, CLIENT6, &segment)[..]].concat();
    let (_, frame) = world.passed(LAN, &Ipv6Header::new(target.0, CLIENT6.0).after(60, &padding));
    let seen = SeenTcp6::frame(&frame, 8);
    assert_eq!((&seen.extensions[..], seen.src), (&padding[..8], RAW6.0));
}

#[test]
fn clients_are_spread_over_ipv6_targets_by_the_definition() {
    let mut world = relay6_world();
    let mut met = Vec::new();
    for n in 0..60u16 {
        let client = (CLIENT.0 + u32::from(n / 7), 20_000 + n);
        let segment = Tcp::new(client, MANY6, ACK);
        let seen = SeenTcp6::frame(&world.passed(WAN, &segment.datagram()).1, 0);
        let target = (seen.dst, seen.tcp.dport);
        assert_eq!(target, world.target4("many6", client));
        // And back, whichever it is.
        let egress = world.egress6("many6", client);
        let back = world.passed(LAN, &over6(target, egress, &plain(ACK)));
        let seen = Seen::frame(&back.1);
        assert_eq!((seen.src, seen.tcp().sport, seen.dst), (MANY6.0, MANY6.1, client.0));
        let client6 = (CLIENT6.0 + u128::from(n), 20_000 + n);
        let seen = SeenTcp6::frame(&world.passed(WAN, &over6(client6, RAW6, &plain(ACK))).1, 0);
        assert_eq!((seen.dst, seen.tcp.dport), world.target6("raw6", client6));
        met.extend([target, (seen.dst, seen.tcp.dport)]);
    }
    met.sort_unstable();
    met.dedup();
    assert_eq!(met.len(), 5);
}

#[test]
fn damage_stays_visible() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    let holds4 = |frame: &[u8]| {
        let datagram = validator::read_datagram(&frame[14..]).unwrap();
        validator::read_segment(&datagram).unwrap().checksum_holds
    };
    let holds6 =
        |frame: &[u8]| upper_checksum(&frame[22..38], &frame[38..54], 6, &frame[54..]) == 0;
    for (at, bit) in [(4, 1), (13, 0x20), (16, 0x80), (21, 1)] {
        let mut datagram = up(ACK).data(b"some data").datagram();
        datagram[20 + at] ^= bit;
        assert!(!holds6(&world.passed(WAN, &datagram).1), "{at}");
        let mut datagram = over6(WEB6_TARGET, egress, &plain(ACK).data(b"some data"));
        datagram[40 + at] ^= bit;
        assert!(!holds4(&world.passed(LAN, &datagram).1), "{at}");
        let mut datagram = over6(CLIENT6, RAW6, &plain(ACK).data(b"some data"));
        datagram[40 + at] ^= bit;
        assert!(!holds6(&world.passed(WAN, &datagram).1), "{at}");
    }
}

#[test]
fn rsts_are_mapped_whatever_they_carry() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    for flags in [RST, RST | ACK, FIN | ACK, ACK] {
        let seen = SeenTcp6::frame(&world.passed(WAN, &up(flags).datagram()).1, 0);
        assert_eq!((seen.src, seen.tcp.flags), (egress.0, flags));
        let (_, frame) = world.passed(LAN, &over6(WEB6_TARGET, egress, &plain(flags)));
        assert_eq!((Seen::frame(&frame).dst, Seen::frame(&frame).tcp().flags), (CLIENT.0, flags));
    }
}

#[test]
fn services_between_ipv4_and_ipv4_are_as_they_were_beside_others() {
    let (mut alone, mut beside) = (World::new(), relay6_world());
    let (egress, port, tag) = alone.egress("web", CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).data(b"data");
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    assert_eq!(alone.forwarded(WAN, &up).1.datagram, beside.forwarded(WAN, &up).1.datagram);
    assert_eq!(alone.forwarded(LAN, &down).1.datagram, beside.forwarded(LAN, &down).1.datagram);
}
