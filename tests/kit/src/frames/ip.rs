//! IP headers of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ICMPV6, TCP, internet_checksum, repair_payload};

/// An IPv4 address from its text, as a number.
pub fn ip(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

/// An IPv6 address from its text, as a number.
pub fn ip6(text: &str) -> u128 {
    text.parse::<Ipv6Addr>().unwrap().to_bits()
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4Header {
    /// Source.
    pub src: u32,
    /// Destination.
    pub dst: u32,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// The word of flags and fragment offset.
    pub fragment: u16,
    /// What it carries.
    pub protocol: u8,
    /// Options, whole words of them.
    pub options: Vec<u8>,
}

impl Ipv4Header {
    /// A header of a segment with DF.
    pub fn new(src: u32, dst: u32) -> Ipv4Header {
        Ipv4Header {
            src,
            dst,
            ttl: 57,
            tos: 0xb9,
            id: 0x1234,
            fragment: 0x4000,
            protocol: TCP,
            options: Vec::new(),
        }
    }

    /// The datagram with this payload.
    pub fn with(&self, payload: &[u8]) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4));
        let header_len = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, self.tos];
        bytes.extend(((header_len + payload.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.src.to_be_bytes());
        bytes.extend(self.dst.to_be_bytes());
        bytes.extend(&self.options);
        let sum = internet_checksum(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// An IPv6 header.
#[derive(Clone, Debug)]
pub struct Ipv6Header {
    /// Source.
    pub src: u128,
    /// Destination.
    pub dst: u128,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow: u32,
    /// Next header.
    pub next: u8,
}

impl Ipv6Header {
    /// A header of a segment.
    pub fn new(src: u128, dst: u128) -> Ipv6Header {
        Ipv6Header { src, dst, hop_limit: 57, traffic_class: 0xb9, flow: 0xa_bcde, next: TCP }
    }

    /// A header of an ICMPv6 message, as neighbours send it.
    pub fn icmp(src: u128, dst: u128) -> Ipv6Header {
        Ipv6Header { hop_limit: 255, next: ICMPV6, ..Ipv6Header::new(src, dst) }
    }

    /// The datagram with this payload; the checksum of an ICMPv6 message is filled in.
    pub fn with(&self, payload: &[u8]) -> Vec<u8> {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([self.next, self.hop_limit]);
        bytes.extend(self.src.to_be_bytes());
        bytes.extend(self.dst.to_be_bytes());
        bytes.extend(payload);
        if self.next == ICMPV6 {
            repair_payload(&mut bytes);
        }
        bytes
    }

    /// The datagram with an extension header of that kind, its content, and what follows it.
    pub fn after(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        Ipv6Header { next: kind, ..self.clone() }.with(payload)
    }
}

/// A datagram of either family with the defaults of a plain host (DF, identification 0, no DSCP, no
/// flow label), all checksums right. An IPv4 address beside an IPv6 one is mapped.
pub fn datagram(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
            Ipv4Header { ttl, tos: 0, id: 0, protocol, ..header }.with(payload)
        }
        _ => {
            let [src, dst] = [src, dst].map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
                IpAddr::V6(ip) => ip.to_bits(),
            });
            let header = Ipv6Header::new(src, dst);
            let (hop_limit, traffic_class, flow, next) = (ttl, 0, 0, protocol);
            Ipv6Header { hop_limit, traffic_class, flow, next, ..header }.with(payload)
        }
    };
    repair_payload(&mut bytes);
    bytes
}
