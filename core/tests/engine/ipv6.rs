//! IPv6 frames: what is answered, and what everything else is dropped for.

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::bad_input::Place;
use crate::validator_echo::check_fragment;
use crate::*;

fn framed(datagram: &[u8]) -> Vec<u8> {
    ethernet(WAN_MAC, WAN_GATEWAY, None, 0x86dd, datagram)
}

fn dropped(world: &mut World, datagram: &[u8]) -> DropReason {
    world.dropped_bytes(WAN, &framed(datagram))
}

/// An echo reply in full.
fn assert_echoed(sent: &Sent, src: u128, dst: u128, payload: &[u8]) {
    let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
    let want = Seen6 {
        dst_mac: WAN_GATEWAY,
        src_mac: WAN_MAC,
        src,
        dst,
        hop_limit: 64,
        traffic_class: 0xb9,
        message: [&[129, 0, 0, 0, 0xab, 0xcd, 0, 7][..], payload].concat(),
    };
    assert_eq!(Seen6::frame(frame), want);
}

#[test]
fn echo_requests_to_the_ports_addresses_are_answered() {
    let mut world = world6();
    // Any of its addresses beyond the link, whichever port it is of; link-local ones of this port.
    for dst in [WAN_IP6, LAN_IP6, LINK_LOCAL] {
        for src in [FAR6, NEIGHBOUR6, ip6("fe80::77"), ip6("fd00::1")] {
            for payload in [&b"four"[..], b"odd", &[7; 1400]] {
                let sent = world.bytes(WAN, &framed(&echo6(src, dst, payload)));
                assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Echo));
                assert_echoed(&sent, dst, src, payload);
            }
        }
    }
    for dst in [ip6("fe80::b"), ip6("ff02::1"), solicited_node(WAN_IP6), FAR6] {
        assert_eq!(dropped(&mut world, &echo6(NEIGHBOUR6, dst, b"")), DropReason::NotOurs);
    }
}

#[test]
fn echo_is_answered_without_extension_headers_and_padding() {
    let mut world = world6();
    let request = &echo6(FAR6, WAN_IP6, b"payload")[40..];
    let options = [1, 4, 0, 0, 0, 0];
    for (kinds, extra) in [(&[0u8][..], 0), (&[60], 1), (&[0, 60], 2), (&[0, 60, 60, 60], 30)] {
        let mut payload = Vec::new();
        for (place, _) in kinds.iter().enumerate() {
            payload.extend([*kinds.get(place + 1).unwrap_or(&58), 0]);
            payload.extend(options);
        }
        payload.extend(request);
        let mut frame = framed(&Ipv6Header::new(FAR6, WAN_IP6).after(kinds[0], &payload));
        frame.extend(vec![0xee; extra]);
        let sent = world.bytes(WAN, &frame);
        assert_echoed(&sent, WAN_IP6, FAR6, b"payload");
    }
}

#[test]
fn echo_is_limited_and_goes_to_nobody_who_cannot_have_asked() {
    let mut world = World::of(&config6().limit("echo_per_second", 20));
    for src in
        ["::", "::1", "::ffff:1.2.3.4", "ff02::1", "2001:db8:1::2", "2001:db8:2::2", "fe80::a"]
    {
        let request = echo6(ip6(src), WAN_IP6, b"");
        assert_eq!(dropped(&mut world, &request), DropReason::SourceNotAllowed, "{src}");
    }
    let request = framed(&echo6(FAR6, WAN_IP6, b""));
    let answers: Vec<_> = (0..4).map(|_| world.bytes(WAN, &request).len()).collect();
    assert_eq!((answers, world.reason()), (vec![1, 1, 0, 0], DropReason::RateEcho));
    assert_eq!(world.drops(WAN, DropReason::RateEcho), 2);
    let mut world = world6();
    // A reassembled one, whose reply is longer than the link's MTU, is answered in fragments.
    for (len, frames) in [(1452, 1), (1453, 2)] {
        assert_eq!(world.bytes(WAN, &framed(&echo6(FAR6, WAN_IP6, &vec![0; len]))).len(), frames);
    }
}

