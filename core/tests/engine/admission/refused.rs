//! Who is no client by the config: the operator's list, and gateways.

use anyrelay_core::verdict::DropReason;

use super::*;

/// Who is on the operator's list is nobody's client, in either family and embedded in IPv6.
#[test]
fn who_is_on_the_list_is_refused_in_every_way() {
    let refused = ["9.9.9.0/24", "2001:4860::/32"];
    let world = || world_of(|config| config.set("not_clients", refused));
    for bad in ["9.9.9.9", "9.9.9.255"] {
        let mut world = world();
        for way in ways4(&mut world, ip(bad)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(sent.is_empty(), "{bad}: {} {:?}", way.0, world.out.said);
        }
    }
    for bad in ["2001:4860::1", "64:ff9b::9.9.9.9", "2002:909:909::1"] {
        let mut world = world();
        for way in ways6(&mut world, ip6(bad)) {
            let sent = world.datagram(way.1, &way.2);
            assert!(sent.is_empty(), "{bad}: {} {:?}", way.0, world.out.said);
        }
    }
    let mut world = world();
    for good in ["9.9.8.255", "9.9.10.0"] {
        world.forwarded(WAN, &Tcp::new((ip(good), PORT), WEB, SYN));
    }
    let segment = Tcp::new((ip("9.9.9.9"), PORT), WEB, ACK);
    assert_eq!(world.dropped(WAN, &segment.datagram()), DropReason::SourceNotAllowed);
}

/// A gateway may do NAT for clients, so it is one unless the config says otherwise; but it is
/// counted.
#[test]
fn gateways_are_counted_or_refused() {
    let gateway = ip("192.0.2.1");
    let mut world = world();
    world.forwarded(WAN, &Tcp::new((gateway, PORT), WEB, SYN));
    world.forwarded(WAN, &Tcp::new((gateway, PORT), RAW, SYN));
    world.forwarded(WAN, &Tcp::new((gateway, PORT), WEB, ACK));
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, SYN));
    world.datagram(WAN, &Tcp::new((gateway, PORT), (ip("203.0.113.20"), 443), SYN).datagram());
    assert_eq!(world.counters.port(WAN).gateway_syns.get(), 3);

    let mut world = world_of(|config| config.set("gateway_clients", false));
    for way in ways4(&mut world, gateway) {
        let sent = world.datagram(way.1, &way.2);
        assert!(sent.is_empty(), "{} {:?}", way.0, world.out.said);
    }
    assert_eq!(world.counters.port(WAN).gateway_syns.get(), 0);
    // It is still the next hop, and a router that reports errors.
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, SYN));
}
