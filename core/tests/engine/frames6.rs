//! IPv6 datagrams written by hand, and read back with `etherparse`.

use anyrelay_kit::frames::ip6;

use super::world::{CONFIG, LAN_MAC, WAN_MAC, World};

/// The addresses of the ports in [`CONFIG6`], and those of hosts on their links.
pub const WAN_IP6: u128 = 0x2001_0db8_0001 << 80 | 2;
pub const LAN_IP6: u128 = 0x2001_0db8_0002 << 80 | 2;
pub const LINK_LOCAL: u128 = 0xfe80 << 112 | 0x0a;
pub const NEIGHBOUR6: u128 = 0x2001_0db8_0001 << 80 | 0x77;
/// Somebody who is on no link.
pub const FAR6: u128 = 0x2600 << 112 | 5;

/// [`CONFIG`] with IPv6 on both ports: a static gateway on one, two that are to be resolved on the
/// other.
pub fn world6() -> World {
    World::of(&config6())
}

pub fn config6() -> String {
    let edits = [
        (
            "addresses = [\"192.0.2.2/24\"]",
            "addresses = [\"192.0.2.2/24\", \"2001:db8:1::2/64\", \"fe80::a/64\"]",
        ),
        ("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"fe80::1\"]"),
        ("[\"02:00:00:00:01:01\"]", "[\"02:00:00:00:01:01\", \"02:00:00:00:01:01\"]"),
        (
            "addresses = [\"10.1.0.2/24\"]",
            "addresses = [\"2001:db8:2::2/64\", \"10.1.0.2/24\", \"fe80::b/64\"]",
        ),
        ("[\"10.1.0.1\"]", "[\"10.1.0.1\", \"fe80::1\", \"2001:db8:2::1\"]"),
        ("gateway_macs = [\"02:00:00:00:01:02\"]", ""),
    ];
    edits.iter().fold(CONFIG.to_owned(), |config, (from, to)| {
        assert!(config.contains(from), "{from:?} is not in the config");
        config.replace(from, to)
    })
}

#[test]
fn constants_are_what_they_say() {
    assert_eq!(WAN_IP6, ip6("2001:db8:1::2"));
    assert_eq!(LAN_IP6, ip6("2001:db8:2::2"));
    assert_eq!(LINK_LOCAL, ip6("fe80::a"));
    assert_eq!(NEIGHBOUR6, ip6("2001:db8:1::77"));
    let world = world6();
    let macs = world.snapshot.config.ports.iter().map(|port| port.mac.unwrap().octets());
    assert_eq!(macs.collect::<Vec<_>>(), [WAN_MAC, LAN_MAC]);
}
