//! Open packets: what an agent sends from its open address goes on to a host that knows nothing of
//! the tunnel, or to another agent; what anybody sends to an open address goes to its agent.

pub(in crate::pop) mod icmp;
mod wrap;

use super::super::arrival::Arrival;
use super::super::egress::Egress;
use super::super::egress::ship::{Transmit, ship};
use super::super::limits::{Limits, OpenWay};
use super::super::output::{Note, Output};
use super::super::packet::{Packet, Step};
use super::read::segment_of;
use crate::frame::Frame;
use crate::net::{Address, ServiceIndex, Towards, is_unicast};
use crate::relay::rewrite::Segment;
use crate::snapshot::{Destination, Tunnel};
use crate::tunnel::message::OPEN_HEADER_LEN;
use crate::tunnel::open::{OpenAgent, OpenUp, down, up};
use crate::verdict::DropReason;
use crate::wire::ipv6::{self, Ipv6, Upper};
use crate::wire::{Datagram, Ipv6Datagram, ip};
use wrap::{IntoTunnel, OutOfTunnel};

/// Reads a packet to an open address of the agents of the tunnel `index`. It may have any contents,
/// and be a fragment: only its agent's host reads what is behind its header.
pub(in crate::pop) fn read<F: Frame>(
    arrival: &Arrival<'_>,
    index: ServiceIndex,
    header: Ipv6,
    packet: &mut Packet,
    frame: &mut F,
) -> Result<Step, DropReason> {
    packet.service = Some(index);
    packet.segment.ip = Datagram::V6(whole(header));
    // Ethernet's padding follows the packet.
    frame.truncate(packet.segment.l3 + header.total_len());
    if !arrival.takes_clients() {
        return Err(DropReason::WrongSide);
    }
    if is_spoofed(arrival, index, header.src) {
        return Err(DropReason::OpenSpoofed);
    }
    if !host_ok(arrival, header.src) {
        return Err(DropReason::SourceNotAllowed);
    }
    Ok(Step::OpenDown)
}

/// Whether `src` is an open address, or what POPs send messages to agents from: neither comes from
/// outside.
fn is_spoofed(arrival: &Arrival<'_>, index: ServiceIndex, src: u128) -> bool {
    let open = arrival.snapshot.tunnel(index).and_then(|tunnel| tunnel.service.open.as_ref());
    open.is_some_and(|open| open.icmp_source.to_bits() == src)
        || matches!(arrival.snapshot.classify(src), Destination::Open(_))
}

/// A packet with this header, whose payload is not read.
fn whole(header: Ipv6) -> Ipv6Datagram {
    let upper = Upper { protocol: header.next_header, at: ipv6::HEADER_LEN };
    Ipv6Datagram { header, upper }
}

/// Whether a host outside of the tunnel can have the address `ip`.
pub(super) fn host_ok(arrival: &Arrival<'_>, ip: u128) -> bool {
    is_unicast(ip) && arrival.source_ok(ip.ip())
}

/// A packet to an open address.
pub(in crate::pop) fn to_agent<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    let arrival = egress.arrival;
    let tunnel = packet.service.and_then(|index| Some((index, arrival.snapshot.tunnel(index)?)));
    let (Some(tunnel), Datagram::V6(inner)) = (tunnel, packet.segment.ip) else {
        return egress.drop(packet.service, DropReason::NotOurs, frame);
    };
    let (client_ok, dst) = (|ip| arrival.snapshot.client_ok(ip), inner.header.dst);
    match down::agent_of(&tunnel.1.service, arrival.unix, dst, client_ok) {
        Ok(agent) => {
            egress.note::<F>(Note::OpenAddress { address: dst.into(), agent });
            deliver(egress, limits, packet, frame, tunnel, &agent);
        }
        Err(reason) => egress.drop(packet.service, reason, frame),
    }
}

/// Sends the IPv6 packet that `packet` is down to `agent`.
fn deliver<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    (service, tunnel): (ServiceIndex, &Tunnel),
    agent: &OpenAgent,
) {
    if let Err(reason) = limits.admit_open(OpenWay::Down, tunnel.slot, agent.at) {
        return egress.drop(Some(service), reason, frame);
    }
    let datagram = frame.bytes().get(packet.segment.l3..).unwrap_or_default();
    let Some(down) = down::segment(&tunnel.service, egress.arrival.unix, agent, datagram) else {
        return egress.drop(Some(service), DropReason::NotOurs, frame);
    };
    let transmit = Transmit {
        service,
        slot: tunnel.slot,
        towards: Towards::Clients,
        destination: down.dst.ip(),
        is_copy: false,
        target: None,
        rewrite: IntoTunnel { down: &down, mtu: tunnel.service.tunnel_mtu },
    };
    ship(egress, limits, packet, frame, &transmit);
}

/// An open packet of an agent, in a segment to the VIP of its tunnel.
pub(in crate::pop) fn from_agent<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    mut frame: F,
    (service, tunnel): (ServiceIndex, &Tunnel),
) {
    let (sent, to) = match judge::<F, O>(egress, limits, packet, &frame, (service, tunnel)) {
        Ok(judged) => judged,
        Err(reason) => return egress.drop(Some(service), reason, frame),
    };
    let datagram = frame.bytes_mut().get_mut(sent.segment.l3..).unwrap_or_default();
    let Datagram::V6(inner) = sent.segment.ip else { return };
    ip::set_class(datagram, inner.header.traffic_class);
    match to {
        Some(agent) => {
            let traffic = &egress.counters.service(tunnel.slot).up;
            traffic.add(1, datagram.len() as u64);
            deliver(egress, limits, &sent, frame, (service, tunnel), &agent);
        }
        None => {
            let transmit = Transmit {
                service,
                slot: tunnel.slot,
                towards: Towards::Clients,
                destination: inner.header.dst.ip(),
                is_copy: false,
                target: None,
                rewrite: OutOfTunnel,
            };
            ship(egress, limits, &sent, frame, &transmit);
        }
    }
}

/// The inner packet of the open packet in `frame`, in place of `packet`, and the agent that it is
/// for, unless it goes out of the tunnel.
fn judge<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: &F,
    (index, tunnel): (ServiceIndex, &Tunnel),
) -> Result<(Packet, Option<OpenAgent>), DropReason> {
    let arrival = egress.arrival;
    let segment = segment_of(packet, frame).ok_or(DropReason::TcpMalformed)?;
    let up = OpenUp::read(&tunnel.service, &segment)?;
    let outside = |ip| arrival.snapshot.outside_of(index, ip);
    let client_ok = |ip| arrival.snapshot.client_ok(ip);
    let onward = up::decide(&tunnel.service, arrival.unix, &up, outside, client_ok)?;
    let mut header = up.inner;
    let outer = ip::class(frame.bytes().get(packet.segment.l3..).unwrap_or_default());
    let class = ip::decapsulated_class(outer, header.traffic_class);
    header.traffic_class = class.ok_or(DropReason::TunnelMark)?;
    limits.admit_open(OpenWay::Up, tunnel.slot, onward.sender.at)?;
    let l3 = packet.l4() + packet.segment.tcp.header_len + OPEN_HEADER_LEN;
    let segment = Segment { l3, ip: Datagram::V6(whole(header)), tcp: packet.segment.tcp };
    Ok((Packet { step: Step::OpenUp, segment, ..*packet }, onward.to))
}
