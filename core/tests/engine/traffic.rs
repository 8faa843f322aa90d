//! Random traffic from a seed: both directions and cases, ICMP, several services, and enough of
//! what must be dropped. Frames come in runs, as from one port after the other.

use std::collections::HashSet;

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{ReplyKind, Verdict};

use crate::*;

/// Datagrams that come in through a port, one after the other.
#[derive(Clone, Debug)]
pub struct Run {
    pub port: PortIndex,
    pub datagrams: Vec<Vec<u8>>,
}

/// Makes traffic for the config [`config`].
pub struct Traffic {
    pub rng: Rng,
    /// Sees segments through, so that errors can quote what comes out.
    oracle: World,
    /// Segments of clients that are to be answered with a RST that was sent to them.
    answering: Vec<Tcp>,
}

const SERVICES: [&str; 3] = ["web", "many", "raw"];

impl Traffic {
    pub fn new(seed: u64) -> Traffic {
        Traffic { rng: Rng(seed), oracle: World::new(), answering: Vec::new() }
    }

    /// As many frames as fit a few bursts.
    pub fn run(&mut self) -> Run {
        let port = if self.rng.chance(1, 2) { WAN } else { LAN };
        let most = if self.rng.chance(1, 3) { 150 } else { 12 };
        let count = 1 + self.rng.index(most);
        let mut datagrams: Vec<_> = (0..count).map(|_| self.datagram(port)).collect();
        if port == WAN {
            datagrams.extend(self.answering.drain(..).map(|segment| segment.datagram()));
        }
        Run { port, datagrams }
    }

    pub fn datagram(&mut self, port: PortIndex) -> Vec<u8> {
        let kind = self.rng.index(20);
        if port == WAN { self.on_wan(kind) } else { self.on_lan(kind) }
    }

    fn on_wan(&mut self, kind: usize) -> Vec<u8> {
        match kind {
            0..=14 => {
                let segment = self.segment_up();
                self.strain(segment).datagram()
            }
            15..=16 => self.error_from_clients(),
            17 => {
                let to = self.rng.pick(&[WEB.0, RAW.0, 0xc000_0202]);
                let payload = self.payload();
                Ipv4Header { protocol: 1, ..Ipv4Header::new(CLIENT.0, to) }.with(&icmp(
                    8,
                    0,
                    [1, 2, 3, 4],
                    &payload,
                ))
            }
            _ => self.stray(),
        }
    }

    fn on_lan(&mut self, kind: usize) -> Vec<u8> {
        match kind {
            0..=13 => {
                let segment = self.segment_down();
                self.strain(segment).datagram()
            }
            14..=15 => self.error_from_targets(),
            16 => self.untagged(),
            _ => self.stray(),
        }
    }

    /// A segment of a connection, as nearly all are, and now and then something else.
    pub fn plain(&mut self, port: PortIndex) -> Vec<u8> {
        let mut segment = if port == WAN { self.segment_up() } else { self.segment_down() };
        segment.flags = self.rng.pick(&[ACK, ACK | PSH, ACK | FIN]);
        segment.options = match self.rng.index(if port == WAN { 2 } else { 9 }) {
            0 => Vec::new(),
            _ => match segment.options.windows(2).position(|pair| pair == [8, 10]) {
                Some(at) if at + 10 <= segment.options.len() => {
                    [&[1, 1][..], &segment.options[at..at + 10]].concat()
                }
                _ => timestamps(self.rng.next() as u32, self.rng.next() as u32),
            },
        };
        self.strain(segment).datagram()
    }

    /// One of few, so that all kinds of segments come from the same clients.
    fn client(&mut self) -> (u32, u16) {
        (CLIENT.0 + self.rng.index(8) as u32, 2000 + self.rng.index(8) as u16)
    }

    fn payload(&mut self) -> Vec<u8> {
        let len = match self.rng.index(8) {
            0..=2 => 0,
            3..=5 => self.rng.index(64),
            6 => self.rng.index(1400),
            _ => 1388 + self.rng.index(90),
        };
        self.rng.vec(len)
    }

