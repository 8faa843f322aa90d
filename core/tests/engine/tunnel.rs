//! Tunnels: handshakes, keepalives, datagrams, over both families and at several POPs.

use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

use crate::*;

#[test]
fn a_syn_is_answered_with_a_predicted_number() {
    for (addr, mss) in [(A4, 1360u16), (A6, 1340)] {
        let mut world = tunnel_world(1);
        let agent = Agent::new(1, 1, addr);
        let syn = agent.syn(&world);
        let first = answer(&mut world, &syn, ReplyKind::SynAck);
        let [high, low] = mss.to_be_bytes();
        let want = Segment::new(agent.vip, agent.addr, SYN | ACK).edit(|want| {
            (want.ttl, want.tos, want.seq) = (64, 0, first.seq);
            want.ack = syn.seq.wrapping_add(1);
            want.options = vec![2, 4, high, low, 1, 3, 3, 8];
        });
        assert_eq!(first, want);
        // No window scale where the SYN has none; data on it is not taken.
        for options in [vec![], vec![2, 4, 5, 0xb4], vec![1, 1, 1, 0]] {
            let plain = syn.edit(|syn| {
                (syn.options, syn.data) = (options, vec![0x30; 99]);
                syn.seq = syn.seq.wrapping_add(77);
            });
            let want = want.edit(|want| {
                want.options.truncate(4);
                want.ack = plain.seq.wrapping_add(1);
            });
            assert_eq!(answer(&mut world, &plain, ReplyKind::SynAck), want);
        }
        // The number moves by a stride in a tick, and differs from agent to agent.
        world.later(8000);
        let later = answer(&mut world, &syn, ReplyKind::SynAck);
        assert_eq!(later.seq, first.seq.wrapping_add(STRIDE));
        let other = syn.edit(|syn| syn.src.set_port(40_009));
        assert_ne!(answer(&mut world, &other, ReplyKind::SynAck).seq, later.seq);
        assert_eq!(world.counters.replies(ReplyKind::SynAck), 6);
    }
}

#[test]
fn the_smallest_syn_is_answered_though_its_answer_is_longer() {
    let mut world = tunnel_world(1);
    let syn = Segment::new(A4.parse().unwrap(), VIP4.parse().unwrap(), SYN);
    let frame = world.framed(WAN, &syn.datagram());
    assert_eq!(frame.len(), 54);
    let sent = world.frame(WAN, Used::from_bytes(&frame));
    assert_eq!(outer(&sent[0].1).options.len(), 4);
    assert!(world.frame(WAN, Tight::from_bytes(&frame)).is_empty());
    assert_eq!(world.reason(), DropReason::NoRoom);
}

#[test]
fn segments_without_data_are_taken_in() {
    for addr in [A4, A6] {
        let mut world = tunnel_world(1);
        let agent = Agent::connected(&mut world, 1, 1, addr);
        let bare = agent.segment(&world, Vec::new());
        for (count, flags) in (1..).zip([ACK, FIN | ACK, RST, RST | ACK]) {
            let bare = bare.edit(|bare| bare.flags = flags);
            assert!(world.datagram(WAN, &bare.datagram()).is_empty());
            assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::TunnelAck));
            assert_eq!(world.counters.absorbed(AbsorbKind::TunnelAck), count);
        }
    }
}

#[test]
fn a_keepalive_is_answered_with_all_that_an_agent_needs() {
    for addr in [A4, A6] {
        let mut world = tunnel_world(7);
        let agent = Agent::connected(&mut world, 1, 2, addr);
        let request = agent.keepalive(&world);
        let reply = answer(&mut world, &request, ReplyKind::Keepalive);
        assert_eq!((reply.seq, reply.flags), (agent.ack(&world), PSH | ACK));
        assert_eq!(reply.ack, request.seq.wrapping_add(request.data.len() as u32));
        assert_eq!((reply.options.len(), reply.tos), (0, 0));
        let (mut want, body_max) =
            (vec![0x21, 2], if agent.addr.is_ipv4() { 1316u16 } else { 1264 });
        want.extend(NONCE);
        want.extend((1_795_000_004_000u64 / 8000).to_be_bytes());
        want.extend([8000u32, STRIDE].map(u32::to_be_bytes).concat());
        want.extend([4, 16384, body_max].map(u16::to_be_bytes).concat());
        want.extend(endpoint(agent.addr));
        want.extend([0x80, 0, 0, 7]);
        want.extend(&agent.token().bytes);
        want.extend([0; 16]);
        want.extend(mac(&agent.key, b"keepalive reply", agent.vip, &want));
        assert_eq!(reply.data, want);
        assert_eq!(reply.data.len(), request.data.len());
    }
}

