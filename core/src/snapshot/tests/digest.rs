//! The changes that the digest covers.

use super::*;

#[test]
fn the_digest_covers_the_settings_that_pops_share_and_no_others() {
    let digest = snapshot(&GOOD).digest().to_owned();
    assert_eq!(digest.len(), 64);
    let own = [
        ("\"pop1\"", "\"pop2\""),
        ("id = 1", "id = 2"),
        ("core = 1", "core = 2"),
        ("02:00:00:00:00:01", "02:00:00:00:00:02"),
        ("192.0.2.2/24", "192.0.2.3/24"),
        ("rst_per_second = 10", "rst_per_second = 11"),
        ("127.0.0.1:9100", "127.0.0.1:9101"),
        ("\"mail\"", "\"post\""),
        (
            "targets = [\"198.51.100.10:8443\", \"198.51.100.9:8443\"]",
            "targets = [\"198.51.100.9:8443\", \"198.51.100.10:8443\"]",
        ),
        // Equal weights are equal, whatever they are.
        ("\"198.51.100.10:25\"", "{ address = \"198.51.100.10:25\", weight = 9 }"),
        // Targets have a digest of their own.
        ("198.51.100.10:25", "198.51.100.10:26"),
    ];
    for (from, to) in own {
        assert_eq!(snapshot(&with(from, to)).digest(), digest, "{from} -> {to}");
    }
    let agreed = [
        ("203.0.113.11:443", "203.0.113.11:444"),
        ("fragments = \"drop\"", "fragments = \"reassemble\""),
        ("mss = 1400", "mss = 1400\nmemory = \"23h\""),
        ("mss = 1400", "mss = 1400\nskew = \"4s\""),
        ("mss = 1400", "mss = 1401"),
        ("egress = \"transparent\"", "egress = { pool = \"100.64.9.0/24\" }"),
        ("private_clients = false", "private_clients = true"),
        ("floor = 1280", "floor = 1200"),
        ("floor = 1280", "floor = 1280\nclient_address = \"toa\""),
        ("egress = \"transparent\"", "egress = \"transparent\"\nprotocol = \"both\""),
        ("egress = \"transparent\"", "egress = \"transparent\"\nprotocol = \"udp\""),
        ("egress = \"transparent\"", "egress = \"transparent\"\nchoose_by = \"address\""),
        ("drain_seconds = 0", "gateway_clients = false"),
        ("drain_seconds = 0", "not_clients = [\"9.9.9.0/24\", \"2001:db8::/32\"]"),
        ("drain_seconds = 0", "not_clients = [\"9.9.9.0/24\"]"),
    ];
    let mut seen = vec![digest];
    for (from, to) in agreed {
        let digest = snapshot(&with(from, to)).digest().to_owned();
        assert!(!seen.contains(&digest), "{from} -> {to}");
        seen.push(digest);
    }
    let reversed = with("drain_seconds = 0", "not_clients = [\"2001:db8::/32\", \"9.9.9.0/24\"]");
    assert!(seen.contains(&snapshot(&reversed).digest().to_owned()));
    for place in 0..3 {
        let mut random = [[1; 32], [2; 32], [3; 32]];
        random[place] = [9; 32];
        let keys = KeyFile::from_random(random);
        let digest = Snapshot::build(&good(), &keys, &tenants(), None).unwrap().digest().to_owned();
        assert!(!seen.contains(&digest));
        seen.push(digest);
    }
}

/// The second target of `web`, with more keys.
fn with_target(keys: &str) -> Snapshot {
    let target = format!("{{ address = \"198.51.100.9:8443\", {keys} }}");
    snapshot(&with("\"198.51.100.9:8443\"", &target))
}

#[test]
fn the_digest_of_targets_covers_each_entry() {
    let mut seen = vec![snapshot(&GOOD).targets_digest().to_owned()];
    let changed = [
        snapshot(&with("198.51.100.10:25", "198.51.100.10:26")),
        snapshot(&with("\"198.51.100.10:8443\", ", "")),
    ];
    let dated = [
        "weight = 2",
        "weight = 3",
        "since = 2026-12-01T10:00:00Z",
        "until = 2026-12-01T10:00:00Z",
        "until = 2026-12-01T10:00:00Z, gone = 2026-12-01T10:00:06Z",
    ];
    for snapshot in changed.into_iter().chain(dated.map(with_target)) {
        let digest = snapshot.targets_digest().to_owned();
        assert!(!seen.contains(&digest));
        seen.push(digest);
    }
    let same = with_target("weight = 1, since = 1970-01-01T00:00:00Z");
    assert_eq!(same.targets_digest(), seen[0]);
    let reversed = with(
        "\"198.51.100.10:8443\", \"198.51.100.9:8443\"",
        "\"198.51.100.9:8443\", \"198.51.100.10:8443\"",
    );
    assert_eq!(snapshot(&reversed).targets_digest(), seen[0]);
}

