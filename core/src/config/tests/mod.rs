//! Tests of the config: what is read, every message of the checks, what a snapshot answers, and
//! what a reload may change.

mod fragments;
mod mistakes;
mod relay6;
mod tunnels;

use std::net::Ipv4Addr;

use super::*;
use crate::keys::{KeyFile, Tenants};
use crate::net::{MAX_SERVICES, ServiceIndex, ServiceSlot};
use crate::snapshot::{ConflictKind, Destination, PoolIndex, Snapshot, reload_conflicts};
use crate::time::UnixTime;

/// A config without mistakes or warnings, that uses everything.
pub(crate) const GOOD: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"
private_clients = false
drain_seconds = 0
fragments = "drop"
icmp_mtu_floor = 552

[dpdk]
hugepages = false
memory_mb = 128
mbufs = 8192
args = []

[[port]]
name = "wan"
device = "net_af_packet0,iface=p1c"
side = "client"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
gateway_macs = ["02:00:00:00:01:01"]
mtu = 1500
queues = 2

[[port]]
name = "lan"
device = "0000:01:00.0"
side = "target"
addresses = ["10.1.0.2/24", "10.1.1.2/31"]
gateways = ["10.1.0.1"]

[[worker]]
core = 0
rx = ["wan:0", "lan:0"]

[[worker]]
core = 1
rx = ["wan:1"]

[layout]
kind = "pipeline"
idle = "backoff"

[limits]
rst_per_second = 10
variant_per_second = 10
echo_per_second = 10
icmp_per_second = 10
pending_rsts = 64

[[relay]]
name = "web"
vip = "203.0.113.10:443"
targets = ["198.51.100.10:8443", "198.51.100.9:8443"]
egress = { pool = "100.64.8.0/24" }
mss = 1400

[[relay]]
name = "mail"
vip = "203.0.113.10:25"
targets = ["198.51.100.10:25"]
egress = { pool = "100.64.8.0/24" }

[[relay]]
name = "raw"
vip = "203.0.113.11:443"
targets = ["198.51.100.10:8443"]
egress = "transparent"

[metrics]
listen = "127.0.0.1:9100"
"#;

pub(crate) fn good() -> Config {
    Config::parse("pop.toml", GOOD).unwrap()
}

pub(crate) fn keys() -> KeyFile {
    KeyFile::from_random([[1; 32], [2; 32], [3; 32]])
}

/// Two tenants, the first with two agents of which one is revoked.
const TENANTS: &str = r#"
[[tenant]]
id = 1
name = "acme"
key = "0101010101010101010101010101010101010101010101010101010101010101"
[[tenant.agent]]
id = 1
name = "laptop"
[[tenant.agent]]
id = 2
name = "phone"
revoked = true

[[tenant]]
id = 9
name = "zorg"
key = "0909090909090909090909090909090909090909090909090909090909090909"
"#;

pub(crate) fn tenants() -> Tenants {
    Tenants::parse(TENANTS).unwrap()
}

pub(crate) const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

pub(crate) fn snapshot(text: &str) -> Snapshot {
    Snapshot::build(&Config::parse("pop.toml", text).unwrap(), &keys(), &tenants(), None).unwrap()
}

/// `GOOD` with `from` replaced by `to`, which must be in it.
pub(crate) fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the config");
    GOOD.replacen(from, to, 1)
}

pub(crate) fn ip(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

#[test]
fn a_good_config_is_read_whole() {
    let config = good();
    assert_eq!(config.warnings, []);
    assert_eq!(config.ports.len(), 2);
    assert_eq!(config.ports[0].gateways[0].mac, Some(MacAddr::new([2, 0, 0, 0, 1, 1])));
    assert_eq!(config.ports[1].mtu, 1500);
    assert_eq!(config.workers[1].rx, [PortQueue { port: PortIndex(0), queue: 1 }]);
    assert_eq!(config.layout, Layout::Pipeline);
    assert_eq!(config.relays[0].mss, 1400);
    assert_eq!(config.relays[1].mss, 1460);
    assert_eq!(config.relays[0].targets[0], "198.51.100.9:8443".parse().unwrap());
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
}

#[test]
fn a_port_that_only_receives_needs_no_gateway() {
    let text = |first: &str, second: &str, gateways: &str| {
        format!(
            "pop = {{ name = 'p', id = 0, keys = 'k' }}\n\
             worker = [{{ core = 0, rx = ['a:0', 'b:0'] }}]\n\
             [[port]]\nname = 'a'\ndevice = 'd'\nside = '{first}'\naddresses = ['192.0.2.2/24']\n\
             [[port]]\nname = 'b'\ndevice = 'e'\nside = '{second}'\naddresses = ['10.1.0.2/24']\n\
             gateways = [{gateways}]\n"
        )
    };
    for first in ["client", "target", "both"] {
        assert!(Config::parse("f", &text(first, "both", "'10.1.0.1'")).is_ok(), "{first}");
    }
    for (first, second, gateways) in
        [("client", "target", "'10.1.0.1'"), ("both", "target", "'10.1.0.1'"), ("both", "both", "")]
    {
        let problems = Config::parse("f", &text(first, second, gateways)).unwrap_err();
        assert_eq!(problems.0[0].key, "port[0].gateways", "{first} {second}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = r#"
        pop = { name = "p", id = 0, keys = "k" }
        port = [{ name = "a", device = "d", side = "both", addresses = ["192.0.2.2/24"], gateways = ["192.0.2.1"] }]
        worker = [{ core = 0, rx = ["a:0"] }]
    "#;
    let config = Config::parse("f", text).unwrap();
    assert_eq!((config.pop.drain_seconds, config.pop.icmp_mtu_floor), (10, 552));
    assert!(!config.pop.private_clients);
    assert_eq!((config.dpdk.memory_mb, config.dpdk.mbufs), (512, 16384));
    assert_eq!((config.layout, config.idle), (Layout::RunToCompletion, Idle::Backoff));
    assert_eq!(config.limits.pending_rsts, 4096);
    let limits = &config.limits;
    let syns = (limits.syn_per_prefix_per_second, limits.syn_per_service_per_second);
    assert_eq!(syns, (5000, 200_000));
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.warnings[0].key, "relay");
}
