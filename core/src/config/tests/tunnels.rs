//! `[[tunnel]]`: what is read, every mistake, what a reload may change.

use super::*;
use crate::keys::{EPOCH_GRACE_MS, Epochs, Secret};

/// [`GOOD`] with two tunnels.
fn text() -> String {
    let good = with("keys = \"keys.toml\"\n", "keys = \"keys.toml\"\ntenants = \"tenants.toml\"\n");
    good + TUNNELS
}

const TUNNELS: &str = r#"
[[tunnel]]
name = "tun"
vip4 = "203.0.113.20:443"
vip6 = "[2001:db8::20]:443"
tenants = ["acme", "zorg"]
tick_ms = 8000
stride = 4096
lag = 4
offset = 16384
tunnel_mtu = 1400

[[tunnel]]
name = "second"
vip4 = "203.0.113.10:444"
"#;

/// [`text`] with `from` replaced by `to`, which must be in it.
fn edited(from: &str, to: &str) -> String {
    assert!(text().contains(from), "{from:?} is not in the config");
    text().replacen(from, to, 1)
}

#[test]
fn a_tunnel_is_read_whole() {
    let config = Config::parse("f", &text()).unwrap();
    // Of the missing IPv6 gateway, for which there is a test of its own.
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    let [tunnel, second] = &config.tunnels[..] else { panic!("{:?}", config.tunnels) };
    assert_eq!(tunnel.vip4, Some("203.0.113.20:443".parse().unwrap()));
    assert_eq!(tunnel.vip6, Some("[2001:db8::20]:443".parse().unwrap()));
    assert_eq!(tunnel.tenants, Some(vec!["acme".to_owned(), "zorg".to_owned()]));
    assert_eq!((second.vip6, &second.tenants), (None, &None));
    assert_eq!((second.constants, second.tunnel_mtu), (Constants::default(), 1400));
    assert_eq!(config.pop.tenants.as_deref(), Some("tenants.toml"));
    assert_eq!((config.pop.clock, config.pop.clock_offset_ms), (ClockTrust::Kernel, 0));
    let (macs, syn_acks) =
        (config.limits.keepalive_mac_per_second, config.limits.syn_ack_per_second);
    assert_eq!((syn_acks, macs), (100, 1000));
    let lab = edited("id = 1\n", "id = 1\nclock = \"trusted\"\nclock_offset_ms = -8000\n");
    let pop = Config::parse("f", &lab).unwrap().pop;
    assert_eq!((pop.clock, pop.clock_offset_ms), (ClockTrust::Trusted, -8000));
}

#[test]
fn tunnels_alone_need_no_target_side() {
    let text = "pop = { name = 'p', id = 0, keys = 'k', tenants = 't' }\n\
                worker = [{ core = 0, rx = ['a:0'] }]\n\
                [[port]]\nname = 'a'\ndevice = 'd'\nside = 'client'\naddresses = ['192.0.2.2/24']\n\
                gateways = ['192.0.2.1']\n[[tunnel]]\nname = 't'\nvip4 = '203.0.113.1:443'\n";
    assert_eq!(Config::parse("f", text).unwrap().warnings, []);
}

