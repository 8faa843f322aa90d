//! Configs, with good frames for each: those of the fixtures, and tunnels with agents of both
//! families.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::net::PortIndex;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::verdict::Verdict;
use anyrelay_kit::config::{self, Egress, PopConfig, Table, mac_text, port, relay, tunnel};
use anyrelay_kit::frames::{
    ACK, ICMP, ICMPV6, Ipv6Header, Mac, Segment, TCP, datagram, framed, icmp6, ip6, nd, put_word,
    repair,
};
use anyrelay_kit::pcap;
use anyrelay_kit::tunnel::ForgedAgent;

use super::plain::{self, Connection};
use super::{Input, World, check};

/// A config, and frames that are good there.
pub struct Case {
    pub snapshot: Arc<Snapshot>,
    pub macs: Vec<Mac>,
    pub now: Now,
    pub templates: Vec<(PortIndex, Vec<u8>)>,
    /// Frames that a POP may have had before, and that leave nothing behind.
    pub past: Vec<(PortIndex, Vec<u8>)>,
    /// Connections in pool mode.
    pub connections: Vec<Connection>,
}

/// A folder of the fixtures.
struct Fixture {
    name: &'static str,
    config: &'static str,
    keys: &'static str,
    sent: &'static [u8],
    out: &'static [u8],
}

macro_rules! fixtures {
    ($($name:literal)+) => {
        [$(Fixture {
            name: $name,
            config: include_str!(concat!("../../../../fixtures/", $name, "/config.toml")),
            keys: include_str!(concat!("../../../../fixtures/", $name, "/keys.toml")),
            sent: include_bytes!(concat!("../../../../fixtures/", $name, "/in.pcap")),
            out: include_bytes!(concat!("../../../../fixtures/", $name, "/out.pcap")),
        },)+]
    };
}

static FIXTURES: [Fixture; 28] = fixtures!(
    "arp" "bad-input" "echo" "icmp-errors" "neighbours" "on-link-client" "own-errors" "pool"
    "pool-bare" "rate-limits" "resets" "several-targets" "syn-limits" "syn-options" "transparent"
    "vlan" "vlan-one-side" "prefix" "several-ipv6-targets" "transparent-ipv6" "icmp-errors-ipv6"
    "own-errors-ipv6" "client-address" "encapsulated" "pool-ipv6" "open" "open-limits"
    "udp"
);
/// Those of open tunnels have the same.
const TENANTS: &str = include_str!("../../../../fixtures/open/tenants.toml");
/// Those that have no ICMP errors, where they go ways of their own.
const WITHOUT_ERRORS: [&str; 2] = ["encapsulated", "pool-ipv6"];

/// The case that a byte stands for: half of them are of tunnels.
pub fn case(number: u8) -> &'static Case {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    let cases = CASES.get_or_init(|| {
        let fixtures = FIXTURES.iter().map(|Fixture { name, config, keys, sent, out }| {
            let out = pcap::frames(out);
            let errors = if WITHOUT_ERRORS.contains(name) { errors(&out) } else { Vec::new() };
            fixture(config, keys, [pcap::frames(sent), out, errors].concat())
        });
        fixtures.chain([with_tunnels()]).collect()
    });
    let at = if number < 128 { usize::from(number) % FIXTURES.len() } else { FIXTURES.len() };
    &cases[at]
}

/// The name of each case, and a byte that stands for it.
pub fn names() -> impl Iterator<Item = (&'static str, u8)> {
    let fixtures = FIXTURES.iter().zip(0..).map(|(fixture, number)| (fixture.name, number));
    fixtures.chain([("tunnels", 128)])
}

fn fixture(config: &str, keys: &str, frames: Vec<Vec<u8>>) -> Case {
    let mut config = Config::parse("fixture", config).unwrap();
    shrink(&mut config);
    let keys = KeyFile::parse(keys).unwrap();
    let tenants = if config.tunnels.is_empty() { "" } else { TENANTS };
    let snapshot = config::snapshot(&config, &keys, &Tenants::parse(tenants).unwrap());
    Case::new(snapshot, Now::from_millis(1_700_000_000_000), frames)
}

/// Makes the tables small, which POPs have anew for each input.
fn shrink(config: &mut Config) {
    config.limits.remembered_answers = 64;
    config.limits.remembered_syns = 1024;
}

