//! ICMP errors about what is in tunnels, and about the tunnels.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::verdict::DropReason;

use super::*;

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
fn errors_of_a_target_itself_leave_the_tunnel() {
    let mut world = world();
    for tunnel in through() {
        let data = tunnel.up(ACK).edit(|segment| segment.data = vec![7; 100]);
        let quote = &hop(&data)[..80];
        let error = |(kind, code): (u8, u8), ttl: u8, quote: &[u8]| match (
            tunnel.vip().ip(),
            tunnel.client().ip(),
        ) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
                let message = icmp(kind, code, [0; 4], quote);
                Ipv4Header { protocol: ICMP, ttl, ..header }.with(&message)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header::icmp(src.to_bits(), dst.to_bits());
                Ipv6Header { hop_limit: ttl, ..header }.with(&icmp6(kind, code, [0; 4], quote))
            }
            _ => panic!("two families"),
        };
        // Prohibited by a firewall at the target.
        let (prohibited, echo) = if tunnel.vip6 { ((1, 1), (129, 0)) } else { ((3, 13), (0, 0)) };
        let sent = error(prohibited, 64, quote);
        let (out, frame) = world.passed(LAN, &tunnel.answer(0, &sent));
        assert_eq!((out, &frame[14..]), (WAN, &error(prohibited, 63, quote)[..]), "{tunnel:?}");
        let echoed = tunnel.answer(0, &error(echo, 64, quote));
        assert_eq!(world.dropped(LAN, &echoed), DropReason::IcmpType, "{tunnel:?}");
        // About another's datagram, and about nobody's.
        let other = data.edit(|segment| segment.dst = SocketAddr::new(segment.dst.ip(), 9));
        let about = tunnel.answer(0, &error(prohibited, 64, &hop(&other)[..80]));
        assert_eq!(world.dropped(LAN, &about), DropReason::UnknownTarget, "{tunnel:?}");
        let shown = if tunnel.vip6 { 47 } else { 27 };
        let about = tunnel.answer(0, &error(prohibited, 64, &quote[..shown]));
        assert_eq!(world.dropped(LAN, &about), DropReason::IcmpQuote, "{tunnel:?}");
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
