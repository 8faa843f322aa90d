//! ICMPv6 errors: the POP's own about open packets, and those that it makes of errors about the
//! segments that carried them.

use super::*;

/// A router on the way to an agent.
const ROUTER: u32 = 0x0909_0909;

/// An ICMPv6 error of the POP: kind, code, MTU, hop limit, and what it quotes.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    head: (u8, u8, u16),
    hop_limit: u8,
    quote: Vec<u8>,
}

/// Reads an error from the POP to `dst`, all checksums right.
fn told(frame: &[u8], dst: u128) -> Told {
    let seen = Seen6::frame(frame);
    assert_eq!((seen.src, seen.dst, seen.traffic_class), (ip6(SOURCE), dst, 0));
    assert_eq!((seen.dst_mac, seen.message[4..6].to_vec()), (WAN_GATEWAY, vec![0, 0]));
    let mtu = u16::from_be_bytes(seen.message[6..8].try_into().unwrap());
    let head = (seen.message[0], seen.message[1], mtu);
    Told { head, hop_limit: seen.hop_limit, quote: seen.message[8..].to_vec() }
}

/// Reads the same from the segment that carries it to `agent`.
fn told_in_tunnel(world: &World, frame: &[u8], to: &Opened) -> Told {
    let down = outer(frame);
    let inner = down.data[4..].to_vec();
    assert_carries(world, &down, &to.agent, &inner);
    let mut frame = frame[..12].to_vec();
    frame.extend([0x86, 0xdd]);
    frame.extend(inner);
    told(&frame, to.address)
}

/// The one frame that is sent because of a datagram that is dropped.
fn error_of(world: &mut World, datagram: &[u8], reason: DropReason, kind: ReplyKind) -> Vec<u8> {
    let before = world.counters.replies(kind);
    let mut sent = world.datagram(WAN, datagram);
    assert_eq!(world.reason(), reason);
    let (Some((WAN, frame)), true) = (sent.pop(), sent.is_empty()) else {
        panic!("{:?}", world.out.said)
    };
    assert_eq!(world.counters.replies(kind), before + 1);
    frame
}

#[test]
fn a_packet_at_its_last_hop() {
    let Three { mut world, a, b, .. } = Three::new();
    let (reason, kind) = (DropReason::TtlExceeded, ReplyKind::TimeExceeded);
    for hop_limit in [0, 1] {
        let header = |src, dst| Ipv6Header { hop_limit, next: 17, ..Ipv6Header::new(src, dst) };
        let packet = header(HOST, a.address).with(&BODY);
        let frame = error_of(&mut world, &packet, reason, kind);
        let want = Told { head: (3, 0, 0), hop_limit: 64, quote: packet };
        assert_eq!(told(&frame, HOST), want);
        // Of an agent, which is told in its tunnel, wherever it sends to.
        for dst in [HOST, b.address] {
            let packet = header(a.address, dst).with(&[5; 1300]);
            let up = a.up(&world, 4, &packet).datagram();
            let frame = error_of(&mut world, &up, reason, kind);
            let want = Told { head: (3, 0, 0), hop_limit: 64, quote: packet[..1232].to_vec() };
            assert_eq!(told_in_tunnel(&world, &frame, &a), want);
        }
        // Nobody is told about an error, or about what may be one.
        let icmp = Ipv6Header { hop_limit, ..Ipv6Header::icmp(HOST, a.address) };
        for packet in [
            icmp.with(&icmp6(1, 4, [0; 4], &[0; 40])),
            icmp.with(&icmp6(127, 0, [0; 4], &[0; 40])),
            icmp.with(&icmp6(137, 0, [0; 4], &[0; 40])),
            icmp.after(FRAGMENT, &fragment6(58, 1400, false, 7, &[5; 64])),
        ] {
            assert_eq!(world.dropped(WAN, &packet), reason);
        }
        let echo = icmp.with(&icmp6(128, 0, [0; 4], &[0; 40]));
        error_of(&mut world, &echo, reason, kind);
    }
}

