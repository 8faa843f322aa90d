//! Pool mode over IPv6: segments both ways, each as `docs/protocol.md`, section 7, says, refusals,
//! and sizes. ICMPv6 errors are in `pool6_icmp`, targets that change in `targets`.

use anyrelay_core::net::{Endpoint6, IpEndpoint, PortIndex};
use anyrelay_core::relay::mapping::{Mapping, Tag};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

use crate::*;

/// Two headers of padding between the IPv6 header and the TCP header.
const PADDING: [u8; 16] = [60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];

/// A segment behind two extension headers.
fn extended(from: End6, to: End6, segment: &Tcp) -> Vec<u8> {
    let behind = [&PADDING[..], &segment6(from, to, segment)].concat();
    Ipv6Header::new(from.0, to.0).after(60, &behind)
}

/// The fields of a segment that nobody changes.
fn fixed(tcp: &SeenTcp) -> (u32, u32, u8, u16, &[u8]) {
    (tcp.seq, tcp.ack, tcp.flags, tcp.window, &tcp.data)
}

fn sent_fields(segment: &Tcp) -> (u32, u32, u8, u16, &[u8]) {
    (segment.seq, segment.ack, segment.flags, segment.window, &segment.data)
}

/// Hands over a client's segment, once plain and once behind extension headers; gives back the TCP
/// header and the length of what reaches the target.
fn up(world: &mut World, segment: &Tcp) -> (SeenTcp, usize) {
    let (egress, _) = world.pooled6("deep", CLIENT6);
    passed_either_way(world, (WAN, CLIENT6, DEEP), (LAN, egress, DEEP_TARGET), segment)
}

/// [`up`] for a target's segment.
fn down(world: &mut World, segment: &Tcp) -> (SeenTcp, usize) {
    let (egress, _) = world.pooled6("deep", CLIENT6);
    passed_either_way(world, (LAN, DEEP_TARGET, egress), (WAN, DEEP, CLIENT6), segment)
}

/// What comes of a segment with these ends, without extension headers and with.
fn passed_either_way(
    world: &mut World,
    (port, src, dst): Ends,
    (out_port, out_src, out_dst): Ends,
    segment: &Tcp,
) -> (SeenTcp, usize) {
    let mut found = Vec::new();
    for (datagram, extensions) in
        [(over6(src, dst, segment), 0), (extended(src, dst, segment), PADDING.len())]
    {
        let (out, frame) = world.passed(port, &datagram);
        let seen = SeenTcp6::frame(&frame, extensions);
        assert_eq!((out, seen.src, seen.dst), (out_port, out_src.0, out_dst.0));
        assert_eq!((seen.tcp.sport, seen.tcp.dport), (out_src.1, out_dst.1));
        assert_eq!((seen.hop_limit, seen.traffic_class, seen.flow), (56, 0xb9, 0xa_bcde));
        assert_eq!(seen.extensions, PADDING[..extensions]);
        assert_eq!(fixed(&seen.tcp), sent_fields(segment));
        found.push((seen.tcp, seen.datagram.len() - extensions));
    }
    assert_eq!(found[0].0.options, found[1].0.options);
    assert_eq!(found[0].1, found[1].1);
    found.remove(0)
}

/// A port, and the ends of a segment there.
type Ends = (PortIndex, End6, End6);

#[test]
fn a_clients_segments_get_its_tag_as_their_timestamp() {
    let mut world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    assert_eq!((egress.0 ^ ip6("fd40::")) >> 116, 0);
    assert!(egress.1 >= 1024 && tsval & 1 == 1);
    let segment = plain(ACK | PSH).stamped(7, 8).data(b"GET / odd");
    let (tcp, len) = up(&mut world, &segment);
    assert_eq!((tcp.options, len), (timestamps(tsval, 8), 72 + 9));

    let syn = plain(SYN).options(&linux_syn_options(1460, 7, 0));
    let (tcp, _) = up(&mut world, &syn);
    assert_eq!(tcp.options, linux_syn_options(1440, tsval, 0));
    let end = |(ip, port)| IpEndpoint::from(Endpoint6 { ip, port });
    let (client, egress, target) = (end(CLIENT6), end(egress), end(DEEP_TARGET));
    let tag = Some(Tag::of_timestamp(tsval));
    let mapped = Said::Mapped("pool", Mapping { client, egress, target, tag });
    assert!(world.out.said.contains(&mapped), "{:?}", world.out.said);
}

