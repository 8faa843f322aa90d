//! Random and mutated frames for services with IPv6: what comes out keeps all rules, and is the
//! same from POPs with different histories.

use anyrelay_core::frame::HeapFrame;
use anyrelay_core::net::PortIndex;

use crate::bad_input::{self, Place};

use crate::validator6::{check6, is_of_others};
use crate::*;

/// Makes frames, and sees segments through, so that errors can quote what comes out.
struct Traffic6 {
    rng: Rng,
    oracle: World,
    /// Whether targets of a pool send segments without timestamps: what becomes of these depends on
    /// what a POP remembers, and on limits.
    is_bare: bool,
}

impl Traffic6 {
    fn new(seed: u64, is_bare: bool) -> Traffic6 {
        Traffic6 { rng: Rng(seed), oracle: pool6_world(), is_bare }
    }

    fn client4(&mut self) -> (u32, u16) {
        let odd = [ip("127.0.0.1"), WEB6.0, ip("10.0.0.1"), ip("192.0.2.2"), CLIENT.0];
        let some = CLIENT.0 + self.rng.index(50) as u32;
        let ip = if self.rng.chance(1, 20) { self.rng.pick(&odd) } else { some };
        (ip, self.rng.pick(&[0, 1, 1023, 40_001, 40_001, 40_002, 65_535]))
    }

    fn client6(&mut self) -> End6 {
        let odd = [RAW6.0, RAW6_TARGETS[0].0, WAN_IP6, ip6("fd00::1"), ip6("::1"), PREFIX6 | 7];
        let some = CLIENT6.0 + self.rng.index(50) as u128;
        let ip = if self.rng.chance(1, 20) { self.rng.pick(&odd) } else { some };
        (ip, self.rng.pick(&[0, 1, 40_001, 40_001, 40_002, 65_535]))
    }

    /// A segment from nowhere to nowhere yet.
    fn segment(&mut self) -> Tcp {
        let flags = [ACK, ACK | PSH, SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, SYN | 0xc0, 0];
        let flags = self.rng.pick(&flags);
        let options: Vec<u8> = match self.rng.index(6) {
            0 => linux_syn_options(self.rng.pick(&[536, 1440, 1441, 1460, 9000]), 1, 2),
            1 => timestamps(self.rng.next() as u32, 9),
            2 => vec![34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 30, 4, 0, 0, 1, 1],
            3 => vec![1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4],
            _ => Vec::new(),
        };
        let most = self.rng.pick(&[1, 9, 1300, 1461]);
        let len = self.rng.index(most);
        let data = self.rng.vec(len);
        let (seq, ack) = (self.rng.next() as u32, self.rng.next() as u32);
        plain(flags).options(&options).data(&data).numbers(seq, ack)
    }

    fn hops(&mut self) -> u8 {
        self.rng.pick(&[0, 1, 2, 57, 57, 57, 57, 57, 64, 255])
    }

    /// Puts a segment into its datagram over IPv6.
    fn framed6(&mut self, from: End6, to: End6, segment: &Tcp) -> Vec<u8> {
        let ip = Ipv6Header { hop_limit: self.hops(), ..Ipv6Header::new(from.0, to.0) };
        let bytes = segment6(from, to, segment);
        match self.rng.index(8) {
            0 => ip.after(60, &[&[6, 0, 1, 4, 0, 0, 0, 0], &bytes[..]].concat()),
            1 => ip.after(0, &[&[6, 0, 5, 2, 0, 0, 1, 0], &bytes[..]].concat()),
            _ => ip.with(&bytes),
        }
    }

