//! ICMP errors of others (RFC 792, RFC 4443): whose segment does the error quote?

use super::arrival::Arrival;
use super::egress::Egress;
use super::limits::Limits;
use super::output::Output;
use super::packet::Packet;
use super::relay::icmp::{QuotingError, relay_error};
use super::relay::outer::{OuterQuote, outer_error};
use super::tunnel::icmp::tunnel_error;
use crate::frame::Frame;
use crate::net::{Address, Protocol, ServiceIndex};
use crate::relay::icmp::{Quote, Quote6};
use crate::snapshot::{Destination, Service};
use crate::verdict::DropReason;
use crate::wire::tcp::field;
use crate::wire::{Datagram, get_u16, icmp_error, ipv6};

/// An ICMP error goes to the service that the quoted segment is of.
#[cold]
#[inline(never)]
pub(super) fn error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    let (arrival, ip) = (egress.arrival, &packet.segment.ip);
    let Some((head, bytes)) = packet.message(&frame).split_first_chunk() else {
        return egress.drop(None, DropReason::IcmpMalformed, frame);
    };
    let mtu = icmp_error::announced_mtu(ip.family(), head);
    let to = match ip {
        Datagram::V4(ip) => arrival.meaning(ip.dst),
        Datagram::V6(ip) => arrival.meaning(ip.header.dst),
    };
    if let Datagram::V6(ip) = ip
        && to == Destination::Vip
        && let Some(index) = tunnel_quoted_in_ipv6(&arrival, bytes, ip.header.dst)
    {
        if !arrival.source_ok(ip.header.src.ip()) {
            return egress.drop(None, DropReason::SourceNotAllowed, frame);
        }
        // An MTU that is smaller than any path's is a forgery or a mistake.
        let mtu = mtu.map(|mtu| mtu.max(ipv6::MTU_MIN as u32));
        return tunnel_error(egress, limits, packet, frame, index, mtu);
    }
    if let Destination::Pool(_) = to
        && let Some(outer) = OuterQuote::parse(ip.family(), bytes)
        && outer.from() == ip.dst()
    {
        if !arrival.source_ok(ip.src()) {
            return egress.drop(None, DropReason::SourceNotAllowed, frame);
        }
        return outer_error(egress, limits, packet, frame, &outer);
    }
    let quote = match Quote::parse(ip.family(), bytes) {
        // The error goes to the sender of the segment.
        Ok(quote) if quote.src().ip() == ip.dst() => quote,
        _ => {
            let reason = if to.is_other() { DropReason::NotOurs } else { DropReason::IcmpQuote };
            return egress.drop(None, reason, frame);
        }
    };
    // In a tunnel the target sends as the VIP.
    if packet.service.is_none() && !arrival.source_ok(ip.src()) {
        return egress.drop(None, DropReason::SourceNotAllowed, frame);
    }
    let kind = icmp_error::IcmpError::parse(ip.family(), head);
    let is_unreachable = matches!(kind, Some(icmp_error::IcmpError::Unreachable(_)));
    let error = QuotingError { packet, quote, mtu, is_unreachable, to };
    let index = error.service(arrival.snapshot);
    match index.and_then(|index| Some((index, arrival.snapshot.service(index)?))) {
        Some((index, Service::Relay(relay))) => {
            relay_error(egress, limits, &error, frame, index, relay);
        }
        Some((index, Service::Tunnel(_))) if matches!(ip, Datagram::V4(_)) => {
            let mtu = mtu.map(|mtu| mtu.max(TUNNEL_MTU_FLOOR));
            tunnel_error(egress, limits, packet, frame, index, mtu);
        }
        _ => egress.drop(None, error.stray(DropReason::IcmpQuote), frame),
    }
}

/// The tunnel of a segment from `vip` that is quoted in `quote`. Segments of tunnels have no
/// extension headers: one that has some may be a relay's at the same address.
fn tunnel_quoted_in_ipv6(arrival: &Arrival<'_>, quote: &[u8], vip: u128) -> Option<ServiceIndex> {
    let shown = quote.len() >= ipv6::HEADER_LEN + field::DST_PORT;
    if !shown || ipv6::get_address(quote, ipv6::field::SRC) != vip {
        return None;
    }
    let behind = Quote6::parse(quote).ok();
    let at = |protocol, port| arrival.snapshot.service_at(protocol, vip, port);
    let relay = behind.and_then(|quote| at(quote.protocol, quote.src_port));
    if relay.is_some_and(|index| arrival.snapshot.relay(index).is_some()) {
        return None;
    }
    let index = at(Protocol::Tcp, get_u16(quote, ipv6::HEADER_LEN))?;
    arrival.snapshot.tunnel(index).map(|_| index)
}

/// The smallest MTU over IPv4 that an agent is told, in bytes.
const TUNNEL_MTU_FLOOR: u32 = 552;
