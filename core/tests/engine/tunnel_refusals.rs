//! Every reason to refuse a segment to a tunnel, with all else being right, and its counter; and
//! the rate limits.

use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::*;

const A4: &str = "198.18.5.9:40001";
const B4: &str = "198.19.7.7:40002";
const A6: &str = "[2600:1::a]:40003";
const B6: &str = "[2600:2::b]:40004";

/// Two agents that know each other.
struct Pair {
    world: World,
    a: Agent,
    b: Agent,
}

impl Pair {
    fn new(a: &str, b: &str) -> Pair {
        let mut world = tunnel_world(1);
        let (a, b) = (Agent::connected(&mut world, 1, 1, a), Agent::connected(&mut world, 1, 2, b));
        Pair { world, a, b }
    }

    fn data(&self) -> Segment {
        self.a.data(&self.world, self.b.token(), 9, b"body")
    }

    /// That `segment` is refused for `reason`, and counted as that once, at the port and at the
    /// service, and as nothing else.
    fn refuses(&mut self, segment: &Segment, reason: DropReason) {
        let slot = self.world.snapshot.tunnel_at(segment.dst).map(|tunnel| tunnel.slot);
        let counts = |world: &World| -> Vec<_> {
            let counters = &world.counters;
            let of = |reason| {
                let service = slot.map_or(0, |slot| counters.service_drops(slot, reason));
                (counters.drops(WAN, reason), service)
            };
            DropReason::ALL.iter().map(|&reason| of(reason)).collect()
        };
        let mut want = counts(&self.world);
        assert_eq!(refused(&mut self.world, segment), reason);
        want[reason as usize].0 += 1;
        want[reason as usize].1 += u64::from(slot.is_some());
        assert_eq!(counts(&self.world), want, "{reason}");
        let forwarded = slot.map(|slot| self.world.counters.service(slot).down.packets.get());
        assert_eq!(forwarded.unwrap_or(0), 0);
    }
}

/// All pairs of families.
fn pairs() -> [Pair; 4] {
    [(A4, B4), (A4, B6), (A6, B4), (A6, B6)].map(|(a, b)| Pair::new(a, b))
}

/// Where the tokens are in a datagram's payload.
fn tokens_at(pair: &Pair) -> (usize, usize) {
    (12, 12 + pair.b.token().bytes.len())
}

#[test]
fn damage_ends_here() {
    for mut pair in pairs() {
        let mut datagram = pair.data().datagram();
        let last = datagram.len() - 1;
        datagram[last] ^= 1;
        assert_eq!(pair.world.dropped(WAN, &datagram), DropReason::TcpChecksum);
        let slot = pair.world.snapshot.tunnel_at(pair.a.vip).unwrap().slot;
        assert_eq!(pair.world.counters.service_drops(slot, DropReason::TcpChecksum), 1);
    }
}

#[test]
fn flags_and_messages_that_no_agent_sends() {
    for mut pair in pairs() {
        let data = pair.data();
        pair.refuses(&data.edit(|data| data.flags = SYN | ACK), DropReason::SynAckFromClient);
        let contradictory = data.edit(|data| data.flags = SYN | FIN);
        assert_eq!(refused(&mut pair.world, &contradictory), DropReason::TcpFlags);
        for flags in [RST, RST | ACK, FIN | ACK] {
            pair.refuses(&data.edit(|data| data.flags = flags), DropReason::TunnelMalformed);
        }
        for first in (0..=255).filter(|first| first >> 4 != 3) {
            let other = data.edit(|data| data.data[0] = first);
            pair.refuses(&other, DropReason::TunnelMalformed);
        }
        let (_, own) = tokens_at(&pair);
        let short = own + pair.a.token().bytes.len() - 1;
        pair.refuses(&data.edit(|data| data.data.truncate(short)), DropReason::TunnelMalformed);
        // Its end would pass OFFSET.
        let far = pair.a.data(&pair.world, pair.b.token(), 255, &[7; 99]);
        pair.refuses(&far, DropReason::TunnelMalformed);
    }
}

