//! Reads TCP segments, of either family by the same rules.

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::limits::Limits;
use super::super::packet::{Packet, Step};
use super::super::relay::segment;
use super::super::tunnel;
use crate::frame::{ChecksumVerdict, Frame};
use crate::net::{Protocol, ServiceIndex};
use crate::relay::rewrite::options;
use crate::snapshot::{Destination, Service, Tabled};
use crate::verdict::DropReason;
use crate::wire::tcp::{self, Tcp};

/// Reads the segment from `src` to `dst`, whose destination means `to`.
#[inline(always)]
pub(super) fn read<F: Frame, A: Tabled>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    (src, dst): (A, A),
    to: Destination,
    packet: &mut Packet,
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    parse(packet, frame)?;
    let tcp = packet.segment.tcp;
    match to {
        Destination::Vip => {
            if !arrival.takes_clients() {
                return Err(DropReason::WrongSide);
            }
            packet.service = arrival.snapshot.service_at(Protocol::Tcp, dst, tcp.dst_port);
            from_client(arrival, limits, packet, frame, lanes)
        }
        Destination::Pool(pool) => {
            let of = arrival.snapshot.service_behind(Protocol::Tcp, pool, src, tcp.src_port);
            let found = of.ok_or(DropReason::UnknownTarget)?;
            packet.target = found.target;
            from_target(arrival, found.service, packet, frame, lanes)
        }
        // To nobody here: it passes if it comes from the target of a transparent service.
        Destination::Other { client_ok } => {
            let of = arrival.snapshot.transparent_service(Protocol::Tcp, src, tcp.src_port);
            packet.service = of.map(|found| found.service);
            let found = of.ok_or(DropReason::NotOurs)?;
            packet.target = found.target;
            if !client_ok || tcp.dst_port == 0 {
                return Err(DropReason::NotOurs);
            }
            from_target(arrival, found.service, packet, frame, lanes)
        }
        Destination::Own(_) | Destination::Open(_) => Err(DropReason::NotOurs),
    }
}

/// Reads the TCP header of `packet`, and its options.
#[inline(always)]
pub(super) fn parse<F: Frame>(packet: &mut Packet, frame: &F) -> Result<(), DropReason> {
    let segment = packet.message(frame);
    let tcp = Tcp::parse(segment).ok_or(DropReason::TcpMalformed)?;
    packet.segment.tcp = tcp;
    if frame.tcp_checksum() == ChecksumVerdict::Bad {
        return Err(DropReason::TcpChecksum);
    }
    // Also where nobody needs timestamps, the lengths of the options must hold.
    let options = segment.get(tcp::HEADER_LEN..tcp.header_len).unwrap_or_default();
    let found = options::read(options, tcp.has(tcp::SYN));
    packet.options = found.map_err(|_| DropReason::TcpOptions)?;
    if flags_contradict(tcp.flags) {
        return Err(DropReason::TcpFlags);
    }
    Ok(())
}

/// A segment to a VIP.
#[inline(always)]
fn from_client<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    packet: &mut Packet,
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let tcp = packet.segment.tcp;
    let client = packet.src();
    if !arrival.snapshot.is_client(&client) {
        return Err(DropReason::SourceNotAllowed);
    }
    let Some(index) = packet.service else {
        let syn = tcp.has(tcp::SYN) && !tcp.has(tcp::ACK);
        return if syn { Ok(Step::UnservedSyn) } else { Err(DropReason::UnservedPort) };
    };
    if tcp.has(tcp::SYN | tcp::ACK) {
        return Err(DropReason::SynAckFromClient);
    }
    let relay = match arrival.snapshot.service(index).ok_or(DropReason::UnservedPort)? {
        Service::Relay(relay) => relay,
        Service::Tunnel(tunnel) => return tunnel::read(tunnel, index, packet, frame, lanes),
    };
    if tcp.has(tcp::SYN) {
        limits.admit_syn(relay.slot, client.ip())?;
    }
    Ok(Step::Outward(lanes.outward(index, client)))
}

/// A segment from a target of the relay `index`.
#[inline(always)]
pub(super) fn from_target<F: Frame>(
    arrival: &Arrival<'_>,
    index: ServiceIndex,
    packet: &mut Packet,
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let tcp = packet.segment.tcp;
    if !arrival.takes_targets() {
        return Err(DropReason::WrongSide);
    }
    packet.service = Some(index);
    // A target opens no connections.
    if tcp.has(tcp::SYN) && !tcp.has(tcp::ACK) {
        return Err(DropReason::SynFromTarget);
    }
    let relay = arrival.snapshot.relay(index).ok_or(DropReason::UnknownTarget)?;
    let side = segment::egress_side(packet, relay, packet.tcp_options(frame));
    if relay.mode.is_tagged() && side.tag.is_none() {
        return Ok(Step::Untagged);
    }
    Ok(Step::Inward(lanes.inward(index, side)))
}

/// Flags that no segment of a connection has (RFC 9293, section 3.10.7.4).
#[inline]
fn flags_contradict(flags: u8) -> bool {
    let several = (flags & (tcp::SYN | tcp::FIN | tcp::RST)).count_ones() > 1;
    several || flags & (tcp::SYN | tcp::RST | tcp::ACK) == 0
}
