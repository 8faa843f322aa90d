//! Configs, with good frames for each: those of the fixtures, and tunnels with agents of both
//! families.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Secret, Tenants, agent_key};
use anyrelay_core::net::Family;
use anyrelay_core::net::PortIndex;
use anyrelay_core::seq::SeqNum;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::message::KEEPALIVE_LEN_MAX;
use anyrelay_core::tunnel::{DataHeader, KeepaliveRequest, PublicToken};
use anyrelay_core::wire::MacAddr;
use anyrelay_kit::pcap;

use super::{Input, World, check, edit};

/// A config, and frames that are good there.
pub struct Case {
    pub snapshot: Snapshot,
    pub macs: Vec<MacAddr>,
    pub now: Now,
    pub templates: Vec<(PortIndex, Vec<u8>)>,
    /// Frames that a POP may have had before, and that leave nothing behind.
    pub past: Vec<(PortIndex, Vec<u8>)>,
}

macro_rules! fixtures {
    ($($name:literal)+) => {
        [$((
            include_str!(concat!("../../../../fixtures/", $name, "/config.toml")),
            include_bytes!(concat!("../../../../fixtures/", $name, "/in.pcap")).as_slice(),
            include_bytes!(concat!("../../../../fixtures/", $name, "/out.pcap")).as_slice(),
        ),)+]
    };
}

/// Those of the fixtures.
static FIXTURES: [(&str, &[u8], &[u8]); 22] = fixtures!(
    "arp" "bad-input" "echo" "icmp-errors" "neighbours" "on-link-client" "own-errors" "pool-case-0"
    "pool-case-1" "rate-limits" "resets" "several-targets" "syn-limits" "syn-options" "transparent"
    "vlan" "vlan-one-side" "prefix" "several-ipv6-targets" "transparent-ipv6" "icmp-errors-ipv6"
    "own-errors-ipv6"
);
const KEYS: &str = include_str!("../../../../fixtures/arp/keys.toml");

/// The case that a byte stands for: half of them are of tunnels.
pub fn case(number: u8) -> &'static Case {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    let cases = CASES.get_or_init(|| {
        let fixtures = FIXTURES.iter().map(|(config, sent, out)| fixture(config, sent, out));
        fixtures.chain([with_tunnels()]).collect()
    });
    let at = if number < 128 { usize::from(number) % FIXTURES.len() } else { FIXTURES.len() };
    &cases[at]
}

fn fixture(config: &str, input: &[u8], output: &[u8]) -> Case {
    let mut config = Config::parse("fixture", config).unwrap();
    // Made anew for each input.
    config.limits.pending_rsts = 64;
    let keys = KeyFile::parse(KEYS).unwrap();
    let snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None).unwrap();
    let frames = [pcap::frames(input), pcap::frames(output)].concat();
    Case::new(snapshot, Now::from_millis(1_700_000_000_000), frames)
}

impl Case {
    fn new(snapshot: Snapshot, now: Now, frames: Vec<Vec<u8>>) -> Case {
        let ports = &snapshot.config.ports;
        let macs: Vec<_> = ports.iter().map(|port| port.mac.unwrap()).collect();
        let port_of = |frame: &[u8]| {
            let to = macs.iter().position(|mac| frame.starts_with(&mac.octets()));
            // What a POP sends comes in where it went out, as from another one.
            let from = || macs.iter().position(|mac| frame[6..].starts_with(&mac.octets()));
            PortIndex(to.or_else(from).unwrap_or(0) as u8)
        };
        let limits = &snapshot.config.limits;
        let is_tight = limits.syn_per_prefix_per_second < 1000;
        let templates: Vec<_> =
            frames.into_iter().filter(|f| f.len() >= 14).map(|f| (port_of(&f), f)).collect();
        let mut case = Case { snapshot, macs, now, templates, past: Vec::new() };
        if !is_tight {
            let past = case.templates.iter().filter(|frame| leaves_nothing(&case, frame));
            let past: Vec<_> = past.cloned().collect();
            case.past = past.iter().step_by(past.len() / PAST_MAX + 1).cloned().collect();
        }
        assert!(!case.templates.is_empty());
        case
    }
}

