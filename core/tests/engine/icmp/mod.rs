//! ICMP errors of others: of each direction, with and without timestamps of the client, and in
//! transparent mode.

mod refused;

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{DropReason, Verdict};

use crate::*;

/// A router that is on no link, of the kind that only its neighbours can reach.
const ROUTER: u32 = 0x0a09_0909; // 10.9.9.9

/// The datagram as a router further on has it: its TTL is less, its header checksum right.
fn on_its_way(datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    bytes[8] = 41;
    repair_header(&mut bytes);
    bytes
}

/// An ICMP error, mapped: the port it left through, its header, type, code, second word, quote.
struct Mapped {
    seen: Seen,
    kind: (u8, u8),
    word: u32,
    quote: Vec<u8>,
}

fn mapped(frame: &[u8]) -> Mapped {
    let seen = Seen::frame(frame);
    let (kind, code, word, quote) = seen.icmp();
    Mapped { seen, kind: (kind, code), word, quote }
}

fn one(world: &World, sent: &[(PortIndex, Vec<u8>)], out: PortIndex) -> Mapped {
    let [(port, frame)] = sent else { panic!("{sent:02x?} {:?}", world.out.said) };
    assert_eq!(*port, out);
    mapped(frame)
}

/// A client's segment, and what was seen of it behind the POP.
fn gone_up(world: &mut World, case: u8, data: &[u8]) -> (Tcp, Vec<u8>) {
    let options = if case == 0 { timestamps(7, 8) } else { Vec::new() };
    let segment = Tcp::new(CLIENT, WEB, ACK | PSH).options(&options).data(data);
    let (_, seen) = world.forwarded(WAN, &segment);
    (segment, on_its_way(&seen.datagram))
}

fn gone_down(world: &mut World, case: u8, data: &[u8]) -> (Tcp, Vec<u8>) {
    let (egress, port, tag) = world.egress("web", case, CLIENT);
    // In case 1 the target's TSval is lost on the way; 0 is what a quote can give back.
    let value = if case == 0 { 7 } else { 0 };
    let segment = Tcp::new(WEB_TARGET, (egress, port), ACK | PSH).stamped(value, tag).data(data);
    let (_, seen) = world.forwarded(LAN, &segment);
    (segment, on_its_way(&seen.datagram))
}

#[test]
fn errors_about_segments_that_went_up_reach_the_client() {
    for (case, mtu) in [(0, 1400), (1, 1388)] {
        let mut world = World::new();
        let (segment, quoted) = gone_up(&mut world, case, b"GET / odd");
        let (egress, ..) = world.egress("web", case, CLIENT);
        let error = frag_needed(ROUTER, egress, 1400, &quoted, usize::MAX);
        let sent = world.datagram(LAN, &error);
        let mapped = one(&world, &sent, WAN);
        assert_eq!((mapped.seen.src, mapped.seen.dst, mapped.seen.ttl), (WEB.0, CLIENT.0, 56));
        assert_eq!((mapped.seen.dst_mac, mapped.seen.tos), (WAN_GATEWAY, 0xc0));
        assert_eq!((mapped.kind, mapped.word), ((3, 4), mtu));
        // The quote is the client's own segment, but for a TSval that is not known.
        let first = if case == 0 { segment.clone().stamped(0, 8) } else { segment.clone() };
        assert_eq!(mapped.quote, on_its_way(&first.datagram()));
        let counters = world.counters.service(world.service("web").slot);
        assert_eq!(counters.down.packets.get(), 1);
    }
}

#[test]
fn errors_about_segments_that_went_down_reach_the_target() {
    for (case, mtu) in [(0, 1400), (1, 1412)] {
        let mut world = World::new();
        let (segment, quoted) = gone_down(&mut world, case, b"200 OK odd!");
        let (egress, ..) = world.egress("web", case, CLIENT);
        for reporter in [ROUTER, CLIENT.0] {
            let error = frag_needed(reporter, WEB.0, 1400, &quoted, usize::MAX);
            let sent = world.datagram(WAN, &error);
            let mapped = one(&world, &sent, LAN);
            let seen = &mapped.seen;
            assert_eq!((seen.src, seen.dst, seen.ttl), (egress, WEB_TARGET.0, 56));
            assert_eq!((mapped.kind, mapped.word), ((3, 4), mtu));
            assert_eq!(mapped.quote, on_its_way(&segment.datagram()));
        }
    }
}

