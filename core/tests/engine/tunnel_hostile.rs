//! Hostile segments at a tunnel's VIPs: none brings an answer but a cookie, none is sent on.
//!
//! `ANYRELAY_FULL=1` runs ten million of them instead of 200,000.

use anyrelay_core::verdict::{ReplyKind, Verdict};

use crate::bad_input::Place;
use crate::traffic::Rng;
use crate::*;

const ADDRESSES: [&str; 4] =
    ["198.18.5.9:40001", "198.19.7.7:40002", "[2600:1::a]:40003", "[2600:2::b]:40004"];

/// Four agents that are connected.
fn agents(world: &mut World) -> [Agent; 4] {
    [0, 1, 2, 3].map(|i| Agent::connected(world, 1, 1 + i % 2, ADDRESSES[i as usize]))
}

/// A segment of one of the agents that is answered or sent on as it is.
fn good(rng: &mut Rng, world: &World, agents: &[Agent; 4]) -> Outer {
    let from = &agents[rng.below(4)];
    if rng.chance(1, 4) {
        return from.keepalive(world);
    }
    let body = rng.below(64);
    let body = rng.bytes(body);
    from.data(world, agents[rng.below(4)].token(), rng.below(200) as u8, &body)
}

/// Whether a number that was moved is still one of those that are taken: of another tick.
fn near(was: u32, is: u32, ticks: std::ops::RangeInclusive<i32>) -> bool {
    ticks.map(|ticks| was.wrapping_add(STRIDE.wrapping_mul(ticks as u32))).any(|near| near == is)
}

/// Changes something that must not be changed. False when the change happens to be harmless.
fn mutate(rng: &mut Rng, segment: &mut Outer) -> bool {
    let was = segment.clone();
    let keepalive = segment.data[0] >> 4 == 1;
    // In a datagram the body, its length, channel and session are the agents' own.
    let tokens = 12
        + if was.data[0] & 8 != 0 { 32 } else { 16 }
        + if was.data[0] & 4 != 0 { 32 } else { 16 };
    let bound = if keepalive { was.data.len() } else { tokens };
    match rng.below(8) {
        0 => segment.seq = rng.next() as u32,
        1 => segment.ack = rng.next() as u32,
        2 => segment.seq ^= 1 << rng.below(32),
        3 => segment.ack ^= 1 << rng.below(32),
        4 => segment.src.set_port(rng.next() as u16 | 1),
        5 => segment.flags = rng.pick(&[FIN | ACK, RST, RST | ACK, PSH, 0x3f, 0]),
        _ => {
            for _ in 0..=rng.below(3) {
                let at = rng.below(bound);
                if keepalive || !(2..12).contains(&at) {
                    // 64 steps of the offset are a stride: the number of another tick.
                    segment.data[at] ^= 1 << rng.below(if at == 1 { 6 } else { 8 });
                }
            }
            if rng.chance(1, 8) {
                segment.data.truncate(rng.below(bound).max(1));
            }
        }
    }
    let same_numbers = |acks: &[u32]| {
        let acked = acks.iter().any(|more| near(was.ack.wrapping_add(*more), segment.ack, -12..=3));
        acked && (keepalive || near(was.seq, segment.seq, -3..=3))
    };
    let acks: &[u32] = if keepalive { &[0, was.data.len() as u32] } else { &[0] };
    let touched = segment.flags != was.flags
        || segment.data != was.data
        || (segment.src != was.src && !keepalive);
    // A keepalive says nothing of where it is from, but its ack number does.
    touched || !same_numbers(acks) || (keepalive && segment.src != was.src)
}

