//! What happens to the headers around a segment: TTL, size, IPv4 options, padding, VLAN tags, and
//! the checks that a frame must pass before anything looks at ports.

use crate::*;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

/// The only frame that was sent, an ICMP message of the POP's own: from, to, type, code, word,
/// quote.
fn own_icmp(sent: &[(anyrelay_core::net::PortIndex, Vec<u8>)]) -> (Seen, (u8, u8, u32, Vec<u8>)) {
    let [(_, frame)] = sent else { panic!("{sent:02x?}") };
    assert!(frame.len() >= 60);
    let seen = Seen::frame(frame);
    assert_eq!((seen.ttl, seen.id, seen.dont_fragment), (64, 0, true));
    let message = seen.icmp();
    (seen, message)
}

#[test]
fn ttl_that_runs_out_is_told_to_the_sender() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).data(b"abc");
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag).data(b"abc");
    let raw = Tcp::new(CLIENT, RAW, ACK);
    let raw_down = Tcp::new(world.target("raw", CLIENT), CLIENT, ACK);
    for (side, segment, own) in [
        (WAN, &up, WEB.0),
        (LAN, &down, egress),
        (WAN, &raw, RAW.0),
        (LAN, &raw_down, ip("10.1.0.2")),
    ] {
        for ttl in [0, 1] {
            let datagram = segment.clone().edit(|segment| segment.ip.ttl = ttl).datagram();
            let sent = world.datagram(side, &datagram);
            assert_eq!(world.reason(), DropReason::TtlExceeded);
            assert!(world.out.said.contains(&Said::Sent(ReplyKind::TimeExceeded)));
            assert_eq!(sent[0].0, side);
            let (seen, (kind, code, word, quote)) = own_icmp(&sent);
            assert_eq!((seen.src, seen.dst), (own, segment.ip.src));
            assert_eq!((kind, code, word, quote), (11, 0, 0, datagram));
        }
        let segment = segment.clone().edit(|segment| segment.ip.ttl = 2);
        assert_eq!(world.forwarded(side, &segment).1.ttl, 1);
    }
}

#[test]
fn own_errors_quote_no_padding_and_fit_every_host() {
    let mut world = World::new();
    let short = Tcp::new(CLIENT, WEB, ACK).edit(|segment| segment.ip.ttl = 1).datagram();
    let mut frame = world.framed(WAN, &short);
    frame.extend([0xee; 40]);
    let sent = world.bytes(WAN, &frame);
    assert_eq!(own_icmp(&sent).1.3, short);
    let long =
        Tcp::new(CLIENT, WEB, ACK).data(&[7; 1400]).edit(|segment| segment.ip.ttl = 1).datagram();
    let sent = world.datagram(WAN, &long);
    let (seen, (.., quote)) = own_icmp(&sent);
    assert_eq!((seen.datagram.len(), &quote[..]), (576, &long[..548]));
}

#[test]
fn a_port_without_an_address_tells_as_the_one_it_was_sent_to() {
    let mut world = World::of(&config().edit(|config| {
        let none: [&str; 0] = [];
        config.ports.push(port("in", "client", &none));
        config.workers[0].set("rx", ["in:0", "wan:0", "lan:0"]);
    }));
    let port = anyrelay_core::net::PortIndex(2);
    let segment = Tcp::new(CLIENT, WEB, ACK);
    // What comes in there goes out to the targets, and answers go back to where it came from.
    assert_eq!(world.forwarded(port, &segment).0, LAN);
    let expired = segment.edit(|segment| segment.ip.ttl = 1);
    let sent = world.datagram(port, &expired.datagram());
    assert_eq!(sent[0].0, port);
    assert_eq!(own_icmp(&sent).0.src, WEB.0);
}