#[test]
fn long_segments_are_quoted_as_routers_quote_them() {
    for case in [0, 1] {
        for quoted_len in [52, 60, 100, 548] {
            let mut world = World::new();
            let (egress, ..) = world.egress("web", case, CLIENT);
            let (segment, quoted) = gone_up(&mut world, case, &[0x5a; 1400]);
            let error = frag_needed(ROUTER, egress, 1400, &quoted, quoted_len);
            let sent = world.datagram(LAN, &error);
            let mapped = one(&world, &sent, WAN);
            let first = if case == 0 { segment.clone().stamped(0, 8) } else { segment };
            let less = if case == 0 { 0 } else { 12 };
            assert_eq!(mapped.quote, on_its_way(&first.datagram())[..quoted_len - less]);

            let (segment, quoted) = gone_down(&mut world, case, &[0x5a; 1400]);
            let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, quoted_len);
            let sent = world.datagram(WAN, &error);
            let mapped = one(&world, &sent, LAN);
            assert_eq!(mapped.quote, on_its_way(&segment.datagram())[..quoted_len + less]);
        }
    }
}

/// Extensions (RFC 4884) begin where a length in the header says that the quote ends. Where the
/// quote gets another length, they go, and the header says no more that there are any.
#[test]
fn extensions_stay_only_behind_a_quote_that_keeps_its_length() {
    const EXTENSION: [u8; 8] = [0x20, 0, 0xdf, 0xff, 0, 4, 1, 1];
    for case in [0, 1] {
        for kind in [3, 11, 12] {
            let mut world = World::new();
            let (egress, ..) = world.egress("web", case, CLIENT);
            let (_, up) = gone_up(&mut world, case, &[0x5a; 300]);
            let (_, down) = gone_down(&mut world, case, &[0x5a; 300]);
            for (port, to, quoted, out) in [(LAN, egress, up, WAN), (WAN, WEB.0, down, LAN)] {
                // 32 words of quote.
                let payload = [&quoted[..128], &EXTENSION].concat();
                let error = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, to) };
                let error = error.with(&icmp(kind, 0, [0, 32, 0, 0], &payload));
                let sent = world.datagram(port, &error);
                let mapped = one(&world, &sent, out);
                let (word, len) = match (case, port == LAN) {
                    (0, _) => (32 << 16, 136),
                    (_, true) => (0, 128 - 12),
                    (_, false) => (0, 128 + 12),
                };
                assert_eq!(
                    (mapped.word, mapped.quote.len()),
                    (word, len),
                    "{case} {kind} {port:?}"
                );
                assert_eq!(mapped.quote.ends_with(&EXTENSION), case == 0);
            }
        }
    }
}

