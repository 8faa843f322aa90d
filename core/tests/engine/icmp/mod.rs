//! ICMP errors of others: of each direction, about bare segments and others, and in transparent
//! mode.

mod refused;

use anyrelay_core::net::{PortIndex, Towards};
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

/// A client's segment, bare or not, and what was seen of it behind the POP.
fn gone_up(world: &mut World, bare: bool, data: &[u8]) -> (Tcp, Vec<u8>) {
    let options = if bare { Vec::new() } else { timestamps(7, 8) };
    let segment = Tcp::new(CLIENT, WEB, ACK | PSH).options(&options).data(data);
    let (_, seen) = world.forwarded(WAN, &segment);
    (segment, on_its_way(&seen.datagram))
}

/// A target's segment, and what was seen of it in front of the POP.
fn gone_down(world: &mut World, data: &[u8]) -> (Tcp, Vec<u8>) {
    let (egress, port, tsval) = world.egress("web", CLIENT);
    let segment = Tcp::new(WEB_TARGET, (egress, port), ACK | PSH).stamped(7, tsval).data(data);
    let (_, seen) = world.forwarded(LAN, &segment);
    (segment, on_its_way(&seen.datagram))
}

#[test]
fn errors_about_segments_that_went_up_reach_the_client() {
    for (bare, mtu) in [(false, 1400), (true, 1388)] {
        let mut world = World::new();
        let (segment, quoted) = gone_up(&mut world, bare, b"GET / odd");
        let (egress, ..) = world.egress("web", CLIENT);
        let error = frag_needed(ROUTER, egress, 1400, &quoted, usize::MAX);
        let sent = world.datagram(LAN, &error);
        let mapped = one(&world, &sent, WAN);
        assert_eq!((mapped.seen.src, mapped.seen.dst, mapped.seen.ttl), (WEB.0, CLIENT.0, 56));
        assert_eq!((mapped.seen.dst_mac, mapped.seen.tos), (WAN_GATEWAY, 0xc0));
        assert_eq!((mapped.kind, mapped.word), ((3, 4), mtu));
        // The quote is the client's own segment, but for a TSval that is not known.
        let first = if bare { segment.clone() } else { segment.clone().stamped(0, 8) };
        assert_eq!(mapped.quote, on_its_way(&first.datagram()));
        let counters = world.counters.service(world.service("web").slot);
        assert_eq!(counters.down.packets.get(), 1);
    }
}

#[test]
fn errors_about_segments_that_went_down_reach_the_target() {
    let mut world = World::new();
    let (segment, quoted) = gone_down(&mut world, b"200 OK odd!");
    let (egress, ..) = world.egress("web", CLIENT);
    for reporter in [ROUTER, CLIENT.0] {
        let error = frag_needed(reporter, WEB.0, 1400, &quoted, usize::MAX);
        let sent = world.datagram(WAN, &error);
        let mapped = one(&world, &sent, LAN);
        let seen = &mapped.seen;
        assert_eq!((seen.src, seen.dst, seen.ttl), (egress, WEB_TARGET.0, 56));
        assert_eq!((mapped.kind, mapped.word), ((3, 4), 1400));
        assert_eq!(mapped.quote, on_its_way(&segment.datagram()));
    }
}

/// The client got it without the timestamps; the target's TSval is lost on the way, and 0 is what a
/// quote can give back.
#[test]
fn an_error_about_a_bare_syn_ack_shows_the_target_its_timestamps() {
    let mut world = World::new();
    let (egress, port, tsval) = world.egress("web", CLIENT);
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).stamped(0, tsval - 1);
    let (_, seen) = world.forwarded(LAN, &syn_ack);
    assert!(seen.tcp().options.is_empty());
    let error = frag_needed(ROUTER, WEB.0, 1400, &on_its_way(&seen.datagram), usize::MAX);
    let sent = world.datagram(WAN, &error);
    let mapped = one(&world, &sent, LAN);
    assert_eq!((mapped.word, mapped.quote), (1400, on_its_way(&syn_ack.datagram())));
    // Another one, which went out with them.
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).stamped(5, tsval);
    let (_, seen) = world.forwarded(LAN, &syn_ack);
    let error = frag_needed(ROUTER, WEB.0, 1400, &on_its_way(&seen.datagram), usize::MAX);
    let sent = world.datagram(WAN, &error);
    assert_eq!(one(&world, &sent, LAN).quote, on_its_way(&syn_ack.datagram()));
}

/// What a target without timestamps sent, as far as a POP lets it pass: nothing is inserted.
#[test]
fn a_quote_without_timestamps_that_is_no_syn_ack_stays_as_it_is() {
    let mut world = World::new();
    let (egress, port, _) = world.egress("web", CLIENT);
    let rst = Tcp::new(WEB, CLIENT, RST | ACK).numbers(5, 6);
    let error = frag_needed(ROUTER, WEB.0, 1400, &rst.datagram(), usize::MAX);
    let sent = world.datagram(WAN, &error);
    let from_target = Tcp::new(WEB_TARGET, (egress, port), RST | ACK).numbers(5, 6);
    assert_eq!(one(&world, &sent, LAN).quote, from_target.datagram());
}