#[test]
fn timestamps_are_put_into_bare_segments() {
    let mut world = pool6_world();
    let (_, tsval) = world.pooled6("deep", CLIENT6);
    for flags in [ACK, ACK | PSH, FIN | ACK, RST, RST | ACK] {
        let (tcp, len) = up(&mut world, &plain(flags).data(b"data"));
        assert_eq!((tcp.options, len), (timestamps(tsval, 0), 60 + 4 + 12));
    }
    // A bare SYN is the oldest segment of its connection.
    let (tcp, _) = up(&mut world, &plain(SYN).options(&plain_syn_options(1460)));
    assert_eq!(tcp.options, [timestamps(tsval - 1, 0), plain_syn_options(1440)].concat());
    // Four blocks of SACK have no room beside them.
    let blocks: Vec<u8> = (0..32).collect();
    let sack = [&[1, 1, 5, 34][..], &blocks].concat();
    let (tcp, len) = up(&mut world, &plain(ACK).options(&sack));
    let three = [&timestamps(tsval, 0)[..], &[5, 26], &blocks[..24], &[1, 1]].concat();
    assert_eq!((tcp.options, len), (three, 100));
    let full: Vec<u8> = [77u8, 40].into_iter().chain([9; 38]).collect();
    let datagram = over6(CLIENT6, DEEP, &plain(ACK).options(&full));
    assert_eq!(world.dropped(WAN, &datagram), DropReason::OptionsFull);
}

/// The option has 20 bytes of 40, and the timestamps that a POP inserts have 12.
#[test]
fn clients_are_told_where_their_options_leave_room() {
    let mut world = World::of(&pool6_config().setting("deep", "client_address", "toa"));
    let (_, tsval) = world.pooled6("deep", CLIENT6);
    let told = [&[253, 20][..], &CLIENT6.1.to_be_bytes(), &CLIENT6.0.to_be_bytes()].concat();
    let linux = linux_syn_options(1440, 7, 0);
    let windows = vec![2, 4, 0x05, 0xa0, 1, 3, 3, 8, 1, 1, 4, 2];
    let sack = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    for (flags, options, is_told) in [
        (SYN, linux.clone(), true),
        (SYN, [&linux[..], &[1; 4]].concat(), false),
        (SYN, windows, false),
        (SYN, vec![2, 4, 0x05, 0xa0, 1, 1, 4, 2], true),
        (ACK, vec![], true),
        (ACK, timestamps(7, 8), true),
        (ACK, [&timestamps(7, 8)[..], &sack].concat(), false),
        (ACK, sack.to_vec(), false),
    ] {
        let slot = world.service("deep").slot;
        let silent = |world: &World| world.counters.service(slot).syns_without_address.get();
        let before = silent(&world);
        let datagram = over6(CLIENT6, DEEP, &plain(flags).options(&options));
        let (_, frame) = world.passed(WAN, &datagram);
        let seen = SeenTcp6::frame(&frame, 0).tcp.options;
        let has_it = seen.windows(told.len()).any(|part| part == told);
        assert_eq!((has_it, seen.len() <= 40), (is_told, true), "{options:?}: {seen:?}");
        assert!(world.out.said.contains(&Said::ClientAddress { is_told }), "{options:?}");
        let is_silent_syn = flags == SYN && !is_told;
        assert_eq!(silent(&world) - before, u64::from(is_silent_syn), "{options:?}");
    }
    let (_, frame) = world.passed(WAN, &over6(CLIENT6, DEEP, &plain(ACK)));
    let options = SeenTcp6::frame(&frame, 0).tcp.options;
    assert_eq!(options, [timestamps(tsval, 0), told].concat());
}

