//! Errors that are not mapped.

use super::*;

#[test]
fn a_quote_from_the_targets_side_needs_its_timestamps() {
    for bare in [false, true] {
        let mut world = World::new();
        let (egress, ..) = world.egress("web", CLIENT);
        let (_, quoted) = gone_up(&mut world, bare, b"abc");
        for quoted_len in 0..52 {
            let error = frag_needed(ROUTER, egress, 1400, &quoted, quoted_len);
            assert_eq!(world.dropped(LAN, &error), DropReason::IcmpQuote, "{quoted_len}");
        }
        let error = frag_needed(ROUTER, egress, 1400, &quoted, 52);
        assert_eq!(world.datagram(LAN, &error).len(), 1);
    }
}

/// The timestamps that a quoted SYN-ACK without them had would make it longer than datagrams are.
#[test]
fn a_quote_of_a_segment_that_was_never_so_long_is_refused() {
    let mut world = World::new();
    for (len, is_taken) in [(65_523, true), (65_524, false), (65_535, false)] {
        let mut quote = Tcp::new(WEB, CLIENT, SYN | ACK).datagram();
        put_word(&mut quote, 2, len);
        repair(&mut quote[..20]);
        let error = frag_needed(ROUTER, WEB.0, 1400, &quote, usize::MAX);
        match is_taken {
            true => assert_eq!(world.datagram(WAN, &error).len(), 1),
            false => assert_eq!(world.dropped(WAN, &error), DropReason::IcmpQuote, "{len}"),
        }
    }
}

#[test]
fn quotes_of_what_the_pop_did_not_send_are_refused() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let up = |src, dst, tag| Tcp::new(src, dst, ACK).stamped(tag, 3);
    let from_target_side = [
        // Sent by another address of the pool; to no target; by nobody that decodes.
        (up((egress ^ 1, port), WEB_TARGET, tag), DropReason::IcmpQuote),
        (up((egress, port), (WEB_TARGET.0, 1), tag), DropReason::IcmpQuote),
        (up((egress, port), WEB_TARGET, 0), DropReason::BadTag),
        (up((egress, 80), WEB_TARGET, tag), DropReason::BadTag),
        (
            up((egress, port), WEB_TARGET, tag).edit(|quote| quote.ip.protocol = 17),
            DropReason::IcmpQuote,
        ),
        (
            up((egress, port), WEB_TARGET, tag).edit(|quote| quote.ip.fragment = 3),
            DropReason::IcmpQuote,
        ),
        (up((egress, port), WEB_TARGET, tag).options(&[8, 9, 0, 0]), DropReason::IcmpQuote),
        (up((egress, port), WEB_TARGET, tag).options(&[]), DropReason::IcmpQuote),
    ];
    for (quote, reason) in from_target_side {
        let error = frag_needed(ROUTER, egress, 1400, &quote.datagram(), 548);
        assert_eq!(world.dropped(LAN, &error), reason, "{quote:?}");
    }
    let from_client_side = [
        Tcp::new((WEB.0, 444), CLIENT, ACK),
        Tcp::new(RAW, CLIENT, ACK),
        Tcp::new(WEB, (WEB_TARGET.0, 99), ACK),
        Tcp::new(WEB, (CLIENT.0, 0), ACK),
        Tcp::new(CLIENT, WEB, ACK),
    ];
    for quote in from_client_side {
        let error = frag_needed(ROUTER, WEB.0, 1400, &quote.datagram(), 548);
        assert_eq!(world.dropped(WAN, &error), DropReason::IcmpQuote, "{quote:?}");
    }
    let passing = [
        (Tcp::new(CLIENT, (RAW_TARGETS[0].0, 9), ACK), CLIENT.0),
        (Tcp::new(CLIENT, RAW_TARGETS[0], ACK), CLIENT.0 + 1),
        (Tcp::new((ip("10.1.1.1"), 9), RAW_TARGETS[0], ACK), ip("10.1.1.1")),
    ];
    for (quote, to) in passing {
        let error = frag_needed(ROUTER, to, 1400, &quote.datagram(), 548);
        assert_eq!(world.dropped(LAN, &error), DropReason::NotOurs, "{quote:?}");
    }
}

