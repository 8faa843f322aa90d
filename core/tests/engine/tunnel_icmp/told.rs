//! Errors that reach the agent whose datagram they quote.

use super::*;

#[test]
fn the_sender_learns_what_the_way_to_the_other_takes() {
    for mut pair in pairs() {
        let longer_by = longer_by(&pair);
        assert!([16, 12, 36, 32].contains(&longer_by));
        let up = pair.a.data(&pair.world, pair.b.token(), 9, &[7; 300]);
        // As much as Linux quotes, and as little as will do.
        let ip_len = if pair.b.addr.is_ipv4() { 20 } else { 40 };
        let token_len = if pair.a.addr.is_ipv4() { 16 } else { 32 };
        for len in [548, 1232, ip_len + 20 + 12 + token_len] {
            let error = pair.too_big(1350, &pair.down.clone(), len);
            let told = pair.told(&error);
            let kind = if pair.a.addr.is_ipv4() { (3, 4) } else { (2, 0) };
            assert_eq!((told.kind, told.code, told.ttl), (kind.0, kind.1, 56));
            // A datagram of that length becomes one of 1350 bytes.
            assert_eq!(told.mtu, 1350 + longer_by);
            assert_eq!(usize::from(told.total_len), up.datagram().len());
            assert_eq!(told.seq, up.seq);
            // Acks of data are some ticks behind.
            let behind = up.ack.wrapping_sub(told.ack);
            assert_eq!((behind % STRIDE, behind / STRIDE), (0, 4));
        }
    }
}

#[test]
fn a_lie_about_the_mtu_goes_no_lower_than_the_floor() {
    for mut pair in pairs() {
        let longer_by = longer_by(&pair);
        let v6 = pair.b.addr.is_ipv6();
        for mtu in [0, 68, 551, 552, 1279, 1280, 1281, 1499, 65535] {
            let error = pair.too_big(mtu, &pair.down.clone(), 548);
            let floor = if v6 { 1280 } else { 552 };
            let mut want = mtu.max(floor).saturating_add(longer_by);
            if pair.a.addr.is_ipv6() {
                want = want.max(1280);
            }
            assert_eq!(pair.told(&error).mtu, want, "{mtu}");
        }
    }
}

#[test]
fn the_sender_learns_that_the_other_is_not_reached() {
    for mut pair in pairs() {
        let (from4, to4) = (pair.b.addr.is_ipv4(), pair.a.addr.is_ipv4());
        // Of what is the same over IPv4 and IPv6.
        let same = [
            ((3, 1), (1, 3)),
            ((3, 3), (1, 4)),
            ((3, 13), (1, 1)),
            ((11, 0), (3, 0)),
            ((11, 1), (3, 1)),
        ];
        for (four, six) in same {
            let (from, to) = (if from4 { four } else { six }, if to4 { four } else { six });
            let error = pair.error_about(from, 0, &pair.down.clone(), 548);
            let told = pair.told(&error);
            assert_eq!(((told.kind, told.code), told.mtu), (to, 0));
        }
        // The rest is told as "not reached".
        for code in if from4 { [0, 5, 11, 255] } else { [0, 2, 7, 255] } {
            let error =
                pair.error_about((if from4 { 3 } else { 1 }, code), 0, &pair.down.clone(), 548);
            let told = pair.told(&error);
            assert_eq!((told.kind, told.code), if to4 { (3, 1) } else { (1, 3) });
        }
        // Nothing that the agent could do about its own segment.
        let problem = if from4 { (12, 0) } else { (4, 0) };
        let error = pair.error_about(problem, 0, &pair.down.clone(), 548);
        pair.refused(&error, DropReason::IcmpType);
    }
}

/// The tick in which the datagram went down may be some ticks ago, or of a clock that is ahead.
#[test]
fn errors_of_these_ticks_are_taken_and_no_others() {
    for ticks in -14i64..=5 {
        for pair in &mut pairs() {
            let error = pair.too_big(1350, &pair.down.clone(), 548);
            let seq = pair.a.data(&pair.world, pair.b.token(), 9, b"").seq;
            let ms = pair.world.now.unix.as_millis();
            pair.world.now = anyrelay_core::time::Now {
                unix: anyrelay_core::time::UnixTime::from_millis(
                    ms.wrapping_add_signed(-ticks * 8000),
                ),
                ..pair.world.now
            };
            if (-12..=3).contains(&ticks) {
                assert_eq!(pair.told(&error).seq, seq, "{ticks}");
            } else {
                pair.refused(&error, DropReason::IcmpForged);
            }
        }
    }
}

