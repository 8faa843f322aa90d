//! Who may be a client or an agent, in every mode and wherever an address can enter: as the source
//! of a segment, decoded from what a target sends, in a token, or quoted in an ICMP error. Nothing
//! is sent because of an address that nobody outside can have; above all nothing to the POP itself,
//! to a VIP or to a target.
//!
//! Every way is taken by a good address too, which something is sent for: else it would show
//! nothing.

mod refused;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::net::Family;
use anyrelay_core::net::PortIndex;
use anyrelay_kit::config::PopConfig;

use crate::*;

/// No unicast, or the POP's own, its VIPs', its targets', its pools', or its links'.
const BAD4: [&str; 23] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "203.0.113.10",
    "203.0.113.12",
    "203.0.113.14",
    "203.0.113.20",
    "203.0.113.21",
    "100.64.8.0",
    "100.64.8.255",
    "198.51.100.10",
    "198.51.100.21",
    "198.51.100.40",
    "198.51.100.41",
    "192.0.2.2",
    "192.0.2.0",
    "192.0.2.255",
    "10.1.0.2",
    "172.16.0.1",
];

const BAD6: [&str; 33] = [
    "::",
    "::1",
    "::c612:509",
    "::ffff:198.18.5.9",
    "100::1",
    "fe80::5",
    "fe80::a",
    "fec0::1",
    "ff02::1",
    "fc00::1",
    "2001:db8:f::20",
    "2001:db8:1::2",
    "2001:db8:1::",
    "2001:db8:2::2",
    "2001:db8:2::",
    "2001:db8:f::10",
    "2001:db8:5::1",
    "2001:db8:5::21",
    "2001:db8:5::40",
    "2001:db8:5::41",
    "2001:db8:64::",
    "2001:db8:64::c612:509:0:1",
    // NAT64 and 6to4 of IPv4 addresses that nobody outside has.
    "64:ff9b::10.1.0.2",
    "64:ff9b::127.0.0.1",
    "64:ff9b::203.0.113.10",
    "64:ff9b::198.51.100.10",
    "64:ff9b::100.64.8.5",
    "64:ff9b::192.0.2.255",
    "2002:7f00:1::1",
    "2002:c0a8:101::5",
    "2002:cb00:710a::",
    "2002:c633:640a:ffff::1",
    "2002:a01:2:3:4:5:6:7",
];

const GOOD4: [&str; 2] = ["198.18.5.9", "9.9.9.9"];
const GOOD6: [&str; 4] = ["2600:1::a", "2001:4860::1", "64:ff9b::9.9.9.9", "2002:909:909::1"];

const PORT: u16 = 4000;
const ROUTER4: u32 = 0x0909_0909;
const ROUTER6: u128 = 0x2600_0009 << 96 | 9;

fn world() -> World {
    world_of(|config| config)
}

/// A world whose `[pop]` has been edited.
fn world_of(edit: impl FnOnce(PopConfig) -> PopConfig) -> World {
    let addresses = ["192.0.2.2/24", "2001:db8:1::2/64", "fe80::a/64"];
    let config = edit(relay6_config().setting("wan", "addresses", addresses));
    tunnel_world_of(&with_tunnels(config), KEYS)
}

