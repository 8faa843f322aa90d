//! ICMP and ICMPv6 errors about segments of services with IPv6, mapped in all directions.

use anyrelay_core::net::{PortIndex, Towards};
use anyrelay_core::verdict::DropReason;

use crate::*;

/// Routers that are on no link.
const ROUTER: u32 = 0x0a09_0909; // 10.9.9.9
const ROUTER6: u128 = 0x2600 << 112 | 0x9999;

/// What a frame that left is in, without its Ethernet header, as a router further on has it.
fn on_its_way(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame[14..].to_vec();
    if bytes[0] >> 4 == 6 {
        bytes[7] = 41;
    } else {
        bytes[8] = 41;
        repair_header(&mut bytes);
    }
    bytes
}

/// An ICMPv6 error that quotes `len` bytes of a datagram, to who sent it.
fn error6(kind: (u8, u8), word: u32, datagram: &[u8], len: usize) -> Vec<u8> {
    let quote = &datagram[..len.min(datagram.len())];
    let message = [&[kind.0, kind.1, 0, 0][..], &word.to_be_bytes(), quote].concat();
    let ip = Ipv6Header::icmp(ROUTER6, validator6::address(datagram, 8));
    let ip = Ipv6Header { hop_limit: 57, flow: 0, ..ip };
    ip.with(&message)
}

/// An ICMP error, likewise.
fn error4(kind: (u8, u8), word: u32, datagram: &[u8], len: usize) -> Vec<u8> {
    let quote = &datagram[..len.min(datagram.len())];
    let message = icmp(kind.0, kind.1, word.to_be_bytes(), quote);
    let ip = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, validator::long(datagram, 12)) };
    ip.with(&message)
}

const TOO_BIG4: (u8, u8) = (3, 4);
const TOO_BIG6: (u8, u8) = (2, 0);

/// What the endpoints of a service in prefix mode sent, and what became of it further on.
struct Prefixed {
    world: World,
    egress: End6,
    sent_up: Vec<u8>,
    went_up: Vec<u8>,
    sent_down: Vec<u8>,
    went_down: Vec<u8>,
}

fn prefixed(config: &PopConfig, data: &[u8]) -> Prefixed {
    let mut world = World::of(config);
    let egress = world.egress6("web6", CLIENT);
    let up = Tcp::new(CLIENT, WEB6, ACK | PSH).stamped(7, 8).data(data);
    let down = plain(ACK | PSH).stamped(9, 10).data(data);
    let (sent_up, sent_down) = (up.datagram(), over6(WEB6_TARGET, egress, &down));
    let went_up = on_its_way(&world.passed(WAN, &sent_up).1);
    let went_down = on_its_way(&world.passed(LAN, &sent_down).1);
    Prefixed { world, egress, sent_up, went_up, sent_down, went_down }
}

