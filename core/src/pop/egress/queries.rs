//! Queries for hardware addresses: ARP requests (RFC 826) and neighbour solicitations (RFC 4861).

use std::net::IpAddr;

use super::super::output::Output;
use super::ethernet::{add_ethernet, pad};
use crate::counters::Counters;
use crate::frame::Frame;
use crate::link::{AddressQuery, Link, Links};
use crate::verdict::DropReason;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::nd::{self, Solicitation};
use crate::wire::{MacAddr, ethernet, ipv6};

/// Sends an ARP request or a neighbour solicitation.
#[cold]
#[inline(never)]
pub(in crate::pop) fn send_query<F: Frame, O: Output<F>>(
    links: &Links,
    counters: &Counters,
    query: AddressQuery<IpAddr>,
    out: &mut O,
) {
    let port = query.port;
    let Some(link) = links.link(port) else { return };
    let Some(mut frame) = out.allocate() else {
        links.take_back(query);
        return counters.count_drop(port, None, DropReason::NoBuffer);
    };
    let to = links.unicast(query);
    let written = match query.ip {
        IpAddr::V4(ip) => {
            arp_request(links, link, AddressQuery { port, ip: ip.to_bits() }, to, &mut frame)
        }
        IpAddr::V6(ip) => {
            solicitation(links, link, AddressQuery { port, ip: ip.to_bits() }, to, &mut frame)
        }
    };
    if !written {
        links.take_back(query);
        return counters.count_drop(port, None, DropReason::NoRoom);
    }
    pad(&mut frame);
    out.transmit(port, frame);
}

/// Makes an ARP request of an empty frame, to all unless `to` is known (RFC 1122, section 2.3.2.1);
/// false when there is no room.
fn arp_request<F: Frame>(
    links: &Links,
    link: &Link,
    query: AddressQuery<u32>,
    to: Option<MacAddr>,
    frame: &mut F,
) -> bool {
    if !frame.append(arp::LEN) {
        return false;
    }
    let request = Arp {
        operation: Operation::Request,
        sender_mac: link.mac,
        sender_ip: links.arp_source(query),
        target_mac: MacAddr::default(),
        target_ip: query.ip,
    };
    request.write(frame.bytes_mut());
    add_ethernet(frame, 0, to.unwrap_or(MacAddr::BROADCAST), link, ethernet::TYPE_ARP)
}

/// Makes a neighbour solicitation of an empty frame; false when there is no room.
fn solicitation<F: Frame>(
    links: &Links,
    link: &Link,
    query: AddressQuery<u128>,
    to: Option<MacAddr>,
    frame: &mut F,
) -> bool {
    if !frame.append(ipv6::HEADER_LEN + nd::LEN) {
        return false;
    }
    // At a known hardware address the host itself is asked (RFC 4861, section 7.3.3).
    let dst = if to.is_some() { query.ip } else { nd::solicited_node(query.ip) };
    let src = links.solicitation_source(query);
    let message = nd::write_header(frame.bytes_mut(), src, dst);
    let solicitation = Solicitation { target: query.ip, source_mac: Some(link.mac) };
    solicitation.write(src, dst, message);
    add_ethernet(frame, 0, to.unwrap_or(nd::group_mac(dst)), link, ethernet::TYPE_IPV6)
}