/// What is changed in [`text`], by what, the key of the problem, and a part of its reason.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("tick_ms = 8000", "tick = 8", "tunnel[0].tick", "unknown field `tick`"),
    ("id = 1\n", "id = 1\nclock = \"ntp\"\n", "pop.clock", "unknown variant `ntp`"),
    (
        "id = 1\n",
        "id = 1\nclock_offset_ms = 86400001\n",
        "pop.clock_offset_ms",
        "must be -86400000 to 86400000",
    ),
    ("tenants = \"tenants.toml\"\n", "", "pop.tenants", "a [[tunnel]] needs it"),
    ("\"tenants.toml\"", "\"\"", "pop.tenants", "empty"),
    ("echo_per_second = 10", "syn_ack_per_second = 0", "limits.syn_ack_per_second", "out of range"),
    (
        "echo_per_second = 10",
        "keepalive_mac_per_second = 0",
        "limits.keepalive_mac_per_second",
        "out of range",
    ),
    ("\"tun\"", "\"t n\"", "tunnel[0].name", "cannot be a name"),
    ("\"tun\"", "\"web\"", "tunnel[0].name", "relay[0] has this name too"),
    ("\"second\"", "\"tun\"", "tunnel[1].name", "tunnel[0] has this name too"),
    ("vip4 = \"203.0.113.10:444\"", "", "tunnel[1]", "it has no VIP"),
    ("203.0.113.20:443", "203.0.113.20", "tunnel[0].vip4", "is not ADDRESS:PORT"),
    ("\"203.0.113.20:443\"", "\"[2001:db8::1]:443\"", "tunnel[0].vip4", "is not ADDRESS:PORT"),
    ("203.0.113.20:443", "203.0.113.20:0", "tunnel[0].vip4", "port 0"),
    ("203.0.113.20:443", "224.0.0.1:443", "tunnel[0].vip4", "not a unicast"),
    ("[2001:db8::20]:443", "2001:db8::20", "tunnel[0].vip6", "is not [ADDRESS]:PORT"),
    ("[2001:db8::20]:443", "[fe80::1%2]:443", "tunnel[0].vip6", "is not [ADDRESS]:PORT"),
    ("[2001:db8::20]:443", "[2001:db8::20]:0", "tunnel[0].vip6", "port 0"),
    ("[2001:db8::20]:443", "[ff02::1]:443", "tunnel[0].vip6", "not a global unicast"),
    ("[2001:db8::20]:443", "[fe80::1]:443", "tunnel[0].vip6", "not a global unicast"),
    ("[2001:db8::20]:443", "[::ffff:192.0.2.1]:443", "tunnel[0].vip6", "not a global unicast"),
    ("[\"acme\", \"zorg\"]", "[]", "tunnel[0].tenants", "it serves nobody"),
    ("\"zorg\"", "\"acme\"", "tunnel[0].tenants[1]", "the same tenant as tunnel[0].tenants[0]"),
    ("tick_ms = 8000", "tick_ms = 99", "tunnel[0].tick_ms", "must be 100 to 60000"),
    ("stride = 4096", "stride = 0", "tunnel[0].stride", "must be 128 to 4096"),
    ("lag = 4", "lag = 0", "tunnel[0].lag", "must be 1 to"),
    ("offset = 16384", "offset = 16448", "tunnel[0].offset", "must be 1024 to 16384"),
    ("offset = 16384", "offset = 16383", "tunnel[0].offset", "not a multiple of 64"),
    ("lag = 4", "lag = 5", "tunnel[0]", "(2 * lag + 3) * stride + offset is 69632"),
    ("stride = 4096", "stride = 4097", "tunnel[0].stride", "must be 128 to 4096"),
    (
        "stride = 4096\nlag = 4",
        "stride = 3781\nlag = 5",
        "tunnel[0]",
        "offset is 65537, beyond the window of 65535",
    ),
    ("tunnel_mtu = 1400", "tunnel_mtu = 575", "tunnel[0].tunnel_mtu", "must be 576 to 9216"),
    ("tunnel_mtu = 1400", "tunnel_mtu = 1501", "tunnel[0].tunnel_mtu", "use at most 1500"),
    ("offset = 16384", "offset = 1344", "tunnel[0].tunnel_mtu", "it must be 1360 or more"),
    // What must not meet.
    (
        "\"10.1.1.2/31\"",
        "\"2001:db8::20/64\"",
        "tunnel[0].vip6",
        "2001:db8::20 is the own address of port[1]",
    ),
    (
        "\"10.1.1.2/31\"]\ngateways = [\"10.1.0.1\"",
        "\"2001:db8::2/64\"]\ngateways = [\"10.1.0.1\", \"2001:db8::20\"",
        "tunnel[0].vip6",
        "2001:db8::20 is the gateway of port[1]",
    ),
    (
        "\"10.1.1.2/31\"",
        "\"2001:db8::21/125\", \"2001:db8::20:1/112\"",
        "tunnel[0].vip6",
        "2001:db8::20 is the address of all routers on the link of port[1]",
    ),
    ("203.0.113.20:443", "203.0.113.10:443", "tunnel[0].vip4", "relay[0] is at 203.0.113.10:443"),
    ("203.0.113.10:444", "203.0.113.20:443", "tunnel[1].vip4", "tunnel[0] is at 203.0.113.20:443"),
    (
        "vip4 = \"203.0.113.10:444\"",
        "vip6 = \"[2001:db8::20]:443\"",
        "tunnel[1].vip6",
        "tunnel[0] is at [2001:db8::20]:443",
    ),
    (
        "203.0.113.20:443",
        "100.64.8.9:443",
        "tunnel[0].vip4",
        "in the pool 100.64.8.0/24 of relay[0]",
    ),
    ("203.0.113.20:443", "198.51.100.9:443", "tunnel[0].vip4", "is a target of relay[0]"),
    ("203.0.113.20:443", "10.1.0.2:443", "tunnel[0].vip4", "own address of port[1]"),
    ("203.0.113.20:443", "10.1.0.1:443", "tunnel[0].vip4", "gateway of port[1]"),
    ("203.0.113.20:443", "10.1.0.255:443", "tunnel[0].vip4", "broadcast address of the link"),
    ("10.1.1.2/31", "2001:db8::20/64", "tunnel[0].vip6", "own address of port[1]"),
];