#[test]
fn a_packet_beyond_the_mtu_inside() {
    let Three { mut world, a, .. } = Three::new();
    let header = Ipv6Header { next: 17, ..Ipv6Header::new(HOST, a.address) };
    for len in [1317, 1400, 1460] {
        let packet = header.with(&vec![5; len]);
        let (reason, kind) = (DropReason::TooBig, ReplyKind::PacketTooBig);
        let frame = error_of(&mut world, &packet, reason, kind);
        let want = Told { head: (2, 0, 1356), hop_limit: 64, quote: packet[..1232].to_vec() };
        assert_eq!(told(&frame, HOST), want);
    }
    // Beyond OFFSET too: 1024 bytes of it would be less than the MTU, 16384 are more.
    let config = open_config(1).edit(|config| {
        config.named("wan").set("mtu", 9000);
        for tunnel in &mut config.tunnels {
            tunnel.set("offset", 1408);
        }
    });
    let Three { mut world, a, .. } = Three::of(&config);
    let packet = Ipv6Header::new(HOST, a.address).with(&[7; 5000]);
    let (reason, kind) = (DropReason::TooBig, ReplyKind::PacketTooBig);
    let frame = error_of(&mut world, &packet, reason, kind);
    assert_eq!(told(&frame, HOST).head, (2, 0, 1356));
}

/// A segment down and the packet in it, from a host or from `b`, to `a`.
struct Sent {
    world: World,
    a: Opened,
    b: Opened,
    down: Vec<u8>,
    inner: Vec<u8>,
}

impl Sent {
    fn from_host(body: &[u8]) -> Sent {
        let Three { mut world, a, b, .. } = Three::new();
        let inner = Ipv6Header { next: 17, ..Ipv6Header::new(HOST, a.address) }.with(body);
        let (_, frame) = world.passed(WAN, &inner);
        Sent { world, a, b, down: frame[14..].to_vec(), inner: one_hop_less(&inner) }
    }

    fn from_agent() -> Sent {
        let Three { mut world, a, b, .. } = Three::new();
        let inner = b.packet(a.address);
        let up = b.up(&world, 3, &inner);
        let (_, frame) = world.passed(WAN, &up.datagram());
        Sent { world, a, b, down: frame[14..].to_vec(), inner: one_hop_less(&inner) }
    }

    /// An error of a router that quotes so many bytes of the segment.
    fn error(&self, (kind, code): (u8, u8), mtu: u16, len: usize) -> Vec<u8> {
        self.error_about((kind, code), mtu, &self.down[..len.min(self.down.len())])
    }

    fn error_about(&self, (kind, code): (u8, u8), mtu: u16, quote: &[u8]) -> Vec<u8> {
        let [high, low] = mtu.to_be_bytes();
        let message = icmp(kind, code, [0, 0, high, low], quote);
        Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, ip("203.0.113.22")) }.with(&message)
    }

    /// The host that sent the packet is told.
    fn told(&mut self, error: &[u8]) -> Told {
        let (_, frame) = self.world.passed(WAN, error);
        told(&frame, HOST)
    }
}

#[test]
fn a_host_learns_of_a_narrow_path_behind_the_pop() {
    for (mtu, want) in [(1399, 1355), (1324, 1280), (1323, 1280), (552, 1280), (0, 1280)] {
        for len in [548, 84] {
            let mut sent = Sent::from_host(&[7; 1316]);
            let error = sent.error((3, 4), mtu, len);
            let quote = sent.inner[..len - 44].to_vec();
            let told = sent.told(&error);
            assert_eq!(told, Told { head: (2, 0, want), hop_limit: 56, quote });
        }
    }
    // All of a short packet, without what a router puts behind it.
    let mut sent = Sent::from_host(&BODY);
    let padded = [&sent.down[..], &[0xcc; 64]].concat();
    let error = sent.error_about((3, 4), 1350, &padded);
    let quote = sent.inner.clone();
    assert_eq!(sent.told(&error), Told { head: (2, 0, 1306), hop_limit: 56, quote });
    // The quote of an error with extensions (RFC 4884) is of the length that it says.
    let mut sent = Sent::from_host(&[7; 800]);
    let mut message = icmp(3, 1, [0, 32, 0, 0], &[&sent.down[..128], &[0x20; 40]].concat());
    message[2..4].fill(0);
    let sum = internet_checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, ip("203.0.113.22")) };
    let quote = sent.inner[..128 - 44].to_vec();
    let told = sent.told(&header.with(&message));
    assert_eq!(told, Told { head: (1, 3, 0), hop_limit: 56, quote });
}