type Way = (&'static str, PortIndex, Vec<u8>);

/// Every way for the IPv4 address `client` to come in.
fn ways4(world: &mut World, client: u32) -> Vec<Way> {
    let at = (client, PORT);
    let mut ways: Vec<Way> = Vec::new();
    // The source of a segment.
    let services = [
        ("pool", WEB),
        ("several targets", MANY),
        ("transparent", RAW),
        ("prefix", WEB6),
        ("prefix, several targets", MANY6),
    ];
    for (name, vip) in services {
        for flags in [SYN, ACK, RST, FIN | ACK] {
            ways.push((name, WAN, Tcp::new(at, vip, flags).datagram()));
            ways.push((name, WAN, Tcp::new(at, vip, flags).stamped(7, 0).datagram()));
        }
        let last_hop = Tcp::new(at, vip, ACK).edit(|segment| segment.ip.ttl = 1);
        ways.push(("own error", WAN, last_hop.datagram()));
    }
    ways.push(("RST", WAN, Tcp::new(at, (WEB.0, 9), SYN).datagram()));
    ways.push(("SYN-ACK", WAN, Tcp::new(at, (ip("203.0.113.20"), 443), SYN).datagram()));
    // Decoded from what a target sends.
    let (address, port, tag) = world.egress("web", at);
    for (flags, echo) in [(ACK, tag), (SYN | ACK, tag), (SYN | ACK, tag - 1)] {
        let segment = Tcp::new(WEB_TARGET, (address, port), flags).stamped(1, echo);
        ways.push(("decoded", LAN, segment.datagram()));
    }
    // Where a transparent target sends to.
    for target in RAW_TARGETS {
        for flags in [SYN | ACK, ACK] {
            ways.push(("transparent down", LAN, Tcp::new(target, at, flags).datagram()));
        }
    }
    // A RST passes of its own target alone.
    let rst = Tcp::new(world.target("raw", at), at, RST);
    ways.push(("transparent down", LAN, rst.datagram()));
    // Quoted by errors from the target's side.
    for echo in [0, 7] {
        let up = Tcp::new((address, port), WEB_TARGET, ACK).stamped(tag, echo).datagram();
        ways.push(("quoted by egress", LAN, frag_needed(ROUTER4, address, 1400, &up, 548)));
    }
    let up = Tcp::new(at, world.target("raw", at), ACK).datagram();
    ways.push(("quoted as a source", LAN, frag_needed(ROUTER4, client, 1400, &up, 548)));
    // And from the client's.
    for vip in [WEB, MANY, RAW, WEB6, MANY6] {
        for options in [timestamps(1, 0), Vec::new()] {
            let down = Tcp::new(vip, at, ACK).options(&options).datagram();
            for quoted in [548, 28] {
                let error = frag_needed(ROUTER4, vip.0, 1400, &down, quoted);
                ways.push(("quoted as a destination", WAN, error));
            }
        }
    }
    ways.extend(prefix_ways(world, at));
    ways.extend(tunnel_ways(world, SocketAddr::new(Ipv4Addr::from_bits(client).into(), PORT)));
    ways
}

/// The ways for an IPv4 address to come in from IPv6 targets, in the addresses of a prefix.
fn prefix_ways(world: &World, at: (u32, u16)) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for service in ["web6", "many6"] {
        let (egress, target) = (world.egress6(service, at), world.target4(service, at));
        for flags in [SYN | ACK, ACK, RST, FIN | ACK] {
            let down = over6(target, egress, &plain(flags));
            ways.push(("decoded from a prefix", LAN, down));
        }
        let up = over6(egress, target, &plain(ACK));
        ways.push(("quoted by a prefix's address", LAN, too_big(egress.0, &up)));
        ways.push(("quoted shortly", LAN, too_big(egress.0, &up[..48])));
    }
    ways
}

