//! Hostile segments at a tunnel's VIPs: none brings an answer but a cookie, none is sent on.
//! Whatever does come out of damaged frames keeps the rules of [`check`], which uses no parser of
//! the core's.
//!
//! `ANYRELAY_FULL=1` runs ten million of them instead of 200,000.

use anyrelay_core::verdict::{ReplyKind, Verdict};

use crate::bad_input::{self, Place};
use crate::validator_echo::check_fragment;

use crate::*;

/// Four agents that are connected.
pub fn agents(world: &mut World) -> [Agent; 4] {
    [0, 1, 2, 3].map(|i| Agent::connected(world, 1, 1 + i % 2, [A4, B4, A6, B6][i as usize]))
}

/// A segment of one of the agents that is answered or sent on as it is.
pub fn good(rng: &mut Rng, world: &World, agents: &[Agent; 4]) -> Segment {
    let from = &agents[rng.index(4)];
    if rng.chance(1, 4) {
        return from.keepalive(world);
    }
    let body = rng.index(64);
    let body = rng.vec(body);
    from.data(world, agents[rng.index(4)].token(), rng.index(200) as u8, &body)
}

/// Whether a number that was moved is still one of those that are taken: of another tick.
fn near(was: u32, is: u32, ticks: std::ops::RangeInclusive<i32>) -> bool {
    ticks.map(|ticks| was.wrapping_add(STRIDE.wrapping_mul(ticks as u32))).any(|near| near == is)
}