    fn options(&mut self, stamp: Option<(u32, u32)>, syn: bool) -> Vec<u8> {
        let mut options = stamp.map_or(Vec::new(), |(value, echo)| timestamps(value, echo));
        let mss = [536, 1200, 1460, 8960][self.rng.index(4)];
        match (syn, stamp, self.rng.index(8)) {
            (true, Some((value, echo)), 0..=3) => options = linux_syn_options(mss, value, echo),
            (true, ..) => {
                let (kind, more) =
                    (self.rng.pick(&[19, 29, 30, 34, 77, 200, 253, 254]), self.rng.vec(6));
                options.extend(plain_syn_options(mss));
                options.extend([kind, 8]);
                options.extend(more);
            }
            (false, _, 0..=1) => {
                let blocks = 1 + self.rng.index(3);
                options.extend([1, 1, 5, 2 + 8 * blocks as u8]);
                options.extend(self.rng.vec(8 * blocks));
            }
            (false, _, 3) => {
                options.extend([self.rng.pick(&[200, 253, 254]), 8]);
                options.extend(self.rng.vec(6));
            }
            (false, Some((value, echo)), 2) => {
                options = [vec![8, 10], timestamps(value, echo)[4..].to_vec(), vec![0, 0]].concat();
            }
            _ => {}
        }
        options
    }

    fn segment_up(&mut self) -> Tcp {
        let client = self.client();
        let to = self.rng.pick(&[WEB, WEB, MANY, MANY, RAW, (WEB.0, 4444)]);
        let flags = self.rng.pick(&[SYN, ACK, ACK | PSH, ACK | PSH, ACK | FIN, RST, RST | ACK]);
        let numbers = (self.rng.next() as u32, self.rng.next() as u32);
        let stamp = self.rng.chance(1, 2).then_some(numbers);
        let options = self.options(stamp, flags & SYN != 0);
        let data = self.payload();
        let seq = self.rng.next();
        let segment = Tcp::new(client, to, flags).options(&options).data(&data);
        segment.numbers(seq as u32, (seq >> 32) as u32)
    }

    fn segment_down(&mut self) -> Tcp {
        let (client, service) = (self.client(), self.rng.pick(&SERVICES));
        let flags = self.rng.pick(&[SYN | ACK, ACK, ACK | PSH, ACK | PSH, ACK | FIN, RST | ACK]);
        let targets = self.oracle.targets::<u32>(service);
        let target = targets[self.rng.index(targets.len())];
        let (to, stamp) = if service == "raw" {
            (client, self.rng.chance(1, 2).then_some((5, 6)))
        } else {
            let (egress, port, mut tag) = self.oracle.egress(service, client);
            if self.rng.chance(1, 20) {
                tag = self.rng.next() as u32;
            } else if self.rng.chance(1, 2) {
                // What a bare SYN had.
                tag -= 1;
            }
            ((egress, port), Some((self.rng.next() as u32, tag)))
        };
        let options = self.options(stamp, flags & SYN != 0);
        let data = self.payload();
        let seq = self.rng.next();
        let segment = Tcp::new((target.ip, target.port), to, flags).options(&options).data(&data);
        segment.numbers(seq as u32, (seq >> 32) as u32)
    }

    /// Headers that are unusual, or that make a segment one to be dropped.
    fn strain(&mut self, mut segment: Tcp) -> Tcp {
        segment.ip.id = self.rng.next() as u16;
        segment.ip.tos = self.rng.next() as u8;
        segment.window = self.rng.next() as u16;
        match self.rng.index(40) {
            0 => segment.ip.ttl = self.rng.index(3) as u8,
            1 => segment.ip.options = vec![148, 4, 0, 0, 1, 1, 1, 0],
            2 => segment.ip.fragment = self.rng.next() as u16,
            3 => segment.ip.src = self.rng.next() as u32,
            4 => segment.ip.dst = self.rng.next() as u32,
            5 => segment.flags = self.rng.next() as u8,
            6 => segment.ip.fragment = 0,
            7 => segment.options = vec![8, 9, 10, 11],
            8 => segment.ip.options = vec![131, 3, 4, 0],
            _ => {}
        }
        segment
    }

