//! The changes of ports, relays and keys that a reload may make.

use super::*;

const RAW: &str = "egress = \"transparent\"";

#[test]
fn a_reload_is_free_or_refused() {
    use ConflictKind::{BreaksConnections, NeedsRestart};
    let (old, both) = (snapshot(&GOOD), "[\"198.51.100.10:8443\", \"198.51.100.9:8443\"]");
    let free = [
        ("mss = 1400", "mss = 1300"),
        ("rst_per_second = 10", "rst_per_second = 20"),
        ("drain_seconds = 0", "drain_seconds = 5"),
        ("private_clients = false", "private_clients = true"),
        ("\"203.0.113.11:443\"", "\"203.0.113.12:443\""),
        ("private_clients = false", "not_clients = [\"9.9.9.0/24\"]"),
        ("\"mail\"", "\"post\""),
        (RAW, "egress = \"transparent\"\nchoose_by = \"endpoint\"\nprotocol = \"both\""),
        // Another service in its place.
        (RAW, "egress = \"transparent\"\nprotocol = \"udp\""),
        (
            "[\"198.51.100.10:8443\", \"198.51.100.9:8443\"]",
            "[\"198.51.100.9:8443\", \"198.51.100.10:8443\"]",
        ),
    ];
    for (from, to) in free {
        assert_eq!(reload_conflicts(&old, &snapshot(&with(from, to)), NOW), [], "{from} -> {to}");
    }
    let refused = [
        ("\"pop1\"", "\"pop2\"", NeedsRestart, "pop.name"),
        ("memory_mb = 128", "memory_mb = 129", NeedsRestart, "dpdk.memory_mb"),
        ("iface=p1c", "iface=p2c", NeedsRestart, "port[0].device"),
        ("192.0.2.2/24", "192.0.2.3/24", NeedsRestart, "port[0].addresses"),
        ("\"192.0.2.1\"", "\"192.0.2.3\"", NeedsRestart, "port[0].gateways"),
        ("02:00:00:00:01:01", "02:00:00:00:01:02", NeedsRestart, "port[0].gateway_macs"),
        ("core = 1", "core = 2", NeedsRestart, "worker[1].core"),
        (
            "rx = [\"wan:0\", \"lan:0\"]",
            "rx = [\"lan:0\", \"wan:0\"]",
            NeedsRestart,
            "worker[0].rx",
        ),
        ("kind = \"pipeline\"", "kind = \"run-to-completion\"", NeedsRestart, "layout.kind"),
        (
            "remembered_answers = 64",
            "remembered_answers = 65",
            NeedsRestart,
            "limits.remembered_answers",
        ),
        ("127.0.0.1:9100", "127.0.0.1:9101", NeedsRestart, "metrics.listen"),
        ("[limits]", "[neighbours]\nprobes = 2\n[limits]", NeedsRestart, "neighbours"),
        (both, "[\"198.51.100.10:8443\"]", BreaksConnections, "relay[0].targets"),
        (
            "\"198.51.100.9:8443\"",
            "{ address = \"198.51.100.9:8443\", weight = 2 }",
            BreaksConnections,
            "relay[0].targets",
        ),
        (
            RAW,
            "egress = \"transparent\"\nprotocol = \"both\"",
            BreaksConnections,
            "relay[2].choose_by",
        ),
        (
            "egress = \"transparent\"",
            "egress = { pool = \"100.64.9.0/24\" }",
            BreaksConnections,
            "relay[2].egress",
        ),
        ("drain_seconds = 0", "gateway_clients = false", BreaksConnections, "pop.gateway_clients"),
    ];
    for (from, to, kind, key) in refused {
        let conflicts = reload_conflicts(&old, &snapshot(&with(from, to)), NOW);
        let reported: Vec<_> = conflicts.iter().map(|c| (c.kind, c.problem.key.as_str())).collect();
        assert_eq!(reported, [(kind, key)], "{from} -> {to}");
    }
    let private = snapshot(&with("private_clients = false", "private_clients = true"));
    assert_eq!(reload_conflicts(&private, &old, NOW)[0].problem.key, "pop.private_clients");
    let pool = snapshot(&GOOD.replace("100.64.8.0/24", "100.64.9.0/24"));
    assert_eq!(reload_conflicts(&old, &pool, NOW).len(), 2);
}

#[test]
fn where_answers_pass_by_a_change_of_targets_breaks_connections_dated_or_not() {
    let relay = |way: &str, targets: &str| {
        let relay = format!(
            "{}\n[[relay]]\nname = \"tunnel\"\nvip = \"203.0.113.40:443\"\ntargets = [{targets}]\n\
             egress = {{ ipip = \"100.64.30.1\" }}\nreturn = \"{way}\"\n",
            *GOOD
        );
        snapshot(&relay)
    };
    let dated = "{ address = \"198.51.100.41:443\", since = 2030-01-01T00:00:00Z }";
    let after = format!("\"198.51.100.40:443\", {dated}");
    for (way, wanted) in [("through", 0), ("direct", 1)] {
        let old = relay(way, "\"198.51.100.40:443\"");
        assert_eq!(reload_conflicts(&old, &old, NOW), []);
        let conflicts = reload_conflicts(&old, &relay(way, &after), NOW);
        assert_eq!(conflicts.len(), wanted, "{way}: {conflicts:?}");
        let undated = reload_conflicts(&old, &relay(way, "\"198.51.100.42:443\""), NOW);
        assert_eq!(undated.len(), 1, "{way}: {undated:?}");
    }
    let (through, direct) = (relay("through", dated), relay("direct", dated));
    let [changed] = &reload_conflicts(&through, &direct, NOW)[..] else { panic!() };
    assert_eq!(changed.kind, ConflictKind::BreaksConnections);
}

