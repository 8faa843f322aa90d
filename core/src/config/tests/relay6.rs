//! Relay services with IPv6: what is read, what is refused, what a snapshot answers.

use super::*;
use crate::config::PrefixLen;

/// A config without mistakes or warnings, with a service of each mode that has IPv6, and one
/// without.
const TEXT: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"

[[port]]
name = "wan"
device = "wan"
side = "client"
addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]
gateways = ["192.0.2.1", "fe80::1"]

[[port]]
name = "lan"
device = "lan"
side = "target"
addresses = ["10.1.0.2/24", "2001:db8:2::2/64"]
gateways = ["10.1.0.1", "2001:db8:2::1"]

[[worker]]
core = 0
rx = ["wan:0", "lan:0"]

[[relay]]
name = "old"
vip = "203.0.113.10:80"
targets = ["198.51.100.10:80"]
egress = { pool = "100.64.8.0/24" }

[[relay]]
name = "web"
vip = "203.0.113.10:443"
targets = ["[2001:db8:5::2]:8443", "[2001:db8:5::1]:8443"]
egress = { prefix = "2001:db8:64::/64" }
mss = 1400

[[relay]]
name = "mail"
vip = "203.0.113.10:25"
targets = ["[2001:db8:5::1]:25"]
egress = { prefix = "2001:db8:64::/64" }

[[relay]]
name = "raw"
vip = "[2001:db8::10]:443"
targets = ["[2001:db8:5::1]:8443"]
egress = "transparent"

[[relay]]
name = "raw2"
vip = "[2001:db8::10]:80"
targets = ["[2001:db8:5::9]:80"]
egress = "transparent"
"#;

/// [`TEXT`] with `from` replaced by `to`, which must be in it.
fn edited(from: &str, to: &str) -> String {
    assert!(TEXT.contains(from), "{from:?} is not in the config");
    TEXT.replacen(from, to, 1)
}

fn ip6(text: &str) -> u128 {
    text.parse::<std::net::Ipv6Addr>().unwrap().to_bits()
}

const PREFIX: &str = "{ prefix = \"2001:db8:64::/64\" }\nmss";

#[test]
fn services_with_ipv6_are_read_whole() {
    let config = Config::parse("pop.toml", TEXT).unwrap();
    assert_eq!(config.warnings, []);
    let [old, web, _, raw, _] = &config.relays[..] else { panic!() };
    assert_eq!((old.mss, web.mss, raw.mss), (1460, 1400, 1440));
    assert_eq!(web.vip, "203.0.113.10:443".parse().unwrap());
    assert_eq!(web.targets[0], "[2001:db8:5::1]:8443".parse().unwrap());
    let len = PrefixLen::new(64).unwrap();
    assert_eq!(web.egress, EgressConfig::Prefix(Prefix { first: ip6("2001:db8:64::"), len }));
    assert_eq!(raw.egress, EgressConfig::Transparent);
}