#[test]
fn a_targets_segments_lose_the_tag() {
    let mut world = pool6_world();
    let (_, tsval) = world.pooled6("deep", CLIENT6);
    let segment = plain(ACK | PSH).stamped(9, tsval).data(b"200 OK odd");
    let (tcp, len) = down(&mut world, &segment);
    assert_eq!((tcp.options, len), (timestamps(9, 0), 72 + 10));
    let (tcp, _) = down(&mut world, &plain(SYN | ACK).options(&linux_syn_options(1460, 9, tsval)));
    assert_eq!(tcp.options, linux_syn_options(1440, 9, 0));
    // A segment that echoes a bare SYN, and is no answer to one.
    let (tcp, _) = down(&mut world, &plain(ACK).stamped(9, tsval - 1));
    assert_eq!(tcp.options, timestamps(9, 0));
    // The answer to a bare SYN loses its timestamps, wherever they are.
    let (tcp, len) =
        down(&mut world, &plain(SYN | ACK).options(&linux_syn_options(1460, 9, tsval - 1)));
    assert_eq!((&tcp.options[..4], len), (&[2, 4, 0x05, 0x94][..], 60 + 12));
    assert_eq!(tcp.options[4..], [4, 2, 3, 3, 7, 1, 1, 1]);
    let in_front = [timestamps(9, tsval - 1), plain_syn_options(1460)].concat();
    let (tcp, _) = down(&mut world, &plain(SYN | ACK).options(&in_front));
    assert_eq!(tcp.options, plain_syn_options(1440 - 12));
}

/// What is refused, why, and whether the service is known by then.
#[test]
fn what_stands_for_nobody_is_dropped_and_counted() {
    use DropReason::*;
    let world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    let down = |from: End6, to: End6, tsecr| over6(from, to, &plain(ACK).stamped(9, tsecr));
    let of = |ip: &str| world.pooled6("deep", (ip6(ip), 9));
    // A client that spoofs the address of a target, a VIP or a port.
    let (own, target, vip) = (of("2001:db8:1::2"), of("2001:db8:5::1"), of("2001:db8:f::10"));
    let (raw_egress, _) = world.pooled6("deeps", CLIENT6);
    let bare = over6(DEEP_TARGET, egress, &plain(ACK));
    let cases = [
        (LAN, down(DEEP_TARGET, egress, 0), BadTag, true),
        (LAN, down(DEEP_TARGET, egress, 1), BadTag, true),
        (LAN, down(DEEP_TARGET, egress, u32::MAX), BadTag, true),
        (LAN, down(DEEP_TARGET, egress, tsval ^ 2), BadTag, true),
        (LAN, down(DEEP_TARGET, (egress.0, 1023), tsval), BadTag, true),
        (LAN, down(DEEP_TARGET, (egress.0 ^ 1, egress.1), tsval), BadTag, true),
        (LAN, down(DEEP_TARGET, (egress.0 ^ 1 << 115, egress.1), tsval), BadTag, true),
        (LAN, down(DEEP_TARGET, (egress.0 ^ 1 << 116, egress.1), tsval), NotOurs, false),
        (LAN, down(DEEP_TARGET, raw_egress, tsval), BadTag, true),
        (LAN, down(DEEP_TARGET, own.0, own.1), BadTag, true),
        (LAN, down(DEEP_TARGET, target.0, target.1), BadTag, true),
        (LAN, down(DEEP_TARGET, vip.0, vip.1), BadTag, true),
        (LAN, down((DEEP_TARGET.0, 1), egress, tsval), UnknownTarget, false),
        (WAN, down(DEEP_TARGET, egress, tsval), WrongSide, false),
        (LAN, bare, TargetWithoutTimestamps, true),
        (LAN, over6(DEEP_TARGET, egress, &plain(SYN).stamped(9, tsval)), SynFromTarget, true),
        (LAN, echo6(FAR6, egress.0, b"ping"), IcmpType, false),
        // Neither of 2000::/3 nor a client's.
        (WAN, over6((ip6("fd00::9"), 9), DEEP, &plain(ACK)), SourceNotAllowed, true),
        (WAN, over6(egress, DEEP, &plain(ACK)), SourceNotAllowed, true),
        (WAN, over6(CLIENT6, DEEP, &plain(SYN | ACK)), SynAckFromClient, true),
    ];
    for (number, (port, datagram, reason, is_known)) in cases.into_iter().enumerate() {
        let mut world = pool6_world();
        assert_eq!(world.dropped(port, &datagram), reason, "case {number}");
        let slot = world.service("deep").slot;
        let count = world.counters.service_drops(slot, reason);
        assert_eq!(count, u64::from(is_known), "case {number}");
    }
}

