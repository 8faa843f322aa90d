//! Plain segments of clients and targets, as the fast way takes them, in runs that fill a burst.

use std::net::SocketAddr;

use anyrelay_core::net::PortIndex;
use anyrelay_core::relay::Mode;
use anyrelay_core::verdict::Verdict;
use anyrelay_kit::frames::{ACK, FIN, Mac, PSH, Tcp, framed, long, timestamps, word};
use anyrelay_kit::rng::Rng;

use super::cases::Case;
use super::{Input, World, check};

/// A connection that a POP passes on, both ways.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    client: End,
    target: End,
}

/// One end of it.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Where its segments come in.
    port: PortIndex,
    src: (u32, u16),
    dst: (u32, u16),
    /// TSecr of its segments: of a target's the tag.
    echo: u32,
}

/// A run: up to 64 segments of one side.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    is_target: bool,
    is_bare: bool,
    pub count: usize,
    first: usize,
}

impl Run {
    /// The run that two bytes stand for, the first of which is above 0x7f.
    pub fn new(high: u8, low: u8) -> Run {
        let (is_target, is_bare) = (high & 0x40 != 0, low & 0x80 != 0);
        Run { is_target, is_bare, count: 1 + usize::from(high & 63), first: usize::from(low & 127) }
    }

    /// Its segments, of one connection after the other, each behind the port that it comes to.
    pub fn frames(self, case: &Case) -> impl Iterator<Item = (PortIndex, Vec<u8>)> {
        let mut rng = Rng((self.count << 8 | self.first) as u64);
        (0..self.count).filter_map(move |number| {
            let all = &case.connections;
            let connection = all.get((self.first + number) % all.len().max(1))?;
            let end = if self.is_target { connection.target } else { connection.client };
            Some((end.port, end.frame(case, self.is_bare, &mut rng)))
        })
    }
}

impl End {
    fn frame(&self, case: &Case, is_bare: bool, rng: &mut Rng) -> Vec<u8> {
        let flags = ACK | rng.pick(&[0, 0, 0, PSH, FIN, FIN | PSH]);
        let len = if rng.happens(500) { 0 } else { rng.below(DATA_MAX) as usize };
        let stamps = if is_bare { Vec::new() } else { timestamps(rng.next() as u32, self.echo) };
        let segment = Tcp {
            window: rng.next() as u16,
            options: stamps,
            data: rng.vec(len),
            ..Tcp::new(self.src, self.dst, flags)
        };
        let mut segment = segment.numbers(rng.next() as u32, rng.next() as u32);
        segment.ip.ttl = rng.pick(&[64, 2, 255]);
        segment.ip.tos = rng.next() as u8;
        segment.ip.id = rng.next() as u16;
        segment.ip.fragment = rng.pick(&[0x4000, 0]);
        let mut frame = case.framed(self.port, &segment.datagram());
        if rng.happens(300) {
            // Ethernet's padding.
            frame.resize(frame.len().max(60), 0);
        }
        frame
    }
}

/// Connections to the services in pool mode that a POP of this case passes on.
pub fn connections(case: &Case) -> Vec<Connection> {
    let relays = case.snapshot.relays().filter(|relay| matches!(relay.mode, Mode::Pool(_)));
    let vips: Vec<SocketAddr> = relays.map(|relay| relay.vip()).collect();
    let mut world = World::new(case);
    let mut found = Vec::new();
    for number in 0..CLIENTS * vips.len() as u32 {
        let vip = vips[number as usize % vips.len()];
        let SocketAddr::V4(vip) = vip else { continue };
        let client = (CLIENT + number * 7, 1024 + number as u16);
        let vip = (vip.ip().to_bits(), vip.port());
        let ports = (0..case.snapshot.config.ports.len() as u8).map(PortIndex);
        found.extend(ports.into_iter().find_map(|port| {
            let client = End { port, src: client, dst: vip, echo: 1 };
            let (port, sent) = world.pass(client)?;
            let datagram = &sent[check::l3(&sent)?..];
            let (src, dst) = (word(datagram, 20), word(datagram, 22));
            let [from, to] = [12, 16].map(|at| long(datagram, at));
            // NOP, NOP, kind and length are before it.
            let tag = long(datagram, 44);
            let target = End { port, src: (to, dst), dst: (from, src), echo: tag };
            world.pass(target).map(|_| Connection { client, target })
        }));
    }
    found
}

impl World<'_> {
    /// What a segment of that end leaves as, if it is passed on.
    fn pass(&mut self, end: End) -> Option<(PortIndex, Vec<u8>)> {
        let stamps = timestamps(1, end.echo);
        let datagram = Tcp::new(end.src, end.dst, ACK).options(&stamps).datagram();
        let frame = self.case.framed(end.port, &datagram);
        self.handle(&[Input::plain(end.port, &frame)]);
        let is_passed = self.out.verdicts().all(|verdict| matches!(verdict, Verdict::Forward(_)));
        self.out.sent.pop().filter(|_| is_passed)
    }
}

impl Case {
    /// The frame of a datagram that comes to a port.
    fn framed(&self, port: PortIndex, datagram: &[u8]) -> Vec<u8> {
        let at = usize::from(port.0);
        framed(self.macs[at], GATEWAY, self.snapshot.config.ports[at].vlan, datagram)
    }
}

/// Clients of each service, from this address on.
const CLIENTS: u32 = 40;
const CLIENT: u32 = 0xc612_0500; // 198.18.5.0
const GATEWAY: Mac = [2, 0, 0, 0, 0xa, 1];
/// What fits the MTU of most ports, but not of all.
const DATA_MAX: u64 = 1440;