/// What is changed in `TEXT`, by what, the key of the problem, and a part of its reason.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("[2001:db8::10]:443", "2001:db8::10", "relay[3].vip", "is not ADDRESS:PORT"),
    ("[2001:db8::10]:443", "[2001:db8::10%1]:443", "relay[3].vip", "is not ADDRESS:PORT"),
    ("[2001:db8::10]:443", "[2001:db8::10]:0", "relay[3].vip", "port 0"),
    ("[2001:db8::10]:443", "[fe80::1]:443", "relay[3].vip", "not a global unicast address"),
    ("[2001:db8:5::9]:80", "[ff05::9]:80", "relay[4].targets[0]", "not a global unicast address"),
    (
        "[2001:db8:5::1]:8443\"]\negress = { prefix",
        "[2001:db8:5:0::2]:8443\"]\negress = { prefix",
        "relay[1].targets[1]",
        "the same target as relay[1].targets[0]",
    ),
    // An egress of another family, and families that have none.
    ("vip = \"203.0.113.10:80\"", "vip = \"[2001:db8::9]:80\"", "relay[0].egress", "has room for"),
    (
        "vip = \"203.0.113.10:25\"",
        "vip = \"[2001:db8::9]:25\"",
        "relay[2].egress",
        "\"transparent\"",
    ),
    ("198.51.100.10:80", "[2001:db8:5::7]:80", "relay[0].targets", "use { prefix ="),
    ("[2001:db8:5::1]:25", "198.51.100.10:25", "relay[2].targets", "use { pool ="),
    ("[2001:db8::10]:443", "203.0.113.11:443", "relay[3].targets", "leaves clients of an IPv4 VIP"),
    ("[2001:db8:5::9]:80", "198.51.100.7:80", "relay[4].targets", "leaves clients of an IPv6 VIP"),
    // The prefix.
    (PREFIX, "{ prefix = \"2001:db8:64::\" }\nmss", "relay[1].egress.prefix", "is not ADDRESS/LEN"),
    (PREFIX, "{ prefix = \"100.64.8.0/64\" }\nmss", "relay[1].egress.prefix", "of IPv6"),
    (PREFIX, "{ prefix = 64 }\nmss", "relay[1].egress.prefix", "expected a string"),
    (PREFIX, "{ prefix = \"2001:db8::/31\" }\nmss", "relay[1].egress.prefix", "too large a prefix"),
    (
        PREFIX,
        "{ prefix = \"2001:db8:64::/81\" }\nmss",
        "relay[1].egress.prefix",
        "too small a prefix: use a /32 to a /80",
    ),
    (
        PREFIX,
        "{ prefix = \"2001:db8:64::1/64\" }\nmss",
        "relay[1].egress.prefix",
        "write 2001:db8:64::/64",
    ),
    (PREFIX, "{ prefix = \"ff05::/64\" }\nmss", "relay[1].egress.prefix", "not a global unicast"),
    ("mss = 1400", "mss = 1441", "relay[1].mss", "use at most 1440, its mtu - 60"),
    // What must not meet.
    (
        PREFIX,
        "{ prefix = \"2001:db8:64::/48\" }\nmss",
        "relay[2].egress.prefix",
        "2001:db8:64::/64 overlaps 2001:db8:64::/48 of relay[1]; use the same prefix",
    ),
    (
        "[2001:db8:5::1]:25",
        "[2001:db8:5::1]:8443",
        "relay[2].targets",
        "relay[1] has the target [2001:db8:5::1]:8443 on the prefix 2001:db8:64::/64 too",
    ),
    (
        "[2001:db8:5::9]:80",
        "[2001:db8:5::1]:8443",
        "relay[4].targets",
        "relay[3] is transparent and has the target [2001:db8:5::1]:8443 too",
    ),
    (
        "[2001:db8::10]:80",
        "[2001:db8::10]:443",
        "relay[4].vip",
        "relay[3] is at [2001:db8::10]:443",
    ),
    (
        "[2001:db8::10]:443",
        "[2001:db8:64::7]:443",
        "relay[3].vip",
        "in the prefix 2001:db8:64::/64 of relay[1]",
    ),
    ("[2001:db8::10]:443", "[2001:db8:5::9]:443", "relay[3].vip", "is a target of relay[4]"),
    (
        "[2001:db8:5::9]:80",
        "[2001:db8:64::9]:80",
        "relay[4].targets",
        "in the prefix 2001:db8:64::/64 of relay[1]",
    ),
    ("[2001:db8::10]:443", "[2001:db8:1::2]:443", "relay[3].vip", "own address of port[0]"),
    ("[2001:db8::10]:443", "[2001:db8:2::1]:443", "relay[3].vip", "gateway of port[1]"),
    ("[2001:db8::10]:443", "[2001:db8:2::]:443", "relay[3].vip", "address of all routers"),
    ("[2001:db8:5::9]:80", "[2001:db8:1::2]:80", "relay[4].targets", "own address of port[0]"),
    (
        PREFIX,
        "{ prefix = \"2001:db8:2::/64\" }\nmss",
        "relay[1].egress.prefix",
        "2001:db8:2::2 is the own address of port[1]",
    ),
    // Routers.
    (
        "[\"10.1.0.1\", \"2001:db8:2::1\"]",
        "[\"10.1.0.1\"]",
        "port",
        "no port towards the targets has an IPv6 gateway, and a relay has an IPv6 target",
    ),
    (
        "[\"192.0.2.1\", \"fe80::1\"]",
        "[\"192.0.2.1\"]",
        "port",
        "no port towards the clients has an IPv6 gateway, and a relay has an IPv6 VIP",
    ),
];