#[test]
fn private_clients_have_no_place_even_where_they_are_served() {
    let mut world = World::of(&pool6_config().set("private_clients", true));
    let private = (ip6("fd00::9"), 9);
    let datagram = over6(private, DEEP, &plain(ACK));
    assert_eq!(world.dropped(WAN, &datagram), DropReason::SourceNotAllowed);
    world.passed(WAN, &over6(private, RAW6, &plain(ACK)));
}

#[test]
fn clients_are_spread_over_all_targets_and_come_back() {
    let mut world = pool6_world();
    let mut met = Vec::new();
    for n in 0..60u16 {
        let client = (CLIENT6.0 + u128::from(n / 7), 20_000 + n);
        let (egress, tsval) = world.pooled6("deeps", client);
        let segment = plain(ACK).stamped(1, 2).data(b"up");
        let seen = SeenTcp6::frame(&world.passed(WAN, &over6(client, DEEPS, &segment)).1, 0);
        let target = (seen.dst, seen.tcp.dport);
        assert_eq!(target, world.target6("deeps", client));
        assert_eq!(((seen.src, seen.tcp.sport), seen.tcp.options), (egress, timestamps(tsval, 2)));
        let back = over6(target, egress, &plain(ACK).stamped(3, tsval).data(b"down"));
        let seen = SeenTcp6::frame(&world.passed(LAN, &back).1, 0);
        assert_eq!(((seen.src, seen.tcp.sport), seen.dst), (DEEPS, client.0));
        met.push(target);
    }
    met.sort_unstable();
    met.dedup();
    assert_eq!(met.len(), 3);
}

#[test]
fn damage_stays_visible() {
    let mut world = pool6_world();
    let (egress, tsval) = world.pooled6("deep", CLIENT6);
    let holds = |frame: &[u8]| {
        let len = usize::from(validator::word(&frame[14..], 4));
        upper_checksum(&frame[22..38], &frame[38..54], 6, &frame[54..54 + len]) == 0
    };
    let bare_syn = plain(SYN | ACK).options(&linux_syn_options(1460, 9, tsval - 1));
    for (port, datagram) in [
        (WAN, over6(CLIENT6, DEEP, &plain(ACK).stamped(7, 8).data(b"some data"))),
        (WAN, over6(CLIENT6, DEEP, &plain(ACK).data(b"some data"))),
        (LAN, over6(DEEP_TARGET, egress, &plain(ACK).stamped(7, tsval).data(b"some data"))),
        (LAN, over6(DEEP_TARGET, egress, &bare_syn)),
    ] {
        assert!(holds(&world.passed(port, &datagram).1));
        for (at, bit) in [(4, 1), (11, 0x20), (16, 0x80), (19, 1)] {
            let mut datagram = datagram.clone();
            datagram[40 + at] ^= bit;
            assert!(!holds(&world.passed(port, &datagram).1), "{at}");
        }
    }
}

#[test]
fn a_segment_that_grows_beyond_the_link_is_answered() {
    let mut world = pool6_world();
    let fits = over6(CLIENT6, DEEP, &plain(ACK).data(&[7; 1500 - 72]));
    world.passed(WAN, &fits);
    let datagram = over6(CLIENT6, DEEP, &plain(ACK).data(&[7; 1500 - 71]));
    let sent = world.datagram(WAN, &datagram);
    let seen = Seen6::frame(&sent[0].1);
    assert_eq!((sent[0].0, seen.src, seen.dst), (WAN, DEEP.0, CLIENT6.0));
    assert_eq!((seen.message[0], validator::long(&seen.message, 4)), (2, 1488));
    assert_eq!(seen.message[8..], datagram[..1280 - 48]);
    assert_eq!(world.reason(), DropReason::TooBig);
    let stamped = over6(CLIENT6, DEEP, &plain(ACK).stamped(1, 2).data(&[7; 1500 - 72]));
    world.passed(WAN, &stamped);
}

