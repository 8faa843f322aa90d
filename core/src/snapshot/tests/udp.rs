//! Relays with UDP, and two at one VIP.

use std::net::IpAddr;

use super::*;
use crate::config::{ChooseBy, Protocols};
use crate::net::Protocol::{Tcp, Udp};

const RAW: &str = "vip = \"203.0.113.11:443\"";

/// [`GOOD`], whose transparent relay has this protocol and VIP.
fn raw(protocol: &str, vip: &str) -> Snapshot {
    snapshot(&with(RAW, &format!("vip = \"{vip}\"\nprotocol = \"{protocol}\"")))
}

#[test]
fn services_are_found_by_their_protocols() {
    let index = Some(ServiceIndex(2));
    let (vip, target) = (ip("203.0.113.11"), ip("198.51.100.10"));
    for (protocol, by_tcp, by_udp) in
        [("tcp", index, None), ("udp", None, index), ("both", index, index)]
    {
        let snapshot = raw(protocol, "203.0.113.11:443");
        for (of, wanted) in [(Tcp, by_tcp), (Udp, by_udp)] {
            assert_eq!(snapshot.service_at(of, vip, 443), wanted, "{protocol} {of:?}");
            let found = snapshot.transparent_service(of, target, 8443);
            assert_eq!(found.map(|found| found.service), wanted, "{protocol} {of:?}");
        }
        assert_eq!(snapshot.has_udp(), by_udp.is_some());
    }
}

#[test]
fn one_vip_has_a_service_of_each_protocol() {
    let snapshot = raw("udp", "203.0.113.10:443");
    let vip = ip("203.0.113.10");
    assert_eq!(snapshot.service_at(Tcp, vip, 443), Some(ServiceIndex(0)));
    assert_eq!(snapshot.service_at(Udp, vip, 443), Some(ServiceIndex(2)));
    let relays: Vec<_> = snapshot.config.relays.iter().collect();
    assert_eq!(relays[2].protocols, Protocols::Udp);
    assert_eq!((relays[0].choose_by, relays[2].choose_by), (ChooseBy::Endpoint, ChooseBy::Address));
}

#[test]
fn fragments_are_of_use_where_udp_is_relayed_alone() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let client = address("198.18.5.9");
    let snapshot = raw("both", "203.0.113.11:443");
    assert!(snapshot.may_relay_udp(client, address("203.0.113.11")));
    assert!(snapshot.may_relay_udp(address("198.51.100.10"), client));
    for (src, dst) in
        [("198.18.5.9", "203.0.113.10"), ("198.51.100.11", "198.18.5.9"), ("9.9.9.9", "100.64.8.1")]
    {
        assert!(!snapshot.may_relay_udp(address(src), address(dst)), "{src} {dst}");
    }
    assert!(!raw("tcp", "203.0.113.11:443").may_relay_udp(client, address("203.0.113.11")));
    let prefix = edit(
        &IPV6,
        "vip = \"203.0.113.10:443\"",
        "vip = \"203.0.113.10:443\"\nprotocol = \"both\"",
    );
    let snapshot =
        Snapshot::build(&Config::parse("f", &prefix).unwrap(), &keys(), &tenants(), None);
    let egress = address("2001:db8:64::1");
    assert!(snapshot.unwrap().may_relay_udp(address("2001:db8:5::1"), egress));
}
