//! Packets of agents: to hosts outside, to each other, and where they may not go.

use super::*;

#[test]
fn a_reply_holds_the_address_of_the_agent() {
    let Three { world, a, b, rival } = Three::new();
    for (opened, prefix) in [(&a, PREFIX), (&b, PREFIX), (&rival, RIVAL_PREFIX)] {
        let net = anyrelay_core::net::IpNet::parse(prefix).unwrap();
        assert!(net.contains(Ipv6Addr::from_bits(opened.address).into()));
    }
    assert!(a.address != b.address && a.address != rival.address);
    // None without a token, and none where the tunnel has no open side.
    let mut world = world;
    let mut early = a.agent.clone();
    early.told = None;
    for (agent, is_given) in [(&early, false), (&a.agent, true)] {
        let request = agent.keepalive(&world);
        let reply = answer(&mut world, &request, ReplyKind::Keepalive);
        assert_eq!(reply.data[58..74] != [0; 16], is_given);
    }
    let mut closed = Agent::new(1, 1, A4);
    closed.connect(&mut world);
    let request = closed.keepalive(&world);
    let reply = answer(&mut world, &request, ReplyKind::Keepalive);
    assert!(reply.data[0] == 0x21 && reply.data[58..74] == [0; 16]);
}

#[test]
fn a_packet_goes_out_as_it_is_with_one_hop_less() {
    let Three { mut world, a, .. } = Three::new();
    let header = Ipv6Header::new(a.address, HOST);
    let packets = [
        a.packet(HOST),
        header.with(&Tcp::new((1, 7), (2, 9), SYN).segment()),
        Ipv6Header::icmp(a.address, HOST).with(&icmp6(128, 0, [0; 4], b"echo")),
        Ipv6Header { next: 59, ..header.clone() }.with(&[]),
        header.after(FRAGMENT, &fragment6(17, 1400, true, 7, &[5; 64])),
        header.after(HOP_BY_HOP, &[17, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4]),
        Ipv6Header { next: 17, ..header.clone() }.with(&[9; 1316]),
    ];
    let slot = world.snapshot.tunnel_at(a.agent.vip).unwrap().slot;
    let (mut sent, mut bytes) = (0, 0);
    for inner in packets {
        for (steps, late) in [(0, 0), (7, 3), (200, -3i32)] {
            let up = a.up(&world, steps, &inner).edit(|up| {
                up.seq = up.seq.wrapping_add_signed(late * STRIDE as i32);
                up.ack = up.ack.wrapping_sub(4 * STRIDE);
            });
            let (port, frame) = world.passed(WAN, &up.datagram());
            assert_eq!((port, &frame[..6], &frame[6..12]), (WAN, &WAN_GATEWAY[..], &WAN_MAC[..]));
            assert_eq!(frame[12..14], [0x86, 0xdd]);
            assert_eq!(frame[14..], one_hop_less(&inner), "{:?}", world.out.said);
            (sent, bytes) = (sent + 1, bytes + inner.len() as u64);
        }
    }
    let counters = world.counters.service(slot);
    assert_eq!((counters.up.packets.get(), counters.up.bytes.get()), (sent, bytes));
    assert_eq!(counters.down.packets.get(), 0);
}

#[test]
fn what_is_said_of_a_packet_is_all_there_is() {
    let Three { mut world, a, .. } = Three::new();
    let up = a.up(&world, 9, &a.packet(HOST)).edit(|up| up.seq = up.seq.wrapping_sub(STRIDE));
    world.passed(WAN, &up.datagram());
    let std::net::SocketAddr::V4(at) = a.agent.addr else { panic!("{a:?}") };
    let holds =
        anyrelay_core::tunnel::open::OpenAgent { at, base_high: (a.agent.base >> 16) as u16 };
    let tick = 1_795_000_004_000 / 8000;
    let (src, dst) = (a.address.into(), HOST.into());
    let want = [
        Said::Service("open".into()),
        Said::Tunnelled { agent: a.agent.addr, vip: a.agent.vip, tick, acked: Some(0) },
        Said::OpenPacket { src, agent: Some(holds), dst, sent: Some(-1) },
        Said::Verdict(Verdict::Forward(WAN)),
    ];
    assert_eq!(world.out.said, want);
}

#[test]
fn marks_of_congestion_come_out() {
    let mut three = Three::new();
    let packet = |class| {
        let header =
            Ipv6Header { traffic_class: class, next: 17, ..Ipv6Header::new(three.a.address, HOST) };
        header.with(&BODY)
    };
    let (unaware, capable) = (packet(0xb8), packet(0xba));
    let marked = three.a.up(&three.world, 0, &capable).edit(|up| up.tos = 3);
    let (_, frame) = three.world.passed(WAN, &marked.datagram());
    assert_eq!(frame[14..16], [0x6b, 0xba]);
    let marked = three.a.up(&three.world, 0, &unaware).edit(|up| up.tos = 3);
    three.refuses(&marked, DropReason::TunnelMark);
}