impl Case {
    fn new(snapshot: impl Into<Arc<Snapshot>>, now: Now, frames: Vec<Vec<u8>>) -> Case {
        let snapshot = snapshot.into();
        let ports = &snapshot.config.ports;
        let macs: Vec<Mac> = ports.iter().map(|port| port.mac.unwrap().octets()).collect();
        let port_of = |frame: &[u8]| {
            let to = macs.iter().position(|mac| frame.starts_with(mac));
            // What a POP sends comes in where it went out, as from another one.
            let from = || macs.iter().position(|mac| frame[6..].starts_with(mac));
            PortIndex(to.or_else(from).unwrap_or(0) as u8)
        };
        let limits = &snapshot.config.limits;
        let per_second = [limits.syn_per_prefix_per_second, limits.open_per_agent_per_second];
        let is_tight = per_second.into_iter().any(|rate| rate < 1000);
        let templates: Vec<_> =
            frames.into_iter().filter(|f| f.len() >= 14).map(|f| (port_of(&f), f)).collect();
        let (past, connections) = (Vec::new(), Vec::new());
        let mut case = Case { snapshot, macs, now, templates, past, connections };
        case.connections = plain::connections(&case);
        if !is_tight {
            let past = case.templates.iter().filter(|frame| leaves_nothing(&case, frame));
            let past: Vec<_> = past.cloned().collect();
            case.past = past.iter().step_by(past.len() / PAST_MAX + 1).cloned().collect();
        }
        assert!(!case.templates.is_empty());
        case
    }
}

/// Whether a POP remembers nothing of a frame: no neighbour, no RST, no query.
fn leaves_nothing(case: &Case, (port, bytes): &(PortIndex, Vec<u8>)) -> bool {
    // Requests and solicitations tell of their sender.
    let Some(at) = check::l3(bytes) else { return false };
    if bytes.get(at + 6) == Some(&58) && bytes[at] >> 4 == 6 {
        return false;
    }
    let mut world = World::new(case);
    world.handle(&[Input::plain(*port, bytes)]);
    let absorbed = world.out.verdicts().any(|verdict| matches!(verdict, Verdict::Absorb(_)));
    !absorbed && !world.out.sent.iter().any(|(_, frame)| check::is_address_query(frame))
}

const PAST_MAX: usize = 16;

fn tunnels() -> PopConfig {
    let wan = ["192.0.2.2/24", "2001:db8:1::2/64", "fe80::a/64"];
    let wan = port("wan", "client", &wan)
        .with("mac", mac_text(MAC))
        .with("gateways", ["192.0.2.1", "fe80::1"])
        .with("gateway_macs", [mac_text(GATEWAY), mac_text(GATEWAY)]);
    let lan = port("lan", "both", &["10.1.0.2/24", "2001:db8:2::2/64"])
        .with("mac", "02:00:00:00:00:02")
        .with("mtu", 1400)
        .with("gateways", ["10.1.0.1", "2001:db8:2::1"])
        .with("gateway_macs", ["02:00:00:00:01:02", "02:00:00:00:01:02"]);
    let pool = Egress::Pool("100.64.8.0/24");
    let open = Table::default().with("prefix", "2001:db8:a000::/36").with("to", ["2000::/3"]);
    let open = open.with("icmp_source", "2001:db8:f::99");
    PopConfig::new("fuzz", 1, &[wan, lan])
        .limit("syn_ack_per_second", 100_000)
        .relay(relay("web", "203.0.113.20:80", &["198.51.100.10:8443"], pool))
        .tunnel(
            tunnel("tun", &["203.0.113.20:443", VIP6]).with("tunnel_mtu", 1400).with("open", &open),
        )
}

/// The first port and the gateway behind it.
const MAC: Mac = [2, 0, 0, 0, 0, 1];
const GATEWAY: Mac = [2, 0, 0, 0, 1, 1];
const VIP6: &str = "[2001:db8:f::20]:443";

fn with_tunnels() -> Case {
    let mut config = tunnels().parse();
    shrink(&mut config);
    let (tenants, key) = config::tenants_and_agent();
    let snapshot = config::snapshot(&config, &config::keys(), &tenants);
    let now = Now::from_millis(1_795_000_004_000);
    let agents = ["198.18.5.9:40001", "198.19.7.7:40002", "[2600:1::a]:40003", "[2600:2::b]:40004"];
    let service = &snapshot.tunnels().next().unwrap().service;
    let agents =
        agents.map(|addr| ForgedAgent::new(service, now.unix, addr.parse().unwrap(), 0x1234));
    let framed = |segment: Segment| {
        let segment = Segment { tos: 0, ..segment };
        frame(segment.src.ip(), segment.dst.ip(), TCP, &segment.segment())
    };
    let mut frames = Vec::new();
    for agent in &agents {
        frames.extend([
            framed(agent.syn()),
            framed(agent.keepalive(&key, 7)),
            framed(agent.segment(ACK, 1, 1, &[])),
        ]);
        frames.extend(agents.iter().map(|other| framed(agent.data(other, 3, 2, &[7; 64]))));
        frames.push(framed(agent.data(&agents[0], 3, 2, &[7; 1316])));
    }
    frames.extend(open_packets(&agents, framed));
    frames.extend(neighbours());
    // What is sent because of these, back to where it came from, and errors about it.
    let sent = Case::new(snapshot, now, frames.clone());
    let mut world = World::new(&sent);
    for (port, bytes) in &sent.templates {
        world.handle(&[Input::plain(*port, bytes)]);
    }
    let sent_frames: Vec<_> = world.sent.iter().map(|(_, frame)| frame.clone()).collect();
    frames.extend(errors(&sent_frames));
    frames.extend(sent_frames);
    let snapshot = sent.snapshot.clone();
    Case::new(snapshot, now, frames)
}

