//! Bad input: never a panic, never a wrong packet. Whatever is sent must keep the rules of
//! [`crate::validator`].
//!
//! `ANYRELAY_FULL=1` runs ten million random and mutated frames instead of 200,000.

use std::sync::Arc;

use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::SoftState;
use anyrelay_core::relay::memo::LIFETIME_MS;
use anyrelay_core::verdict::DropReason;

use crate::traffic::Traffic;
use crate::validator;
use crate::*;

/// Hands over a frame and checks what comes of it.
fn checked(world: &mut World, port: PortIndex, frame: &[u8]) -> usize {
    let sent = world.bytes(port, frame);
    if let Err(rule) = validator::check(port, frame, &sent) {
        panic!("rule: {rule}\nin  {port:?} {frame:02x?}\nout {sent:02x?}\n{:?}", world.out.said);
    }
    sent.len()
}

/// One frame of each kind that gives an output.
fn samples(world: &World) -> Vec<(PortIndex, Vec<u8>)> {
    let (egress, port, tag) = world.egress("web", CLIENT);
    let target = world.target("raw", CLIENT);
    let up = Tcp::new(CLIENT, WEB, ACK).stamped(1, 2).data(b"data!");
    let down = Tcp::new(WEB_TARGET, (egress, port), ACK).stamped(1, tag).data(b"data!");
    let quote = |segment: &Tcp, side| {
        let seen = World::new().forwarded(side, segment).1;
        let (reporter, to) = (0x0909_0909, seen.src);
        frag_needed(reporter, to, 1400, &seen.datagram, 548)
    };
    let echo = icmp(8, 0, [0; 4], b"payload");
    let frame = |side, datagram: Vec<u8>| (side, world.framed(side, &datagram));
    let request = arp(1, (WAN_GATEWAY, ip("192.0.2.1")), ([0; 6], ip("192.0.2.2")));
    vec![
        frame(WAN, up.datagram()),
        frame(WAN, up.clone().options(&[]).datagram()),
        frame(WAN, Tcp::new(CLIENT, WEB, SYN).options(&linux_syn_options(1460, 1, 0)).datagram()),
        frame(WAN, Tcp::new(CLIENT, WEB, SYN).options(&plain_syn_options(1460)).datagram()),
        frame(WAN, Tcp::new(CLIENT, WEB, RST).datagram()),
        frame(WAN, Tcp::new(CLIENT, RAW, ACK).datagram()),
        frame(WAN, Tcp::new(CLIENT, (WEB.0, 9), SYN).datagram()),
        frame(WAN, up.clone().edit(|segment| segment.ip.options = vec![1; 12]).datagram()),
        frame(WAN, up.clone().edit(|segment| segment.ip.ttl = 1).datagram()),
        frame(WAN, Ipv4Header { protocol: 1, ..Ipv4Header::new(CLIENT.0, WEB.0) }.with(&echo)),
        frame(WAN, quote(&down, LAN)),
        frame(LAN, quote(&up, WAN)),
        frame(LAN, quote(&up.clone().options(&[]), WAN)),
        frame(LAN, down.datagram()),
        frame(LAN, Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).stamped(1, tag - 1).datagram()),
        frame(LAN, Tcp::new(target, CLIENT, ACK).datagram()),
        frame(LAN, Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).datagram()),
        (WAN, ethernet([0xff; 6], WAN_GATEWAY, None, 0x0806, &request)),
    ]
}

#[test]
fn the_samples_are_good() {
    let mut world = World::new();
    for (port, frame) in samples(&world) {
        assert!(checked(&mut world, port, &frame) > 0, "{:?} {frame:02x?}", world.out.said);
    }
}

#[test]
fn truncated_at_every_byte() {
    let mut world = World::new();
    for (port, frame) in samples(&world) {
        for len in 0..frame.len() {
            let sent = checked(&mut world, port, &frame[..len]);
            assert_eq!(sent, 0, "a truncated frame is answered");
            assert!(matches!(
                world.reason(),
                DropReason::Runt | DropReason::Ipv4Malformed | DropReason::ArpMalformed
            ));
            // Cut off, with lengths and checksums that say so: a datagram of its own right.
            if len >= 34 && frame[12] == 8 && frame[13] == 0 {
                let mut frame = frame[..len].to_vec();
                frame[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
                repair_header(&mut frame[14..]);
                checked(&mut world, port, &frame);
                repair_payload(&mut frame[14..]);
                checked(&mut world, port, &frame);
            }
        }
    }
}

#[test]
fn lengths_that_lie() {
    let mut world = World::new();
    for (port, frame) in samples(&world).into_iter().filter(|(_, frame)| frame[13] == 0) {
        let total_len = validator::word(&frame, 16);
        for ihl in 0..16u8 {
            for version in [4, 0, 5, 6, 15] {
                let mut lying = frame.clone();
                lying[14] = version << 4 | ihl;
                repair_header(&mut lying[14..]);
                let sent = checked(&mut world, port, &lying);
                assert!(sent == 0 || (version == 4 && ihl >= 5));
                repair_payload(&mut lying[14..]);
                checked(&mut world, port, &lying);
            }
        }
        for claimed in (0..=total_len + 64).chain([0x4000, 0x8000, 0xffff]) {
            let mut lying = frame.clone();
            lying[16..18].copy_from_slice(&claimed.to_be_bytes());
            repair_header(&mut lying[14..]);
            let sent = checked(&mut world, port, &lying);
            assert!(sent == 0 || claimed <= total_len, "{claimed} of {total_len}");
            repair_payload(&mut lying[14..]);
            checked(&mut world, port, &lying);
        }
        // Offset, flags, every option length; in the quotes of errors too.
        for at in 34..frame.len().min(34 + 100) {
            for value in (0..=16).map(|high| (high << 4) as u8).chain(0..=48).chain([0xff]) {
                let mut lying = frame.clone();
                lying[at] = value;
                checked(&mut world, port, &lying);
                repair_payload(&mut lying[14..]);
                checked(&mut world, port, &lying);
            }
        }
    }
}

#[test]
fn padding_of_any_length_says_nothing() {
    let mut world = World::new();
    for (port, frame) in samples(&world) {
        let want = world.bytes(port, &frame);
        for padding in [1, 2, 7, 46, 1000] {
            let mut padded = frame.clone();
            padded.extend(vec![0xee; padding]);
            assert_eq!(world.bytes(port, &padded), want);
        }
    }
}

/// Tells which frame it was when a test panics.
pub struct Place {
    pub seed: u64,
    pub number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, frame {}", self.seed, self.number);
        }
    }
}

