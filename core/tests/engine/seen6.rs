//! Frames with IPv6 datagrams that a POP sent, read by `etherparse`: part of the oracle, see
//! [`crate::seen`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyrelay_kit::frames::{Mac, Segment};
use etherparse::{Icmpv6Slice, IpNumber, Ipv6Header, Ipv6HeaderSlice};

use crate::seen::{Seen, SeenTcp};
use crate::world::{WAN_GATEWAY, WAN_MAC};

/// Header and payload of the IPv6 datagram in an untagged frame, which it fills.
fn read(frame: &[u8]) -> (Ipv6Header, &[u8]) {
    assert!(frame.len() >= 60 && frame[12..14] == [0x86, 0xdd], "{frame:02x?}");
    let header = Ipv6HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
    let payload = &frame[54..];
    assert_eq!(payload.len(), usize::from(header.payload_length), "{frame:02x?}");
    (header, payload)
}

/// An untagged frame with an ICMPv6 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen6 {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub src: u128,
    pub dst: u128,
    pub hop_limit: u8,
    pub traffic_class: u8,
    /// The message, with zeros where its checksum was.
    pub message: Vec<u8>,
}

impl Seen6 {
    /// Reads a frame; panics when lengths or checksum are wrong.
    pub fn frame(frame: &[u8]) -> Seen6 {
        let (header, message) = read(frame);
        assert_eq!((header.next_header, header.flow_label.value()), (IpNumber::IPV6_ICMP, 0));
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

/// An untagged frame with a TCP segment over IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTcp6 {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub src: u128,
    pub dst: u128,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub flow: u32,
    /// The headers between the IPv6 and the TCP header.
    pub extensions: Vec<u8>,
    pub tcp: SeenTcp,
    pub datagram: Vec<u8>,
}

impl SeenTcp6 {
    /// Reads a frame whose TCP header is `extensions` bytes behind the IPv6 header; panics when
    /// lengths or checksum are wrong.
    pub fn frame(frame: &[u8], extensions: usize) -> SeenTcp6 {
        let (header, payload) = read(frame);
        assert_eq!(header.next_header.0 == 6, extensions == 0, "{frame:02x?}");
        let (extensions, segment) = payload.split_at(extensions);
        SeenTcp6 {
            dst_mac: frame[..6].try_into().unwrap(),
            src_mac: frame[6..12].try_into().unwrap(),
            src: u128::from_be_bytes(header.source),
            dst: u128::from_be_bytes(header.destination),
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            flow: header.flow_label.value(),
            extensions: extensions.to_vec(),
            tcp: SeenTcp::read(segment, header.source.into(), header.destination.into()),
            datagram: frame[14..].to_vec(),
        }
    }
}

/// A tunnel's segment in an untagged frame to the gateway of the WAN port; panics when a length or
/// checksum is wrong, or a field is set that a POP leaves at its default.
pub fn outer(frame: &[u8]) -> Segment {
    assert!(frame.len() >= 60);
    assert_eq!((&frame[..6], &frame[6..12]), (&WAN_GATEWAY[..], &WAN_MAC[..]));
    let (src, dst, ttl, tos, tcp): (IpAddr, IpAddr, _, _, _) = match frame[12..14] {
        [0x08, 0x00] => {
            let seen = Seen::datagram(&frame[14..]);
            assert!(seen.dont_fragment && seen.id == 0 && seen.ip_options.is_empty());
            // etherparse drops the reserved bit, so that the checksum is taken by hand.
            assert_eq!(crate::seen::checksum(&[&seen.datagram[..20]]), 0, "{frame:02x?}");
            let [src, dst] = [seen.src, seen.dst].map(|ip| Ipv4Addr::from_bits(ip).into());
            (src, dst, seen.ttl, seen.tos, seen.tcp())
        }
        [0x86, 0xdd] => {
            let (header, segment) = read(frame);
            assert_eq!((header.next_header.0, header.flow_label.value()), (6, 0));
            let (src, dst) = (header.source.into(), header.destination.into());
            let tcp = SeenTcp::read(segment, src, dst);
            (src, dst, header.hop_limit, header.traffic_class, tcp)
        }
        _ => panic!("neither IPv4 nor IPv6: {frame:02x?}"),
    };
    Segment {
        src: SocketAddr::new(src, tcp.sport),
        dst: SocketAddr::new(dst, tcp.dport),
        ttl,
        tos,
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        window: tcp.window,
        options: tcp.options,
        data: tcp.data,
    }
}