#[test]
fn a_host_learns_that_an_agent_is_not_reached() {
    for (from, to) in [
        ((3, 0), (1, 3)),
        ((3, 1), (1, 3)),
        ((3, 3), (1, 3)),
        ((3, 9), (1, 1)),
        ((3, 13), (1, 1)),
        ((11, 0), (1, 3)),
        ((11, 1), (1, 3)),
    ] {
        let mut sent = Sent::from_host(&BODY);
        let error = sent.error(from, 0, 548);
        let told = sent.told(&error);
        assert_eq!(told.head, (to.0, to.1, 0), "{from:?}");
    }
    let mut sent = Sent::from_host(&BODY);
    let problem = sent.error((12, 0), 0, 548);
    assert_eq!(sent.world.dropped(WAN, &problem), DropReason::IcmpType);
}

#[test]
fn an_agent_is_told_in_its_tunnel() {
    let mut sent = Sent::from_agent();
    let error = sent.error((3, 4), 1350, 548);
    let (_, frame) = sent.world.passed(WAN, &error);
    let told = told_in_tunnel(&sent.world, &frame, &sent.b);
    let quote = sent.inner.clone();
    assert_eq!(told, Told { head: (2, 0, 1306), hop_limit: 56, quote });
}

#[test]
fn nobody_is_told_of_an_error_about_an_error() {
    let Three { mut world, a, b, .. } = Three::new();
    let inner = Ipv6Header::icmp(HOST, a.address).with(&icmp6(3, 0, [0; 4], &[0x60; 60]));
    let (_, frame) = world.passed(WAN, &inner);
    let mut sent = Sent { world, a, b, down: frame[14..].to_vec(), inner };
    let error = sent.error((3, 4), 1350, 548);
    assert!(sent.world.datagram(WAN, &error).is_empty());
    assert_eq!(sent.world.verdict(), Verdict::Absorb(AbsorbKind::TunnelIcmp));
}

/// That the error is refused, and counted at the tunnel.
fn refuses(sent: &mut Sent, error: &[u8], reason: DropReason) {
    let slot = sent.world.snapshot.tunnel_at(OPEN.parse().unwrap()).unwrap().slot;
    let before = sent.world.counters.service_drops(slot, reason);
    assert_eq!(sent.world.dropped(WAN, error), reason);
    assert_eq!(sent.world.counters.service_drops(slot, reason), before + 1);
}

#[test]
fn errors_about_what_no_pop_sent() {
    let mut sent = Sent::from_host(&[7; 300]);
    let agent = sent.a.address.to_be_bytes();
    // Whatever follows the header need not be there; all of the header must.
    for len in [83, 44, 43] {
        let error = sent.error((3, 4), 1350, len);
        refuses(&mut sent, &error, DropReason::IcmpQuote);
    }
    let edits: [(usize, &[u8]); 8] = [
        // Length, port of the agent, seq, ack, offset.
        (3, &[sent.down[3] ^ 1]),
        (23, &[sent.down[23] ^ 1]),
        (26, &[sent.down[26] ^ 1]),
        (30, &[sent.down[30] ^ 1]),
        (28, &[sent.down[28] ^ 1]),
        (41, &[sent.down[41] ^ 1]),
        // The inner destination, and the length inside.
        (68, &[agent[0] ^ 0x20]),
        (49, &[sent.down[49] ^ 1]),
    ];
    for (at, bytes) in edits {
        let mut quote = sent.down.clone();
        quote[at..at + bytes.len()].copy_from_slice(bytes);
        repair_header(&mut quote);
        let error = sent.error_about((3, 4), 1350, &quote);
        refuses(&mut sent, &error, DropReason::IcmpForged);
    }
    // An agent's own packet up, another kind of message, and a source that no packet had.
    for (at, byte, reason) in [
        (40, 0x50, DropReason::IcmpForged),
        (40, 0x61, DropReason::IcmpForged),
        (52, 0xff, DropReason::DestinationNotAllowed),
        (42, 1, DropReason::IcmpForged),
    ] {
        let mut quote = sent.down.clone();
        quote[at] = byte;
        let error = sent.error_about((3, 4), 1350, &quote);
        refuses(&mut sent, &error, reason);
    }
    // The other tunnel's agents, as senders of it.
    let mut quote = sent.down.clone();
    quote[52..68].copy_from_slice(&ip6("2001:db8:b::1").to_be_bytes());
    let error = sent.error_about((3, 4), 1350, &quote);
    refuses(&mut sent, &error, DropReason::DestinationNotAllowed);
    let mut quote = sent.down.clone();
    quote[52..68].copy_from_slice(&ip6("2001:db8:a::1").to_be_bytes());
    let error = sent.error_about((3, 4), 1350, &quote);
    refuses(&mut sent, &error, DropReason::OpenAddress);
    // Ticks ago, or ahead.
    for (ticks, is_taken) in [(-13i64, false), (-12, true), (3, true), (4, false)] {
        let mut sent = Sent::from_host(&BODY);
        let ms = sent.world.now.unix.as_millis();
        sent.world.now.unix =
            anyrelay_core::time::UnixTime::from_millis(ms.wrapping_add_signed(-ticks * 8000));
        let error = sent.error((3, 4), 1350, 548);
        match is_taken {
            true => drop(sent.told(&error)),
            false => refuses(&mut sent, &error, DropReason::IcmpForged),
        }
    }
}

