//! Echo requests in fragments: each is answered with the same fragment of the reply.

use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};
use anyrelay_kit::frames::fragments;

use crate::reassembly::reassemble;
use crate::seen::upper_checksum;
use crate::*;

const PAYLOAD: [u8; 2008] = [0x5a; 2008];

/// The fragments of a datagram with ICMP `message`, of 1480 bytes each.
fn cut(src: u32, dst: u32, message: &[u8]) -> Vec<Vec<u8>> {
    let header = Ipv4Header { protocol: 1, id: 77, ..Ipv4Header::new(src, dst) };
    fragments(&header.with(message), &[1480], 0)
}

fn framed6(datagram: &[u8]) -> Vec<u8> {
    ethernet(WAN_MAC, WAN_GATEWAY, None, 0x86dd, datagram)
}

#[test]
fn fragments_of_echo_requests_come_back_in_any_order() {
    let mut world = World::new();
    for dst in [WEB.0, RAW.0, ip("192.0.2.2")] {
        for code in [0, 9] {
            let message = icmp(8, code, [0xab, 0xcd, 0, 7], &PAYLOAD);
            let mut replies = Vec::new();
            for fragment in cut(CLIENT.0, dst, &message).iter().rev() {
                let sent = world.datagram(WAN, fragment);
                assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Echo));
                let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
                replies.push(frame.clone());
            }
            let seen = Seen::frame(&reassemble(&replies, 1500));
            assert_eq!((seen.src, seen.dst, seen.ttl, seen.id), (dst, CLIENT.0, 64, 77));
            assert_eq!(seen.icmp(), (0, code, 0xabcd_0007, PAYLOAD.to_vec()));
        }
    }
}

#[test]
fn fragments_over_ipv6_come_back() {
    let mut world = world6();
    let whole = echo6(FAR6, WAN_IP6, &PAYLOAD);
    let (request, mut reply) = (&whole[40..], Vec::new());
    for fragment in fragments(&whole, &[1232], 77) {
        let sent = world.bytes(WAN, &framed6(&fragment));
        assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Echo));
        let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
        let datagram = &frame[14..];
        assert_eq!(datagram[8..24], WAN_IP6.to_be_bytes());
        assert_eq!(datagram[24..40], FAR6.to_be_bytes());
        assert_eq!((datagram[7], &datagram[40..48]), (64, &fragment[40..48]));
        reply.extend(&datagram[48..]);
    }
    let (src, dst) = (WAN_IP6.to_be_bytes(), FAR6.to_be_bytes());
    assert_eq!(upper_checksum(&src, &dst, 58, &reply), 0);
    assert_eq!((&reply[..2], &reply[4..]), (&[129, 0][..], &request[4..]));
}

#[test]
fn other_fragments_are_refused() {
    let mut world = World::new();
    let request = icmp(8, 0, [1, 2, 3, 4], &PAYLOAD);
    let error = icmp(3, 1, [0; 4], &PAYLOAD);
    let (egress, ..) = world.egress("web", CLIENT);
    let mut options = Ipv4Header::new(CLIENT.0, WEB.0);
    (options.protocol, options.fragment, options.options) = (1, 0x2000, vec![148, 4, 0, 0]);
    let refused = [
        // No echo request, too little of one, and with IPv4 options.
        cut(CLIENT.0, WEB.0, &error).swap_remove(0),
        Ipv4Header { protocol: 1, fragment: 0x2000, ..Ipv4Header::new(CLIENT.0, WEB.0) }
            .with(&request[..7]),
        options.with(&request[..1480]),
        // To a pool, to nobody here, from nobody, of a segment, and with DF.
        cut(CLIENT.0, egress, &request).swap_remove(1),
        cut(CLIENT.0, ip("203.0.113.99"), &request).swap_remove(1),
        cut(ip("224.0.0.5"), WEB.0, &request).swap_remove(1),
        Ipv4Header { protocol: 6, fragment: 0x00b9, ..Ipv4Header::new(CLIENT.0, WEB.0) }
            .with(&request[1480..]),
        Ipv4Header { protocol: 1, fragment: 0x40b9, ..Ipv4Header::new(CLIENT.0, WEB.0) }
            .with(&request[1480..]),
    ];
    for datagram in refused {
        assert_eq!(world.dropped(WAN, &datagram), DropReason::Fragment, "{datagram:02x?}");
    }
}

#[test]
fn fragments_take_from_the_budget_of_echo_replies() {
    let mut world = World::of(&config().limit("echo_per_second", 30));
    let later = cut(CLIENT.0, WEB.0, &icmp(8, 0, [1, 2, 3, 4], &PAYLOAD)).swap_remove(1);
    let sent: usize = (0..10).map(|_| world.datagram(WAN, &later).len()).sum();
    assert_eq!((sent, world.reason()), (3, DropReason::RateEcho));
}

/// Where a port takes larger frames than it is to send, no fragment goes back that is one.
#[test]
fn fragments_beyond_the_mtu_are_not_answered() {
    let mut world = World::new();
    let header = Ipv4Header { protocol: 1, fragment: 0x700, ..Ipv4Header::new(CLIENT.0, WEB.0) };
    for (len, is_answered) in [(1480, true), (1481, false)] {
        let later = header.with(&vec![7; len]);
        match is_answered {
            true => assert_eq!(world.datagram(WAN, &later).len(), 1),
            false => assert_eq!(world.dropped(WAN, &later), DropReason::TooBig),
        }
    }
}

#[test]
fn a_reassembled_echo_request_is_answered_in_fragments() {
    let mut world = World::new();
    let header =
        Ipv4Header { protocol: 1, id: 77, fragment: 0, ..Ipv4Header::new(CLIENT.0, WEB.0) };
    let sent = world.datagram(WAN, &header.with(&icmp(8, 0, [0xab, 0xcd, 0, 7], &PAYLOAD[..1800])));
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Echo));
    let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
    let seen = Seen::frame(&reassemble(&frames, 1500));
    assert_eq!((seen.src, seen.dst, seen.ttl, seen.id), (WEB.0, CLIENT.0, 64, 7));
    assert_eq!(seen.icmp(), (0, 0, 0xabcd_0007, PAYLOAD[..1800].to_vec()));
}
