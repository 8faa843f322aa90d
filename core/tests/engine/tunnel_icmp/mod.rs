//! ICMP errors about segments of tunnels: they reach the agent whose datagram it was, and forged
//! ones reach nobody. Datagrams that are too big for the path down.

mod refused;
mod told;

use std::net::IpAddr;

use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

use crate::*;

/// Routers on the way.
const ROUTER4: u32 = 0x0909_0909;
const ROUTER6: u128 = 0x2600_0009 << 96 | 9;

/// Two agents, and a datagram from the first as the second is sent it.
struct Pair {
    world: World,
    a: Agent,
    b: Agent,
    down: Vec<u8>,
}

impl Pair {
    fn new(a: &str, b: &str) -> Pair {
        Pair::of(&tunnel_config(1), a, b)
    }

    fn of(config: &PopConfig, a: &str, b: &str) -> Pair {
        Pair::in_world(tunnel_world_of(config, KEYS), a, b)
    }

    fn in_world(mut world: World, a: &str, b: &str) -> Pair {
        let (a, b) = (Agent::connected(&mut world, 1, 1, a), Agent::connected(&mut world, 1, 2, b));
        let up = a.data(&world, b.token(), 9, &[7; 300]);
        let sent = world.datagram(WAN, &up.datagram());
        let [(WAN, frame)] = &sent[..] else { panic!("{:?}", world.out.said) };
        let down = frame[14..].to_vec();
        Pair { world, a, b, down }
    }

    /// An error from a router in front of `b` that quotes so many bytes of `datagram`.
    fn error_about(
        &self,
        (kind, code): (u8, u8),
        mtu: u16,
        datagram: &[u8],
        len: usize,
    ) -> Vec<u8> {
        let quote = &datagram[..len.min(datagram.len())];
        let [high, low] = mtu.to_be_bytes();
        // The MTU is in the lower half of the second word in both families.
        let word = [0, 0, high, low];
        match self.b.vip.ip() {
            IpAddr::V4(vip) => {
                let message = icmp(kind, code, word, quote);
                Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER4, vip.to_bits()) }.with(&message)
            }
            IpAddr::V6(vip) => {
                let message = [&[kind, code, 0, 0], &word[..], quote].concat();
                Ipv6Header { next: 58, ..Ipv6Header::new(ROUTER6, vip.to_bits()) }.with(&message)
            }
        }
    }

    fn too_big(&self, mtu: u16, datagram: &[u8], len: usize) -> Vec<u8> {
        let kind = if self.b.addr.is_ipv4() { (3, 4) } else { (2, 0) };
        self.error_about(kind, mtu, datagram, len)
    }

    /// What `a` is told because of an error.
    fn told(&mut self, error: &[u8]) -> Told {
        let sent = self.world.datagram(WAN, error);
        let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?} {:?}", self.world.out.said) };
        assert_eq!(self.world.verdict(), Verdict::Forward(WAN));
        let said =
            Said::TunnelQuote { vip: self.b.vip, agent: self.b.addr, sender: Some(self.a.addr) };
        assert!(self.world.out.said.contains(&said), "{:?}", self.world.out.said);
        Told::read(frame, &self.a)
    }

    /// That an error is refused, and counted at the tunnel.
    fn refused(&mut self, error: &[u8], reason: DropReason) {
        let slot = self.world.snapshot.tunnel_at(self.b.vip).unwrap().slot;
        let count =
            |world: &World| (world.drops(WAN, reason), world.counters.service_drops(slot, reason));
        let before = count(&self.world);
        assert_eq!(self.world.dropped(WAN, error), reason);
        assert_eq!(count(&self.world), (before.0 + 1, before.1 + 1));
    }
}

fn pairs() -> [Pair; 4] {
    [(A4, B4), (A4, B6), (A6, B4), (A6, B6)].map(|(a, b)| Pair::new(a, b))
}

/// An error as an agent gets it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: u8,
    code: u8,
    mtu: u16,
    ttl: u8,
    /// Of the quoted segment.
    total_len: u16,
    seq: u32,
    ack: u32,
}

impl Told {
    /// Reads an error to `a`: from its VIP, about a segment of its own to there, all checksums
    /// right.
    fn read(frame: &[u8], a: &Agent) -> Told {
        let datagram = &frame[14..];
        let (ttl, message, quote_ip_len) = match (a.addr.ip(), a.vip.ip()) {
            (IpAddr::V4(agent), IpAddr::V4(vip)) => {
                let seen = Seen::frame(frame);
                assert_eq!((seen.src, seen.dst), (vip.to_bits(), agent.to_bits()));
                seen.icmp();
                let quote = &seen.payload[8..];
                assert_eq!(internet_checksum(&[&quote[..20]]), 0);
                assert_eq!((quote[0], quote[9]), (0x45, 6));
                assert_eq!(
                    (&quote[12..16], &quote[16..20]),
                    (&agent.octets()[..], &vip.octets()[..])
                );
                (seen.ttl, seen.payload.clone(), 20)
            }
            (IpAddr::V6(agent), IpAddr::V6(vip)) => {
                assert_eq!(
                    (&frame[12..14], datagram[0], datagram[6]),
                    (&[0x86, 0xdd][..], 0x60, 58)
                );
                let len = usize::from(validator::word(datagram, 4));
                assert_eq!(datagram.len(), 40 + len);
                assert_eq!(
                    (&datagram[8..24], &datagram[24..40]),
                    (&vip.octets()[..], &agent.octets()[..])
                );
                let message = datagram[40..].to_vec();
                assert_eq!(upper_checksum(&vip.octets(), &agent.octets(), 58, &message), 0);
                let quote = &message[8..];
                assert_eq!((quote[0], quote[6]), (0x60, 6));
                assert_eq!(
                    (&quote[8..24], &quote[24..40]),
                    (&agent.octets()[..], &vip.octets()[..])
                );
                (datagram[7], message, 40)
            }
            _ => panic!("of two families"),
        };
        let quote = &message[8..];
        let total_len = match quote_ip_len {
            20 => validator::word(quote, 2),
            _ => validator::word(quote, 4) + 40,
        };
        let tcp = &quote[quote_ip_len..];
        assert_eq!(tcp.len(), 20);
        assert_eq!(
            (validator::word(tcp, 0), validator::word(tcp, 2)),
            (a.addr.port(), a.vip.port())
        );
        assert_eq!((tcp[12], tcp[13]), (0x50, PSH | ACK));
        Told {
            kind: message[0],
            code: message[1],
            mtu: validator::word(&message, 6),
            ttl,
            total_len,
            seq: validator::long(tcp, 4),
            ack: validator::long(tcp, 8),
        }
    }
}

/// By how much a datagram from `a` is longer than what becomes of it.
fn longer_by(pair: &Pair) -> u16 {
    let up = pair.a.data(&pair.world, pair.b.token(), 9, &[7; 300]).datagram();
    (up.len() - pair.down.len()) as u16
}