/// What left, if it was one frame through that port.
fn one(world: &World, sent: &Sent, out: PortIndex) -> Vec<u8> {
    let [(port, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
    assert_eq!(*port, out);
    frame.clone()
}

#[test]
fn errors_over_ipv6_reach_the_ipv4_client() {
    for (mtu, announced) in [(1400, 1380), (1280, 1260), (68, 1260), (70_000, 65_535)] {
        let Prefixed { mut world, went_up, sent_up, .. } = prefixed(&relay6_config(), &[7; 900]);
        for len in [48, 60, 72, 500, 2000] {
            let sent = world.datagram(LAN, &error6(TOO_BIG6, mtu, &went_up, len));
            let seen = Seen::frame(&one(&world, &sent, WAN));
            assert_eq!((seen.src, seen.dst, seen.ttl), (WEB6.0, CLIENT.0, 56));
            let (kind, code, word, quote) = seen.icmp();
            assert_eq!((kind, code, word), (3, 4, announced));
            // The client's own segment: its addresses, ports, numbers, length.
            let (header, tcp) = quote.split_at(20);
            assert_eq!(internet_checksum(&[header]), 0);
            assert_eq!((header[0], header[8], &header[12..]), (0x45, 41, &sent_up[12..20]));
            assert_eq!(header[2..4], sent_up[2..4]);
            let shown = tcp.len().min(len - 40);
            assert_eq!(tcp[..shown], sent_up[20..20 + shown]);
            assert!(seen.datagram.len() <= 576);
        }
        let counters = world.counters.service(world.service("web6").slot);
        assert_eq!(counters.down.packets.get(), 1 + 5);
    }
}

#[test]
fn errors_over_ipv4_reach_the_ipv6_target() {
    for (mtu, announced) in [(1400, 1420), (1300, 1320), (600, 1280), (68, 1280), (0, 1280)] {
        let Prefixed { mut world, egress, sent_down, went_down, .. } =
            prefixed(&relay6_config(), &[7; 1300]);
        for len in [28, 40, 100, 548, 2000] {
            let sent = world.datagram(WAN, &error4(TOO_BIG4, mtu, &went_down, len));
            let seen = Seen6::frame(&one(&world, &sent, LAN));
            assert_eq!((seen.src, seen.dst, seen.hop_limit), (egress.0, WEB6_TARGET.0, 56));
            assert_eq!((seen.message[0], seen.message[1]), TOO_BIG6);
            assert_eq!(validator::long(&seen.message, 4), announced, "{mtu}");
            let (header, tcp) = seen.message[8..].split_at(40);
            assert_eq!((header[4..7].to_vec(), header[7]), (sent_down[4..7].to_vec(), 41));
            assert_eq!(header[8..], sent_down[8..40]);
            let shown = tcp.len().min(len - 20);
            assert_eq!(tcp[..shown], sent_down[40..40 + shown]);
        }
    }
}

#[test]
fn a_router_that_announces_nothing_is_guessed_for() {
    let Prefixed { mut world, went_down, .. } = prefixed(&relay6_config(), &[7; 1440 - 12]);
    assert_eq!(went_down.len(), 1480);
    // Below 1480 bytes the next likely MTU is less than what IPv6 lets a host go down to; below
    // 1500, which no datagram here has, it would be 1492.
    let sent = world.datagram(WAN, &error4(TOO_BIG4, 0, &went_down, 100));
    let seen = Seen6::frame(&one(&world, &sent, LAN));
    assert_eq!(validator::long(&seen.message, 4), 1280);
}

#[test]
fn the_floor_of_ipv4_holds_for_what_was_ipv6() {
    let config = relay6_config().edit(|config| {
        let web6 = config.relays.iter_mut().find(|relay| relay.name() == "web6");
        web6.unwrap().set("icmp_mtu_floor", 1400);
    });
    let Prefixed { mut world, went_up, went_down, .. } = prefixed(&config, &[7; 900]);
    let sent = world.datagram(LAN, &error6(TOO_BIG6, 1300, &went_up, 500));
    assert_eq!(Seen::frame(&one(&world, &sent, WAN)).icmp().2, 1400);
    let sent = world.datagram(WAN, &error4(TOO_BIG4, 1300, &went_down, 500));
    let seen = Seen6::frame(&one(&world, &sent, LAN));
    assert_eq!(validator::long(&seen.message, 4), 1420);
    let counters = world.counters.service(world.service("web6").slot);
    assert_eq!(counters.raised_mtus(Towards::Clients).get(), 1);
    assert_eq!(counters.raised_mtus(Towards::Targets).get(), 1);
}

#[test]
fn errors_of_all_kinds_are_said_in_the_other_familys_words() {
    let Prefixed { mut world, went_up, went_down, .. } = prefixed(&relay6_config(), b"data");
    for (from, to) in [((1, 0), (3, 1)), ((1, 1), (3, 10)), ((1, 4), (3, 3)), ((3, 0), (11, 0))] {
        let sent = world.datagram(LAN, &error6(from, 0, &went_up, 500));
        let (kind, code, ..) = Seen::frame(&one(&world, &sent, WAN)).icmp();
        assert_eq!((kind, code), to);
    }
    for (from, to) in
        [((3, 0), (1, 0)), ((3, 1), (1, 0)), ((3, 3), (1, 4)), ((3, 13), (1, 1)), ((11, 0), (3, 0))]
    {
        let sent = world.datagram(WAN, &error4(from, 0, &went_down, 500));
        let seen = Seen6::frame(&one(&world, &sent, LAN));
        assert_eq!((seen.message[0], seen.message[1]), to);
    }
    // What the other family has no words for.
    let error = error4((3, 14), 0, &went_down, 500);
    assert_eq!(world.dropped(WAN, &error), DropReason::IcmpType);
    let error = error6((4, 2), 40, &went_up, 500);
    assert_eq!(world.dropped(LAN, &error), DropReason::IcmpType);
}

#[test]
fn errors_about_transparent_segments_reach_both_ends_over_ipv6() {
    let mut world = relay6_world();
    let target = world.target6("raw6", CLIENT6);
    let segment = plain(ACK).stamped(1, 2).data(&[3; 700]);
    let (up, down) = (over6(CLIENT6, RAW6, &segment), over6(target, CLIENT6, &segment));
    let went_up = on_its_way(&world.passed(WAN, &up).1);
    let went_down = on_its_way(&world.passed(LAN, &down).1);
    for (port, out, went, was, mtu, announced) in [
        (LAN, WAN, &went_up, &up, 1400, 1400),
        (LAN, WAN, &went_up, &up, 70_000, 70_000),
        (WAN, LAN, &went_down, &down, 1400, 1400),
        (WAN, LAN, &went_down, &down, 600, 1280),
    ] {
        for len in [48, 60, 500, 2000] {
            let sent = world.datagram(port, &error6(TOO_BIG6, mtu, went, len));
            let seen = Seen6::frame(&one(&world, &sent, out));
            // From the peer that the endpoint knows.
            assert_eq!(seen.src, validator6::address(was, 24));
            assert_eq!((seen.dst, seen.hop_limit), (validator6::address(was, 8), 56));
            assert_eq!((seen.message[0], validator::long(&seen.message, 4)), (2, announced));
            let mut want = was[..len.min(was.len())].to_vec();
            want[7] = 41;
            // A quote that does not reach the checksum could not be compared, and need not be.
            assert_eq!(seen.message[8..], want[..]);
        }
    }
}

#[test]
fn quoted_extension_headers_are_not_taken_for_the_port_of_a_tunnel() {
    // Next header 6 and length 0 would be port 1536.
    let config = relay6_config().tunnel(tunnel("tun", &["[2001:db8:f::10]:1536"]));
    let mut world = World::of(&config);
    let target = world.target6("raw6", CLIENT6);
    let segment = segment6(target, CLIENT6, &plain(ACK).stamped(1, 2).data(&[3; 700]));
    let padded = [&[6u8, 0, 1, 4, 0, 0, 0, 0], &segment[..]].concat();
    let down = Ipv6Header::new(target.0, CLIENT6.0).after(60, &padded);
    let went_down = on_its_way(&world.passed(LAN, &down).1);
    for len in [56, 80, 500] {
        let sent = world.datagram(WAN, &error6(TOO_BIG6, 1400, &went_down, len));
        let seen = Seen6::frame(&one(&world, &sent, LAN));
        assert_eq!((seen.src, seen.dst), (CLIENT6.0, target.0));
        let mut want = down[..len].to_vec();
        want[7] = 41;
        assert_eq!(seen.message[8..], want[..]);
    }
}

#[test]
fn quotes_that_are_not_of_segments_of_ours_are_refused() {
    use DropReason::*;
    let Prefixed { world, egress, went_up, went_down, .. } = prefixed(&relay6_config(), &[7; 100]);
    let target = world.target6("raw6", CLIENT6);
    let other6 = |from: End6, to: End6| over6(from, to, &plain(ACK));
    let big6 = |datagram: &[u8]| error6(TOO_BIG6, 1400, datagram, 500);
    let big4 = |datagram: &[u8]| error4(TOO_BIG4, 1400, datagram, 500);
    let edited = |datagram: &[u8], edit: &dyn Fn(&mut Vec<u8>)| {
        let mut datagram = datagram.to_vec();
        edit(&mut datagram);
        datagram
    };
    // To the same address as the quote is from, unless something else is said.
    let from = |ip: u128, error: &[u8]| {
        let mut error = error.to_vec();
        error[8..24].copy_from_slice(&ip.to_be_bytes());
        repair_at(&mut error, ICMPV6, 40);
        error
    };
    let (web6, many6, raw6) = (Some("web6"), Some("many6"), Some("raw6"));
    let chosen = world.target4("many6", CLIENT);
    let targets = world.targets("many6").into_iter().map(|target| (target.ip, target.port));
    let other_target = { targets }.find(|target| *target != chosen).unwrap();
    let other_raw = RAW6_TARGETS.into_iter().find(|other| *other != target).unwrap();
    let flipped = (egress.0 ^ 1, egress.1);
    let loopback = world.egress6("web6", (ip("127.0.0.1"), 9));
    let v4 = |src: (u32, u16), dst: (u32, u16)| Tcp::new(src, dst, ACK).datagram();
    let cases = [
        // Too short for ports and number.
        (LAN, error6(TOO_BIG6, 1400, &went_up, 47), IcmpQuote, None),
        (WAN, error4(TOO_BIG4, 1400, &went_down, 27), IcmpQuote, None),
        // A forged quote: an egress address that is nobody's.
        (LAN, big6(&other6(flipped, WEB6_TARGET)), BadTag, web6),
        (LAN, big6(&other6((egress.0, 0), WEB6_TARGET)), BadTag, web6),
        (LAN, big6(&other6(loopback, WEB6_TARGET)), BadTag, web6),
        (LAN, big6(&other6(egress, (WEB6_TARGET.0, 1))), IcmpQuote, None),
        (LAN, big6(&other6(egress, RAW6_TARGETS[0])), IcmpQuote, None),
        // To a target that no POP chooses for this client.
        (LAN, big6(&other6(world.egress6("many6", CLIENT), other_target)), IcmpQuote, many6),
        (LAN, big6(&other6(CLIENT6, other_raw)), NotOurs, raw6),
        // To somebody who did not send what is quoted.
        (LAN, edited(&big6(&went_up), &|e| e[40 + 8 + 23] ^= 1), IcmpChecksum, None),
        (
            LAN,
            {
                let mut error = big6(&went_up);
                error[40 + 8 + 23] ^= 1;
                repair_at(&mut error, ICMPV6, 40);
                error
            },
            IcmpQuote,
            None,
        ),
        // From an address that no router has, or that is the POP's.
        (LAN, from(ip6("ff02::1"), &big6(&went_up)), SourceNotAllowed, None),
        (LAN, from(egress.0, &big6(&went_up)), SourceNotAllowed, None),
        (LAN, from(RAW6.0, &big6(&went_up)), SourceNotAllowed, None),
        // Through a port of the other side.
        (WAN, big6(&went_up), WrongSide, web6),
        (LAN, big4(&went_down), WrongSide, web6),
        (WAN, big6(&other6(CLIENT6, target)), WrongSide, raw6),
        (LAN, big6(&other6(RAW6, CLIENT6)), WrongSide, raw6),
        // About nobody who can be a client.
        (WAN, big4(&v4(WEB6, (ip("127.0.0.1"), 9))), IcmpQuote, web6),
        (WAN, big4(&v4(WEB6, (CLIENT.0, 0))), IcmpQuote, web6),
        (WAN, big4(&v4((WEB6.0, 7), CLIENT)), IcmpQuote, None),
        (WAN, big6(&other6(RAW6, (RAW6_TARGETS[0].0, 9))), IcmpQuote, raw6),
        (WAN, big6(&other6(RAW6, (CLIENT6.0, 0))), IcmpQuote, raw6),
        (WAN, big6(&other6((RAW6.0, 7), CLIENT6)), IcmpQuote, None),
        // Past the POP, and none of its business.
        (LAN, big6(&other6(CLIENT6, (target.0, 7))), NotOurs, None),
        (LAN, big6(&other6(target, target)), NotOurs, raw6),
        (LAN, big6(&other6((CLIENT6.0, 0), target)), NotOurs, raw6),
        (LAN, error6(TOO_BIG6, 1400, &other6(CLIENT6, target), 41), NotOurs, None),
        // To a port.
        (LAN, big6(&other6((LAN_IP6, 9), target)), IcmpType, None),
    ];
    for (number, (port, error, reason, service)) in cases.into_iter().enumerate() {
        let mut world = relay6_world();
        assert_eq!(world.dropped(port, &error), reason, "case {number}");
        for name in ["web6", "many6", "raw6"] {
            let count = world.counters.service_drops(world.service(name).slot, reason);
            assert_eq!(count, u64::from(service == Some(name)), "case {number}: {name}");
        }
    }
}

#[test]
fn errors_at_their_last_hop_end_and_nobody_is_told() {
    let Prefixed { mut world, went_up, went_down, .. } = prefixed(&relay6_config(), b"data");
    let mut error = error6(TOO_BIG6, 1400, &went_up, 500);
    error[7] = 1;
    assert_eq!(world.dropped(LAN, &error), DropReason::TtlExceeded);
    let mut error = error4(TOO_BIG4, 1400, &went_down, 500);
    error[8] = 1;
    repair_header(&mut error);
    assert_eq!(world.dropped(WAN, &error), DropReason::TtlExceeded);
}

#[test]
fn errors_are_bounded_for_each_network_of_clients() {
    let config = relay6_config().limit("icmp_forward_per_second", 2);
    let Prefixed { mut world, went_up, went_down, .. } = prefixed(&config, b"data");
    let errors = [
        (LAN, error6(TOO_BIG6, 1400, &went_up, 500)),
        (WAN, error4(TOO_BIG4, 1400, &went_down, 500)),
        (LAN, error6(TOO_BIG6, 1400, &went_up, 500)),
    ];
    let sent: Vec<_> =
        errors.iter().map(|(port, error)| world.datagram(*port, error).len()).collect();
    assert_eq!((sent, world.reason()), (vec![1, 1, 0], DropReason::RateIcmp));
}
