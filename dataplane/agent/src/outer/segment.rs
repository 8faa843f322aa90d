//! Checksums of TCP segments, and their place in an IP packet (RFC 9293, section 3.1; RFC 8200,
//! section 8.1). The kernel does neither for raw and packet sockets.

use std::net::Ipv4Addr;

use anyrelay_core::wire::{checksum, ipv4, tcp};

use super::FlowEndpoints;

/// The sum of a pseudo header without the length, which is the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct PseudoHeader {
    sum: u32,
}

impl PseudoHeader {
    /// The sum for segments between `endpoints`.
    pub fn new(endpoints: &FlowEndpoints) -> Self {
        let (local, vip) = (endpoints.local.ip(), endpoints.vip.ip());
        let sum = checksum::pseudo_header_of(local, vip, ipv4::PROTOCOL_TCP, 0);
        PseudoHeader { sum: checksum::fold(sum).into() }
    }

    /// Writes the checksum of `segment`.
    pub fn fill(&self, segment: &mut [u8]) {
        put(segment, 0);
        let value = !checksum::fold(checksum::sum(self.with_len(segment), segment));
        put(segment, value);
    }

    /// Whether the checksum of `segment` is correct, or was left to a NIC: then the segment never
    /// left this machine, and its field has the sum of the pseudo header alone.
    pub fn holds(&self, segment: &[u8]) -> bool {
        checksum::fold(checksum::sum(self.with_len(segment), segment)) == 0xffff
            || self.is_partial(segment)
    }

    fn is_partial(&self, segment: &[u8]) -> bool {
        let field = segment.get(tcp::field::CHECKSUM..).and_then(<[u8]>::first_chunk);
        field.is_some_and(|&field| {
            u16::from_be_bytes(field) == checksum::fold(self.with_len(segment))
        })
    }

    fn with_len(&self, segment: &[u8]) -> u32 {
        self.sum + segment.len() as u32
    }
}

/// An IPv4 header without fragmentation, for a raw socket, which fills in length and checksum
/// (raw(7)). A constant identification spares the kernel the choice of one; without fragments it
/// has no meaning (RFC 6864, section 4.1).
pub fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8) -> [u8; ipv4::HEADER_LEN] {
    let header = ipv4::Header {
        id: 1,
        ttl,
        protocol: ipv4::PROTOCOL_TCP,
        src: src.to_bits(),
        dst: dst.to_bits(),
        ..ipv4::ORIGINATED
    };
    let mut bytes = [0; ipv4::HEADER_LEN];
    header.write(&mut bytes);
    bytes
}

/// The segment in an IP packet, without padding, extension headers and fragments; `None` for other
/// packets.
pub fn of_packet(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? >> 4 {
        4 => {
            let ip = ipv4::Ipv4::parse(packet).ok()?;
            packet.get(ip.header_len..ip.total_len)
        }
        6 => {
            let len: &[u8; 2] = packet.get(4..)?.first_chunk()?;
            let end = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes(*len));
            packet.get(IPV6_HEADER_LEN..end)
        }
        _ => None,
    }
}

fn put(segment: &mut [u8], value: u16) {
    let field = segment.get_mut(tcp::field::CHECKSUM..).and_then(<[u8]>::first_chunk_mut);
    if let Some(field) = field {
        *field = value.to_be_bytes();
    }
}

const IPV6_HEADER_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(local: &str, vip: &str) -> FlowEndpoints {
        FlowEndpoints { local: local.parse().unwrap(), vip: vip.parse().unwrap() }
    }

    #[test]
    fn checksums_agree_with_core_and_detect_damage() {
        let header = PseudoHeader::new(&endpoints("192.0.2.7:40000", "203.0.113.20:443"));
        for len in [20, 21, 74, 1380] {
            let mut segment: Vec<u8> = (0..len).map(|byte| (byte * 7) as u8).collect();
            header.fill(&mut segment);
            assert!(tcp::checksum_holds(0xc000_0207u32, 0xcb00_7114, &segment));
            assert!(tcp::checksum_holds(0xcb00_7114u32, 0xc000_0207, &segment));
            assert!(header.holds(&segment));
            segment[len / 2] ^= 1;
            assert!(!header.holds(&segment));
        }
    }

    #[test]
    fn a_checksum_left_to_the_nic_is_accepted() {
        for (local, vip) in [
            ("192.0.2.7:40000", "203.0.113.20:443"),
            ("[2001:db8:1::7]:40000", "[2001:db8::20]:443"),
        ] {
            let header = PseudoHeader::new(&endpoints(local, vip));
            let mut segment = vec![0x55; 60];
            let partial = checksum::fold(header.with_len(&segment));
            put(&mut segment, partial);
            assert!(header.holds(&segment));
            segment[16] ^= 1;
            assert!(!header.holds(&segment));
        }
    }

    #[test]
    fn the_ipv4_header_is_valid() {
        let (src, dst) = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(203, 0, 113, 20));
        let mut packet = ipv4_header(src, dst, 61).to_vec();
        packet.extend([7; 20]);
        packet[3] = 40;
        packet[10..12].fill(0);
        let sum = checksum::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let ip = ipv4::Ipv4::parse(&packet).unwrap();
        assert_eq!((ip.header_len, ip.total_len, packet[8]), (20, 40, 61));
        assert_eq!((ip.src, ip.dst), (src.to_bits(), dst.to_bits()));
        assert_eq!(of_packet(&packet), Some(&[7; 20][..]));
    }

    #[test]
    fn padding_is_not_part_of_the_segment() {
        let mut six = vec![0u8; 40 + 20 + 6];
        (six[0], six[5], six[6]) = (0x60, 20, 6);
        assert_eq!(of_packet(&six).map(<[u8]>::len), Some(20));
        assert_eq!(of_packet(&six[..50]), None);
        assert_eq!(of_packet(&[]), None);
        assert_eq!(of_packet(&[0x50; 60]), None);
    }
}
