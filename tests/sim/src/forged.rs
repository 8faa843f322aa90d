//! What somebody sends who should not: nothing of it may come out of a POP.

use std::net::{Ipv6Addr, SocketAddr};

use anyrelay_kit::frames::{ACK, FIN, RST, SYN, Segment, timestamps};

use crate::network::Packet;
use crate::setup::{self, Mode, Port, Service, TUNNEL4};
use crate::stamps::Origin;
use crate::world::{Event, World};

impl World {
    /// Sends one forged datagram to a POP.
    pub(crate) fn forge(&mut self) {
        let pop = self.rng.below(self.pops.len() as u64) as usize;
        let (port, bytes) = self.forged(pop);
        let origin = Origin { stamps: None, sent_us: self.now_us };
        let packet = Packet { forged: true, ..Packet::new(bytes, origin) };
        self.queue.push(self.now_us, Event::ToPop(pop, port, packet));
    }

    fn forged(&mut self, pop: usize) -> (Port, Vec<u8>) {
        if self.rng.happens(250) {
            return self.forged6(pop);
        }
        let of_v4 = |service: &&Service| service.targets[0].is_ipv4();
        let count = self.setup.services.iter().filter(of_v4).count();
        let chosen = self.rng.below(count as u64) as usize;
        let Some(service) = self.setup.services.iter().filter(of_v4).nth(chosen) else {
            return (Port::Wan, vec![0; 40]);
        };
        let (vip, target) = (service.vip, service.targets[0]);
        let egress = match service.mode {
            Mode::Pool(first, _) => SocketAddr::from((first.to_be_bytes(), 5000)),
            _ => SocketAddr::from(([198, 18, 1, 1], 5000)),
        };
        let client = SocketAddr::from(([198, 18, 3, 3], 1 + self.rng.below(60_000) as u16));
        let at = |ip: [u8; 4]| SocketAddr::from((ip, 1234));
        let stamps = |tag: u32| timestamps(9, tag);
        let (seq, tag) = (self.rng.next() as u32, self.rng.next() as u32);
        let martians =
            [[127, 0, 0, 1], [224, 0, 0, 1], [0, 1, 2, 3], [10, 0, 0, 1], [169, 254, 0, 1]];
        let martian = at(martians[self.rng.below(5) as usize]);
        let (port, src, dst, flags, options) = match self.rng.below(18) {
            // LAND, and sources that nobody has.
            0 => (Port::Wan, target, vip, SYN, vec![]),
            1 => (Port::Wan, vip, vip, SYN, vec![]),
            2 => (Port::Wan, egress, vip, SYN, vec![]).if_pool(service.is_pool(), client),
            3 => (Port::Wan, at([127, 0, 0, 1]), vip, SYN, stamps(tag)),
            4 => (Port::Wan, at([0, 1, 2, 3]), vip, SYN, vec![]),
            5 => (Port::Wan, at([224, 0, 0, 1]), vip, ACK, vec![]),
            6 => (Port::Wan, at([255, 255, 255, 255]), vip, SYN, vec![]),
            7 => (Port::Wan, at([10, 0, 0, 1]), vip, SYN, vec![]),
            8 => (
                Port::Wan,
                SocketAddr::from((setup::own_addresses(pop, Port::Wan).0, 80)),
                vip,
                ACK,
                stamps(tag),
            ),
            9 => (Port::Wan, TUNNEL4, vip, SYN, vec![]),
            // What comes from the wrong side, and what no side sends.
            10 => (Port::Wan, client, vip, SYN | ACK, stamps(tag)),
            11 => (Port::Lan, target, egress, SYN, stamps(tag)),
            12 => (Port::Lan, client, vip, SYN, vec![]),
            13 => (Port::Wan, target, egress, ACK, stamps(tag)),
            14 => (Port::Wan, client, vip, SYN | FIN, vec![]),
            15 => (Port::Lan, target, martian, ACK, stamps(tag)),
            16 => (Port::Lan, target, target, ACK, vec![]),
            _ => (Port::Wan, client, vip, RST | SYN, stamps(tag)),
        };
        (port, segment(src, dst, seq, flags, &options))
    }

