//! Echo requests in fragments: each is answered with the same fragment of the reply.

use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::reassembly::reassemble;
use crate::seen::upper_checksum;
use crate::*;

const PAYLOAD: [u8; 2008] = [0x5a; 2008];

/// The fragments of a datagram with ICMP `message`, of 1480 bytes each.
fn cut(src: u32, dst: u32, message: &[u8]) -> Vec<Vec<u8>> {
    let parts = message.chunks(1480).enumerate();
    let fragment = |(index, part): (usize, &[u8])| {
        let more = (index + 1) * 1480 < message.len();
        let fragment = (index * 185) as u16 | if more { 0x2000 } else { 0 };
        let header = Ipv4Header { protocol: 1, fragment, id: 77, ..Ipv4Header::new(src, dst) };
        header.with(part)
    };
    parts.map(fragment).collect()
}

/// The fragments of an IPv6 datagram with ICMPv6 `message`, of 1232 bytes each.
fn cut6(src: u128, dst: u128, message: &[u8]) -> Vec<Vec<u8>> {
    let parts = message.chunks(1232).enumerate();
    let fragment = |(index, part): (usize, &[u8])| {
        let more = (index + 1) * 1232 < message.len();
        let [high, low] = ((index * 1232) as u16 | u16::from(more)).to_be_bytes();
        let header = [58, 0, high, low, 0, 0, 0, 77];
        Ipv6Header::new(src, dst).after(44, &[&header[..], part].concat())
    };
    parts.map(fragment).collect()
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
    let request = &echo6(FAR6, WAN_IP6, &PAYLOAD)[40..];
    let mut reply = Vec::new();
    for fragment in cut6(FAR6, WAN_IP6, request) {
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
    let (egress, ..) = world.egress("web", 0, CLIENT);
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
    let mut world = World::of(&config().limit("echo_per_second", 3));
    let later = cut(CLIENT.0, WEB.0, &icmp(8, 0, [1, 2, 3, 4], &PAYLOAD)).swap_remove(1);
    let sent: usize = (0..10).map(|_| world.datagram(WAN, &later).len()).sum();
    assert_eq!((sent, world.reason()), (3, DropReason::RateEcho));
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
