//! Refusals of targets, and the clients that they are for: at the POP where the RST arrives, and at
//! the next segment.

use std::sync::Arc;

use anyrelay_core::counters::Counters;
use anyrelay_core::pop::Pop;
use anyrelay_core::relay::memo::LIFETIME_MS;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

use crate::answers::{endpoints, own_reset};
use crate::*;

/// A RST without timestamps from the target waits for its segment.
pub fn keep(world: &mut World, to: (u32, u16), flags: u8, seq: u32, ack: u32) {
    let rst = Tcp::new(WEB_TARGET, to, flags).numbers(seq, ack);
    assert!(world.datagram(LAN, &rst.datagram()).is_empty());
    assert_eq!(world.verdict(), Verdict::Absorb(AbsorbKind::PendingRst));
}

pub fn egress(world: &World) -> (u32, u16) {
    let (egress, port, _) = world.egress("web", CLIENT);
    (egress, port)
}

pub fn syn(isn: u32) -> Tcp {
    Tcp::new(CLIENT, WEB, SYN).options(&linux_syn_options(1460, 7, 0)).numbers(isn, 0)
}

#[test]
fn a_refusal_of_the_last_syn_reaches_its_client_at_once() {
    for options in [linux_syn_options(1460, 7, 0), plain_syn_options(1460)] {
        let mut world = World::new();
        let to = egress(&world);
        for (isn, data) in [(1000, &b""[..]), (u32::MAX, b"early")] {
            let end = isn.wrapping_add(1 + data.len() as u32);
            let syn = Tcp::new(CLIENT, WEB, SYN).options(&options).numbers(isn, 0).data(data);
            world.forwarded(WAN, &syn);
            // Not what answers another segment, and not from another port than the service's.
            keep(&mut world, to, RST | ACK, 0, end.wrapping_sub(1));
            keep(&mut world, to, RST, end, 0);
            let rst = Tcp::new(WEB_TARGET, to, RST | ACK).numbers(0, end);
            let (port, seen) = world.forwarded(LAN, &rst);
            let tcp = seen.tcp();
            assert_eq!((port, endpoints(&seen, &tcp)), (WAN, (WEB, CLIENT)));
            assert_eq!((tcp.flags, tcp.seq, tcp.ack), (RST | ACK, 0, end));
            assert!(tcp.options.is_empty() && tcp.data.is_empty());
            // Once: the same again waits, and answers a SYN that is sent again.
            keep(&mut world, to, RST | ACK, 0, end);
            let sent = world.datagram(WAN, &syn.datagram());
            own_reset(&world, WAN, &sent);
            world.forwarded(WAN, &syn);
        }
    }
}

#[test]
fn a_refusal_is_for_the_last_client_of_the_endpoint_and_for_a_while() {
    let mut world = World::new();
    let to = egress(&world);
    world.forwarded(WAN, &syn(1000));
    world.forwarded(WAN, &syn(2000));
    keep(&mut world, to, RST | ACK, 0, 1001);
    world.later(LIFETIME_MS);
    let rst = Tcp::new(WEB_TARGET, to, RST | ACK).numbers(0, 2001);
    world.forwarded(LAN, &rst);
    world.forwarded(WAN, &syn(3000));
    world.later(LIFETIME_MS + 1);
    world.poll();
    keep(&mut world, to, RST | ACK, 0, 3001);
    // RSTs of the client's own are no SYNs.
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, RST | ACK).numbers(999, 0));
    keep(&mut world, to, RST | ACK, 0, 1000);
}

#[test]
fn only_the_target_of_the_syn_may_refuse_it() {
    let mut world = World::new();
    let (chosen, targets) = (world.target("many", CLIENT), world.targets::<u32>("many"));
    let (address, port, _) = world.egress("many", CLIENT);
    for target in targets.iter().map(|target| (target.ip, target.port)) {
        let syn = Tcp::new(CLIENT, MANY, SYN).stamped(1, 0).numbers(1000, 0);
        world.forwarded(WAN, &syn);
        let rst = Tcp::new(target, (address, port), RST | ACK).numbers(0, 1001);
        let sent = world.datagram(LAN, &rst.datagram());
        assert_eq!(!sent.is_empty(), target == chosen, "{target:?}");
        // And a RST that waits answers segments to its own target only.
        if target != chosen {
            let rst = Tcp::new(target, (address, port), RST).numbers(5000, 0);
            assert!(world.datagram(LAN, &rst.datagram()).is_empty());
            world.forwarded(WAN, &Tcp::new(CLIENT, MANY, ACK).stamped(1, 2).numbers(1, 5000));
        }
    }
}