#[test]
fn echo_requests_to_a_tunnels_vip_are_answered() {
    let mut world = World::of(&config6().tunnel(tunnel("tun", &[VIP6])));
    let vip = ip6("2001:db8:f::20");
    let sent = world.bytes(WAN, &framed(&echo6(FAR6, vip, b"payload")));
    assert_echoed(&sent, vip, FAR6, b"payload");
    // It is routed to the POP, not on its link; and no message can come from it.
    let question = framed(&solicitation(NEIGHBOUR6, vip, Some(WAN_GATEWAY)));
    assert_eq!(world.dropped_bytes(WAN, &question), DropReason::NdNotOurs);
    let request = echo6(vip, WAN_IP6, b"");
    assert_eq!(dropped(&mut world, &request), DropReason::SourceNotAllowed);
    let big = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &[0; 60]].concat();
    let error = Ipv6Header::icmp(FAR6, vip).with(&big);
    assert_eq!(dropped(&mut world, &error), DropReason::IcmpQuote);
    let error = Ipv6Header::icmp(FAR6, WAN_IP6).with(&big);
    assert_eq!(dropped(&mut world, &error), DropReason::IcmpType);
}

#[test]
fn a_port_with_a_vlan_answers_with_its_tag() {
    let mut world = World::of(&config6().setting("wan", "vlan", 7));
    let group = group_mac(solicited_node(WAN_IP6));
    for (dst, datagram) in
        [(WAN_MAC, echo6(FAR6, WAN_IP6, b"abcd")), (group, solicitation(NEIGHBOUR6, WAN_IP6, None))]
    {
        let sent = world.bytes(WAN, &ethernet(dst, WAN_GATEWAY, Some(7), 0x86dd, &datagram));
        assert_eq!(sent[0].1[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
        let untagged = [&sent[0].1[..12], &sent[0].1[16..]].concat();
        Seen6::frame(&untagged);
        let wrong = ethernet(dst, WAN_GATEWAY, None, 0x86dd, &datagram);
        assert_eq!(world.dropped_bytes(WAN, &wrong), DropReason::WrongVlan);
    }
}

#[test]
fn everything_else_is_dropped_for_what_it_is() {
    let mut world = world6();
    let segment = Tcp::new(CLIENT, WEB, SYN).segment();
    for dst in [WAN_IP6, LINK_LOCAL, NEIGHBOUR6, FAR6, 0, 1] {
        assert_eq!(
            dropped(&mut world, &Ipv6Header::new(FAR6, dst).with(&segment)),
            DropReason::NotOurs
        );
    }
    let cut = Ipv6Header::new(FAR6, WAN_IP6).with(&segment[..19]);
    assert_eq!(dropped(&mut world, &cut), DropReason::TcpMalformed);
    let mut no_flags = segment.clone();
    no_flags[13] = 0;
    let no_flags = Ipv6Header::new(FAR6, WAN_IP6).with(&no_flags);
    assert_eq!(dropped(&mut world, &no_flags), DropReason::TcpFlags);
    let probe = Ipv6Header { next: 17, ..Ipv6Header::new(FAR6, WAN_IP6) }.with(&[0; 30]);
    let sent = world.bytes(WAN, &framed(&probe));
    assert_eq!(world.reason(), DropReason::Protocol);
    let seen = Seen6::frame(&sent[0].1);
    assert_eq!((seen.src, seen.dst, &seen.message[..2]), (WAN_IP6, FAR6, &[1, 4][..]));
    assert_eq!(seen.message[8..], probe);
    // AH, ESP, no next header.
    for protocol in [51, 50, 59] {
        for (dst, reason) in [(WAN_IP6, DropReason::Protocol), (FAR6, DropReason::NotOurs)] {
            let datagram =
                Ipv6Header { next: protocol, ..Ipv6Header::new(FAR6, dst) }.with(&[0; 30]);
            assert_eq!(dropped(&mut world, &datagram), reason);
        }
    }
    // Errors, replies, router discovery, redirect, multicast listeners.
    for kind in [1, 2, 3, 4, 129, 133, 134, 137, 130, 143] {
        let message = [&[kind, 0, 0, 0][..], &[0; 60]].concat();
        let to_us = Ipv6Header::icmp(NEIGHBOUR6, WAN_IP6).with(&message);
        assert_eq!(dropped(&mut world, &to_us), DropReason::IcmpType, "{kind}");
        let all = group_mac(ip6("ff02::1"));
        let to_all = Ipv6Header::icmp(ip6("fe80::1"), ip6("ff02::1")).with(&message);
        let to_all = ethernet(all, WAN_GATEWAY, None, 0x86dd, &to_all);
        assert_eq!(world.dropped_bytes(WAN, &to_all), DropReason::NotOurs, "{kind}");
    }
    let short = Ipv6Header::icmp(FAR6, WAN_IP6).with(&[128, 0, 0, 0, 0, 0, 0]);
    assert_eq!(dropped(&mut world, &short), DropReason::IcmpMalformed);
}

#[test]
fn routing_and_fragment_headers_are_refused_before_anything_looks_behind_them() {
    let mut world = world6();
    let behind = &echo6(FAR6, WAN_IP6, b"payload")[40..];
    let header = |next: u8, rest: [u8; 6]| [&[next, 0][..], &rest].concat();
    let padding = header(43, [1, 4, 0, 0, 0, 0]);
    for (kind, rest, reason) in [
        // Routing headers of any type, also those that are used up.
        (43, [0, 0, 0, 0, 0, 0], DropReason::SourceRoute),
        (43, [0, 1, 0, 0, 0, 0], DropReason::SourceRoute),
        (43, [4, 1, 0, 0, 0, 0], DropReason::SourceRoute),
        // First and later fragments of a segment.
        (44, [0, 1, 0, 0, 0, 9], DropReason::Fragment),
        (44, [0, 0x10, 0, 0, 0, 9], DropReason::Fragment),
        (44, [0xff, 0xf9, 0, 0, 0, 9], DropReason::Fragment),
    ] {
        let next = if kind == 44 { 6 } else { 58 };
        let payload = [&header(next, rest)[..], behind].concat();
        let datagram = Ipv6Header::new(FAR6, WAN_IP6).after(kind, &payload);
        assert_eq!(dropped(&mut world, &datagram), reason);
        let mut padding = padding.clone();
        padding[0] = kind;
        let payload = [&padding[..], &payload].concat();
        let datagram = Ipv6Header::new(FAR6, WAN_IP6).after(60, &payload);
        assert_eq!(dropped(&mut world, &datagram), reason);
    }
}

#[test]
fn atomic_fragments_are_whole() {
    let mut world = world6();
    let whole = echo6(FAR6, WAN_IP6, b"payload");
    let want = world.bytes(WAN, &framed(&whole));
    assert_eq!(want.len(), 1);
    let behind = &whole[40..];
    let atomic = [&[58, 0, 0, 0, 0xca, 0xfe, 0xba, 0xbe][..], behind].concat();
    let ip = Ipv6Header { next: 58, ..Ipv6Header::new(FAR6, WAN_IP6) };
    // Alone, behind options, and with reserved bits.
    let mut alone = ip.after(44, &atomic);
    let padding = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let optional = ip.after(60, &[&padding(44)[..], &atomic].concat());
    for datagram in [&alone, &optional] {
        let answers = world.bytes(WAN, &framed(datagram));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].1[54..], want[0].1[54..], "the whole datagram's answer");
    }
    alone[40 + 3] |= 6;
    assert_eq!(world.bytes(WAN, &framed(&alone)).len(), 1, "reserved bits are not looked at");
    // A damaged payload is as visible as ever.
    let last = alone.len() - 1;
    alone[last] ^= 1;
    assert_eq!(dropped(&mut world, &alone), DropReason::IcmpChecksum);
    // One in another is no datagram of any host's.
    let twice = [&[44, 0, 0, 0, 0, 0, 0, 1][..], &atomic].concat();
    assert_eq!(dropped(&mut world, &ip.after(44, &twice)), DropReason::Fragment);
    let routed = [&[43, 0, 0, 0, 0, 0, 0, 1][..], &[58, 0, 0, 0, 0, 0, 0, 0], behind].concat();
    assert_eq!(dropped(&mut world, &ip.after(44, &routed)), DropReason::SourceRoute);
    // Neighbour discovery may not come that way (RFC 6980).
    for kind in 133..=137 {
        let message = [&[58, 0, 0, 0, 0, 0, 0, 1][..], &[kind, 0, 0, 0], &[0; 28]].concat();
        assert_eq!(dropped(&mut world, &ip.after(44, &message)), DropReason::NdMalformed);
    }
}

