//! Relays with IPv6: segments both ways, each as `docs/protocol.md` says, and what is refused.

mod segments;
mod sizes;

use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::{Endpoint, Endpoint6, IpEndpoint, PortIndex};
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