#[test]
fn a_refusal_where_the_syn_was_not_seen_is_told_to_the_syn() {
    for options in [linux_syn_options(1460, 7, 0), plain_syn_options(1460)] {
        let mut world = World::new();
        let to = egress(&world);
        keep(&mut world, to, RST | ACK, 0, 1001);
        // Not to another client, not to another service.
        let other = Tcp::new((CLIENT.0 + 1, CLIENT.1), WEB, SYN).options(&options);
        world.forwarded(WAN, &other.numbers(1000, 0));
        let many = Tcp::new(CLIENT, MANY, SYN).options(&options).numbers(1000, 0);
        world.forwarded(WAN, &many);
        let syn = Tcp::new(CLIENT, WEB, SYN).options(&options).numbers(1000, 0);
        let sent = world.datagram(WAN, &syn.datagram());
        assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::PendingRst));
        let (seen, tcp) = own_reset(&world, WAN, &sent);
        assert_eq!(endpoints(&seen, &tcp), (WEB, CLIENT));
        assert_eq!((tcp.flags, tcp.seq, tcp.ack), (RST | ACK, 0, 1001));
        world.forwarded(WAN, &syn);
        // Another SYN is another connection: what was refused before is not told to it.
        keep(&mut world, to, RST, 7000, 0);
        world.forwarded(WAN, &syn.numbers(5, 0));
        world.forwarded(WAN, &Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).numbers(1, 7000));
    }
}

#[test]
fn a_vanished_socket_is_told_to_the_segment_that_hit_it() {
    for options in [timestamps(7, 8), Vec::new()] {
        let mut world = World::new();
        let to = egress(&world);
        let data = Tcp::new(CLIENT, WEB, ACK | PSH).options(&options).data(b"abc");
        keep(&mut world, to, RST, 5000, 0);
        // Another acknowledgment, and a RST of the client's own, are not answered.
        world.forwarded(WAN, &data.clone().numbers(1, 5001));
        let rst = Tcp::new(CLIENT, WEB, RST | ACK).options(&options).numbers(1, 5000);
        world.forwarded(WAN, &rst);
        // A keepalive probe comes 75 s later, with an older number.
        world.later(75_000);
        let sent = world.datagram(WAN, &data.clone().numbers(0, 5000).datagram());
        let (seen, tcp) = own_reset(&world, WAN, &sent);
        assert_eq!(endpoints(&seen, &tcp), (WEB, CLIENT));
        assert_eq!((tcp.flags, tcp.seq, tcp.ack), (RST, 5000, 0));
        world.forwarded(WAN, &data.numbers(1, 5000));
    }
}

#[test]
fn a_rst_is_told_to_clients_of_its_own_service_only() {
    let mut world = World::new();
    let target = world.target("many", CLIENT);
    let (egress, port, _) = world.egress("many", CLIENT);
    let rst = Tcp::new(target, (egress, port), RST).numbers(5000, 0);
    assert!(world.datagram(LAN, &rst.datagram()).is_empty());
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).numbers(1, 5000));
    let data = Tcp::new(CLIENT, MANY, ACK).stamped(1, 2).numbers(1, 5000);
    let (_, asked) = world.forwarded(WAN, &data);
    let sent = world.datagram(WAN, &data.datagram());
    let (seen, tcp) = own_reset(&world, WAN, &sent);
    assert_eq!(endpoints(&seen, &tcp), (MANY, CLIENT));
    assert_ne!(asked.dst, target.0, "another target was asked before");
}

#[test]
fn what_a_rst_acknowledges_is_the_end_of_data_and_marks() {
    for (flags, data, length) in [
        (SYN, &b""[..], 1),
        (SYN, b"early", 6),
        (ACK, b"abc", 3),
        (ACK | FIN, b"abc", 4),
        (ACK, b"", 0),
    ] {
        let mut world = World::new();
        let to = egress(&world);
        let segment = Tcp::new(CLIENT, WEB, flags).stamped(1, 2).data(data);
        let segment = segment.numbers(u32::MAX - 1, 9);
        let seq = if flags & ACK > 0 { 9 } else { 0 };
        let end = |length| (u32::MAX - 1).wrapping_add_signed(length);
        // Nor is a segment with ACK answered with what refused a SYN of the same end.
        let of_syn = (flags & ACK > 0).then_some((0, length));
        for (seq, wrong) in [(seq, length - 1), (seq, length + 1)].into_iter().chain(of_syn) {
            keep(&mut world, to, RST | ACK, seq, end(wrong));
            world.forwarded(WAN, &segment);
        }
        world.restart();
        keep(&mut world, to, RST | ACK, seq, end(length));
        let sent = world.datagram(WAN, &segment.datagram());
        own_reset(&world, WAN, &sent);
    }
}

