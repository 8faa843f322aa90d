//! What a reload keeps, and what it refuses.

use super::*;
use crate::net::MAX_SERVICES;

#[test]
fn a_reload_keeps_the_slots_of_names() {
    let before = snapshot(GOOD);
    let slots = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.relays().map(|relay| (relay.name.clone(), relay.slot.0)).collect()
    };
    assert_eq!(slots(&before), [("web".into(), 0), ("mail".into(), 1), ("raw".into(), 2)]);
    // "web" goes, "new" comes in its place in the file.
    let config = Config::parse("f", &with("\"web\"", "\"new\"")).unwrap();
    let after = Snapshot::build(&config, &keys(), &tenants(), Some(&before)).unwrap();
    assert_eq!(slots(&after), [("new".into(), 3), ("mail".into(), 1), ("raw".into(), 2)]);
    let again = Snapshot::build(&good(), &keys(), &tenants(), Some(&after)).unwrap();
    assert_eq!(slots(&again), [("web".into(), 0), ("mail".into(), 1), ("raw".into(), 2)]);
}

#[test]
fn slots_never_meet_when_all_are_in_use() {
    let relay = |name: &str, i: usize| {
        format!(
            "[[relay]]\nname='{name}{i}'\nvip='203.0.113.1:{}'\ntargets=['198.51.100.1:{}']\negress={{pool='100.64.0.0/16'}}\n",
            i + 1,
            i + 1
        )
    };
    let text = |name: &str, kept: usize| {
        let head = GOOD.split("[[relay]]").next().unwrap();
        let relays = (0..MAX_SERVICES).map(|i| relay(if i < kept { "kept" } else { name }, i));
        relays.fold(head.to_owned(), |text, relay| text + &relay)
    };
    let before = snapshot(&text("old", 100));
    let config = Config::parse("f", &text("new", 100)).unwrap();
    let after = Snapshot::build(&config, &keys(), &tenants(), Some(&before)).unwrap();
    let mut slots: Vec<_> = after.services.iter().map(|service| service.slot().0).collect();
    assert_eq!(slots[..100], before.services.iter().map(|s| s.slot().0).collect::<Vec<_>>()[..100]);
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), MAX_SERVICES);
}

#[test]
fn a_reload_is_free_or_told_why_not() {
    use ConflictKind::{BreaksConnections, NeedsRestart};
    let (old, both) = (snapshot(GOOD), "[\"198.51.100.10:8443\", \"198.51.100.9:8443\"]");
    let free = [
        ("mss = 1400", "mss = 1300"),
        ("rst_per_second = 10", "rst_per_second = 20"),
        ("drain_seconds = 0", "drain_seconds = 5"),
        ("private_clients = false", "private_clients = true"),
        ("\"203.0.113.11:443\"", "\"203.0.113.12:443\""),
        ("\"mail\"", "\"post\""),
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
        ("pending_rsts = 64", "pending_rsts = 65", NeedsRestart, "limits.pending_rsts"),
        ("127.0.0.1:9100", "127.0.0.1:9101", NeedsRestart, "metrics.listen"),
        (both, "[\"198.51.100.10:8443\"]", BreaksConnections, "relay[0].targets"),
        (
            "egress = \"transparent\"",
            "egress = { pool = \"100.64.9.0/24\" }",
            BreaksConnections,
            "relay[2].egress",
        ),
    ];
    for (from, to, kind, key) in refused {
        let conflicts = reload_conflicts(&old, &snapshot(&with(from, to)), NOW);
        let told: Vec<_> = conflicts.iter().map(|c| (c.kind, c.problem.key.as_str())).collect();
        assert_eq!(told, [(kind, key)], "{from} -> {to}");
    }
    let private = snapshot(&with("private_clients = false", "private_clients = true"));
    assert_eq!(reload_conflicts(&private, &old, NOW)[0].problem.key, "pop.private_clients");
    let pool = snapshot(&GOOD.replace("100.64.8.0/24", "100.64.9.0/24"));
    assert_eq!(reload_conflicts(&old, &pool, NOW).len(), 2);
}

#[test]
fn a_new_relay_secret_breaks_what_lives_and_nothing_else() {
    let old = snapshot(GOOD);
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