#[test]
fn every_mistake_is_told_with_its_key_and_reason() {
    for (from, to, key, reason) in MISTAKES {
        let Err(problems) = Config::parse("pop.toml", &edited(from, to)) else {
            panic!("{from} -> {to} is taken");
        };
        let told = |problem: &Problem| problem.key == *key && problem.reason.contains(reason);
        assert!(
            problems.0.iter().any(told),
            "{from} -> {to}: expected {key}: {reason}; told were:\n{problems}"
        );
    }
}

#[test]
fn a_side_needs_gateways_of_the_families_that_are_served_there_only() {
    // All VIPs are of IPv4 and all targets of IPv6.
    let text = TEXT.split("[[relay]]\nname = \"old\"").next().unwrap().to_owned();
    let web = TEXT.split("[[relay]]").nth(2).unwrap();
    let text = text + "[[relay]]" + web;
    let text = text.replace(", \"fe80::1\"]", "]").replace("[\"10.1.0.1\", ", "[");
    assert!(Config::parse("f", &text).is_ok(), "{:?}", Config::parse("f", &text));
}

#[test]
fn addresses_and_endpoints_mean_what_the_config_says() {
    let snapshot = snapshot(TEXT);
    let prefix = Destination::Pool(PoolIndex(1));
    for (address, means) in [
        ("2001:db8::10", Destination::Vip),
        ("2001:db8:64::", prefix),
        ("2001:db8:64::ffff:ffff:ffff:ffff", prefix),
        ("2001:db8:64:1::", Destination::Other),
        ("2001:db8:63:ffff:ffff:ffff:ffff:ffff", Destination::Other),
        ("2001:db8:5::1", Destination::Other),
        ("2001:db8:2::2", Destination::Own(PortIndex(1))),
    ] {
        assert_eq!(snapshot.classify(ip6(address)), means, "{address}");
    }
    let (web, mail, raw) = (ServiceIndex(1), ServiceIndex(2), ServiceIndex(3));
    assert_eq!(snapshot.service_at(ip("203.0.113.10"), 80), Some(ServiceIndex(0)));
    assert_eq!(snapshot.service_at(ip("203.0.113.10"), 443), Some(web));
    assert_eq!(snapshot.service_at(ip6("2001:db8::10"), 443), Some(raw));
    assert_eq!(snapshot.service_at(ip6("2001:db8::10"), 444), None);
    let (place, target) = (PoolIndex(1), ip6("2001:db8:5::1"));
    assert_eq!(snapshot.service_behind(place, target, 8443), Some(web));
    assert_eq!(snapshot.service_behind(place, target, 25), Some(mail));
    assert_eq!(snapshot.service_behind(place, target, 26), None);
    assert_eq!(snapshot.service_behind(PoolIndex(0), target, 25), None);
    assert_eq!(snapshot.transparent_service(target, 8443), Some(raw));
    assert_eq!(snapshot.transparent_service(target, 25), None);
    let names: Vec<_> = (0..6)
        .map(|index| {
            let service = snapshot.service(ServiceIndex(index))?;
            Some((service.name(), service.slot().0))
        })
        .collect();
    let want = [("old", 0), ("web", 1), ("mail", 2), ("raw", 3), ("raw2", 4)];
    assert_eq!(names[..5], want.map(Some));
    assert_eq!((names[5], snapshot.services().len()), (None, 5));
    assert!(snapshot.relay(web).is_some() && snapshot.tunnel(web).is_none());
    assert_eq!(snapshot.relay(web).unwrap().vip(), "203.0.113.10:443".parse().unwrap());
    assert_eq!(snapshot.relay(raw).unwrap().mode.targets().len(), 1);
    assert!(snapshot.relay(ServiceIndex(0)).is_some());
    assert!(snapshot.relay(ServiceIndex(5)).is_none());
}