#[test]
fn agents_of_a_tunnel_reach_each_other() {
    let Three { mut world, a, b, .. } = Three::new();
    let inner = a.packet(b.address);
    let up = a.up(&world, 3, &inner);
    let down = sent_on(&mut world, &up);
    assert_carries(&world, &down, &b.agent, &one_hop_less(&inner));
    // And itself, as a host does.
    let inner = a.packet(a.address);
    let up = a.up(&world, 3, &inner);
    let down = sent_on(&mut world, &up);
    assert_carries(&world, &down, &a.agent, &one_hop_less(&inner));
}

#[test]
fn a_sender_needs_its_own_address_and_numbers() {
    let mut three = Three::new();
    let (a, b, rival) = (three.a.clone(), three.b.clone(), three.rival.clone());
    let good = a.up(&three.world, 2, &a.packet(HOST));
    let from = |address: u128| {
        let inner = Ipv6Header { next: 17, ..Ipv6Header::new(address, HOST) }.with(&BODY);
        good.edit(|up| up.data.splice(4.., inner).for_each(drop))
    };
    // Made up, another agent's, another service's, of nobody.
    for bit in (0..79).step_by(3) {
        three.refuses(&from(a.address ^ 1 << bit), DropReason::OpenSource);
    }
    for address in [b.address, rival.address, HOST, 0, 1, a.address ^ 1 << 90] {
        three.refuses(&from(address), DropReason::OpenSource);
    }
    three.refuses(&from(a.address ^ 1 << 79), DropReason::OpenEpoch);
    // Stolen: right in all but where it comes from.
    let thief = good.edit(|up| up.src.set_port(up.src.port() + 1));
    three.refuses(&thief, DropReason::OpenSource);
    for off in [1, 64, 4 * STRIDE, STRIDE.wrapping_mul(4).wrapping_neg(), 1 << 16, 1 << 31] {
        let wrong = good.edit(|up| up.seq = up.seq.wrapping_add(off));
        three.refuses(&wrong, DropReason::NotInSequence);
    }
    for off in [1, 90, 4 * STRIDE, STRIDE.wrapping_mul(13).wrapping_neg(), 1 << 31] {
        let wrong = good.edit(|up| up.ack = up.ack.wrapping_add(off));
        three.refuses(&wrong, DropReason::NotInSequence);
    }
    // All of it was right otherwise.
    three.world.passed(WAN, &good.datagram());
}

#[test]
fn a_packet_must_be_whole() {
    let mut three = Three::new();
    let a = three.a.clone();
    let good = a.up(&three.world, 2, &a.packet(HOST));
    let edits: [fn(&mut Segment); 13] = [
        |up| up.data[0] = 0x51,
        |up| up.data[0] = 0x60,
        |up| up.data[2] = 1,
        |up| up.data[3] = 1,
        |up| up.data[4] = 0x45,
        |up| up.data.truncate(4 + 39),
        |up| up.data.truncate(4),
        |up| up.data.truncate(3),
        |up| up.data.truncate(up.data.len() - 1),
        |up| up.data.push(0),
        // 255 steps, and more bytes than fit behind them.
        |up| {
            up.data[1] = 255;
            up.seq = up.seq.wrapping_add(253 * 64);
        },
        |up| up.flags |= FIN,
        |up| up.flags |= RST,
    ];
    for edit in edits {
        three.refuses(&good.edit(edit), DropReason::TunnelMalformed);
    }
    let header = Ipv6Header { next: 17, ..Ipv6Header::new(a.address, HOST) };
    let longest = a.up(&three.world, 2, &header.with(&[1; 1316]));
    three.world.passed(WAN, &longest.datagram());
    three.refuses(&a.up(&three.world, 2, &header.with(&[1; 1317])), DropReason::BodyTooBig);
    // A routing header leads past where agents may send to; options that forbid to be skipped may
    // hide one.
    let routed = header.after(ROUTING, &[[17, 2, 0, 1, 0, 0, 0, 0], [7; 8], [8; 8]].concat());
    three.refuses(&a.up(&three.world, 0, &routed), DropReason::SourceRoute);
    // Also in a first fragment, which may be the whole packet.
    let routed = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &[7; 8], &[8; 8]].concat();
    for more in [false, true] {
        let first = header.after(FRAGMENT, &fragment6(ROUTING, 0, more, 7, &routed));
        three.refuses(&a.up(&three.world, 0, &first), DropReason::SourceRoute);
    }
    let hidden = header.after(DESTINATION_OPTIONS, &[43, 0, 0xc0, 4, 0, 0, 0, 0]);
    three.refuses(&a.up(&three.world, 0, &hidden), DropReason::Ipv6Options);
    // A tunnel without an open side knows no such packets.
    let mut closed = a.agent.clone();
    closed.vip = VIP4.parse().unwrap();
    closed.connect(&mut three.world);
    let up = Opened { agent: closed, ..a.clone() }.up(&three.world, 0, &a.packet(HOST));
    assert_eq!(refused(&mut three.world, &up), DropReason::TunnelMalformed);
}

