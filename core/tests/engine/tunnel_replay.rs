//! Requests that were recorded, and sent again from elsewhere, later, or to another VIP: none
//! brings a token to who is not the agent, nor more bytes than it has itself.

use anyrelay_core::verdict::{DropReason, ReplyKind};

use crate::*;

/// Another port behind the same NAT, and another host.
fn elsewhere(addr: &str) -> [&'static str; 2] {
    if addr == A4 { ["198.18.5.9:40077", B4] } else { ["[2600:1::a]:40077", B6] }
}

/// `recorded` from somebody at `addr`, who has made a handshake of their own, with aligned numbers.
fn from(world: &mut World, recorded: &Segment, addr: &str) -> Segment {
    let mut thief = Agent::new(1, 2, addr);
    thief.vip = recorded.dst;
    let syn_ack = answer(world, &thief.syn(world), ReplyKind::SynAck);
    thief.start = syn_ack.seq.wrapping_sub(STRIDE.wrapping_mul(tick(world)));
    thief.segment(world, recorded.data.clone())
}

/// The reply to `asked`, which must be as long, and without a token.
fn assert_bare(world: &mut World, asked: &Segment) {
    let reply = answer(world, asked, ReplyKind::Keepalive);
    let v6 = asked.src.is_ipv6();
    assert_eq!(reply.datagram().len(), asked.datagram().len());
    assert_eq!(reply.data[0], 0x20);
    assert_eq!(read_public(&reply.data, v6), asked.src);
    // Neither the token nor its epoch is there.
    let at = if v6 { 54 } else { 42 };
    assert_eq!(reply.data[at - 2], 0);
    assert!(reply.data[at..reply.data.len() - 16].iter().all(|byte| *byte == 0));
}

#[test]
fn from_elsewhere_they_bring_no_token() {
    for addr in [A4, A6] {
        let mut world = tunnel_world(1);
        let agent = Agent::connected(&mut world, 1, 1, addr);
        let recorded = agent.keepalive(&world);
        for other in elsewhere(addr) {
            let stolen = from(&mut world, &recorded, other);
            for _ in 0..3 {
                assert_bare(&mut world, &stolen);
            }
            // One that names nothing yet is worth as little.
            let first = Agent { told: None, ..agent.clone() }.keepalive(&world);
            let stolen = from(&mut world, &first, other);
            assert_bare(&mut world, &stolen);
            // To name another place takes the agent's key.
            let moved = from(&mut world, &recorded, other).edit(|moved| {
                let place = endpoint(moved.src);
                moved.data[24..24 + place.len()].copy_from_slice(&place);
            });
            assert_eq!(refused(&mut world, &moved), DropReason::KeepaliveMac);
        }
        // The agent itself goes on.
        let reply = answer(&mut world, &recorded, ReplyKind::Keepalive);
        assert_eq!(read_token(&reply.data, addr == A6), agent.token);
    }
}

#[test]
fn from_the_same_place_they_bring_one_for_twelve_ticks() {
    for addr in [A4, A6] {
        let mut world = tunnel_world(1);
        let agent = Agent::connected(&mut world, 1, 1, addr);
        let recorded = agent.keepalive(&world);
        for ticks in 0..20 {
            // Whoever has the address now.
            let again = from(&mut world, &recorded, addr);
            if ticks <= 12 {
                let reply = answer(&mut world, &again, ReplyKind::Keepalive);
                assert_eq!(reply.data[0], 0x21, "{ticks}");
            } else {
                assert_bare(&mut world, &again);
            }
            world.later(8000);
        }
        // Of a POP whose clock is ahead by up to three ticks.
        let now = tick(&world);
        for (ahead, first) in [(0, 0x21), (3, 0x21), (4, 0x20)] {
            let request = agent.keepalive_of(&world, now + ahead);
            let reply = answer(&mut world, &request, ReplyKind::Keepalive);
            assert_eq!(reply.data[0], first, "{ahead}");
        }
    }
}

#[test]
fn at_another_vip_they_are_refused() {
    let mut world = tunnel_world(1);
    let mut agent = Agent::connected(&mut world, 1, 1, A4);
    let other: std::net::SocketAddr = "203.0.113.21:443".parse().unwrap();
    let recorded = agent.keepalive(&world);
    let mut misled = recorded.clone();
    misled.dst = other;
    let misled = from(&mut world, &misled, A4);
    assert_eq!(refused(&mut world, &misled), DropReason::KeepaliveMac);
    agent.vip = other;
    agent.connect(&mut world);
    assert!(agent.token.is_some());
    let mut misled = agent.keepalive(&world);
    misled.dst = recorded.dst;
    let misled = from(&mut world, &misled, A4);
    assert_eq!(refused(&mut world, &misled), DropReason::KeepaliveMac);
}

/// The NAT gives the agent another port while it sends.
#[test]
fn after_a_rebinding_the_agent_asks_once_more() {
    for (addr, rebound) in [(A4, "198.18.5.9:50505"), (A6, "[2600:1::a]:50505")] {
        let mut world = tunnel_world(1);
        let to = Agent::connected(&mut world, 1, 2, B4);
        let before = Agent::connected(&mut world, 1, 1, addr);
        let data = before.data(&world, to.token(), 1, b"body");
        sent_on(&mut world, &data);
        let mut agent = Agent { addr: rebound.parse().unwrap(), ..before.clone() };
        let syn = agent.syn(&world);
        let syn_ack = answer(&mut world, &syn, ReplyKind::SynAck);
        agent.start = syn_ack.seq.wrapping_sub(STRIDE.wrapping_mul(tick(&world)));
        // It still names the old port, and its old token is of no use.
        let request = agent.keepalive(&world);
        assert_bare(&mut world, &request);
        let data = agent.data(&world, to.token(), 1, b"body");
        assert_eq!(refused(&mut world, &data), DropReason::TokenSource);
        agent.told = Some(agent.addr);
        let request = agent.keepalive(&world);
        let reply = answer(&mut world, &request, ReplyKind::Keepalive);
        agent.token = read_token(&reply.data, agent.addr.is_ipv6());
        assert_ne!(agent.token, before.token);
        let data = agent.data(&world, to.token(), 1, b"body");
        sent_on(&mut world, &data);
        let back = to.data(&world, agent.token(), 1, b"body");
        assert_eq!(sent_on(&mut world, &back).dst, agent.addr);
    }
}