#[test]
fn vips_targets_and_egress_addresses_are_no_clients() {
    let snapshot = snapshot(TEXT);
    for address in ["2001:db8::11", "2001:db8:5::3", "2001:db8:65::1", "2001:db8:1::3"] {
        assert!(snapshot.client_ok(address.parse().unwrap()), "{address}");
    }
    for address in ["2001:db8::10", "2001:db8:5::1", "2001:db8:5::9", "2001:db8:64::1"] {
        assert!(!snapshot.client_ok(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn tunnels_come_after_relays_with_ipv6() {
    let tunnel =
        "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\nvip6 = \"[2001:db8::20]:443\"\n";
    let text = edited("keys = \"keys.toml\"", "keys = \"keys.toml\"\ntenants = \"t.toml\"");
    let snapshot = snapshot(&(text + tunnel));
    let index = ServiceIndex(5);
    assert_eq!(snapshot.service_at(ip("203.0.113.20"), 443), Some(index));
    assert_eq!(snapshot.service_at(ip6("2001:db8::20"), 443), Some(index));
    assert_eq!(snapshot.tunnel(index).unwrap().name, "tun");
    assert_eq!(snapshot.tunnel_at("[2001:db8::10]:443".parse().unwrap()).map(|_| ()), None);
    let names: Vec<_> =
        snapshot.services().iter().map(|service| (service.name(), service.slot().0)).collect();
    assert_eq!(names[5], ("tun", 5));
}

#[test]
fn the_digest_covers_services_with_ipv6() {
    let digest = snapshot(TEXT).digest().to_owned();
    let reversed = edited(
        "\"[2001:db8:5::2]:8443\", \"[2001:db8:5::1]:8443\"",
        "\"[2001:db8:5::1]:8443\", \"[2001:db8:5::2]:8443\"",
    );
    assert_eq!(snapshot(&reversed).digest(), digest);
    let mut seen = vec![digest];
    for (from, to) in [
        ("[2001:db8::10]:80", "[2001:db8::11]:80"),
        ("[2001:db8:5::9]:80", "[2001:db8:5::8]:80"),
        ("mss = 1400", "mss = 1401"),
    ] {
        seen.push(snapshot(&edited(from, to)).digest().to_owned());
    }
    for prefix in ["2001:db8:65::/64", "2001:db8:64::/65"] {
        seen.push(snapshot(&TEXT.replace("2001:db8:64::/64", prefix)).digest().to_owned());
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn a_reload_is_free_or_told_why_not() {
    let old = snapshot(TEXT);
    for (from, to) in [("mss = 1400", "mss = 1300"), ("[2001:db8::10]:80", "[2001:db8::11]:80")] {
        assert_eq!(reload_conflicts(&old, &snapshot(&edited(from, to)), NOW), [], "{from} -> {to}");
    }
    let without = |reason: &str| TEXT.replace(reason, "");
    let web_to_pool = TEXT
        .replace("[\"[2001:db8:5::2]:8443\", \"[2001:db8:5::1]:8443\"]", "[\"198.51.100.11:8443\"]")
        .replace(PREFIX, "{ pool = \"100.64.8.0/24\" }\nmss");
    let cases = [
        (
            edited("[2001:db8:5::9]:80", "[2001:db8:5::8]:80"),
            vec![("relay[4].targets", "moves live connections")],
        ),
        (
            TEXT.replace("2001:db8:64::/64", "2001:db8:64::/65"),
            vec![
                ("relay[1].egress", "live connections use the prefix 2001:db8:64::/64; the way"),
                ("relay[2].egress", "second VIP or port with the prefix 2001:db8:64::/65"),
            ],
        ),
        (
            web_to_pool,
            vec![
                ("relay[1].targets", "moves live connections"),
                ("relay[1].egress", "use the prefix 2001:db8:64::/64, not the pool 100.64.8.0/24"),
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
    let config = Config::parse("f", TEXT).unwrap();
    let new = Snapshot::build(&config, &new_keys, &tenants(), None).unwrap();
    assert_eq!(reload_conflicts(&old, &new, NOW)[0].problem.key, "pop.keys");
}

#[test]
fn a_prefix_on_a_link_is_warned_of() {
    let text = TEXT.replace("2001:db8:64::/64", "2001:db8:2:0:8000::/80");
    let config = Config::parse("f", &text).unwrap();
    let told: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
    let expected = |index| {
        format!(
            "f: relay[{index}].egress.prefix: the prefix 2001:db8:2:0:8000::/80 is in \
             2001:db8:2::2/64 of port[1]: hosts on that link ask for its addresses by neighbour \
             discovery, which the POP does not answer; use one apart from it, or route it to the \
             POP on every host of the link"
        )
    };
    assert_eq!(told, [expected(1), expected(2)]);
}