/// Every way for the IPv6 address `client` to come in.
fn ways6(world: &mut World, client: u128) -> Vec<Way> {
    let at = (client, PORT);
    let mut ways: Vec<Way> = Vec::new();
    for flags in [SYN, ACK, RST, FIN | ACK] {
        let up = over6(at, RAW6, &plain(flags));
        ways.push(("transparent over IPv6", WAN, up.clone()));
        // Behind destination options.
        let segment = segment6(at, RAW6, &plain(flags));
        let padding = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
        let ip = Ipv6Header { next: 60, ..Ipv6Header::new(client, RAW6.0) };
        ways.push(("behind an extension header", WAN, ip.with(&padding)));
    }
    let mut last_hop = over6(at, RAW6, &plain(ACK));
    last_hop[7] = 1;
    ways.push(("own error", WAN, last_hop));
    ways.push(("RST", WAN, over6(at, (RAW6.0, 9), &plain(SYN))));
    for target in RAW6_TARGETS {
        for flags in [SYN | ACK, ACK] {
            ways.push(("transparent down", LAN, over6(target, at, &plain(flags))));
        }
    }
    let rst = over6(world.target6("raw6", at), at, &plain(RST));
    ways.push(("transparent down", LAN, rst));
    let up = over6(at, world.target6("raw6", at), &plain(ACK));
    ways.push(("quoted as a source", LAN, too_big(client, &up)));
    let down = over6(RAW6, at, &plain(ACK));
    for quoted in [down.len(), 48] {
        ways.push(("quoted as a destination", WAN, too_big(RAW6.0, &down[..quoted])));
    }
    ways.extend(tunnel_ways(world, SocketAddr::new(Ipv6Addr::from_bits(client).into(), PORT)));
    ways
}

/// A packet-too-big from a router, to `to`.
fn too_big(to: u128, quoted: &[u8]) -> Vec<u8> {
    let message = [&[2, 0, 0, 0, 0, 0, 5, 0x46][..], quoted].concat();
    Ipv6Header { next: 58, ..Ipv6Header::new(ROUTER6, to) }.with(&message)
}

/// Every way for an agent's address to come in.
fn tunnel_ways(world: &mut World, agent: SocketAddr) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    let family = Family::of(agent.ip());
    let vip = if agent.is_ipv4() { VIP4 } else { VIP6 }.parse().unwrap();
    ways.push(("SYN of an agent", WAN, Segment::new(agent, vip, SYN).datagram()));
    let a = Agent::connected(world, 1, 1, "198.18.5.1:40001");
    let b = Agent::connected(world, 1, 2, "198.18.5.2:40002");
    // What a POP whose config was another has given it.
    let tunnel = world.snapshot.tunnel_at(vip).unwrap();
    let tokens = &tunnel.service.vip(family).unwrap().tokens;
    let start = tunnel.service.vip(family).unwrap().predictor.start(agent).0;
    let sealed = tokens.seal(world.now.unix, agent, 0x1234, 1, 1).unwrap();
    let token = AgentToken { epoch: sealed.epoch, bytes: sealed.token.as_bytes().to_vec() };
    ways.push(("destination's token", WAN, a.data(world, &token, 9, b"body").datagram()));
    let key = Agent::new(1, 1, "198.18.5.1:1").key;
    let base = 0x1234_8000;
    let other = Agent {
        addr: agent,
        vip,
        tenant: 1,
        number: 1,
        key,
        base,
        start,
        told: Some(agent),
        token: Some(token.clone()),
    };
    ways.push(("sender's token", WAN, other.data(world, b.token(), 9, b"body").datagram()));
    ways.push(("keepalive", WAN, other.keepalive(world).datagram()));
    let last_hop = other.data(world, b.token(), 9, b"body").edit(|segment| segment.ttl = 1);
    ways.push(("own error to an agent", WAN, last_hop.datagram()));
    // Errors: it is the agent that the segment was for, then the one that it was from.
    let to_it = a.data(world, &token, 9, b"body");
    let down = down_of(world, &a, &to_it, agent, start);
    ways.push(("quoted by an error", WAN, error_about(vip, &down)));
    let sent = world.datagram(WAN, &a.data(world, b.token(), 9, b"body").datagram());
    let mut down = sent[0].1[14..].to_vec();
    let tail = down.split_off(52 + 16);
    down.truncate(52);
    down[40] = 0x40 | u8::from(!agent.is_ipv4()) << 2 | token.epoch & 1;
    down.extend(&token.bytes);
    down.extend(tail);
    set_length(&mut down);
    repair_header(&mut down);
    ways.push(("sender in an error", WAN, error_about(a.vip, &down)));
    ways
}

