//! UDP through relays of every mode that has no tag: what leaves is compared byte for byte with
//! datagrams that the kit writes, whose checksums are summed from nothing.

mod choice;
mod errors;
mod hostile;
mod sizes;

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::net::{Endpoint, IpEndpoint, PortIndex};
use anyrelay_core::verdict::DropReason;
use anyrelay_kit::config::{Egress, Table, relay};

use crate::encapsulated::{Tunnel, all};
use crate::*;

/// A relay with UDP, and a client of it.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub vip: SocketAddr,
    pub targets: Vec<SocketAddr>,
    pub client: SocketAddr,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Transparent,
    Prefix,
    Tunnel(Tunnel),
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One of each mode, with TCP beside UDP.
pub fn services() -> Vec<Service> {
    let service = |name: &str, vip, targets: [&str; 2], client, mode| Service {
        name: name.to_owned(),
        vip: at(vip),
        targets: targets.map(at).to_vec(),
        client: at(client),
        mode,
    };
    let client6 = "[2600::5]:40006";
    let mut services = vec![
        service(
            "q4",
            "203.0.113.40:443",
            ["198.51.100.80:8443", "198.51.100.81:8443"],
            "198.18.5.9:40001",
            Mode::Transparent,
        ),
        service(
            "q6",
            "[2001:db8:f::40]:443",
            ["[2001:db8:5::80]:8443", "[2001:db8:5::81]:8443"],
            client6,
            Mode::Transparent,
        ),
        service(
            "p",
            "203.0.113.41:443",
            ["[2001:db8:5::90]:8443", "[2001:db8:5::91]:8443"],
            "198.18.5.9:40001",
            Mode::Prefix,
        ),
    ];
    services.extend(all().map(|tunnel| Service {
        name: format!("t{}", tunnel.number),
        vip: tunnel.vip(),
        targets: vec![SocketAddr::new(tunnel.target(), tunnel.port())],
        client: tunnel.client(),
        mode: Mode::Tunnel(tunnel),
    }));
    services
}

impl Service {
    pub fn table(&self) -> Table {
        let egress = match self.mode {
            Mode::Transparent => Egress::Transparent,
            Mode::Prefix => Egress::Prefix("2001:db8:64::/64"),
            Mode::Tunnel(tunnel) => return tunnel.relay().with("protocol", "both"),
        };
        relay(&self.name, self.vip, &self.targets, egress).with("protocol", "both")
    }

    pub fn up(&self, data: &[u8]) -> Udp {
        plain(self.client, self.vip, data)
    }

    /// The target of the client.
    pub fn target(&self, world: &World) -> SocketAddr {
        let end = IpEndpoint::from(self.client);
        match self.targets[0].ip() {
            IpAddr::V4(_) => {
                let (ip, port) = world.chosen::<u32>(&self.name, end);
                IpEndpoint::from(Endpoint { ip, port }).into()
            }
            IpAddr::V6(_) => {
                let (ip, port) = world.chosen::<u128>(&self.name, end);
                IpEndpoint::from(Endpoint { ip, port }).into()
            }
        }
    }

    /// What stands for the client at the target.
    pub fn egress(&self, world: &World) -> SocketAddr {
        world.service(&self.name).egress_of(self.client.into()).unwrap().egress.into()
    }

    /// Whether answers pass a POP.
    pub fn passes(&self) -> bool {
        !matches!(self.mode, Mode::Tunnel(tunnel) if tunnel.is_direct)
    }

    /// What of a client's datagram, whose TTL is its own, arrives at the target: the datagram
    /// itself, where it is in a tunnel. `sent` left the POP, and is judged around it.
    pub fn arrived(&self, world: &World, udp: &Udp, sent: &[u8]) -> Vec<u8> {
        let one_less = udp.ttl - 1;
        let want = match self.mode {
            Mode::Tunnel(tunnel) => {
                let inner = udp.edit(|udp| udp.ttl = one_less).datagram();
                let port = if tunnel.gue { word(sent, tunnel.overhead() - 12) } else { 0 };
                let outer = tunnel.outer((tunnel.from(), tunnel.target()), udp.tos, port, &inner);
                assert_eq!(sent.len(), outer.len());
                // The outer datagram may have an ID of its own.
                return if udp.fragment & 0x4000 == 0 && udp.src.is_ipv4() {
                    assert_eq!(sent[tunnel.overhead()..], inner);
                    sent.to_vec()
                } else {
                    outer
                };
            }
            _ => udp.edit(|udp| {
                (udp.src, udp.dst) = (self.egress(world), self.target(world));
                udp.ttl = one_less;
                udp.has_sum |= udp.src.is_ipv6();
            }),
        };
        want.datagram()
    }

