//! The example config is valid, and each problem is reported with its key.

use std::net::IpAddr;

use super::*;
use crate::publish::PublishTarget;

const EXAMPLE: &str = include_str!("../../../../deploy/examples/agent.toml");
const KEY: &str = "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209";
const OTHER: &str = "b4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209";

fn problems(text: &str) -> Vec<String> {
    match Config::parse("agent.toml", text) {
        Ok(config) => panic!("no mistake found: {config:?}"),
        Err(Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A valid config with one line replaced.
fn with(line: &str, other: &str) -> String {
    let good = good();
    assert!(good.contains(line), "{line}");
    good.replace(line, other)
}

fn good() -> String {
    format!(
        r#"
[agent]
vip = "203.0.113.20:443"
key = "agent.key"
publish = ["file:token"]
[tun]
name = "anyrelay0"
addresses = ["10.9.0.1/24", "fd00:9::1/64"]
mtu = 1288
private_key = "tun.key"
[[peer]]
name = "home"
public_key = "{KEY}"
at = "dns:home.example.net"
allowed = ["10.9.0.2/32", "fd00:9::2/128"]
keepalive_seconds = 25
[[peer]]
name = "exit"
public_key = "{OTHER}"
preshared_key = "exit.psk"
allowed = ["10.9.0.0/16"]
"#
    )
}

#[test]
fn a_valid_config_is_parsed() {
    let config = Config::parse("agent.toml", &good()).unwrap();
    let LocalConfig::Tun(tun) = config.local else { panic!("a TUN side") };
    let v6: IpAddr = "fd00:9::1".parse().unwrap();
    assert_eq!(tun.device.addresses, [([10, 9, 0, 1].into(), 24), (v6, 64)]);
    assert_eq!(tun.device.mtu, Some(1288));
    assert_eq!(tun.device.routes.len(), 3);
    assert_eq!(tun.peers.len(), 2);
    assert_eq!(tun.peers[0].keepalive_seconds, 25);
    assert_eq!(tun.peers[1].at, None);
    assert_eq!(config.agent.publish, [PublishTarget::File("token".into())]);
}

#[test]
fn the_example_is_valid() {
    let config = Config::parse("agent.toml", EXAMPLE).unwrap();
    assert!(matches!(config.local, LocalConfig::Tun(_)));
}

#[test]
fn a_udp_side_either_listens_or_has_a_target() {
    let agent = "[agent]\nvip = \"[2001:db8::20]:443\"\nkey = \"k\"\n";
    let udp = |keys: &str| Config::parse("f", &format!("{agent}[udp]\n{keys}"));
    let listen = udp("listen = \"127.0.0.1:5000\"\npeer = \"dns:home.example.net\"").unwrap();
    assert!(matches!(listen.local, LocalConfig::UdpListen { .. }));
    let target = udp("target = \"127.0.0.1:51820\"").unwrap();
    assert!(matches!(target.local, LocalConfig::UdpTarget(_)));
    for keys in ["listen = \"127.0.0.1:5000\"", "", "target = \"[::1]:1\"\npeer = \"dns:a.b\""] {
        assert!(udp(keys).unwrap_err().to_string().starts_with("f: udp: give either"), "{keys}");
    }
    let nothing = "agent.toml: nothing to do: give [tun] with [[peer]], [udp] or [open]";
    assert_eq!(problems(agent), [nothing]);
    let both = format!("{}\n[udp]\ntarget = \"127.0.0.1:1\"", good());
    assert!(problems(&both)[0].starts_with("agent.toml: udp: one agent"));
}

#[test]
fn each_problem_is_reported_with_its_key() {
    let other_peer = format!("public_key = \"{OTHER}\"");
    let cases = [
        ("vip = \"203.0.113.20:443\"", "vip = \"203.0.113.20\"", "agent.vip"),
        ("vip = \"203.0.113.20:443\"", "vip = \"203.0.113.20:0\"", "agent.vip"),
        ("key = \"agent.key\"", "key = \"\"", "agent.key"),
        ("\"file:token\"", "\"command:\"", "agent.publish[0]"),
        ("key = \"agent.key\"", "key = \"k\"\nmark = 0", "agent.mark"),
        ("key = \"agent.key\"", "key = \"k\"\nmark = 4294967296", "agent.mark"),
        ("key = \"agent.key\"", "key = \"k\"\ninterface = \"\"", "agent.interface"),
        ("key = \"agent.key\"", "key = \"k\"\ninterface = \"anyrelay0\"", "agent.interface"),
        ("name = \"anyrelay0\"", "name = \"much-too-long-for-it\"", "tun.name"),
        ("\"10.9.0.1/24\"", "\"10.9.0.1\"", "tun.addresses[0]"),
        ("\"10.9.0.1/24\"", "\"10.9.0.1/33\"", "tun.addresses[0]"),
        ("\"10.9.0.1/24\"", "\"224.0.0.1/24\"", "tun.addresses[0]"),
        ("\"10.9.0.1/24\"", "\"fd00:9::1/48\"", "tun.addresses[1]"),
        ("mtu = 1288", "mtu = 1279", "tun.mtu"),
        ("mtu = 1288", "mtu = 9001", "tun.mtu"),
        ("private_key = \"tun.key\"", "private_key = \"\"", "tun.private_key"),
        ("name = \"home\"", "name = \"h o\"", "peer[0].name"),
        ("name = \"exit\"", "name = \"home\"", "peer[1].name"),
        (&other_peer, &format!("public_key = \"{KEY}\""), "peer[1].public_key"),
        (&other_peer, "public_key = \"xyz\"", "peer[1].public_key"),
        ("\"exit.psk\"", "\"\"", "peer[1].preshared_key"),
        ("\"dns:home.example.net\"", "\"home.example.net\"", "peer[0].at"),
        ("[\"10.9.0.0/16\"]", "[]", "peer[1].allowed"),
        ("[\"10.9.0.0/16\"]", "[\"10.9.0.1/16\"]", "peer[1].allowed[0]"),
        ("[\"10.9.0.0/16\"]", "[\"10.9.0.2/32\"]", "peer[1].allowed[0]"),
        ("[\"10.9.0.0/16\"]", "[\"10.9.0.1/32\"]", "peer[1].allowed[0]"),
        ("[\"10.9.0.0/16\"]", "[\"203.0.0.0/8\"]", "tun.routes"),
        ("\"10.9.0.1/24\"", "\"203.0.113.1/24\"", "tun.addresses[0]"),
        ("keepalive_seconds = 25", "keepalive_seconds = -1", "peer[0].keepalive_seconds"),
        ("keepalive_seconds = 25", "keepalive = 25", "peer[0].keepalive"),
    ];
    for (line, other, key) in cases {
        let problems = problems(&with(line, other));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("agent.toml: {key}: ")), "{other}: {problems:?}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = with("mtu = 1288", "mtu = 1").replace("203.0.113.20:443", "x").replace(KEY, "y");
    assert_eq!(problems(&text).len(), 3);
    let problems = problems("[agent]\nvip = 1");
    assert!(problems[0].starts_with("agent.toml: agent.vip: "), "{problems:?}");
}

#[test]
fn with_a_mark_or_interface_routes_may_contain_the_vip() {
    for line in ["mark = 0xca6c", "interface = \"eth0\""] {
        let text = with("10.9.0.0/16", "203.0.0.0/8");
        let text = text.replace("[tun]", &format!("{line}\n[tun]"));
        let config = Config::parse("f", &text).unwrap();
        let Steering { mark, interface } = config.agent.steering;
        assert_eq!(
            (mark.is_some(), interface.is_some()),
            (line.starts_with('m'), line.contains("eth0"))
        );
    }
}

#[test]
fn routes_can_be_left_to_the_operator() {
    let text = with("mtu = 1288", "routes = false").replace("10.9.0.0/16", "203.0.0.0/8");
    let LocalConfig::Tun(tun) = Config::parse("f", &text).unwrap().local else { panic!("a TUN") };
    assert_eq!(tun.device.routes, []);
    // A default route is allowed, but never created.
    let text = with("10.9.0.0/16", "0.0.0.0/0");
    let LocalConfig::Tun(tun) = Config::parse("f", &text).unwrap().local else { panic!("a TUN") };
    assert_eq!(tun.device.routes.len(), 2);
}

const ALONE: &str = r#"
[agent]
vip = "203.0.113.20:443"
key = "agent.key"
[open]
device = "open0"
routes = ["::/0", "2001:db8::/32"]
publish = ["file:address", "run:/usr/local/bin/publish  home 7"]
"#;

#[test]
fn an_open_side_is_alone_or_beside_another() {
    let config = Config::parse("agent.toml", ALONE).unwrap();
    let open = config.open.unwrap();
    assert_eq!((config.local, open.device.as_str()), (LocalConfig::None, "open0"));
    let routes: Vec<_> = open.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["::/0", "2001:db8::/32"]);
    let words = ["/usr/local/bin/publish", "home", "7"].map(str::to_owned).to_vec();
    let program = PublishTarget::Program { words, variable: "ANYRELAY_OPEN_ADDRESS" };
    assert_eq!(open.publish, [PublishTarget::File("address".into()), program]);
    for other in ["", "[udp]\ntarget = \"127.0.0.1:7\"\n"] {
        let text = if other.is_empty() { good() } else { ALONE.replace("[open]\n", other) };
        let text = text.split("device =").next().unwrap().to_owned();
        let config = Config::parse("agent.toml", &format!("{text}[open]\ndevice = \"open0\"\n"));
        let config = config.unwrap();
        assert!(config.local != LocalConfig::None && config.open.is_some());
    }
    assert_eq!(Config::parse("agent.toml", &good()).unwrap().open, None);
}

#[test]
fn mistakes_of_the_open_side_are_reported() {
    for (from, to, wanted) in [
        ("open0", "", "open.device: \"\" cannot be the name of a network device"),
        ("203.0.113.20", "[2001:db8::20]", "agent.vip: [2001:db8::20]:443: an open address needs"),
        ("::/0", "0.0.0.0/0", "open.routes[0]: 0.0.0.0/0 is of IPv4; an open address is of IPv6"),
        ("::/0", "::1/0", "open.routes[0]: \"::1/0\": the address has bits past the prefix"),
        ("::/0", "2001:db8::/32", "open.routes[1]: 2001:db8::/32 is there twice"),
        ("file:address", "address", "open.publish[0]: \"address\": give file:PATH or run:PROGRAM"),
        ("file:address", "file:", "open.publish[0]: \"file:\": give file:PATH"),
        ("file:address", "command:x", "open.publish[0]: \"command:x\": give file:PATH"),
        ("file:address", "run: ", "open.publish[0]: \"run: \": give file:PATH"),
        ("443\"", "443\"\ninterface = \"open0\"", "agent.interface: \"open0\" is the agent's own"),
        ("device", "devices", "open.devices: unknown field `devices`"),
    ] {
        let found = problems(&ALONE.replacen(from, to, 1));
        let wanted = format!("agent.toml: {wanted}");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{wanted}: {found:?}");
    }
    let both = format!("{}[open]\ndevice = \"anyrelay0\"\n", good());
    let found = problems(&both);
    assert!(found[0].contains("open.device: \"anyrelay0\" is the name of the device in [tun]"));
}
