//! Who may be a client or an agent, wherever an address can enter: as the source of a segment, decoded
//! from what a target sends, in a token, or quoted in an ICMP error. Nothing is sent because of an
//! address that nobody outside can have; above all nothing to the POP itself, to a VIP or to a target.
//!
//! Every way is taken by a good address too, which something is sent for: else it would show nothing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::tunnel::Family;
use anyrelay_core::verdict::PortIndex;

use crate::*;

/// No unicast, or the POP's own, its VIPs', its targets', its pools', or its links'.
const BAD4: [&str; 22] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "203.0.113.10",
    "203.0.113.12",
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

const BAD6: [&str; 13] = [
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
];

const GOOD4: [&str; 2] = ["198.18.5.9", "9.9.9.9"];
const GOOD6: [&str; 2] = ["2600:1::a", "2001:4860::1"];

const PORT: u16 = 4000;
const ROUTER4: u32 = 0x0909_0909;
const ROUTER6: u128 = 0x2600_0009 << 96 | 9;

fn world() -> World {
    let ipv6 = |text: &str| {
        text.replace(
            "[\"192.0.2.2/24\"]",
            "[\"192.0.2.2/24\", \"2001:db8:1::2/64\", \"fe80::a/64\"]",
        )
        .replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"fe80::1\"]")
        .replace("[\"02:00:00:00:01:01\"]", "[\"02:00:00:00:01:01\", \"02:00:00:00:01:01\"]")
        .replace("id = 1\n", "id = 1\ntenants = \"tenants.toml\"\n")
    };
    let config = anyrelay_core::config::Config::parse("pop.toml", &(ipv6(CONFIG) + TUNNELS));
    let mut world = World::keyed(config.unwrap(), KEYS, TENANTS);
    world.later(1_795_000_004_000 - 1_000_000);
    world
}

type Way = (&'static str, PortIndex, Vec<u8>);

/// Every way for the IPv4 address `client` to come in.
fn ways4(world: &mut World, client: u32) -> Vec<Way> {
    let at = (client, PORT);
    let mut ways: Vec<Way> = Vec::new();
    // The source of a segment.
    for (name, vip) in [("pool", WEB), ("several targets", MANY), ("transparent", RAW)] {
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
    let mut egress = Vec::new();
    for case in [0, 1] {
        let (address, port, tag) = world.egress("web", case, at);
        egress.push((address, port, tag));
        let segment = Tcp::new(WEB_TARGET, (address, port), ACK).stamped(1, tag);
        ways.push(("decoded", LAN, segment.datagram()));
        let syn_ack = Tcp::new(WEB_TARGET, (address, port), SYN | ACK).stamped(1, tag);
        ways.push(("decoded", LAN, syn_ack.datagram()));
    }
    // Where a transparent target sends to.
    for target in RAW_TARGETS {
        for flags in [SYN | ACK, ACK, RST] {
            ways.push(("transparent down", LAN, Tcp::new(target, at, flags).datagram()));
        }
    }
    // Quoted by errors from the target's side.
    for (address, port, tag) in egress {
        let up = Tcp::new((address, port), WEB_TARGET, ACK).stamped(tag, 0).datagram();
        ways.push(("quoted by egress", LAN, frag_needed(ROUTER4, address, 1400, &up, 548)));
    }
    let up = Tcp::new(at, RAW_TARGETS[0], ACK).datagram();
    ways.push(("quoted as a source", LAN, frag_needed(ROUTER4, client, 1400, &up, 548)));
    // And from the client's.
    for vip in [WEB, MANY, RAW] {
        for options in [timestamps(1, 0), Vec::new()] {
            let down = Tcp::new(vip, at, ACK).options(&options).datagram();
            for quoted in [548, 28] {
                let error = frag_needed(ROUTER4, vip.0, 1400, &down, quoted);
                ways.push(("quoted as a destination", WAN, error));
            }
        }
    }
    ways.extend(tunnel_ways(world, SocketAddr::new(Ipv4Addr::from_bits(client).into(), PORT)));
    ways
}

/// Every way for an agent's address to come in.
fn tunnel_ways(world: &mut World, agent: SocketAddr) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    let family = Family::of(agent.ip());
    let vip = if agent.is_ipv4() { VIP4 } else { VIP6 }.parse().unwrap();
    ways.push(("SYN of an agent", WAN, Outer::new(agent, vip, SYN).datagram()));
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
    let total_len = (down.len() as u16).to_be_bytes();
    down[2..4].copy_from_slice(&total_len);
    down[10..12].fill(0);
    let sum = internet_checksum(&[&down[..20]]).to_be_bytes();
    down[10..12].copy_from_slice(&sum);
    ways.push(("sender in an error", WAN, error_about(a.vip, &down)));
    ways
}

/// The segment to `agent`, with the base of 0x1234, that a datagram of `a` becomes, written by hand.
fn down_of(world: &World, a: &Agent, up: &Outer, agent: SocketAddr, start: u32) -> Vec<u8> {
    let vip = if agent.is_ipv4() { VIP4 } else { VIP6 }.parse().unwrap();
    Outer::new(vip, agent, PSH | ACK)
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
        SocketAddr::V6(vip) => {
            let message = [&[2, 0, 0, 0, 0, 0, 5, 0x46][..], quoted].concat();
            Ip6 { next: 58, ..Ip6::new(ROUTER6, vip.ip().to_bits()) }.with(&message)
        }
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
        let agent = SocketAddr::new(Ipv6Addr::from_bits(ip6(good)).into(), PORT);
        for way in tunnel_ways(&mut world, agent) {
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
        let agent = SocketAddr::new(Ipv6Addr::from_bits(ip6(bad)).into(), PORT);
        for way in tunnel_ways(&mut world, agent) {
            let sent = world.datagram(way.1, &way.2);
            assert!(sent.is_empty(), "{bad}: {} {:?}", way.0, world.out.said);
        }
    }
}

/// The classic: a client that pretends to be the target, at a transparent POP, would have the target
/// answer itself.
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
}