#[test]
fn a_short_quote_from_the_clients_side_goes_out_in_both_cases() {
    let mut world = World::of(&config().limit("variant_per_second", 31));
    let (_, quoted) = gone_down(&mut world, 0, b"200 OK odd!");
    // With 20 bytes of TCP header or more, but not all of its options.
    for quoted_len in (28..=51).chain([28, 29, 30, 31, 32, 33, 34]) {
        let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, quoted_len);
        let sent = world.datagram(WAN, &error);
        assert_eq!(sent.len(), 2, "{quoted_len}");
        for (case, (port, frame)) in (0..).zip(&sent) {
            let (egress, egress_port, _) = world.egress("web", case, CLIENT);
            let mapped = mapped(frame);
            assert_eq!((*port, mapped.seen.src, mapped.seen.dst), (LAN, egress, WEB_TARGET.0));
            assert_eq!(mapped.word, [1400, 1412][usize::from(case)]);
            assert_eq!(mapped.quote.len(), quoted_len);
            assert_eq!(mapped.quote[12..16], WEB_TARGET.0.to_be_bytes());
            assert_eq!(mapped.quote[16..20], egress.to_be_bytes());
            assert_eq!(mapped.quote[20..22], WEB_TARGET.1.to_be_bytes());
            assert_eq!(mapped.quote[22..24], egress_port.to_be_bytes());
            assert_eq!(internet_checksum(&[&mapped.quote[..20]]), 0);
            let numbers = 28.min(quoted_len)..36.min(quoted_len);
            assert_eq!(mapped.quote[numbers.clone()], quoted[numbers], "numbers, offset, flags");
        }
    }
    let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, 28);
    assert_eq!(world.dropped(WAN, &error), DropReason::RateVariants);
    let slot = world.service("web").slot;
    assert_eq!(world.counters.service_drops(slot, DropReason::RateVariants), 1);
    // A quote that shows the timestamps is not limited.
    assert_eq!(world.datagram(WAN, &frag_needed(ROUTER, WEB.0, 1400, &quoted, 52)).len(), 1);
}

#[test]
fn without_a_buffer_one_variant_still_goes() {
    let mut world = World::new();
    let (_, quoted) = gone_down(&mut world, 0, b"abc");
    world.out.frames_left = Some(0);
    let sent = world.datagram(WAN, &frag_needed(ROUTER, WEB.0, 1400, &quoted, 28));
    assert_eq!((sent.len(), world.drops(WAN, DropReason::NoBuffer)), (1, 1));
}

#[test]
fn small_mtus_are_raised_to_the_floor() {
    for (announced, taken) in [(0, 552), (68, 552), (551, 552), (552, 552), (553, 553)] {
        for case in [0, 1] {
            let mut world = World::new();
            let more = if case == 0 { 0 } else { 12 };
            let (egress, ..) = world.egress("web", case, CLIENT);
            let (_, quoted) = gone_up(&mut world, case, b"abc");
            let sent = world.datagram(LAN, &frag_needed(ROUTER, egress, announced, &quoted, 99));
            assert_eq!(one(&world, &sent, WAN).word, taken - more);
            let (_, quoted) = gone_down(&mut world, case, b"abc");
            let sent = world.datagram(WAN, &frag_needed(ROUTER, WEB.0, announced, &quoted, 99));
            assert_eq!(one(&world, &sent, LAN).word, taken + more);
        }
    }
}

#[test]
fn other_errors_pass_with_their_second_word() {
    for (kind, code, word) in [(3, 1, 0), (3, 13, 9), (11, 0, 0), (11, 1, 5), (12, 0, 0x0c00_0000)]
    {
        let mut world = World::new();
        let (egress, ..) = world.egress("web", 0, CLIENT);
        let (_, quoted) = gone_up(&mut world, 0, b"abc");
        let message = icmp(kind, code, u32::to_be_bytes(word), &quoted);
        let error = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) }.with(&message);
        let sent = world.datagram(LAN, &error);
        let mapped = one(&world, &sent, WAN);
        assert_eq!((mapped.kind, mapped.word), ((kind, code), word));
    }
}

#[test]
fn ipv4_options_of_the_error_go() {
    for case in [0, 1] {
        let mut world = World::new();
        for words in 1..=10 {
            let (egress, ..) = world.egress("web", case, CLIENT);
            let (_, quoted) = gone_up(&mut world, case, b"abc");
            let message = icmp(3, 4, [0, 0, 5, 0x78], &quoted);
            let plain = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) };
            let with = Ipv4Header { options: vec![1; 4 * words], ..plain.clone() };
            let sent = world.datagram(LAN, &plain.with(&message));
            let want = one(&world, &sent, WAN).seen.datagram;
            let sent = world.datagram(LAN, &with.with(&message));
            assert_eq!(one(&world, &sent, WAN).seen.datagram, want);

            let (_, quoted) = gone_down(&mut world, case, b"abc");
            let message = icmp(3, 4, [0, 0, 5, 0x78], &quoted);
            let plain = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, WEB.0) };
            let with = Ipv4Header { options: vec![1; 4 * words], ..plain.clone() };
            let sent = world.datagram(WAN, &plain.with(&message));
            let want = one(&world, &sent, LAN).seen.datagram;
            let sent = world.datagram(WAN, &with.with(&message));
            assert_eq!(one(&world, &sent, LAN).seen.datagram, want);
        }
    }
}

