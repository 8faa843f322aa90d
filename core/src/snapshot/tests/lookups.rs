//! Lookups of addresses and services.

use std::net::IpAddr;

use super::*;
use cpu_vector::Isa;

use crate::net::{Address, Endpoint, IpEndpoint, Protocol};
use crate::time::UnixTime;

#[test]
fn addresses_are_classified_as_configured() {
    let snapshot = snapshot(&GOOD);
    assert_eq!(snapshot.classify(ip("203.0.113.10")), Destination::Vip);
    assert_eq!(snapshot.classify(ip("203.0.113.11")), Destination::Vip);
    assert_eq!(snapshot.classify(ip("203.0.113.12")), Destination::Other { client_ok: true });
    for pool in ["100.64.8.0", "100.64.8.77", "100.64.8.255"] {
        assert_eq!(snapshot.classify(ip(pool)), Destination::Pool(PoolIndex(0)));
    }
    for other in ["100.64.7.255", "100.64.9.0", "198.51.100.10", "192.0.2.1", "0.0.0.0"] {
        assert!(snapshot.classify(ip(other)).is_other(), "{other}");
    }
    assert_eq!(snapshot.classify(ip("192.0.2.2")), Destination::Own(PortIndex(0)));
    assert_eq!(snapshot.classify(ip("10.1.1.2")), Destination::Own(PortIndex(1)));
}

#[test]
fn services_are_found_from_both_sides() {
    let snapshot = snapshot(&GOOD);
    let (web, mail, raw) = (ServiceIndex(0), ServiceIndex(1), ServiceIndex(2));
    let (vip, target, pool) = (ip("203.0.113.10"), ip("198.51.100.10"), PoolIndex(0));
    assert_eq!(snapshot.service_at(Protocol::Tcp, vip, 443), Some(web));
    assert_eq!(snapshot.service_at(Protocol::Tcp, vip, 25), Some(mail));
    assert_eq!(snapshot.service_at(Protocol::Tcp, vip, 80), None);
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, pool, target, 8443).map(|found| found.service),
        Some(web)
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, pool, target, 25).map(|found| found.service),
        Some(mail)
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, pool, target, 26).map(|found| found.service),
        None
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, PoolIndex(1), target, 25).map(|found| found.service),
        None
    );
    assert_eq!(
        snapshot.transparent_service(Protocol::Tcp, target, 8443).map(|found| found.service),
        Some(raw)
    );
    assert_eq!(
        snapshot.transparent_service(Protocol::Tcp, target, 25).map(|found| found.service),
        None
    );
    assert_eq!(snapshot.service(raw).unwrap().name(), "raw");
    assert_eq!(snapshot.relay(web).unwrap().targets.all().len(), 2);
    assert!(snapshot.service(ServiceIndex(3)).is_none());
}

#[test]
fn only_addresses_of_clients_are_clients() {
    let public = [
        "1.2.3.4",
        "192.0.2.77",
        "203.0.113.12",
        "198.51.100.11",
        "172.32.0.1",
        "223.255.255.255",
        "100.128.0.0",
        "169.253.0.1",
    ];
    let private = [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.3.4",
        "100.64.0.1",
        "100.127.255.255",
    ];
    let never = [
        "0.0.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "203.0.113.10",
        "100.64.8.3",
        "198.51.100.9",
        "192.0.2.2",
        "10.1.1.2",
        "192.0.2.0",
        "192.0.2.255",
    ];
    let (without, with) =
        (snapshot(&GOOD), snapshot(&with("private_clients = false", "private_clients = true")));
    for address in public {
        assert!(
            without.client_ok(ip(address).ip()) && with.client_ok(ip(address).ip()),
            "{address}"
        );
    }
    for address in private {
        assert!(
            !without.client_ok(ip(address).ip()) && with.client_ok(ip(address).ip()),
            "{address}"
        );
    }
    for address in never {
        assert!(
            !without.client_ok(ip(address).ip()) && !with.client_ok(ip(address).ip()),
            "{address}"
        );
    }
}

/// `GOOD` with IPv6 on both ports.
fn both_families() -> String {
    with(
        "addresses = [\"192.0.2.2/24\"]",
        "addresses = [\"2001:db8:1::2/64\", \"192.0.2.2/24\", \"fe80::2/64\"]",
    )
    .replace(
        "\"10.1.1.2/31\"]\ngateways = [",
        "\"fd00:1::2/64\", \"fe80::2/64\"]\ngateways = [\"fe80::1\", ",
    )
}

#[test]
fn all_that_is_computed_takes_the_instructions_of_the_config() {
    for isa in Isa::ALL {
        let config = Config { instructions: Some(isa), ..good() };
        let snapshot = Snapshot::build(&config, &keys(), &Tenants::default(), None).unwrap();
        assert_eq!(snapshot.isa(), isa.or_less(), "{isa}");
    }
    let snapshot = Snapshot::build(&good(), &keys(), &Tenants::default(), None).unwrap();
    assert_eq!(snapshot.isa(), Isa::best());
}