#[test]
fn bodies_beyond_the_mtu() {
    for mut pair in pairs() {
        let around = pair.data().datagram().len() - 4;
        let body = |len| vec![7; len];
        let data = |pair: &Pair, len| pair.a.data(&pair.world, pair.b.token(), 9, &body(len));
        let too_big = data(&pair, 1401 - around);
        pair.refuses(&too_big, DropReason::BodyTooBig);
        let fits = data(&pair, 1400 - around);
        sent_on(&mut pair.world, &fits);
    }
}

#[test]
fn the_senders_token() {
    for mut pair in pairs() {
        let data = pair.data();
        let (_, own) = tokens_at(&pair);
        // Any bit of it.
        for bit in (0..pair.a.token().bytes.len() * 8).step_by(7) {
            let forged = data.edit(|data| data.data[own + bit / 8] ^= 1 << (bit % 8));
            pair.refuses(&forged, DropReason::OwnToken);
        }
        pair.refuses(&data.edit(|data| data.data[0] ^= 1), DropReason::OwnTokenEpoch);
        let long = pair.a.data(&pair.world, pair.b.token(), 9, &[7; 40]);
        pair.refuses(&long.edit(|data| data.data[0] ^= 4), DropReason::TokenSource);
        // Stolen: right in all but where it comes from.
        let thief = data.edit(|data| data.src.set_port(data.src.port() + 1));
        pair.refuses(&thief, DropReason::TokenSource);
        let neighbour = match data.src.ip() {
            std::net::IpAddr::V4(ip) => (ip.to_bits() ^ 1, 0),
            std::net::IpAddr::V6(ip) => (0, ip.to_bits() ^ 1),
        };
        let thief = data.edit(|data| {
            let ip = match neighbour {
                (ip, 0) => std::net::Ipv4Addr::from_bits(ip).into(),
                (_, ip) => std::net::Ipv6Addr::from_bits(ip).into(),
            };
            data.src.set_ip(ip);
        });
        pair.refuses(&thief, DropReason::TokenSource);
    }
}

#[test]
fn numbers_of_another_tick() {
    for mut pair in pairs() {
        let data = pair.data();
        let ticks = |ticks: i32| STRIDE.wrapping_mul(ticks as u32);
        for late in [-4, 4, 100] {
            let other = data.edit(|data| data.seq = data.seq.wrapping_add(ticks(late)));
            pair.refuses(&other, DropReason::NotInSequence);
        }
        for late in [-13, 4, 100] {
            let other = data.edit(|data| data.ack = data.ack.wrapping_add(ticks(late)));
            pair.refuses(&other, DropReason::NotInSequence);
        }
        for off in [1, 64, 74, 102, u32::MAX, 1 << 31] {
            let seq = data.edit(|data| data.seq = data.seq.wrapping_add(off));
            pair.refuses(&seq, DropReason::NotInSequence);
            let ack = data.edit(|data| data.ack = data.ack.wrapping_add(off));
            pair.refuses(&ack, DropReason::NotInSequence);
        }
        // The offset is part of the number.
        pair.refuses(&data.edit(|data| data.data[1] += 1), DropReason::NotInSequence);
        for (seq, ack) in [(-3, -12), (3, 3), (0, 0)] {
            let edge = data.edit(|data| {
                data.seq = data.seq.wrapping_add(ticks(seq));
                data.ack = data.ack.wrapping_add(ticks(ack));
            });
            sent_on(&mut pair.world, &edge);
        }
    }
}

#[test]
fn the_destinations_token() {
    for mut pair in pairs() {
        let data = pair.data();
        let (to, _) = tokens_at(&pair);
        for bit in (0..pair.b.token().bytes.len() * 8).step_by(7) {
            let forged = data.edit(|data| data.data[to + bit / 8] ^= 1 << (bit % 8));
            pair.refuses(&forged, DropReason::DestinationToken);
        }
        pair.refuses(&data.edit(|data| data.data[0] ^= 2), DropReason::DestinationTokenEpoch);
        // Of the other tenant.
        let address = if pair.b.addr.is_ipv4() { "198.19.8.8:9" } else { "[2600:3::c]:9" };
        let other = Agent::connected(&mut pair.world, 2, 1, address);
        let to_other = pair.a.data(&pair.world, other.token(), 9, b"body");
        pair.refuses(&to_other, DropReason::OtherTenant);
    }
}

