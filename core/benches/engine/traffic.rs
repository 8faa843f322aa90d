//! The POP that is measured, and frames for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::net::{Endpoint, Family, PortIndex};
use anyrelay_core::relay::Mode;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::TunnelService;
use anyrelay_kit::config::{self, Egress, PopConfig, mac_text, port, relay};
use anyrelay_kit::frames::{ACK, Mac, SYN, Segment, Tcp, framed, ip};
use anyrelay_kit::tunnel::{ForgedAgent, VIP4, VIP6};

pub const WAN: PortIndex = PortIndex(0);
pub const LAN: PortIndex = PortIndex(1);
pub const MACS: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const GATEWAYS: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];
/// Clients, each with one frame: they do not fit a first-level cache.
const CLIENTS: u32 = 8192;

/// A relay of each mode and family, and a tunnel.
pub fn snapshot() -> Snapshot {
    let table = |at: usize, name, side, addresses: [&str; 2], gateway| {
        port(name, side, &addresses)
            .with("mac", mac_text(MACS[at]))
            .with("gateways", [gateway, "fe80::1"])
            .with("gateway_macs", [mac_text(GATEWAYS[at]), mac_text(GATEWAYS[at])])
    };
    let wan = table(0, "wan", "client", ["192.0.2.2/24", "fe80::2/64"], "192.0.2.1");
    let lan = table(1, "lan", "target", ["192.0.3.2/24", "fe80::3/64"], "192.0.3.1");
    let pool = Egress::Pool("100.64.8.0/24");
    let prefix = Egress::Prefix("2001:db8:64::/64");
    let eight: Vec<_> = (20..28).map(|host| format!("198.51.100.{host}:80")).collect();
    let of = |name, vip: &str, target: &str, egress| relay(name, vip, &[target], egress);
    let transparent = Egress::Transparent;
    PopConfig::new("bench", 1, &[wan, lan])
        .limit("syn_ack_per_second", 1_000_000_000)
        .relay(of("one", "203.0.113.10:443", "198.51.100.10:8443", pool))
        .relay(relay("eight", "203.0.113.10:80", &eight, pool))
        .relay(of("transparent", "203.0.113.11:443", "198.51.100.40:8443", transparent))
        .relay(of("prefix", "203.0.113.12:443", "[2001:db8:5::1]:8443", prefix))
        .relay(of("transparent6", "[2001:db8::10]:443", "[2001:db8:5::40]:8443", transparent))
        .tunnel(config::tunnel("tunnel", &[VIP4, VIP6]))
        .snapshot(&config::keys(), &config::tenants())
}

/// A frame that comes in through a port.
fn received(port: PortIndex, datagram: &[u8]) -> Vec<u8> {
    let port = usize::from(port.0);
    framed(MACS[port], GATEWAYS[port], None, datagram)
}

/// A segment of each client to a relay over IPv4.
pub fn up(vip: &str, port: u16, options: &[u8]) -> Vec<Vec<u8>> {
    let segment = |client| Tcp::new(client, (ip(vip), port), ACK).options(options);
    clients().map(|client| received(WAN, &segment(client).datagram())).collect()
}

/// A segment of the target of the first relay to each client.
pub fn down(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let relay = snapshot.relays().next().unwrap();
    let segment = |(client, port)| {
        let client = Endpoint { ip: client, port }.into();
        let mapping = relay.outward(client, UnixTime::default()).unwrap();
        let egress: Endpoint = mapping.egress.of_family().unwrap();
        let tsval = mapping.tag.unwrap().timestamp();
        Tcp::new((ip("198.51.100.10"), 8443), (egress.ip, egress.port), ACK).stamped(7, tsval)
    };
    clients().map(|client| received(LAN, &segment(client).datagram())).collect()
}

/// A segment of each client to the transparent relay over IPv6.
pub fn up_transparent6() -> Vec<Vec<u8>> {
    let vip = "[2001:db8::10]:443".parse().unwrap();
    let segment = |client| Segment { ack: 2, ..Segment::new(client, vip, ACK) };
    hosts(Family::V6).map(|client| received(WAN, &segment(client).datagram())).collect()
}

/// A segment of the IPv6 target to each client of the relay in prefix mode.
pub fn down_prefix(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let relay = snapshot.relays().find(|relay| matches!(relay.mode, Mode::Prefix(_)));
    let relay = relay.unwrap();
    let target = "[2001:db8:5::1]:8443".parse().unwrap();
    let segment = |(ip, port)| {
        let client = Endpoint { ip, port }.into();
        let egress = relay.outward(client, UnixTime::default()).unwrap().egress.into();
        Segment { ack: 2, ..Segment::new(target, egress, ACK) }
    };
    clients().map(|client| received(LAN, &segment(client).datagram())).collect()
}

/// A datagram of each agent to the next one, with bodies of `body` bytes.
pub fn datagrams(snapshot: &Snapshot, now: UnixTime, family: Family, body: usize) -> Vec<Vec<u8>> {
    let service = tunnel(snapshot);
    let agents: Vec<_> =
        hosts(family).map(|addr| ForgedAgent::new(service, now, addr, 7)).collect();
    let others = agents.iter().cycle().skip(1);
    let body = vec![0xda; body];
    let datagram = |(agent, other): (&ForgedAgent, _)| agent.data(other, 3, 2, &body).datagram();
    agents.iter().zip(others).map(|pair| received(WAN, &datagram(pair))).collect()
}

/// A SYN of each agent.
pub fn syns(snapshot: &Snapshot, family: Family) -> Vec<Vec<u8>> {
    let vip = tunnel(snapshot).vip(family).unwrap().addr;
    let syn = |agent| Segment { seq: 9, ..Segment::new(agent, vip, SYN) };
    hosts(family).map(|agent| received(WAN, &syn(agent).datagram())).collect()
}

fn tunnel(snapshot: &Snapshot) -> &TunnelService {
    &snapshot.tunnels().next().unwrap().service
}

fn clients() -> impl Iterator<Item = (u32, u16)> {
    let mix = |i: u32| i.wrapping_mul(0x9e37_79b1);
    (0..CLIENTS).map(move |i| (ip("1.0.0.0") + (mix(i) >> 9), 1024 + (mix(i) as u16 >> 1)))
}

/// The same number of hosts of a family.
fn hosts(family: Family) -> impl Iterator<Item = SocketAddr> {
    clients().map(move |(ip, port)| {
        let ip: IpAddr = match family {
            Family::V4 => Ipv4Addr::from_bits(ip).into(),
            Family::V6 => Ipv6Addr::from_bits(0x2600 << 112 | u128::from(ip) << 64 | 1).into(),
        };
        SocketAddr::new(ip, port)
    })
}