#[test]
fn ports_have_addresses_and_gateways_of_both_families() {
    let config = Config::parse("pop.toml", &both_families()).unwrap();
    let [wan, lan] = &config.ports[..] else { panic!() };
    let nets: Vec<_> = wan.nets::<u128>().map(|net| net.to_string()).collect();
    assert_eq!(nets, ["2001:db8:1::2/64", "fe80::2/64"]);
    assert_eq!(wan.nets::<u32>().map(|net| net.address).collect::<Vec<_>>(), [ip("192.0.2.2")]);
    assert!(wan.has_address(ip6("fe80::2")) && !wan.has_address(ip6("fe80::1")));
    assert_eq!(lan.gateways_of::<u128>().collect::<Vec<_>>(), [(ip6("fe80::1"), None)]);
    assert_eq!(lan.gateways_of::<u32>().collect::<Vec<_>>(), [(ip("10.1.0.1"), None)]);
}

#[test]
fn ipv6_addresses_are_classified_as_configured() {
    let snapshot = snapshot(&both_families());
    let own = |text| matches!(snapshot.classify(ip6(text)), Destination::Own(_));
    assert_eq!(snapshot.classify(ip6("2001:db8:1::2")), Destination::Own(PortIndex(0)));
    assert_eq!(snapshot.classify(ip6("fd00:1::2")), Destination::Own(PortIndex(1)));
    assert!(own("fe80::2") && !own("fe80::1") && !own("2001:db8:1::3"));
    for other in ["::", "::192.0.2.2", "::ffff:192.0.2.2", "2001:db8:1::", "ff02::1"] {
        assert_eq!(
            snapshot.classify(ip6(other)),
            Destination::Other { client_ok: false },
            "{other}"
        );
    }
    // The lookups of IPv4 do not change.
    assert_eq!(snapshot.classify(ip("192.0.2.2")), Destination::Own(PortIndex(0)));
}

#[test]
fn only_ipv6_addresses_of_clients_are_clients() {
    let public = ["2001:db8::7", "2001:db8:1::3", "64:ff9b::1.2.3.4", "2600::1", "fbff:ffff::1"];
    let private = ["fc00::1", "fd00:1::3", "fdff:ffff::1"];
    let never = [
        "::",
        "::1",
        "::1.2.3.4",
        "::ffff:1.2.3.4",
        "100::1",
        "fe80::1",
        "febf:ffff::1",
        "fec0::1",
        "ff02::1",
        "ffff::1",
        // Own addresses, and the anycast addresses of the routers of a link.
        "2001:db8:1::2",
        "2001:db8:1::",
        "fd00:1::2",
        "fd00:1::",
    ];
    let text = both_families();
    let allowing = text.replace("private_clients = false", "private_clients = true");
    let (without, with) = (snapshot(&text), snapshot(&allowing));
    for (addresses, ok, ok_if_private) in
        [(&public[..], true, true), (&private, false, true), (&never, false, false)]
    {
        for address in addresses {
            assert_eq!(without.client_ok(ip6(address).ip()), ok, "{address}");
            assert_eq!(with.client_ok(ip6(address).ip()), ok_if_private, "{address}");
            assert_eq!(with.client_ok(address.parse().unwrap()), ok_if_private, "{address}");
        }
    }
    assert!(with.client_ok("1.2.3.4".parse().unwrap()));
    assert!(!with.client_ok("192.0.2.2".parse().unwrap()));
}

#[test]
fn targets_of_transparent_services_are_known() {
    let snapshot = snapshot(&GOOD);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(snapshot.is_passing_target(ip("198.51.100.10")));
    assert!(!snapshot.is_passing_target(ip("198.51.100.9")), "of a pool service only");
}

#[test]
fn targets_get_clients_by_the_weights_of_the_config() {
    let weighted = "{ address = \"198.51.100.9:8443\", weight = 3 }";
    let snapshot = snapshot(&with("\"198.51.100.9:8443\"", weighted));
    let relay = snapshot.relays().next().unwrap();
    let chosen = |port| {
        let client = Endpoint { ip: ip("198.18.0.1"), port }.into();
        relay.targets.choose(&client, UnixTime::default()).new
    };
    let heavy = IpEndpoint::from(Endpoint { ip: ip("198.51.100.9"), port: 8443 });
    let count = (1..=40_000).filter(|port| chosen(*port) == relay.targets.index_of(&heavy)).count();
    // 3 of 4: 30,000 expected, standard deviation 87.
    assert!((29_600..30_400).contains(&count), "{count}");
}
