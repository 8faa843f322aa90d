//! Who may be a client, who is a target, and which of several targets a client has.

use std::collections::HashMap;

use anyrelay_core::verdict::{DropReason, Verdict};

use crate::*;

/// Addresses that no client has: no unicast, or the POP's own, its links', its targets', its
/// pools'.
const NEVER: [&str; 18] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "203.0.113.10",
    "203.0.113.12",
    "100.64.8.0",
    "100.64.8.255",
    "198.51.100.10",
    "198.51.100.21",
    "198.51.100.40",
    "192.0.2.2",
    "192.0.2.0",
    "192.0.2.255",
];
/// Addresses that a client has only where the config says so.
const PRIVATE: [&str; 6] =
    ["10.0.0.1", "10.255.255.255", "100.64.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1"];

#[test]
fn sources_that_cannot_be_a_clients_are_refused() {
    let mut world = World::new();
    let segments = |src| {
        [(WEB, SYN), (WEB, ACK), (WEB, RST), (MANY, SYN), (RAW, SYN), (RAW, ACK), ((WEB.0, 9), SYN)]
            .map(|(to, flags)| Tcp::new((ip(src), 4000), to, flags).datagram())
    };
    for src in NEVER.iter().chain(&PRIVATE) {
        for datagram in segments(src) {
            assert_eq!(world.dropped(WAN, &datagram), DropReason::SourceNotAllowed, "{src}");
        }
    }
    let no_port = Tcp::new((CLIENT.0, 0), WEB, SYN);
    assert_eq!(world.dropped(WAN, &no_port.datagram()), DropReason::SourceNotAllowed);
    let mut world = World::of(&config().set("private_clients", true));
    for src in NEVER {
        for datagram in segments(src) {
            assert_eq!(world.dropped(WAN, &datagram), DropReason::SourceNotAllowed, "{src}");
        }
    }
    for src in PRIVATE {
        world.forwarded(WAN, &Tcp::new((ip(src), 4000), WEB, SYN));
        world.forwarded(WAN, &Tcp::new((ip(src), 4000), RAW, SYN));
    }
}

#[test]
fn clients_that_cannot_be_are_not_decoded() {
    let mut world = World::new();
    for client in NEVER.iter().chain(&PRIVATE) {
        let (egress, port, tag) = world.egress("web", (ip(client), 4000));
        for echo in [tag, tag - 1] {
            let segment = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, echo);
            assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::BadTag, "{client}");
        }
        let segment = Tcp::new(RAW_TARGETS[0], (ip(client), 4000), ACK);
        let sent = world.datagram(LAN, &segment.datagram());
        assert!(sent.is_empty(), "{client}");
    }
    let (egress, port, tag) = world.egress("web", (CLIENT.0, 0));
    let segment = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::BadTag);
    let segment = Tcp::new(RAW_TARGETS[0], (CLIENT.0, 0), ACK);
    assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::NotOurs);
}

#[test]
fn tags_made_up_are_refused() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let mut refused = 0;
    for guess in (0..1000u32).map(|n| tag.wrapping_add(n.wrapping_mul(0x9e37_79b9)) | 1) {
        let segment = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, guess);
        let sent = world.datagram(LAN, &segment.datagram());
        refused += u32::from(sent.is_empty());
        for (_, frame) in &sent {
            assert_eq!(Seen::frame(frame).src, WEB.0);
        }
    }
    // Of k = 8 one in 128 passes, before client_ok.
    assert!((970..=1000).contains(&refused), "{refused}");
    for (tag, port) in [(0, port), (tag, 1023), (tag, 0)] {
        let segment = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
        assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::BadTag);
    }
}

#[test]
fn each_side_has_its_ports() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let up = [Tcp::new(CLIENT, WEB, SYN), Tcp::new(CLIENT, RAW, ACK)];
    let down = [
        Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag),
        Tcp::new(WEB_TARGET, (egress, port), RST),
        Tcp::new(world.target("raw", CLIENT), CLIENT, ACK),
    ];
    for segment in &up {
        assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::WrongSide);
    }
    for segment in &down {
        assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::WrongSide);
    }
    // A port of both sides takes all.
    let mut both = World::of(&config().setting("wan", "side", "both"));
    for segment in up.iter().chain(&[down[0].clone(), down[2].clone()]) {
        both.forwarded(WAN, segment);
    }
}