#[test]
fn transparent_errors_are_mapped_both_ways() {
    let mut world = World::new();
    let target = world.target("raw", CLIENT);
    let up = Tcp::new(CLIENT, RAW, ACK).data(b"abc");
    let (_, seen) = world.forwarded(WAN, &up);
    for quoted_len in [28, 40, 548] {
        let quoted = on_its_way(&seen.datagram);
        let error = frag_needed(ROUTER, CLIENT.0, 1400, &quoted, quoted_len);
        let sent = world.datagram(LAN, &error);
        let mapped = one(&world, &sent, WAN);
        assert_eq!((mapped.seen.src, mapped.seen.dst, mapped.word), (RAW.0, CLIENT.0, 1400));
        let want = on_its_way(&up.datagram());
        assert_eq!(mapped.quote, want[..quoted_len.min(want.len())]);
    }
    let down = Tcp::new(target, CLIENT, ACK).data(b"abc");
    let (_, seen) = world.forwarded(LAN, &down);
    for quoted_len in [28, 40, 548] {
        let quoted = on_its_way(&seen.datagram);
        let error = frag_needed(ROUTER, RAW.0, 1400, &quoted, quoted_len);
        let sent = world.datagram(WAN, &error);
        let mapped = one(&world, &sent, LAN);
        assert_eq!((mapped.seen.src, mapped.seen.dst, mapped.word), (CLIENT.0, target.0, 1400));
        let want = on_its_way(&down.datagram());
        assert_eq!(mapped.quote, want[..quoted_len.min(want.len())]);
    }
}

#[test]
fn errors_reach_the_one_target_of_several() {
    let mut world = World::new();
    for number in 0..30 {
        let client = (CLIENT.0 + number, CLIENT.1);
        let target = world.target("many", client);
        for case in [0, 1] {
            let (egress, port, tag) = world.egress("many", case, client);
            let down = Tcp::new(target, (egress, port), ACK).stamped(0, tag);
            let (_, seen) = world.forwarded(LAN, &down);
            for quoted_len in [28, 548] {
                let quoted = on_its_way(&seen.datagram);
                let error = frag_needed(ROUTER, MANY.0, 1400, &quoted, quoted_len);
                for (_, frame) in world.datagram(WAN, &error) {
                    assert_eq!(Seen::frame(&frame).dst, target.0);
                }
                assert!(matches!(world.verdict(), Verdict::Forward(LAN)));
            }
            let options = if case == 0 { timestamps(0, 8) } else { Vec::new() };
            let up = Tcp::new(client, MANY, ACK).options(&options);
            let (_, seen) = world.forwarded(WAN, &up);
            let error = frag_needed(ROUTER, egress, 1400, &on_its_way(&seen.datagram), 548);
            let sent = world.datagram(LAN, &error);
            let mapped = one(&world, &sent, WAN);
            assert_eq!((mapped.seen.dst, mapped.quote), (client.0, on_its_way(&up.datagram())));
        }
    }
}

/// Routers may quote all of a datagram: with twelve bytes more that would fit no link.
#[test]
fn an_error_that_fills_a_link_loses_the_end_of_its_quote() {
    let mut world = World::new();
    let (segment, quoted) = gone_down(&mut world, 1, &[7; 1440]);
    for (len, sent_len) in [(576, 588), (577, 577), (1488, 1488), (1500, 1500)] {
        let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, len - 28);
        let sent = world.datagram(WAN, &error);
        let mapped = one(&world, &sent, LAN);
        assert_eq!((mapped.word, mapped.seen.datagram.len()), (1412, sent_len));
        assert_eq!(mapped.quote, on_its_way(&segment.datagram())[..sent_len - 28]);
    }
}
