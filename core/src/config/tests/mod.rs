//! Tests of the config: the values that are read, and every message of the checks.

mod encapsulated;
mod fragments;
mod mistakes;
pub(crate) mod open;
mod relay6;
mod targets;
pub(crate) mod text;
mod tunnels;
mod warnings;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use super::*;
use crate::net::MAX_SERVICES;
use anyrelay_kit::config::{Egress, PopConfig, Table, port, relay, tunnel, worker};
use text::{edit, relay_number};

/// A config without mistakes or warnings that uses every table but those of tunnels.
pub(crate) static GOOD: LazyLock<String> = LazyLock::new(|| {
    let wan = port("wan", "client", &["192.0.2.2/24"])
        .with("device", "net_af_packet0,iface=p1c")
        .with("gateways", ["192.0.2.1"])
        .with("gateway_macs", ["02:00:00:00:01:01"])
        .with("mac", "02:00:00:00:00:01")
        .with("mtu", 1500)
        .with("queues", 2);
    let lan = port("lan", "target", &["10.1.0.2/24", "10.1.1.2/31"])
        .with("device", "0000:01:00.0")
        .with("gateways", ["10.1.0.1"]);
    let pool = Egress::Pool("100.64.8.0/24");
    let targets = ["198.51.100.10:8443", "198.51.100.9:8443"];
    let web = relay("web", "203.0.113.10:443", &targets, pool);
    let web = web.with("mss", 1400).with("icmp_mtu_floor", 1280);
    PopConfig::new("pop1", 1, &[wan, lan])
        .set("private_clients", false)
        .set("drain_seconds", 0)
        .set("fragments", "drop")
        .edit(|config| config.workers.push(worker(1, &["wan:1"])))
        .other("dpdk", dpdk())
        .other("layout", Table::default().with("kind", "pipeline").with("idle", "backoff"))
        .limit("rst_per_second", 10)
        .limit("echo_per_second", 10)
        .limit("icmp_per_second", 10)
        .limit("remembered_answers", 64)
        .relay(web)
        .relay(relay("mail", "203.0.113.10:25", &["198.51.100.10:25"], pool))
        .relay(relay("raw", "203.0.113.11:443", &["198.51.100.10:8443"], Egress::Transparent))
        .other("metrics", Table::default().with("listen", "127.0.0.1:9100"))
        .text()
});

fn dpdk() -> Table {
    let table = Table::default().with("hugepages", false).with("memory_mb", 128);
    table.with("mbufs", 8192).with("args", Vec::<&str>::new())
}

pub(crate) fn good() -> Config {
    Config::parse("pop.toml", &GOOD).unwrap()
}

/// [`GOOD`] with `from` replaced by `to`.
pub(crate) fn with(from: &str, to: &str) -> String {
    edit(&GOOD, from, to)
}

/// [`GOOD`] that reassembles, with these lines in `[fragments]`.
pub(crate) fn reassembling(lines: &str) -> String {
    with("fragments = \"drop\"", "fragments = \"reassemble\"") + "[fragments]\n" + lines
}

/// [`GOOD`] with two tunnels.
pub(crate) fn tunnelling() -> String {
    let keys = "keys = \"keys.toml\"\n";
    let good = with(keys, &format!("{keys}tenants = \"tenants.toml\"\n"));
    let tun = tunnel("tun", &["203.0.113.20:443", "[2001:db8::20]:443"])
        .with("tenants", ["acme", "zorg"])
        .with("tick_ms", 8000)
        .with("stride", 4096)
        .with("lag", 4)
        .with("offset", 16384)
        .with("tunnel_mtu", 1400);
    let second = tunnel("second", &["203.0.113.10:444"]);
    format!("{good}\n[[tunnel]]\n{tun}\n[[tunnel]]\n{second}")
}

