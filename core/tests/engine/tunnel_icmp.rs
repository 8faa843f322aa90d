//! ICMP errors about segments of tunnels: the agent whose datagram it was is told, and nobody by
//! forged ones. Datagrams too big for the way down.

use std::net::IpAddr;

use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};

use crate::*;

const A4: &str = "198.18.5.9:40001";
const B4: &str = "198.19.7.7:40002";
const A6: &str = "[2600:1::a]:40003";
const B6: &str = "[2600:2::b]:40004";

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

/// Each check alone: all else is right.
#[test]
fn forged_quotes_are_refused() {
    for mut pair in pairs() {
        let down = pair.down.clone();
        let tcp = if pair.b.addr.is_ipv4() { 20 } else { 40 };
        let mut forged = |edit: &mut dyn FnMut(&mut Vec<u8>), reason| {
            let mut quote = down.clone();
            edit(&mut quote);
            let error = pair.too_big(1350, &quote, 548);
            pair.refused(&error, reason);
        };
        use DropReason::{IcmpForged, IcmpQuote};
        // The sequence number, any bit of it; that the header's offset fits it; the lower half of
        // the ack number.
        for bit in 0..32 {
            forged(&mut |quote| quote[tcp + 4 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        for bit in 0..8 {
            forged(&mut |quote| quote[tcp + 21] ^= 1 << bit, IcmpForged);
        }
        for bit in 16..32 {
            forged(&mut |quote| quote[tcp + 8 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        // Whom it was sent to: the numbers are another agent's.
        forged(&mut |quote| quote[tcp + 3] ^= 1, IcmpForged);
        forged(&mut |quote| quote[tcp - 1] ^= 4, IcmpForged);
        // The token, any bit of it, and its epoch and family.
        let token_len = if pair.a.addr.is_ipv4() { 16 } else { 32 };
        let mut forged = |edit: &mut dyn FnMut(&mut Vec<u8>), reason| {
            let mut quote = down.clone();
            edit(&mut quote);
            let error = pair.too_big(1350, &quote, 548);
            pair.refused(&error, reason);
        };
        for bit in 0..token_len * 8 {
            forged(&mut |quote| quote[tcp + 32 + bit / 8] ^= 1 << (bit % 8), IcmpForged);
        }
        forged(&mut |quote| quote[tcp + 20] ^= 1, IcmpForged);
        forged(&mut |quote| quote[tcp + 20] ^= 4, IcmpForged);
        // Another message, or none that a POP sends.
        for kind in [0x10, 0x30, 0x50, 0xf0, 0x48, 0x42] {
            forged(&mut |quote| quote[tcp + 20] = kind, IcmpForged);
        }
        // Nobody is there, or not for an agent.
        forged(&mut |quote| quote[tcp + 2..tcp + 4].fill(0), IcmpQuote);
    }
}

/// An address that no agent has: nothing was ever sent there.
#[test]
fn quotes_to_those_who_can_not_be_agents_are_refused() {
    let mut pair = Pair::new(A4, B4);
    for to in [
        "203.0.113.20",
        "100.64.8.9",
        "198.51.100.10",
        "192.0.2.2",
        "10.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
    ] {
        let mut quote = pair.down.clone();
        quote[16..20].copy_from_slice(&ip(to).to_be_bytes());
        let error = pair.too_big(1350, &quote, 548);
        pair.refused(&error, DropReason::IcmpQuote);
    }
    let mut pair = Pair::new(A6, B6);
    for to in [
        "2001:db8:f::20",
        "2001:db8:1::2",
        "::1",
        "fe80::1",
        "ff02::1",
        "fc00::1",
        "::ffff:c612:509",
    ] {
        let mut quote = pair.down.clone();
        quote[24..40].copy_from_slice(&ip6(to).to_be_bytes());
        let error = pair.too_big(1350, &quote, 548);
        pair.refused(&error, DropReason::IcmpQuote);
    }
}

#[test]
fn short_quotes_are_refused() {
    for mut pair in pairs() {
        let tcp = if pair.b.addr.is_ipv4() { 20 } else { 40 };
        let token_len = if pair.a.addr.is_ipv4() { 16 } else { 32 };
        for len in 0..tcp + 32 + token_len {
            let error = pair.too_big(1350, &pair.down.clone(), len);
            assert_eq!(pair.world.dropped(WAN, &error), DropReason::IcmpQuote, "{len}");
        }
    }
}

#[test]
fn errors_about_a_pops_answers_end_here() {
    for (agent, tcp) in [(A4, 20), (A6, 40)] {
        let mut pair = Pair::new(agent, agent);
        for segment in [pair.b.syn(&pair.world), pair.b.keepalive(&pair.world)] {
            let sent = pair.world.datagram(WAN, &segment.datagram());
            let answer = sent[0].1[14..].to_vec();
            let error = pair.too_big(1350, &answer, 548);
            assert!(pair.world.datagram(WAN, &error).is_empty());
            assert_eq!(pair.world.verdict(), Verdict::Absorb(AbsorbKind::TunnelIcmp));
            // Whole strides are other ticks.
            for bit in (0..32).filter(|bit| !(20..24).contains(bit)) {
                let mut forged = answer.clone();
                forged[tcp + 4 + bit / 8] ^= 1 << (bit % 8);
                let error = pair.too_big(1350, &forged, 548);
                let sent = pair.world.datagram(WAN, &error);
                assert!(sent.is_empty());
                assert!(matches!(
                    pair.world.reason(),
                    DropReason::IcmpForged | DropReason::IcmpQuote
                ));
            }
        }
        assert_eq!(pair.world.counters.absorbed(AbsorbKind::TunnelIcmp), 2);
    }
}

#[test]
fn errors_that_are_wrong_themselves_are_refused() {
    for mut pair in pairs() {
        let error = pair.too_big(1350, &pair.down.clone(), 548);
        let v4 = pair.b.addr.is_ipv4();
        // Damaged.
        let mut damaged = error.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(pair.world.dropped(WAN, &damaged), DropReason::IcmpChecksum);
        // At its last hop: no error is sent about an error.
        let mut last_hop = error.clone();
        match v4 {
            true => {
                last_hop[8] = 1;
                repair_header(&mut last_hop);
            }
            false => last_hop[7] = 1,
        }
        pair.refused(&last_hop, DropReason::TtlExceeded);
        // On the wrong side, from nobody, or to another VIP than the quote's.
        let frame = pair.world.framed(LAN, &error);
        assert_eq!(pair.world.dropped_bytes(LAN, &frame), DropReason::WrongSide);
        let quote = pair.down.clone();
        let source: &[&str] = if v4 {
            &["203.0.113.20", "192.0.2.2", "0.0.0.0", "224.0.0.9", "127.0.0.1"]
        } else {
            &["2001:db8:f::20", "2001:db8:1::2", "::", "ff02::9", "::1"]
        };
        for src in source {
            let message = match v4 {
                true => {
                    let message = icmp(3, 4, [0, 0, 5, 0x46], &quote);
                    Ipv4Header { protocol: 1, ..Ipv4Header::new(ip(src), ip("203.0.113.20")) }
                        .with(&message)
                }
                false => {
                    let message = [&[2, 0, 0, 0, 0, 0, 5, 0x46][..], &quote].concat();
                    Ipv6Header { next: 58, ..Ipv6Header::new(ip6(src), ip6("2001:db8:f::20")) }
                        .with(&message)
                }
            };
            assert_eq!(pair.world.dropped(WAN, &message), DropReason::SourceNotAllowed, "{src}");
        }
        if v4 {
            let message = icmp(3, 4, [0, 0, 5, 0x46], &quote);
            let other = Ipv4Header { protocol: 1, ..Ipv4Header::new(ROUTER4, ip("203.0.113.21")) }
                .with(&message);
            assert_eq!(pair.world.dropped(WAN, &other), DropReason::IcmpQuote);
        }
    }
}

/// Revoked tenants get nothing, and agents that are none any more.
#[test]
fn only_agents_of_the_tunnel_are_told() {
    for (a, b) in [(A4, B4), (A6, B6)] {
        let mut pair = Pair::new(a, b);
        let error = pair.too_big(1350, &pair.down.clone(), 548);
        let config = tunnel_config(1).setting("tun", "tenants", ["zorg"]);
        pair.world.snapshot = tunnel_world_of(&config, KEYS).snapshot.clone();
        pair.refused(&error, DropReason::UnknownTenant);
        // The sender's address has become a target's.
        if a == A4 {
            let config = tunnel_config(1).setting("web", "targets", ["198.18.5.9:8443"]);
            pair.world.snapshot = tunnel_world_of(&config, KEYS).snapshot.clone();
            pair.refused(&error, DropReason::DestinationNotAllowed);
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
                assert_eq!((seen.src, seen.dst), (ip("192.0.2.2"), addr.ip().to_bits()));
                let (kind, code, word, quote) = seen.icmp();
                assert_eq!((kind, code, word), (3, 4, u32::from(1300 + longer_by)));
                assert_eq!(quote, up[..548]);
            }
            std::net::SocketAddr::V6(addr) => {
                assert_eq!(pair.world.counters.replies(ReplyKind::PacketTooBig), 1);
                let datagram = &frame[14..];
                assert_eq!((datagram.len(), datagram[6]), (1280, 58));
                assert_eq!(&datagram[24..40], &addr.ip().octets()[..]);
                let message = &datagram[40..];
                assert_eq!(
                    upper_checksum(&WAN_IP6.to_be_bytes(), &addr.ip().octets(), 58, message),
                    0
                );
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

/// An error to a VIP that has no tunnel, about a port where none is.
#[test]
fn quotes_of_no_service_are_refused() {
    let mut pair = Pair::new(A6, B6);
    let mut quote = pair.down.clone();
    quote[41] ^= 1;
    let error = pair.too_big(1350, &quote, 548);
    assert_eq!(pair.world.dropped(WAN, &error), DropReason::IcmpQuote);
    // Extension headers in the quote: POPs send none.
    let mut quote = pair.down.clone();
    quote[6] = 60;
    let error = pair.too_big(1350, &quote, 548);
    pair.refused(&error, DropReason::IcmpQuote);
}
