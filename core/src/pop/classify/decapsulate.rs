//! Reads what targets answer inside another datagram, to the address that tunnels come from.
//!
//! The outer headers say from which target an answer is, and the source inside says of which
//! service. They are left behind: from here on the frame's datagram is the one inside.

use std::net::{IpAddr, SocketAddr};

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::packet::{Packet, Step};
use super::{headers, icmp, tcp, udp};
use crate::config::{Encapsulate, Encapsulation};
use crate::frame::Frame;
use crate::net::{Family, IpEndpoint, Protocol, ServiceIndex};
use crate::relay::encapsulated::Carried;
use crate::relay::icmp::Quote;
use crate::relay::targets::TargetIndex;
use crate::snapshot::Tabled;
use crate::verdict::DropReason;
use crate::wire::tcp::field;
use crate::wire::udp::Udp;
use crate::wire::{Datagram, get_u16, icmp_error, ip};

/// A tunnel that a datagram came in.
struct CameIn {
    protocol: Encapsulate,
    /// Its ends: a target, and a POP.
    ends: (IpAddr, IpAddr),
}

/// Reads the datagram of `packet`, which is neither TCP nor ICMP, and to an egress address.
#[inline(never)]
pub(super) fn read<F: Frame>(
    arrival: &Arrival<'_>,
    protocol: u8,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let outer = packet.segment.ip;
    let carried = Carried::find(protocol, packet.message(frame)).ok_or(DropReason::Protocol)?;
    if !arrival.takes_targets() {
        return Err(DropReason::WrongSide);
    }
    let class = outer_class(packet, frame);
    let tunnel = CameIn { protocol: carried.protocol, ends: (outer.src(), outer.dst()) };
    packet.segment.l3 = packet.l4() + carried.at;
    match carried.family {
        Family::V4 => {
            let ip = headers::ipv4(packet, frame)?;
            if ip.is_fragment() {
                return Err(DropReason::Fragment);
            }
            let found = tunnel.find(arrival, packet, frame, (ip.src, ip.protocol))?;
            answer(arrival, found, (ip.dst, ip.protocol), class, packet, frame, lanes)
        }
        Family::V6 => {
            let (header, upper) = headers::ipv6(packet, frame)?;
            let found = tunnel.find(arrival, packet, frame, (header.src, upper.protocol))?;
            let (dst, protocol) = (header.dst, upper.protocol);
            answer(arrival, found, (dst, protocol), class, packet, frame, lanes)
        }
    }
}

/// DSCP and ECN of the datagram of `packet`.
fn outer_class<F: Frame>(packet: &Packet, frame: &F) -> u8 {
    ip::class(frame.bytes().get(packet.segment.l3..).unwrap_or_default())
}

impl CameIn {
    /// The service and target that the datagram is of, which `packet` now is.
    fn find<F: Frame, A: Tabled>(
        &self,
        arrival: &Arrival<'_>,
        packet: &Packet,
        frame: &F,
        (src, protocol): (A, u8),
    ) -> Result<(ServiceIndex, TargetIndex), DropReason> {
        let message = packet.message(frame);
        let (of, port) = match (Protocol::of_number(protocol), protocol) {
            (Some(of), _) => (of, get_u16(message, field::SRC_PORT)),
            // An error of the target's own quotes what came to the VIP.
            (None, icmp) if icmp == icmp_error::protocol(packet.segment.ip.family()) => {
                let quote = message.get(icmp_error::HEADER_LEN..).unwrap_or_default();
                let quote = Quote::parse(packet.segment.ip.family(), quote)?;
                (quote.protocol(), quote.dst().port())
            }
            _ => return Err(DropReason::Protocol),
        };
        let index = arrival.snapshot.service_at(of, src, port);
        let index = index.ok_or(DropReason::UnknownTarget)?;
        let relay = arrival.snapshot.relay(index).ok_or(DropReason::UnknownTarget)?;
        let (target, from) = self.ends;
        let is_this = |tunnel: &Encapsulation| {
            tunnel.from == from && tunnel.protocol == self.protocol && tunnel.is_through()
        };
        let tunnel = relay.mode.tunnel().filter(|tunnel| is_this(tunnel.encapsulation()));
        let target = IpEndpoint::from(SocketAddr::new(target, port));
        let target = tunnel.and_then(|_| relay.targets.index_of(&target));
        Ok((index, target.ok_or(DropReason::UnknownTarget)?))
    }
}

/// Reads what a target sends to the client `dst`, which `packet` now is; `class` is that of the
/// datagram that it was inside.
fn answer<F: Frame, A: Tabled>(
    arrival: &Arrival<'_>,
    (service, target): (ServiceIndex, TargetIndex),
    (dst, protocol): (A, u8),
    class: u8,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    packet.service = Some(service);
    packet.target = target;
    let datagram = frame.bytes_mut().get_mut(packet.segment.l3..).unwrap_or_default();
    let own = ip::class(datagram);
    let new = ip::decapsulated_class(class, own).ok_or(DropReason::TunnelMark)?;
    if new != own {
        ip::set_class(datagram, new);
        if let Datagram::V6(ip) = &mut packet.segment.ip {
            ip.header.traffic_class = new;
        }
    }
    if !arrival.snapshot.client_ok(dst.ip()) {
        return Err(DropReason::NotOurs);
    }
    let step = match Protocol::of_number(protocol) {
        None => return icmp::read_error(&packet.segment.ip, packet.message(frame)),
        Some(Protocol::Udp) => {
            let udp = Udp::parse(packet.message(frame)).ok_or(DropReason::UdpMalformed)?;
            udp::from_target(arrival, service, (packet, &udp), frame, lanes)
        }
        Some(Protocol::Tcp) => {
            tcp::parse(packet, frame)?;
            tcp::from_target(arrival, service, packet, frame, lanes)
        }
    };
    match packet.segment.tcp.dst_port {
        0 => Err(DropReason::NotOurs),
        _ => step,
    }
}
