//! Egress by `ipip` and `gue`: what leaves for targets, and what comes back from them.

mod errors;

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::verdict::{DropReason, ReplyKind};
use anyrelay_kit::config::{Egress, relay};

use crate::*;

/// A service of each kind: families of the VIP and of the tunnel, and its protocol.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    pub number: u16,
    pub vip6: bool,
    pub outer6: bool,
    pub gue: bool,
    pub is_direct: bool,
}

pub fn all() -> impl Iterator<Item = Tunnel> {
    (0..16).map(|number| {
        let is = |bit: u16| number >> bit & 1 == 1;
        Tunnel { number, vip6: is(0), outer6: is(1), gue: is(2), is_direct: is(3) }
    })
}

fn through() -> impl Iterator<Item = Tunnel> {
    all().filter(|tunnel| !tunnel.is_direct)
}

fn socket(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

impl Tunnel {
    pub fn port(&self) -> u16 {
        443 + self.number
    }

    pub fn vip(&self) -> SocketAddr {
        socket(if self.vip6 { "2001:db8:f::20" } else { "203.0.113.20" }, self.port())
    }

    pub fn client(&self) -> SocketAddr {
        socket(if self.vip6 { "2600::5" } else { "198.18.5.9" }, 40_001)
    }

    pub fn target(&self) -> IpAddr {
        let text = if self.outer6 { "2001:db8:5::60" } else { "198.51.100.60" };
        text.parse().unwrap()
    }

    pub fn from(&self) -> IpAddr {
        let last = 1 + u8::from(self.gue) + 2 * u8::from(self.is_direct);
        let net = if self.outer6 { "2001:db8:20::" } else { "100.64.20." };
        format!("{net}{last}").parse().unwrap()
    }

    pub fn overhead(&self) -> usize {
        (if self.outer6 { 40 } else { 20 }) + if self.gue { 12 } else { 0 }
    }

    pub fn relay(&self) -> anyrelay_kit::config::Table {
        let from = self.from().to_string();
        let egress = if self.gue { Egress::Gue(&from) } else { Egress::Ipip(&from) };
        let target = SocketAddr::new(self.target(), self.port());
        let (name, way) = (format!("t{}", self.number), ["through", "direct"]);
        let relay = relay(&name, self.vip(), &[target], egress);
        relay.with("return", way[usize::from(self.is_direct)])
    }

    /// `inner` in the tunnel, with DSCP and ECN `class`. The POP spreads flows by ports of its own.
    pub fn outer(&self, ends: (IpAddr, IpAddr), class: u8, port: u16, inner: &[u8]) -> Vec<u8> {
        let kind = if self.vip6 { 41 } else { 4 };
        let (mut payload, mut protocol) = (inner.to_vec(), kind);
        if self.gue {
            let len = (inner.len() + 12) as u16;
            payload = [port, 6080, len, 0].map(u16::to_be_bytes).concat();
            payload.extend([0, kind, 0, 0]);
            payload.extend(inner);
            if self.outer6 {
                let sum = transport_checksum(ends.0, ends.1, 17, &payload);
                put_word(&mut payload, 6, sum);
            }
            protocol = 17;
        }
        match ends {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
                Ipv4Header { ttl: 64, tos: class, id: 0, protocol, ..header }.with(&payload)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header::new(src.to_bits(), dst.to_bits());
                let (hop_limit, traffic_class) = (64, class);
                Ipv6Header { hop_limit, traffic_class, flow: 0, next: protocol, ..header }
                    .with(&payload)
            }
            _ => panic!("two families"),
        }
    }

    /// `inner` as the target sends it.
    pub fn answer(&self, class: u8, inner: &[u8]) -> Vec<u8> {
        self.outer((self.target(), self.from()), class, 50_000, inner)
    }

    fn up(&self, flags: u8) -> Segment {
        Segment::new(self.client(), self.vip(), flags)
    }

    fn down(&self, flags: u8) -> Segment {
        Segment::new(self.vip(), self.client(), flags)
    }
}

fn world() -> World {
    let relays = all().map(|tunnel| tunnel.relay());
    World::of(&relays.fold(relay6_config(), |config, relay| config.relay(relay)))
}

