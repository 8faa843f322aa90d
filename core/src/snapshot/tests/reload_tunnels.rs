//! The changes of tunnels, tenants and keys that a reload may make.

use super::*;

#[test]
fn a_reload_keeps_live_tunnels() {
    use ConflictKind::{BreaksConnections, NeedsRestart};
    let old = snapshot(&tunnelling());
    let reported = |text: &str| -> Vec<_> {
        let conflicts = reload_conflicts(&old, &snapshot(text), NOW);
        conflicts.into_iter().map(|conflict| (conflict.kind, conflict.problem.key)).collect()
    };
    for (from, to) in [
        ("tunnel_mtu = 1400", "tunnel_mtu = 1300"),
        ("[\"acme\", \"zorg\"]", "[\"acme\"]"),
        ("\"tun\"", "\"nut\""),
        ("vip4 = \"203.0.113.10:444\"", "vip4 = \"203.0.113.10:444\"\nvip6 = \"[2001:db8::1]:1\""),
        ("echo_per_second = 10", "syn_ack_per_second = 10"),
        ("id = 1\n", "id = 1\nclock = \"trusted\"\n"),
    ] {
        assert_eq!(reported(&edit(&tunnelling(), from, to)), [], "{from} -> {to}");
    }
    let (gone, both) = (GOOD.clone(), tunnelling().replace("203.0.113.20", "203.0.113.21"));
    assert_eq!(reported(&gone), []);
    // Under another name and at other VIPs it is another tunnel.
    let other = both.replace("[2001:db8::20]", "[2001:db8::21]").replace("\"tun\"", "\"new\"");
    assert_eq!(reported(&other), []);
    for (from, to, kind, key) in [
        ("203.0.113.20:443", "203.0.113.20:444", BreaksConnections, "tunnel[0].vip4"),
        ("vip4 = \"203.0.113.20:443\"", "", BreaksConnections, "tunnel[0].vip4"),
        ("[2001:db8::20]", "[2001:db8::21]", BreaksConnections, "tunnel[0].vip6"),
        ("tick_ms = 8000", "tick_ms = 8001", BreaksConnections, "tunnel[0].tick_ms"),
        ("stride = 4096", "stride = 4095", BreaksConnections, "tunnel[0].stride"),
        ("lag = 4", "lag = 3", BreaksConnections, "tunnel[0].lag"),
        ("offset = 16384", "offset = 16320", BreaksConnections, "tunnel[0].offset"),
        ("id = 1\n", "id = 1\nclock_offset_ms = 1\n", NeedsRestart, "pop.clock_offset_ms"),
    ] {
        assert_eq!(
            reported(&edit(&tunnelling(), from, to)),
            [(kind, key.to_owned())],
            "{from} -> {to}"
        );
    }
    // The two VIPs of one tunnel become those of two.
    let parted = edit(&tunnelling(), "vip6 = \"[2001:db8::20]:443\"\n", "")
        .replace("vip4 = \"203.0.113.10:444\"", "vip6 = \"[2001:db8::20]:443\"");
    let keys: Vec<_> = reported(&parted).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["tunnel[0].vip6", "tunnel[1].vip4", "tunnel[1].vip4"]);
}

#[test]
fn a_reload_keeps_the_keys_of_live_tunnels() {
    let old = snapshot(&tunnelling());
    let reported = |keys: &KeyFile, tenants: &str| -> Vec<_> {
        let conflicts = reload_conflicts(&old, &with_secrets(keys, tenants), NOW);
        conflicts.into_iter().map(|conflict| conflict.problem.key).collect()
    };
    for (from, to, breaks) in TENANT_CHANGES {
        let want: &[&str] = if breaks { &["pop.tenants"] } else { &[] };
        assert_eq!(reported(&keys(), &TENANTS.replacen(from, to, 1)), want, "{from} -> {to}");
    }
    let sequence = KeyFile { sequence: Secret::new([7; 32]), ..keys() };
    assert_eq!(reported(&sequence, TENANTS), ["pop.keys"]);
    let token = KeyFile { tokens: Epochs::single(Secret::new([7; 32])), ..keys() };
    assert_eq!(reported(&token, TENANTS), ["pop.keys"]);
    // Without a tunnel these keys are not used.
    let build = |keys: &KeyFile| Snapshot::build(&good(), keys, &tenants(), None).unwrap();
    assert_eq!(reload_conflicts(&build(&keys()), &build(&sequence), NOW), []);
}

#[test]
fn token_epochs_come_and_go() {
    let at = |ms| NOW.plus_millis(ms);
    let with_tokens = |tokens| with_secrets(&KeyFile { tokens, ..keys() }, TENANTS);
    let (one, secret) = (keys().tokens, |byte| Secret::new([byte; 32]));
    let two = one.rotated(secret(4), at(1000), NOW).unwrap();
    let later = at(1000 + EPOCH_GRACE_MS);
    let three = two.rotated(secret(5), later.plus_millis(1000), later).unwrap();
    let conflicts = |old: &Epochs, new: &Epochs, now| {
        reload_conflicts(&with_tokens(old.clone()), &with_tokens(new.clone()), now).len()
    };
    assert_eq!(conflicts(&one, &two, NOW), 0);
    // `three` is without the first epoch: too early, then in time.
    assert_eq!(conflicts(&two, &three, NOW), 1);
    assert_eq!(conflicts(&two, &three, UnixTime::from_millis(later.as_millis() - 1)), 1);
    assert_eq!(conflicts(&two, &three, later), 0);
    // The time of its successor is moved back by more than a day.
    let over = one.rotated(secret(4), UnixTime::from_millis(1), UnixTime::default()).unwrap();
    assert_eq!(conflicts(&one, &over, NOW), 1);
    // An announced epoch is withdrawn, though agents may have tokens of it.
    assert_eq!(conflicts(&two, &one, NOW), 1);
}