#[test]
fn chains_of_extension_headers_end() {
    let mut world = world6();
    let chain = |count: usize, last: u8| {
        let mut payload = Vec::new();
        for place in 0..count {
            let next = if place + 1 == count { last } else { 60 };
            payload.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend(&echo6(FAR6, WAN_IP6, b"data")[40..]);
        Ipv6Header::new(FAR6, WAN_IP6).after(60, &payload)
    };
    for count in 1..=8 {
        assert_eq!(world.bytes(WAN, &framed(&chain(count, 58))).len(), 1, "{count}");
    }
    for count in [9, 10, 100, 180] {
        assert_eq!(dropped(&mut world, &chain(count, 58)), DropReason::Ipv6Options, "{count}");
    }
    // A header that stands for itself leads nowhere; hop-by-hop comes first or not at all.
    assert_eq!(dropped(&mut world, &chain(1, 60)), DropReason::Ipv6Options);
    assert_eq!(dropped(&mut world, &chain(1, 0)), DropReason::Ipv6Options);
}

/// One frame of each kind that is answered or believed.
fn samples() -> Vec<(PortIndex, Vec<u8>)> {
    let padding = [58, 0, 1, 4, 0, 0, 0, 0];
    let request = echo6(FAR6, WAN_IP6, b"payload");
    let extended = Ipv6Header::new(FAR6, WAN_IP6).after(0, &[&padding, &request[40..]].concat());
    let answer = advertisement(ip6("2001:db8:2::1"), LAN_IP6, 0x60, LAN_GATEWAY);
    let group = group_mac(solicited_node(WAN_IP6));
    let asking = |mac| solicitation(NEIGHBOUR6, WAN_IP6, mac);
    vec![
        (WAN, framed(&request)),
        (WAN, framed(&extended)),
        (WAN, ethernet(group, WAN_GATEWAY, None, 0x86dd, &asking(Some(WAN_GATEWAY)))),
        (WAN, ethernet(group, WAN_GATEWAY, None, 0x86dd, &solicitation(0, WAN_IP6, None))),
        (LAN, ethernet(LAN_MAC, LAN_GATEWAY, None, 0x86dd, &answer)),
    ]
}

#[test]
fn the_samples_are_good() {
    let mut world = world6();
    for (port, frame) in samples() {
        world.bytes(port, &frame);
        let verdict = world.verdict();
        assert!(matches!(verdict, Verdict::Reply(_) | Verdict::Absorb(_)), "{verdict:?}");
    }
}

/// Hands over a frame; whatever is sent must be an answer that can be read.
fn checked(world: &mut World, port: PortIndex, frame: &[u8]) -> usize {
    let sent = world.bytes(port, frame);
    if let Some(checked) = check_fragment(port, frame, &sent) {
        assert_eq!(checked, Ok(()), "{frame:02x?}");
        return sent.len();
    }
    assert!(sent.len() <= 1, "{sent:02x?}");
    for (out, bytes) in &sent {
        assert_eq!(*out, port);
        let seen = Seen6::frame(bytes);
        assert_eq!(seen.src_mac, world.mac(port));
        let ours = [WAN_IP6, LAN_IP6, LINK_LOCAL, ip6("fe80::b")];
        assert!(ours.contains(&seen.src), "{seen:x?}");
        match seen.message[0] {
            129 => assert!(seen.hop_limit == 64 && seen.dst >> 120 != 0xff),
            136 => assert_eq!((seen.hop_limit, seen.message.len()), (255, 32)),
            // About UDP, perhaps behind extension headers.
            1 => assert_eq!((seen.message[1], seen.message[8] >> 4), (4, 6)),
            other => panic!("type {other}"),
        }
    }
    sent.len()
}

#[test]
fn truncated_at_every_byte() {
    let mut world = world6();
    for (port, frame) in samples() {
        for len in 0..frame.len() {
            assert_eq!(checked(&mut world, port, &frame[..len]), 0);
            assert!(matches!(world.reason(), DropReason::Runt | DropReason::Ipv6Malformed));
            // Cut off, with a length that says so, and perhaps a checksum that holds.
            if len >= 54 {
                let mut cut = frame[..len].to_vec();
                cut[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes());
                checked(&mut world, port, &cut);
                let at = if frame[20] == 58 { 40 } else { 48 };
                repair_at(&mut cut[14..], ICMPV6, at);
                checked(&mut world, port, &cut);
            }
        }
    }
}

#[test]
fn lengths_that_lie() {
    let mut world = world6();
    for (port, frame) in samples() {
        let payload_len = frame.len() - 54;
        for claimed in (0..=payload_len + 64).chain([0x4000, 0x8000, 0xffff]) {
            let mut lying = frame.clone();
            lying[18..20].copy_from_slice(&(claimed as u16).to_be_bytes());
            let sent = checked(&mut world, port, &lying);
            assert!(sent == 0 || claimed == payload_len, "{claimed} of {payload_len}");
        }
        for version in (0..16).filter(|version| *version != 6) {
            let mut lying = frame.clone();
            lying[14] = version << 4;
            assert_eq!(checked(&mut world, port, &lying), 0);
        }
        for at in 18..frame.len() {
            for value in 0..=255 {
                let mut lying = frame.clone();
                lying[at] = value;
                checked(&mut world, port, &lying);
                let end = lying.len() - 14;
                repair_at(&mut lying[14..][..end], ICMPV6, 40);
                checked(&mut world, port, &lying);
            }
        }
    }
}

/// `ANYRELAY_FULL=1` runs five million.
#[test]
fn random_and_mutated_frames() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let (seed, count) = (11, if full { 5_000_000 } else { 200_000 });
    let (mut rng, mut world) = (Rng(seed), world6());
    let samples = samples();
    let (mut sent, mut place) = (0, Place { seed, number: 0 });
    for number in 0..count {
        place.number = number;
        let (port, mut frame) = samples[rng.index(samples.len())].clone();
        if rng.chance(1, 10) {
            // A chain of extension headers and what may be behind it.
            let kinds = [0, 6, 43, 44, 58, 58, 60, 60];
            let chain: Vec<u8> = (0..rng.index(12))
                .flat_map(|_| [rng.pick(&kinds), rng.pick(&[0, 0, 0, 1]), 1, 4, 0, 0, 0, 0])
                .collect();
            frame = framed(&Ipv6Header::new(FAR6, WAN_IP6).after(rng.pick(&kinds), &chain));
        }
        for _ in 0..rng.index(4) {
            let at = 12 + rng.index(frame.len() - 12);
            frame[at] = rng.next() as u8;
        }
        if rng.chance(1, 8) {
            let len = 14 + rng.index(frame.len() - 14);
            frame.truncate(len);
        }
        if frame.len() >= 54 && rng.chance(1, 2) {
            let payload_len = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
            repair_at(&mut frame[14..], ICMPV6, 40);
        }
        if frame.get(12..14) != Some(&[0x86, 0xdd]) {
            continue;
        }
        sent += checked(&mut world, port, &frame);
        world.later(1);
    }
    let share = sent as f64 / count as f64;
    assert!((0.1..0.9).contains(&share), "too few or too many were answered: {share}");
}
