//! Errors that no agent is told of.

use super::*;

/// Each check alone: all else is right.
#[test]
fn forged_quotes_are_refused() {
    for mut pair in pairs() {
        let down = pair.down.clone();
        let tcp = if pair.b.addr.is_ipv4() { 20 } else { 40 };
        let mut forged = |edit: &mut dyn FnMut(&mut Vec<u8>), reason| {
            let mut quote = down.clone();
            edit(&mut quote);
            let error = pair.too_big(1350, &quote, 548);
            pair.refused(&error, reason);
        };
        use DropReason::{IcmpForged, IcmpQuote};
        // The sequence number, any bit of it; that the header's offset fits it; the lower half of
        // the ack number.
        for bit in 0..32 {
            forged(&mut |quote| quote[tcp + 4 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        for bit in 0..8 {
            forged(&mut |quote| quote[tcp + 21] ^= 1 << bit, IcmpForged);
        }
        for bit in 16..32 {
            forged(&mut |quote| quote[tcp + 8 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        // Whom it was sent to: the numbers are another agent's.
        forged(&mut |quote| quote[tcp + 3] ^= 1, IcmpForged);
        forged(&mut |quote| quote[tcp - 1] ^= 4, IcmpForged);
        // The token, any bit of it, and its epoch and family.
        let token_len = if pair.a.addr.is_ipv4() { 16 } else { 32 };
        let mut forged = |edit: &mut dyn FnMut(&mut Vec<u8>), reason| {
            let mut quote = down.clone();
            edit(&mut quote);
            let error = pair.too_big(1350, &quote, 548);
            pair.refused(&error, reason);
        };
        for bit in 0..token_len * 8 {
            forged(&mut |quote| quote[tcp + 32 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        forged(&mut |quote| quote[tcp + 20] ^= 1, IcmpForged);
        forged(&mut |quote| quote[tcp + 20] ^= 4, IcmpForged);
        // Another message, or none that a POP sends.
        for kind in [0x10, 0x30, 0x50, 0xf0, 0x48, 0x42] {
            forged(&mut |quote| quote[tcp + 20] = kind, IcmpForged);
        }
        // Nobody is there, or not for an agent.
        forged(&mut |quote| quote[tcp + 2..tcp + 4].fill(0), IcmpQuote);
    }
}

/// An address that no agent has: nothing was ever sent there.
#[test]
fn quotes_to_those_who_can_not_be_agents_are_refused() {
    let mut pair = Pair::new(A4, B4);
    for to in [
        "203.0.113.20",
        "100.64.8.9",
        "198.51.100.10",
        "192.0.2.2",
        "10.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
    ] {
        let mut quote = pair.down.clone();
        quote[16..20].copy_from_slice(&ip(to).to_be_bytes());
        let error = pair.too_big(1350, &quote, 548);
        pair.refused(&error, DropReason::IcmpQuote);
    }
    let mut pair = Pair::new(A6, B6);
    for to in [
        "2001:db8:f::20",
        "2001:db8:1::2",
        "::1",
        "fe80::1",
        "ff02::1",
        "fc00::1",
        "::ffff:c612:509",
    ] {
        let mut quote = pair.down.clone();
        quote[24..40].copy_from_slice(&ip6(to).to_be_bytes());
        let error = pair.too_big(1350, &quote, 548);
        pair.refused(&error, DropReason::IcmpQuote);
    }
}

#[test]
fn short_quotes_are_refused() {
    for mut pair in pairs() {
        let tcp = if pair.b.addr.is_ipv4() { 20 } else { 40 };
        let token_len = if pair.a.addr.is_ipv4() { 16 } else { 32 };
        for len in 0..tcp + 32 + token_len {
            let error = pair.too_big(1350, &pair.down.clone(), len);
            assert_eq!(pair.world.dropped(WAN, &error), DropReason::IcmpQuote, "{len}");
        }
    }
}

#[test]
fn errors_about_a_pops_answers_end_here() {
    for (agent, tcp) in [(A4, 20), (A6, 40)] {
        let mut pair = Pair::new(agent, agent);
        for segment in [pair.b.syn(&pair.world), pair.b.keepalive(&pair.world)] {
            let sent = pair.world.datagram(WAN, &segment.datagram());
            let answer = sent[0].1[14..].to_vec();
            let error = pair.too_big(1350, &answer, 548);
            assert!(pair.world.datagram(WAN, &error).is_empty());
            assert_eq!(pair.world.verdict(), Verdict::Absorb(AbsorbKind::TunnelIcmp));
            // Whole strides are other ticks.
            for bit in (0..32).filter(|bit| !(20..24).contains(bit)) {
                let mut forged = answer.clone();
                forged[tcp + 4 + bit / 8] ^= 1 << (bit % 8);
                let error = pair.too_big(1350, &forged, 548);
                let sent = pair.world.datagram(WAN, &error);
                assert!(sent.is_empty());
                assert!(matches!(
                    pair.world.reason(),
                    DropReason::IcmpForged | DropReason::IcmpQuote
                ));
            }
        }
        assert_eq!(pair.world.counters.absorbed(AbsorbKind::TunnelIcmp), 2);
    }
}

#[test]
fn errors_that_are_wrong_themselves_are_refused() {
    for mut pair in pairs() {
        let error = pair.too_big(1350, &pair.down.clone(), 548);
        let v4 = pair.b.addr.is_ipv4();
        // Damaged.
        let mut damaged = error.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(pair.world.dropped(WAN, &damaged), DropReason::IcmpChecksum);
        // At its last hop: no error is sent about an error.
        let mut last_hop = error.clone();
        match v4 {
            true => {
                last_hop[8] = 1;
                repair_header(&mut last_hop);
            }
            false => last_hop[7] = 1,
        }
        pair.refused(&last_hop, DropReason::TtlExceeded);
        // On the wrong side, from nobody, or to another VIP than the quote's.
        let frame = pair.world.framed(LAN, &error);
        assert_eq!(pair.world.dropped_bytes(LAN, &frame), DropReason::WrongSide);
        let quote = pair.down.clone();
        let source: &[&str] = if v4 {
            &["203.0.113.20", "192.0.2.2", "0.0.0.0", "224.0.0.9", "127.0.0.1"]
        } else {
            &["2001:db8:f::20", "2001:db8:1::2", "::", "ff02::9", "::1"]
        };
        for src in source {
            let message = match v4 {
                true => {
                    let message = icmp(3, 4, [0, 0, 5, 0x46], &quote);
                    Ipv4Header { protocol: 1, ..Ipv4Header::new(ip(src), ip("203.0.113.20")) }
                        .with(&message)
                }
                false => {
                    let message = [&[2, 0, 0, 0, 0, 0, 5, 0x46][..], &quote].concat();
                    Ipv6Header { next: 58, ..Ipv6Header::new(ip6(src), ip6("2001:db8:f::20")) }
                        .with(&message)
                }
            };
            assert_eq!(pair.world.dropped(WAN, &message), DropReason::SourceNotAllowed, "{src}");
        }
        if v4 {
            let message = icmp(3, 4, [0, 0, 5, 0x46], &quote);
            let other = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER4, ip("203.0.113.21")) }
                .with(&message);
            assert_eq!(pair.world.dropped(WAN, &other), DropReason::IcmpQuote);
        }
    }
}

/// Revoked tenants get nothing, and agents that are none any more.
#[test]
fn only_agents_of_the_tunnel_are_told() {
    for (a, b) in [(A4, B4), (A6, B6)] {
        let mut pair = Pair::new(a, b);
        let error = pair.too_big(1350, &pair.down.clone(), 548);
        let config = tunnel_config(1).setting("tun", "tenants", ["zorg"]);
        pair.world.snapshot = tunnel_world_of(&config, KEYS).snapshot.clone();
        pair.refused(&error, DropReason::UnknownTenant);
        // The sender's address has become a target's.
        if a == A4 {
            let config = tunnel_config(1).setting("web", "targets", ["198.18.5.9:8443"]);
            pair.world.snapshot = tunnel_world_of(&config, KEYS).snapshot.clone();
            pair.refused(&error, DropReason::DestinationNotAllowed);
        }
    }
}

/// An error to a VIP that has no tunnel, about a port where none is.
#[test]
fn quotes_of_no_service_are_refused() {
    let mut pair = Pair::new(A6, B6);
    let mut quote = pair.down.clone();
    quote[41] ^= 1;
    let error = pair.too_big(1350, &quote, 548);
    assert_eq!(pair.world.dropped(WAN, &error), DropReason::IcmpQuote);
    // Extension headers in the quote: POPs send none.
    let mut quote = pair.down.clone();
    quote[6] = 60;
    let error = pair.too_big(1350, &quote, 548);
    pair.refused(&error, DropReason::IcmpQuote);
}
