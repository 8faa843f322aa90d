//! IP and TCP headers of segments that the POP writes itself, and their checksums.
//!
//! The checksum of a segment whose headers are replaced is derived from the one that was verified:
//! the bytes that stay have the sum that makes the old segment come out right. The slow twin, which
//! reads every byte, is in the tests.

use std::net::SocketAddr;

use super::super::packet::Packet;
use crate::net::Family;
use crate::seq::SeqNum;
use crate::tunnel::handshake::WINDOW;
use crate::wire::ipv4::{ORIGINATED_TTL, PROTOCOL_TCP};
use crate::wire::tcp::{self, HEADER_LEN, RST};
use crate::wire::{checksum, ip};

/// The IP and TCP headers of a segment, but for its options.
#[derive(Clone, Copy, Debug)]
pub(in crate::pop) struct Headers {
    pub src: SocketAddr,
    /// Of the same family.
    pub dst: SocketAddr,
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u8,
    pub ttl: u8,
    pub tos: u8,
}

impl Headers {
    /// Those of an answer to the sender of `packet`.
    pub fn answer(packet: &Packet, seq: SeqNum, ack: SeqNum, flags: u8) -> Headers {
        let (src, dst) = (packet.dst().into(), packet.src().into());
        Headers { src, dst, seq, ack, flags, ttl: ORIGINATED_TTL, tos: 0 }
    }

    /// Their length in bytes.
    #[inline]
    pub const fn len(&self) -> usize {
        HEADER_LEN + if self.dst.is_ipv4() { Family::V4 } else { Family::V6 }.ip_header_len()
    }

    /// Writes them, and `options`, at the start of `datagram`, which fills its slice. The sum of
    /// the segment's data is `data`.
    #[inline]
    pub fn write(&self, datagram: &mut [u8], options: &[u8], data: u32) {
        let Some((ip, segment)) = datagram.split_at_mut_checked(self.len() - HEADER_LEN) else {
            return;
        };
        let pseudo = pseudo(self.src, self.dst, segment.len());
        let header = tcp::Header {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: if self.flags & RST == 0 { WINDOW } else { 0 },
            options,
        };
        header.write_with_checksum(segment, checksum::add(pseudo, data));
        let header = ip::Header {
            class: self.tos,
            hops: self.ttl,
            protocol: PROTOCOL_TCP,
            payload_len: segment.len() as u16,
            src: self.src.ip(),
            dst: self.dst.ip(),
        };
        header.write(ip);
    }
}

/// Whether the checksum of the whole segment from `src` to `dst` holds.
#[inline]
pub(in crate::pop) fn verified(src: SocketAddr, dst: SocketAddr, segment: &[u8]) -> bool {
    let pseudo = pseudo(src, dst, segment.len());
    checksum::fold(checksum::sum(pseudo, segment)) == 0xffff
}

/// The sum of what comes behind the first bytes, `replaced`, of a segment of `len` bytes whose
/// checksum holds. They are an even number.
#[inline]
pub(in crate::pop) fn sum_behind(
    (src, dst): (SocketAddr, SocketAddr),
    replaced: &[u8],
    len: usize,
) -> u32 {
    let front = checksum::sum(pseudo(src, dst, len), replaced);
    u32::from(!checksum::fold(front))
}

/// The sum of the pseudo header of a segment of `len` bytes.
#[inline]
fn pseudo(src: SocketAddr, dst: SocketAddr, len: usize) -> u32 {
    checksum::pseudo_header_of(src.ip(), dst.ip(), PROTOCOL_TCP, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use crate::wire::put_u16;
    use proptest::prelude::*;

    fn addr(v6: bool, ip: u128, port: u16) -> SocketAddr {
        let ip = match v6 {
            true => std::net::Ipv6Addr::from_bits(ip).into(),
            false => std::net::Ipv4Addr::from_bits(ip as u32).into(),
        };
        SocketAddr::new(ip, port)
    }

    /// The slow twin: every byte, the pseudo header spelled out.
    fn slow(src: SocketAddr, dst: SocketAddr, segment: &[u8]) -> u16 {
        let mut bytes = Vec::new();
        for ip in [src.ip(), dst.ip()] {
            match ip {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend((segment.len() as u32).to_be_bytes());
        bytes.extend([0, 0, 0, 6]);
        bytes.extend(segment);
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn a_derived_checksum_is_the_one_of_all_bytes(
            families: (bool, bool), ips: [u128; 4], ports: [u16; 4], numbers: (u32, u32),
            mut old in proptest::collection::vec(any::<u8>(), 64..1500), cut in 10usize..32,
            header: [u8; 12],
        ) {
            let up = [0, 1].map(|i| addr(families.0, ips[i], ports[i]));
            let down = [2, 3].map(|i| addr(families.1, ips[i], ports[i]));
            old[16..18].fill(0);
            let sum = slow(up[0], up[1], &old);
            put_u16(&mut old, 16, sum);
            prop_assert!(verified(up[0], up[1], &old));
            let behind = sum_behind((up[0], up[1]), &old[..2 * cut], old.len());
            let headers = Headers {
                src: down[0], dst: down[1], seq: SeqNum(numbers.0), ack: SeqNum(numbers.1),
                flags: 0x18, ttl: 5, tos: 7,
            };
            let mut datagram = vec![0xee; headers.len()];
            datagram.extend(header);
            datagram.extend(&old[2 * cut..]);
            headers.write(&mut datagram, &[], checksum::sum(behind, &header));
            let mut segment = datagram[headers.len() - HEADER_LEN..].to_vec();
            let written = u16::from_be_bytes([segment[16], segment[17]]);
            segment[16..18].fill(0);
            prop_assert_eq!(written, slow(down[0], down[1], &segment));
        }

        #[test]
        fn a_flipped_bit_is_not_verified(
            v6: bool, ips: [u128; 2],
            mut segment in proptest::collection::vec(any::<u8>(), 20..200),
            bit: usize,
        ) {
            let (src, dst) = (addr(v6, ips[0], 1), addr(v6, ips[1], 2));
            segment[16..18].fill(0);
            let sum = slow(src, dst, &segment);
            put_u16(&mut segment, 16, sum);
            let bit = bit % (segment.len() * 8);
            segment[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verified(src, dst, &segment));
        }
    }
}