/// Bytes that mean nothing, from anywhere, to one of the VIPs.
fn random(rng: &mut Rng) -> Outer {
    let v6 = rng.chance(1, 2);
    let src = match v6 {
        true => format!(
            "[2600:{:x}::{:x}]:{}",
            rng.below(65536),
            rng.below(65536),
            1 + rng.below(65535)
        ),
        false => format!("198.18.{}.{}:{}", rng.below(256), rng.below(256), 1 + rng.below(65535)),
    };
    let vip = if v6 { VIP6 } else { VIP4 }.parse().unwrap();
    let mut segment = Outer::new(src.parse().unwrap(), vip, rng.next() as u8);
    (segment.seq, segment.ack) = (rng.next() as u32, rng.next() as u32);
    segment.ttl = rng.next() as u8;
    let len = rng.pick(&[0, 1, 12, 44, 60, 74, 76, 102, 200]);
    segment.data = rng.bytes(len);
    if let Some(first) = segment.data.first_mut()
        && rng.chance(3, 4)
    {
        *first = rng.pick(&[0x10, 0x30, 0x31, 0x34, 0x3c, 0x3f]);
    }
    if rng.chance(1, 4) {
        segment.options = rng.bytes(12);
    }
    segment
}

/// That nothing but a cookie comes of a segment.
fn assert_harmless(world: &mut World, segment: &Outer) -> bool {
    let sent = world.datagram(WAN, &segment.datagram());
    if sent.is_empty() {
        return false;
    }
    assert_eq!(
        world.verdict(),
        Verdict::Reply(ReplyKind::SynAck),
        "{segment:02x?} {:?}",
        world.out.said
    );
    assert_eq!((sent.len(), segment.flags & (SYN | ACK)), (1, SYN), "{segment:02x?}");
    let seen = Outer::frame(&sent[0].1);
    assert_eq!((seen.src, seen.dst, seen.flags), (segment.dst, segment.src, SYN | ACK));
    assert_eq!((seen.ack, seen.data.len()), (segment.seq.wrapping_add(1), 0));
    true
}

#[test]
fn segments_without_the_keys_bring_cookies_alone() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let count: u64 = if full { 10_000_000 } else { 200_000 };
    let mut world = tunnel_world(1);
    let agents = agents(&mut world);
    let seed = 1;
    let mut rng = Rng(seed);
    let mut place = Place { seed, number: 0 };
    let (mut cookies, mut mutated) = (0u64, 0u64);
    for number in 0..count {
        place.number = number;
        let segment = if rng.chance(1, 3) {
            random(&mut rng)
        } else {
            let mut segment = good(&mut rng, &world, &agents);
            if !mutate(&mut rng, &mut segment) {
                continue;
            }
            mutated += 1;
            segment
        };
        cookies += u64::from(assert_harmless(&mut world, &segment));
        world.later(1);
    }
    assert!(mutated > count / 2 && cookies > count / 100, "{mutated} {cookies}");
    let counters = &world.counters;
    assert_eq!(counters.replies(ReplyKind::SynAck), cookies + 4);
    assert_eq!(counters.replies(ReplyKind::Keepalive), 4);
    for (name, slot) in world.snapshot.names() {
        assert_eq!(counters.service(slot).down.packets.get(), 0, "{name}");
    }
}

/// What is mutated above would bring something if it were not.
#[test]
fn segments_with_the_keys_are_served() {
    let mut world = tunnel_world(1);
    let agents = agents(&mut world);
    let mut rng = Rng(2);
    for _ in 0..2000 {
        let segment = good(&mut rng, &world, &agents);
        assert_eq!(world.datagram(WAN, &segment.datagram()).len(), 1, "{segment:02x?}");
        world.later(100);
    }
}

#[test]
fn cut_off_at_every_byte_nothing_comes_of_it() {
    let mut world = tunnel_world(1);
    let agents = agents(&mut world);
    for from in &agents {
        for to in &agents {
            for segment in [from.data(&world, to.token(), 3, b"body"), from.keepalive(&world)] {
                // With lengths and checksums that say so. A body may be any length.
                let whole = if segment.data[0] >> 4 == 1 { 0 } else { 4 };
                for len in 0..segment.data.len() - whole {
                    let cut = segment.edit(|segment| segment.data.truncate(len));
                    assert!(!assert_harmless(&mut world, &cut));
                }
                let frame = world.framed(WAN, &segment.datagram());
                for len in 0..frame.len() {
                    assert!(world.bytes(WAN, &frame[..len]).is_empty(), "{len}");
                }
            }
        }
    }
}
