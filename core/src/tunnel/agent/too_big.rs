//! What an agent tells a program of its host whose packet is too large for the tunnel.

use std::net::{IpAddr, Ipv6Addr};

use crate::tunnel::message::put;
use crate::wire::icmp_error::{self, IcmpError};
use crate::wire::icmpv6::may_be_error;
use crate::wire::ipv6::{self, Ipv6, MTU_MIN, PROTOCOL_ICMPV6, can_be_source, is_multicast};

/// Writes into `message` the packet-too-big (RFC 4443, section 3.2) that tells the sender of
/// `packet`, an IPv6 packet, of `mtu`. Returns its length, or `None` where no error may be sent,
/// or nobody can be told.
///
/// Its source is the destination of the packet: the tunnel has no address of its own here.
pub fn packet_too_big(packet: &[u8], mtu: u16, message: &mut [u8; MTU_MIN]) -> Option<usize> {
    let inner = Ipv6::parse(packet)?;
    let tells = can_be_source(inner.src) && !is_multicast(inner.dst);
    if !tells || may_be_error(&inner, packet) {
        return None;
    }
    let quote = packet.get(..packet.len().min(MTU_MIN - ERROR_HEADERS_LEN))?;
    let (src, dst) = (Ipv6Addr::from_bits(inner.dst), Ipv6Addr::from_bits(inner.src));
    let len = put(message, ERROR_HEADERS_LEN, quote);
    let (head, icmp) = message.get_mut(..len)?.split_at_mut_checked(ipv6::HEADER_LEN)?;
    IcmpError::TooBig(mtu).write(IpAddr::V6(src), IpAddr::V6(dst), icmp);
    let header = ipv6::Header {
        payload_len: icmp.len() as u16,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: ipv6::ORIGINATED_HOP_LIMIT,
        src: inner.dst,
        dst: inner.src,
        ..ipv6::ORIGINATED
    };
    header.write(head);
    Some(len)
}

const ERROR_HEADERS_LEN: usize = ipv6::HEADER_LEN + icmp_error::HEADER_LEN;
