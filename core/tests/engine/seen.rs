//! Outputs, read back by `etherparse` with every checksum verified.

use etherparse::{
    EtherType, Ethernet2Slice, Icmpv4Slice, IpNumber, Ipv4HeaderSlice, SingleVlanSlice,
    TcpHeaderSlice,
};

use super::frames::{Mac, internet_checksum};

/// A frame whose datagram is IPv4, taken apart.
#[derive(Clone, Debug)]
pub struct Seen {
    pub dst_mac: Mac,
    pub src_mac: Mac,
    pub vlan: Option<u16>,
    /// The datagram, without what follows it in the frame.
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
    /// Takes a frame apart; panics when its lengths or its IPv4 checksum are wrong.
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

    /// Takes a datagram apart.
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
        let header = TcpHeaderSlice::from_slice(&self.payload).unwrap();
        let data = &self.payload[header.slice().len()..];
        let (src, dst) = (self.src.to_be_bytes(), self.dst.to_be_bytes());
        let sum = header.calc_checksum_ipv4_raw(src, dst, data).unwrap();
        assert_eq!(header.checksum(), sum, "{self:02x?}");
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

    /// Type, code, second word and what follows of the ICMP message inside; panics when its
    /// checksum is wrong.
    pub fn icmp(&self) -> (u8, u8, u32, Vec<u8>) {
        assert_eq!(self.protocol, IpNumber::ICMP.0);
        let message = Icmpv4Slice::from_slice(&self.payload).unwrap();
        // etherparse leaves out words that a type does not define.
        assert_eq!(internet_checksum(&[&self.payload]), 0, "{self:02x?}");
        let word = u32::from_be_bytes(message.bytes5to8());
        (message.type_u8(), message.code_u8(), word, self.payload[8..].to_vec())
    }
}

/// A segment, taken apart.
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
