//! Segments through the engine, end to end: what goes up and comes down, byte for byte as
//! `docs/protocol.md` says. Frames are written by hand and read back by `etherparse`.

use crate::*;
use anyrelay_core::verdict::{DropReason, Verdict};

/// All of an IPv4 header that must pass: DSCP and ECN, ID, DF, and the TTL less one.
fn assert_header_passes(sent: &Tcp, seen: &Seen) {
    assert_eq!((seen.tos, seen.id, seen.dont_fragment), (sent.ip.tos, sent.ip.id, true));
    assert_eq!(seen.ttl, sent.ip.ttl - 1);
    assert!(seen.ip_options.is_empty());
}

/// All of a segment that must pass.
fn assert_segment_passes(sent: &Tcp, seen: &SeenTcp) {
    assert_eq!(
        (seen.seq, seen.ack, seen.flags, seen.window, &seen.data),
        (sent.seq, sent.ack, sent.flags, sent.window, &sent.data)
    );
}

fn up(world: &mut World, segment: &Tcp) -> (Seen, SeenTcp) {
    let (port, seen) = world.forwarded(WAN, segment);
    assert_eq!((port, seen.src_mac, seen.dst_mac), (LAN, LAN_MAC, LAN_GATEWAY));
    assert_header_passes(segment, &seen);
    let tcp = seen.tcp();
    assert_segment_passes(segment, &tcp);
    (seen, tcp)
}

fn down(world: &mut World, segment: &Tcp) -> (Seen, SeenTcp) {
    let (port, seen) = world.forwarded(LAN, segment);
    assert_eq!((port, seen.src_mac, seen.dst_mac), (WAN, WAN_MAC, WAN_GATEWAY));
    assert_header_passes(segment, &seen);
    let tcp = seen.tcp();
    assert_segment_passes(segment, &tcp);
    (seen, tcp)
}

fn addresses(seen: &Seen, tcp: &SeenTcp) -> ((u32, u16), (u32, u16)) {
    ((seen.src, tcp.sport), (seen.dst, tcp.dport))
}

#[test]
fn a_handshake_and_data_both_ways() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);

    let syn = Tcp::new(CLIENT, WEB, SYN).options(&linux_syn_options(1460, 77, 0));
    let (seen, tcp) = up(&mut world, &syn);
    assert_eq!(addresses(&seen, &tcp), ((egress, port), WEB_TARGET));
    assert_eq!(tcp.options, linux_syn_options(1460, tag, 0));

    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK)
        .options(&linux_syn_options(1460, 0x5555, tag));
    let (seen, tcp) = down(&mut world, &syn_ack);
    assert_eq!(addresses(&seen, &tcp), (WEB, CLIENT));
    assert_eq!(tcp.options, linux_syn_options(1460, 0x5555, 0));

    let data = Tcp::new(CLIENT, WEB, ACK | PSH).stamped(78, 0x5555).data(b"GET / odd");
    let (seen, tcp) = up(&mut world, &data);
    assert_eq!(addresses(&seen, &tcp), ((egress, port), WEB_TARGET));
    assert_eq!(tcp.options, timestamps(tag, 0x5555));

    let answer =
        Tcp::new(WEB_TARGET, (egress, port), ACK | FIN).stamped(0x5560, tag).data(&[9; 1448]);
    let (seen, tcp) = down(&mut world, &answer);
    assert_eq!(addresses(&seen, &tcp), (WEB, CLIENT));
    assert_eq!(tcp.options, timestamps(0x5560, 0));

    let slot = world.service("web").slot;
    let counters = world.counters.service(slot);
    assert_eq!((counters.up.packets.get(), counters.down.packets.get()), (2, 2));
    assert_eq!(counters.up.bytes.get(), 60 + 61);
    assert_eq!(counters.down.bytes.get(), 60 + 1500);
}

