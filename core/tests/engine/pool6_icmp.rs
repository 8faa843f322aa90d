//! ICMPv6 errors about segments of services in pool mode over IPv6, mapped in both directions.

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::DropReason;

use crate::*;

/// A router that is on no link.
const ROUTER: u128 = 0x2600 << 112 | 0x9999;

const TOO_BIG: (u8, u8) = (2, 0);
const UNREACHABLE: (u8, u8) = (1, 0);

/// What is in a frame that left, as a router further on has it.
fn on_its_way(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame[14..].to_vec();
    bytes[7] = 41;
    bytes
}

/// An ICMPv6 error that quotes `len` bytes of a datagram, to who sent it.
fn error(kind: (u8, u8), word: u32, datagram: &[u8], len: usize) -> Vec<u8> {
    let quote = &datagram[..len.min(datagram.len())];
    let message = [&[kind.0, kind.1, 0, 0][..], &word.to_be_bytes(), quote].concat();
    let ip = Ipv6Header::icmp(ROUTER, validator6::address(datagram, 8));
    Ipv6Header { hop_limit: 57, flow: 0, ..ip }.with(&message)
}

/// A datagram of the length in its header as a quote shows it, `len` bytes of it.
fn quoted(datagram: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = datagram[..len.min(datagram.len())].to_vec();
    bytes[7] = 41;
    bytes
}

/// Hands over an error; what left, the only frame, through that port.
fn told(world: &mut World, port: PortIndex, out: PortIndex, error: &[u8]) -> Seen6 {
    let sent = world.datagram(port, error);
    let [(at, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*at, out);
    Seen6::frame(frame)
}

/// `segment` with other options and the checksum that belongs to them.
fn with(segment: &Tcp, options: &[u8]) -> Tcp {
    segment.clone().options(options)
}

#[test]
fn errors_about_a_clients_segments_reach_it() {
    let mut world = pool6_world();
    for (segment, shown, mtus) in [
        // The client's own TSval is not known.
        (
            plain(ACK).stamped(7, 8).data(&[3; 1380]),
            Some(timestamps(0, 8)),
            [(1400, 1400), (600, 1280), (70_000, 70_000)],
        ),
        // The POP put the option in.
        (plain(ACK).data(&[3; 1380]), None, [(1400, 1388), (1290, 1280), (1280, 1280)]),
    ] {
        let up = over6(CLIENT6, DEEP, &segment);
        let went = on_its_way(&world.passed(WAN, &up).1);
        let options = shown.unwrap_or_default();
        let want = over6(CLIENT6, DEEP, &with(&segment, &options));
        for (mtu, announced) in mtus {
            for len in [72, 80, 500, 1232] {
                let seen = told(&mut world, LAN, WAN, &error(TOO_BIG, mtu, &went, len));
                assert_eq!((seen.src, seen.dst, seen.hop_limit), (DEEP.0, CLIENT6.0, 56));
                assert_eq!((seen.message[0], validator::long(&seen.message, 4)), (2, announced));
                let shorter = if options.is_empty() { 12 } else { 0 };
                assert_eq!(seen.message[8..], quoted(&want, len - shorter), "{mtu} {len}");
            }
        }
        let seen = told(&mut world, LAN, WAN, &error((1, 4), 0, &went, 500));
        assert_eq!(seen.message[..2], [1, 4]);
        // Without all of its options it is anybody's.
        assert_eq!(world.dropped(LAN, &error(TOO_BIG, 1400, &went, 71)), DropReason::IcmpQuote);
    }
}

#[test]
fn errors_about_a_targets_segments_reach_it() {
    let mut world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    let stamped = plain(ACK).stamped(9, tsval).data(&[3; 900]);
    let bare = plain(SYN | ACK).options(&linux_syn_options(1400, 9, tsval - 1));
    // Of a SYN-ACK that lost its timestamps, they are put in front of the others.
    let without = [2, 4, (1388u16 >> 8) as u8, 1388u16 as u8, 4, 2, 3, 3, 7, 1, 1, 1];
    let put_in = [timestamps(0, tsval - 1), without.to_vec()].concat();
    for (segment, shown) in [(&stamped, timestamps(9, tsval)), (&bare, put_in)] {
        let down = over6(DEEP_TARGET, egress, segment);
        let went = on_its_way(&world.passed(LAN, &down).1);
        let want = over6(DEEP_TARGET, egress, &with(segment, &shown));
        for (mtu, announced) in [(1400, 1400), (600, 1280)] {
            let longer = want.len() - went.len();
            let seen = told(&mut world, WAN, LAN, &error(TOO_BIG, mtu, &went, 500));
            assert_eq!((seen.src, seen.dst, seen.hop_limit), (egress.0, DEEP_TARGET.0, 56));
            assert_eq!((seen.message[0], validator::long(&seen.message, 4)), (2, announced));
            assert_eq!(seen.message[8..], quoted(&want, 500 + longer));
            // What cannot be read is left alone.
            let seen = told(&mut world, WAN, LAN, &error(TOO_BIG, mtu, &went, 48));
            assert_eq!(seen.message[8..14], went[..6]);
            assert_eq!(seen.message[16..], want[8..48]);
        }
    }
    // A segment of a connection without timestamps shows none.
    let down = over6(DEEP_TARGET, egress, &plain(ACK).stamped(9, tsval));
    let went = over6(DEEP, CLIENT6, &plain(ACK).data(b"data"));
    world.passed(LAN, &down);
    let seen = told(&mut world, WAN, LAN, &error(UNREACHABLE, 0, &went, 500));
    let want = over6(DEEP_TARGET, egress, &plain(ACK).data(b"data"));
    let mut want = want[..].to_vec();
    want[7] = went[7];
    assert_eq!(seen.message[8..], want[..]);
}

#[test]
fn headers_around_and_inside_stay_where_nothing_grows() {
    let mut world = pool6_world();
    let padding = [6u8, 0, 1, 4, 0, 0, 0, 0];
    let extended = |segment: &Tcp| {
        let behind = [&padding[..], &segment6(CLIENT6, DEEP, segment)].concat();
        Ipv6Header::new(CLIENT6.0, DEEP.0).after(60, &behind)
    };
    for (segment, shown) in [
        (plain(ACK).stamped(7, 8).data(&[3; 700]), timestamps(0, 8)),
        (plain(ACK).data(&[3; 700]), Vec::new()),
    ] {
        let went = on_its_way(&world.passed(WAN, &extended(&segment)).1);
        let want = extended(&with(&segment, &shown));
        for len in [80, 300, 1000] {
            let seen = told(&mut world, LAN, WAN, &error(UNREACHABLE, 0, &went, len));
            let shorter = if shown.is_empty() { 12 } else { 0 };
            assert_eq!(seen.message[8..], quoted(&want, len - shorter));
        }
    }
}

#[test]
fn extensions_behind_a_quote_are_cut_off_where_its_length_changes() {
    let mut world = pool6_world();
    // 128 bytes of quote (RFC 4884), and an extension behind it.
    let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4];
    for (segment, options, is_kept) in [
        (plain(ACK).stamped(7, 8).data(&[3; 700]), timestamps(0, 8), true),
        (plain(ACK).data(&[3; 700]), Vec::new(), false),
    ] {
        let went = on_its_way(&world.passed(WAN, &over6(CLIENT6, DEEP, &segment)).1);
        let quote = [&went[..128], &extension].concat();
        let seen = told(&mut world, LAN, WAN, &error(UNREACHABLE, 16 << 24, &quote, 200));
        let want = over6(CLIENT6, DEEP, &with(&segment, &options));
        let (word, rest) = match is_kept {
            true => (16 << 24, [quoted(&want, 128), extension.to_vec()].concat()),
            false => (0, quoted(&want, 116)),
        };
        assert_eq!((validator::long(&seen.message, 4), &seen.message[8..]), (word, &rest[..]));
    }
}