#[test]
fn an_error_about_a_target_that_no_pop_chooses_is_refused() {
    let mut world = World::new();
    for number in 0..30 {
        let client = (CLIENT.0 + number, CLIENT.1);
        let targets = world.targets::<u32>("many");
        let chosen = world.target("many", client);
        let (egress, port, tag) = world.egress("many", client);
        for target in targets.iter().map(|target| (target.ip, target.port)) {
            let quote = Tcp::new((egress, port), target, ACK).stamped(tag, 3).datagram();
            let error = frag_needed(ROUTER, egress, 1400, &quote, 548);
            if target == chosen {
                assert_eq!(world.datagram(LAN, &error).len(), 1);
            } else {
                assert_eq!(world.dropped(LAN, &error), DropReason::IcmpQuote, "{client:?}");
            }
        }
        // Past the POP: a client may speak with such a target by its own address.
        let chosen = world.target("raw", client);
        for target in RAW_TARGETS {
            let quote = Tcp::new(client, target, ACK).datagram();
            let error = frag_needed(ROUTER, client.0, 1400, &quote, 548);
            if target == chosen {
                assert_eq!(world.datagram(LAN, &error).len(), 1);
            } else {
                assert_eq!(world.dropped(LAN, &error), DropReason::NotOurs, "{client:?}");
            }
        }
    }
    let quote = Tcp::new((CLIENT.0, 0), world.target("raw", (CLIENT.0, 0)), ACK).datagram();
    let error = frag_needed(ROUTER, CLIENT.0, 1400, &quote, 548);
    assert_eq!(world.dropped(LAN, &error), DropReason::NotOurs);
}

#[test]
fn errors_that_must_not_be_mapped_are_refused() {
    let mut world = World::new();
    let (egress, ..) = world.egress("web", CLIENT);
    let (_, quoted) = gone_up(&mut world, false, b"abc");
    let error = frag_needed(ROUTER, egress, 1400, &quoted, 548);
    assert_eq!(world.dropped(WAN, &error), DropReason::WrongSide);
    for src in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "203.0.113.10", "100.64.8.7", "10.1.0.2"] {
        let error = frag_needed(ip(src), egress, 1400, &quoted, 548);
        assert_eq!(world.dropped(LAN, &error), DropReason::SourceNotAllowed, "{src}");
    }
    let expired = Ipv4Header { protocol: 1, ttl: 1, ..Ipv4Header::new(ROUTER, egress) };
    let expired = expired.with(&icmp(3, 4, [0, 0, 5, 0], &quoted));
    assert_eq!(world.dropped(LAN, &expired), DropReason::TtlExceeded);
    let (_, seen) = gone_down(&mut world, b"abc");
    let expired = Ipv4Header { protocol: 1, ttl: 1, ..Ipv4Header::new(ROUTER, WEB.0) };
    let expired = expired.with(&icmp(3, 4, [0, 0, 5, 0], &seen[..28]));
    assert_eq!(world.dropped(WAN, &expired), DropReason::TtlExceeded);
    assert_eq!(world.drops(WAN, DropReason::TtlExceeded), 1);
    let mut damaged = error.clone();
    damaged[40] ^= 1;
    assert_eq!(world.dropped(LAN, &damaged), DropReason::IcmpChecksum);
    let short = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) }
        .with(&icmp(3, 4, [0; 4], &[])[..7]);
    assert_eq!(world.dropped(LAN, &short), DropReason::IcmpMalformed);
    for kind in [0, 4, 5, 9, 13, 40] {
        let other = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) };
        let other = other.with(&icmp(kind, 0, [0; 4], &quoted));
        assert_eq!(world.dropped(LAN, &other), DropReason::IcmpType);
    }
    let own = frag_needed(ROUTER, ip("10.1.0.2"), 1400, &quoted, 548);
    assert_eq!(world.dropped(LAN, &own), DropReason::IcmpType);
    let (_, quoted) = gone_down(&mut world, &[7; 1440]);
    let full = frag_needed(ROUTER, WEB.0, 1400, &quoted, 1472);
    assert_eq!(world.dropped(LAN, &full), DropReason::WrongSide);
}