    /// A segment, its way and the port that it comes in through.
    fn relayed(&mut self) -> (PortIndex, Vec<u8>) {
        let segment = self.segment();
        let service = self.rng.pick(&["web6", "many6"]);
        let (client, client6) = (self.client4(), self.client6());
        match self.rng.index(6) {
            0 => {
                let to = self.rng.pick(&[WEB6, WEB6, MANY6, (WEB6.0, 7)]);
                let (ttl, fragment) = (self.hops(), self.rng.pick(&[0x4000, 0x4000, 0]));
                let up = segment.edit(|s| {
                    (s.ip, s.sport, s.dport) = (Ipv4Header::new(client.0, to.0), client.1, to.1);
                    (s.ip.ttl, s.ip.fragment) = (ttl, fragment);
                });
                (WAN, up.datagram())
            }
            1 => {
                let target = self.oracle.target4(service, client);
                let target = if self.rng.chance(1, 20) { RAW6_TARGETS[0] } else { target };
                let egress = self.oracle.egress6(service, client);
                (LAN, self.framed6(target, egress, &segment))
            }
            2 => (WAN, self.framed6(client6, RAW6, &segment)),
            3 => {
                let vip = self.rng.pick(&[DEEP, DEEP, DEEPS, (DEEP.0, 7)]);
                (WAN, self.framed6(client6, vip, &segment))
            }
            4 => self.pooled(&segment),
            _ => {
                let target = self.rng.pick(&RAW6_TARGETS);
                (LAN, self.framed6(target, client6, &segment))
            }
        }
    }

    /// A segment of a target in pool mode, nearly always with the tag of a client.
    fn pooled(&mut self, segment: &Tcp) -> (PortIndex, Vec<u8>) {
        let service = self.rng.pick(&["deep", "deeps"]);
        let client = (CLIENT6.0 + self.rng.index(50) as u128, self.rng.pick(&[1, 40_001, 40_002]));
        let (egress, tsval) = self.oracle.pooled6(service, client);
        let echo = match self.rng.index(20) {
            0 => self.rng.next() as u32,
            1..=4 => tsval - 1,
            _ => tsval,
        };
        let bare = segment.clone().options(&plain_syn_options(1440));
        let stamped = match self.rng.index(8) {
            0 if self.is_bare => segment.clone(),
            1 => segment.clone().options(&[timestamps(9, echo), bare.options].concat()),
            2 => segment.clone().options(&linux_syn_options(1460, 9, echo)),
            _ => segment.clone().stamped(9, echo),
        };
        let target = self.oracle.target6(service, client);
        let target = if self.rng.chance(1, 20) { DEEP_TARGET } else { target };
        (LAN, self.framed6(target, egress, &stamped))
    }

    /// A frame for the POP: a segment, or an error that quotes what became of one.
    fn datagram(&mut self) -> (PortIndex, Vec<u8>) {
        let (port, datagram) = self.relayed();
        if self.rng.chance(1, 2) {
            return (port, datagram);
        }
        let sent = self.oracle.datagram(port, &datagram);
        self.oracle.later(10);
        let (port, became) = match &sent[..] {
            [(out, frame)] if *out != port => (*out, frame[14..].to_vec()),
            _ => return (port, datagram),
        };
        let len = self.rng.pick(&[20, 27, 28, 47, 48, 60, 100, 548, 1500]).min(became.len());
        let quote = &became[..len];
        let mtu = self.rng.pick(&[0_u16, 68, 552, 1279, 1280, 1400, 1480, 9000]);
        let datagram = if became[0] >> 4 == 6 {
            let (kind, code) =
                self.rng.pick(&[(1, 0), (1, 4), (2, 0), (2, 0), (3, 0), (4, 1), (4, 2)]);
            let word = if kind == 2 { u32::from(mtu) } else { 0 };
            let head = [&[kind, code, 0, 0][..], &word.to_be_bytes()].concat();
            let sender = validator6::address(&became, 8);
            let ip = Ipv6Header { hop_limit: self.hops(), ..Ipv6Header::icmp(FAR6, sender) };
            ip.with(&[&head, quote].concat())
        } else {
            let kinds = [(3, 1), (3, 3), (3, 4), (3, 4), (3, 14), (11, 0), (12, 0), (12, 1)];
            let (kind, code) = self.rng.pick(&kinds);
            let mtu = if (kind, code) == (3, 4) { mtu } else { 0 };
            let [high, low] = mtu.to_be_bytes();
            let message = icmp(kind, code, [0, 0, high, low], quote);
            let sender = validator::long(&became, 12);
            Ipv4Header { protocol: 1, ttl: self.hops(), ..Ipv4Header::new(FAR4, sender) }
                .with(&message)
        };
        (port, datagram)
    }
}

