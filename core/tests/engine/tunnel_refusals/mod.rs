//! Every reason to refuse a segment to a tunnel, with all else being right, and its counter; and
//! the rate limits.

mod limits;
mod tokens;

use anyrelay_core::verdict::{DropReason, ReplyKind, Verdict};

use crate::*;

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
        for off in [1, 64, 90, 118, u32::MAX, 1 << 31] {
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
fn keepalives() {
    for addr in [A4, A6] {
        let mut pair = Pair::new(addr, B4);
        let request = pair.a.keepalive(&pair.world);
        let len = request.data.len();
        for edit in [
            |data: &mut Vec<u8>| data[0] |= 1,
            |data| data[1] = 1,
            |data| data[45] = 1,
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
        // Another's number under one's own key; the nonce; what is named; the MAC.
        for at in [7, 8, 15, 16, 23, 24, 29, len - 16, len - 1] {
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
            let vip: std::net::SocketAddrV6 = VIP6.parse().unwrap();
            assert_eq!((seen.src, seen.hop_limit), (vip.ip().to_bits(), 64));
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
