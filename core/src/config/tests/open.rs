//! `tunnel.open`: the values that are read, and every mistake.

use super::*;
use crate::net::Net;

/// [`IPV6`] with two open tunnels.
pub(crate) fn opened() -> String {
    let side = |prefix: &str, to: &[&str]| {
        let table = Table::default().with("prefix", prefix).with("to", to);
        table.with("icmp_source", "2001:db8:f::9")
    };
    let open = tunnel("open", &["203.0.113.20:443"])
        .with("tenants", ["acme"])
        .with("tunnel_mtu", 1324)
        .with("open", &side("2001:db8:a::/48", &["2000::/3", "fd00::/16"]));
    let rival = tunnel("rival", &["203.0.113.21:443", "[2001:db8::21]:443"])
        .with("tenants", ["zorg"])
        .with("open", &side("2a00::/32", &["2000::/3"]));
    let text = edit(&IPV6, "id = 1\n", "id = 1\ntenants = \"tenants.toml\"\n");
    format!("{text}\n[[tunnel]]\n{open}\n[[tunnel]]\n{rival}")
}

#[test]
fn an_open_side_is_read_whole() {
    let config = Config::parse("f", &opened()).unwrap();
    assert_eq!(config.warnings, []);
    let [open, rival] = &config.tunnels[..] else { panic!("{:?}", config.tunnels) };
    let side = open.open.as_ref().unwrap();
    assert_eq!((side.prefix.first, side.prefix.prefix_len()), (ip6("2001:db8:a::"), 48));
    let net = |address, prefix_len| Net { address: ip6(address), prefix_len };
    assert_eq!(side.to, [net("2000::", 3), net("fd00::", 16)]);
    assert_eq!(side.icmp_source, "2001:db8:f::9".parse::<Ipv6Addr>().unwrap());
    assert_eq!(rival.open.as_ref().unwrap().prefix.net(), net("2a00::", 32));
    let limits = &config.limits;
    let rates = (limits.open_per_agent_per_second, limits.open_per_service_per_second);
    assert_eq!(rates, (100_000, 1_000_000));
    // Its own address may be a VIP's or a port's, and `to` may list what is private or a target's.
    for (from, to) in [
        ("2001:db8:f::9", "2001:db8::10"),
        ("2001:db8:f::9", "2001:db8:1::2"),
        ("fd00::/16", "2001:db8:5::/48"),
        ("fd00::/16", "2001:db8:5::1/128"),
        ("fd00::/16", "::/0"),
    ] {
        assert!(Config::parse("f", &edit(&opened(), from, to)).is_ok(), "{from} -> {to}");
    }
}