/// A few bytes of a good frame become others; often the lengths and checksums are made right again.
fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame[12..14] != [0x86, 0xdd] {
        return bad_input::mutate(rng, frame);
    }
    for _ in 0..rng.index(4) {
        let at = 14 + rng.index(110);
        match (rng.index(8), frame.get_mut(at)) {
            (0..=4, Some(byte)) => *byte ^= 1 << rng.index(8),
            (5, Some(byte)) => *byte = rng.pick(&[0, 1, 2, 6, 43, 44, 58, 60, 0xff]),
            (6, Some(_)) => frame.truncate(at),
            _ => frame.extend([0xee; 7]),
        }
    }
    if frame.len() > 54 && rng.chance(3, 4) {
        let payload_len = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
    }
    if frame.len() > 60 && frame[20] == 58 {
        repair_at(&mut frame[14..], ICMPV6, 40);
    }
}

/// A router on the way.
const FAR4: u32 = 0x0a09_0909;

#[test]
fn whatever_comes_in_what_goes_out_keeps_the_rules() {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let one = std::env::var("ANYRELAY_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = one.map_or(1..if full { 200 } else { 7 }, |seed| seed..seed + 1);
    for seed in seeds {
        let mut traffic = Traffic6::new(seed, true);
        let mut world = pool6_world();
        let mut place = Place { seed, number: 0 };
        let (mut sent_on, mut of_mutated) = (0, 0);
        for number in 0..10_000 {
            place.number = number;
            let (mut port, datagram) = traffic.datagram();
            if traffic.rng.chance(1, 30) {
                port = traffic.rng.pick(&[WAN, LAN]);
            }
            let mut frame = world.framed(port, &datagram);
            let mutated = traffic.rng.chance(1, 2);
            if mutated {
                mutate(&mut traffic.rng, &mut frame);
            }
            let mut sent = world.bytes(port, &frame);
            world.later(1);
            // Questions for hosts on the links, to groups.
            sent.retain(|(_, frame)| frame[0] & 1 == 0);
            if sent.is_empty() || is_of_others(&frame) || frame[12..14] == [8, 6] {
                continue;
            }
            if let Err(rule) = check6(&world, port, &frame, &sent) {
                panic!("{rule}:\n{port:?} {frame:02x?}\n{sent:02x?}\n{:?}", world.out.said);
            }
            let on = u32::from(sent[0].0 != port);
            (sent_on, of_mutated) = (sent_on + on, of_mutated + on * u32::from(mutated));
        }
        assert!(sent_on > 1500 && of_mutated > 500, "seed {seed}: {sent_on}, {of_mutated}");
    }
}

#[test]
fn pops_with_different_histories_give_the_same_output() {
    let one = std::env::var("ANYRELAY_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    for seed in one.map_or(1..9, |seed| seed..seed + 1) {
        let mut traffic = Traffic6::new(seed, false);
        let mut plain = pool6_world();
        // Another POP, with another past.
        let mut other = World::of(&pool6_config().set("id", 2).set("name", "b"));
        other.later(77_000);
        for _ in 0..200 {
            let (port, datagram) = traffic.datagram();
            other.datagram(port, &datagram);
        }
        let mut sent = 0;
        for run in 0..60 {
            let port = traffic.rng.pick(&[WAN, LAN]);
            let count = 1 + traffic.rng.index(64);
            let of_port =
                std::iter::repeat_with(|| traffic.datagram()).filter(|(at, _)| *at == port);
            let frames: Vec<_> =
                of_port.take(count).map(|(_, datagram)| plain.framed(port, &datagram)).collect();
            let one_by_one: Sent =
                frames.iter().flat_map(|frame| plain.bytes(port, frame)).collect();
            let in_a_burst = match run % 2 {
                0 => {
                    other.burst(port, frames.iter().map(|frame| Used::from_bytes(frame)).collect())
                }
                _ => other.burst(port, frames.iter().map(|frame| HeapFrame::new(frame)).collect()),
            };
            assert_eq!(one_by_one.len(), in_a_burst.len(), "seed {seed}, run {run}");
            for (place, (left, right)) in one_by_one.iter().zip(&in_a_burst).enumerate() {
                assert_eq!(left, right, "seed {seed}, run {run}, output {place}");
            }
            sent += one_by_one.len();
            plain.later(5);
            other.later(5);
        }
        assert!(sent > 400, "seed {seed}: {sent}");
    }
}