/// What left in the tunnel, checked and opened, and its UDP source port.
fn opened(tunnel: &Tunnel, frame: &[u8]) -> (Vec<u8>, u16) {
    let datagram = &frame[14..];
    let at = tunnel.overhead();
    let inner = datagram[at..].to_vec();
    let class = Segment::read(&inner).map_or(0, |segment| segment.tos);
    let port = if tunnel.gue { word(datagram, at - 12) } else { 0 };
    let ends = (tunnel.from(), tunnel.target());
    assert_eq!(datagram, tunnel.outer(ends, class, port, &inner), "{tunnel:?}");
    (inner, port)
}

fn hop(segment: &Segment) -> Vec<u8> {
    segment.edit(|segment| segment.ttl -= 1).datagram()
}

#[test]
fn a_clients_segment_goes_whole_to_its_target() {
    let mut world = world();
    for tunnel in all() {
        let mut ports = Vec::new();
        for port in [40_001, 40_001, 40_002, 40_003, 40_004] {
            let data = tunnel.up(ACK).edit(|segment| {
                (segment.src, segment.data) =
                    (SocketAddr::new(segment.src.ip(), port), vec![7; 99]);
            });
            let (out, frame) = world.passed(WAN, &data.datagram());
            assert_eq!(out, LAN);
            let (inner, port) = opened(&tunnel, &frame);
            assert_eq!(inner, hop(&data), "{tunnel:?}");
            ports.push(port);
        }
        if tunnel.gue {
            assert!(ports.iter().all(|port| *port >= 49_152), "{ports:?}");
            assert_eq!(ports[0], ports[1], "all of a connection take one way");
            assert!(ports[1..].windows(2).any(|pair| pair[0] != pair[1]), "{ports:?}");
        }
    }
}

#[test]
fn what_a_syn_offers_fits_the_tunnel_where_answers_take_it() {
    let mut world = world();
    for tunnel in all() {
        let headers = if tunnel.vip6 { 60 } else { 40 };
        let fits = 1500 - headers - if tunnel.is_direct { 0 } else { tunnel.overhead() as u16 };
        let syn =
            |mss| tunnel.up(SYN).edit(|segment| segment.options = linux_syn_options(mss, 1, 0));
        let (_, frame) = world.passed(WAN, &syn(9000).datagram());
        assert_eq!(opened(&tunnel, &frame).0, hop(&syn(fits)), "{tunnel:?}");
        if tunnel.is_direct {
            // No POP sees what becomes of the SYN, and it counts all the same.
            let relay = world.service(&format!("t{}", tunnel.number));
            let counters = world.counters.service(relay.slot);
            let syns =
                relay.targets.with_slots().map(|(_, slot)| counters.target(slot.0).syns.get());
            assert_eq!(syns.sum::<u64>(), 1, "{tunnel:?}");
            continue;
        }
        let answer = |mss| {
            let answer = tunnel.down(SYN | ACK);
            answer.edit(|segment| segment.options = linux_syn_options(mss, 1, 1))
        };
        let inner = answer(9000).datagram();
        let (out, frame) = world.passed(LAN, &tunnel.answer(0, &inner));
        assert_eq!((out, &frame[14..]), (WAN, &hop(&answer(fits))[..]), "{tunnel:?}");
    }
}

#[test]
fn answers_leave_the_tunnel_with_the_marks_of_both_headers() {
    let mut world = world();
    for tunnel in through() {
        // ECN inside and outside, and what becomes of it (RFC 6040).
        let cases = [
            (0, 0, Some(0)),
            (0, 2, Some(0)),
            (0, 3, None),
            (2, 2, Some(2)),
            (2, 0, Some(2)),
            (2, 1, Some(1)),
            (2, 3, Some(3)),
            (1, 3, Some(3)),
            (1, 2, Some(1)),
            (3, 0, Some(3)),
        ];
        for (inside, outside, wanted) in cases {
            let marked = |ecn: u8| {
                tunnel.down(ACK).edit(|segment| {
                    (segment.tos, segment.data) = (0x28 | ecn, vec![1; 50]);
                })
            };
            let datagram = tunnel.answer(0xb8 | outside, &marked(inside).datagram());
            match wanted {
                Some(ecn) => {
                    let (out, frame) = world.passed(LAN, &datagram);
                    assert_eq!((out, &frame[14..]), (WAN, &hop(&marked(ecn))[..]), "{tunnel:?}");
                }
                None => assert_eq!(world.dropped(LAN, &datagram), DropReason::TunnelMark),
            }
        }
    }
}

