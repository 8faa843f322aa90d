//! Settings that are permitted and probably not meant are warned of.

use super::*;

#[test]
fn doubtful_settings_are_warned_of() {
    let one_worker = with(
        "rx = [\"wan:0\", \"lan:0\"]\n\n[[worker]]\ncore = 1\nrx = [\"wan:1\"]",
        "rx = [\"wan:0\", \"lan:0\", \"wan:1\"]",
    );
    let warnings = [
        (one_worker, "layout.kind", "a pipeline with one worker"),
        (with("core = 1", "core = 0"), "worker[1].core", "pinned to this core too"),
        (
            GOOD.replace("100.64.8.0/24", "100.64.8.0/25"),
            "relay[0].egress.pool",
            "only 128 addresses",
        ),
        (
            with("0000:01:00.0\"", "0000:01:00.0\"\nmac = \"02:00:00:00:00:01\""),
            "port",
            "two ports have the MAC",
        ),
        (
            GOOD.replace("100.64.8.0/24", "10.1.0.64/26"),
            "relay[1].egress.pool",
            "the pool 10.1.0.64/26 is in 10.1.0.2/24 of port[1]: hosts on that link ask for its \
             addresses by ARP, which the POP does not answer; use one apart from it, or route it \
             to the POP on every host of the link",
        ),
        (
            GOOD.replace("100.64.8.0/24", "192.0.2.128/26"),
            "relay[0].egress.pool",
            "is in 192.0.2.2/24 of port[0]",
        ),
        (
            with("drain_seconds = 0", "not_clients = [\"9.0.0.0/8\", \"9.0.0.0/8\"]"),
            "pop.not_clients[1]",
            "the same prefix as pop.not_clients[0]",
        ),
        (
            with("floor = 1280", "floor = 1279"),
            "relay[0].icmp_mtu_floor",
            "which many clients share: one client's error makes the segments of the others",
        ),
        (
            with("floor = 1280", "floor = 1281"),
            "relay[0].icmp_mtu_floor",
            "a path with an MTU below 1281 cannot learn of it",
        ),
        (
            with("127.0.0.1:9100", "0.0.0.0:9100"),
            "metrics.listen",
            "0.0.0.0:9100 is not local to this host, and whoever reaches it can read the metrics",
        ),
        (with("127.0.0.1:9100", "[2001:db8::1]:9100"), "metrics.listen", "is not local"),
        (
            with("203.0.113.11:443", "192.0.2.7:443"),
            "relay[2].vip",
            "192.0.2.7 is in 192.0.2.2/24 of port[0]: hosts and routers on that link ask for it by \
             ARP, which the POP does not answer; use a VIP apart from the network",
        ),
        (with("203.0.113.11:443", "10.1.0.7:443"), "relay[2].vip", "is in 10.1.0.2/24 of port[1]"),
        (
            with("198.51.100.10:25", "192.0.2.7:25"),
            "relay[1].targets",
            "192.0.2.7 is in 192.0.2.2/24 of port[0], which is towards clients alone",
        ),
        (with("mss = 1400", "mss = 535"), "relay[0].mss", "535 is smaller than what every path"),
        (
            with("203.0.113.11:443\"", "203.0.113.11:443\"\nprotocol = \"udp\"\nmss = 1400"),
            "relay[2].mss",
            "UDP has no MSS",
        ),
        (
            with("203.0.113.11:443\"", "203.0.113.11:443\"\nicmp_mtu_floor = 551"),
            "relay[2].icmp_mtu_floor",
            "a forged error makes segments of 551 bytes; use 552 or more",
        ),
    ];
    for (text, key, reason) in warnings {
        let config = Config::parse("f", &text).unwrap();
        let reported = |problem: &Problem| problem.key == key && problem.reason.contains(reason);
        assert!(config.warnings.iter().any(reported), "{key}: {:?}", config.warnings);
    }
}

#[test]
fn settings_as_they_should_be_are_not_warned_of() {
    let both = with("side = \"client\"", "side = \"both\"");
    for text in [
        with("127.0.0.1:9100", "[::1]:9100"),
        with("127.0.0.1:9100", "[::ffff:127.0.0.1]:9100"),
        with("203.0.113.11:443", "192.0.3.7:443"),
        with("mss = 1400", "mss = 536"),
        with("198.51.100.10:25", "10.1.0.7:25"),
        // Clients and targets on one link.
        edit(&both, "198.51.100.10:25", "192.0.2.7:25"),
        with("mtu = 1500", "mtu = 9216"),
    ] {
        assert_eq!(Config::parse("f", &text).unwrap().warnings, [], "{text}");
    }
}

#[test]
fn egress_on_no_link_is_not_warned_of() {
    for pool in ["10.1.2.0/24", "10.0.255.0/24", "192.0.3.0/24"] {
        let config = Config::parse("f", &GOOD.replace("100.64.8.0/24", pool)).unwrap();
        assert_eq!(config.warnings, [], "{pool}");
    }
}
