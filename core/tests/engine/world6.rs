//! A POP whose relay services have IPv6, segments over IPv6 written by hand, and read back.

use anyrelay_core::net::Endpoint;
use anyrelay_core::net::PortIndex;
use anyrelay_core::snapshot::{Mode6, Service6};
use anyrelay_core::verdict::Verdict;
use etherparse::{Ipv6HeaderSlice, TcpHeaderSlice};

use super::frames::{Mac, Tcp};
use super::frames6::{Ip6, checksum6, ip6};
use super::seen::SeenTcp;
use super::world::{CONFIG, Sent, World};

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
    pub fn service6(&self, name: &str) -> &Service6 {
        self.snapshot.services6.iter().find(|service| service.name == name).unwrap()
    }

    /// What stands for a client of a service in prefix mode.
    pub fn egress6(&self, service: &str, client: (u32, u16)) -> End6 {
        let Mode6::Prefix { map, .. } = &self.service6(service).mode else {
            panic!("{service} is not in prefix mode")
        };
        (map.address(client.0), client.1)
    }

    /// The target of an IPv4 client of a service with IPv6 targets, chosen by the definition.
    pub fn target4(&self, service: &str, client: (u32, u16)) -> End6 {
        let rendezvous = &self.service6(service).rendezvous;
        let client = Endpoint { ip: client.0, port: client.1 };
        let targets = rendezvous.targets().iter().rev();
        let best = targets.max_by_key(|target| rendezvous.weight4(client, **target)).unwrap();
        (best.ip, best.port)
    }

    /// The target of an IPv6 client, likewise.
    pub fn target6(&self, service: &str, client: End6) -> End6 {
        let rendezvous = &self.service6(service).rendezvous;
        let client = Endpoint { ip: client.0, port: client.1 };
        let targets = rendezvous.targets().iter().rev();
        let best = targets.max_by_key(|target| rendezvous.weight6(client, **target)).unwrap();
        (best.ip, best.port)
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

/// The datagram of `segment` over IPv6 from `src` to `dst`; what it says of IPv4 does not matter.
pub fn over6(src: End6, dst: End6, segment: &Tcp) -> Vec<u8> {
    Ip6::new(src.0, dst.0).with(&segment6(src, dst, segment))
}

/// The segment alone, from `src` to `dst`, its checksum right for IPv6.
pub fn segment6(src: End6, dst: End6, segment: &Tcp) -> Vec<u8> {
    let segment = segment.clone().edit(|s| (s.sport, s.dport) = (src.1, dst.1));
    let mut bytes = segment.segment();
    bytes[16..18].fill(0);
    let sum = checksum6(src.0, dst.0, 6, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A segment with these flags; where it goes is for [`over6`] to say.
pub fn plain(flags: u8) -> Tcp {
    Tcp::new((0, 1), (0, 1), flags)
}

/// A frame whose datagram is IPv6 with a TCP segment, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTcp6 {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub src: u128,
    pub dst: u128,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub flow: u32,
    /// What stands between the IPv6 and the TCP header.
    pub extensions: Vec<u8>,
    pub tcp: SeenTcp,
    pub datagram: Vec<u8>,
}

impl SeenTcp6 {
    /// Takes an untagged frame apart, whose TCP header is `extensions` bytes behind the IPv6 header;
    /// panics when lengths or checksum are wrong.
    pub fn frame(frame: &[u8], extensions: usize) -> SeenTcp6 {
        assert!(frame[12..14] == [0x86, 0xdd], "{frame:02x?}");
        let datagram = &frame[14..];
        let header = Ipv6HeaderSlice::from_slice(datagram).unwrap().to_header();
        assert_eq!(datagram.len(), 40 + usize::from(header.payload_length), "{frame:02x?}");
        assert_eq!(header.next_header.0 == 6, extensions == 0, "{frame:02x?}");
        let (extensions, segment) = datagram[40..].split_at(extensions);
        let tcp = TcpHeaderSlice::from_slice(segment).unwrap();
        let data = &segment[tcp.slice().len()..];
        let sum = tcp.calc_checksum_ipv6_raw(header.source, header.destination, data).unwrap();
        assert_eq!(tcp.checksum(), sum, "{frame:02x?}");
        SeenTcp6 {
            dst_mac: frame[..6].try_into().unwrap(),
            src_mac: frame[6..12].try_into().unwrap(),
            src: u128::from_be_bytes(header.source),
            dst: u128::from_be_bytes(header.destination),
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            flow: header.flow_label.value(),
            extensions: extensions.to_vec(),
            tcp: SeenTcp {
                sport: tcp.source_port(),
                dport: tcp.destination_port(),
                seq: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                flags: tcp.slice()[13],
                window: tcp.window_size(),
                options: tcp.options().to_vec(),
                data: data.to_vec(),
            },
            datagram: datagram.to_vec(),
        }
    }
}

/// The frame of the IPv6 datagram that these are the fragments of, and their ID; none when they are
/// not.
pub fn put_together6(fragments: &Sent) -> Option<(Vec<u8>, u32)> {
    let (_, first) = fragments.first()?;
    let (mut payload, mut ended) = (Vec::<u8>::new(), false);
    for (_, frame) in fragments {
        let same = frame[..18] == first[..18] && frame[20..54] == first[20..54];
        let header = frame.get(54..62)?;
        let word = u16::from_be_bytes([header[2], header[3]]);
        let (offset, more) = (usize::from(word & !7), word & 1 != 0);
        let len = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        // No router cuts it again, so it must fit any link.
        let fits = frame.len() == len && len <= 14 + 1280 && frame[20] == 44 && header[0] == 6;
        let apart = header[1] == 0 && word & 6 == 0 && header[4..] == first[58..62];
        let whole_units = !more || (frame.len() - 62) % 8 == 0;
        if !same || !fits || !apart || ended || offset != payload.len() || !whole_units {
            return None;
        }
        ended = !more;
        payload.extend(&frame[62..]);
    }
    let mut whole = first[..54].to_vec();
    whole[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    whole[20] = 6;
    whole.extend(payload);
    let id = u32::from_be_bytes(first[58..62].try_into().unwrap());
    (ended && fragments.len() > 1).then_some((whole, id))
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
    assert_eq!(WEB6.0, super::frames::ip("203.0.113.14"));
}
