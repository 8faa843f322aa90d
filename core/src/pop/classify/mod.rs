//! Reads a frame and decides what it is, before anything is done about it.
//!
//! Nothing here changes a frame, but for cutting off Ethernet's padding and taking out the fragment
//! header of an atomic fragment.

mod decapsulate;
mod fragments;
mod headers;
mod host;
mod icmp;
mod ipv4;
mod ipv6;
mod tcp;
mod udp;

pub use fragments::Arrived;
pub(super) use fragments::incoming;

use super::arrival::Arrival;
use super::lanes::Lanes;
use super::limits::Limits;
use super::packet::{Packet, Step};
use crate::config::PortConfig;
use crate::frame::Frame;
use crate::net::Ipv6Net;
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::{MacAddr, nd};

/// Reads `frame` into `packet`, cuts off what follows its datagram, and takes a lane if it is to be
/// mapped. `packet` may hold another frame's contents before.
#[inline]
pub(super) fn classify<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) {
    packet.service = None;
    packet.step = match read(arrival, limits, packet, frame, lanes) {
        Ok(step) => step,
        Err(reason) => Step::Drop(reason),
    };
}

#[inline]
fn read<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let ethernet = Ethernet::parse(frame.bytes()).ok_or(DropReason::Runt)?;
    check_link(arrival, &ethernet)?;
    packet.from = ethernet.src;
    packet.segment.l3 = ethernet.header_len();
    match ethernet.ethertype {
        ethernet::TYPE_IPV4 => ipv4::read(arrival, limits, packet, frame, lanes),
        ethernet::TYPE_ARP => Ok(Step::Arp),
        ethernet::TYPE_IPV6 => ipv6::read(arrival, limits, &ethernet, packet, frame, lanes),
        _ => Err(DropReason::Ethertype),
    }
}

/// Whether the frame is for this port, and tagged as the port is.
#[inline]
fn check_link(arrival: &Arrival<'_>, ethernet: &Ethernet) -> Result<(), DropReason> {
    let link = arrival.link;
    if ethernet.dst != link.mac && !is_for_group(arrival, ethernet) {
        return Err(not_for_port(ethernet.dst));
    }
    // A tag with VLAN 0 carries a priority only (802.1Q, 9.6).
    let vlan = ethernet.vlan.filter(|vlan| *vlan != 0);
    if vlan != link.vlan {
        return Err(DropReason::WrongVlan);
    }
    if !ethernet.src.is_unicast() {
        return Err(DropReason::WrongMac);
    }
    Ok(())
}

/// Why a frame to `dst` is not for the port.
#[cold]
fn not_for_port(dst: MacAddr) -> DropReason {
    if dst.is_link_control() {
        DropReason::LinkControl
    } else if dst.is_group() {
        DropReason::OtherGroup
    } else {
        DropReason::WrongMac
    }
}

/// Whether the frame is for a group of hosts that this one is in.
fn is_for_group(arrival: &Arrival<'_>, ethernet: &Ethernet) -> bool {
    match ethernet.ethertype {
        ethernet::TYPE_ARP => ethernet.dst == MacAddr::BROADCAST,
        ethernet::TYPE_IPV6 => is_own_group(arrival, ethernet.dst),
        _ => false,
    }
}

/// Whether a frame to `mac` is for a group that one of the port's IPv6 addresses is in (RFC 4861,
/// section 7.2.1).
#[cold]
fn is_own_group(arrival: &Arrival<'_>, mac: MacAddr) -> bool {
    let own = |net: Ipv6Net| nd::group_mac(nd::solicited_node(net.address));
    let mut nets = PortConfig::nets::<u128>(arrival.config).peekable();
    let all_nodes = nets.peek().is_some() && mac == nd::group_mac(nd::ALL_NODES);
    all_nodes || nets.any(|net| own(net) == mac)
}
