//! What the reference says of reloads against what a reload refuses.

use std::collections::BTreeSet;

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::snapshot::{ConflictKind, Snapshot, reload_conflicts};
use anyrelay_core::time::UnixTime;
use anyrelay_reference::files::POP;
use toml::Table;

use super::bases::BASES;
use super::keys;

#[test]
fn reloads_do_what_the_reference_says() {
    let base = &BASES[0];
    let all = keys(&POP);
    let old = snapshot(base.text);
    let mut untested: BTreeSet<_> = all.iter().map(|(path, _)| path.as_str()).collect();
    for (path, other) in OTHERS {
        assert!(untested.remove(path), "{path} is no key, or twice");
        let (_, key) = all.iter().find(|(name, _)| name == path).unwrap();
        // What is `as` another key.
        let reload = match key.reload.strip_prefix("as `").and_then(|rest| rest.split_once('`')) {
            Some((as_other, _)) => {
                let table = path.split('.').next().unwrap();
                let as_other = format!("{table}.{as_other}");
                &all.iter().find(|(name, _)| *name == as_other).unwrap().1.reload
            }
            None => &key.reload,
        };
        let value = |text: &str| Some(format!("v = {text}").parse::<Table>().unwrap()["v"].clone());
        // Queues that the worker must poll under their new names.
        let rx = match *path {
            "port.name" => r#"["dmz:0", "lan:0"]"#,
            "port.queues" => r#"["wan:0", "lan:0", "wan:1"]"#,
            _ => r#"["wan:0", "lan:0"]"#,
        };
        let mut changes = vec![("worker.rx", value(rx)), (*path, value(other))];
        if *path == "pop.fragments" {
            changes.push(("fragments", None));
        }
        let text = base.with_all(changes);
        assert_ne!(Config::parse("f", &text), Config::parse("f", base.text), "{path} is the same");
        let conflicts = reload_conflicts(&old, &snapshot(&text), NOW);
        let mut kinds: Vec<_> = conflicts.iter().map(|conflict| conflict.kind).collect();
        kinds.dedup();
        let expected: &[ConflictKind] = match reload.split([',', ';', ' ']).next() {
            Some("yes") if reload.contains("to false breaks") && *other == "false" => {
                &[ConflictKind::BreaksConnections]
            }
            Some("yes") if reload.contains("where there was none") && base.has(path) => {
                &[ConflictKind::BreaksConnections]
            }
            Some("yes") => &[],
            Some("restart") => &[ConflictKind::NeedsRestart],
            Some("breaks") => &[ConflictKind::BreaksConnections],
            _ => panic!("{path}: {reload:?} begins with none of the words"),
        };
        assert_eq!(kinds, expected, "{path}: {reload}: {conflicts:?}");
    }
    let untested: Vec<_> = untested.into_iter().collect();
    assert_eq!(untested, ELSEWHERE, "keys without a row in OTHERS");
}

