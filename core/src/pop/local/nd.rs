//! Neighbour discovery (RFC 4861) for the addresses of the port.

use super::super::egress::Egress;
use super::super::egress::answer::resize;
use super::super::egress::reply::reply_to;
use super::super::output::Output;
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::link::Told;
use crate::net::Address;
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::nd::{self, Advertisement, Solicitation};
use crate::wire::{Datagram, ethernet, ipv6};

/// Answers a neighbour solicitation for one of the port's addresses, and learns the address of its
/// sender.
#[cold]
#[inline(never)]
pub(in crate::pop) fn solicitation<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    mut frame: F,
) {
    let arrival = egress.arrival;
    let Datagram::V6(datagram) = packet.segment.ip else {
        return egress.drop(None, DropReason::NdMalformed, frame);
    };
    let ip = datagram.header;
    let Some(solicitation) = Solicitation::parse(&ip, packet.message(&frame)) else {
        return egress.drop(None, DropReason::NdMalformed, frame);
    };
    let target = solicitation.target;
    let to_us = ip.dst == nd::solicited_node(target) || arrival.is_port_address(ip.dst);
    if !to_us || !arrival.is_port_address(target) {
        return egress.drop(None, DropReason::NdNotOurs, frame);
    }
    // A DAD probe has no source address, so the reply goes to all-nodes (section 7.2.4).
    let probe = ip.src == 0;
    if !probe && !arrival.source_ok(ip.src.ip()) {
        return egress.drop(None, DropReason::SourceNotAllowed, frame);
    }
    if let Some(mac) = solicitation.source_mac {
        arrival.soft.links.learn(arrival.now, arrival.port, ip.src.ip(), mac, Told::ANSWER);
    }
    let (dst, to) = match probe {
        true => (nd::ALL_NODES, nd::group_mac(nd::ALL_NODES)),
        false => (ip.src, packet.from),
    };
    let l3 = packet.segment.l3;
    if !resize(&mut frame, l3 + ipv6::HEADER_LEN + nd::LEN) {
        return egress.drop(None, DropReason::NoRoom, frame);
    }
    let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
    let message = nd::write_header(datagram, target, dst);
    let advertisement = Advertisement {
        target,
        target_mac: Some(arrival.link.mac),
        // A POP forwards datagrams that are not for itself.
        router: true,
        solicited: !probe,
        replaces: true,
    };
    advertisement.write(target, dst, message);
    let kind = ReplyKind::NeighbourAdvertisement;
    reply_to(egress, packet, to, frame, l3, kind, ethernet::TYPE_IPV6);
}

/// Learns from a neighbour advertisement of a host that the POP queried.
#[cold]
#[inline(never)]
pub(in crate::pop) fn advertisement<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
) {
    let arrival = egress.arrival;
    let Datagram::V6(datagram) = packet.segment.ip else {
        return egress.drop(None, DropReason::NdMalformed, frame);
    };
    let ip = datagram.header;
    let Some(advertisement) = Advertisement::parse(&ip, packet.message(&frame)) else {
        return egress.drop(None, DropReason::NdMalformed, frame);
    };
    let to_us = ip.dst == nd::ALL_NODES || arrival.is_port_address(ip.dst);
    let Advertisement { target, target_mac, solicited, replaces, .. } = advertisement;
    let told = Told { replaces, confirms: solicited };
    let (links, now, port) = (&arrival.soft.links, arrival.now, arrival.port);
    let learned = to_us
        && arrival.source_ok(ip.src.ip())
        && match target_mac {
            Some(mac) => links.learn(now, port, target.ip(), mac, told),
            None => solicited && links.confirm(now, port, target.ip(), packet.from),
        };
    if learned {
        egress.absorb(AbsorbKind::Neighbour, frame);
    } else {
        egress.drop(None, DropReason::NdNotOurs, frame);
    }
}