#[test]
fn an_error_of_full_length_does_not_grow() {
    let mut world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    let bare = plain(SYN | ACK).options(&linux_syn_options(1400, 9, tsval - 1)).data(&[3; 1300]);
    let went = on_its_way(&world.passed(LAN, &over6(DEEP_TARGET, egress, &bare)).1);
    let sent = world.datagram(WAN, &error(UNREACHABLE, 0, &went, 1232));
    assert_eq!(sent[0].1.len(), 14 + 1280);
    let seen = Seen6::frame(&sent[0].1);
    assert_eq!(validator6::address(&seen.message, 16), DEEP_TARGET.0);
}

#[test]
fn quotes_that_are_not_of_segments_of_ours_are_refused() {
    use DropReason::*;
    let world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    let sent = |from: End6, to: End6, tsval| over6(from, to, &plain(ACK).stamped(tsval, 8));
    let bare = over6(egress, DEEP_TARGET, &plain(ACK));
    let deeps = world.pooled6("deeps", CLIENT6);
    let chosen = world.target6("deeps", CLIENT6);
    let others = world.targets::<u128>("deeps");
    let other = others.iter().map(|at| (at.ip, at.port)).find(|at| *at != chosen).unwrap();
    let private = sent(DEEP, (ip6("fd00::9"), 9), 7);
    let cases = [
        (LAN, sent(egress, DEEP_TARGET, tsval ^ 2), BadTag),
        (LAN, sent((egress.0 ^ 4, egress.1), DEEP_TARGET, tsval), BadTag),
        (LAN, bare, IcmpQuote),
        (LAN, sent(deeps.0, other, deeps.1), IcmpQuote),
        (LAN, sent(egress, (DEEP_TARGET.0, 1), tsval), IcmpQuote),
        (WAN, sent(egress, DEEP_TARGET, tsval), WrongSide),
        (LAN, sent(DEEP, CLIENT6, 9), WrongSide),
        (WAN, private, IcmpQuote),
    ];
    for (number, (port, quote, reason)) in cases.into_iter().enumerate() {
        let mut world = pool6_world();
        let found = world.dropped(port, &error(UNREACHABLE, 0, &quote, 500));
        assert_eq!(found, reason, "case {number}");
    }
}