#[test]
fn a_frame_without_room_in_front_is_dropped() {
    let mut world = pool6_world();
    // An untagged frame has room for the option where its Ethernet header was, and none for both.
    let frame = world.framed(WAN, &over6(CLIENT6, DEEP, &plain(ACK)));
    assert_eq!(world.frame(WAN, Tight::from_bytes(&frame)), []);
    assert_eq!(world.reason(), DropReason::NoRoom);
    let frame = world.framed(WAN, &over6(CLIENT6, DEEP, &plain(ACK).stamped(1, 2)));
    assert_eq!(world.frame(WAN, Tight::from_bytes(&frame)).len(), 1);
}

#[test]
fn a_target_without_timestamps_is_refused() {
    let mut world = pool6_world();
    let (egress, _) = world.pooled6("deep", CLIENT6);
    let syn_ack = plain(SYN | ACK).options(&plain_syn_options(1460)).numbers(5, 1001);
    let sent = world.datagram(LAN, &over6(DEEP_TARGET, egress, &syn_ack));
    let seen = SeenTcp6::frame(&sent[0].1, 0);
    assert_eq!((sent[0].0, seen.src, seen.dst), (LAN, egress.0, DEEP_TARGET.0));
    assert_eq!((seen.tcp.flags, seen.tcp.seq), (RST, 1001));
    assert_eq!(world.out.said.last(), Some(&Said::Sent(ReplyKind::NoTimestamps)));
    assert_eq!(world.reason(), DropReason::TargetWithoutTimestamps);
}

#[test]
fn a_refusal_of_the_last_syn_reaches_its_client_at_once() {
    for options in [linux_syn_options(1440, 7, 0), plain_syn_options(1440)] {
        let mut world = pool6_world();
        let (egress, _) = world.pooled6("deep", CLIENT6);
        let syn = plain(SYN).options(&options).numbers(1000, 0);
        world.passed(WAN, &over6(CLIENT6, DEEP, &syn));
        let rst = |ack| over6(DEEP_TARGET, egress, &plain(RST | ACK).numbers(0, ack));
        // What answers another segment waits.
        assert_eq!(world.datagram(LAN, &rst(1002)), []);
        assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::PendingRst));
        let (out, frame) = world.passed(LAN, &rst(1001));
        let seen = SeenTcp6::frame(&frame, 0);
        assert_eq!((out, seen.src, seen.dst, seen.tcp.dport), (WAN, DEEP.0, CLIENT6.0, CLIENT6.1));
        assert_eq!((seen.tcp.flags, seen.tcp.seq, seen.tcp.ack), (RST | ACK, 0, 1001));
        assert!(seen.tcp.options.is_empty());
        // Once: the same again waits, and answers a SYN that is sent again.
        assert_eq!(world.datagram(LAN, &rst(1001)), []);
        let sent = world.datagram(WAN, &over6(CLIENT6, DEEP, &syn));
        assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::PendingRst));
        let seen = SeenTcp6::frame(&sent[0].1, 0);
        assert_eq!((seen.dst, seen.tcp.flags, seen.tcp.ack), (CLIENT6.0, RST | ACK, 1001));
    }
}

#[test]
fn a_refusal_answers_a_later_segment() {
    let mut world = pool6_world();
    let (egress, _) = world.pooled6("deep", CLIENT6);
    let rst = over6(DEEP_TARGET, egress, &plain(RST).numbers(700, 0));
    assert_eq!(world.datagram(LAN, &rst), []);
    let segment = plain(ACK).stamped(7, 8).numbers(300, 700);
    let sent = world.datagram(WAN, &over6(CLIENT6, DEEP, &segment));
    let seen = SeenTcp6::frame(&sent[0].1, 0);
    assert_eq!((seen.src, seen.dst, seen.tcp.flags, seen.tcp.seq), (DEEP.0, CLIENT6.0, RST, 700));
    world.passed(WAN, &over6(CLIENT6, DEEP, &segment));
}