/// Changes something that must not be changed. False when the change happens to be harmless.
pub fn mutate(rng: &mut Rng, segment: &mut Segment) -> bool {
    let was = segment.clone();
    let keepalive = segment.data[0] >> 4 == 1;
    // In a datagram the body, its length, channel and session are the agents' own.
    let tokens = 12
        + if was.data[0] & 8 != 0 { 32 } else { 16 }
        + if was.data[0] & 4 != 0 { 32 } else { 16 };
    let bound = if keepalive { was.data.len() } else { tokens };
    match rng.index(8) {
        0 => segment.seq = rng.next() as u32,
        1 => segment.ack = rng.next() as u32,
        2 => segment.seq ^= 1 << rng.index(32),
        3 => segment.ack ^= 1 << rng.index(32),
        4 => segment.src.set_port(rng.next() as u16 | 1),
        5 => segment.flags = rng.pick(&[FIN | ACK, RST, RST | ACK, PSH, 0x3f, 0]),
        _ => {
            for _ in 0..=rng.index(3) {
                let at = rng.index(bound);
                if keepalive || !(2..12).contains(&at) {
                    // 64 steps of the offset are a stride: the number of another tick.
                    segment.data[at] ^= 1 << rng.index(if at == 1 { 6 } else { 8 });
                }
            }
            if rng.chance(1, 8) {
                segment.data.truncate(rng.index(bound).max(1));
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
pub fn random(rng: &mut Rng) -> Segment {
    let v6 = rng.chance(1, 2);
    let src = match v6 {
        true => format!(
            "[2600:{:x}::{:x}]:{}",
            rng.index(65536),
            rng.index(65536),
            1 + rng.index(65535)
        ),
        false => format!("198.18.{}.{}:{}", rng.index(256), rng.index(256), 1 + rng.index(65535)),
    };
    let vip = if v6 { VIP6 } else { VIP4 }.parse().unwrap();
    let mut segment = Segment::new(src.parse().unwrap(), vip, rng.next() as u8);
    (segment.seq, segment.ack) = (rng.next() as u32, rng.next() as u32);
    segment.ttl = rng.next() as u8;
    let len = rng.pick(&[0, 1, 12, 44, 60, 90, 92, 118, 200]);
    segment.data = rng.vec(len);
    if let Some(first) = segment.data.first_mut()
        && rng.chance(3, 4)
    {
        *first = rng.pick(&[0x10, 0x30, 0x31, 0x34, 0x3c, 0x3f]);
    }
    if rng.chance(1, 4) {
        segment.options = rng.vec(12);
    }
    segment
}

/// That nothing but a cookie comes of a segment.
fn assert_harmless(world: &mut World, segment: &Segment) -> bool {
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
    let seen = outer(&sent[0].1);
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
    assert_eq!(counters.replies(ReplyKind::Keepalive), 8);
    for service in world.snapshot.services() {
        let down = &counters.service(service.slot()).down;
        assert_eq!(down.packets.get(), 0, "{}", service.name());
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

/// Rules for what a POP sends because of `input`, a frame to a tunnel's VIP that may be damaged.
fn check(input: &[u8], sent: &Sent, agents: &[Agent; 4]) -> Result<(), &'static str> {
    let require = |holds: bool, rule| if holds { Ok(()) } else { Err(rule) };
    if let Some(checked) = check_fragment(WAN, input, sent) {
        return checked;
    }
    let [(port, frame), ..] = &sent[..] else { return Ok(()) };
    let datagram = &input[14..];
    let v6 = input[12..14] == [0x86, 0xdd];
    if !v6
        && ![[203, 0, 113, 20], [203, 0, 113, 21]].contains(&datagram[16..20].try_into().unwrap())
    {
        // It went astray, to a relay: `validator` has the rules for that.
        return Ok(());
    }
    let (ttl, tos) = match v6 {
        true => (datagram[7], datagram[0] << 4 | datagram[1] >> 4),
        false => (datagram[8], datagram[1]),
    };
    require(sent.len() == 1, "more than one frame for one")?;
    require(*port == WAN, "out of another port")?;
    let (protocol, unreachable, at) =
        if v6 { (datagram[6], [1, 4], 54) } else { (datagram[9], [3, 3], 34) };
    if protocol == 17 {
        return require(frame[at..at + 2] == unreachable, "UDP, and its port is not unreachable");
    }
    if frame[12..14] == [8, 0] && frame[14 + 9] == 1 {
        return require(ttl <= 1 && frame[34] == 11, "an ICMP message, and it is not for the TTL");
    }
    let out_v6 = frame[12..14] == [0x86, 0xdd];
    if out_v6 && frame[14 + 6] == 58 {
        return require(ttl <= 1 && frame[54] == 3, "an ICMP message, and it is not for the hops");
    }
    if out_v6 && frame[54 + 13] & RST != 0 {
        return require(frame.len() == 14 + 60, "a RST that is not bare");
    }
    if frame[12..14] == [8, 0] && frame[14 + 9] == 6 && frame[34 + 13] & RST != 0 {
        // To a VIP's port that no service has.
        return require(frame.len() == 60, "a RST that is not bare");
    }
    // Panics where lengths, checksums, or fields that are always the same are wrong.
    let seen = outer(frame);
    let vips = [VIP4, VIP6, "203.0.113.21:443"].map(|vip| vip.parse().unwrap());
    require(vips.contains(&seen.src), "not from a VIP")?;
    require(seen.window == 65535, "another window")?;
    if seen.flags == SYN | ACK {
        let bare = seen.data.is_empty() && (seen.ttl, seen.tos) == (64, 0);
        return require(bare, "a SYN-ACK with data");
    }
    require(seen.flags == PSH | ACK && seen.options.is_empty(), "flags or options")?;
    let asked = input.windows(seen.data.len()).any(|data| data[0] == 0x10 && data[1] == 2);
    match seen.data[0] {
        0x20 | 0x21 => {
            require(asked && (seen.ttl, seen.tos) == (64, 0), "a reply longer than what was asked")
        }
        first if first & 0xfa == 0x40 => {
            require(agents.iter().any(|agent| agent.addr == seen.dst), "to nobody")?;
            require(seen.ttl == ttl.wrapping_sub(1) && seen.tos == tos, "TTL, DSCP or ECN")?;
            let len = match v6 {
                true => 40 + usize::from(datagram[4]) * 256 + usize::from(datagram[5]),
                false => usize::from(datagram[2]) * 256 + usize::from(datagram[3]),
            };
            let whole = &datagram[..len];
            require(whole.ends_with(&seen.data[12..]), "a body or token that was not sent")?;
            require(seen.data.len() + 16 <= whole.len() - 40, "longer than it came")
        }
        _ => Err("another message"),
    }
}

#[test]
fn whatever_comes_out_keeps_the_rules() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let count: u64 = if full { 5_000_000 } else { 100_000 };
    let mut world = tunnel_world(1);
    let agents = agents(&mut world);
    let (seed, mut sent) = (3, 0);
    let mut rng = Rng(seed);
    let mut place = Place { seed, number: 0 };
    for number in 0..count {
        place.number = number;
        let segment = if rng.chance(1, 8) {
            agents[rng.index(4)].syn(&world)
        } else {
            good(&mut rng, &world, &agents)
        };
        let segment = segment.edit(|segment| segment.ttl = rng.pick(&[0, 1, 2, 64, 255]));
        let whole = world.framed(WAN, &segment.datagram());
        let mut frame = whole.clone();
        bad_input::mutate(&mut rng, &mut frame);
        // An answer goes to the source MAC of the frame, which is not checked here.
        frame.splice(..frame.len().min(14), whole[..14].iter().copied());
        let out = world.bytes(WAN, &frame);
        sent += out.len() as u64;
        if let Err(rule) = check(&frame, &out, &agents) {
            panic!("rule: {rule}\nin  {frame:02x?}\nout {out:02x?}\n{:?}", world.out.said);
        }
        world.later(1);
    }
    assert!((count / 5..count * 4 / 5).contains(&sent), "{sent} of {count}");
}

/// Rules that let a wrong frame through would prove nothing.
#[test]
fn the_rules_see_a_flipped_bit() {
    let mut world = tunnel_world(1);
    let agents = agents(&mut world);
    let data = agents[0].data(&world, agents[1].token(), 3, b"body");
    for segment in [data, agents[0].keepalive(&world), agents[2].syn(&world)] {
        let frame = world.framed(WAN, &segment.datagram());
        let sent = world.bytes(WAN, &frame);
        assert_eq!(check(&frame, &sent, &agents), Ok(()));
        for bit in 14 * 8..(14 + 40) * 8 {
            let mut wrong = sent.clone();
            wrong[0].1[bit / 8] ^= 1 << (bit % 8);
            let caught = std::panic::catch_unwind(|| check(&frame, &wrong, &agents).is_err());
            assert!(caught.unwrap_or(true), "bit {bit} of {:02x?}", sent[0].1);
        }
    }
}
