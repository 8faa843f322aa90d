//! Lookups of relays with IPv6.

use std::net::Ipv6Addr;

use super::*;
use crate::net::{Address, Protocol};

#[test]
fn addresses_and_endpoints_are_found_as_configured() {
    let snapshot = snapshot(&IPV6);
    let prefix = Destination::Pool(PoolIndex(1));
    for (address, means) in [
        ("2001:db8::10", Destination::Vip),
        ("2001:db8:64::", prefix),
        ("2001:db8:64::ffff:ffff:ffff:ffff", prefix),
        ("2001:db8:64:1::", Destination::Other { client_ok: true }),
        ("2001:db8:63:ffff:ffff:ffff:ffff:ffff", Destination::Other { client_ok: true }),
        ("2001:db8:5::1", Destination::Other { client_ok: false }),
        ("2001:db8:2::2", Destination::Own(PortIndex(1))),
    ] {
        assert_eq!(snapshot.classify(ip6(address)), means, "{address}");
    }
    let (web, mail, raw) = (ServiceIndex(1), ServiceIndex(2), ServiceIndex(3));
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip("203.0.113.10"), 80), Some(ServiceIndex(0)));
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip("203.0.113.10"), 443), Some(web));
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip6("2001:db8::10"), 443), Some(raw));
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip6("2001:db8::10"), 444), None);
    let (place, target) = (PoolIndex(1), ip6("2001:db8:5::1"));
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, place, target, 8443).map(|found| found.service),
        Some(web)
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, place, target, 25).map(|found| found.service),
        Some(mail)
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, place, target, 26).map(|found| found.service),
        None
    );
    assert_eq!(
        snapshot.service_behind(Protocol::Tcp, PoolIndex(0), target, 25).map(|found| found.service),
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
    let names: Vec<_> = (0..7)
        .map(|index| {
            let service = snapshot.service(ServiceIndex(index))?;
            Some((service.name(), service.slot().0))
        })
        .collect();
    let want = [("old", 0), ("web", 1), ("mail", 2), ("raw", 3), ("raw2", 4), ("deep", 5)];
    assert_eq!(names[..6], want.map(Some));
    assert_eq!((names[6], snapshot.services().len()), (None, 6));
    assert!(snapshot.relay(web).is_some() && snapshot.tunnel(web).is_none());
    assert_eq!(snapshot.relay(web).unwrap().vip(), "203.0.113.10:443".parse().unwrap());
    assert_eq!(snapshot.relay(raw).unwrap().targets.all().len(), 1);
    assert!(snapshot.relay(ServiceIndex(0)).is_some());
    assert!(snapshot.relay(ServiceIndex(6)).is_none());
}

#[test]
fn vips_targets_and_egress_addresses_are_no_clients() {
    let snapshot = snapshot(&IPV6);
    for address in ["2001:db8::11", "2001:db8:5::3", "2001:db8:65::1", "2001:db8:1::3"] {
        assert!(snapshot.client_ok(address.parse().unwrap()), "{address}");
    }
    for address in ["2001:db8::10", "2001:db8:5::1", "2001:db8:5::9", "2001:db8:64::1"] {
        assert!(!snapshot.client_ok(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn addresses_that_stand_for_no_client_of_ipv4_are_no_clients() {
    let list = "keys = \"keys.toml\"\nnot_clients = [\"9.9.9.0/24\"]";
    let snapshot = snapshot(&edit(&IPV6, "keys = \"keys.toml\"", list));
    for (address, ok) in [
        ("198.18.0.7", true),
        ("9.9.8.255", true),
        ("9.9.9.0", false),
        ("9.9.10.0", true),
        ("10.2.3.4", false),
        ("127.0.0.1", false),
        ("203.0.113.10", false),
        ("198.51.100.10", false),
        ("100.64.8.77", false),
        ("192.0.2.2", false),
        ("192.0.2.255", false),
        // A gateway, which may do NAT.
        ("192.0.2.1", true),
    ] {
        let bits = u128::from(ip(address));
        for embedded in [0x0064_ff9b << 96 | bits, 0x2002 << 112 | bits << 80 | 0x5_0007] {
            assert_eq!(snapshot.client_ok(Ipv6Addr::from_bits(embedded).into()), ok, "{address}");
        }
        assert_eq!(snapshot.client_ok(ip(address).ip()), ok, "{address}");
    }
    assert!(snapshot.client_ok("64:ff9b:0:0:0:1::".parse().unwrap()));
}

#[test]
fn egress_addresses_stay_what_they_are() {
    // A prefix within 6to4, of which a part stands for private addresses.
    let text = IPV6.replace("2001:db8:64::/64", "2002::/32");
    let keys = "keys = \"keys.toml\"";
    let list = "not_clients = [\"2002:0:7::/48\", \"100.64.8.0/26\"]";
    let snapshot = snapshot(&edit(&text, keys, &format!("{keys}\n{list}")));
    for address in ["2002::1", "2002:0:7::1", "2002:0:ffff::1"] {
        let found = snapshot.classify(ip6(address));
        assert_eq!(found, Destination::Pool(PoolIndex(1)), "{address}");
    }
    assert_eq!(snapshot.classify(ip("100.64.8.9")), Destination::Pool(PoolIndex(0)));
}

#[test]
fn gateways_are_known() {
    let snapshot_of = |line: &str| {
        let keys = "keys = \"keys.toml\"";
        snapshot(&edit(&IPV6, keys, &format!("{keys}\n{line}")))
    };
    let is = |snapshot: &Snapshot, text: &str| {
        let ip = text.parse().unwrap();
        (snapshot.is_gateway(ip), snapshot.client_ok(ip))
    };
    let snapshot = snapshot_of("");
    assert_eq!(is(&snapshot, "192.0.2.1"), (true, true));
    assert_eq!(is(&snapshot, "192.0.2.3"), (false, true));
    assert_eq!(is(&snapshot, "2001:db8:2::1"), (true, true));
    // Private, and of one link only.
    assert_eq!(is(&snapshot, "10.1.0.1"), (false, false));
    assert_eq!(is(&snapshot, "fe80::1"), (false, false));
    assert_eq!(is(&snapshot_of("private_clients = true"), "10.1.0.1"), (true, true));
    assert_eq!(is(&snapshot_of("gateway_clients = false"), "192.0.2.1"), (false, false));
    assert_eq!(is(&snapshot_of("not_clients = [\"192.0.2.0/24\"]"), "192.0.2.1"), (false, false));
    assert_eq!(snapshot.classify(ip("192.0.2.1")), Destination::Other { client_ok: true });
}

#[test]
fn tunnels_come_after_relays_with_ipv6() {
    let tunnel =
        "[[tunnel]]\nname = \"tun\"\nvip4 = \"203.0.113.20:443\"\nvip6 = \"[2001:db8::20]:443\"\n";
    let text = edit(&IPV6, "keys = \"keys.toml\"", "keys = \"keys.toml\"\ntenants = \"t.toml\"");
    let snapshot = snapshot(&(text + tunnel));
    let index = ServiceIndex(6);
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip("203.0.113.20"), 443), Some(index));
    assert_eq!(snapshot.service_at(Protocol::Tcp, ip6("2001:db8::20"), 443), Some(index));
    assert_eq!(snapshot.tunnel(index).unwrap().name, "tun");
    assert_eq!(snapshot.tunnel_at("[2001:db8::10]:443".parse().unwrap()).map(|_| ()), None);
    let names: Vec<_> =
        snapshot.services().iter().map(|service| (service.name(), service.slot().0)).collect();
    assert_eq!(names[6], ("tun", 6));
}