#[test]
fn where_agents_may_not_send_to() {
    let config = open_config(1).set("not_clients", ["2600:bad::/32", "198.18.0.0/24"]).relay(
        anyrelay_kit::config::relay(
            "web6",
            "[2001:db8:f::10]:443",
            &["[2600:7::40]:8443"],
            anyrelay_kit::config::Egress::Transparent,
        ),
    );
    let mut three = Three::of(&config);
    let a = three.a.clone();
    for refused in [
        // Not in `to`: private, NAT64, unassigned.
        "fd00:2::1",
        "64:ff9b::808:808",
        "4000::1",
        // Special.
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "fe80::a",
        "ff02::1",
        "ff0e::1",
        "fec0::1",
        // VIPs, ports, gateways, targets, what the operator names, and what stands for it.
        "2001:db8:f::10",
        "2001:db8:f::20",
        "2001:db8:1::2",
        "2001:db8:2::2",
        "2001:db8:2::1",
        "2600:7::40",
        "2600:bad::7",
        "2002:c612:7::1",
        "2002:cb00:7116::1",
        "2002:a00:1::1",
        // The POP itself.
        SOURCE,
    ] {
        let up = a.up(&three.world, 0, &a.packet(ip6(refused)));
        three.refuses(&up, DropReason::OpenDestination);
    }
    for allowed in ["fd00:1::1", "2600:7::41", "2001:db8:f::11", "2002:808:808::1"] {
        let up = a.up(&three.world, 0, &a.packet(ip6(allowed)));
        three.world.passed(WAN, &up.datagram());
    }
}

#[test]
fn open_addresses_that_are_not_the_tunnels_own() {
    let mut three = Three::new();
    let (a, b, rival) = (three.a.clone(), three.b.clone(), three.rival.clone());
    let to = |three: &Three, address| a.up(&three.world, 0, &a.packet(address));
    // Of another tenant, at another tunnel.
    let up = to(&three, rival.address);
    three.refuses(&up, DropReason::OpenOtherService);
    for bit in (0..79).step_by(5) {
        let up = to(&three, b.address ^ 1 << bit);
        three.refuses(&up, DropReason::OpenAddress);
    }
    let up = to(&three, b.address ^ 1 << 79);
    three.refuses(&up, DropReason::OpenEpoch);
}

#[test]
fn packets_are_bounded_for_each_agent_and_in_all() {
    let mut three = Three::of(&open_config(1).limit("open_per_agent_per_second", 10));
    let (a, b) = (three.a.clone(), three.b.clone());
    let count = |three: &mut Three, opened: &Opened, dst| {
        let up = opened.up(&three.world, 0, &opened.packet(dst)).datagram();
        (0..20).filter(|_| !three.world.datagram(WAN, &up).is_empty()).count()
    };
    assert_eq!(count(&mut three, &a, HOST), 10);
    assert_eq!(three.world.reason(), DropReason::RateOpenAgent);
    assert_eq!(three.world.drops(WAN, DropReason::RateOpenAgent), 10);
    // Neither another agent nor what comes down is the less for it.
    assert_eq!(count(&mut three, &b, a.address), 10);
    let down = Ipv6Header::new(HOST, a.address).with(&BODY);
    assert!(three.world.datagram(WAN, &down).is_empty());
    assert_eq!(three.world.reason(), DropReason::RateOpenAgent);
    three.world.later(500);
    assert_eq!(count(&mut three, &a, HOST), 5);

    let mut three = Three::of(&open_config(1).limit("open_per_service_per_second", 12));
    let rival = three.rival.clone();
    assert_eq!(count(&mut three, &a, HOST) + count(&mut three, &b, HOST), 12);
    assert_eq!(three.world.reason(), DropReason::RateOpenService);
    assert_eq!(three.world.drops(WAN, DropReason::RateOpenService), 28);
    assert_eq!(count(&mut three, &rival, HOST), 12);
}