#[test]
fn own_errors_are_limited_and_drops_are_counted_all_the_same() {
    let mut world = World::of(&config().limit("icmp_per_second", 20));
    let expired = |client: (u32, u16)| {
        Tcp::new(client, WEB, ACK).edit(|segment| segment.ip.ttl = 1).datagram()
    };
    let datagram = expired(CLIENT);
    // One network may have a tenth.
    let answers: Vec<_> = (0..5).map(|_| world.datagram(WAN, &datagram).len()).collect();
    assert_eq!(answers, [1, 1, 0, 0, 0]);
    assert_eq!(world.drops(WAN, DropReason::TtlExceeded), 5);
    assert_eq!(world.counters.replies(ReplyKind::TimeExceeded), 2);
    assert_eq!(world.counters.withheld(ReplyKind::TimeExceeded), 3);
    assert!(world.out.said.contains(&Said::Withheld(ReplyKind::TimeExceeded)));
    // Others are not kept from theirs, up to what all may have.
    let others = (1..20).map(|net| (CLIENT.0 + (net << 8), CLIENT.1));
    let answers: usize = others.map(|other| world.datagram(WAN, &expired(other)).len()).sum();
    assert_eq!(answers, 18);
    // Whatever floods there are at the last hop, senders learn what fits.
    let big = sized(&Tcp::new((CLIENT.0 + (99 << 8), 9), WEB, ACK), 1500).datagram();
    assert_eq!(world.datagram(WAN, &big).len(), 1);
    assert_eq!(world.counters.replies(ReplyKind::FragmentationNeeded), 1);
    assert_eq!(world.counters.withheld(ReplyKind::FragmentationNeeded), 0);
    // Targets are few, and send to all clients.
    let (egress, port, tag) = world.egress("web", CLIENT);
    let down = sized(&Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag), 1501).datagram();
    let answers: usize = (0..30).map(|_| world.datagram(LAN, &down).len()).sum();
    assert_eq!(answers, 19);
    world.later(1000);
    assert_eq!(world.datagram(WAN, &datagram).len(), 1);
}

/// A segment whose datagram has this length.
fn sized(segment: &Tcp, len: usize) -> Tcp {
    let headers = 40 + segment.options.len();
    segment.clone().data(&vec![0x5a; len - headers])
}

#[test]
fn what_does_not_fit_is_told_with_the_mtu_that_does() {
    let mut world = World::of(&config().setting("lan", "mtu", 1400));
    let cases = [
        (Tcp::new(CLIENT, WEB, ACK).stamped(1, 2), 1400),
        (Tcp::new(CLIENT, WEB, ACK), 1388),
        (Tcp::new(CLIENT, RAW, ACK), 1400),
    ];
    assert_too_big(&mut world, WAN, &cases);

    let mut world = World::of(&config().setting("wan", "mtu", 1400));
    let (egress, port, tag) = world.egress("web", CLIENT);
    let down = |flags, echo| Tcp::new(WEB_TARGET, (egress, port), flags).stamped(1, echo);
    // From the answer to a bare SYN twelve bytes go, so that more fits.
    let cases = [(down(ACK, tag), 1400), (down(SYN | ACK, tag - 1), 1412)];
    assert_too_big(&mut world, LAN, &cases);
}

fn assert_too_big(world: &mut World, side: anyrelay_core::net::PortIndex, cases: &[(Tcp, usize)]) {
    for (segment, fits) in cases {
        world.forwarded(side, &sized(segment, *fits));
        let big = sized(segment, fits + 1);
        let sent = world.datagram(side, &big.datagram());
        assert_eq!(world.reason(), DropReason::TooBig);
        let (seen, (kind, code, word, quote)) = own_icmp(&sent);
        assert_eq!((seen.src, seen.dst), (segment.ip.dst, segment.ip.src));
        assert_eq!((kind, code, word as usize), (3, 4, *fits));
        assert_eq!(quote, big.datagram()[..548]);
        // What is damaged is not answered.
        let mut damaged = big.datagram();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(world.dropped(side, &damaged), DropReason::TcpChecksum);
        // Without DF nobody is told: it leaves in fragments.
        let may_fragment = big.edit(|segment| segment.ip.fragment = 0);
        assert_eq!(world.datagram(side, &may_fragment.datagram()).len(), 2);
    }
}

