//! A POP with IPv6: on its ports alone, and in its relays.

use anyrelay_core::net::Endpoint;
use anyrelay_core::net::PortIndex;
use anyrelay_core::time::UnixTime;
use anyrelay_core::verdict::Verdict;
use anyrelay_kit::config::{Egress, PopConfig, mac_text, relay};
use anyrelay_kit::frames::{Tcp, ip, ip6};

use super::world::{LAN_GATEWAY, LAN_MAC, WAN_GATEWAY, WAN_MAC, World, config};

/// An IPv6 address and a port.
pub type End6 = (u128, u16);

/// A service in prefix mode with one target.
pub const WEB6: (u32, u16) = (0xcb00_710e, 443); // 203.0.113.14
pub const WEB6_TARGET: End6 = (0x2001_0db8_0005 << 80 | 1, 8443);
/// A service in prefix mode with three targets.
pub const MANY6: (u32, u16) = (0xcb00_710e, 80);
/// A transparent service over IPv6 with two targets.
pub const RAW6: End6 = (0x2001_0db8_000f << 80 | 0x10, 443);
pub const RAW6_TARGETS: [End6; 2] =
    [(0x2001_0db8_0005 << 80 | 0x40, 8443), (0x2001_0db8_0005 << 80 | 0x41, 8443)];
/// A service in pool mode over IPv6 with one target.
pub const DEEP: End6 = (0x2001_0db8_000f << 80 | 0x11, 443);
pub const DEEP_TARGET: End6 = (0x2001_0db8_0005 << 80 | 0x50, 8443);
/// A service in pool mode over IPv6 with three targets.
pub const DEEPS: End6 = (0x2001_0db8_000f << 80 | 0x11, 80);
/// A client that is on no link.
pub const CLIENT6: End6 = (0x2600 << 112 | 5, 40_006);
/// The prefix of egress addresses.
pub const PREFIX6: u128 = 0x2001_0db8_0064 << 80;

/// The addresses of the ports in [`config6`], and of a host on a link.
pub const WAN_IP6: u128 = 0x2001_0db8_0001 << 80 | 2;
pub const LAN_IP6: u128 = 0x2001_0db8_0002 << 80 | 2;
pub const LINK_LOCAL: u128 = 0xfe80 << 112 | 0x0a;
pub const NEIGHBOUR6: u128 = 0x2001_0db8_0001 << 80 | 0x77;
/// A host on no link of the POP.
pub const FAR6: u128 = 0x2600 << 112 | 5;

/// [`config`] with IPv6 on both ports: a static gateway on one, two that are asked for on the
/// other.
pub fn config6() -> PopConfig {
    config().edit(|config| {
        let wan = ["192.0.2.2/24", "2001:db8:1::2/64", "fe80::a/64"];
        let lan = ["2001:db8:2::2/64", "10.1.0.2/24", "fe80::b/64"];
        let gateways = ["10.1.0.1", "fe80::1", "2001:db8:2::1"];
        config
            .named("wan")
            .set("addresses", wan)
            .set("gateways", ["192.0.2.1", "fe80::1"])
            .set("gateway_macs", [mac_text(WAN_GATEWAY), mac_text(WAN_GATEWAY)]);
        config.named("lan").set("addresses", lan).set("gateways", gateways).remove("gateway_macs");
    })
}

pub fn world6() -> World {
    World::of(&config6())
}

/// [`config`] with IPv6 on both ports, and relays that use it.
pub fn relay6_config() -> PopConfig {
    let config = config().edit(|config| {
        config
            .named("wan")
            .set("addresses", ["192.0.2.2/24", "2001:db8:1::2/64"])
            .set("gateways", ["192.0.2.1", "fe80::1"])
            .set("gateway_macs", [mac_text(WAN_GATEWAY), mac_text(WAN_GATEWAY)]);
        config
            .named("lan")
            .set("addresses", ["10.1.0.2/24", "2001:db8:2::2/64"])
            .set("gateways", ["10.1.0.1", "2001:db8:2::1"])
            .set("gateway_macs", [mac_text(LAN_GATEWAY), mac_text(LAN_GATEWAY)]);
    });
    let prefix = Egress::Prefix("2001:db8:64::/64");
    let many = ["[2001:db8:5::20]:80", "[2001:db8:5::21]:80", "[2001:db8:5::21]:81"];
    let raw = ["[2001:db8:5::40]:8443", "[2001:db8:5::41]:8443"];
    config
        .relay(relay("web6", "203.0.113.14:443", &["[2001:db8:5::1]:8443"], prefix))
        .relay(relay("many6", "203.0.113.14:80", &many, prefix))
        .relay(relay("raw6", "[2001:db8:f::10]:443", &raw, Egress::Transparent))
}