#[test]
fn a_token_is_given_once_the_base_is_aligned() {
    let mut world = tunnel_world(1);
    let mut agent = Agent::new(1, 1, A4);
    for (low, given) in [(0x8000, true), (0x7fc0, false), (0x8001, false), (0x9000, true)] {
        agent.base = 0x1234_0000 | low;
        agent.connect(&mut world);
        assert_eq!(agent.token.is_some(), given, "{low:#x}");
    }
}

/// A datagram through `world` at every place that matters.
fn assert_sent_on(world: &mut World, from: &Agent, to: &Agent, steps: u8, body: &[u8]) {
    let up = from.data(world, to.token(), steps, body);
    let down = sent_on(world, &up);
    let offset = u32::from(steps) * 64;
    let mut data = vec![0x40 | up.data[0] & 5, steps];
    data.extend(CHANNEL);
    data.extend(SESSION);
    data.extend(&from.token().bytes);
    data.extend(body);
    let want = Segment::new(to.vip, to.addr, PSH | ACK).edit(|want| {
        (want.ttl, want.tos, want.data) = (up.ttl - 1, up.tos, data);
        want.seq = to.ack(world).wrapping_add(offset);
        // Six ticks behind what the receiver has sent: LAG of them, and 0x2000.
        want.ack = to.seq(world).wrapping_sub(6 * STRIDE).wrapping_add(1);
    });
    assert_eq!(down, want);
}

#[test]
fn datagrams_go_between_all_families() {
    let mut world = tunnel_world(1);
    let agents = [(1, A4), (2, B4), (1, A6), (2, B6)];
    let agents = agents.map(|(number, addr)| Agent::connected(&mut world, 1, number, addr));
    let mut sent = 0;
    for from in &agents {
        for to in &agents {
            for (steps, len) in [(0, 0), (0, 1), (1, 2), (17, 99), (200, 1250), (235, 1264 - 16)] {
                let body: Vec<_> = (0..len).map(|i| (i * 7) as u8).collect();
                assert_sent_on(&mut world, from, to, steps, &body);
                sent += 1;
            }
        }
    }
    let slot = world.snapshot.tunnel_at(agents[0].vip).unwrap().slot;
    let counters = world.counters.service(slot);
    assert_eq!((counters.up.packets.get(), counters.down.packets.get()), (sent, sent));
    // What goes down lost the destination's token: of each pair of families as many.
    assert_eq!(counters.up.bytes.get() - counters.down.bytes.get(), sent * 24);
}

#[test]
fn buffers_as_ports_have_them_do() {
    let mut world = tunnel_world(1);
    let from = Agent::connected(&mut world, 1, 1, A4);
    for to in [Agent::connected(&mut world, 1, 2, B4), Agent::connected(&mut world, 1, 2, B6)] {
        let up = from.data(&world, to.token(), 3, b"an odd body");
        let frame = world.framed(WAN, &up.datagram());
        let sent = world.bytes(WAN, &frame);
        assert_eq!(world.frame(WAN, Used::from_bytes(&frame)), sent);
        // It only shrinks, so no room is needed.
        assert_eq!(world.frame(WAN, Tight::from_bytes(&frame)), sent);
        // TCP and IPv4 options, padding of the frame.
        let mut padded = frame.clone();
        padded.extend([0xee; 9]);
        assert_eq!(world.bytes(WAN, &padded), sent);
        let stamped = up.edit(|up| up.options = timestamps(1, 2));
        assert_eq!(world.datagram(WAN, &stamped.datagram()), sent);
        let optioned = {
            let mut datagram = up.datagram();
            datagram[0] = 0x46;
            datagram.splice(20..20, [1, 1, 1, 0]);
            set_length(&mut datagram);
            repair_header(&mut datagram);
            datagram
        };
        assert_eq!(world.datagram(WAN, &optioned), sent);
    }
}