#[test]
fn ipv4_options_go_whatever_happens_to_the_tcp_options() {
    let mut world = World::new();
    let up = |options: &[u8]| Tcp::new(CLIENT, WEB, ACK).options(options).data(b"data!");
    let (egress, port, tag) = world.egress("web", CLIENT);
    let down = |flags, options: &[u8]| {
        Tcp::new(WEB_TARGET, (egress, port), flags).options(options).data(b"data!")
    };
    let late = |tag| [vec![3, 3, 7, 1], timestamps(9, tag)].concat();
    let segments = [
        (WAN, up(&timestamps(1, 2))),
        (WAN, up(&[])),
        (WAN, up(&[1, 1, 5, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])),
        (LAN, down(ACK, &timestamps(9, tag))),
        (LAN, down(SYN | ACK, &timestamps(9, tag - 1))),
        (LAN, down(SYN | ACK, &late(tag - 1))),
    ];
    for (side, segment) in segments {
        let (_, plain) = world.forwarded(side, &segment);
        for words in 1..=10usize {
            // Router alert, then NOPs and the end of the list.
            let mut options = vec![1; 4 * words];
            options[..4].copy_from_slice(&[148, 4, 0, 0]);
            *options.last_mut().unwrap() = 0;
            let with = segment.clone().edit(|segment| segment.ip.options = options);
            let (_, seen) = world.forwarded(side, &with);
            assert_eq!(seen.datagram, plain.datagram, "{words} words");
            seen.tcp();
        }
    }
}

#[test]
fn source_routes_and_lying_ipv4_options_are_refused() {
    let mut world = World::new();
    let with = |options: &[u8]| {
        let segment = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
        segment.edit(|segment| segment.ip.options = options.to_vec()).datagram()
    };
    for kind in [131, 137] {
        let route = with(&[1, kind, 7, 4, 192, 0, 2, 9]);
        assert_eq!(world.dropped(WAN, &route), DropReason::SourceRoute);
    }
    for lying in [[148, 0, 0, 0], [148, 1, 0, 0], [148, 5, 0, 0], [1, 1, 1, 148]] {
        assert_eq!(world.dropped(WAN, &with(&lying)), DropReason::Ipv4Options, "{lying:?}");
    }
}

#[test]
fn padding_is_cut() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    for (side, segment) in [
        (WAN, Tcp::new(CLIENT, WEB, ACK)),
        (LAN, Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(3, tag)),
    ] {
        let (_, plain) = world.forwarded(side, &segment);
        let mut frame = world.framed(side, &segment.datagram());
        frame.extend([0xee; 9]);
        let sent = world.bytes(side, &frame);
        assert_eq!(sent[0].1.len(), 14 + plain.datagram.len());
        let seen = Seen::frame(&sent[0].1);
        assert_eq!(seen.datagram, plain.datagram);
        seen.tcp();
    }
}

#[test]
fn a_port_with_a_vlan_takes_and_sends_its_tag_only() {
    let mut world = World::of(&config().setting("wan", "vlan", 7));
    let datagram = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).datagram();
    let frame = |vlan, datagram: &[u8]| ethernet(WAN_MAC, WAN_GATEWAY, vlan, 0x0800, datagram);
    for vlan in [None, Some(0), Some(8)] {
        let reason = world.dropped_bytes(WAN, &frame(vlan, &datagram));
        assert_eq!(reason, DropReason::WrongVlan, "{vlan:?}");
    }
    // Priority and drop-eligible bits say nothing of the VLAN.
    for vlan in [7, 0xb007] {
        let sent = world.bytes(WAN, &frame(Some(vlan), &datagram));
        let seen = Seen::frame(&sent[0].1);
        assert_eq!((sent[0].0, seen.vlan), (LAN, None));
        seen.tcp();
    }
    // The way down is tagged, with and without twelve bytes less.
    let (egress, port, tag) = world.egress("web", CLIENT);
    for (flags, echo) in [(ACK, tag), (SYN | ACK, tag - 1)] {
        let down = Tcp::new(WEB_TARGET, (egress, port), flags).stamped(3, echo);
        let (_, seen) = world.forwarded(LAN, &down);
        assert_eq!(seen.vlan, Some(7));
    }
    // So is what the POP originates.
    let expiring = Tcp::new(CLIENT, WEB, ACK).edit(|segment| segment.ip.ttl = 1).datagram();
    let sent = world.bytes(WAN, &frame(Some(7), &expiring));
    assert_eq!(Seen::frame(&sent[0].1).vlan, Some(7));
}

