//! ARP and neighbour discovery: the POP asks for the stations that it sends to, and answers for the
//! addresses of its ports.
//!
//! VIPs and egress addresses are routed to the POP, not on its links: it does not answer for them.

use std::net::IpAddr;

use super::Output;
use super::answer::pad;
use super::ingress::{Ipv6Packet, Packet};
use super::run::{Run, encapsulate};
use crate::config::PortConfig;
use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::{AddressQuery, Link, Links};
use crate::net::Address;
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::nd::{self, Advertisement, Solicitation};
use crate::wire::{MacAddr, ethernet, ipv6};

/// Length in bytes of a datagram with a message of neighbour discovery.
const ND_LEN: usize = ipv6::HEADER_LEN + nd::LEN;

/// Sends an ARP request or a neighbour solicitation.
#[cold]
#[inline(never)]
pub(super) fn send_query<F: Frame, O: Output<F>>(
    links: &Links,
    counters: &Counters,
    query: AddressQuery<IpAddr>,
    out: &mut O,
) {
    let port = query.port;
    let Some(link) = links.link(port) else { return };
    let Some(frame) = out.allocate() else {
        return counters.count_drop(port, None, DropReason::NoBuffer);
    };
    let frame = match query.ip {
        IpAddr::V4(ip) => arp_request(links, link, AddressQuery { port, ip: ip.to_bits() }, frame),
        IpAddr::V6(ip) => solicitation(links, link, AddressQuery { port, ip: ip.to_bits() }, frame),
    };
    match frame.map(pad) {
        Some(frame) => out.transmit(port, frame),
        None => counters.count_drop(port, None, DropReason::NoRoom),
    }
}

/// Makes an ARP request of an empty frame; `None` when there is no room.
fn arp_request<F: Frame>(
    links: &Links,
    link: &Link,
    query: AddressQuery<u32>,
    mut frame: F,
) -> Option<F> {
    if !frame.append(arp::LEN) {
        return None;
    }
    let request = Arp {
        operation: Operation::Request,
        sender_mac: link.mac,
        sender_ip: links.address_towards(query),
        target_mac: MacAddr::default(),
        target_ip: query.ip,
    };
    request.write(frame.bytes_mut());
    encapsulate(frame, 0, MacAddr::BROADCAST, link, ethernet::TYPE_ARP)
}

/// Makes a neighbour solicitation of an empty frame; `None` when there is no room.
fn solicitation<F: Frame>(
    links: &Links,
    link: &Link,
    query: AddressQuery<u128>,
    mut frame: F,
) -> Option<F> {
    if !frame.append(ND_LEN) {
        return None;
    }
    let (src, dst) = (links.address_towards6(query), nd::solicited_node(query.ip));
    let message = write_nd_header(frame.bytes_mut(), src, dst);
    let solicitation = Solicitation { target: query.ip, source_mac: Some(link.mac) };
    solicitation.write(src, dst, message);
    encapsulate(frame, 0, nd::group_mac(dst), link, ethernet::TYPE_IPV6)
}

/// Writes the IPv6 header at the start of `datagram`; gives back the rest.
fn write_nd_header(datagram: &mut [u8], src: u128, dst: u128) -> &mut [u8] {
    let header = ipv6::Header {
        payload_len: nd::LEN as u16,
        next_header: ipv6::PROTOCOL_ICMPV6,
        hop_limit: nd::HOP_LIMIT,
        src,
        dst,
        ..ipv6::ORIGINATED
    };
    header.write(datagram);
    datagram.get_mut(ipv6::HEADER_LEN..).unwrap_or_default()
}

