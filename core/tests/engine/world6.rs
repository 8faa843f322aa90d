//! A POP whose relay services have IPv6, segments over IPv6 written by hand, and read back.

use anyrelay_core::net::Endpoint;
use anyrelay_core::net::PortIndex;
use anyrelay_core::relay::mapping::{ClientSide, ClientTimestamps};
use anyrelay_core::verdict::Verdict;
use anyrelay_kit::frames::{Tcp, ip, ip6};

use super::world::{CONFIG, World};

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
/// A client that is on no link.
pub const CLIENT6: End6 = (0x2600 << 112 | 5, 40_006);
/// The prefix of egress addresses.
pub const PREFIX6: u128 = 0x2001_0db8_0064 << 80;

/// [`CONFIG`] with IPv6 on both ports, and services that have it.
pub fn relay6_config() -> String {
    let edits = [
        ("addresses = [\"192.0.2.2/24\"]", "addresses = [\"192.0.2.2/24\", \"2001:db8:1::2/64\"]"),
        ("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"fe80::1\"]"),
        ("[\"02:00:00:00:01:01\"]", "[\"02:00:00:00:01:01\", \"02:00:00:00:01:01\"]"),
        ("addresses = [\"10.1.0.2/24\"]", "addresses = [\"10.1.0.2/24\", \"2001:db8:2::2/64\"]"),
        ("[\"10.1.0.1\"]", "[\"10.1.0.1\", \"2001:db8:2::1\"]"),
        ("[\"02:00:00:00:01:02\"]", "[\"02:00:00:00:01:02\", \"02:00:00:00:01:02\"]"),
    ];
    let config = edits.iter().fold(CONFIG.to_owned(), |config, (from, to)| {
        assert!(config.contains(from), "{from:?} is not in the config");
        config.replace(from, to)
    });
    config + SERVICES
}

const SERVICES: &str = r#"
[[relay]]
name = "web6"
vip = "203.0.113.14:443"
targets = ["[2001:db8:5::1]:8443"]
egress = { prefix = "2001:db8:64::/64" }

[[relay]]
name = "many6"
vip = "203.0.113.14:80"
targets = ["[2001:db8:5::20]:80", "[2001:db8:5::21]:80", "[2001:db8:5::21]:81"]
egress = { prefix = "2001:db8:64::/64" }

[[relay]]
name = "raw6"
vip = "[2001:db8:f::10]:443"
targets = ["[2001:db8:5::40]:8443", "[2001:db8:5::41]:8443"]
egress = "transparent"
"#;

/// A World with [`relay6_config`] in which each `from` has become its `to`.
pub fn relay6_world(edits: &[(&str, &str)]) -> World {
    let config = edits.iter().fold(relay6_config(), |config, (from, to)| {
        assert!(config.contains(from), "{from:?} is not in the config");
        config.replace(from, to)
    });
    World::of(&config)
}

impl World {
    /// The egress endpoint of a client of a service in prefix mode.
    pub fn egress6(&self, service: &str, client: (u32, u16)) -> End6 {
        let client = Endpoint { ip: client.0, port: client.1 }.into();
        let side = ClientSide { client, timestamps: ClientTimestamps::Absent };
        let egress = self.service(service).mode.outward(side).unwrap().egress;
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

    /// Hands over a datagram that is forwarded; gives back the frame and where it left.
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
    assert_eq!((PREFIX6, CLIENT6.0), (ip6("2001:db8:64::"), ip6("2600::5")));
    assert_eq!(WEB6.0, ip("203.0.113.14"));
}