/// Data of an agent to a token that was made while its address was nobody's in particular.
#[test]
fn a_destination_that_can_be_no_agent() {
    let mut pair = Pair::new(A4, "198.51.100.77:9");
    let to = pair.data();
    pair.world = {
        let config = tunnel_config(1).setting("web", "targets", ["198.51.100.77:8443"]);
        let mut world = tunnel_world_of(&config, KEYS);
        world.now = pair.world.now;
        world
    };
    pair.refuses(&to, DropReason::DestinationNotAllowed);
    // Nor can it send.
    let from = pair.b.data(&pair.world, pair.a.token(), 0, b"body");
    pair.refuses(&from, DropReason::SourceNotAllowed);
}

#[test]
fn tokens_of_another_service_or_other_keys() {
    let mut pair = Pair::new(A4, B4);
    // Of the same tenant, at another tunnel.
    let mut elsewhere = pair.b.clone();
    elsewhere.vip = "203.0.113.21:443".parse().unwrap();
    elsewhere.connect(&mut pair.world);
    let data = pair.a.data(&pair.world, elsewhere.token(), 9, b"body");
    pair.refuses(&data, DropReason::DestinationToken);
    let mut moved = pair.a.clone();
    moved.vip = elsewhere.vip;
    moved.connect(&mut pair.world);
    let here = Agent { token: moved.token.clone(), ..pair.a.clone() };
    let data = here.data(&pair.world, pair.b.token(), 9, b"body");
    pair.refuses(&data, DropReason::OwnToken);
    // It has no IPv6 VIP.
    let six = Agent::connected(&mut pair.world, 1, 2, B6);
    let data = moved.data(&pair.world, six.token(), 9, b"body");
    pair.refuses(&data, DropReason::DestinationFamily);
    let keys = KEYS.replace("4041", "4140");
    let mut other = tunnel_world_of(&tunnel_config(1), &keys);
    assert_eq!(refused(&mut other, &pair.data()), DropReason::OwnToken);
    // Sequence secrets apart: tokens hold, numbers do not.
    let keys = KEYS.replace("2021", "2120");
    let mut other = tunnel_world_of(&tunnel_config(1), &keys);
    assert_eq!(refused(&mut other, &pair.data()), DropReason::NotInSequence);
}

#[test]
fn tenants_that_the_tunnel_no_longer_serves() {
    let mut pair = Pair::new(A4, B4);
    let (data, keepalive) = (pair.data(), pair.a.keepalive(&pair.world));
    let now = pair.world.now;
    pair.world = tunnel_world_of(&tunnel_config(1).setting("tun", "tenants", ["zorg"]), KEYS);
    pair.world.now = now;
    pair.refuses(&data, DropReason::UnknownTenant);
    pair.refuses(&keepalive, DropReason::UnknownAgent);
}

#[test]
fn epochs_that_are_over() {
    let epoch = |number: u8, secret: &str, from: &str| {
        let secret = secret.repeat(16);
        format!("[[token]]\nepoch = {number}\nsecret = \"{secret}\"\n{from}\n")
    };
    let (relay, _) = KEYS.split_once("token").unwrap();
    let first = epoch(6, "4041", "");
    let started = "not_before = 2026-11-17T18:06:44Z";
    let both = format!("{relay}{first}{}", epoch(7, "5051", started));
    let started = anyrelay_core::keys::parse_time("2026-11-17T18:06:44Z").unwrap().as_millis();
    for (a, b) in [(A4, B4), (A6, B6)] {
        let before = &format!("{relay}{first}");
        let at = |ms: i64| {
            let mut world = tunnel_world_of(&tunnel_config(1), &both);
            world.now.unix =
                anyrelay_core::time::UnixTime::from_millis(started.wrapping_add_signed(ms));
            world
        };
        let day = 24 * 3600 * 1000;
        let mut old = tunnel_world_of(&tunnel_config(1), before);
        old.now = at(-1).now;
        let a = Agent::connected(&mut old, 1, 1, a);
        let mut b = Agent::connected(&mut old, 1, 2, b);
        assert_eq!(b.token().epoch, 6);
        for ms in [-1, 0, day - 1] {
            let mut world = at(ms);
            let up = a.data(&world, b.token(), 1, b"body");
            sent_on(&mut world, &up);
        }
        let mut world = at(day);
        let up = a.data(&world, b.token(), 1, b"body");
        assert_eq!(refused(&mut world, &up), DropReason::OwnTokenEpoch);
        // A new token for the sender alone: the destination's is looked at then.
        let mut new = a.clone();
        new.connect(&mut world);
        assert_eq!(new.token().epoch, 7);
        let up = new.data(&world, b.token(), 1, b"body");
        assert_eq!(refused(&mut world, &up), DropReason::DestinationTokenEpoch);
        b.connect(&mut world);
        let up = new.data(&world, b.token(), 1, b"body");
        sent_on(&mut world, &up);
        // A POP that has yet to hear of the new epoch refuses it; one that has, takes it early.
        assert_eq!(refused(&mut old, &up), DropReason::OwnTokenEpoch);
        let mut early = at(-1);
        let up = new.data(&early, b.token(), 1, b"body");
        sent_on(&mut early, &up);
    }
}