impl<O> Run<'_, O> {
    /// Answers a request for one of the port's addresses, learns from the answers to our own.
    #[cold]
    #[inline(never)]
    pub(super) fn arp<F: Frame>(&mut self, packet: &Packet, mut frame: F)
    where
        O: Output<F>,
    {
        let l3 = packet.segment.l3;
        let parsed = frame.bytes().get(l3..).and_then(Arp::parse);
        let Some((arp, link)) = parsed.zip(self.link()) else {
            return self.drop(None, DropReason::ArpMalformed, frame);
        };
        let ours = self.is_port_address(arp.target_ip);
        let learned =
            ours && self.soft.links.learn(self.now, self.port, arp.sender_ip, arp.sender_mac);
        match arp.operation {
            Operation::Reply if learned => self.absorb(AbsorbKind::Neighbour, frame),
            Operation::Request if ours => {
                let reply = Arp {
                    operation: Operation::Reply,
                    sender_mac: link.mac,
                    sender_ip: arp.target_ip,
                    target_mac: arp.sender_mac,
                    target_ip: arp.sender_ip,
                };
                reply.write(frame.bytes_mut().get_mut(l3..).unwrap_or_default());
                frame.truncate(l3 + arp::LEN);
                self.reply(packet, frame, l3, ReplyKind::Arp, ethernet::TYPE_ARP);
            }
            _ => self.drop(None, DropReason::ArpNotOurs, frame),
        }
    }

    /// Answers a neighbour solicitation for one of the port's addresses, and learns of who asks.
    #[cold]
    #[inline(never)]
    pub(super) fn solicited<F: Frame>(&mut self, packet: &Packet, mut frame: F)
    where
        O: Output<F>,
    {
        let Ipv6Packet { ip, .. } = packet.ipv6;
        let parsed = Solicitation::parse(&ip, packet.ipv6.message(packet, &frame));
        let Some((solicitation, link)) = parsed.zip(self.link()) else {
            return self.drop(None, DropReason::NdMalformed, frame);
        };
        let target = solicitation.target;
        let to_us = ip.dst == nd::solicited_node(target) || self.is_port_address(ip.dst);
        if !to_us || !self.is_port_address(target) {
            return self.drop(None, DropReason::NdNotOurs, frame);
        }
        // Who looks whether an address is taken has none yet, and is told through the group.
        let probe = ip.src == 0;
        if !probe && !self.source_ok6(ip.src) {
            return self.drop(None, DropReason::SourceNotAllowed, frame);
        }
        if let Some(mac) = solicitation.source_mac {
            self.soft.links.learn6(self.now, self.port, ip.src, mac, true);
        }
        let (dst, to) = match probe {
            true => (nd::ALL_NODES, nd::group_mac(nd::ALL_NODES)),
            false => (ip.src, packet.peer),
        };
        let l3 = packet.segment.l3;
        frame.truncate(l3 + ND_LEN);
        let missing = (l3 + ND_LEN).saturating_sub(frame.bytes().len());
        if missing > 0 && !frame.append(missing) {
            return self.drop(None, DropReason::NoRoom, frame);
        }
        let datagram = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let message = write_nd_header(datagram, target, dst);
        let advertisement = Advertisement {
            target,
            target_mac: Some(link.mac),
            // A POP forwards datagrams that are not for itself.
            router: true,
            solicited: !probe,
            replaces: true,
        };
        advertisement.write(target, dst, message);
        let kind = ReplyKind::NeighbourAdvertisement;
        let sent = self.send_back(to, frame, l3, kind, ethernet::TYPE_IPV6);
        self.answered::<F>(packet, kind, sent);
    }

    /// Learns from a neighbour advertisement of a station that was asked for.
    #[cold]
    #[inline(never)]
    pub(super) fn advertised<F: Frame>(&mut self, packet: &Packet, frame: F)
    where
        O: Output<F>,
    {
        let Ipv6Packet { ip, .. } = packet.ipv6;
        let parsed = Advertisement::parse(&ip, packet.ipv6.message(packet, &frame));
        let Some(advertisement) = parsed else {
            return self.drop(None, DropReason::NdMalformed, frame);
        };
        let to_us = ip.dst == nd::ALL_NODES || self.is_port_address(ip.dst);
        let Advertisement { target, target_mac, replaces, .. } = advertisement;
        let learned = to_us
            && self.source_ok6(ip.src)
            && target_mac.is_some_and(|mac| {
                self.soft.links.learn6(self.now, self.port, target, mac, replaces)
            });
        if learned {
            self.absorb(AbsorbKind::Neighbour, frame);
        } else {
            self.drop(None, DropReason::NdNotOurs, frame);
        }
    }

    /// Whether a frame to `mac` is for a group that one of the port's IPv6 addresses is in (RFC
    /// 4861, section 7.2.1).
    #[cold]
    pub(super) fn is_own_group(&self, mac: MacAddr) -> bool {
        let own = |net: crate::net::Ipv6Net| nd::group_mac(nd::solicited_node(net.address));
        let mut nets = self.port_config().into_iter().flat_map(PortConfig::nets::<u128>).peekable();
        let all_nodes = nets.peek().is_some() && mac == nd::group_mac(nd::ALL_NODES);
        all_nodes || nets.any(|net| own(net) == mac)
    }

    pub(super) fn is_port_address<A: Address>(&self, ip: A) -> bool {
        self.port_config().is_some_and(|port| port.has_address(ip))
    }
}