/// Whether a POP remembers nothing of a frame: no neighbour, no RST, no question.
fn leaves_nothing(case: &Case, (port, bytes): &(PortIndex, Vec<u8>)) -> bool {
    // Requests and solicitations tell of their sender.
    let Some(at) = check::l3(bytes) else { return false };
    if bytes.get(at + 6) == Some(&58) && bytes[at] >> 4 == 6 {
        return false;
    }
    let mut world = World::new(case);
    let verdict = anyrelay_core::frame::ChecksumVerdict::Unknown;
    world.handle(&[Input { port: *port, bytes: bytes.clone(), verdict, no_buffers: false }]);
    world.out.absorbed == 0 && !world.out.last.iter().any(|(_, frame)| check::is_question(frame))
}

const PAST_MAX: usize = 16;

const TUNNELS: &str = r#"
pop = { name = "fuzz", id = 1, keys = "keys.toml", tenants = "tenants.toml" }
worker = [{ core = 0, rx = ["wan:0", "lan:0"] }]
limits = { syn_ack_per_second = 100000 }
[[port]]
name = "wan"
device = "wan"
side = "client"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24", "2001:db8:1::2/64", "fe80::a/64"]
gateways = ["192.0.2.1", "fe80::1"]
gateway_macs = ["02:00:00:00:01:01", "02:00:00:00:01:01"]
[[port]]
name = "lan"
device = "lan"
side = "both"
mac = "02:00:00:00:00:02"
mtu = 1400
addresses = ["10.1.0.2/24", "2001:db8:2::2/64"]
gateways = ["10.1.0.1", "2001:db8:2::1"]
gateway_macs = ["02:00:00:00:01:02", "02:00:00:00:01:02"]
[[relay]]
name = "web"
vip = "203.0.113.20:80"
targets = ["198.51.100.10:8443"]
egress = { pool = "100.64.8.0/24" }
[[tunnel]]
name = "tun"
vip4 = "203.0.113.20:443"
vip6 = "[2001:db8:f::20]:443"
tunnel_mtu = 1400
"#;

fn with_tunnels() -> Case {
    let mut config = Config::parse("fuzz", TUNNELS).unwrap_or_else(|problems| panic!("{problems}"));
    config.limits.pending_rsts = 64;
    let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    let mut tenants = Tenants::default();
    tenants.add("acme", Secret::new([4; 32])).unwrap();
    tenants.issue("acme", "agent").unwrap();
    let snapshot = Snapshot::build(&config, &keys, &tenants, None).unwrap();
    let now = Now::from_millis(1_795_000_004_000);
    let agents = ["198.18.5.9:40001", "198.19.7.7:40002", "[2600:1::a]:40003", "[2600:2::b]:40004"];
    let agents = agents.map(|addr| Agent::new(&snapshot, now, addr.parse().unwrap()));
    let mut frames = Vec::new();
    for agent in &agents {
        frames.extend([agent.syn(), agent.keepalive(), agent.segment(1, 1, 0x10, &[], &[])]);
        for other in &agents {
            frames.push(agent.data(other, 64));
        }
        frames.push(agent.data(&agents[0], 1316));
    }
    frames.extend(neighbours());
    // What is sent because of these, back to where it came from, and errors about it.
    let sent = Case::new(snapshot, now, frames.clone());
    let mut world = World::new(&sent);
    for (port, bytes) in &sent.templates {
        let verdict = anyrelay_core::frame::ChecksumVerdict::Unknown;
        world.handle(&[Input { port: *port, bytes: bytes.clone(), verdict, no_buffers: false }]);
    }
    let errors = world.out.sent.iter().filter_map(|(_, frame)| error_about(&frame[14..]));
    frames.extend(errors.collect::<Vec<_>>());
    frames.extend(world.out.sent.iter().map(|(_, frame)| frame.clone()));
    let snapshot = sent.snapshot.clone();
    Case::new(snapshot, now, frames)
}

const STRIDE: u32 = 4096;
const BASE: u32 = 0x1234_8000;

struct Agent {
    addr: SocketAddr,
    vip: SocketAddr,
    start: SeqNum,
    tick: u32,
    token: PublicToken,
}

impl Agent {
    fn new(snapshot: &Snapshot, now: Now, addr: SocketAddr) -> Agent {
        let family = Family::of(addr.ip());
        let vip = snapshot.tunnels().next().unwrap().service.vip(family).unwrap();
        Agent {
            addr,
            vip: vip.addr,
            start: vip.predictor.start(addr),
            tick: (now.unix.as_millis() / 8000) as u32,
            token: vip.tokens.seal(now.unix, addr, (BASE >> 16) as u16, 1, 1).unwrap(),
        }
    }