#[test]
fn long_segments_are_quoted_as_routers_quote_them() {
    for bare in [false, true] {
        for quoted_len in [52, 60, 100, 548] {
            let mut world = World::new();
            let (egress, ..) = world.egress("web", CLIENT);
            let (segment, quoted) = gone_up(&mut world, bare, &[0x5a; 1400]);
            let error = frag_needed(ROUTER, egress, 1400, &quoted, quoted_len);
            let sent = world.datagram(LAN, &error);
            let mapped = one(&world, &sent, WAN);
            let first = if bare { segment } else { segment.clone().stamped(0, 8) };
            let less = if bare { 12 } else { 0 };
            assert_eq!(mapped.quote, on_its_way(&first.datagram())[..quoted_len - less]);

            let (segment, quoted) = gone_down(&mut world, &[0x5a; 1400]);
            let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, quoted_len);
            let sent = world.datagram(WAN, &error);
            let mapped = one(&world, &sent, LAN);
            assert_eq!(mapped.quote, on_its_way(&segment.datagram())[..quoted_len]);
        }
    }
}

/// Extensions (RFC 4884) begin where a length in the header says that the quote ends. Where the
/// quote gets another length, they go, and the header says no more that there are any.
#[test]
fn extensions_stay_only_behind_a_quote_that_keeps_its_length() {
    const EXTENSION: [u8; 8] = [0x20, 0, 0xdf, 0xff, 0, 4, 1, 1];
    for kind in [3, 11, 12] {
        let mut world = World::new();
        let (egress, ..) = world.egress("web", CLIENT);
        let (_, up) = gone_up(&mut world, false, &[0x5a; 300]);
        let (_, bare) = gone_up(&mut world, true, &[0x5a; 300]);
        let (_, down) = gone_down(&mut world, &[0x5a; 300]);
        let syn_ack = Tcp::new(WEB, CLIENT, SYN | ACK).data(&[0x5a; 300]).datagram();
        for (port, to, quoted, out, grows) in [
            (LAN, egress, up, WAN, 0),
            (LAN, egress, bare, WAN, -12),
            (WAN, WEB.0, down, LAN, 0),
            (WAN, WEB.0, syn_ack, LAN, 12),
        ] {
            // 32 words of quote.
            let payload = [&quoted[..128], &EXTENSION].concat();
            let error = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, to) };
            let error = error.with(&icmp(kind, 0, [0, 32, 0, 0], &payload));
            let sent = world.datagram(port, &error);
            let mapped = one(&world, &sent, out);
            let (word, len) = if grows == 0 { (32 << 16, 136) } else { (0, 128 + grows) };
            assert_eq!((mapped.word, mapped.quote.len() as i32), (word, len), "{kind} {grows}");
            assert_eq!(mapped.quote.ends_with(&EXTENSION), grows == 0);
        }
    }
}

#[test]
fn a_short_quote_from_the_clients_side_goes_to_the_target_as_it_is() {
    let mut world = World::new();
    let (_, quoted) = gone_down(&mut world, b"200 OK odd!");
    let (egress, egress_port, _) = world.egress("web", CLIENT);
    // With 20 bytes of TCP header or more, but not all of its options.
    for quoted_len in 28..=51 {
        let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, quoted_len);
        let sent = world.datagram(WAN, &error);
        let mapped = one(&world, &sent, LAN);
        assert_eq!((mapped.seen.src, mapped.seen.dst), (egress, WEB_TARGET.0));
        assert_eq!((mapped.word, mapped.quote.len()), (1400, quoted_len));
        assert_eq!(mapped.quote[12..16], WEB_TARGET.0.to_be_bytes());
        assert_eq!(mapped.quote[16..20], egress.to_be_bytes());
        assert_eq!(mapped.quote[20..22], WEB_TARGET.1.to_be_bytes());
        assert_eq!(mapped.quote[22..24], egress_port.to_be_bytes());
        assert_eq!(internet_checksum(&[&mapped.quote[..20]]), 0);
        let numbers = 28.min(quoted_len)..36.min(quoted_len);
        assert_eq!(mapped.quote[numbers.clone()], quoted[numbers], "numbers, offset, flags");
    }
}