#[test]
fn flags_that_no_such_segment_has() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    for service in [WEB, RAW] {
        for flags in [SYN | ACK, SYN | ACK | PSH] {
            let segment = Tcp::new(CLIENT, service, flags).stamped(1, 2);
            assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::SynAckFromClient);
        }
    }
    for syn in [
        Tcp::new(WEB_TARGET, (egress, port), SYN).stamped(1, tag),
        Tcp::new(WEB_TARGET, (egress, port), SYN),
        Tcp::new(RAW_TARGETS[0], CLIENT, SYN),
    ] {
        assert_eq!(world.dropped(LAN, &syn.datagram()), DropReason::SynFromTarget);
    }
    let upper = [0, 0x40, 0x80, 0xc0 | PSH | 0x20];
    for flags in [0, PSH, FIN, SYN | FIN, SYN | RST, RST | FIN, SYN | FIN | ACK, FIN | RST | ACK] {
        for upper in upper {
            let segment = Tcp::new(CLIENT, WEB, flags | upper).stamped(1, 2);
            assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::TcpFlags);
        }
    }
    // ECN and urgent bits are the endpoints' own.
    for flags in [SYN, ACK, ACK | FIN, RST] {
        for upper in upper {
            let segment = Tcp::new(CLIENT, WEB, flags | upper).stamped(1, 2);
            assert_eq!(world.forwarded(WAN, &segment).1.tcp().flags, flags | upper);
        }
    }
}

#[test]
fn segments_of_no_target_or_to_nobody_are_refused() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    for src in [(WEB_TARGET.0, 8444), (WEB_TARGET.0 + 1, 8443), CLIENT, RAW_TARGETS[0]] {
        let segment = Tcp::new(src, (egress, port), ACK).stamped(1, tag);
        assert_eq!(world.dropped(LAN, &segment.datagram()), DropReason::UnknownTarget);
    }
    for to in [(CLIENT.0, 1), (ip("100.64.9.0"), 2000), (ip("192.0.2.2"), 22)] {
        for side in [WAN, LAN] {
            let segment = Tcp::new(WEB_TARGET, to, ACK).stamped(1, tag);
            assert_eq!(world.dropped(side, &segment.datagram()), DropReason::NotOurs);
        }
    }
    let udp = |dst| Ipv4Header { protocol: 17, ..Ipv4Header::new(CLIENT.0, dst) }.with(&[0; 20]);
    assert_eq!(world.dropped(WAN, &udp(egress)), DropReason::Protocol);
    assert_eq!(world.dropped(WAN, &udp(CLIENT.0 + 1)), DropReason::NotOurs);
}

#[test]
fn a_client_has_one_target_of_several() {
    let mut world = World::new();
    for service in [MANY, RAW] {
        let name = if service == MANY { "many" } else { "raw" };
        let mut counts = HashMap::new();
        for number in 0..300u32 {
            let client = (CLIENT.0 + number / 10, 30_000 + (number % 10) as u16);
            let want = world.target(name, client);
            for options in [timestamps(1, 2), Vec::new()] {
                for flags in [SYN, ACK, ACK | FIN] {
                    let segment = Tcp::new(client, service, flags).options(&options);
                    let (_, seen) = world.forwarded(WAN, &segment);
                    assert_eq!((seen.dst, seen.tcp().dport), want);
                }
            }
            let sent = world.datagram(WAN, &Tcp::new(client, service, RST).datagram());
            for (_, frame) in sent {
                let seen = Seen::frame(&frame);
                assert_eq!((seen.dst, seen.tcp().dport), want);
            }
            *counts.entry(want).or_insert(0) += 1;
        }
        let targets = world.service(name).targets.all().len();
        assert_eq!(counts.len(), targets);
        assert!(counts.values().all(|count| *count > 300 / targets / 2), "{counts:?}");
    }
}

#[test]
fn any_target_of_the_service_may_answer() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("many", CLIENT);
    let targets = world.targets::<u32>("many");
    assert_eq!(targets.len(), 3);
    for target in targets {
        let segment = Tcp::new((target.ip, target.port), (egress, port), ACK).stamped(1, tag);
        let (_, seen) = world.forwarded(LAN, &segment);
        let tcp = seen.tcp();
        assert_eq!(((seen.src, tcp.sport), (seen.dst, tcp.dport)), (MANY, CLIENT));
    }
    // The target of another service on the same pool is that service's.
    let segment = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag);
    let sent = world.datagram(LAN, &segment.datagram());
    if let Verdict::Forward(_) = world.verdict() {
        assert_ne!(Seen::frame(&sent[0].1).dst, CLIENT.0);
    }
}
