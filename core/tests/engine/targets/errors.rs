//! ICMP errors about segments that went to several targets, and hints of who owns a connection.

use super::*;
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::relay::memo::{OWNER_REPEAT_MS, Owned, Rst, UNREACHABLE_MS};
use anyrelay_core::seq::SeqNum;
use anyrelay_kit::config::Table;

/// An ICMP error of a router near the target about the copy of a segment that went to `target`.
fn error(moved: &Moved, target: SocketAddr, segment: &Segment, too_big: bool) -> Vec<u8> {
    let sent = Segment {
        src: moved.egress,
        dst: target,
        options: timestamps(moved.tsval.unwrap_or(7), 8),
        ..segment.clone()
    };
    let quote = sent.datagram();
    match (moved.egress.ip(), too_big) {
        (std::net::IpAddr::V4(to), false) => {
            let message = icmp(3, 1, [0; 4], &quote);
            Ipv4Header { protocol: 1, ..Ipv4Header::new(0x0505_0505, to.to_bits()) }.with(&message)
        }
        (std::net::IpAddr::V4(to), true) => {
            frag_needed(0x0505_0505, to.to_bits(), 1300, &quote, 548)
        }
        (std::net::IpAddr::V6(to), false) => {
            Ipv6Header::icmp(0x2600 << 112 | 9, to.to_bits()).with(&icmp6(1, 3, [0; 4], &quote))
        }
        (std::net::IpAddr::V6(to), true) => Ipv6Header::icmp(0x2600 << 112 | 9, to.to_bits())
            .with(&icmp6(2, 0, 1300_u32.to_be_bytes(), &quote)),
    }
}

#[test]
fn what_cannot_be_reached_is_not_asked_and_the_client_hears_nothing() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let both = moved.both();
        let segment = moved.segment(ACK, 1, 5000);
        let unreachable = error(&moved, moved.old, &segment, false);
        assert!(moved.world.datagram(LAN, &unreachable).is_empty(), "{:?}", moved.world.out.said);
        assert_eq!(moved.world.verdict(), Verdict::Absorb(AbsorbKind::Unreachable));
        moved.goes_to(&segment, &[moved.new]);
        moved.goes_to(&moved.segment(ACK, 1, 5000 + (1 << 25)), &both);
        // It is asked again soon.
        moved.world.later(UNREACHABLE_MS + 1);
        moved.goes_to(&segment, &both);
        moved.world.datagram(LAN, &unreachable);
        moved.goes_to(&segment, &[moved.new]);
        // It answers no segment: the client is not told.
        moved.refuse(moved.new, 5000);
        moved.goes_to(&segment, &both);
        // About a SYN the client hears, and of a path that is too narrow.
        for error in [
            error(&moved, moved.new, &moved.segment(SYN, 100, 0), false),
            error(&moved, moved.old, &segment, true),
        ] {
            let sent = moved.world.datagram(LAN, &error);
            let [(WAN, _)] = &sent[..] else { panic!("{service} {:?}", moved.world.out.said) };
        }
    }
}

#[test]
fn an_error_about_a_targets_segment_goes_to_all_candidates() {
    for service in SERVICES {
        let mut moved = Moved::at(service);
        let sent = Segment {
            seq: 5000,
            ack: 1,
            data: vec![7; 600],
            options: timestamps(9, 7),
            ..Segment::new(moved.vip, moved.client, ACK)
        };
        let quote = sent.datagram();
        let error = match moved.vip.ip() {
            std::net::IpAddr::V4(vip) => frag_needed(0x0505_0505, vip.to_bits(), 1300, &quote, 548),
            std::net::IpAddr::V6(vip) => Ipv6Header::icmp(0x2600 << 112 | 9, vip.to_bits())
                .with(&icmp6(2, 0, 1300_u32.to_be_bytes(), &quote)),
        };
        let sent = moved.world.datagram(WAN, &error);
        let mut to: Vec<_> =
            sent.iter().map(|(_, frame)| addresses(&frame[14..]).unwrap().1).collect();
        let mut both = moved.both().map(|target| target.ip());
        to.sort_unstable();
        both.sort_unstable();
        assert_eq!(to, both, "{service} {:?}", moved.world.out.said);
    }
}

fn hinting(service: &'static str) -> Moved {
    let hints = Table::default()
        .with("listen", "10.9.0.1:4791")
        .with("peers", ["10.9.0.2:4791"])
        .with("per_second", 1000);
    Moved::with(service, pool6_config().other("hints", hints))
}

#[test]
fn other_pops_are_told_who_owns_a_connection_now_and_then() {
    for service in SERVICES {
        let mut moved = hinting(service);
        let mut told = Vec::new();
        for _ in 0..3 {
            moved.send(&moved.answer(moved.old, ACK, 5000, 1));
            told.append(&mut moved.world.out.hints);
        }
        let tag = moved.tsval.unwrap_or(0) >> 1;
        let shows = Shows::Owner(Owned { tag, end: SeqNum(5000), ack: SeqNum(1) });
        let (vip, egress, target) = (end(moved.vip), end(moved.egress), end(moved.old));
        let hint = Hint { vip, egress, target, shows };
        assert_eq!(told, [hint]);
        moved.world.later(OWNER_REPEAT_MS);
        moved.send(&moved.answer(moved.old, ACK, 5000, 1));
        assert_eq!(std::mem::take(&mut moved.world.out.hints), [hint]);
        // To the other POP it is as if the segment had arrived there.
        let mut other = hinting(service);
        let (now, mut out) = (other.world.now, std::mem::take(&mut other.world.out));
        other.world.hint(now, 0, &hint, &mut out);
        assert!(out.sent.is_empty() && out.hints.is_empty());
        other.goes_to(&other.segment(ACK, 1, 5000), &[other.old]);
        // And a refusal.
        let mut third = hinting(service);
        let refusal = Hint { shows: Shows::Refusal(Rst::Bare { seq: SeqNum(5000) }), ..hint };
        third.world.hint(now, 0, &refusal, &mut out);
        third.goes_to(&third.segment(ACK, 1, 5000), &[third.new]);
    }
}