pub fn relay6_world() -> World {
    World::of(&relay6_config())
}

/// [`relay6_config`] with relays in pool mode over IPv6.
pub fn pool6_config() -> PopConfig {
    let pool = Egress::Pool("fd40::/12");
    let many = ["[2001:db8:5::60]:80", "[2001:db8:5::61]:80", "[2001:db8:5::61]:81"];
    relay6_config()
        .relay(relay("deep", "[2001:db8:f::11]:443", &["[2001:db8:5::50]:8443"], pool))
        .relay(relay("deeps", "[2001:db8:f::11]:80", &many, pool))
}

pub fn pool6_world() -> World {
    World::of(&pool6_config())
}

impl World {
    /// The egress endpoint of a client of a service in pool mode over IPv6, and the TSval of all
    /// its segments but a bare SYN.
    pub fn pooled6(&self, service: &str, client: End6) -> (End6, u32) {
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let side = self.service(service).egress_of(client).unwrap();
        let egress: Endpoint<u128> = side.egress.of_family().unwrap();
        ((egress.ip, egress.port), side.tag.unwrap().timestamp())
    }

    /// The egress endpoint of a client of a service in prefix mode.
    pub fn egress6(&self, service: &str, client: (u32, u16)) -> End6 {
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let egress = self.service(service).outward(client, UnixTime::default()).unwrap().egress;
        let egress: Endpoint<u128> = egress.of_family().unwrap();
        (egress.ip, egress.port)
    }

    /// The IPv6 target of an IPv4 client.
    pub fn target4(&self, service: &str, client: (u32, u16)) -> End6 {
        self.chosen(service, Endpoint { ip: client.0, port: client.1 }.into())
    }

    /// The target of an IPv6 client.
    pub fn target6(&self, service: &str, client: End6) -> End6 {
        self.chosen(service, Endpoint { ip: client.0, port: client.1 }.into())
    }

    /// Hands over a datagram that is forwarded; returns the frame and where it left.
    pub fn passed(&mut self, port: PortIndex, datagram: &[u8]) -> (PortIndex, Vec<u8>) {
        let mut sent = self.datagram(port, datagram);
        let (Some((out, frame)), true) = (sent.pop(), sent.is_empty()) else {
            panic!("{:?}", self.out.said)
        };
        assert_eq!(self.verdict(), Verdict::Forward(out), "{:?}", self.out.said);
        (out, frame)
    }
}

/// A segment with these flags; where it goes is for [`over6`] to say.
pub fn plain(flags: u8) -> Tcp {
    Tcp::new((0, 1), (0, 1), flags)
}

#[test]
fn constants_are_what_they_say() {
    let end = |text: &str| {
        let at: std::net::SocketAddrV6 = text.parse().unwrap();
        (at.ip().to_bits(), at.port())
    };
    assert_eq!(WEB6_TARGET, end("[2001:db8:5::1]:8443"));
    assert_eq!(RAW6, end("[2001:db8:f::10]:443"));
    assert_eq!(RAW6_TARGETS, [end("[2001:db8:5::40]:8443"), end("[2001:db8:5::41]:8443")]);
    assert_eq!((DEEP, DEEPS), (end("[2001:db8:f::11]:443"), end("[2001:db8:f::11]:80")));
    assert_eq!(DEEP_TARGET, end("[2001:db8:5::50]:8443"));
    assert_eq!((PREFIX6, CLIENT6.0), (ip6("2001:db8:64::"), ip6("2600::5")));
    assert_eq!(WEB6.0, ip("203.0.113.14"));
}

#[test]
fn addresses_are_what_they_say() {
    assert_eq!(WAN_IP6, ip6("2001:db8:1::2"));
    assert_eq!(LAN_IP6, ip6("2001:db8:2::2"));
    assert_eq!(LINK_LOCAL, ip6("fe80::a"));
    assert_eq!(NEIGHBOUR6, ip6("2001:db8:1::77"));
    let world = world6();
    let macs = world.snapshot.config.ports.iter().map(|port| port.mac.unwrap().octets());
    assert_eq!(macs.collect::<Vec<_>>(), [WAN_MAC, LAN_MAC]);
}