#[test]
fn a_rst_waits_for_two_minutes() {
    let mut world = World::new();
    let to = egress(&world);
    let data = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).numbers(1, 5000);
    keep(&mut world, to, RST, 5000, 0);
    world.later(LIFETIME_MS);
    world.poll();
    let sent = world.datagram(WAN, &data.datagram());
    own_reset(&world, WAN, &sent);
    for polled in [false, true] {
        keep(&mut world, to, RST, 5000, 0);
        world.later(LIFETIME_MS + 1);
        if polled {
            // A part of the table at a time.
            (0..16).for_each(|_| world.poll());
            assert!(world.soft.memo.knows_nothing());
        }
        world.forwarded(WAN, &data);
        assert!(world.soft.memo.knows_nothing());
    }
}

#[test]
fn workers_share_the_memo() {
    let mut world = World::new();
    let to = egress(&world);
    keep(&mut world, to, RST, 5000, 0);
    world.forwarded(WAN, &Tcp::new((CLIENT.0, 7), WEB, SYN).numbers(1000, 0));
    let counters = Arc::new(Counters::new(world.snapshot.slots()));
    world.workers[0] = Pop::new(world.soft.clone(), counters.clone());
    let data = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).numbers(1, 5000);
    assert_eq!(world.datagram(WAN, &data.datagram()).len(), 1);
    assert_eq!(counters.replies(ReplyKind::PendingRst), 1);
    let (address, port, _) = world.egress("web", (CLIENT.0, 7));
    let rst = Tcp::new(WEB_TARGET, (address, port), RST | ACK).numbers(0, 1001);
    assert_eq!(world.datagram(LAN, &rst.datagram()).len(), 1);
}

#[test]
fn a_damaged_segment_is_not_told_of_a_rst_and_leaves_it_where_it_is() {
    let mut world = World::new();
    let to = egress(&world);
    keep(&mut world, to, RST, 5000, 0);
    let data = Tcp::new(CLIENT, WEB, ACK | PSH).options(&timestamps(7, 8)).data(b"abc");
    let data = data.numbers(1, 5000).datagram();
    let mut damaged = data.clone();
    damaged[20 + 32] ^= 1;
    // It goes on to the target, where the damage shows.
    let sent = world.datagram(WAN, &damaged);
    assert_eq!(world.verdict(), Verdict::Forward(LAN));
    let [(LAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
    let (from, to) = (validator::long(frame, 26), validator::long(frame, 30));
    assert_ne!(tcp_checksum(from, to, &frame[34..]), 0);
    world.datagram(WAN, &data);
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::PendingRst));
}

#[test]
fn damaged_rsts_are_not_believed() {
    let mut world = World::new();
    let to = egress(&world);
    world.forwarded(WAN, &syn(1000));
    for (flags, seq, ack) in [(RST, 5000, 0), (RST | ACK, 0, 1001)] {
        let mut rst = Tcp::new(WEB_TARGET, to, flags).numbers(seq, ack).datagram();
        rst[34] ^= 1;
        assert_eq!(world.dropped(LAN, &rst), DropReason::TcpChecksum);
    }
    assert!(world.soft.memo.knows_nothing());
}

#[test]
fn a_flood_of_syns_from_one_network_makes_no_other_forgotten() {
    let mut world = World::of(&config().limit("remembered_syns", 1200));
    let other = (((CLIENT.0 & 0xffff_ff00) ^ 0x100) | 9, 5000);
    world.forwarded(WAN, &Tcp::new(other, WEB, SYN).numbers(1000, 0));
    for number in 0..20_000u32 {
        let client = ((CLIENT.0 & 0xffff_ff00) | (number % 250), 2000 + (number / 250) as u16);
        world.forwarded(WAN, &Tcp::new(client, WEB, SYN).numbers(number, 0));
        if number % 100 == 0 {
            world.later(100);
        }
    }
    // 1 in a second: a tenth of the table in the 120 s that an entry lasts.
    let (syns, _) = world.soft.memo.len();
    assert!((20..=25).contains(&syns), "{syns}");
    let (address, port, _) = world.egress("web", other);
    let rst = Tcp::new(WEB_TARGET, (address, port), RST | ACK).numbers(0, 1001);
    assert_eq!(world.forwarded(LAN, &rst).1.dst, other.0);
}

#[test]
fn a_syn_that_is_not_remembered_is_still_the_last() {
    let mut world = World::of(&config().limit("remembered_syns", 1200));
    let to = egress(&world);
    for isn in 1000..1010 {
        world.forwarded(WAN, &syn(isn));
    }
    assert_eq!(world.soft.memo.len().0, 0, "all but the first are beyond the network's share");
    for isn in 1000..1010 {
        keep(&mut world, to, RST | ACK, 0, isn + 1);
    }
}