/// Packets of hosts and agents to open addresses, and of agents to a host.
fn open_packets(agents: &[ForgedAgent], framed: impl Fn(Segment) -> Vec<u8>) -> Vec<Vec<u8>> {
    let host = ip6("2600:1::5");
    let opened = agents.iter().filter_map(|agent| Some((agent, agent.open?.to_bits())));
    let addresses: Vec<u128> = opened.clone().map(|(_, address)| address).collect();
    let packet =
        |src, dst, next, body: &[u8]| Ipv6Header { next, ..Ipv6Header::new(src, dst) }.with(body);
    let mut frames = Vec::new();
    for (agent, src) in opened {
        // The epoch of another parity is not there.
        let to = addresses.iter().chain([&host]).copied().chain([addresses[0] ^ 1 << 91]);
        frames.extend(to.map(|to| framed(agent.open_packet(7, &packet(src, to, 17, &[7; 64])))));
        for (next, body) in
            [(6, &[9; 40][..]), (58, &echo6(128)), (17, &[7; 1300]), (17, &[7; 1340])]
        {
            frames.push(framed(agent.open_packet(0, &packet(src, host, next, body))));
            frames.push(framed_to(MAC, &packet(host, src, next, body)));
        }
        frames.push(framed_to(MAC, &packet(host, src ^ 1 << 91, 17, &[7; 64])));
    }
    frames
}

fn framed_to(mac: Mac, datagram: &[u8]) -> Vec<u8> {
    framed(mac, GATEWAY, None, datagram)
}

fn echo6(kind: u8) -> Vec<u8> {
    icmp6(kind, 0, [0, 1, 0, 2], b"echo")
}

/// A frame from the gateway to the first port.
fn frame(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    frame_to(MAC, src, dst, protocol, payload)
}

fn frame_to(mac: Mac, src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ttl = if protocol == ICMPV6 { 255 } else { 57 };
    let mut datagram = datagram(src, dst, ttl, protocol, payload);
    if src.is_ipv4() {
        put_word(&mut datagram, 4, 9);
    }
    repair(&mut datagram);
    framed_to(mac, &datagram)
}

/// Echo and neighbour discovery, and SYNs that belong to no tunnel.
fn neighbours() -> Vec<Vec<u8>> {
    let frame = |src: &str, dst: &str, protocol, payload: &[u8]| {
        frame(src.parse().unwrap(), dst.parse().unwrap(), protocol, payload)
    };
    let own = ip6("2001:db8:1::2");
    let syn = [0x9c, 0x41, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 9, 9, 0, 0, 0, 0];
    vec![
        frame("2600:1::a", "2001:db8:1::2", ICMPV6, &echo6(128)),
        frame("2600:1::a", "2001:db8:f::20", ICMPV6, &echo6(128)),
        frame("198.18.5.9", "203.0.113.20", ICMP, &echo6(8)),
        frame("2001:db8:1::77", "2001:db8:1::2", ICMPV6, &nd(135, 0, own, Some((1, GATEWAY)))),
        frame("fe80::1", "2001:db8:1::2", ICMPV6, &nd(136, 0x60, own, Some((1, GATEWAY)))),
        frame("198.18.5.9", "203.0.113.20", TCP, &syn),
        frame("2600:1::a", "2001:db8:f::20", TCP, &syn),
    ]
}

/// Errors from routers that quote what a POP sent, to where it sent that from.
fn errors(sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
    sent.iter().filter_map(|frame| error_about(frame)).collect()
}

fn error_about(sent: &[u8]) -> Option<Vec<u8>> {
    let sent_from = sent[6..12].try_into().ok()?;
    let datagram = &sent[check::l3(sent)?..];
    let quote = &datagram[..datagram.len().min(548)];
    match datagram[0] >> 4 {
        4 => {
            let to: [u8; 4] = datagram[12..16].try_into().ok()?;
            let message = icmp6(3, 4, [0, 0, 5, 0], quote);
            Some(frame_to(sent_from, [9, 9, 9, 9].into(), to.into(), ICMP, &message))
        }
        6 => {
            let to: [u8; 16] = datagram[8..24].try_into().ok()?;
            let message = icmp6(2, 0, [0, 0, 5, 0x46], quote);
            Some(frame_to(sent_from, "2600:9::9".parse().ok()?, to.into(), ICMPV6, &message))
        }
        _ => None,
    }
}