    fn segment(
        &self,
        more: u32,
        ack_more: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let ticks = STRIDE.wrapping_mul(self.tick);
        let mut tcp = [self.addr.port().to_be_bytes(), self.vip.port().to_be_bytes()].concat();
        tcp.extend(BASE.wrapping_add(ticks).wrapping_add(more).to_be_bytes());
        tcp.extend(self.start.0.wrapping_add(ticks).wrapping_add(ack_more).to_be_bytes());
        tcp.extend([(((20 + options.len()) / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(payload);
        frame(self.addr.ip(), self.vip.ip(), 6, &tcp)
    }

    fn syn(&self) -> Vec<u8> {
        self.segment(0, 0, 2, &[2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 3, 3, 8], &[])
    }

    fn keepalive(&self) -> Vec<u8> {
        let key = agent_key(&Secret::new([4; 32]), 1).unwrap();
        let mut message = [0; KEEPALIVE_LEN_MAX];
        let request = KeepaliveRequest { tenant: 1, agent: 1, nonce: 7 };
        let len = request.write(Family::of(self.addr.ip()), &key, &mut message);
        self.segment(1, 1, 0x18, &[], &message[..len])
    }

    fn data(&self, to: &Agent, body_len: usize) -> Vec<u8> {
        let header = DataHeader {
            destination: to.token.token.family(),
            sender: self.token.token.family(),
            destination_odd: false,
            sender_odd: false,
            offset_steps: 3,
            channel: 1,
            session: 2,
        };
        let tokens = [to.token.token.as_bytes(), self.token.token.as_bytes()].concat();
        let payload = [&header.write_up()[..], &tokens, &vec![7; body_len]].concat();
        self.segment(1 + 3 * 64, 1, 0x18, &[], &payload)
    }
}

/// A frame from the gateway to the first port.
fn frame(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([0x08, 0, 0x45, 0, 0, 0, 0, 9, 0x40, 0, 57, protocol, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let hops = if protocol == 58 { 255 } else { 57 };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, protocol, hops]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        _ => panic!("of two families"),
    }
    frame.extend(payload);
    edit::repair(&mut frame, 7);
    frame
}

/// Echo and neighbour discovery.
fn neighbours() -> Vec<Vec<u8>> {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let own: [u8; 16] = match ip("2001:db8:1::2") {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => panic!(),
    };
    let about = |kind: u8, flags: u8, option: &[u8]| {
        [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &own, option].concat()
    };
    let mac = [1, 1, 2, 0, 0, 0, 1, 1];
    let echo = [128, 0, 0, 0, 0, 1, 0, 2, b'e', b'c', b'h', b'o'];
    vec![
        frame(ip("2600:1::a"), ip("2001:db8:1::2"), 58, &echo),
        frame(ip("2600:1::a"), ip("2001:db8:f::20"), 58, &echo),
        frame(
            ip("198.18.5.9"),
            ip("203.0.113.20"),
            1,
            &[8, 0, 0, 0, 0, 1, 0, 2, b'e', b'c', b'h', b'o'],
        ),
        frame(ip("2001:db8:1::77"), ip("2001:db8:1::2"), 58, &about(135, 0, &mac)),
        frame(ip("fe80::1"), ip("2001:db8:1::2"), 58, &about(136, 0x60, &mac)),
        frame(
            ip("198.18.5.9"),
            ip("203.0.113.20"),
            6,
            &[0x9c, 0x41, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 9, 9, 0, 0, 0, 0],
        ),
        frame(
            ip("2600:1::a"),
            ip("2001:db8:f::20"),
            6,
            &[0x9c, 0x41, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 9, 9, 0, 0, 0, 0],
        ),
    ]
}

/// An error from a router that quotes a datagram that a POP sent.
fn error_about(datagram: &[u8]) -> Option<Vec<u8>> {
    let quote = &datagram[..datagram.len().min(548)];
    match datagram[0] >> 4 {
        4 => {
            let to: [u8; 4] = datagram[12..16].try_into().ok()?;
            let message = [&[3, 4, 0, 0, 0, 0, 5, 0][..], quote].concat();
            Some(frame([9, 9, 9, 9].into(), to.into(), 1, &message))
        }
        6 => {
            let to: [u8; 16] = datagram[8..24].try_into().ok()?;
            let message = [&[2, 0, 0, 0, 0, 0, 5, 0x46][..], quote].concat();
            Some(frame("2600:9::9".parse().ok()?, to.into(), 58, &message))
        }
        _ => None,
    }
}