#[test]
fn keepalives() {
    for addr in [A4, A6] {
        let mut pair = Pair::new(addr, B4);
        let request = pair.a.keepalive(&pair.world);
        let len = request.data.len();
        for edit in [
            |data: &mut Vec<u8>| data[0] |= 1,
            |data| data[1] = 2,
            |data| data[20] = 1,
            |data| data.push(0),
            |data| data.truncate(50),
        ] as [fn(&mut Vec<u8>); 5]
        {
            let malformed = request.edit(|request| edit(&mut request.data));
            pair.refuses(&malformed, DropReason::TunnelMalformed);
        }
        for off in [1, STRIDE - 1, 4 * STRIDE, 13u32.wrapping_neg().wrapping_mul(STRIDE)] {
            let other = request.edit(|request| request.ack = request.ack.wrapping_add(off));
            pair.refuses(&other, DropReason::KeepaliveAck);
        }
        for (at, value) in [(3, 9), (7, 9), (7, 3)] {
            let other = request.edit(|request| request.data[at] = value);
            pair.refuses(&other, DropReason::UnknownAgent);
        }
        // Another's number under one's own key; the nonce; the MAC.
        for at in [7, 8, 15, len - 16, len - 1] {
            let forged = request.edit(|request| request.data[at] ^= if at == 7 { 3 } else { 1 });
            pair.refuses(&forged, DropReason::KeepaliveMac);
        }
        // Which numbers it may ack: those of the handshake and of replies.
        for ticks in [-12, -1, 0, 3] {
            for more in [0, len as u32] {
                let fits = request.edit(|request| {
                    let ticks = STRIDE.wrapping_mul(ticks as u32);
                    request.ack = request.ack.wrapping_add(ticks).wrapping_add(more);
                });
                answer(&mut pair.world, &fits, ReplyKind::Keepalive);
            }
        }
    }
}

#[test]
fn who_may_not_come_at_all() {
    for mut pair in pairs() {
        for source in
            ["127.0.0.1:5", "10.0.0.1:5", "203.0.113.20:5", "198.51.100.10:5", "192.0.2.2:5"]
        {
            let syn = Segment::new(source.parse().unwrap(), VIP4.parse().unwrap(), SYN);
            pair.refuses(&syn, DropReason::SourceNotAllowed);
        }
        for source in
            ["[::1]:5", "[fd00::1]:5", "[fe80::9]:5", "[2001:db8:f::20]:5", "[2001:db8:1::2]:5"]
        {
            let syn = Segment::new(source.parse().unwrap(), VIP6.parse().unwrap(), SYN);
            pair.refuses(&syn, DropReason::SourceNotAllowed);
        }
        let syn = pair.a.syn(&pair.world).edit(|syn| syn.src.set_port(0));
        pair.refuses(&syn, DropReason::SourceNotAllowed);
        let elsewhere = pair.data().edit(|data| data.dst.set_port(444));
        pair.refuses(&elsewhere, DropReason::UnservedPort);
        // On a port for targets.
        let syn = pair.a.syn(&pair.world).datagram();
        assert_eq!(pair.world.dropped(LAN, &syn), DropReason::WrongSide);
    }
}