#[test]
fn a_dated_change_of_targets_is_free_and_a_late_one_says_what_to_write() {
    let web = "\"198.51.100.10:8443\", \"198.51.100.9:8443\"";
    let dated = |key: &str, ms: i64| {
        let at = UnixTime::from_millis(NOW.as_millis().saturating_add_signed(ms));
        let at = crate::time::format_time(at);
        let entry = match key {
            "since" => format!("{{ address = \"198.51.100.11:8443\", since = {at} }}, {web}"),
            _ => web.replace(
                "\"198.51.100.9:8443\"",
                &format!("{{ address = \"198.51.100.9:8443\", until = {at} }}"),
            ),
        };
        snapshot(&with(web, &entry))
    };
    let old = snapshot(&GOOD);
    for key in ["since", "until"] {
        assert_eq!(reload_conflicts(&old, &dated(key, 3001), NOW), []);
        // It may be called off before its time, and is what it was after it.
        let soon = dated(key, 3001);
        assert_eq!(reload_conflicts(&soon, &old, NOW), []);
        assert_eq!(reload_conflicts(&soon, &soon, NOW.plus_millis(60_000)), []);
        let late = reload_conflicts(&old, &dated(key, 3000), NOW);
        let [Conflict { kind: ConflictKind::BreaksConnections, problem }] = &late[..] else {
            panic!("{late:?}")
        };
        assert_eq!(problem.key, "relay[0].targets");
        let earliest = NOW.as_millis() + 3001;
        let earliest = UnixTime::from_millis(earliest.next_multiple_of(1000));
        let advice = format!("a since or until of {} or later", crate::time::format_time(earliest));
        assert!(problem.reason.contains(&advice), "{}", problem.reason);
    }
}

#[test]
fn a_new_relay_secret_breaks_live_relays_only() {
    let old = snapshot(&GOOD);
    let new_keys = KeyFile::from_random([[8; 32], [2; 32], [3; 32]]);
    let new = Snapshot::build(&good(), &new_keys, &tenants(), None).unwrap();
    let conflicts = reload_conflicts(&old, &new, NOW);
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].kind, ConflictKind::BreaksConnections);
    assert_eq!(conflicts[0].problem.key, "pop.keys");
    let moved = GOOD.replace("203.0.113.1", "203.0.114.1");
    let moved = Config::parse("f", &moved).unwrap();
    let moved = Snapshot::build(&moved, &new_keys, &tenants(), None).unwrap();
    assert_eq!(reload_conflicts(&old, &moved, NOW), []);
}

#[test]
fn a_reload_of_relays_with_ipv6_is_free_or_refused() {
    let old = snapshot(&IPV6);
    for (from, to) in [("mss = 1400", "mss = 1300"), ("[2001:db8::10]:80", "[2001:db8::11]:80")] {
        assert_eq!(
            reload_conflicts(&old, &snapshot(&edit(&IPV6, from, to)), NOW),
            [],
            "{from} -> {to}"
        );
    }
    let without = |reason: &str| IPV6.replace(reason, "");
    let web_to_pool = IPV6
        .replace("[\"[2001:db8:5::2]:8443\", \"[2001:db8:5::1]:8443\"]", "[\"198.51.100.11:8443\"]")
        .replace(PREFIX, "{ pool = \"100.64.8.0/24\" }\nmss");
    let cases = [
        (
            edit(&IPV6, "[2001:db8:5::9]:80", "[2001:db8:5::8]:80"),
            vec![("relay[4].targets", "is no longer named")],
        ),
        (
            IPV6.replace("2001:db8:64::/64", "2001:db8:64::/65"),
            vec![
                ("relay[1].egress", "live connections use egress prefix 2001:db8:64::/64; the way"),
                ("relay[2].egress", "second VIP or port with prefix 2001:db8:64::/65"),
            ],
        ),
        (
            web_to_pool,
            vec![
                ("relay[1].targets", "is no longer named"),
                ("relay[1].egress", "use egress prefix 2001:db8:64::/64, not pool 100.64.8.0/24"),
            ],
        ),
        (without("\nmss = 1400"), vec![]),
    ];
    for (text, want) in cases {
        let conflicts = reload_conflicts(&old, &snapshot(&text), NOW);
        assert_eq!(conflicts.len(), want.len(), "{conflicts:?}");
        for (conflict, (key, reason)) in conflicts.iter().zip(want) {
            assert_eq!(conflict.kind, ConflictKind::BreaksConnections);
            assert_eq!(conflict.problem.key, key);
            assert!(conflict.problem.reason.contains(reason), "{}", conflict.problem.reason);
        }
    }
    let new_keys = KeyFile::from_random([[8; 32], [2; 32], [3; 32]]);
    let config = Config::parse("f", &IPV6).unwrap();
    let new = Snapshot::build(&config, &new_keys, &tenants(), None).unwrap();
    assert_eq!(reload_conflicts(&old, &new, NOW)[0].problem.key, "pop.keys");
}

#[test]
fn pops_share_the_policy_for_fragments_and_not_its_limits() {
    let (dropping, keeping) = (snapshot(&GOOD), snapshot(&reassembling("")));
    assert_ne!(dropping.digest(), keeping.digest());
    let other = snapshot(&reassembling("timeout_ms = 500"));
    assert_eq!(keeping.digest(), other.digest());
    // Tables are allocated at start.
    for (old, new) in [(&dropping, &keeping), (&keeping, &other)] {
        let conflicts = reload_conflicts(old, new, UnixTime::from_millis(0));
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].kind, ConflictKind::NeedsRestart);
        assert_eq!(conflicts[0].problem.key, "pop.fragments");
    }
}