#[test]
fn only_a_target_of_the_service_answers_for_it() {
    use DropReason::*;
    let mut world = world();
    for tunnel in through() {
        let inner = tunnel.down(ACK).datagram();
        let (target, from) = (tunnel.target(), tunnel.from());
        let other = |text6: &str, text4: &str| -> IpAddr {
            if tunnel.outer6 { text6 } else { text4 }.parse().unwrap()
        };
        let stranger = other("2001:db8:5::61", "198.51.100.61");
        let elsewhere = other("2001:db8:20::9", "100.64.20.9");
        let other_tunnel = Tunnel { gue: !tunnel.gue, ..tunnel };
        let from_vip = |port: u16| {
            let end = SocketAddr::new(tunnel.vip().ip(), port);
            tunnel.down(ACK).edit(|segment| segment.src = end).datagram()
        };
        let to = |text: &str| {
            let end = SocketAddr::new(text.parse().unwrap(), 40_001);
            tunnel.down(ACK).edit(|segment| segment.dst = end).datagram()
        };
        let no_client = to(if tunnel.vip6 { "2001:db8:f::20" } else { "10.1.1.1" });
        let mut late = inner.clone();
        late.truncate(inner.len() - 1);
        let mut damaged = inner.clone();
        damaged[0] = 0x35;
        let cases = [
            (tunnel.outer((stranger, from), 0, 1, &inner), UnknownTarget),
            (tunnel.outer((target, elsewhere), 0, 1, &inner), NotOurs),
            (other_tunnel.outer((target, from), 0, 1, &inner), UnknownTarget),
            (tunnel.answer(0, &from_vip(tunnel.port() ^ 1)), UnknownTarget),
            (tunnel.answer(0, &from_vip(9)), UnknownTarget),
            (tunnel.answer(0, &no_client), NotOurs),
            (tunnel.answer(0, &tunnel.down(SYN).datagram()), SynFromTarget),
            (tunnel.answer(0, &late), if tunnel.vip6 { Ipv6Malformed } else { Ipv4Malformed }),
            (tunnel.answer(0, &damaged), if tunnel.vip6 { Ipv6Malformed } else { Ipv4Malformed }),
        ];
        for (number, (datagram, reason)) in cases.iter().enumerate() {
            assert_eq!(world.dropped(LAN, datagram), *reason, "{number} {tunnel:?}");
        }
        assert_eq!(world.dropped(WAN, &tunnel.answer(0, &inner)), WrongSide);
        if tunnel.gue {
            let mut flagged = tunnel.answer(0, &inner);
            let at = tunnel.overhead() - 2;
            flagged[at] = 1;
            assert_eq!(world.dropped(LAN, &flagged), Protocol);
        }
    }
    for tunnel in all().filter(|tunnel| tunnel.is_direct) {
        let inner = tunnel.down(ACK).datagram();
        assert_eq!(world.dropped(LAN, &tunnel.answer(0, &inner)), UnknownTarget, "{tunnel:?}");
    }
}

#[test]
fn a_segment_that_does_not_fit_the_tunnel_is_reported_or_fragmented() {
    let mut world = world();
    for tunnel in all() {
        let headers = if tunnel.vip6 { 60 } else { 40 };
        let fits = 1500 - tunnel.overhead();
        let long = |len: usize| {
            tunnel.up(ACK).edit(|segment| segment.data = vec![9; len - headers]).datagram()
        };
        world.passed(WAN, &long(fits));
        let sent = world.datagram(WAN, &long(fits + 1));
        let [(WAN, frame)] = &sent[..] else { panic!("{tunnel:?} {:?}", world.out.said) };
        let kind =
            if tunnel.vip6 { ReplyKind::PacketTooBig } else { ReplyKind::FragmentationNeeded };
        assert!(world.out.said.contains(&Said::Sent(kind)), "{:?}", world.out.said);
        let message = if tunnel.vip6 { 14 + 40 } else { 14 + 20 };
        assert_eq!(usize::from(word(frame, message + 6)), fits, "{tunnel:?}");
        if tunnel.vip6 {
            continue;
        }
        let mut datagram = long(fits + 1);
        put_word(&mut datagram, 6, 0);
        repair(&mut datagram);
        let sent = world.datagram(WAN, &datagram);
        assert!(sent.len() == 2 && sent.iter().all(|(out, _)| *out == LAN), "{tunnel:?}");
    }
}