#[test]
fn a_handshake_and_data_of_a_client_without_timestamps() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);

    let syn = Tcp::new(CLIENT, WEB, SYN).options(&plain_syn_options(1460));
    let (seen, tcp) = up(&mut world, &syn);
    assert_eq!(addresses(&seen, &tcp), ((egress, port), WEB_TARGET));
    assert_eq!(tcp.options, [timestamps(tag - 1, 0), plain_syn_options(1460)].concat());

    // Linux answers with the timestamps after MSS and SACK permitted.
    let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).options(&linux_syn_options(
        1460,
        0x5555,
        tag - 1,
    ));
    let (seen, tcp) = down(&mut world, &syn_ack);
    assert_eq!(addresses(&seen, &tcp), (WEB, CLIENT));
    assert_eq!(tcp.options, [2, 4, 0x05, 0xa8, 4, 2, 3, 3, 7, 1, 1, 1], "MSS 1448, no timestamps");

    let data = Tcp::new(CLIENT, WEB, ACK | PSH).data(b"GET / odd");
    let (seen, tcp) = up(&mut world, &data);
    assert_eq!(addresses(&seen, &tcp), ((egress, port), WEB_TARGET));
    assert_eq!(tcp.options, timestamps(tag, 0));

    let answer = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(0x5560, tag).data(&[9; 1448]);
    let (seen, tcp) = down(&mut world, &answer);
    assert_eq!(addresses(&seen, &tcp), (WEB, CLIENT));
    assert_eq!(tcp.options, timestamps(0x5560, 0), "the client did not agree, and ignores them");
    assert_eq!(seen.datagram.len(), 1500);
}

/// Keepalive probes and RSTs of some stacks are bare, and boxes on the way strip the option.
#[test]
fn bare_segments_belong_to_the_connection_of_the_others() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    for (flags, data) in [
        (ACK, &b""[..]),
        (ACK, b"x"),
        (ACK | PSH, b"data"),
        (ACK | FIN, b""),
        (RST, b""),
        (RST | ACK, b""),
    ] {
        for (options, echo) in [(Vec::new(), 0), (timestamps(5, 6), 6)] {
            let segment = Tcp::new(CLIENT, WEB, flags).options(&options).data(data);
            let (seen, tcp) = up(&mut world, &segment);
            assert_eq!(addresses(&seen, &tcp), ((egress, port), WEB_TARGET));
            assert_eq!(tcp.options, timestamps(tag, echo), "{flags}");
        }
    }
    // The target answers what it thinks it got; only a SYN-ACK to a bare SYN loses its timestamps.
    for (flags, echo, kept) in [
        (ACK, tag, true),
        (ACK, tag - 1, true),
        (ACK | FIN, tag - 1, true),
        (RST | ACK, tag - 1, true),
        (SYN | ACK, tag, true),
        (SYN | ACK, tag - 1, false),
    ] {
        let segment = Tcp::new(WEB_TARGET, (egress, port), flags).stamped(9, echo);
        let (seen, tcp) = down(&mut world, &segment);
        assert_eq!(addresses(&seen, &tcp), (WEB, CLIENT));
        let want = if kept { timestamps(9, 0) } else { Vec::new() };
        assert_eq!(tcp.options, want, "{flags} {echo}");
    }
}

#[test]
fn transparent_mode_keeps_the_client_both_ways() {
    let mut world = World::new();
    let target = world.target("raw", CLIENT);
    assert!(RAW_TARGETS.contains(&target));
    for options in [linux_syn_options(1460, 77, 0), plain_syn_options(1460)] {
        let syn = Tcp::new(CLIENT, RAW, SYN).options(&options);
        let (seen, tcp) = up(&mut world, &syn);
        assert_eq!(addresses(&seen, &tcp), (CLIENT, target));
        assert_eq!(tcp.options, options);
        let syn_ack = Tcp::new(target, CLIENT, SYN | ACK).options(&options);
        let (seen, tcp) = down(&mut world, &syn_ack);
        assert_eq!(addresses(&seen, &tcp), (RAW, CLIENT));
        assert_eq!(tcp.options, options);
    }
    let data = Tcp::new(target, CLIENT, ACK).stamped(1, 2).data(b"abc");
    let (_, tcp) = down(&mut world, &data);
    assert_eq!(tcp.options, timestamps(1, 2));
}

#[test]
fn a_damaged_segment_stays_damaged() {
    let mut world = World::new();
    for options in [timestamps(5, 6), Vec::new()] {
        let segment = Tcp::new(CLIENT, WEB, ACK).options(&options).data(b"abcd");
        let mut datagram = segment.datagram();
        *datagram.last_mut().unwrap() ^= 0x40;
        let sent = world.datagram(WAN, &datagram);
        assert_eq!(world.verdict(), Verdict::Forward(LAN));
        let seen = Seen::frame(&sent[0].1);
        let sum = tcp_checksum(seen.src, seen.dst, &seen.payload);
        assert_ne!(sum, 0, "the damage is hidden");
    }
    let mut frame = anyrelay_core::frame::HeapFrame::new(
        &world.framed(WAN, &Tcp::new(CLIENT, WEB, ACK).stamped(5, 6).datagram()),
    );
    frame.checksum = anyrelay_core::frame::ChecksumVerdict::Bad;
    assert!(world.frame(WAN, frame).is_empty());
    assert_eq!(world.reason(), DropReason::TcpChecksum);
}