#[test]
fn pops_with_other_clocks_and_numbers_agree() {
    let mut pops = [tunnel_world(1), tunnel_world(2), tunnel_world(3)];
    pops[1].later(8000);
    pops[2].later(16_000);
    let [one, two, three] = &mut pops;
    for (addr, peer) in [(A4, B4), (A6, B6), (A4, B6)] {
        // Each segment meets another POP.
        let mut a = Agent::new(1, 1, addr);
        let b = Agent::connected(two, 1, 2, peer);
        let syn = a.syn(one);
        let syn_ack = answer(one, &syn, ReplyKind::SynAck);
        a.start = syn_ack.seq.wrapping_sub(STRIDE.wrapping_mul(tick(one)));
        // What one POP told is to be named at any.
        let request = a.keepalive(one);
        let reply = answer(two, &request, ReplyKind::Keepalive);
        a.told = Some(read_public(&reply.data, addr == A6));
        let request = a.keepalive_of(one, tick(two));
        let reply = answer(three, &request, ReplyKind::Keepalive);
        // Its clock is two ticks ahead, which the base shows.
        assert_eq!(reply.seq, a.ack(three));
        assert_eq!(reply.data[32 + if addr == A6 { 16 } else { 4 } + 2], 0x60);
        a.token = read_token(&reply.data, addr == A6);
        // Any of them gives the same token, but for its own number.
        let up = a.data(one, b.token(), 9, b"body");
        for (pop, ticks) in [(&mut *one, 0), (&mut *two, 1), (&mut *three, 2)] {
            let down = sent_on(pop, &up);
            assert_eq!((down.src, down.dst), (b.vip, b.addr));
            assert_eq!(down.seq, b.ack(pop).wrapping_add(9 * 64));
            let sender = Said::Sender { holds: sender_of(pop), sent: Some(-ticks) };
            assert!(pop.out.said.contains(&sender), "{:?}", pop.out.said);
        }
    }
    let counts = |world: &World| [1, 2, 3].map(|pop| world.counters.issued_elsewhere(pop));
    // All tokens are of the third POP; there they are its own.
    assert_eq!((counts(one), counts(two), counts(three)), ([0, 0, 3], [0, 0, 3], [0, 0, 0]));
}

/// What the POP said that the sender's token of the last frame holds.
fn sender_of(world: &World) -> anyrelay_core::tunnel::Return {
    let said = world.out.said.iter().find_map(|said| match said {
        Said::Sender { holds, .. } => Some(*holds),
        _ => None,
    });
    said.unwrap()
}

#[test]
fn what_is_said_of_a_datagram_is_all_there_is() {
    let mut world = tunnel_world(4);
    let (a, b) = (Agent::connected(&mut world, 1, 1, A4), Agent::connected(&mut world, 1, 2, B6));
    let up = a.data(&world, b.token(), 9, b"body").edit(|up| {
        up.seq = up.seq.wrapping_sub(STRIDE);
        up.ack = up.ack.wrapping_sub(5 * STRIDE);
    });
    sent_on(&mut world, &up);
    let holds = |agent: &Agent| anyrelay_core::tunnel::Return {
        agent: agent.addr,
        base_high: (agent.base >> 16) as u16,
        tenant: 1,
        epoch: 0,
        pop: 4,
    };
    let tick = 1_795_000_004_000 / 8000;
    let want = [
        Said::Service("tun".into()),
        Said::Tunnelled { agent: a.addr, vip: a.vip, tick, acked: Some(-5) },
        Said::Sender { holds: holds(&a), sent: Some(-1) },
        Said::Destination { holds: holds(&b) },
        Said::Verdict(Verdict::Forward(WAN)),
    ];
    assert_eq!(world.out.said, want);
    let keepalive = a.keepalive(&world).edit(|request| request.ack += 1);
    assert_eq!(refused(&mut world, &keepalive), DropReason::KeepaliveAck);
    let want = [
        Said::Service("tun".into()),
        Said::Tunnelled { agent: a.addr, vip: a.vip, tick, acked: None },
        Said::Keepalive { tenant: 1, agent: 1, named: true },
        Said::Verdict(Verdict::Drop(DropReason::KeepaliveAck)),
    ];
    assert_eq!(world.out.said, want);
}