    /// The same for services that have IPv6.
    fn forged6(&mut self, pop: usize) -> (Port, Vec<u8>) {
        let find = |name| self.setup.services.iter().find(|service| service.name == name);
        let (Some(far), Some(raw), Some(deep)) = (find("far"), find("raw6"), find("deep")) else {
            return (Port::Wan, vec![0; 40]);
        };
        let (Mode::Prefix(first, len), Mode::Pool6(pool, _)) = (far.mode, deep.mode) else {
            return (Port::Wan, vec![0; 40]);
        };
        let at = |ip: u128| SocketAddr::new(Ipv6Addr::from_bits(ip).into(), 1234);
        let client = at(0x2001_0db8_0055 << 80 | 3);
        let own = SocketAddr::new(setup::own_addresses(pop, Port::Wan).1.into(), 80);
        // An address of the prefix that no client has: that of a client with a wrong bit in the
        // check, or in the zeros, which have the client's 32 bits between them.
        let known = self.memory.egress_of_prefix(first);
        let check = u64::from(96 - len).min(32);
        let bit = self.rng.below(u64::from(96 - len));
        let bit = if bit < check { bit } else { bit + 32 };
        let egress = at(known.unwrap_or(first) ^ 1 << bit);
        // The last two stand for 127.0.0.1 and for 10.0.0.1.
        let martians = [
            1,
            0,
            0xff02 << 112 | 1,
            0xfe80 << 112 | 1,
            0xfc00 << 112 | 1,
            0x0064_ff9b << 96 | 0x7f00_0001,
            0x2002_0a00_0001 << 80 | 1,
        ];
        let martian = at(martians[self.rng.below(7) as usize]);
        let seq = self.rng.next() as u32;
        let (vip, target, beyond) = (raw.vip, raw.targets[0], far.targets[0]);
        let (port, src, dst, flags) = match self.rng.below(18) {
            0 => (Port::Wan, target, vip, SYN),
            1 => (Port::Wan, vip, vip, SYN),
            2 => (Port::Wan, beyond, vip, SYN),
            3 => (Port::Wan, egress, vip, SYN),
            4 => (Port::Wan, martian, vip, SYN),
            5 => (Port::Wan, martian, vip, ACK),
            6 => (Port::Wan, at(0xff02 << 112 | 1), vip, SYN),
            7 => (Port::Wan, at(0xfe80 << 112 | 1), vip, SYN),
            8 => (Port::Wan, own, vip, ACK),
            9 => (Port::Wan, client, vip, SYN | ACK),
            10 => (Port::Lan, target, client, SYN),
            11 => (Port::Lan, client, vip, SYN),
            12 => (Port::Wan, target, client, ACK),
            13 => (Port::Lan, target, martian, ACK),
            14 => (Port::Lan, target, target, ACK),
            // An address of the pool without a tag, and as a client. Of random tags one in 63 is of
            // a client.
            15 => (Port::Lan, deep.targets[0], at(pool | u128::from(seq)), ACK),
            16 => (Port::Wan, at(pool | 7), deep.vip, SYN),
            _ => (Port::Lan, beyond, egress, ACK),
        };
        (port, segment(src, dst, seq, flags, &[]))
    }
}

fn segment(src: SocketAddr, dst: SocketAddr, seq: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let options = options.to_vec();
    Segment { seq, ack: 1, ttl: 64, options, ..Segment::new(src, dst, flags) }.from_host()
}

type Parts = (Port, SocketAddr, SocketAddr, u8, Vec<u8>);

trait IfPool {
    fn if_pool(self, pool: bool, client: SocketAddr) -> Parts;
}

impl IfPool for Parts {
    /// Services without a pool have no egress to be forged: a SYN|ACK of the client's is sent.
    fn if_pool(self, pool: bool, client: SocketAddr) -> Parts {
        if pool { self } else { (self.0, client, self.2, SYN | ACK, self.4) }
    }
}