#[test]
fn small_mtus_are_raised_to_the_floor() {
    for (floor, announced, raised) in [
        (None, 0, true),
        (None, 68, true),
        (None, 1279, true),
        (None, 1280, false),
        (None, 1281, false),
        (Some(600), 599, true),
        (Some(600), 600, false),
    ] {
        let mut config = config();
        if let Some(floor) = floor {
            config.relays[0].set("icmp_mtu_floor", floor);
        }
        let mut world = World::of(&config);
        let taken = u32::from(announced).max(floor.unwrap_or(1280) as u32);
        let (egress, ..) = world.egress("web", CLIENT);
        for (bare, less) in [(false, 0), (true, 12)] {
            let (_, quoted) = gone_up(&mut world, bare, b"abc");
            let sent = world.datagram(LAN, &frag_needed(ROUTER, egress, announced, &quoted, 99));
            assert_eq!(one(&world, &sent, WAN).word, taken - less);
        }
        let (_, quoted) = gone_down(&mut world, b"abc");
        let sent = world.datagram(WAN, &frag_needed(ROUTER, WEB.0, announced, &quoted, 99));
        assert_eq!(one(&world, &sent, LAN).word, taken);
        let times = u64::from(raised);
        assert_eq!(raised_mtus(&world, "web"), [times, 2 * times], "{announced}");
    }
}

#[test]
fn each_service_has_a_floor_of_its_own() {
    let mut world = World::new();
    let target = world.target("raw", CLIENT);
    let up = on_its_way(&world.forwarded(WAN, &Tcp::new(CLIENT, RAW, ACK)).1.datagram);
    let down = on_its_way(&world.forwarded(LAN, &Tcp::new(target, CLIENT, ACK)).1.datagram);
    // Each client is itself at a target of a transparent service.
    for (announced, taken) in [(551, 552), (552, 552), (553, 553)] {
        let sent = world.datagram(LAN, &frag_needed(ROUTER, CLIENT.0, announced, &up, 99));
        assert_eq!(one(&world, &sent, WAN).word, taken);
        let sent = world.datagram(WAN, &frag_needed(ROUTER, RAW.0, announced, &down, 99));
        assert_eq!(one(&world, &sent, LAN).word, taken);
    }
    assert_eq!((raised_mtus(&world, "raw"), raised_mtus(&world, "web")), ([1, 1], [0, 0]));
}

/// The errors of a service whose MTU was raised, to targets and to clients.
fn raised_mtus(world: &World, service: &str) -> [u64; 2] {
    let counters = world.counters.service(world.service(service).slot);
    [Towards::Targets, Towards::Clients].map(|side| counters.raised_mtus(side).get())
}

#[test]
fn other_errors_pass_with_their_second_word() {
    for (kind, code, word) in [(3, 1, 0), (3, 13, 9), (11, 0, 0), (11, 1, 5), (12, 0, 0x0c00_0000)]
    {
        let mut world = World::new();
        let (egress, ..) = world.egress("web", CLIENT);
        let (_, quoted) = gone_up(&mut world, false, b"abc");
        let message = icmp(kind, code, u32::to_be_bytes(word), &quoted);
        let error = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) }.with(&message);
        let sent = world.datagram(LAN, &error);
        let mapped = one(&world, &sent, WAN);
        assert_eq!((mapped.kind, mapped.word), ((kind, code), word));
    }
}

#[test]
fn ipv4_options_of_the_error_go() {
    for bare in [false, true] {
        let mut world = World::new();
        for words in 1..=10 {
            let (egress, ..) = world.egress("web", CLIENT);
            let (_, quoted) = gone_up(&mut world, bare, b"abc");
            let message = icmp(3, 4, [0, 0, 5, 0x78], &quoted);
            let plain = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, egress) };
            let with = Ipv4Header { options: vec![1; 4 * words], ..plain.clone() };
            let sent = world.datagram(LAN, &plain.with(&message));
            let want = one(&world, &sent, WAN).seen.datagram;
            let sent = world.datagram(LAN, &with.with(&message));
            assert_eq!(one(&world, &sent, WAN).seen.datagram, want);

            let (_, quoted) = gone_down(&mut world, b"abc");
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
        for bare in [false, true] {
            let (egress, port, tag) = world.egress("many", client);
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
            let options = if bare { Vec::new() } else { timestamps(0, 8) };
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
    let (egress, port, tsval) = world.egress("web", CLIENT);
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).data(&[7; 1440]);
    let syn_ack = syn_ack.stamped(0, tsval - 1);
    let (_, seen) = world.forwarded(LAN, &syn_ack);
    let quoted = on_its_way(&seen.datagram);
    for (len, sent_len) in [(576, 588), (577, 577), (1488, 1488), (1500, 1500)] {
        let error = frag_needed(ROUTER, WEB.0, 1400, &quoted, len - 28);
        let sent = world.datagram(WAN, &error);
        let mapped = one(&world, &sent, LAN);
        assert_eq!((mapped.word, mapped.seen.datagram.len()), (1400, sent_len));
        assert_eq!(mapped.quote, on_its_way(&syn_ack.datagram())[..sent_len - 28]);
    }
}