#[test]
fn what_is_in_force_differs_only_for_segments_that_it_matters_to() {
    let at = |text: &str| crate::time::parse_time(text).unwrap();
    let (plain, dated) = (snapshot(&GOOD), with_target("since = 2026-12-01T10:00:00Z"));
    let force = |snapshot: &Snapshot, text| snapshot.targets_in_force(at(text));
    let alone = snapshot(&with(", \"198.51.100.9:8443\"", ""));
    for (now, is_as) in [
        ("2026-12-01T09:59:56.999Z", Some(&alone)),
        ("2026-12-01T09:59:57Z", None),
        ("2026-12-02T09:59:59.999Z", None),
        ("2026-12-02T10:00:00Z", Some(&plain)),
    ] {
        for other in [&alone, &plain] {
            let same = force(&dated, now) == force(other, now);
            assert_eq!(same, is_as.is_some_and(|is_as| std::ptr::eq(is_as, other)), "{now}");
        }
    }
}

#[test]
fn the_digest_covers_relays_with_ipv6() {
    let digest = snapshot(&IPV6).digest().to_owned();
    let reversed = edit(
        &IPV6,
        "\"[2001:db8:5::2]:8443\", \"[2001:db8:5::1]:8443\"",
        "\"[2001:db8:5::1]:8443\", \"[2001:db8:5::2]:8443\"",
    );
    assert_eq!(snapshot(&reversed).digest(), digest);
    let mut seen = vec![digest];
    for (from, to) in [("[2001:db8::10]:80", "[2001:db8::11]:80"), ("mss = 1400", "mss = 1401")] {
        seen.push(snapshot(&edit(&IPV6, from, to)).digest().to_owned());
    }
    for prefix in ["2001:db8:65::/64", "2001:db8:64::/65"] {
        seen.push(snapshot(&IPV6.replace("2001:db8:64::/64", prefix)).digest().to_owned());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn the_digest_covers_tunnels() {
    let digest = |text: &str| snapshot(text).digest().to_owned();
    let swapped = {
        let text = tunnelling();
        let (head, tunnels) = text.split_once("[[tunnel]]").unwrap();
        let (first, second) = tunnels.split_once("[[tunnel]]").unwrap();
        format!("{head}[[tunnel]]{second}[[tunnel]]{first}")
    };
    let clock =
        edit(&tunnelling(), "id = 1\n", "id = 1\nclock = \"trusted\"\nclock_offset_ms = 8000\n");
    for own in [swapped, clock, edit(&tunnelling(), "\"tun\"", "\"nut\"")] {
        assert_eq!(digest(&own), digest(&tunnelling()));
    }
    let mut seen = vec![digest(&tunnelling()), digest(&GOOD)];
    for (from, to) in [
        ("203.0.113.20:443", "203.0.113.21:443"),
        ("[2001:db8::20]:443", "[2001:db8::20]:444"),
        ("vip6 = \"[2001:db8::20]:443\"", ""),
        ("tick_ms = 8000", "tick_ms = 8001"),
        ("stride = 4096", "stride = 4095"),
        ("lag = 4", "lag = 3"),
        ("offset = 16384", "offset = 16320"),
        ("tunnel_mtu = 1400", "tunnel_mtu = 1399"),
    ] {
        let digest = digest(&edit(&tunnelling(), from, to));
        assert!(!seen.contains(&digest), "{from} -> {to}");
        seen.push(digest);
    }
}

#[test]
fn the_digest_covers_tenants_agents_and_tokens() {
    let mut seen = vec![snapshot(&tunnelling()).digest().to_owned()];
    let mut new = |digest: &str| {
        assert!(!seen.iter().any(|other| other == digest));
        seen.push(digest.to_owned());
    };
    for (from, to, _) in TENANT_CHANGES {
        new(with_secrets(&keys(), &TENANTS.replacen(from, to, 1)).digest());
    }
    new(snapshot(&edit(&tunnelling(), "[\"acme\", \"zorg\"]", "[\"acme\"]")).digest());
    let rotated = |ms| {
        let secret = Secret::new([4; 32]);
        let tokens = keys().tokens.rotated(secret, UnixTime::from_millis(ms), NOW).unwrap();
        KeyFile { tokens, ..keys() }
    };
    new(with_secrets(&rotated(NOW.as_millis()), TENANTS).digest());
    new(with_secrets(&rotated(NOW.as_millis() + 1), TENANTS).digest());
    // Changes of no consequence: names, a revoked agent that is removed, tenants without a tunnel.
    let digest = snapshot(&tunnelling()).digest().to_owned();
    let renamed = TENANTS.replace("\"laptop\"", "\"notebook\"");
    assert_eq!(with_secrets(&keys(), &renamed).digest(), digest);
    let unlisted =
        TENANTS.replace("[[tenant.agent]]\nid = 2\nname = \"phone\"\nrevoked = true\n", "");
    assert_ne!(unlisted, TENANTS);
    assert_eq!(with_secrets(&keys(), &unlisted).digest(), digest);
    let relay_only = Snapshot::build(&good(), &keys(), &Tenants::default(), None).unwrap();
    assert_eq!(relay_only.digest(), snapshot(&GOOD).digest());
}