/// A few bytes of a good frame become others; often the checksums are made right again.
pub fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..rng.index(4) {
        // Headers rather than data, and rather not the Ethernet header.
        let from = if rng.chance(1, 20) { 0 } else { 14 };
        let most = if rng.chance(3, 4) { 80 } else { 1600 };
        let at = from + rng.index(most);
        match (rng.index(6), frame.get_mut(at)) {
            (0..=1, Some(byte)) => *byte ^= 1 << rng.index(8),
            (2, Some(byte)) => *byte = rng.next() as u8,
            (3, Some(byte)) => {
                *byte = rng.pick(&[0, 1, 2, 4, 5, 8, 10, 34, 0x45, 0x50, 0xf0, 0xff])
            }
            (4, Some(_)) => frame.truncate(at),
            (5, _) => {
                let more = rng.index(40);
                let more = rng.vec(more);
                frame.extend(more);
            }
            _ => {}
        }
    }
    if frame.len() < 34 {
        return;
    }
    if rng.chance(1, 4) {
        let total_len = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total_len.to_be_bytes());
    }
    if rng.chance(3, 4) {
        repair_header(&mut frame[14..]);
    }
    if rng.chance(1, 2) {
        repair_payload(&mut frame[14..]);
    }
}

/// Random bytes under good addresses.
pub fn random(rng: &mut Rng, world: &World, port: PortIndex) -> Vec<u8> {
    let len = rng.index(120);
    let payload = rng.vec(len);
    let mut frame = world.framed(port, &payload);
    if rng.chance(1, 2) && frame.len() >= 34 {
        frame[14] = 0x45 + rng.index(3) as u8;
        let total_len = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total_len.to_be_bytes());
        frame[20..22].fill(0);
        frame[23] = rng.pick(&[1, 6]);
        frame[30..34].copy_from_slice(&rng.pick(&[WEB.0, RAW.0, 0x6440_0807]).to_be_bytes());
        repair_header(&mut frame[14..]);
        if rng.chance(1, 2) {
            repair_payload(&mut frame[14..]);
        }
    }
    frame
}

/// Hands over `count` frames to a worker that has `soft` in common with others; returns how many
/// frames were sent because of them.
fn storm(seed: u64, count: u64, soft: &Arc<SoftState>) -> usize {
    let mut traffic = Traffic::new(seed);
    let mut rng = Rng(!seed);
    let mut world = World::new();
    world.soft = soft.clone();
    world.restart_worker(0);
    let mut place = Place { seed, number: 0 };
    let mut sent = 0;
    for number in 0..count {
        place.number = number;
        let port = rng.pick(&[WAN, LAN]);
        let frame = if rng.chance(1, 8) {
            random(&mut rng, &world, port)
        } else {
            let datagram = traffic.datagram(port);
            let mut frame = world.framed(port, &datagram);
            mutate(&mut rng, &mut frame);
            frame
        };
        sent += checked(&mut world, port, &frame);
        world.later(1);
        if number % 1000 == 0 {
            world.poll();
        }
    }
    sent
}

#[test]
fn random_and_mutated_frames() {
    // Two workers of one POP.
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let each: u64 = if full { 5_000_000 } else { 100_000 };
    let world = World::new();
    let soft = &world.soft;
    let sent: Vec<usize> = std::thread::scope(|scope| {
        let storms: Vec<_> = [1, 2].map(|seed| scope.spawn(move || storm(seed, each, soft))).into();
        storms.into_iter().map(|storm| storm.join().unwrap()).collect()
    });
    for sent in sent {
        let share = sent as f64 / each as f64;
        assert!((0.2..0.8).contains(&share), "too few or too many were sent on: {share}");
    }
    // Nothing is left over, and the count of RSTs that wait did not lose any.
    assert!(!soft.memo.knows_nothing());
    let over = world.now.instant.plus_millis(2 * each + LIFETIME_MS);
    // Each call sweeps a part of a large table.
    (0..64).for_each(|_| soft.memo.expire(over));
    assert_eq!(soft.memo.len(), (0, 0));
}

/// Rules that let a wrong packet through would prove nothing.
#[test]
fn the_rules_see_any_flipped_bit() {
    let mut world = World::new();
    for (port, frame) in samples(&world) {
        let sent = world.bytes(port, &frame);
        assert_eq!(validator::check(port, &frame, &sent), Ok(()));
        for (at, (_, good)) in sent.iter().enumerate() {
            for bit in 0..good.len() * 8 {
                let mut wrong = sent.clone();
                wrong[at].1[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    validator::check(port, &frame, &wrong).is_err(),
                    "bit {bit} of {good:02x?}"
                );
            }
        }
    }
}