/// The segment to `agent`, with the base of 0x1234, that a datagram of `a` becomes, written by
/// hand.
fn down_of(world: &World, a: &Agent, up: &Segment, agent: SocketAddr, start: u32) -> Vec<u8> {
    let vip = if agent.is_ipv4() { VIP4 } else { VIP6 }.parse().unwrap();
    Segment::new(vip, agent, PSH | ACK)
        .edit(|down| {
            let tick = tick(world);
            down.seq = start.wrapping_add(STRIDE.wrapping_mul(tick)).wrapping_add(1 + 9 * 64);
            down.ack = 0x1234_6000u32.wrapping_add(STRIDE.wrapping_mul(tick - 4)).wrapping_add(1);
            down.data = vec![0x40 | a.token().epoch & 1, up.data[1]];
            down.data.extend(&up.data[2..12]);
            down.data.extend(&a.token().bytes);
            down.data.extend(b"body");
        })
        .datagram()
}

/// An error from a router that quotes a segment from `vip`.
fn error_about(vip: SocketAddr, quoted: &[u8]) -> Vec<u8> {
    match vip {
        SocketAddr::V4(vip) => frag_needed(ROUTER4, vip.ip().to_bits(), 1350, quoted, 548),
        SocketAddr::V6(vip) => too_big(vip.ip().to_bits(), quoted),
    }
}

#[test]
fn good_addresses_are_served_in_every_way() {
    for good in GOOD4 {
        let mut world = world();
        for way in ways4(&mut world, ip(good)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(!sent.is_empty(), "{good}: {} {:?}", way.0, world.out.said);
        }
    }
    for good in GOOD6 {
        let mut world = world();
        for way in ways6(&mut world, ip6(good)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(!sent.is_empty(), "{good}: {} {:?}", way.0, world.out.said);
        }
    }
}

#[test]
fn addresses_that_nobody_has_are_refused_in_every_way() {
    for bad in BAD4 {
        let mut world = world();
        for way in ways4(&mut world, ip(bad)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(sent.is_empty(), "{bad}: {} {:?}", way.0, world.out.said);
        }
    }
    for bad in BAD6 {
        let mut world = world();
        for way in ways6(&mut world, ip6(bad)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(sent.is_empty(), "{bad}: {} {:?}", way.0, world.out.said);
        }
    }
}

/// The classic: a client that pretends to be the target, at a transparent POP, would have the
/// target answer itself.
#[test]
fn no_land_packet_comes_out() {
    let mut world = world();
    for target in RAW_TARGETS {
        for flags in [SYN, ACK, RST] {
            let land = Tcp::new(target, RAW, flags);
            for port in [WAN, LAN] {
                assert!(world.datagram(port, &land.datagram()).is_empty());
            }
        }
        // From one target to the other, or to itself.
        for other in RAW_TARGETS {
            for port in [WAN, LAN] {
                let segment = Tcp::new(target, other, ACK);
                assert!(world.datagram(port, &segment.datagram()).is_empty());
            }
        }
    }
    for target in RAW6_TARGETS {
        for port in [WAN, LAN] {
            for flags in [SYN, ACK, RST] {
                assert!(world.datagram(port, &over6(target, RAW6, &plain(flags))).is_empty());
                // The VIP to itself.
                assert!(world.datagram(port, &over6(RAW6, RAW6, &plain(flags))).is_empty());
            }
            for other in RAW6_TARGETS {
                assert!(world.datagram(port, &over6(target, other, &plain(ACK))).is_empty());
            }
        }
    }
    // Out of IPv6 into IPv4: a target that answers an egress address which stands for the VIP.
    for vip in [WEB6, MANY6, WEB, RAW] {
        let egress = world.egress6("web6", vip);
        for flags in [SYN | ACK, ACK, RST] {
            let segment = over6(WEB6_TARGET, egress, &plain(flags));
            assert!(world.datagram(LAN, &segment).is_empty());
        }
    }
}
