//! What the POP sends of its own accord: echo replies and RSTs.

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::*;

const UNSERVED: (u32, u16) = (WEB.0, 4444);

/// The only frame that was sent: a RST of the POP's own, back to where the last frame came from.
pub fn own_reset(world: &World, port: PortIndex, sent: &[(PortIndex, Vec<u8>)]) -> (Seen, SeenTcp) {
    let [(out, frame)] = sent else { panic!("{sent:02x?} {:?}", world.out.said) };
    let gateway = if port == WAN { WAN_GATEWAY } else { LAN_GATEWAY };
    let seen = Seen::frame(frame);
    assert_eq!(
        (*out, frame.len(), seen.dst_mac, seen.src_mac),
        (port, 60, gateway, world.mac(port))
    );
    assert_eq!((seen.ttl, seen.id, seen.dont_fragment, seen.tos), (64, 0, true, 0));
    let tcp = seen.tcp();
    assert_eq!((tcp.window, tcp.options.len(), tcp.data.len()), (0, 0, 0));
    (seen, tcp)
}

pub fn endpoints(seen: &Seen, tcp: &SeenTcp) -> ((u32, u16), (u32, u16)) {
    ((seen.src, tcp.sport), (seen.dst, tcp.dport))
}

fn echo(src: u32, dst: u32, payload: &[u8]) -> Vec<u8> {
    Ipv4Header { protocol: 1, ..Ipv4Header::new(src, dst) }.with(&icmp(
        8,
        0,
        [0xab, 0xcd, 0, 7],
        payload,
    ))
}

#[test]
fn echo_requests_to_vips_and_ports_are_answered() {
    let mut world = World::new();
    for (port, dst) in
        [(WAN, WEB.0), (LAN, WEB.0), (WAN, RAW.0), (WAN, ip("192.0.2.2")), (LAN, ip("10.1.0.2"))]
    {
        for payload in [&b""[..], b"odd", &[7; 1400]] {
            let sent = world.datagram(port, &echo(CLIENT.0, dst, payload));
            assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Echo));
            let seen = Seen::frame(&sent[0].1);
            assert_eq!((sent[0].0, seen.src, seen.dst, seen.ttl), (port, dst, CLIENT.0, 64));
            assert_eq!(seen.icmp(), (0, 0, 0xabcd_0007, payload.to_vec()));
        }
    }
    let with_options =
        Ipv4Header { protocol: 1, options: vec![148, 4, 0, 0], ..Ipv4Header::new(CLIENT.0, WEB.0) };
    let sent = world.datagram(WAN, &with_options.with(&icmp(8, 0, [1, 2, 3, 4], b"abc")));
    let seen = Seen::frame(&sent[0].1);
    assert!(seen.ip_options.is_empty());
    assert_eq!(seen.icmp(), (0, 0, 0x0102_0304, b"abc".to_vec()));
}

#[test]
fn echo_is_limited_and_goes_to_nobody_who_cannot_have_asked() {
    let mut world = World::of(&config().limit("echo_per_second", 1));
    for src in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.113.10",
        "203.0.113.12",
        "100.64.8.9",
        "192.0.2.2",
    ] {
        let reason = world.dropped(WAN, &echo(ip(src), WEB.0, b"x"));
        assert_eq!(reason, DropReason::SourceNotAllowed, "{src}");
    }
    let big = echo(CLIENT.0, WEB.0, &[0; 1473]);
    assert_eq!(world.dropped(WAN, &big), DropReason::TooBig);
    world.later(1000);
    // Hosts with private addresses may ask, such as the gateway on the targets' side.
    assert_eq!(world.datagram(LAN, &echo(ip("10.1.0.1"), ip("10.1.0.2"), b"x")).len(), 1);
    assert_eq!(world.dropped(WAN, &echo(CLIENT.0, WEB.0, b"x")), DropReason::RateEcho);
    assert_eq!(world.counters.withheld(ReplyKind::Echo), 1);
    assert_eq!(world.dropped(WAN, &echo(CLIENT.0, ip("100.64.8.9"), b"x")), DropReason::IcmpType);
    assert_eq!(world.dropped(WAN, &echo(CLIENT.0, ip("9.9.9.9"), b"x")), DropReason::NotOurs);
}

#[test]
fn udp_traceroute_ends_at_the_pop() {
    let mut world = World::of(&config().limit("icmp_per_second", 20));
    let probe = |src, dst, ttl| {
        Ipv4Header { protocol: 17, ttl, ..Ipv4Header::new(src, dst) }.with(&[7; 40])
    };
    for dst in [WEB.0, RAW.0, ip("192.0.2.2")] {
        for ttl in [1, 64] {
            let datagram = probe(CLIENT.0, dst, ttl);
            let sent = world.datagram(WAN, &datagram);
            assert_eq!(world.reason(), DropReason::Protocol);
            let seen = Seen::frame(&sent[0].1);
            assert_eq!((sent[0].0, seen.src, seen.dst, seen.ttl), (WAN, dst, CLIENT.0, 64));
            assert_eq!(seen.icmp(), (3, 3, 0, datagram));
            world.later(1000);
        }
    }
    assert_eq!(world.counters.replies(ReplyKind::PortUnreachable), 6);
    // A network has a tenth of the budget, and nobody is told who cannot have asked.
    let answered: usize =
        (0..9).map(|_| world.datagram(WAN, &probe(CLIENT.0, WEB.0, 1)).len()).sum();
    assert_eq!((answered, world.counters.withheld(ReplyKind::PortUnreachable)), (2, 7));
    assert_eq!(world.dropped(WAN, &probe(ip("224.0.0.1"), WEB.0, 1)), DropReason::Protocol);
}

