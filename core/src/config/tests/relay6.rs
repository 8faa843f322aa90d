//! Relays with IPv6: the values that are read, and every mistake.

use super::*;
use crate::config::{Pool6, Pool6Len, PrefixLen};

#[test]
fn relays_with_ipv6_are_read_whole() {
    let config = Config::parse("pop.toml", &IPV6).unwrap();
    assert_eq!(config.warnings, []);
    let [old, web, _, raw, _, deep] = &config.relays[..] else { panic!() };
    assert_eq!((old.mss, web.mss, raw.mss), (1460, 1400, 1440));
    assert_eq!(web.vip, "203.0.113.10:443".parse().unwrap());
    assert_eq!(web.targets.entries[0].address, "[2001:db8:5::1]:8443".parse().unwrap());
    let len = PrefixLen::new(64).unwrap();
    assert_eq!(web.egress, EgressConfig::Prefix(Prefix { first: ip6("2001:db8:64::"), len }));
    assert_eq!(raw.egress, EgressConfig::Transparent);
    assert_eq!((old.icmp_mtu_floor, web.icmp_mtu_floor), (1280, 552));
    let len = Pool6Len::new(12).unwrap();
    let pool = Pool6 { first: ip6("fd40::"), len };
    assert_eq!((deep.egress, deep.mss), (EgressConfig::Pool6(pool), 1440));
    assert_eq!((deep.egress.to_string(), pool.random_tags()), ("pool fd40::/12".into(), 63 << 16));
}

#[test]
fn a_port_too_narrow_for_ipv6_targets_is_warned_of() {
    for (mtu, is_warned_of) in [(1259, true), (1260, false)] {
        let wan = port("wan", "client", &["192.0.2.2/24"]).with("gateways", ["192.0.2.1"]);
        let lan = port("lan", "target", &["2001:db8:2::2/64"]);
        let lan = lan.with("gateways", ["2001:db8:2::1"]);
        let prefix = Egress::Prefix("2001:db8:64::/64");
        let web = relay("web", "203.0.113.10:443", &["[2001:db8:5::1]:443"], prefix);
        let config = PopConfig::new("pop1", 1, &[wan.with("mtu", mtu), lan]).relay(web);
        let warnings = Config::parse("pop.toml", &config.text()).unwrap().warnings;
        let reasons: Vec<_> = warnings.iter().map(|warning| warning.to_string()).collect();
        assert_eq!(reasons.len(), usize::from(is_warned_of), "{mtu}: {reasons:?}");
        let text = "pop.toml: port[0].mtu: 1259 is too small for the IPv6 targets of relay[0]";
        assert!(reasons.iter().all(|reason| reason.starts_with(text)), "{reasons:?}");
    }
}

#[test]
fn private_clients_of_an_ipv6_pool_are_warned_of() {
    let text = edit(&IPV6, "keys = ", "private_clients = true\nkeys = ");
    let config = Config::parse("pop.toml", &text).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert_eq!(warning.key, "relay[5].egress.pool");
    assert!(warning.reason.contains("an IPv6 pool has a place for clients of 2000::/3 alone"));
}

#[test]
fn an_ipv6_pool_among_the_addresses_of_clients_is_warned_of() {
    for (pool, is_among_clients) in
        [("2600::/8", true), ("2a0c:b640::/28", true), ("3f00::/8", true), ("4000::/8", false)]
    {
        let config = Config::parse("f", &edit(&IPV6, "fd40::/12", pool)).unwrap();
        let reported: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
        let expected = format!(
            "f: relay[5].egress.pool: {pool} is in 2000::/3, where clients are: those with an \
             address of the pool are dropped; use one of fd00::/8, such as fd40::/12, or one where \
             no client is"
        );
        assert_eq!(reported, if is_among_clients { vec![expected] } else { vec![] });
    }
}

#[test]
fn a_floor_over_ipv6_is_warned_of() {
    let vip = "vip = \"[2001:db8::10]:443\"";
    let text = edit(&IPV6, vip, &format!("{vip}\nicmp_mtu_floor = 1280"));
    let config = Config::parse("pop.toml", &text).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert_eq!(warning.key, "relay[3].icmp_mtu_floor");
    assert!(warning.reason.contains("without effect at an IPv6 VIP"), "{warning:?}");
}

const MISTAKES: &Mistakes = &[
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
    (
        "vip = \"203.0.113.10:80\"",
        "vip = \"[2001:db8::9]:80\"",
        "relay[0].egress",
        "is IPv6, and an IPv4 pool has no room for its clients' addresses; use an IPv6 pool",
    ),
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
    (
        "vip = \"[2001:db8::10]:25\"",
        "vip = \"203.0.113.11:25\"",
        "relay[5].egress",
        "is IPv4, and an IPv6 pool is for clients of an IPv6 VIP",
    ),
    ("[2001:db8:5::9]:25", "198.51.100.7:25", "relay[5].targets", "an IPv6 pool gives clients"),
    // The IPv6 pool.
    ("fd40::/12", "fd40::", "relay[5].egress.pool", "as \"fd40::/12\""),
    ("fd40::/12", "fc00::/7", "relay[5].egress.pool", "too large an IPv6 pool; use a /8 to a /28"),
    ("fd40::/12", "fd40::/29", "relay[5].egress.pool", "too small an IPv6 pool: it must hold"),
    ("fd40::/12", "fd48::/12", "relay[5].egress.pool", "write fd40::/12"),
    ("fd40::/12", "fe00::/8", "relay[5].egress.pool", "not a global unicast address"),
    (
        "fd40::/12",
        "2000::/8",
        "relay[5].egress.pool",
        "2001:db8:1::2 is the own address of port[0]",
    ),
    ("fd40::/12", "2001::/16", "relay[3].vip", "is in the pool 2001::/16 of relay[5]"),
    ("fd40::/12", "2001::/16", "relay[5].targets", "is in the pool 2001::/16 of relay[5]"),
    ("fd40::/12", "2001::/16", "relay[5].egress.pool", "overlaps 2001:db8:64::/64 of relay[1]"),
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
    // Overlaps.
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
fn every_mistake_is_reported_with_its_key_and_reason() {
    every_mistake_is_reported(&IPV6, MISTAKES);
}

#[test]
fn a_side_needs_gateways_of_the_families_that_are_served_there_only() {
    // All VIPs are of IPv4 and all targets of IPv6.
    let text = IPV6.split("[[relay]]\nname = \"old\"").next().unwrap().to_owned();
    let web = IPV6.split("[[relay]]").nth(2).unwrap();
    let text = text + "[[relay]]" + web;
    let text = text.replace(", \"fe80::1\"]", "]").replace("[\"10.1.0.1\", ", "[");
    assert!(Config::parse("f", &text).is_ok(), "{:?}", Config::parse("f", &text));
}

#[test]
fn a_prefix_on_a_link_is_warned_of() {
    let text = IPV6.replace("2001:db8:64::/64", "2001:db8:2:0:8000::/80");
    let config = Config::parse("f", &text).unwrap();
    let reported: Vec<_> = config.warnings.iter().map(Problem::to_string).collect();
    let expected = |index| {
        format!(
            "f: relay[{index}].egress.prefix: the prefix 2001:db8:2:0:8000::/80 is in \
             2001:db8:2::2/64 of port[1]: hosts on that link ask for its addresses by neighbour \
             discovery, which the POP does not answer; use one apart from it, or route it to the \
             POP on every host of the link"
        )
    };
    assert_eq!(reported, [expected(1), expected(2)]);
}