#[test]
fn hops_that_are_used_up() {
    for mut pair in pairs() {
        let last = pair.data().edit(|data| data.ttl = 1);
        let last = last.datagram();
        let sent = pair.world.datagram(WAN, &last);
        assert_eq!(pair.world.reason(), DropReason::TtlExceeded);
        // The agent is told.
        let [(WAN, frame)] = &sent[..] else { panic!("{sent:02x?}") };
        if pair.a.addr.is_ipv4() {
            let (kind, code, _, quote) = Seen::frame(frame).icmp();
            assert_eq!((kind, code, quote), (11, 0, last));
        } else {
            let seen = Seen6::frame(frame);
            assert_eq!((seen.src, seen.hop_limit), (WAN_IP6, 64));
            assert_eq!(std::net::SocketAddr::from((seen.dst.to_be_bytes(), 40003)), pair.a.addr);
            assert_eq!(seen.message, [&[3, 0, 0, 0, 0, 0, 0, 0], &last[..]].concat());
        }
        let data = pair.data().edit(|data| data.ttl = 2);
        assert_eq!(sent_on(&mut pair.world, &data).ttl, 1);
    }
}

#[test]
fn a_syn_where_nothing_listens_is_reset() {
    for mut pair in pairs() {
        let syn = pair.a.syn(&pair.world).edit(|syn| syn.dst.set_port(444));
        let rst = answer(&mut pair.world, &syn, ReplyKind::UnservedPort);
        assert_eq!((rst.seq, rst.ack, rst.flags), (0, syn.seq.wrapping_add(1), RST | ACK));
        let mut damaged = syn.datagram();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(pair.world.dropped(WAN, &damaged), DropReason::TcpChecksum);
    }
}

#[test]
fn syn_acks_are_bounded_for_each_network() {
    let config = tunnel_config(1).limit("syn_ack_per_second", 10);
    for (own, neighbour, other) in
        [(A4, "198.18.5.200:7", "198.18.6.9:7"), (A6, "[2600:1:0:ff::1]:7", "[2600:1:0:100::1]:7")]
    {
        let mut world = tunnel_world_of(&config, KEYS);
        let syn = |world: &World, addr| Agent::new(1, 1, addr).syn(world).datagram();
        let answered = |world: &mut World, addr, count| {
            let datagram = syn(world, addr);
            (0..count).filter(|_| !world.datagram(WAN, &datagram).is_empty()).count()
        };
        assert_eq!(answered(&mut world, own, 4) + answered(&mut world, neighbour, 96), 10);
        assert_eq!(world.reason(), DropReason::RateSynAck);
        assert_eq!(world.drops(WAN, DropReason::RateSynAck), 90);
        assert_eq!(answered(&mut world, other, 5), 5);
        world.later(500);
        assert_eq!(answered(&mut world, own, 100), 5);
        // Who is connected feels nothing of it.
        let agent = Agent::new(1, 1, own);
        let mut calm = tunnel_world(1);
        calm.now = world.now;
        let mut known = agent.clone();
        known.connect(&mut calm);
        let request = known.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
}

#[test]
fn wrong_macs_are_bounded_for_each_host() {
    let config = tunnel_config(1).limit("keepalive_mac_per_second", 10);
    let mut world = tunnel_world_of(&config, KEYS);
    let a = Agent::connected(&mut world, 1, 1, A4);
    let neighbour = Agent::connected(&mut world, 1, 2, "198.18.5.77:9");
    let b = Agent::connected(&mut world, 1, 2, B4);
    // Right ones are not counted.
    for _ in 0..50 {
        let request = a.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
    let forged = a.keepalive(&world).edit(|request| request.data[9] ^= 1);
    let reasons: Vec<_> = (0..15).map(|_| refused(&mut world, &forged)).collect();
    assert_eq!(reasons[..10], [DropReason::KeepaliveMac; 10]);
    assert_eq!(reasons[10..], [DropReason::RateKeepalive; 5]);
    let request = a.keepalive(&world);
    assert_eq!(refused(&mut world, &request), DropReason::RateKeepalive);
    // Neither a neighbour nor anybody else suffers for it.
    for other in [&neighbour, &b] {
        let request = other.keepalive(&world);
        answer(&mut world, &request, ReplyKind::Keepalive);
    }
    world.later(1000);
    let request = a.keepalive(&world);
    answer(&mut world, &request, ReplyKind::Keepalive);
    assert_eq!(world.verdict(), Verdict::Reply(ReplyKind::Keepalive));
}
