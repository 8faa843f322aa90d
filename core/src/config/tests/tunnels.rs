//! `[[tunnel]]`: the values that are read, and every mistake.

use super::*;

/// [`tunnelling`] with `from` replaced by `to`.
fn edited(from: &str, to: &str) -> String {
    edit(&tunnelling(), from, to)
}

#[test]
fn a_tunnel_is_read_whole() {
    let config = Config::parse("f", &tunnelling()).unwrap();
    // The warning of the missing IPv6 gateway has a test of its own.
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

const MISTAKES: &Mistakes = &[
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
    // Overlaps.
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
fn every_mistake_is_reported_with_its_key_and_reason() {
    every_mistake_is_reported(&tunnelling(), MISTAKES);
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
    let many = |count: usize| (0..count).fold(tunnelling(), |text, i| text + &tunnel(i));
    assert!(Config::parse("f", &many(MAX_SERVICES - 5)).is_ok());
    let problems = Config::parse("f", &many(MAX_SERVICES - 4)).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "f: tunnel: 257 services are more than the 256 that are supported"
    );
}

#[test]
fn a_tunnel_without_a_gateway_of_its_family_is_warned_of() {
    let warned = |text: &str| {
        let config = Config::parse("f", text).unwrap();
        let about = |warning: &&Problem| warning.reason.contains("an IPv6 gateway");
        config.warnings.iter().filter(about).count()
    };
    assert_eq!(warned(&tunnelling()), 1);
    let with_gateway = edited(
        "[\"192.0.2.2/24\"]\ngateways = [\"192.0.2.1\"]\ngateway_macs = [\"02:00:00:00:01:01\"]",
        "[\"192.0.2.2/24\", \"fe80::2/64\"]\ngateways = [\"fe80::1\", \"192.0.2.1\"]",
    );
    assert_eq!(warned(&with_gateway), 0);
    assert_eq!(warned(&edited("vip6 = \"[2001:db8::20]:443\"\n", "")), 0);
}
