//! `anyrelay replay --explain` of tunnels: a POP's reasons for each kind of segment.
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::Path;

use crate::common::pcap::{ACK, PSH_ACK, SYN, WITH_TIMESTAMPS, capture, data_segment};
use crate::common::{Config, Folder, WAN_MAC, anyrelay, stderr, stdout};
use anyrelay_core::config::OpenPrefix;
use anyrelay_core::keys::{AgentKey, KeyFile};
use anyrelay_core::net::{Address, Family, IpNet};
use anyrelay_core::predict::{Constants, at};
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::message::KEEPALIVE_LEN_MAX;
use anyrelay_core::tunnel::open::{OpenAddresses, OpenAgent};
use anyrelay_core::tunnel::{DataHeader, KeepaliveRequest, PublicToken, TunnelVip};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 20), 443);
const AGENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 7), 40_000);
const OTHER: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 9), 5000);
const VIP_TEXT: &str = "203.0.113.20:443";
/// The high half of the agent's base.
const BASE_HIGH: u16 = 0x1234;
const BASE: u32 = 0x1234_8001;

/// Runs a command that must succeed.
fn done(arguments: &[&str]) -> String {
    let output = anyrelay(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// A POP with one tunnel, an agent of its tenant 1, and the tunnel's VIP.
struct Test {
    folder: Folder,
    vip: TunnelVip,
    addresses: OpenAddresses,
    key: AgentKey,
}

impl Test {
    fn new() -> Test {
        let folder = Folder::new();
        let mut config = Config::new();
        config.services += "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\n\
            open = { prefix = \"2001:db8:a::/48\", to = [\"2000::/3\"], \
            icmp_source = \"2001:db8::9\" }\n";
        let path = folder.pop(&config);
        let text = config.text().replace("id = 1\n", "id = 1\ntenants = \"tenants.toml\"\n");
        fs::write(path, text).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (tenants, key) = (text(&folder.path("tenants.toml")), text(&folder.path("key")));
        done(&["tenant", "add", &tenants, "acme"]);
        done(&["agent", "issue", &tenants, "--tenant", "acme", "--name", "laptop", "--out", &key]);
        let keys = fs::read_to_string(folder.path("keys.toml")).unwrap();
        let keys = KeyFile::parse(&keys).unwrap();
        let key = AgentKey::parse(&fs::read_to_string(key).unwrap()).unwrap();
        Test {
            folder,
            vip: TunnelVip::new("203.0.113.20:443".parse().unwrap(), &keys).unwrap(),
            addresses: {
                let net = IpNet::parse("2001:db8:a::/48").and_then(u128::of_net).unwrap();
                let prefix = OpenPrefix::new(net).unwrap();
                OpenAddresses::new(&keys.tokens, VIP_TEXT.parse().unwrap(), 1, prefix).unwrap()
            },
            key,
        }
    }

    /// S(n) towards the agent. A capture of `common` starts in 1970: the POP's tick is 0.
    fn server(&self, ticks: i64) -> u32 {
        let start = self.vip.predictor.start(AGENT.into());
        at(start, Constants::default().stride, Tick(ticks as u64)).0
    }

    /// A token made by POP 5.
    fn token(&self, agent: (Ipv4Addr, u16), tenant: u16) -> PublicToken {
        let (vip, now) = (&self.vip, UnixTime::default());
        vip.tokens.seal(now, agent.into(), BASE_HIGH, tenant, 5).unwrap()
    }

    /// A keepalive request that names this endpoint and tick.
    fn keepalive(&self, public: (Ipv4Addr, u16), last_tick: u64) -> Vec<u8> {
        let AgentKey { tenant, agent, key } = &self.key;
        let mut request = [0; KEEPALIVE_LEN_MAX];
        let (public, last_tick) = (public.into(), Tick(last_tick));
        let message =
            KeepaliveRequest { tenant: *tenant, agent: *agent, nonce: 0xabc, last_tick, public };
        let len = message.write(self.vip.addr, key, &mut request);
        request[..len].to_vec()
    }

    /// A datagram from the agent to another one, which is of `tenant`.
    fn datagram(&self, tenant: u16) -> Vec<u8> {
        let header = DataHeader {
            destination: Family::V4,
            sender: Family::V4,
            destination_odd: false,
            sender_odd: false,
            offset_steps: 1,
            channel: 0,
            session: 1,
        };
        let (to, own) = (self.token(OTHER, tenant), self.token(AGENT, 1));
        [&header.write_up()[..], to.token.as_bytes(), own.token.as_bytes(), b"body"].concat()
    }

    /// The agent's open address.
    fn open_address(&self) -> Ipv6Addr {
        let agent = OpenAgent { at: SocketAddrV4::new(AGENT.0, AGENT.1), base_high: BASE_HIGH };
        self.addresses.encode(UnixTime::default(), &agent).unwrap().into()
    }

    /// An open packet of the agent from `src` to `dst`.
    fn open_packet(src: Ipv6Addr, dst: &str) -> Vec<u8> {
        let dst: Ipv6Addr = dst.parse().unwrap();
        let head = [0x50, 1, 0, 0, 0x60, 0, 0, 0, 0, 4, 59, 64];
        [&head[..], &src.octets(), &dst.octets(), b"body"].concat()
    }

    /// The lines of `replay --explain` about `segments` of the agent: flags, numbers and payload.
    fn explain(&self, segments: &[(u8, u32, u32, Vec<u8>)]) -> Vec<String> {
        let frame = |(flags, seq, ack, payload): &(u8, u32, u32, Vec<u8>)| {
            let options = if *flags == SYN { WITH_TIMESTAMPS } else { &[] };
            let mut options = options.to_vec();
            options.resize(options.len().next_multiple_of(4), 0);
            data_segment(WAN_MAC, AGENT, VIP, (*flags, *seq, *ack), &options, payload)
        };
        let frames: Vec<_> = segments.iter().map(frame).collect();
        let input = self.folder.write("in.pcap", capture(&frames));
        let (config, output) = (self.folder.path("pop.toml"), self.folder.path("out.pcap"));
        let [config, input, output] = [&config, &input, &output].map(|path| path.to_str().unwrap());
        let files = ["replay", "--config", config, "--in", input, "--out", output];
        let output = done(&[&files[..], &["--explain"]].concat());
        output.lines().filter(|line| line.contains(" 0.0000")).map(str::to_owned).collect()
    }
}

#[test]
fn every_kind_of_segment_is_printed_with_its_contents() {
    let test = Test::new();
    let acked = test.server(-2) + 1;
    let lines = test.explain(&[
        (SYN, BASE - 1, 0, vec![]),
        (ACK, BASE, test.server(0) + 1, vec![]),
        (PSH_ACK, BASE, acked, test.keepalive(AGENT, 0)),
        (PSH_ACK, BASE.wrapping_add(4096 + 64), acked, test.datagram(1)),
    ]);
    let agent = "198.18.0.7:40000 at 203.0.113.20:443, tick 0";
    for (line, parts) in lines.iter().zip([
        vec![
            "service tun".to_owned(),
            format!("SYN of agent {agent} | "),
            "sends syn_ack".to_owned(),
            format!("203.0.113.20:443 -> 198.18.0.7:40000 [S.] seq {}", test.server(0)),
        ],
        vec![format!("no data of agent {agent} | "), "take tunnel_ack".to_owned()],
        vec![
            format!("keepalive of agent {agent}, acks tick -2"),
            "claims to be agent 1 of tenant 1, nonce 0000000000000abc, \
             names 198.18.0.7:40000 at tick 0 | "
                .to_owned(),
            "sends keepalive".to_owned(),
            format!("[P.] seq {} ack {}", test.server(0).wrapping_add(1), BASE + 90),
        ],
        vec![
            format!("datagram of agent {agent}, acks tick -2"),
            "own token: agent 198.18.0.7:40000 tenant 1 base 12348000 epoch 0 from POP 5, \
             seq of tick +1"
                .to_owned(),
            "destination's token: agent 198.18.0.9:5000 tenant 1 base 12348000 epoch 0 from POP 5"
                .to_owned(),
            "forward to wan".to_owned(),
            "203.0.113.20:443 -> 198.18.0.9:5000 [P.]".to_owned(),
        ],
    ]) {
        for part in parts {
            assert!(line.contains(&part), "{part:?} is not in {line}");
        }
    }
    assert_eq!(lines.len(), 4, "{lines:?}");
}

/// A request gets a token only if it names where it is from, and a tick near now.
#[test]
fn a_keepalive_that_gets_no_token_is_printed_with_what_it_names() {
    let test = Test::new();
    let acked = test.server(0) + 1;
    let lines = test.explain(&[
        (PSH_ACK, BASE, acked, test.keepalive((Ipv4Addr::UNSPECIFIED, 0), 0)),
        (PSH_ACK, BASE, acked, test.keepalive(OTHER, 0)),
        (PSH_ACK, BASE, acked, test.keepalive(AGENT, 4)),
    ]);
    for (line, part) in lines.iter().zip([
        ", names no address: no token | sends keepalive",
        ", names 198.18.0.9:5000 at tick 0: no token | sends keepalive",
        ", names 198.18.0.7:40000 at tick 4: no token | sends keepalive",
    ]) {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn drops_are_printed_with_their_reason_and_readable_contents() {
    let test = Test::new();
    let acked = test.server(0) + 1;
    let mut forged = test.datagram(1);
    forged[12 + 16] ^= 1;
    let lines = test.explain(&[
        (PSH_ACK, BASE, acked + 5, test.keepalive(AGENT, 0)),
        (PSH_ACK, BASE.wrapping_add(7), acked, test.datagram(1)),
        (PSH_ACK, BASE + 64, acked, test.datagram(2)),
        (PSH_ACK, BASE + 64, acked, forged),
        (PSH_ACK, BASE, acked, b"GET / HTTP/1.1".to_vec()),
    ]);
    for (line, parts) in lines.iter().zip([
        &["acks no tick", "drop keepalive_ack: "][..],
        &["acks tick +0", "from POP 5, seq of no tick", "drop not_in_sequence: "],
        &["destination's token: agent 198.18.0.9:5000 tenant 2", "drop other_tenant: "],
        &["destination's token: ", "drop own_token: "],
        &["no message of agent", "drop tunnel_malformed: "],
    ]) {
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
    }
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(!lines[3].contains("own token: "), "{}", lines[3]);
}

#[test]
fn open_packets_are_printed_with_their_addresses() {
    let test = Test::new();
    let acked = test.server(0) + 1;
    let (own, none) = (test.open_address(), "2001:db8:b::1".parse().unwrap());
    let lines = test.explain(&[
        (PSH_ACK, BASE + 64, acked, Test::open_packet(own, "2600::5")),
        (PSH_ACK, BASE + 64, acked, Test::open_packet(own, "fd00::5")),
        (PSH_ACK, BASE + 64, acked, Test::open_packet(none, "2600::5")),
    ]);
    let head = format!("open packet of agent 198.18.0.7:40000 at {VIP_TEXT}, tick 0, acks tick +0");
    let packet = format!("packet from {own}: agent 198.18.0.7:40000 base 12348000 to");
    for (line, parts) in lines.iter().zip([
        [format!("{packet} 2600::5, seq of tick +0"), "drop no_route: ".to_owned()],
        [format!("{packet} fd00::5, seq of tick +0"), "drop open_destination: ".to_owned()],
        [
            format!("packet from {none}: no open address to 2600::5, seq of no tick"),
            "drop open_source: ".to_owned(),
        ],
    ]) {
        for part in [&head, &parts[0], &parts[1]] {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
}