    /// A target's segment without timestamps. After a RST comes the segment that it answers.
    fn untagged(&mut self) -> Vec<u8> {
        let (client, bare) = (self.client(), self.rng.chance(1, 2));
        let (egress, port, _) = self.oracle.egress("web", client);
        let flags = self.rng.pick(&[RST, RST, RST | ACK, RST | ACK, SYN | ACK, ACK]);
        let (seq, ack) = (self.rng.next() as u32, self.rng.next() as u32);
        let segment = Tcp::new(WEB_TARGET, (egress, port), flags).numbers(seq, ack);
        if flags & RST != 0 {
            let options = if bare { Vec::new() } else { timestamps(1, 2) };
            let hit = match flags & ACK {
                0 => Tcp::new(client, WEB, ACK).numbers(9, seq),
                _ => Tcp::new(client, WEB, SYN).numbers(ack.wrapping_sub(1), 0),
            };
            self.answering.push(hit.options(&options));
        }
        segment.datagram()
    }

    fn error_from_clients(&mut self) -> Vec<u8> {
        let segment = self.segment_down();
        let quoted = self.oracle.datagram(LAN, &segment.datagram());
        self.error_about(&quoted)
    }

    fn error_from_targets(&mut self) -> Vec<u8> {
        let segment = self.segment_up();
        let quoted = self.oracle.datagram(WAN, &segment.datagram());
        self.error_about(&quoted)
    }

    fn error_about(&mut self, quoted: &Sent) -> Vec<u8> {
        let Some((_, frame)) = quoted.first() else { return self.stray() };
        let datagram = frame.get(14..).unwrap_or_default();
        let to = datagram.get(12..16).map_or(0, |ip| u32::from_be_bytes(ip.try_into().unwrap()));
        let quoted = [28, 40, 52, 60, 548][self.rng.index(5)];
        let mtu = [0, 500, 1280, 1400][self.rng.index(4)];
        frag_needed(0x0909_0909, to, mtu, datagram, quoted)
    }

    /// What no service wants.
    fn stray(&mut self) -> Vec<u8> {
        let len = self.rng.index(80);
        let (src, dst) = (self.rng.next() as u32, self.rng.next() as u32);
        let to = self.rng.pick(&[dst, WEB.0, RAW.0, 0x6440_0801]);
        let protocol = self.rng.pick(&[1, 6, 17, 58]);
        let payload = self.rng.vec(len);
        Ipv4Header { protocol, ..Ipv4Header::new(src, to) }.with(&payload)
    }
}

/// Traffic that met only half of the engine would compare nothing.
#[test]
fn traffic_meets_all_that_it_should() {
    let mut traffic = Traffic::new(1);
    let mut world = World::new();
    let mut replies = HashSet::new();
    let (mut drops, mut forwarded) = (HashSet::new(), [0; 2]);
    for _ in 0..400 {
        let run = traffic.run();
        for datagram in &run.datagrams {
            world.datagram(run.port, datagram);
            for said in &world.out.said {
                match said {
                    Said::Sent(kind) => drop(replies.insert(*kind)),
                    Said::Verdict(Verdict::Drop(reason)) => drop(drops.insert(*reason)),
                    Said::Verdict(Verdict::Forward(port)) => forwarded[usize::from(port.0)] += 1,
                    _ => {}
                }
            }
        }
    }
    assert_eq!(
        replies.len(),
        ReplyKind::COUNT - 6,
        "all but those to neighbours, of tunnels, by hints and over IPv6: {replies:?}"
    );
    assert!(forwarded.iter().all(|count| *count > 2000), "{forwarded:?}");
    assert!(drops.len() >= 20, "{drops:?}");
}
