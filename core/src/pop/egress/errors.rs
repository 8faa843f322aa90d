//! ICMP errors of the POP's own, about segments that it cannot send on (RFC 792, RFC 1191, RFC 4443).

use std::net::IpAddr;

use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use super::{Egress, ethertype, reply};
use crate::frame::Frame;
use crate::net::ServiceIndex;
use crate::verdict::{DropReason, ReplyKind};
use crate::wire::icmp_error::{HEADER_LEN, IcmpError};
use crate::wire::{Datagram, ipv4, ipv6};

/// Most bytes of a datagram that an ICMP error quotes: with its headers it fits the 576 bytes that
/// every host takes (RFC 1812, section 4.3.2.3).
const QUOTE_LEN_MAX: usize = 548;

/// Drops a segment whose hop limit is used up, and tells its sender.
#[cold]
#[inline(never)]
pub(super) fn time_exceeded<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    of: Option<ServiceIndex>,
    frame: F,
) {
    egress.count_drop::<F>(of, DropReason::TtlExceeded);
    send_error(egress, limits, packet, frame, IcmpError::TimeExceeded);
}

/// Drops a segment that does not fit, of which `fits` bytes would, and tells its sender if no router
/// may fragment it. A damaged segment is not answered: damage to its options may be what makes it
/// grow.
#[cold]
#[inline(never)]
pub(super) fn too_big<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    of: Option<ServiceIndex>,
    frame: F,
    fits: usize,
) {
    if !packet.tcp_checksum_holds(&frame) {
        return egress.drop(of, DropReason::TcpChecksum, frame);
    }
    egress.count_drop::<F>(of, DropReason::TooBig);
    let least = match packet.segment.ip {
        Datagram::V4(_) => ipv4::MTU_MIN as usize,
        Datagram::V6(_) => ipv6::MTU_MIN,
    };
    let mtu = fits.clamp(least, u16::MAX.into()) as u16;
    if packet.segment.ip.dont_fragment() {
        send_error(egress, limits, packet, frame, IcmpError::TooBig(mtu));
    }
}

/// Turns `frame`, whose verdict is given already, into an ICMP error to its sender.
fn send_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
    error: IcmpError,
) {
    let (l3, ip) = (packet.segment.l3, &packet.segment.ip);
    let kind = match (error, ip) {
        (IcmpError::TooBig(_), Datagram::V4(_)) => ReplyKind::FragmentationNeeded,
        (IcmpError::TooBig(_), Datagram::V6(_)) => ReplyKind::PacketTooBig,
        // The only other error about a segment in transit.
        _ => ReplyKind::TimeExceeded,
    };
    if !limits.admit_own_error(kind, ip.src()) {
        return egress.withhold::<F>(kind);
    }
    // IPv6 quotes as much of the datagram as fits the smallest MTU.
    let (head_len, quote_len) = match ip {
        Datagram::V4(_) => (ipv4::HEADER_LEN + HEADER_LEN, QUOTE_LEN_MAX),
        Datagram::V6(_) => (HEAD_LEN_V6, ipv6::MTU_MIN - HEAD_LEN_V6),
    };
    frame.truncate(l3 + quote_len);
    if !frame.prepend(head_len) {
        return;
    }
    let Some(datagram) = frame.bytes_mut().get_mut(l3..) else { return };
    // As a router does: from the address of the port that the datagram came in through.
    let link = egress.arrival.link;
    match (ip.src(), ip.dst()) {
        (IpAddr::V4(sender), IpAddr::V4(destination)) => {
            let src = if link.ipv4 == 0 { destination.to_bits() } else { link.ipv4 };
            let (total_len, protocol) = (datagram.len() as u16, ipv4::PROTOCOL_ICMP);
            let dst = sender.to_bits();
            ipv4::Header { total_len, protocol, src, dst, ..ipv4::ORIGINATED }.write(datagram);
            error.write_icmp(datagram.get_mut(ipv4::HEADER_LEN..).unwrap_or_default());
        }
        (IpAddr::V6(sender), IpAddr::V6(destination)) => {
            let src = if link.ipv6 == 0 { destination.to_bits() } else { link.ipv6 };
            let dst = sender.to_bits();
            let Some((head, message)) = datagram.split_at_mut_checked(ipv6::HEADER_LEN) else {
                return;
            };
            error.write_icmpv6(src, dst, message);
            let header = ipv6::Header {
                payload_len: message.len() as u16,
                next_header: ipv6::PROTOCOL_ICMPV6,
                src,
                dst,
                ..ipv6::ORIGINATED
            };
            header.write(head);
        }
        // Both are of the family of their header.
        _ => return,
    }
    let ethertype = ethertype(ip.family());
    reply::send_back(egress, packet.from, frame, l3, kind, ethertype);
}

const HEAD_LEN_V6: usize = ipv6::HEADER_LEN + HEADER_LEN;
