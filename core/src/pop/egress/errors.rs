//! ICMP errors of the POP's own, about datagrams that it cannot send on (RFC 792, RFC 1191, RFC
//! 4443).

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::{Packet, Step};
use super::endings::Egress;
use super::ethernet::ethertype;
use super::reply;
use super::wrap::wrap;
use crate::frame::Frame;
use crate::net::{Address, Family, ServiceIndex};
use crate::relay::Relay;
use crate::relay::encapsulated::EncapsulatedMode;
use crate::snapshot::Destination;
use crate::tunnel::TunnelService;
use crate::tunnel::open::{OpenAgent, down};
use crate::verdict::{DropReason, ReplyKind};
use crate::wire::icmp_error::{self, HEADER_LEN, IcmpError, Unreachable};
use crate::wire::{Datagram, Ipv6Datagram, ip, ipv4, ipv6};

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

/// Drops a UDP datagram, and tells its sender that nothing listens on its port: so traceroute ends
/// here.
#[cold]
#[inline(never)]
pub(in crate::pop) fn port_unreachable<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    egress.count_drop::<F>(None, DropReason::Protocol);
    send_error(egress, limits, packet, frame, IcmpError::Unreachable(Unreachable::Port));
}

/// Drops a segment that does not fit, of which `fits` bytes would, and tells its sender if no
/// router may fragment it. A damaged segment is not answered: damage to its options may be what
/// makes it grow.
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
    // What is in an open packet concerns nobody but its hosts.
    if !packet.is_open()
        && let Err(reason) = packet.checksum_holds(&frame)
    {
        return egress.drop(of, reason, frame);
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

/// The source of an ICMP error about a datagram: the address that it was sent to, which its sender
/// can reach; the port's own may be private. A datagram to a client is the exception: the source is
/// the port's, as a router's would be. About open packets it is the one of their tunnel.
fn error_source(arrival: &Arrival<'_>, packet: &Packet) -> IpAddr {
    let ip = &packet.segment.ip;
    if packet.is_open()
        && let Some((open, _)) = open_tunnel(arrival, packet).and_then(TunnelService::open_side)
    {
        return open.icmp_source.into();
    }
    let link = arrival.link;
    let (to, own) = match ip {
        Datagram::V4(ip) => {
            (arrival.meaning(ip.dst), Some(link.ipv4.ip()).filter(|_| link.ipv4 != 0))
        }
        Datagram::V6(ip) => {
            (arrival.meaning(ip.header.dst), Some(link.ipv6.ip()).filter(|_| link.ipv6 != 0))
        }
    };
    match to {
        Destination::Vip | Destination::Pool(_) | Destination::Own(_) => ip.dst(),
        Destination::Other { .. } | Destination::Open(_) => own.unwrap_or(ip.dst()),
    }
}

/// The tunnel that an open packet is of.
fn open_tunnel<'a>(arrival: &Arrival<'a>, packet: &Packet) -> Option<&'a TunnelService> {
    Some(&arrival.snapshot.tunnel(packet.service?)?.service)
}

/// Puts the answer to an open packet that an agent sent, at the `l3` of `packet`, into the segment
/// that carries it down. Gives back where that begins.
fn back_to_agent<F: Frame>(arrival: &Arrival<'_>, packet: &Packet, frame: &mut F) -> Option<usize> {
    let (l3, (service, agent)) = (packet.segment.l3, open_sender(arrival, packet)?);
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let down = down::segment(service, arrival.unix, &agent, datagram)?;
    wrap(frame, l3, &down).ok()
}

/// Puts the answer to a datagram that came in a tunnel, at the `l3` of `packet`, into the tunnel
/// too. Gives back where the answer begins, and of which family it is.
fn back_in_tunnel<F: Frame>(
    arrival: &Arrival<'_>,
    packet: &Packet,
    frame: &mut F,
) -> Result<(usize, Family), DropReason> {
    let (l3, ip) = (packet.segment.l3, &packet.segment.ip);
    if let Step::OpenUp = packet.step {
        let l3 = back_to_agent(arrival, packet, frame).ok_or(DropReason::NoRoom)?;
        return Ok((l3, Family::V4));
    }
    if let Some((relay, tunnel)) = tunnel_of(arrival, packet) {
        let target = packet.sender(relay).ip();
        let l3 = tunnel.put(frame, l3, &packet.dst(), target, None)?;
        return Ok((l3, Family::of(target)));
    }
    Ok((l3, ip.family()))
}

/// Whose share of the POP's own messages an answer to `packet` uses up: that of a target, where it
/// came in its tunnel, and of an agent, where it is from an open address.
fn charged(arrival: &Arrival<'_>, packet: &Packet) -> IpAddr {
    if let Some((relay, _)) = tunnel_of(arrival, packet) {
        return packet.sender(relay).ip();
    }
    match open_sender(arrival, packet) {
        Some((_, agent)) => (*agent.at.ip()).into(),
        None => packet.segment.ip.src(),
    }
}

/// The agent whose open address a packet is from, and its tunnel.
fn open_sender<'a>(
    arrival: &Arrival<'a>,
    packet: &Packet,
) -> Option<(&'a TunnelService, OpenAgent)> {
    let Datagram::V6(Ipv6Datagram { header, .. }) = packet.segment.ip else { return None };
    let Destination::Open(index) = arrival.meaning(header.src) else { return None };
    let service = &arrival.snapshot.tunnel(index)?.service;
    let (open, _) = service.open_side()?;
    Some((service, open.addresses.decode(arrival.unix, header.src).ok()?))
}

/// The relay of a datagram that came in the tunnel of a target, and how that encapsulates.
fn tunnel_of<'a>(
    arrival: &Arrival<'a>,
    packet: &Packet,
) -> Option<(&'a Relay, &'a EncapsulatedMode)> {
    if !matches!(packet.step, Step::Inward(_) | Step::DatagramIn(_)) {
        return None;
    }
    let (_, relay) = packet.relay(arrival.snapshot)?;
    Some((relay, relay.mode.tunnel()?))
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
    if packet.is_open() && packet.may_be_error(&frame) {
        return;
    }
    let kind = match (error, ip) {
        (IcmpError::TooBig(_), Datagram::V4(_)) => ReplyKind::FragmentationNeeded,
        (IcmpError::TooBig(_), Datagram::V6(_)) => ReplyKind::PacketTooBig,
        (IcmpError::Unreachable(_), _) => ReplyKind::PortUnreachable,
        // The only other error about a segment in transit.
        _ => ReplyKind::TimeExceeded,
    };
    if !limits.admit_own(kind, charged(&egress.arrival, packet)) {
        return egress.withhold::<F>(kind);
    }
    let head_len = ip.family().ip_header_len() + HEADER_LEN;
    frame.truncate(l3 + icmp_error::quote_len_max(ip.family()));
    if !frame.prepend(head_len) {
        return;
    }
    let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
    let Some((head, message)) = datagram.split_at_mut_checked(head_len - HEADER_LEN) else {
        return;
    };
    let (src, dst) = (error_source(&egress.arrival, packet), ip.src());
    error.write(src, dst, message);
    let (payload_len, protocol) = (message.len() as u16, icmp_error::protocol(ip.family()));
    ip::Header { class: 0, hops: ipv4::ORIGINATED_TTL, protocol, payload_len, src, dst }
        .write(head);
    let Ok((l3, family)) = back_in_tunnel(&egress.arrival, packet, &mut frame) else { return };
    reply::send_back(egress, packet.from, frame, l3, kind, ethertype(family));
}