#[test]
fn every_mistake_is_told_with_its_key_and_reason() {
    for (from, to, key, reason) in MISTAKES {
        let problems = Config::parse("pop.toml", &edited(from, to)).unwrap_err();
        let told = |problem: &Problem| problem.key == *key && problem.reason.contains(reason);
        assert!(
            problems.0.iter().any(told),
            "{from} -> {to}: expected {key}: {reason}; told were:\n{problems}"
        );
    }
}

#[test]
fn the_window_sum_may_be_met_and_not_passed() {
    // 13 * 3780 + 16384 = 65524.
    assert!(
        Config::parse("f", &edited("stride = 4096\nlag = 4", "stride = 3780\nlag = 5")).is_ok()
    );
}

#[test]
fn services_of_both_kinds_count_together() {
    let tunnel = |i: usize| format!("[[tunnel]]\nname = 't{i}'\nvip4 = '203.0.114.1:{}'\n", i + 1);
    let many = |count: usize| (0..count).fold(text(), |text, i| text + &tunnel(i));
    assert!(Config::parse("f", &many(MAX_SERVICES - 5)).is_ok());
    let problems = Config::parse("f", &many(MAX_SERVICES - 4)).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "f: tunnel: 257 services are more than the 256 that are supported"
    );
}

#[test]
fn the_digest_covers_tunnels() {
    let digest = |text: &str| snapshot(text).digest().to_owned();
    let swapped = {
        let text = text();
        let (head, tunnels) = text.split_once("[[tunnel]]").unwrap();
        let (first, second) = tunnels.split_once("[[tunnel]]").unwrap();
        format!("{head}[[tunnel]]{second}[[tunnel]]{first}")
    };
    let clock = edited("id = 1\n", "id = 1\nclock = \"trusted\"\nclock_offset_ms = 8000\n");
    for own in [swapped, clock, edited("\"tun\"", "\"nut\"")] {
        assert_eq!(digest(&own), digest(&text()));
    }
    let mut seen = vec![digest(&text()), digest(GOOD)];
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
        let digest = digest(&edited(from, to));
        assert!(!seen.contains(&digest), "{from} -> {to}");
        seen.push(digest);
    }
}

#[test]
fn a_reload_keeps_live_tunnels() {
    use ConflictKind::{BreaksConnections, NeedsRestart};
    let old = snapshot(&text());
    let told = |text: &str| -> Vec<_> {
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
        assert_eq!(told(&edited(from, to)), [], "{from} -> {to}");
    }
    let (gone, both) = (GOOD.to_owned(), text().replace("203.0.113.20", "203.0.113.21"));
    assert_eq!(told(&gone), []);
    // Under another name and at other VIPs it is another one.
    let other = both.replace("[2001:db8::20]", "[2001:db8::21]").replace("\"tun\"", "\"new\"");
    assert_eq!(told(&other), []);
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
        assert_eq!(told(&edited(from, to)), [(kind, key.to_owned())], "{from} -> {to}");
    }
    // Two VIPs of one tunnel, parted.
    let parted = edited("vip6 = \"[2001:db8::20]:443\"\n", "")
        .replace("vip4 = \"203.0.113.10:444\"", "vip6 = \"[2001:db8::20]:443\"");
    let keys: Vec<_> = told(&parted).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["tunnel[0].vip6", "tunnel[1].vip4", "tunnel[1].vip4"]);
}