/// A config without mistakes or warnings, with a relay of each mode that has IPv6, and one without.
pub(crate) static IPV6: LazyLock<String> = LazyLock::new(|| {
    let wan = port("wan", "client", &["192.0.2.2/24", "2001:db8:1::2/64"])
        .with("gateways", ["192.0.2.1", "fe80::1"]);
    let lan = port("lan", "target", &["10.1.0.2/24", "2001:db8:2::2/64"])
        .with("gateways", ["10.1.0.1", "2001:db8:2::1"]);
    let prefix = Egress::Prefix("2001:db8:64::/64");
    let targets = ["[2001:db8:5::2]:8443", "[2001:db8:5::1]:8443"];
    let raw = |name, vip, target| relay(name, vip, &[target], Egress::Transparent);
    PopConfig::new("pop1", 1, &[wan, lan])
        .relay(relay(
            "old",
            "203.0.113.10:80",
            &["198.51.100.10:80"],
            Egress::Pool("100.64.8.0/24"),
        ))
        .relay(relay("web", "203.0.113.10:443", &targets, prefix).with("mss", 1400))
        .relay(relay("mail", "203.0.113.10:25", &["[2001:db8:5::1]:25"], prefix))
        .relay(raw("raw", "[2001:db8::10]:443", "[2001:db8:5::1]:8443"))
        .relay(raw("raw2", "[2001:db8::10]:80", "[2001:db8:5::9]:80"))
        .relay(relay("deep", "[2001:db8::10]:25", &["[2001:db8:5::9]:25"], DEEP_POOL))
        .text()
});

const DEEP_POOL: Egress<'static> = Egress::Pool("fd40::/12");

/// The egress of the relay `web` in [`IPV6`], for edits of that one alone.
pub(crate) const PREFIX: &str = "{ prefix = \"2001:db8:64::/64\" }\nmss";

pub(crate) fn ip(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

pub(crate) fn ip6(text: &str) -> u128 {
    text.parse::<Ipv6Addr>().unwrap().to_bits()
}

/// An edit of a config: the text that is replaced, the new text, the key of the mistake that the
/// edit makes, and a part of its reason.
type Mistakes = [(&'static str, &'static str, &'static str, &'static str)];

fn every_mistake_is_reported(text: &str, mistakes: &Mistakes) {
    for (from, to, key, reason) in mistakes {
        let Err(problems) = Config::parse("pop.toml", &edit(text, from, to)) else {
            panic!("{from} -> {to} is accepted");
        };
        let is_it = |problem: &Problem| problem.key == *key && problem.reason.contains(reason);
        assert!(
            problems.0.iter().any(is_it),
            "{from} -> {to}: expected {key}: {reason}; reported were:\n{problems}"
        );
        assert!(problems.0.iter().all(|problem| problem.file == "pop.toml"));
    }
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
    let floors = config.relays.iter().map(|relay| relay.icmp_mtu_floor);
    assert_eq!(floors.collect::<Vec<_>>(), [1280, 1280, 552]);
    assert_eq!(config.relays[0].targets.entries[0].address, "198.51.100.9:8443".parse().unwrap());
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
}

#[test]
fn a_port_that_only_receives_needs_no_gateway() {
    let text = |first: &str, second: &str, gateways: &[&str]| {
        let first = port("a", first, &["192.0.2.2/24"]);
        let second = port("b", second, &["10.1.0.2/24"]).with("gateways", gateways);
        PopConfig::new("p", 0, &[first, second]).text()
    };
    for first in ["client", "target", "both"] {
        assert!(Config::parse("f", &text(first, "both", &["10.1.0.1"])).is_ok(), "{first}");
    }
    let router: &[&str] = &["10.1.0.1"];
    for (first, second, gateways) in
        [("client", "target", router), ("both", "target", router), ("both", "both", &[])]
    {
        let problems = Config::parse("f", &text(first, second, gateways)).unwrap_err();
        assert_eq!(problems.0[0].key, "port[0].gateways", "{first} {second}");
    }
}

#[test]
fn settings_have_their_defaults() {
    let a = port("a", "both", &["192.0.2.2/24"]).with("gateways", ["192.0.2.1"]);
    let config = Config::parse("f", &PopConfig::new("p", 0, &[a]).text()).unwrap();
    assert_eq!(config.pop.drain_seconds, 10);
    assert!(!config.pop.private_clients && config.pop.gateway_clients);
    assert_eq!(config.pop.not_clients, []);
    assert_eq!((config.dpdk.memory_mb, config.dpdk.mbufs), (512, 16384));
    assert_eq!((config.layout, config.idle), (Layout::RunToCompletion, Idle::Backoff));
    assert_eq!(config.instructions, None);
    assert_eq!(config.limits.remembered_answers, 65_536);
    let limits = &config.limits;
    let syns = (limits.syn_per_prefix_per_second, limits.syn_per_service_per_second);
    assert_eq!(syns, (5000, 200_000));
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.warnings[0].key, "relay");
}
