//! Egress by `ipip` and `gue`: what leaves for targets, and what comes back from them.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::verdict::{DropReason, ReplyKind};
use anyrelay_kit::config::{Egress, relay};

use crate::*;

/// A service of each kind: families of the VIP and of the tunnel, and its protocol.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    number: u16,
    vip6: bool,
    outer6: bool,
    gue: bool,
    is_direct: bool,
}

fn all() -> impl Iterator<Item = Tunnel> {
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
    fn port(&self) -> u16 {
        443 + self.number
    }

    fn vip(&self) -> SocketAddr {
        socket(if self.vip6 { "2001:db8:f::20" } else { "203.0.113.20" }, self.port())
    }

    fn client(&self) -> SocketAddr {
        socket(if self.vip6 { "2600::5" } else { "198.18.5.9" }, 40_001)
    }

    fn target(&self) -> IpAddr {
        let text = if self.outer6 { "2001:db8:5::60" } else { "198.51.100.60" };
        text.parse().unwrap()
    }

    fn from(&self) -> IpAddr {
        let last = 1 + u8::from(self.gue) + 2 * u8::from(self.is_direct);
        let net = if self.outer6 { "2001:db8:20::" } else { "100.64.20." };
        format!("{net}{last}").parse().unwrap()
    }

    fn overhead(&self) -> usize {
        (if self.outer6 { 40 } else { 20 }) + if self.gue { 12 } else { 0 }
    }

    fn relay(&self) -> anyrelay_kit::config::Table {
        let from = self.from().to_string();
        let egress = if self.gue { Egress::Gue(&from) } else { Egress::Ipip(&from) };
        let target = SocketAddr::new(self.target(), self.port());
        let (name, way) = (format!("t{}", self.number), ["through", "direct"]);
        let relay = relay(&name, self.vip(), &[target], egress);
        relay.with("return", way[usize::from(self.is_direct)])
    }

    /// `inner` in the tunnel, with DSCP and ECN `class`. The POP spreads flows by ports of its own.
    fn outer(&self, ends: (IpAddr, IpAddr), class: u8, port: u16, inner: &[u8]) -> Vec<u8> {
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
    fn answer(&self, class: u8, inner: &[u8]) -> Vec<u8> {
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

#[test]
fn errors_about_the_tunnel_reach_the_client_about_its_own_datagram() {
    let mut world = world();
    for tunnel in all() {
        let data = tunnel.up(ACK).edit(|segment| segment.data = vec![7; 600]);
        let (_, frame) = world.passed(WAN, &data.datagram());
        let left = frame[14..].to_vec();
        let router: IpAddr =
            if tunnel.outer6 { "2001:db8:9::1" } else { "192.0.2.99" }.parse().unwrap();
        let mtu = 1300_u16;
        let error = |kind: u8, code: u8, mtu: u16, quote: &[u8]| {
            let [a, b] = mtu.to_be_bytes();
            match (router, tunnel.from()) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
                    Ipv4Header { protocol: ICMP, ..header }.with(&icmp(
                        kind,
                        code,
                        [0, 0, a, b],
                        quote,
                    ))
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => Ipv6Header::icmp(
                    src.to_bits(),
                    dst.to_bits(),
                )
                .with(&icmp6(kind, code, [0, 0, a, b], quote)),
                _ => panic!("two families"),
            }
        };
        let (too_big, host) = if tunnel.outer6 { ((2, 0), (1, 3)) } else { ((3, 4), (3, 1)) };
        let at = if tunnel.vip6 { 14 + 40 } else { 14 + 20 };
        for ((kind, code), is_too_big) in [(too_big, true), (host, false)] {
            let quote = &left[..left.len().min(500)];
            let announced = if is_too_big { mtu } else { 0 };
            let (out, frame) = world.passed(LAN, &error(kind, code, announced, quote));
            assert_eq!(out, WAN);
            let wanted = match (tunnel.vip6, is_too_big) {
                (true, true) => (2, 0),
                (true, false) => (1, 3),
                (false, true) => (3, 4),
                (false, false) => (3, 1),
            };
            assert_eq!((frame[at], frame[at + 1]), wanted, "{tunnel:?}");
            let (src, dst) = addresses(&frame[14..]).unwrap();
            assert_eq!((src, dst), (tunnel.vip().ip(), tunnel.client().ip()));
            if is_too_big {
                // IPv6 has no smaller MTU than 1280.
                let inside = mtu - tunnel.overhead() as u16;
                let wanted = if tunnel.vip6 { inside.max(1280) } else { inside };
                assert_eq!(word(&frame, at + 6), wanted, "{tunnel:?}");
            }
            let quoted = &frame[at + 8..];
            let inner = hop(&data);
            assert_eq!(quoted, &inner[..quoted.len()], "{tunnel:?}");
            assert!(quoted.len() >= 60);
        }
        // Of a datagram that no POP sent, and one that shows too little.
        let mut foreign = left.clone();
        let port = tunnel.overhead() + if tunnel.vip6 { 40 } else { 20 } + 2;
        put_word(&mut foreign, port, 9);
        for quote in [&foreign[..], &left[..tunnel.overhead() + 8]] {
            let reason = world.dropped(LAN, &error(too_big.0, too_big.1, mtu, quote));
            assert_eq!(reason, DropReason::IcmpQuote, "{tunnel:?}");
        }
    }
}

#[test]
fn what_concerns_a_target_reaches_it_in_the_tunnel() {
    let mut world = world();
    for tunnel in all() {
        let sent = tunnel.down(ACK).edit(|segment| segment.data = vec![7; 600]);
        let quote = &sent.datagram()[..120];
        let error = match (tunnel.client().ip(), tunnel.vip().ip()) {
            (IpAddr::V4(_), IpAddr::V4(vip)) => {
                let header = Ipv4Header::new(ip("198.18.9.9"), vip.to_bits());
                Ipv4Header { protocol: ICMP, ..header }.with(&icmp(3, 4, [0, 0, 5, 0x14], quote))
            }
            (IpAddr::V6(_), IpAddr::V6(vip)) => Ipv6Header::icmp(ip6("2600::9"), vip.to_bits())
                .with(&icmp6(2, 0, [0, 0, 5, 0x14], quote)),
            _ => panic!("two families"),
        };
        let (out, frame) = world.passed(WAN, &error);
        assert_eq!(out, LAN);
        let inner = &frame[14 + tunnel.overhead()..];
        let (src, dst) = addresses(inner).unwrap();
        assert_eq!((src, dst), (tunnel.client().ip(), tunnel.vip().ip()), "{tunnel:?}");
        let at = if tunnel.vip6 { 40 } else { 20 };
        assert_eq!(&inner[at + 8..][..40], &quote[..40], "{tunnel:?}");
        let (src, dst) = addresses(&frame[14..]).unwrap();
        assert_eq!((src, dst), (tunnel.from(), tunnel.target()));

        if tunnel.is_direct {
            continue;
        }
        let dying = sent.edit(|segment| segment.ttl = 1).datagram();
        let frames = world.datagram(LAN, &tunnel.answer(0, &dying));
        let [(LAN, frame)] = &frames[..] else { panic!("{tunnel:?} {:?}", world.out.said) };
        assert_eq!(world.reason(), DropReason::TtlExceeded);
        let (src, dst) = addresses(&frame[14..]).unwrap();
        assert_eq!((src, dst), (tunnel.from(), tunnel.target()), "{tunnel:?}");
        let (_, dst) = addresses(&frame[14 + tunnel.overhead()..]).unwrap();
        assert_eq!(dst, tunnel.vip().ip());
    }
}
