//! IPv6 datagrams written by hand, and read back with `etherparse`.

use etherparse::{Icmpv6Slice, IpNumber, Ipv6HeaderSlice};

use super::frames::{Mac, internet_checksum};
use super::world::{CONFIG, LAN_MAC, WAN_MAC, World};

/// An IPv6 address from its text.
pub fn ip6(text: &str) -> u128 {
    text.parse::<std::net::Ipv6Addr>().unwrap().to_bits()
}

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

/// An IPv6 header.
#[derive(Clone, Debug)]
pub struct Ip6 {
    pub src: u128,
    pub dst: u128,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub flow: u32,
    pub next: u8,
}

impl Ip6 {
    /// Of a segment.
    pub fn new(src: u128, dst: u128) -> Ip6 {
        Ip6 { src, dst, hop_limit: 57, traffic_class: 0xb9, flow: 0xa_bcde, next: 6 }
    }

    /// Of an ICMPv6 message, as neighbours send it.
    pub fn icmp(src: u128, dst: u128) -> Ip6 {
        Ip6 { hop_limit: 255, next: 58, ..Ip6::new(src, dst) }
    }

    /// The datagram with this payload.
    pub fn with(&self, payload: &[u8]) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([self.next, self.hop_limit]);
        bytes.extend(self.src.to_be_bytes());
        bytes.extend(self.dst.to_be_bytes());
        bytes.extend(payload);
        if self.next == 58 && payload.len() >= 4 {
            repair_icmp6(&mut bytes, 40);
        }
        bytes
    }

    /// The datagram with an extension header of that kind, and what is in it and behind it.
    pub fn after(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        Ip6 { next: kind, ..self.clone() }.with(payload)
    }
}

/// The checksum of an upper layer over IPv6; 0 for one whose field is right.
pub fn checksum6(src: u128, dst: u128, protocol: u8, message: &[u8]) -> u16 {
    let mut pseudo = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    pseudo.extend((message.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    internet_checksum(&[&pseudo, message])
}

/// Makes the checksum of the ICMPv6 message that begins at `at` right.
pub fn repair_icmp6(datagram: &mut [u8], at: usize) {
    if datagram.len() < at + 4 {
        return;
    }
    let address = |at: usize| u128::from_be_bytes(datagram[at..at + 16].try_into().unwrap());
    let (src, dst) = (address(8), address(24));
    datagram[at + 2..at + 4].fill(0);
    let sum = checksum6(src, dst, 58, &datagram[at..]);
    datagram[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
}

/// The group in which `ip` is asked for.
pub fn solicited_node(ip: u128) -> u128 {
    ip6("ff02::1:ff00:0") | ip & 0xff_ffff
}

/// The hardware address of a group.
pub fn group_mac(group: u128) -> Mac {
    let [.., a, b, c, d] = group.to_be_bytes();
    [0x33, 0x33, a, b, c, d]
}

/// A message of neighbour discovery about `target`; `option` is a link-layer address and its kind.
pub fn nd(kind: u8, flags: u8, target: u128, option: Option<(u8, Mac)>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.to_be_bytes());
    if let Some((kind, mac)) = option {
        message.extend([kind, 1]);
        message.extend(mac);
    }
    message
}

/// The datagram by which `src` asks the group for `target`.
pub fn solicitation(src: u128, target: u128, mac: Option<Mac>) -> Vec<u8> {
    let message = nd(135, 0, target, mac.map(|mac| (1, mac)));
    Ip6::icmp(src, solicited_node(target)).with(&message)
}

/// The datagram by which a host tells `dst` that it has `src`; 0x60 is solicited and override.
pub fn advertisement(src: u128, dst: u128, flags: u8, mac: Mac) -> Vec<u8> {
    Ip6::icmp(src, dst).with(&nd(136, flags, src, Some((2, mac))))
}

/// An echo request.
pub fn echo6(src: u128, dst: u128, payload: &[u8]) -> Vec<u8> {
    let message = [&[128, 0, 0, 0, 0xab, 0xcd, 0, 7][..], payload].concat();
    Ip6 { hop_limit: 57, ..Ip6::icmp(src, dst) }.with(&message)
}

/// A frame whose datagram is IPv6 with an ICMPv6 message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen6 {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub src: u128,
    pub dst: u128,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// The message, checksum taken as right.
    pub message: Vec<u8>,
}

impl Seen6 {
    /// Takes an untagged frame apart; panics when lengths or checksum are wrong.
    pub fn frame(frame: &[u8]) -> Seen6 {
        assert!(frame.len() >= 60 && frame[12..14] == [0x86, 0xdd], "{frame:02x?}");
        let datagram = &frame[14..];
        let header = Ipv6HeaderSlice::from_slice(datagram).unwrap().to_header();
        assert_eq!((header.next_header, header.flow_label.value()), (IpNumber::IPV6_ICMP, 0));
        let message = &datagram[40..40 + usize::from(header.payload_length)];
        assert_eq!(datagram.len(), 40 + message.len(), "{frame:02x?}");
        let icmp = Icmpv6Slice::from_slice(message).unwrap();
        assert!(icmp.is_checksum_valid(header.source, header.destination), "{frame:02x?}");
        Seen6 {
            dst_mac: frame[..6].try_into().unwrap(),
            src_mac: frame[6..12].try_into().unwrap(),
            src: u128::from_be_bytes(header.source),
            dst: u128::from_be_bytes(header.destination),
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            message: [&message[..2], &[0, 0], &message[4..]].concat(),
        }
    }
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