#[test]
fn one_network_is_told_so_often() {
    for (a, b) in [(A4, B4), (A6, B6)] {
        let config = tunnel_config(1).limit("icmp_forward_per_second", 10);
        let mut pair = Pair::of(&config, a, b);
        let error = pair.too_big(1350, &pair.down.clone(), 548);
        for _ in 0..10 {
            pair.told(&error);
        }
        pair.refused(&error, DropReason::RateIcmp);
        // Forged ones use up nothing.
        pair.world.later(1000);
        let mut forged = pair.down.clone();
        forged[if a == A4 { 27 } else { 47 }] ^= 1;
        let forged = pair.too_big(1350, &forged, 548);
        for _ in 0..100 {
            pair.refused(&forged, DropReason::IcmpForged);
        }
        for _ in 0..10 {
            pair.told(&error);
        }
        // Others have their own, also where the trouble is the same one's.
        let other = Agent::connected(
            &mut pair.world,
            1,
            1,
            if a == A4 { "198.18.6.9:1" } else { "[2600:3::a]:1" },
        );
        let up = other.data(&pair.world, pair.b.token(), 9, &[7; 300]);
        let sent = pair.world.datagram(WAN, &up.datagram());
        let error = pair.too_big(1350, &sent[0].1[14..], 548);
        pair.a = other;
        pair.told(&error);
    }
}

#[test]
fn what_does_not_fit_on_the_way_down_is_told() {
    for (a, b) in [(A4, B4), (A4, B6), (A6, B4), (A6, B6)] {
        // `check` lets no tunnel have an MTU that a port does not take; here it does not look.
        let narrow = |config: &PopConfig| {
            let mut config = config.parse();
            config.ports[0].mtu = 1300;
            tunnel_world_with(&config, KEYS)
        };
        let mut pair = Pair::in_world(narrow(&tunnel_config(1)), a, b);
        let longer_by = longer_by(&pair);
        let around = pair.a.data(&pair.world, pair.b.token(), 0, b"").datagram().len();
        let body = |len: usize| vec![7; len];
        let most = usize::from(1300 + longer_by) - around;
        let fits = pair.a.data(&pair.world, pair.b.token(), 0, &body(most));
        sent_on(&mut pair.world, &fits);
        let up = pair.a.data(&pair.world, pair.b.token(), 0, &body(most + 1)).datagram();
        let sent = pair.world.datagram(WAN, &up);
        let [(WAN, frame)] = &sent[..] else { panic!("{:?}", pair.world.out.said) };
        assert_eq!(pair.world.reason(), DropReason::TooBig);
        match pair.a.addr {
            std::net::SocketAddr::V4(addr) => {
                assert_eq!(pair.world.counters.replies(ReplyKind::FragmentationNeeded), 1);
                let seen = Seen::frame(frame);
                let addresses = (std::net::Ipv4Addr::from_bits(seen.src), seen.dst);
                let vip: std::net::SocketAddrV4 = VIP4.parse().unwrap();
                assert_eq!(addresses, (*vip.ip(), addr.ip().to_bits()));
                let (kind, code, word, quote) = seen.icmp();
                assert_eq!((kind, code, word), (3, 4, u32::from(1300 + longer_by)));
                assert_eq!(quote, up[..548]);
            }
            std::net::SocketAddr::V6(addr) => {
                assert_eq!(pair.world.counters.replies(ReplyKind::PacketTooBig), 1);
                let datagram = &frame[14..];
                assert_eq!((datagram.len(), datagram[6]), (1280, 58));
                let vip: std::net::SocketAddrV6 = VIP6.parse().unwrap();
                assert_eq!(datagram[8..24], vip.ip().octets());
                assert_eq!(&datagram[24..40], &addr.ip().octets()[..]);
                let message = &datagram[40..];
                assert_eq!(upper_checksum(&datagram[8..24], &addr.ip().octets(), 58, message), 0);
                assert_eq!((message[0], message[1]), (2, 0));
                assert_eq!(validator::long(message, 4), u32::from(1300 + longer_by));
                assert_eq!(message[8..], up[..1232]);
            }
        }
        // Within the limit of errors of its own.
        let none = tunnel_config(1).limit("icmp_per_second", 0);
        pair.world.snapshot = narrow(&none).snapshot.clone();
        assert!(pair.world.datagram(WAN, &up).is_empty());
        assert_eq!(pair.world.reason(), DropReason::TooBig);
        let kinds = [ReplyKind::FragmentationNeeded, ReplyKind::PacketTooBig];
        let withheld = kinds.map(|kind| pair.world.counters.withheld(kind));
        assert_eq!(withheld.iter().sum::<u64>(), 1, "{withheld:?}");
    }
}
