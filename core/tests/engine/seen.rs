//! Frames that a POP sent, read by `etherparse` with every checksum verified.
//!
//! Together with [`crate::seen6`], [`crate::reassembly`] and the validators this is the oracle of
//! these tests. It stays independent on purpose: it uses neither the core's parsers nor the
//! checksums of `anyrelay-kit`, which write the frames that go in.

use std::net::{IpAddr, Ipv4Addr};

use anyrelay_kit::frames::Mac;
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    EtherType, Ethernet2Slice, Icmpv4Slice, IpNumber, Ipv4HeaderSlice, SingleVlanSlice,
    TcpHeaderSlice,
};

/// The Internet checksum over parts of even lengths but for the last; 0 where the field in them is
/// right.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    sum.ones_complement().to_be()
}

/// The same for a TCP segment or ICMPv6 message between two addresses, given as their octets.
pub fn upper_checksum(src: &[u8], dst: &[u8], protocol: u8, message: &[u8]) -> u16 {
    let len = (message.len() as u32).to_be_bytes();
    checksum(&[src, dst, &len, &[0, 0, 0, protocol], message])
}

/// A frame whose datagram is IPv4.
#[derive(Clone, Debug)]
pub struct Seen {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub vlan: Option<u16>,
    /// The datagram, without padding behind it.
    pub datagram: Vec<u8>,
    pub src: u32,
    pub dst: u32,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub protocol: u8,
    pub ip_options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads a frame; panics when its lengths or its IPv4 checksum are wrong.
    pub fn frame(frame: &[u8]) -> Seen {
        let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).unwrap();
        let (vlan, ethertype, at) = match ethernet.ether_type() {
            EtherType::VLAN_TAGGED_FRAME => {
                let tag = SingleVlanSlice::from_slice(ethernet.payload_slice()).unwrap();
                (Some(tag.vlan_identifier().value()), tag.ether_type(), 18)
            }
            other => (None, other, 14),
        };
        assert_eq!(ethertype, EtherType::IPV4, "{frame:02x?}");
        let mut seen = Seen::datagram(&frame[at..]);
        seen.dst_mac = ethernet.destination();
        seen.src_mac = ethernet.source();
        seen.vlan = vlan;
        seen
    }

    /// Reads a datagram without a frame.
    pub fn datagram(bytes: &[u8]) -> Seen {
        let header = Ipv4HeaderSlice::from_slice(bytes).unwrap().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "{bytes:02x?}");
        assert!(!header.is_fragmenting_payload(), "{bytes:02x?}");
        let total_len = usize::from(header.total_len);
        assert!(total_len <= bytes.len(), "{bytes:02x?}");
        Seen {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            vlan: None,
            datagram: bytes[..total_len].to_vec(),
            src: u32::from_be_bytes(header.source),
            dst: u32::from_be_bytes(header.destination),
            ttl: header.time_to_live,
            tos: header.dscp.value() << 2 | header.ecn.value(),
            id: header.identification,
            dont_fragment: header.dont_fragment,
            protocol: header.protocol.0,
            ip_options: header.options.as_slice().to_vec(),
            payload: bytes[header.header_len()..total_len].to_vec(),
        }
    }

    /// The segment inside; panics when its TCP checksum is wrong.
    pub fn tcp(&self) -> SeenTcp {
        assert_eq!(self.protocol, IpNumber::TCP.0);
        let [src, dst] = [self.src, self.dst].map(|ip| Ipv4Addr::from_bits(ip).into());
        SeenTcp::read(&self.payload, src, dst)
    }

    /// Type, code, second word and what follows of the ICMP message inside; panics when its
    /// checksum is wrong.
    pub fn icmp(&self) -> (u8, u8, u32, Vec<u8>) {
        assert_eq!(self.protocol, IpNumber::ICMP.0);
        let message = Icmpv4Slice::from_slice(&self.payload).unwrap();
        // etherparse leaves out words that a type does not define.
        assert_eq!(checksum(&[&self.payload]), 0, "{self:02x?}");
        let word = u32::from_be_bytes(message.bytes5to8());
        (message.type_u8(), message.code_u8(), word, self.payload[8..].to_vec())
    }
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTcp {
    pub sport: u16,
    pub dport: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

impl SeenTcp {
    /// Reads a segment between two addresses of a family; panics when its checksum is wrong.
    pub fn read(segment: &[u8], src: IpAddr, dst: IpAddr) -> SeenTcp {
        let header = TcpHeaderSlice::from_slice(segment).unwrap();
        let data = &segment[header.slice().len()..];
        let sum = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), data)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), data)
            }
            _ => panic!("{src} and {dst} are of two families"),
        };
        assert_eq!(header.checksum(), sum.unwrap(), "{src} {dst} {segment:02x?}");
        SeenTcp {
            sport: header.source_port(),
            dport: header.destination_port(),
            seq: header.sequence_number(),
            ack: header.acknowledgment_number(),
            flags: header.slice()[13],
            window: header.window_size(),
            options: header.options().to_vec(),
            data: data.to_vec(),
        }
    }
}