/// Of a segment that carried a fragment, or a packet with options, a router quotes a part.
#[test]
fn a_host_learns_of_a_narrow_path_from_a_part_of_any_packet() {
    let Three { mut world, a, .. } = Three::new();
    let header = Ipv6Header::new(HOST, a.address);
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &[5; 1200]].concat();
    for packet in
        [header.after(FRAGMENT, &fragment6(17, 0, true, 7, &[5; 1200])), header.after(60, &options)]
    {
        let (_, frame) = world.passed(WAN, &packet);
        let quote = &frame[14..14 + 548];
        let message = icmp(3, 4, [0, 0, 5, 70], quote);
        let header = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER, ip("203.0.113.22")) };
        let (_, frame) = world.passed(WAN, &header.with(&message));
        let quote = one_hop_less(&packet)[..548 - 44].to_vec();
        assert_eq!(told(&frame, HOST), Told { head: (2, 0, 1306), hop_limit: 56, quote });
    }
}

/// An agent knows what is in segments to it, and can make up errors to anybody.
#[test]
fn errors_are_bounded_by_the_agent_that_may_have_made_them() {
    let mut sent = Sent::from_host(&BODY);
    let now = sent.world.now;
    let config = open_config(1).limit("open_per_agent_per_second", 3);
    sent.world = tunnel_world_of(&config, KEYS);
    sent.world.now = now;
    for network in 0..3 {
        let mut quote = sent.down.clone();
        quote[56] = network;
        let error = sent.error_about((3, 4), 1350, &quote);
        sent.world.passed(WAN, &error);
    }
    let error = sent.error((3, 4), 1350, 548);
    refuses(&mut sent, &error, DropReason::RateOpenAgent);
}

/// All agents' open addresses are of few networks: each has the share of its own address outside.
#[test]
fn an_agent_uses_up_no_others_share_of_the_pops_errors() {
    let config = open_config(1).limit("icmp_per_second", 10);
    let Three { mut world, a, b, .. } = Three::of(&config);
    let last_hop = |agent: &Opened, world: &World| {
        let header = Ipv6Header { hop_limit: 1, next: 17, ..Ipv6Header::new(agent.address, HOST) };
        agent.up(world, 4, &header.with(&BODY)).datagram()
    };
    let (of_a, of_b) = (last_hop(&a, &world), last_hop(&b, &world));
    let told = |world: &mut World, up: &[u8]| world.datagram(WAN, up).len();
    assert_eq!((told(&mut world, &of_a), told(&mut world, &of_a)), (1, 0));
    assert_eq!(told(&mut world, &of_b), 1);
}

#[test]
fn errors_are_bounded_for_each_network_of_hosts() {
    let mut sent = Sent::from_host(&BODY);
    let now = sent.world.now;
    let config = open_config(1).limit("icmp_forward_per_second", 3);
    sent.world = tunnel_world_of(&config, KEYS);
    sent.world.now = now;
    let error = sent.error((3, 4), 1350, 548);
    for _ in 0..3 {
        sent.told(&error);
    }
    refuses(&mut sent, &error, DropReason::RateIcmp);
}
