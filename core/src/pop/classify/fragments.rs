//! Which frames a worker sets aside as fragments before the POP takes the burst.
//!
//! Only fragments that are for this port and to addresses that the POP serves are kept: traffic of
//! others cannot fill the reassembly table.

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::packet::Step;
use super::super::soft::SoftState;
use super::host;
use crate::fragment::{DatagramKey, Fragment};
use crate::frame::Frame;
use crate::net::PortIndex;
use crate::snapshot::{Destination, Snapshot};
use crate::verdict::DropReason;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv6::Ipv6;
use crate::wire::{get_u16, ipv4, ipv6};

/// What a frame is before it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// [`handle_burst`](crate::pop::Pop::handle_burst) is to have it: it is no fragment, or is
    /// dropped for another reason.
    Whole,
    /// A fragment of a datagram that is to be reassembled. Ethernet's padding behind it is cut off.
    Fragment(Fragment),
    /// A fragment that is not to be kept.
    Refused(DropReason),
}

/// Looks for a fragment in a frame that came in through `port`.
#[inline]
pub(in crate::pop) fn incoming<F: Frame>(
    soft: &SoftState,
    snapshot: &Snapshot,
    port: PortIndex,
    frame: &mut F,
) -> Arrived {
    if !may_be_fragment(frame.bytes()) {
        return Arrived::Whole;
    }
    read_fragment(soft, snapshot, port, frame)
}

#[inline(never)]
fn read_fragment<F: Frame>(
    soft: &SoftState,
    snapshot: &Snapshot,
    port: PortIndex,
    frame: &mut F,
) -> Arrived {
    let Some(ethernet) = Ethernet::parse(frame.bytes()) else { return Arrived::Whole };
    let is_for_us = soft.links.link(port).is_some_and(|link| {
        let vlan = ethernet.vlan.filter(|vlan| *vlan != 0);
        ethernet.dst == link.mac && ethernet.src.is_unicast() && vlan == link.vlan
    });
    if !is_for_us {
        return Arrived::Whole;
    }
    // The host of the agent reassembles what is for it.
    let to = frame.bytes().get(ethernet.header_len()..).and_then(Ipv6::parse_start);
    if to.is_some_and(|ip| matches!(snapshot.classify(ip.dst), Destination::Open(_))) {
        return Arrived::Whole;
    }
    let fragment = match Fragment::read(&ethernet, frame.bytes()) {
        None => return Arrived::Whole,
        Some(Err(reason)) => return Arrived::Refused(reason),
        Some(Ok(fragment)) => fragment,
    };
    if !serves(snapshot, &fragment) {
        return Arrived::Refused(DropReason::NotOurs);
    }
    // Of all that the POP takes, these are what comes larger than a link.
    let is_taken = match fragment.protocol {
        ipv4::PROTOCOL_TCP | ipv4::PROTOCOL_ICMP | ipv6::PROTOCOL_ICMPV6 => true,
        // In the tunnel of a target.
        ipv4::PROTOCOL_IPV4 | ipv6::PROTOCOL_IPV6 => snapshot.is_tunnel_end(fragment.key.dst),
        ipv4::PROTOCOL_UDP => {
            let DatagramKey { src, dst, .. } = fragment.key;
            snapshot.is_tunnel_end(dst) || snapshot.may_relay_udp(src, dst)
        }
        _ => false,
    };
    if !is_taken {
        return Arrived::Refused(DropReason::Protocol);
    }
    frame.truncate(fragment.l3 + fragment.headers_len + fragment.len);
    Arrived::Fragment(fragment)
}

/// Reads a fragment that is not to be reassembled. Those of an echo request are answered one by
/// one: the host that sent them reassembles the reply. Any other is refused, since only the first
/// has ports.
#[cold]
pub(super) fn read<F: Frame>(arrival: &Arrival<'_>, frame: &F) -> Result<Step, DropReason> {
    let bytes = frame.bytes();
    let ethernet = Ethernet::parse(bytes).ok_or(DropReason::Runt)?;
    match Fragment::read(&ethernet, bytes) {
        Some(Ok(fragment)) if may_be_of_echo(arrival, &fragment) => Ok(Step::EchoFragment),
        _ => Err(DropReason::Fragment),
    }
}

/// Whether a fragment is of an ICMP message that the POP would answer if it is an echo request.
fn may_be_of_echo(arrival: &Arrival<'_>, fragment: &Fragment) -> bool {
    let DatagramKey { src, dst, .. } = fragment.key;
    let (to, icmp) = match dst {
        IpAddr::V4(dst) => (arrival.meaning(dst.to_bits()), ipv4::PROTOCOL_ICMP),
        IpAddr::V6(dst) => (arrival.meaning(dst.to_bits()), ipv6::PROTOCOL_ICMPV6),
    };
    fragment.protocol == icmp && host::is_own(to) && host::may_ask(arrival, src)
}

/// Whether the POP does anything with datagrams of that source and destination.
fn serves(snapshot: &Snapshot, fragment: &Fragment) -> bool {
    let to = snapshot.classify_ip(fragment.key.dst);
    !to.is_other() || snapshot.is_passing_target(fragment.key.src)
}

/// A look at the few bytes that tell almost every frame apart from fragments.
#[inline]
fn may_be_fragment(frame: &[u8]) -> bool {
    let (ethertype, l3) = ethernet::payload(frame);
    match ethertype {
        ethernet::TYPE_IPV4 => ipv4::is_of_fragment(get_u16(frame, l3 + ipv4::field::FRAGMENT)),
        ethernet::TYPE_IPV6 => {
            let next = frame.get(l3 + ipv6::field::NEXT_HEADER).copied().unwrap_or_default();
            ipv6::is_extension(next)
        }
        _ => false,
    }
}
