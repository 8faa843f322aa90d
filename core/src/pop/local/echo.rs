//! Echo replies (RFC 792, RFC 4443) for VIPs and the addresses of ports.

use super::super::egress::reply::{reply, reply_in_fragments};
use super::super::egress::{Egress, ethertype};
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use crate::fragment::Fragment;
use crate::frame::Frame;
use crate::net::Family;
use crate::verdict::{DropReason, ReplyKind};
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::{self, Ipv4, field};
use crate::wire::{Datagram, Ipv6Datagram, get_u32, icmp, icmpv6, ipv6, put_u16, put_u32};

/// Answers an echo request. IPv4 options and extension headers are not sent back: the IP header
/// moves up to the message.
#[cold]
#[inline(never)]
pub(in crate::pop) fn echo<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
) {
    let ip = &packet.segment.ip;
    if !limits.admit_own(ReplyKind::Echo, ip.src()) {
        egress.withhold::<F>(ReplyKind::Echo);
        return egress.drop(None, DropReason::RateEcho, frame);
    }
    let header_len = ip.family().ip_header_len();
    let (len, malformed) = match ip {
        Datagram::V4(ip) => (ip.total_len, DropReason::Ipv4Malformed),
        Datagram::V6(_) => (header_len + ip.payload_len(), DropReason::Ipv6Malformed),
    };
    let fits = len <= usize::from(egress.arrival.link.mtu);
    if let Datagram::V4(ip) = ip
        && !fits
        && ip.dont_fragment()
    {
        return egress.drop(None, DropReason::TooBig, frame);
    }
    let (old_l3, l3) = (packet.segment.l3, packet.l4().saturating_sub(header_len));
    let bytes = frame.bytes_mut();
    if let Datagram::V4(_) = ip {
        bytes.copy_within(old_l3..old_l3 + header_len, l3);
    }
    let datagram = bytes.get_mut(l3..).unwrap_or_default();
    let Some((head, message)) = datagram.split_at_mut_checked(header_len) else {
        return egress.drop(None, malformed, frame);
    };
    match ip {
        Datagram::V4(ip) => write_ipv4(head, message, ip),
        Datagram::V6(ip) => write_ipv6(head, message, ip),
    }
    if fits {
        return reply(egress, packet, frame, l3, ReplyKind::Echo, ethertype(ip.family()));
    }
    // A reassembled one goes back in fragments, with its identifier and number for an ID.
    let id = get_u32(message, icmp::field::IDENTIFIER);
    reply_in_fragments(egress, packet, frame, l3, ReplyKind::Echo, (ip.family(), id));
}

/// Answers a fragment of an echo request with the same fragment of the reply.
#[cold]
#[inline(never)]
pub(in crate::pop) fn fragment<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
) {
    let Some(Ok(fragment)) = Ethernet::parse(frame.bytes())
        .and_then(|ethernet| Fragment::read(&ethernet, frame.bytes()))
    else {
        return egress.drop(None, DropReason::Fragment, frame);
    };
    if !limits.admit_own(ReplyKind::Echo, fragment.key.src) {
        egress.withhold::<F>(ReplyKind::Echo);
        return egress.drop(None, DropReason::RateEcho, frame);
    }
    let family = Family::of(fragment.key.dst);
    let datagram = frame.bytes_mut().get_mut(fragment.l3..).unwrap_or_default();
    let (head, payload) = datagram.split_at_mut(fragment.headers_len.min(datagram.len()));
    let turned = match (fragment.offset, payload.first_chunk_mut(), family) {
        (1.., ..) => true,
        (0, Some(message), Family::V4) => icmp::reply_to_head(message),
        (0, Some(message), Family::V6) => icmpv6::reply_to_head(message),
        (0, None, _) => false,
    };
    // IPv4 options, which routers do not repeat in all fragments, are not sent back.
    let plain = family == Family::V6 || fragment.headers_len == ipv4::HEADER_LEN;
    if !(turned && plain) {
        return egress.drop(None, DropReason::Fragment, frame);
    }
    if fragment.headers_len + fragment.len > usize::from(egress.arrival.link.mtu) {
        return egress.drop(None, DropReason::TooBig, frame);
    }
    match family {
        Family::V4 => ipv4::turn_round(head),
        Family::V6 => ipv6::turn_round(head),
    }
    frame.truncate(fragment.l3 + fragment.headers_len + fragment.len);
    reply(egress, packet, frame, fragment.l3, ReplyKind::Echo, ethertype(family));
}

/// Turns `head`, the header of the request, and its `message` into the reply.
fn write_ipv4(head: &mut [u8], message: &mut [u8], ip: &Ipv4) {
    icmp::make_echo_reply(message);
    let Some(head) = head.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else { return };
    head[field::VERSION_IHL] = 0x45;
    head[field::TTL] = ipv4::ORIGINATED_TTL;
    put_u16(head, field::TOTAL_LEN, (ip.total_len - ip.header_len + ipv4::HEADER_LEN) as u16);
    put_u32(head, field::SRC, ip.dst);
    put_u32(head, field::DST, ip.src);
    ipv4::write_checksum(head);
}

/// Writes the header of the reply into `head`, and turns the request's `message` into it.
fn write_ipv6(head: &mut [u8], message: &mut [u8], ip: &Ipv6Datagram) {
    let (src, dst) = (ip.header.dst, ip.header.src);
    icmpv6::make_echo_reply(src, dst, message);
    let header = ipv6::Header {
        traffic_class: ip.header.traffic_class,
        payload_len: message.len() as u16,
        next_header: ipv6::PROTOCOL_ICMPV6,
        src,
        dst,
        ..ipv6::ORIGINATED
    };
    header.write(head);
}