    /// An answer of the target to the client, as it arrives at a POP, and as the client gets it,
    /// but for the identification of one that was IPv6.
    pub fn answer(&self, world: &World, data: &[u8]) -> (Vec<u8>, Udp) {
        let got = plain(self.vip, self.client, data).edit(|udp| udp.ttl -= 1);
        let sent = match self.mode {
            Mode::Tunnel(tunnel) => {
                let inner = got.edit(|udp| udp.ttl += 1);
                tunnel.answer(inner.tos, &inner.datagram())
            }
            _ => plain(self.target(world), self.egress(world), data).datagram(),
        };
        (sent, got)
    }
}

fn plain(src: SocketAddr, dst: SocketAddr, data: &[u8]) -> Udp {
    Udp::new(src, dst, data).edit(|udp| udp.tos = 0xb8)
}

pub fn udp_config() -> PopConfig {
    services().iter().fold(relay6_config(), |config, service| config.relay(service.table()))
}

pub fn udp_world() -> World {
    World::of(&udp_config())
}

/// The datagram in the only frame that was sent, and where it left.
#[track_caller]
pub fn only(sent: Sent, world: &World) -> (PortIndex, Vec<u8>) {
    let [(out, frame)] = &sent[..] else { panic!("{sent:02x?} {:?}", world.out.said) };
    (*out, frame[14..].to_vec())
}

#[test]
fn a_datagram_goes_to_its_target_and_the_answer_back() {
    let mut world = udp_world();
    let mut rng = Rng(7);
    for service in services() {
        for round in 0..40 {
            let len = if round < 4 { round } else { rng.index(1360) };
            let data: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
            let up = service.up(&data).edit(|udp| {
                udp.ttl = 2 + rng.index(250) as u8;
                udp.tos = rng.next() as u8;
                if udp.src.is_ipv4() {
                    udp.id = rng.next() as u16;
                    udp.fragment = if rng.chance(1, 2) { 0x4000 } else { 0 };
                    udp.has_sum = rng.chance(3, 4);
                }
            });
            let sent = world.datagram(WAN, &up.datagram());
            let (out, datagram) = only(sent, &world);
            assert_eq!(out, LAN);
            assert_eq!(datagram, service.arrived(&world, &up, &datagram), "{service:?} {up:?}");
            if !service.passes() {
                continue;
            }
            let (down, want) = service.answer(&world, &data);
            let sent = world.datagram(LAN, &down);
            let (out, datagram) = only(sent, &world);
            let mut got = Udp::read(&datagram).unwrap();
            if let Mode::Prefix = service.mode {
                // RFC 7915, section 5.1: over 1260 bytes it has DF and no ID.
                let is_long = datagram.len() > 1260;
                assert_eq!(got.fragment, if is_long { 0x4000 } else { 0 }, "{}", datagram.len());
                assert!(!is_long || got.id == 0);
                (got.id, got.fragment) = (want.id, want.fragment);
            }
            let same = |udp: &Udp| if udp.src.is_ipv4() { (udp.id, udp.fragment) } else { (0, 0) };
            assert_eq!((got.id, got.fragment), same(&want), "{service:?}");
            assert_eq!(
                (out, &got.edit(|udp| udp.id = want.id)),
                (WAN, &{ want.edit(|udp| udp.fragment = got.fragment) })
            );
        }
    }
}

#[test]
fn what_is_damaged_arrives_damaged() {
    let mut world = udp_world();
    for service in services() {
        let up = service.up(b"a datagram");
        let mut wrong = up.datagram();
        *wrong.last_mut().unwrap() ^= 0x10;
        let sent = world.datagram(WAN, &wrong);
        let (_, datagram) = only(sent, &world);
        let mut want = service.arrived(&world, &up, &datagram);
        match service.mode {
            // The outer checksum of GUE over IPv6 is of what is inside.
            Mode::Tunnel(tunnel) if tunnel.gue && tunnel.outer6 => {}
            _ => {
                *want.last_mut().unwrap() ^= 0x10;
                assert_eq!(datagram, want, "{service:?}");
            }
        }
        let at = match service.mode {
            Mode::Tunnel(tunnel) => tunnel.overhead(),
            _ => 0,
        };
        assert_eq!(Udp::read(&datagram[at..]), None);
    }
}

