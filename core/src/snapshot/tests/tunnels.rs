//! Lookups of tunnels, and the tenants that they serve.

use super::*;
use crate::net::Protocol;

#[test]
fn an_unknown_tenant_is_reported() {
    let config = Config::parse("pop.toml", &edit(&tunnelling(), "\"zorg\"", "\"nobody\"")).unwrap();
    let problems = Snapshot::build(&config, &keys(), &tenants(), None).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "pop.toml: tunnel[0].tenants[1]: there is no tenant \"nobody\" in tenants.toml; \
         `anyrelay tenant add` adds one"
    );
}

#[test]
fn tunnels_are_found_at_their_vips() {
    let snapshot = snapshot(&tunnelling());
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
    let vip4 = "203.0.113.20".parse().unwrap();
    assert!(!snapshot.client_ok(vip4) && !snapshot.client_ok(vip6.into()));
    let index = snapshot.service_at(Protocol::Tcp, ip("203.0.113.10"), 444).unwrap();
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
    assert_eq!(served(&tunnelling()), [[1, 9], [1, 9]]);
    assert_eq!(
        served(&edit(&tunnelling(), "[\"acme\", \"zorg\"]", "[\"zorg\"]")),
        [vec![9], vec![1, 9]]
    );
    let snapshot = snapshot(&tunnelling());
    let service = &snapshot.tunnels().next().unwrap().service;
    assert!(service.agents.get(1, 1).is_some() && service.agents.get(1, 2).is_none());
}
