//! Relay services with IPv6: segments both ways, each as `docs/protocol.md` says, and what is
//! refused.

use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::Endpoint;
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::{Endpoint6, IpEndpoint};
use anyrelay_core::relay::mapping::Mapping;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::*;

/// A client's segment of prefix mode.
fn up(flags: u8) -> Tcp {
    Tcp::new(CLIENT, WEB6, flags)
}

/// The fields of a segment that nobody changes.
fn fixed(tcp: &SeenTcp) -> (u32, u32, u8, u16, &[u8]) {
    (tcp.seq, tcp.ack, tcp.flags, tcp.window, &tcp.data)
}

fn sent_fields(segment: &Tcp) -> (u32, u32, u8, u16, &[u8]) {
    (segment.seq, segment.ack, segment.flags, segment.window, &segment.data)
}

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

/// What is refused, why, and whether the service is known by then.
#[test]
fn what_is_not_to_be_relayed_is_dropped_and_counted() {
    use DropReason::*;
    let world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    let raw_target = RAW6_TARGETS[0];
    let of = |service: &str, client: (u32, u16)| world.egress6(service, client);
    let flipped = |bit: u32| (egress.0 ^ 1 << bit, egress.1);
    let down = |from: End6, to: End6, flags| over6(from, to, &plain(flags));
    let up4 = |src: (u32, u16), dst: (u32, u16), flags| Tcp::new(src, dst, flags).datagram();
    let zero = (egress.0, 0);
    let own = (ip("192.0.2.2"), 9);
    let (loopback, vip) = ((ip("127.0.0.1"), 9), (WEB.0, 9));
    let prefixed = Some("web6");
    let raw = Some("raw6");
    let cases = [
        // Through the prefix, up.
        (LAN, up4(CLIENT, WEB6, ACK), WrongSide, None),
        (WAN, up4(loopback, WEB6, ACK), SourceNotAllowed, prefixed),
        (WAN, up4((CLIENT.0, 0), WEB6, ACK), SourceNotAllowed, prefixed),
        (WAN, up4((WEB6.0, 1), WEB6, ACK), SourceNotAllowed, prefixed),
        (WAN, up4(CLIENT, WEB6, SYN | ACK), SynAckFromClient, prefixed),
        (WAN, up4(CLIENT, WEB6, SYN | FIN), TcpFlags, None),
        (WAN, up4(CLIENT, (WEB6.0, 81), ACK), UnservedPort, None),
        // Through the prefix, down.
        (WAN, down(WEB6_TARGET, egress, ACK), WrongSide, None),
        (LAN, down(WEB6_TARGET, egress, SYN), SynFromTarget, prefixed),
        (LAN, down((WEB6_TARGET.0, 8444), egress, ACK), UnknownTarget, None),
        (LAN, down((WEB6_TARGET.0 + 9, 8443), egress, ACK), UnknownTarget, None),
        (LAN, down(raw_target, egress, ACK), UnknownTarget, None),
        (LAN, down(WEB6_TARGET, of("many6", CLIENT), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, flipped(0), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, flipped(31), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, flipped(40), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, zero, ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, of("web6", loopback), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, of("web6", vip), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, of("web6", own), ACK), BadTag, prefixed),
        (LAN, down(WEB6_TARGET, (PREFIX6 + (1 << 64), 9), ACK), NotOurs, None),
        (LAN, down(CLIENT6, egress, ACK), UnknownTarget, None),
        // Transparent, up.
        (LAN, down(CLIENT6, RAW6, ACK), WrongSide, None),
        (WAN, down((CLIENT6.0, 0), RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down(raw_target, RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down(egress, RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down(RAW6, RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down((WAN_IP6, 9), RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down((ip6("fd00::9"), 9), RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down((ip6("fe80::9"), 9), RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down((ip6("ff02::9"), 9), RAW6, ACK), SourceNotAllowed, raw),
        (WAN, down(CLIENT6, RAW6, SYN | ACK), SynAckFromClient, raw),
        (WAN, down(CLIENT6, RAW6, 0), TcpFlags, None),
        (WAN, down(CLIENT6, (RAW6.0, 444), ACK), UnservedPort, None),
        // Transparent, down: LAND through the POP, and what is nobody's.
        (WAN, down(raw_target, CLIENT6, ACK), WrongSide, raw),
        (LAN, down(raw_target, CLIENT6, SYN), SynFromTarget, raw),
        (LAN, down(raw_target, (CLIENT6.0, 0), ACK), NotOurs, raw),
        (LAN, down(raw_target, RAW6_TARGETS[1], ACK), NotOurs, raw),
        (LAN, down(raw_target, raw_target, ACK), NotOurs, raw),
        (LAN, down((raw_target.0, 1), CLIENT6, ACK), NotOurs, None),
        (LAN, down(WEB6_TARGET, CLIENT6, ACK), NotOurs, None),
        // A POP's own addresses.
        (LAN, down(raw_target, (LAN_IP6, 9), ACK), NotOurs, None),
        // An egress address answers no echo requests.
        (LAN, echo6(FAR6, egress.0, b"ping"), IcmpType, None),
    ];
    for (number, (port, datagram, reason, service)) in cases.into_iter().enumerate() {
        let mut world = relay6_world();
        assert_eq!(world.dropped(port, &datagram), reason, "case {number}");
        assert_eq!(world.drops(port, reason), 1);
        for name in ["web6", "many6", "raw6"] {
            let count = world.counters.service_drops(world.service(name).slot, reason);
            assert_eq!(count, u64::from(service == Some(name)), "case {number}: {name}");
        }
    }
}

#[test]
fn a_syn_to_a_port_without_a_service_gets_a_rst_in_its_family() {
    let mut world = relay6_world();
    let sent = world.datagram(WAN, &Tcp::new(CLIENT, (WEB6.0, 81), SYN).datagram());
    assert_eq!(Seen::frame(&sent[0].1).tcp().flags, RST | ACK);
    let sent = world.datagram(WAN, &over6(CLIENT6, (RAW6.0, 444), &plain(SYN)));
    let seen = SeenTcp6::frame(&sent[0].1, 0);
    assert_eq!((seen.src, seen.dst, seen.tcp.flags), (RAW6.0, CLIENT6.0, RST | ACK));
    assert_eq!((seen.tcp.seq, seen.tcp.ack), (0, 0x0102_0305));
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::UnservedPort));
}

#[test]
fn syns_have_their_rates_and_other_segments_do_not_use_them_up() {
    let mut world = World::of(&relay6_config().limit("syn_per_prefix_per_second", 2));
    for n in 0..5u16 {
        let client = (CLIENT.0, 1000 + n);
        world.passed(WAN, &Tcp::new(client, WEB6, ACK).datagram());
        world.passed(WAN, &over6((CLIENT6.0, 1000 + n), RAW6, &plain(ACK)));
        let syns = [
            Tcp::new(client, WEB6, SYN).datagram(),
            over6((CLIENT6.0, 1000 + n), RAW6, &plain(SYN)),
        ];
        for syn in syns {
            if n < 2 {
                world.passed(WAN, &syn);
            } else {
                assert_eq!(world.dropped(WAN, &syn), DropReason::RateSynPrefix);
            }
        }
    }
}

/// An ICMP error of the POP's own over IPv4: type, code, second word, quote.
fn told4(world: &mut World, port: PortIndex, datagram: &[u8]) -> (u8, u8, u32, Vec<u8>) {
    let sent = world.datagram(port, datagram);
    let [(out, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*out, port);
    Seen::frame(frame).icmp()
}

/// The same over IPv6.
fn told6(world: &mut World, port: PortIndex, datagram: &[u8]) -> Vec<u8> {
    let sent = world.datagram(port, datagram);
    let [(out, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*out, port);
    Seen6::frame(frame).message
}

#[test]
fn who_sends_what_is_at_its_last_hop_is_told_in_his_family() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    for ttl in [0, 1] {
        let datagram = up(ACK).edit(|s| s.ip.ttl = ttl).datagram();
        let (kind, code, _, quote) = told4(&mut world, WAN, &datagram);
        assert_eq!((kind, code, quote), (11, 0, datagram));
        for (port, from, to) in
            [(LAN, WEB6_TARGET, egress), (WAN, CLIENT6, RAW6), (LAN, RAW6_TARGETS[0], CLIENT6)]
        {
            let ip = Ipv6Header { hop_limit: ttl, ..Ipv6Header::new(from.0, to.0) };
            let datagram = ip.with(&segment6(from, to, &plain(ACK)));
            let message = told6(&mut world, port, &datagram);
            assert_eq!((message[..2].to_vec(), &message[8..]), (vec![3, 0], &datagram[..]));
        }
        assert_eq!(world.reason(), DropReason::TtlExceeded);
    }
}

#[test]
fn who_sends_what_does_not_fit_is_told_in_his_family_what_would() {
    // Towards the target there is less room: 20 bytes less still for IPv4, whose header is shorter.
    let mut world = World::of(&relay6_config().setting("lan", "mtu", 1400));
    for (data, fits) in [(1340, true), (1341, false)] {
        let datagram = up(ACK).data(&vec![1; data]).datagram();
        if fits {
            world.passed(WAN, &datagram);
            continue;
        }
        let (kind, code, word, quote) = told4(&mut world, WAN, &datagram);
        assert_eq!((kind, code, word, &quote[..]), (3, 4, 1380, &datagram[..548]));
    }
    let datagram = |data| over6(CLIENT6, RAW6, &plain(ACK).data(&vec![1; data]));
    world.passed(WAN, &datagram(1340));
    let message = told6(&mut world, WAN, &datagram(1341));
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 120]);
    assert_eq!(message[8..], datagram(1341)[..1280 - 48]);
    let mut damaged = datagram(1341);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(world.dropped(WAN, &damaged), DropReason::TcpChecksum);

    let mut world = World::of(&relay6_config().setting("wan", "mtu", 1400));
    let egress = world.egress6("web6", CLIENT);
    let datagram = |data| over6(WEB6_TARGET, egress, &plain(ACK).data(&vec![1; data]));
    world.passed(LAN, &datagram(1360));
    let message = told6(&mut world, LAN, &datagram(1361));
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 140]);
    assert_eq!(world.reason(), DropReason::TooBig);
}

#[test]
fn what_may_be_fragmented_goes_on_in_fragments() {
    let mut wide = relay6_world();
    let mut narrow = World::of(&relay6_config().setting("lan", "mtu", 1400));
    let mut ids = Vec::new();
    for (number, data) in [1341, 1342, 1400, 1440].into_iter().enumerate() {
        let numbers = |s: &mut Tcp| (s.ip.fragment, s.ip.id) = (0, 7 + number as u16);
        let datagram = up(ACK).data(&vec![9; data]).edit(numbers).datagram();
        let (_, whole) = wide.passed(WAN, &datagram);
        let sent = narrow.datagram(WAN, &datagram);
        assert_eq!((sent.len(), narrow.verdict()), (2, Verdict::Forward(LAN)));
        let (together, id) = reassemble6(&sent).unwrap();
        assert_eq!(together, whole);
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    // All or nothing.
    narrow.out.frames_left = Some(1);
    let datagram = up(ACK).data(&[9; 1400]).edit(|s| s.ip.fragment = 0).datagram();
    assert_eq!(narrow.dropped(WAN, &datagram), DropReason::NoBuffer);
}

#[test]
fn small_segments_to_ipv4_clients_may_be_fragmented() {
    // A port without IPv6 may have less than 1280 bytes, below which no target goes.
    let config = |mtu: usize| {
        relay6_config().edit(|of_all| {
            of_all.ports[0] = config().named("wan").clone().with("mtu", mtu);
            of_all.relays.retain(|relay| relay.name() != "raw6");
        })
    };
    let (mut wide, mut narrow) = (World::of(&config(1500)), World::of(&config(1000)));
    let egress = wide.egress6("web6", CLIENT);
    for data in [961, 1220] {
        let datagram = over6(WEB6_TARGET, egress, &plain(ACK).data(&vec![3; data]));
        let (_, whole) = wide.passed(LAN, &datagram);
        let sent = narrow.datagram(LAN, &datagram);
        let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!(reassemble(&frames, 1000), whole);
    }
    // A longer one has DF set: its target can send smaller ones, and is told.
    let datagram = over6(WEB6_TARGET, egress, &plain(ACK).data(&[3; 1221]));
    let message = told6(&mut narrow, LAN, &datagram);
    assert_eq!(message[..8], [2, 0, 0, 0, 0, 0, 5, 0]);
}

#[test]
fn without_room_or_a_way_nothing_is_sent() {
    let mut world = relay6_world();
    let egress = world.egress6("web6", CLIENT);
    let frame = world.framed(WAN, &up(ACK).datagram());
    assert_eq!(world.frame(WAN, Tight::from_bytes(&frame)), []);
    assert_eq!(world.reason(), DropReason::NoRoom);
    // The other way headers become shorter, so that there is always room.
    let frame = world.framed(LAN, &over6(WEB6_TARGET, egress, &plain(ACK)));
    assert_eq!(world.frame(LAN, Tight::from_bytes(&frame)).len(), 1);

    let mut world = World::of(&relay6_config().edit(|config| {
        config.named("lan").remove("gateway_macs");
    }));
    world.poll();
    world.out.sent.clear();
    assert_eq!(world.dropped(WAN, &up(ACK).datagram()), DropReason::NeighbourUnresolved);
    let mut config = relay6_config().parse();
    config.ports[1].gateways.clear();
    let mut world = World::with(&config);
    let datagram = over6(CLIENT6, RAW6, &plain(ACK));
    for datagram in [up(ACK).datagram(), datagram] {
        assert_eq!(world.dropped(WAN, &datagram), DropReason::NoRoute);
    }
}

#[test]
fn targets_on_a_ports_own_link_are_asked_for_and_reached_directly() {
    let on_link = ["[2001:db8:2::77]:8443"];
    let mut world = World::of(&relay6_config().setting("web6", "targets", on_link));
    let host = [2, 0, 0, 0, 9, 9];
    let target = ip6("2001:db8:2::77");
    world.poll();
    let asked = std::mem::take(&mut world.out.sent);
    assert!(
        asked.iter().any(|(port, frame)| *port == LAN && frame[62..78] == target.to_be_bytes())
    );
    let answer = advertisement(target, LAN_IP6, 0x60, host);
    world.frame(LAN, HeapFrame::new(&ethernet(LAN_MAC, host, None, 0x86dd, &answer)));
    let (out, frame) = world.passed(WAN, &up(ACK).datagram());
    let seen = SeenTcp6::frame(&frame, 0);
    assert_eq!((out, seen.dst_mac, seen.dst), (LAN, host, target));
}

#[test]
fn services_between_ipv4_and_ipv4_are_as_they_were_beside_others() {
    let (mut alone, mut beside) = (World::new(), relay6_world());
    let (egress, port, tag) = alone.egress("web", 0, CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).data(b"data");
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    assert_eq!(alone.forwarded(WAN, &up).1.datagram, beside.forwarded(WAN, &up).1.datagram);
    assert_eq!(alone.forwarded(LAN, &down).1.datagram, beside.forwarded(LAN, &down).1.datagram);
}
