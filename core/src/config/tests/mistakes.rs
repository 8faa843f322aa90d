//! Every mistake is reported with its key and reason.

use super::*;

const MISTAKES: &Mistakes = &[
    // The form of the file.
    ("[pop]", "\n[pop", "", "line 2"),
    ("id = 1\n", "id = 1\nid = 1\n", "", "duplicate key"),
    ("id = 1\n", "", "pop", "missing field `id`"),
    ("id = 1\n", "id = 1\nuid = 2\n", "pop.uid", "unknown field `uid`"),
    ("[dpdk]", "[dpkd]", "dpkd", "unknown field `dpkd`"),
    ("vip = \"203.0.113.11:443\"", "vips = \"x\"", "relay[2].vips", "unknown field `vips`"),
    ("mtu = 1500", "mtu = \"1500\"", "port[0].mtu", "expected i64"),
    ("side = \"client\"", "side = \"left\"", "port[0].side", "unknown variant `left`"),
    (
        "egress = \"transparent\"",
        "egress = \"opaque\"",
        "relay[2].egress",
        "unknown variant `opaque`",
    ),
    (
        "egress = \"transparent\"",
        "egress = { poool = \"x\" }",
        "relay[2].egress",
        "unknown variant `poool`",
    ),
    ("idle = \"backoff\"", "idle = \"sleep\"", "layout.idle", "unknown variant `sleep`"),
    // The POP.
    ("\"pop1\"", "\"pop 1\"", "pop.name", "cannot be a name"),
    ("\"pop1\"", "\"\"", "pop.name", "cannot be a name"),
    ("id = 1", "id = 256", "pop.id", "must be 0 to 255"),
    ("id = 1", "id = -1", "pop.id", "must be 0 to 255"),
    ("\"keys.toml\"", "\"\"", "pop.keys", "name the key file"),
    ("drain_seconds = 0", "drain_seconds = 3601", "pop.drain_seconds", "0 to 3600"),
    ("\"drop\"", "\"keep\"", "pop.fragments", "unknown variant `keep`"),
    ("[limits]", "[fragments]\n[limits]", "fragments", "no fragments to be kept"),
    ("floor = 1280", "floor = 67", "relay[0].icmp_mtu_floor", "68 to 1500"),
    ("floor = 1280", "floor = 1501", "relay[0].icmp_mtu_floor", "68 to 1500"),
    ("drain_seconds = 0", "not_clients = [\"192.0.2.1\"]", "pop.not_clients[0]", "ADDRESS/LENGTH"),
    ("drain_seconds = 0", "not_clients = [\"::/0\"]", "pop.not_clients[0]", "everybody"),
    (
        "drain_seconds = 0",
        "not_clients = [\"10.0.0.0/8\", \"192.0.2.1/24\"]",
        "pop.not_clients[1]",
        "write 192.0.2.0/24",
    ),
    (
        "floor = 1280",
        "floor = 1280\nclient_address = \"port\"",
        "relay[0].client_address",
        "`port`",
    ),
    (
        "egress = \"transparent\"",
        "client_address = \"toa\"\negress = \"transparent\"",
        "relay[2].client_address",
        "the client's own address",
    ),
    (
        "egress = \"transparent\"",
        "client_address = \"toa\"\negress = { prefix = \"2001:db8:64::/48\" }",
        "relay[2].client_address",
        "holds the client's already",
    ),
    (
        "floor = 1280",
        "floor = 1280\nprotocol = \"both\"",
        "relay[0].protocol",
        "in a relay of its own at the same VIP",
    ),
    ("floor = 1280", "floor = 1280\nprotocol = \"sctp\"", "relay[0].protocol", "`sctp`"),
    (
        "floor = 1280",
        "floor = 1280\nchoose_by = \"address\"",
        "relay[0].choose_by",
        "with a pool it is always the endpoint",
    ),
    (
        "\"203.0.113.11:443\"",
        "\"203.0.113.10:443\"\nprotocol = \"both\"",
        "relay[2].vip",
        "relay[0] is at 203.0.113.10:443 already",
    ),
    ("drain_seconds = 0", "icmp_mtu_floor = 552", "pop.icmp_mtu_floor", "unknown field"),
    ("memory_mb = 128", "memory_mb = 1", "dpdk.memory_mb", "32 to"),
    ("mbufs = 8192", "mbufs = 0", "dpdk.mbufs", "1024 to"),
    ("args = []", "args = [\"-v\", \"\"]", "dpdk.args[1]", "must not be empty"),
    ("rst_per_second = 10", "rst_per_second = -1", "limits.rst_per_second", "out of range"),
    (
        "remembered_answers = 64",
        "syn_per_prefix_per_second = 0",
        "limits.syn_per_prefix_per_second",
        "1 to",
    ),
    (
        "remembered_answers = 64",
        "syn_per_service_per_second = 0",
        "limits.syn_per_service_per_second",
        "1 to",
    ),
    ("remembered_answers = 64", "neighbour_per_second = 0", "limits.neighbour_per_second", "1 to"),
    ("remembered_answers = 64", "remembered_answers = 0", "limits.remembered_answers", "1 to"),
    (
        "[limits]",
        "[neighbours]\nrefresh_ms = 99\n[limits]",
        "neighbours.refresh_ms",
        "100 to 30000",
    ),
    (
        "[limits]",
        "[neighbours]\nprobe_interval_ms = 99\n[limits]",
        "neighbours.probe_interval_ms",
        "100 to 5000",
    ),
    ("[limits]", "[neighbours]\nprobes = 0\n[limits]", "neighbours.probes", "1 to 10"),
    (
        "[limits]",
        "[neighbours]\nrefresh_ms = 30000\nprobe_interval_ms = 5000\nprobes = 6\n[limits]",
        "neighbours",
        "missed after 60000 ms",
    ),
    ("127.0.0.1:9100", "localhost", "metrics.listen", "is not IP:PORT"),
    // Ports.
    ("name = \"lan\"", "name = \"wan\"", "port[1].name", "port[0] has this name too"),
    ("0000:01:00.0", "net_af_packet0,iface=p1c", "port[1].device", "port[0] has this device"),
    ("\"0000:01:00.0\"", "\"\"", "port[1].device", "PCI address"),
    ("side = \"client\"", "side = \"target\"", "port", "no port takes frames from clients"),
    ("side = \"target\"", "side = \"client\"", "port", "no port takes frames from targets"),
    ("02:00:00:00:00:01", "02:00:00:00:00", "port[0].mac", "not a MAC address"),
    ("02:00:00:00:00:01", "03:00:00:00:00:01", "port[0].mac", "multicast"),
    ("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "port[0].mac", "multicast"),
    ("192.0.2.2/24", "192.0.2.2", "port[0].addresses[0]", "is not ADDRESS/LENGTH"),
    ("192.0.2.2/24", "192.0.2.2/33", "port[0].addresses[0]", "is not ADDRESS/LENGTH"),
    ("192.0.2.2/24", "192.0.2.0/24", "port[0].addresses[0]", "network or broadcast"),
    ("192.0.2.2/24", "192.0.2.255/24", "port[0].addresses[0]", "network or broadcast"),
    ("192.0.2.2/24", "224.0.0.1/24", "port[0].addresses[0]", "not a unicast"),
    ("192.0.2.2/24", "192.0.2.2/0", "port[0].addresses[0]", "the whole world"),
    ("10.1.1.2/31", "192.0.2.2/24", "port[1].addresses[1]", "port[0] has 192.0.2.2 already"),
    ("[\"192.0.2.1\"]", "[]", "port[0].gateways", "there is none"),
    ("\"192.0.2.1\"", "\"router\"", "port[0].gateways[0]", "not an IP address"),
    ("\"192.0.2.1\"", "\"192.0.3.1\"", "port[0].gateways[0]", "must be on-link"),
    ("\"192.0.2.1\"", "\"192.0.2.2\"", "port[0].gateways[0]", "own address"),
    ("\"192.0.2.1\"", "\"192.0.2.255\"", "port[0].gateways[0]", "network or broadcast"),
    ("\"10.1.0.1\"", "\"10.1.0.1\", \"10.1.0.1\"", "port[1].gateways[1]", "named twice"),
    // Ports and IPv6.
    ("192.0.2.2/24", "2001:db8::2/129", "port[0].addresses[0]", "is not ADDRESS/LENGTH"),
    ("192.0.2.2/24", "2001:db8::2", "port[0].addresses[0]", "is not ADDRESS/LENGTH"),
    ("192.0.2.2/24", "2001:db8::2%eth0/64", "port[0].addresses[0]", "is not ADDRESS/LENGTH"),
    ("192.0.2.2/24", "2001:db8::/64", "port[0].addresses[0]", "anycast address of the routers"),
    ("192.0.2.2/24", "2001:db8::2/0", "port[0].addresses[0]", "the whole world"),
    ("192.0.2.2/24", "ff02::1/64", "port[0].addresses[0]", "not a unicast"),
    ("192.0.2.2/24", "::1/128", "port[0].addresses[0]", "not a unicast"),
    ("192.0.2.2/24", "::ffff:192.0.2.2/128", "port[0].addresses[0]", "not a unicast"),
    (
        "\"10.1.1.2/31\"",
        "\"2001:db8::2/64\", \"2001:db8::2/127\"",
        "port[1].addresses[2]",
        "port[1] has 2001:db8::2 already",
    ),
    (
        "\"10.1.1.2/31\"",
        "\"fe80::2/64\", \"fe80::2/64\"",
        "port[1].addresses[2]",
        "port[1] has fe80::2 already",
    ),
    ("\"10.1.0.1\"", "\"10.1.0.1\", \"2001:db8::1\"", "port[1].gateways[1]", "must be on-link"),
    ("\"10.1.0.1\"", "\"10.1.0.1\", \"fe80::1\"", "port[1].gateways[1]", "without an IPv6 address"),
    (
        "\"10.1.1.2/31\"]\ngateways = [\"10.1.0.1\"]",
        "\"2001:db8::2/64\"]\ngateways = [\"10.1.0.1\", \"2001:db8::2\"]",
        "port[1].gateways[1]",
        "own address",
    ),
    (
        "\"10.1.1.2/31\"]\ngateways = [\"10.1.0.1\"]",
        "\"2001:db8::2/64\"]\ngateways = [\"2001:db8::1\"]",
        "port",
        "no port towards the targets has an IPv4 gateway",
    ),
    (
        "\"192.0.2.2/24\"]\ngateways = [\"192.0.2.1\"]",
        "\"2001:db8::2/64\"]\ngateways = [\"fe80::1\"]",
        "port",
        "no port towards the clients has an IPv4 gateway",
    ),
    (
        "\"10.1.1.2/31\"]\ngateways = [\"10.1.0.1\"]",
        "\"2001:db8::2/64\"]\ngateways = [\"10.1.0.1\"]\nmtu = 1279",
        "port[1].mtu",
        "use 1280 or more",
    ),
    ("[\"02:00:00:00:01:01\"]", "[]", "port[0].gateway_macs", "0 MAC addresses for 1 gateways"),
    ("02:00:00:00:01:01", "01:00:00:00:01:01", "port[0].gateway_macs[0]", "multicast"),
    (
        "mtu = 1500",
        "mtu = 575",
        "port[0].mtu",
        "575 is less than TCP needs: it must be 576 to 9216",
    ),
    ("mtu = 1500", "mtu = 9217", "port[0].mtu", "9217 is more than Ethernet ports have: it must"),
    ("mtu = 1500", "vlan = 4095", "port[0].vlan", "1 to 4094"),
    ("queues = 2", "queues = 0", "port[0].queues", "1 to 64"),
    // Workers.
    ("\"lan:0\"", "\"lan0\"", "worker[0].rx[1]", "is not PORT:QUEUE"),
    ("\"lan:0\"", "\"man:0\"", "worker[0].rx[1]", "no port \"man\"; the ports are wan, lan"),
    ("\"lan:0\"", "\"lan:1\"", "worker[0].rx[1]", "has no RX queue 1"),
    ("\"wan:1\"", "\"wan:0\"", "worker[1].rx[0]", "polled by worker[0] already"),
    ("\"wan:1\"", "", "port[0].queues", "no worker polls wan:1"),
    ("core = 1", "core = 1024", "worker[1].core", "0 to 1023"),
    // Services.
    ("\"mail\"", "\"web\"", "relay[1].name", "relay[0] has this name too"),
    ("\"mail\"", "\"e-mail!\"", "relay[1].name", "cannot be a name"),
    ("203.0.113.11:443", "203.0.113.11", "relay[2].vip", "is not ADDRESS:PORT"),
    ("203.0.113.11:443", "203.0.113.11:0", "relay[2].vip", "port 0"),
    ("203.0.113.11:443", "127.0.0.1:443", "relay[2].vip", "not a unicast address"),
    (
        "203.0.113.10:25",
        "203.0.113.10:443",
        "relay[1].vip",
        "relay[0] is at 203.0.113.10:443 already",
    ),
    ("[\"198.51.100.10:25\"]", "[]", "relay[1].targets", "there is none"),
    ("198.51.100.10:25", "mail.example:25", "relay[1].targets[0]", "is not ADDRESS:PORT"),
    ("198.51.100.10:25", "239.0.0.1:25", "relay[1].targets[0]", "not a unicast address"),
    (
        "198.51.100.9:8443",
        "198.51.100.10:8443",
        "relay[0].targets[1]",
        "the same target as relay[0].targets[0]",
    ),
    ("\"198.51.100.9:8443\"", "5", "relay[0].targets[1]", "expected \"ADDRESS:PORT\" or {"),
    (
        "\"198.51.100.9:8443\"",
        "{ address = \"198.51.100.9\", weight = 2 }",
        "relay[0].targets[1]",
        "is not ADDRESS:PORT",
    ),
    (
        "\"198.51.100.9:8443\"",
        "{ address = \"198.51.100.9:8443\", weight = 0 }",
        "relay[0].targets[1].weight",
        "0 is out of range: it must be 1 to 1000",
    ),
    (
        "\"198.51.100.9:8443\"",
        "{ address = \"198.51.100.9:8443\", share = 2 }",
        "relay[0].targets[1].share",
        "unknown field `share`",
    ),
    ("\"198.51.100.9:8443\"", "{ weight = 2 }", "relay[0].targets[1]", "missing field `address`"),
    ("mss = 1400", "mss = 1461", "relay[0].mss", "at most 1460"),
    ("mss = 1400", "mss = 65536", "relay[0].mss", "65536 does not fit"),
    ("mss = 1400", "mss = 255", "relay[0].mss", "255 is far too small"),
    ("mss = 1400", "mss = -1", "relay[0].mss", "-1 is far too small"),
    ("100.64.8.0/24", "100.64.8.0", "relay[0].egress.pool", "is not ADDRESS/LENGTH"),
    ("100.64.8.0/24", "100.64.8.0/31", "relay[0].egress.pool", "too small"),
    ("100.64.8.0/24", "100.64.0.0/15", "relay[0].egress.pool", "too large"),
    ("100.64.8.0/24", "100.64.8.1/24", "relay[0].egress.pool", "write 100.64.8.0/24"),
    ("100.64.8.0/24", "240.0.8.0/24", "relay[0].egress.pool", "not a unicast"),
    // Overlaps.
    (
        "100.64.8.0/24",
        "100.64.8.0/23",
        "relay[1].egress.pool",
        "100.64.8.0/24 overlaps 100.64.8.0/23 of relay[0]",
    ),
    (
        "198.51.100.10:25",
        "198.51.100.10:8443",
        "relay[1].targets",
        "relay[0] has the target 198.51.100.10:8443 on the pool",
    ),
    (
        "egress = { pool = \"100.64.8.0/24\" }\nmss",
        "egress = \"transparent\"\nmss",
        "relay[2].targets",
        "relay[0] is transparent",
    ),
    ("203.0.113.11:443", "100.64.8.9:443", "relay[2].vip", "in the pool 100.64.8.0/24 of relay[0]"),
    ("203.0.113.11:443", "198.51.100.9:443", "relay[2].vip", "is a target of relay[0]"),
    ("198.51.100.10:25", "100.64.8.9:25", "relay[1].targets", "in the pool 100.64.8.0/24"),
    ("203.0.113.11:443", "10.1.0.2:443", "relay[2].vip", "own address of port[1]"),
    ("203.0.113.11:443", "10.1.0.1:443", "relay[2].vip", "gateway of port[1]"),
    ("198.51.100.10:25", "10.1.0.2:25", "relay[1].targets", "own address of port[1]"),
    ("100.64.8.0/24", "192.0.2.0/24", "relay[0].egress.pool", "own address of port[0]"),
    (
        "100.64.8.0/24",
        "192.0.2.128/25",
        "relay[0].egress.pool",
        "192.0.2.255 is the broadcast address of the link of port[0]",
    ),
    ("203.0.113.11:443", "10.1.0.0:443", "relay[2].vip", "network address of the link of port[1]"),
];

#[test]
fn every_mistake_is_reported_with_its_key_and_reason() {
    every_mistake_is_reported(&GOOD, MISTAKES);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = with("id = 1", "id = 300").replacen("mtu = 1500", "mtu = 1", 1);
    let text = text.replacen("203.0.113.11:443", "x", 1);
    let keys: Vec<_> =
        Config::parse("f", &text).unwrap_err().0.into_iter().map(|problem| problem.key).collect();
    for key in ["pop.id", "port[0].mtu", "relay[2].vip"] {
        assert!(keys.iter().any(|reported| reported == key), "{key} is not in {keys:?}");
    }
}

#[test]
fn a_file_without_ports_and_workers_says_so() {
    let text = "pop = { name = \"p\", id = 0, keys = \"k\" }";
    let reported = Config::parse("f", text).unwrap_err().to_string();
    assert!(reported.contains("f: port: there is no port"), "{reported}");
    assert!(reported.contains("f: worker: there is no worker"), "{reported}");
}

#[test]
fn lists_that_are_too_long_are_reported() {
    let many_ports = |i: usize| {
        let port = port(&format!("p{i}"), "both", &[&format!("10.{i}.0.2/24")]);
        format!("[[port]]\n{}", port.with("gateways", [format!("10.{i}.0.1")]))
    };
    let many_workers = |i: usize| format!("[[worker]]\n{}", worker::<&str>(i, &[]));
    let many =
        |count: usize, make: &dyn Fn(usize) -> String| (0..count).map(make).collect::<String>();
    let targets: Vec<_> = (1..=65).map(|i| format!("'198.51.100.2:{i}'")).collect();
    let texts = [
        (many(17, &many_ports), "17 ports are more than the 16"),
        (many(257, &|i| relay_number("r", i)), "257 services are more than the 256"),
        (many(65, &many_workers), "65 workers are more than the 64"),
        (
            relay_number("r", 0).replace("\"198.51.100.1:1\"", &targets.join(",")),
            "65 targets are more than the 64",
        ),
    ];
    for (text, reason) in texts {
        let text = format!("pop = {{ name = 'p', id = 0, keys = 'k' }}\n{text}");
        let reported = Config::parse("f", &text).unwrap_err().to_string();
        assert!(reported.contains(reason), "expected {reason}; reported were:\n{reported}");
    }
}

#[test]
fn a_pool_that_covers_a_link_is_refused() {
    for pool in ["10.1.0.0/24", "10.1.0.0/23", "10.1.1.0/24"] {
        let reported = Config::parse("f", &GOOD.replace("100.64.8.0/24", pool)).unwrap_err();
        let reported = reported.to_string();
        let reason = "is the own address of port[1]; use another";
        assert!(reported.contains(reason), "{pool}: {reported}");
    }
}