const MISTAKES: &Mistakes = &[
    ("prefix = \"2001:db8:a::/48\"", "net = 1", "tunnel[0].open.net", "unknown field `net`"),
    ("vip4 = \"203.0.113.21:443\"", "", "tunnel[1].open", "has no vip4"),
    ("tunnel_mtu = 1324", "tunnel_mtu = 1323", "tunnel[0].tunnel_mtu", "use 1324 or more"),
    // The prefix.
    ("\"2001:db8:a::/48\"", "\"2001:db8:a::\"", "tunnel[0].open.prefix", "not ADDRESS/LENGTH"),
    ("2001:db8:a::/48", "10.0.0.0/24", "tunnel[0].open.prefix", "not ADDRESS/LENGTH of IPv6"),
    ("2001:db8:a::/48", "2001:db8:a::/49", "tunnel[0].open.prefix", "no prefix of a /32 to a /48"),
    ("2001:db8:a::/48", "2001::/31", "tunnel[0].open.prefix", "no prefix of a /32 to a /48"),
    ("2001:db8:a::/48", "2001:db8:a::1/48", "tunnel[0].open.prefix", "write 2001:db8:a::/48"),
    ("2001:db8:a::/48", "fe80::/32", "tunnel[0].open.prefix", "not a global unicast"),
    ("2001:db8:a::/48", "ff0e::/48", "tunnel[0].open.prefix", "not a global unicast"),
    ("2001:db8:a::/48", "::/32", "tunnel[0].open.prefix", "not a global unicast"),
    (
        "2a00::/32",
        "2001:db8:a::/47",
        "tunnel[1].open.prefix",
        "overlaps 2001:db8:a::/48, the open prefix of tunnel[0]",
    ),
    ("2001:db8:a::/48", "2001:db8:1::/48", "tunnel[0].open.prefix", "own address of port[0]"),
    ("2001:db8:a::/48", "2001:db8:2::/48", "tunnel[0].open.prefix", "own address of port[1]"),
    (
        "2001:db8:1::2/64",
        "2001:db8:1::2/32",
        "tunnel[0].open.prefix",
        "is in 2001:db8:1::2/32 of port[0]",
    ),
    ("2001:db8:a::/48", "2001:db8:64::/48", "tunnel[0].open.prefix", "the egress of relay[1]"),
    ("2001:db8:a::/48", "2001:db8:5::/48", "tunnel[0].open.prefix", "a target of relay[1]"),
    ("2001:db8:a::/48", "2001:db8::/48", "tunnel[0].open.prefix", "relay[3].vip"),
    ("2a00::/32", "2001:db8::/32", "tunnel[1].open.prefix", "overlaps"),
    ("[2001:db8::21]", "[2001:db8:a::21]", "tunnel[0].open.prefix", "a VIP of tunnel[1]"),
    ("2001:db8:a::/48", "64:ff9b::/48", "tunnel[0].open.prefix", "overlaps 64:ff9b::/96, which"),
    ("2001:db8:a::/48", "2002:c000:201::/48", "tunnel[0].open.prefix", "overlaps 2002::/16"),
    // Where agents may send to.
    ("[\"2000::/3\", \"fd00::/16\"]", "[]", "tunnel[0].open.to", "send to nobody"),
    ("\"fd00::/16\"", "\"fd00::\"", "tunnel[0].open.to[1]", "not ADDRESS/LENGTH"),
    ("fd00::/16", "10.0.0.0/8", "tunnel[0].open.to[1]", "not ADDRESS/LENGTH of IPv6"),
    ("fd00::/16", "fd00::1/16", "tunnel[0].open.to[1]", "write fd00::/16"),
    ("fd00::/16", "ff0e::/16", "tunnel[0].open.to[1]", "is in ff00::/8, where no host is"),
    ("fd00::/16", "fe80::/10", "tunnel[0].open.to[1]", "is in fe80::/10"),
    ("fd00::/16", "2001:db8:1::2/128", "tunnel[0].open.to[1]", "the own address of port[0]"),
    ("fd00::/16", "2001:db8::10/128", "tunnel[0].open.to[1]", "relay[3].vip"),
    ("fd00::/16", "2001:db8::21/128", "tunnel[0].open.to[1]", "a VIP of tunnel[1]"),
    ("fd00::/16", "2001:db8:64::/80", "tunnel[0].open.to[1]", "the egress of relay[1]"),
    ("fd00::/16", "2a00::/40", "tunnel[0].open.to[1]", "the open prefix of tunnel[1]"),
    ("fd00::/16", "2001:db8:a::/48", "tunnel[0].open.to[1]", "the open prefix of tunnel[0]"),
    ("fd00::/16", "2001:db8:f::9/128", "tunnel[0].open.to[1]", "it is open.icmp_source"),
    // By NAT64 and 6to4: a VIP, and an address of a port.
    ("fd00::/16", "64:ff9b::203.0.113.21/128", "tunnel[0].open.to[1]", "a VIP of tunnel[1]"),
    ("fd00::/16", "2002:cb00:7115:7::/64", "tunnel[0].open.to[1]", "a VIP of tunnel[1]"),
    ("fd00::/16", "64:ff9b::192.0.2.2/128", "tunnel[0].open.to[1]", "own address of port[0]"),
    // Its own address.
    ("2001:db8:f::9", "192.0.2.2", "tunnel[0].open.icmp_source", "is no IPv6 address"),
    ("2001:db8:f::9", "fe80::9", "tunnel[0].open.icmp_source", "not a global unicast"),
    ("2001:db8:f::9", "2001:db8:a::9", "tunnel[0].open.icmp_source", "open prefix of tunnel[0]"),
    ("2001:db8:f::9", "2a00::9", "tunnel[0].open.icmp_source", "open prefix of tunnel[1]"),
    ("2001:db8:f::9", "2001:db8:64::9", "tunnel[0].open.icmp_source", "of relay[1]"),
    ("2001:db8:f::9", "2001:db8:5::1", "tunnel[0].open.icmp_source", "of relay[1]"),
];

#[test]
fn every_mistake_is_reported_with_its_key_and_reason() {
    every_mistake_is_reported(&opened(), MISTAKES);
    for limit in ["open_per_agent_per_second", "open_per_service_per_second"] {
        let text = format!("{}\n[limits]\n{limit} = 0\n", opened());
        let problems = Config::parse("f", &text).unwrap_err();
        assert_eq!(problems.0[0].key, format!("limits.{limit}"));
    }
}

#[test]
fn what_is_said_twice_or_is_not_routed_is_warned_of() {
    let config = Config::parse("f", &edit(&opened(), "fd00::/16", "2000::/3")).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert_eq!(warning.key, "tunnel[0].open.to[1]");
    assert!(warning.reason.contains("the same prefix as tunnel[0].open.to[0]"));
    let private = edit(&opened(), "2001:db8:a::/48", "fd12:3456:a::/48");
    let config = Config::parse("f", &private).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert_eq!(warning.key, "tunnel[0].open.prefix");
    assert!(warning.reason.contains("is not in 2000::/3"), "{warning}");
    let many: Vec<_> = (0..65).map(|i| format!("\"2600:{i:x}::/32\"")).collect();
    let many = edit(&opened(), "\"fd00::/16\"", &many.join(", "));
    let problems = Config::parse("f", &many).unwrap_err();
    assert_eq!(problems.0[0].key, "tunnel[0].open.to");
}