#[test]
fn a_syn_to_an_unserved_port_is_reset() {
    let mut world = World::new();
    for (segment, length) in [
        (Tcp::new(CLIENT, UNSERVED, SYN).options(&linux_syn_options(1460, 5, 0)), 1),
        (Tcp::new(CLIENT, UNSERVED, SYN).data(b"early"), 6),
        (Tcp::new(CLIENT, (RAW.0, 1), SYN), 1),
        (Tcp::new(CLIENT, UNSERVED, SYN).edit(|syn| syn.ip.options = vec![1; 8]), 1),
        (Tcp::new(CLIENT, UNSERVED, SYN).numbers(u32::MAX, 0), 1),
    ] {
        let sent = world.datagram(WAN, &segment.datagram());
        assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::UnservedPort));
        let (seen, tcp) = own_reset(&world, WAN, &sent);
        assert_eq!(endpoints(&seen, &tcp), ((segment.ip.dst, segment.dport), CLIENT));
        assert_eq!((tcp.flags, tcp.seq), (RST | ACK, 0));
        assert_eq!(tcp.ack, segment.seq.wrapping_add(length));
    }
}

#[test]
fn nothing_else_to_an_unserved_port_is_reset() {
    let mut world = World::of(&config().limit("rst_per_second", 1));
    for flags in [ACK, RST, RST | ACK, FIN | ACK, SYN | ACK] {
        let segment = Tcp::new(CLIENT, UNSERVED, flags);
        assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::UnservedPort);
    }
    let syn = Tcp::new(CLIENT, UNSERVED, SYN);
    assert_eq!(world.dropped(LAN, &syn.datagram()), DropReason::WrongSide);
    let mut damaged = syn.datagram();
    damaged[24] ^= 1;
    assert_eq!(world.dropped(WAN, &damaged), DropReason::TcpChecksum);
    let from_target = Tcp::new(WEB_TARGET, UNSERVED, SYN);
    assert_eq!(world.dropped(WAN, &from_target.datagram()), DropReason::SourceNotAllowed);
    assert_eq!(world.datagram(WAN, &syn.datagram()).len(), 1);
    assert_eq!(world.dropped(WAN, &syn.datagram()), DropReason::RateRst);
    assert_eq!(world.counters.withheld(ReplyKind::UnservedPort), 1);
}

#[test]
fn a_target_without_timestamps_is_refused_and_counted() {
    let mut world = World::of(&config().limit("rst_per_second", 1));
    let (egress, port, _) = world.egress("web", CLIENT);
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).options(&plain_syn_options(1460));
    // Others are counted only, as are those beyond the limit.
    let data = Tcp::new(WEB_TARGET, (egress, port), ACK).data(b"abc");
    assert_eq!(world.dropped(LAN, &data.datagram()), DropReason::TargetWithoutTimestamps);
    let sent = world.datagram(LAN, &syn_ack.datagram());
    assert_eq!(world.reason(), DropReason::TargetWithoutTimestamps);
    assert!(world.out.said.contains(&Said::Sent(ReplyKind::NoTimestamps)));
    let (seen, tcp) = own_reset(&world, LAN, &sent);
    assert_eq!(endpoints(&seen, &tcp), ((egress, port), WEB_TARGET));
    assert_eq!((tcp.flags, tcp.seq, tcp.ack), (RST, syn_ack.ack, 0));
    let reason = world.dropped(LAN, &syn_ack.datagram());
    assert_eq!(reason, DropReason::TargetWithoutTimestamps);
    assert_eq!(world.drops(LAN, DropReason::TargetWithoutTimestamps), 3);
    let slot = world.service("web").slot;
    let drops = world.counters.service_drops(slot, DropReason::TargetWithoutTimestamps);
    assert_eq!(drops, 3, "the operator must see which service it is");
    world.later(1000);
    let mut damaged = syn_ack.datagram();
    damaged[24] ^= 1;
    assert_eq!(world.dropped(LAN, &damaged), DropReason::TcpChecksum);
}

#[test]
fn a_clients_bare_rst_goes_out_once_as_a_segment_of_its_connection() {
    let mut world = World::new();
    let (egress, egress_port, tsval) = world.egress("web", CLIENT);
    for flags in [RST, RST | ACK] {
        for (options, echo) in [(Vec::new(), 0), (timestamps(5, 6), 6)] {
            let rst = Tcp::new(CLIENT, WEB, flags).numbers(77, 88).options(&options);
            let (port, seen) = world.forwarded(WAN, &rst);
            let tcp = seen.tcp();
            assert_eq!((port, seen.dst_mac, seen.ttl), (LAN, LAN_GATEWAY, rst.ip.ttl - 1));
            assert_eq!(endpoints(&seen, &tcp), ((egress, egress_port), WEB_TARGET));
            assert_eq!((tcp.flags, tcp.seq, tcp.ack), (flags, 77, 88));
            assert_eq!(tcp.options, timestamps(tsval, echo));
        }
    }
    world.forwarded(WAN, &Tcp::new(CLIENT, RAW, RST));
}