#[test]
fn a_port_without_a_vlan_takes_priority_tags() {
    let mut world = World::new();
    let datagram = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).datagram();
    let sent = world.bytes(WAN, &ethernet(WAN_MAC, WAN_GATEWAY, Some(0xe000), 0x0800, &datagram));
    assert_eq!(Seen::frame(&sent[0].1).vlan, None);
    let other = ethernet(WAN_MAC, WAN_GATEWAY, Some(1), 0x0800, &datagram);
    assert_eq!(world.dropped_bytes(WAN, &other), DropReason::WrongVlan);
    // A second tag is a payload that the POP does not know.
    let inner = [&[0, 9, 8, 0][..], &datagram].concat();
    for ethertype in [0x8100, 0x88a8] {
        let twice = ethernet(WAN_MAC, WAN_GATEWAY, Some(0), ethertype, &inner);
        assert_eq!(world.dropped_bytes(WAN, &twice), DropReason::Ethertype);
    }
}

#[test]
fn frames_of_and_for_others_are_refused() {
    let mut world = World::new();
    let datagram = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).datagram();
    let group = [3, 0, 0, 0, 0, 1];
    for (dst, src, reason) in [
        (LAN_MAC, WAN_GATEWAY, DropReason::WrongMac),
        ([0; 6], WAN_GATEWAY, DropReason::WrongMac),
        (WAN_MAC, [0xff; 6], DropReason::WrongMac),
        (WAN_MAC, [0; 6], DropReason::WrongMac),
        (WAN_MAC, group, DropReason::WrongMac),
        ([0xff; 6], WAN_GATEWAY, DropReason::OtherGroup),
        (group, WAN_GATEWAY, DropReason::OtherGroup),
        ([1, 0x80, 0xc2, 0, 0, 0x0e], WAN_GATEWAY, DropReason::LinkControl),
    ] {
        let frame = ethernet(dst, src, None, 0x0800, &datagram);
        assert_eq!(world.dropped_bytes(WAN, &frame), reason, "{dst:02x?} {src:02x?}");
    }
    // Whatever they are tagged with, and whatever is in them: STP has a length, LLDP a type.
    for (vlan, ethertype) in [(None, 38), (Some(9), 0x88cc), (Some(0), 0x8809)] {
        let frame = ethernet([1, 0x80, 0xc2, 0, 0, 0], WAN_GATEWAY, vlan, ethertype, &[0x42; 46]);
        assert_eq!(world.dropped_bytes(WAN, &frame), DropReason::LinkControl);
    }
    let ipv6 = ethernet(WAN_MAC, WAN_GATEWAY, None, 0x86dd, &datagram);
    assert_eq!(world.dropped_bytes(WAN, &ipv6), DropReason::Ipv6Malformed);
    let other = ethernet(WAN_MAC, WAN_GATEWAY, None, 0x0801, &datagram);
    assert_eq!(world.dropped_bytes(WAN, &other), DropReason::Ethertype);
}

#[test]
fn fragments_are_dropped_before_anything_looks_at_ports() {
    let mut world = World::new();
    for fragment in [0x2000, 0x2001, 0x0001, 0x1fff, 0x6000] {
        for protocol in [6, 17] {
            let segment = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).edit(|segment| {
                segment.ip.fragment = fragment;
                segment.ip.protocol = protocol;
            });
            assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::Fragment);
        }
    }
    // The reserved bit is no fragment and passes as it is.
    let segment = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2);
    let sent =
        world.datagram(WAN, &segment.edit(|segment| segment.ip.fragment = 0xc000).datagram());
    assert_eq!(world.verdict(), Verdict::Forward(LAN));
    assert_eq!(sent[0].1[20..22], [0xc0, 0]);
}