#[test]
fn a_tunnel_without_a_gateway_of_its_family_is_warned_of() {
    let warned = |text: &str| {
        let config = Config::parse("f", text).unwrap();
        let about = |warning: &&Problem| warning.reason.contains("an IPv6 gateway");
        config.warnings.iter().filter(about).count()
    };
    assert_eq!(warned(&text()), 1);
    let with_gateway = edited(
        "[\"192.0.2.2/24\"]\ngateways = [\"192.0.2.1\"]\ngateway_macs = [\"02:00:00:00:01:01\"]",
        "[\"192.0.2.2/24\", \"fe80::2/64\"]\ngateways = [\"fe80::1\", \"192.0.2.1\"]",
    );
    assert_eq!(warned(&with_gateway), 0);
    assert_eq!(warned(&edited("vip6 = \"[2001:db8::20]:443\"\n", "")), 0);
}

/// A snapshot of [`text`] with other secrets.
fn with_secrets(keys: &KeyFile, tenants: &str) -> Snapshot {
    let (config, tenants) = (Config::parse("f", &text()).unwrap(), Tenants::parse(tenants));
    Snapshot::build(&config, keys, &tenants.unwrap(), None).unwrap()
}

#[test]
fn a_tenant_that_nobody_is_is_told() {
    let config = Config::parse("pop.toml", &edited("\"zorg\"", "\"nobody\"")).unwrap();
    let problems = Snapshot::build(&config, &keys(), &tenants(), None).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "pop.toml: tunnel[0].tenants[1]: there is no tenant \"nobody\" in tenants.toml; \
         `anyrelay tenant add` adds one"
    );
}

#[test]
fn tunnels_are_found_at_their_vips() {
    let snapshot = snapshot(&text());
    let name = |vip: &str| snapshot.tunnel_at(vip.parse().unwrap()).map(|found| &*found.name);
    assert_eq!(name("203.0.113.20:443"), Some("tun"));
    assert_eq!(name("[2001:db8::20]:443"), Some("tun"));
    assert_eq!(name("203.0.113.10:444"), Some("second"));
    for none in ["203.0.113.10:443", "203.0.113.20:444", "[2001:db8::20]:444", "[2001:db8::21]:443"]
    {
        assert_eq!(name(none), None, "{none}");
    }
    assert_eq!(snapshot.classify(ip("203.0.113.20")), Destination::Vip);
    let vip6 = "2001:db8::20".parse::<std::net::Ipv6Addr>().unwrap();
    assert_eq!(snapshot.classify(vip6.to_bits()), Destination::Vip);
    assert!(
        !snapshot.client_ok(Ipv4Addr::from_bits(ip("203.0.113.20")).into())
            && !snapshot.client_ok(vip6.into())
    );
    let index = snapshot.service_at(ip("203.0.113.10"), 444).unwrap();
    assert_eq!(index, ServiceIndex(4));
    assert!(snapshot.relay(index).is_none());
    let found = |index| snapshot.service(index).map(|service| (service.name(), service.slot()));
    assert_eq!(found(index), Some(("second", ServiceSlot(4))));
    assert_eq!(found(ServiceIndex(0)), Some(("web", ServiceSlot(0))));
    assert_eq!(found(ServiceIndex(5)), None);
}

#[test]
fn a_tunnel_serves_the_tenants_it_names() {
    let served = |text: &str| -> Vec<_> {
        snapshot(text).tunnels().map(|tunnel| tunnel.service.tenants.to_vec()).collect()
    };
    assert_eq!(served(&text()), [[1, 9], [1, 9]]);
    assert_eq!(served(&edited("[\"acme\", \"zorg\"]", "[\"zorg\"]")), [vec![9], vec![1, 9]]);
    let snapshot = snapshot(&text());
    let service = &snapshot.tunnels().next().unwrap().service;
    assert!(service.agents.get(1, 1).is_some() && service.agents.get(1, 2).is_none());
}

#[test]
fn slots_are_kept_over_both_kinds() {
    let before = snapshot(&text());
    let slots = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.services().iter().map(|of| (of.name().to_owned(), of.slot().0)).collect()
    };
    let want = [("web", 0), ("mail", 1), ("raw", 2), ("tun", 3), ("second", 4)];
    assert_eq!(slots(&before), want.map(|(name, slot)| (name.to_owned(), slot)));
    let changed = text().replace("\"mail\"", "\"post\"").replace("\"tun\"", "\"nut\"");
    let config = Config::parse("f", &changed).unwrap();
    let after = Snapshot::build(&config, &keys(), &tenants(), Some(&before)).unwrap();
    let want = [("web", 0), ("post", 5), ("raw", 2), ("nut", 6), ("second", 4)];
    assert_eq!(slots(&after), want.map(|(name, slot)| (name.to_owned(), slot)));
}