#[test]
fn every_way_to_a_checksum_of_zero_is_taken() {
    // Data of two bytes makes the sum that leaves or arrives whatever it is to be.
    let mut world = udp_world();
    for service in services() {
        let all_ones = (0..=u16::MAX).filter(|word| {
            let up = service.up(&word.to_be_bytes());
            let sum = |udp: &Udp| {
                let message = udp.message();
                u16::from_be_bytes([message[6], message[7]])
            };
            let ends = match service.mode {
                Mode::Tunnel(_) => (up.src, up.dst),
                _ => (service.egress(&world), service.target(&world)),
            };
            let after = up.edit(|udp| (udp.src, udp.dst) = ends);
            sum(&up) == 0xffff || sum(&after) == 0xffff
        });
        let words: Vec<u16> = all_ones.collect();
        assert!(!words.is_empty());
        for word in words {
            let up = service.up(&word.to_be_bytes());
            let sent = world.datagram(WAN, &up.datagram());
            let (_, datagram) = only(sent, &world);
            assert_eq!(datagram, service.arrived(&world, &up, &datagram), "{service:?}");
        }
    }
}

#[test]
fn options_and_what_follows_the_datagram_are_as_for_tcp() {
    let mut world = udp_world();
    let service = &services()[0];
    let up = service.up(b"with options");
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (up.src.ip(), up.dst.ip()) else { unreachable!() };
    let header = Ipv4Header {
        ttl: up.ttl,
        tos: up.tos,
        protocol: UDP,
        options: vec![148, 4, 0, 0],
        ..Ipv4Header::new(src.to_bits(), dst.to_bits())
    };
    // Two bytes that the UDP length leaves out go on too (draft-ietf-tsvwg-udp-options).
    let message = [up.message(), vec![0xaa, 0xbb]].concat();
    let sent = world.datagram(WAN, &header.with(&message));
    let (_, datagram) = only(sent, &world);
    let mut want = service.arrived(&world, &up, &datagram);
    want.extend([0xaa, 0xbb]);
    set_length(&mut want);
    repair_header(&mut want);
    assert_eq!(datagram, want);
}

#[test]
fn tcp_and_udp_of_one_service_do_not_meet() {
    let mut world = udp_world();
    for service in services() {
        let syn = Segment::new(service.client, service.vip, SYN);
        let syn_sent = world.datagram(WAN, &syn.datagram());
        assert_eq!((syn_sent.len(), syn_sent[0].0), (1, LAN), "{service:?}");
        let relay = world.service(&service.name);
        let (slot, target) = (relay.slot, service.target(&world));
        let count = world.counters.service(slot).traffic(anyrelay_core::net::Towards::Targets);
        assert_eq!(count.packets.get(), 1, "{target}");
        world.datagram(WAN, &service.up(b"x").datagram());
        assert_eq!(count_of(&world, slot), 2);
    }
}

fn count_of(world: &World, slot: anyrelay_core::net::ServiceSlot) -> u64 {
    world.counters.service(slot).traffic(anyrelay_core::net::Towards::Targets).packets.get()
}

#[test]
fn a_service_of_one_protocol_leaves_the_other_alone() {
    let config = udp_config();
    let udp = World::of(&config.clone().setting("q4", "protocol", "udp"));
    let tcp = World::of(&config.setting("q4", "protocol", "tcp"));
    let service = &services()[0];
    let (mut udp, mut tcp) = (udp, tcp);
    let ack = Segment::new(service.client, service.vip, ACK).datagram();
    assert_eq!(udp.dropped(WAN, &ack), DropReason::UnservedPort);
    assert_eq!(udp.datagram(WAN, &service.up(b"x").datagram()).len(), 1);
    assert_eq!(tcp.datagram(WAN, &ack).len(), 1);
    // As before: a port without a service.
    let sent = tcp.datagram(WAN, &service.up(b"x").datagram());
    assert_eq!((sent.len(), tcp.reason()), (1, DropReason::Protocol));
    assert_eq!(sent[0].1[14 + 20..][..2], [3, 3]);
    let down = service.answer(&udp, b"y").0;
    assert_eq!(udp.datagram(LAN, &down).len(), 1);
    assert_eq!(tcp.dropped(LAN, &down), DropReason::NotOurs);
}