fn snapshot(text: &str) -> Snapshot {
    let config = Config::parse("f", text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    let tenants = Tenants::parse(
        "[[tenant]]\nid = 1\nname = \"acme\"\n\
         key = \"0101010101010101010101010101010101010101010101010101010101010101\"\n",
    );
    Snapshot::build(&config, &keys, &tenants.unwrap(), None).unwrap()
}

const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

/// Keys of targets, which are as the list that has them: `relay.targets` is among the others. And
/// those that only an egress other than a pool, or an open tunnel, has, whose reload the core
/// tests.
const ELSEWHERE: &[&str] = &[
    "relay.choose_by",
    "relay.protocol",
    "relay.return",
    "relay.targets.address",
    "relay.targets.gone",
    "relay.targets.since",
    "relay.targets.until",
    "relay.targets.weight",
    "relay.targets_file",
    "tunnel.open.icmp_source",
    "tunnel.open.prefix",
    "tunnel.open.to",
];

/// Another value for each key.
const OTHERS: &[(&str, &str)] = &[
    ("pop.name", r#""ams2""#),
    ("pop.id", "2"),
    ("pop.keys", r#""other.toml""#),
    ("pop.tenants", r#""other.toml""#),
    ("pop.open_secrets", "true"),
    ("pop.clock", r#""trusted""#),
    ("pop.clock_offset_ms", "5"),
    ("pop.private_clients", "true"),
    ("pop.gateway_clients", "false"),
    ("pop.not_clients", r#"["198.18.0.0/15"]"#),
    ("pop.drain_seconds", "11"),
    ("pop.fragments", r#""drop""#),
    ("dpdk.hugepages", "true"),
    ("dpdk.memory_mb", "1024"),
    ("dpdk.mbufs", "32768"),
    ("dpdk.args", r#"["--no-telemetry"]"#),
    ("port.name", r#""dmz""#),
    ("port.device", r#""net_null2""#),
    ("port.side", r#""client""#),
    ("port.mac", r#""02:00:00:00:00:99""#),
    ("port.addresses", r#"["192.0.2.3/24"]"#),
    ("port.gateways", r#"["192.0.2.4"]"#),
    ("port.gateway_macs", r#"["02:00:00:00:00:02"]"#),
    ("port.vlan", "7"),
    ("port.mtu", "1600"),
    ("port.queues", "2"),
    ("worker.core", "1"),
    ("worker.rx", r#"["lan:0", "wan:0"]"#),
    ("layout.kind", r#""pipeline""#),
    ("layout.idle", r#""spin""#),
    ("layout.instructions", r#""baseline""#),
    ("limits.rst_per_second", "7"),
    ("limits.echo_per_second", "7"),
    ("limits.icmp_per_second", "7"),
    ("limits.neighbour_per_second", "7"),
    ("limits.icmp_forward_per_second", "7"),
    ("limits.remembered_answers", "7"),
    ("limits.remembered_syns", "7"),
    ("limits.syn_ack_per_second", "7"),
    ("limits.keepalive_mac_per_second", "7"),
    ("limits.syn_per_prefix_per_second", "7"),
    ("limits.syn_per_service_per_second", "7"),
    ("limits.open_per_agent_per_second", "7"),
    ("limits.open_per_service_per_second", "7"),
    ("neighbours.refresh_ms", "10000"),
    ("neighbours.probe_interval_ms", "2000"),
    ("neighbours.probes", "4"),
    ("neighbours.probe_fixed", "true"),
    ("fragments.datagrams", "512"),
    ("fragments.per_datagram", "4"),
    ("fragments.buffers", "512"),
    ("fragments.timeout_ms", "500"),
    ("relay.name", r#""mail""#),
    ("relay.vip", r#""203.0.113.11:443""#),
    (
        "relay.targets",
        "[{ address = \"198.51.100.10:8443\" },
           { address = \"198.51.100.11:8443\", since = 2030-01-01T00:00:00Z }]",
    ),
    ("relay.memory", r#""48h""#),
    ("relay.skew", r#""4s""#),
    ("relay.egress", r#"{ pool = "100.64.9.0/24" }"#),
    ("relay.mss", "1400"),
    ("relay.icmp_mtu_floor", "1200"),
    ("relay.client_address", r#""toa""#),
    ("tunnel.name", r#""net""#),
    ("tunnel.vip4", r#""203.0.113.21:443""#),
    ("tunnel.vip6", r#""[2001:db8::20]:443""#),
    ("tunnel.tenants", r#"["acme"]"#),
    ("tunnel.tick_ms", "4000"),
    ("tunnel.stride", "2048"),
    ("tunnel.lag", "3"),
    ("tunnel.offset", "8192"),
    ("tunnel.tunnel_mtu", "1300"),
    (
        "tunnel.open",
        r#"{ prefix = "2001:db8:a::/48", to = ["2000::/3"], icmp_source = "2001:db8::1" }"#,
    ),
    ("metrics.listen", r#""127.0.0.1:9100""#),
    ("hints.listen", r#""10.9.0.3:4791""#),
    ("hints.peers", r#"["10.9.0.4:4791"]"#),
    ("hints.per_second", "7"),
];
