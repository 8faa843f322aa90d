//! Segments from tunnels' VIPs, as far as ICMP errors quote them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::Family;
use crate::seq::SeqNum;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{HEADER_LEN, field};
use crate::wire::{get_u16, get_u32};

/// A segment from a VIP, as far as an error quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// The VIP.
    pub src: SocketAddr,
    /// The agent that it was sent to.
    pub dst: SocketAddr,
    /// Length of its IP datagram, in bytes.
    pub total_len: u16,
    pub(super) seq: SeqNum,
    pub(super) ack: SeqNum,
    /// The quoted part of its payload.
    pub(super) payload: &'a [u8],
    /// Where that begins in the quote.
    pub(super) payload_at: usize,
}

impl<'a> Quoted<'a> {
    /// Reads the quote in `bytes`, which follow the header of an ICMP error of `family`; `None`
    /// when they are no TCP segment, or end before the ack number does.
    pub fn parse(family: Family, bytes: &'a [u8]) -> Option<Self> {
        let (src, dst, header_len, total_len): (IpAddr, IpAddr, _, _) = match family {
            Family::V4 => {
                let ip = Ipv4::parse_quoted(bytes)?;
                if ip.protocol != ipv4::PROTOCOL_TCP || ip.is_later_fragment() {
                    return None;
                }
                let [src, dst] = [ip.src, ip.dst].map(Ipv4Addr::from_bits);
                (src.into(), dst.into(), ip.header_len, ip.total_len as u16)
            }
            Family::V6 => {
                let (ip, _) = Ipv6::parse_quoted(bytes)?;
                // Segments of POPs have no extension headers.
                if ip.next_header != ipv6::PROTOCOL_TCP {
                    return None;
                }
                let [src, dst] = [ip.src, ip.dst].map(Ipv6Addr::from_bits);
                let total_len = u16::try_from(ip.total_len()).ok()?;
                (src.into(), dst.into(), ipv6::HEADER_LEN, total_len)
            }
        };
        let tcp = bytes.get(header_len..usize::from(total_len).min(bytes.len()))?;
        if tcp.len() < NUMBERS_END {
            return None;
        }
        // The only segment with options, the SYN-ACK, has no payload.
        let offset = tcp.get(field::DATA_OFFSET).map_or(0, |byte| usize::from(byte >> 4) * 4);
        let payload_at = offset.max(HEADER_LEN);
        Some(Quoted {
            src: SocketAddr::new(src, get_u16(tcp, field::SRC_PORT)),
            dst: SocketAddr::new(dst, get_u16(tcp, field::DST_PORT)),
            total_len,
            seq: SeqNum(get_u32(tcp, field::SEQ)),
            ack: SeqNum(get_u32(tcp, field::ACK)),
            payload: tcp.get(payload_at..).unwrap_or_default(),
            payload_at: header_len + payload_at,
        })
    }
}

/// The end of the ack number in a TCP header.
const NUMBERS_END: usize = field::ACK + 4;