/// Changes of [`TENANTS`], and whether they break live tunnels.
const TENANT_CHANGES: [(&str, &str, bool); 5] = [
    ("\"0101", "\"0201", true),
    ("revoked = true", "revoked = false", false),
    ("id = 2", "id = 3\nname = \"pad\"\n[[tenant.agent]]\nid = 2", false),
    ("name = \"laptop\"", "name = \"laptop\"\nrevoked = true", false),
    ("\n[[tenant]]\nid = 9", "\n[[tenant]]\nid = 8", false),
];

#[test]
fn the_digest_covers_who_may_come_and_tokens() {
    let mut seen = vec![snapshot(&text()).digest().to_owned()];
    let mut new = |digest: &str| {
        assert!(!seen.iter().any(|other| other == digest));
        seen.push(digest.to_owned());
    };
    for (from, to, _) in TENANT_CHANGES {
        new(with_secrets(&keys(), &TENANTS.replacen(from, to, 1)).digest());
    }
    new(snapshot(&edited("[\"acme\", \"zorg\"]", "[\"acme\"]")).digest());
    let rotated = |ms| {
        let secret = Secret::new([4; 32]);
        let tokens = keys().tokens.rotated(secret, UnixTime::from_millis(ms), NOW).unwrap();
        KeyFile { tokens, ..keys() }
    };
    new(with_secrets(&rotated(NOW.as_millis()), TENANTS).digest());
    new(with_secrets(&rotated(NOW.as_millis() + 1), TENANTS).digest());
    // What changes no answer: names, a revoked agent that is not even listed, files without tunnels.
    let digest = snapshot(&text()).digest().to_owned();
    let renamed = TENANTS.replace("\"laptop\"", "\"notebook\"");
    assert_eq!(with_secrets(&keys(), &renamed).digest(), digest);
    let unlisted =
        TENANTS.replace("[[tenant.agent]]\nid = 2\nname = \"phone\"\nrevoked = true\n", "");
    assert_ne!(unlisted, TENANTS);
    assert_eq!(with_secrets(&keys(), &unlisted).digest(), digest);
    let relay_only = Snapshot::build(&good(), &keys(), &Tenants::default(), None).unwrap();
    assert_eq!(relay_only.digest(), snapshot(GOOD).digest());
}

#[test]
fn a_reload_keeps_what_live_tunnels_go_by() {
    let old = snapshot(&text());
    let told = |keys: &KeyFile, tenants: &str| -> Vec<_> {
        let conflicts = reload_conflicts(&old, &with_secrets(keys, tenants), NOW);
        conflicts.into_iter().map(|conflict| conflict.problem.key).collect()
    };
    for (from, to, breaks) in TENANT_CHANGES {
        let want: &[&str] = if breaks { &["pop.tenants"] } else { &[] };
        assert_eq!(told(&keys(), &TENANTS.replacen(from, to, 1)), want, "{from} -> {to}");
    }
    let sequence = KeyFile { sequence: Secret::new([7; 32]), ..keys() };
    assert_eq!(told(&sequence, TENANTS), ["pop.keys"]);
    let token = KeyFile { tokens: Epochs::single(Secret::new([7; 32])), ..keys() };
    assert_eq!(told(&token, TENANTS), ["pop.keys"]);
    // Without a tunnel nothing goes by them.
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
    // The first epoch goes too early, then in time, when `three` does without it.
    assert_eq!(conflicts(&two, &three, NOW), 1);
    assert_eq!(conflicts(&two, &three, UnixTime::from_millis(later.as_millis() - 1)), 1);
    assert_eq!(conflicts(&two, &three, later), 0);
    // Its successor's time is moved back to a day ago.
    let over = one.rotated(secret(4), UnixTime::from_millis(1), UnixTime::default()).unwrap();
    assert_eq!(conflicts(&one, &over, NOW), 1);
    // An epoch that was only announced is withdrawn: some may have it already.
    assert_eq!(conflicts(&two, &one, NOW), 1);
}
