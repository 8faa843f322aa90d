//! Reads UDP datagrams of relays, of either family by the same rules.

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::packet::{Packet, Step};
use crate::frame::{ChecksumVerdict, Frame};
use crate::net::{Protocol, ServiceIndex};
use crate::relay::mapping::EgressSide;
use crate::snapshot::{Destination, Tabled};
use crate::verdict::DropReason;
use crate::wire::Datagram;
use crate::wire::udp::Udp;

/// Reads the datagram from `src` to `dst`, whose destination means `to`. `None` where it is of no
/// relay.
#[cold]
#[inline(never)]
pub(super) fn read<F: Frame, A: Tabled>(
    arrival: &Arrival<'_>,
    (src, dst): (A, A),
    to: Destination,
    packet: &mut Packet,
    frame: &F,
    lanes: &mut Lanes,
) -> Option<Result<Step, DropReason>> {
    let snapshot = arrival.snapshot;
    if !snapshot.has_udp() {
        return None;
    }
    let Some(udp) = Udp::parse(packet.message(frame)) else {
        return (to == Destination::Vip).then_some(Err(DropReason::UdpMalformed));
    };
    match to {
        Destination::Vip => {
            let index = snapshot.service_at(Protocol::Udp, dst, udp.dst_port)?;
            packet.service = Some(index);
            Some(from_client(arrival, index, (packet, &udp), frame, lanes))
        }
        Destination::Pool(pool) => {
            let found = snapshot.service_behind(Protocol::Udp, pool, src, udp.src_port)?;
            packet.target = found.target;
            Some(from_target(arrival, found.service, (packet, &udp), frame, lanes))
        }
        Destination::Other { client_ok } => {
            let found = snapshot.transparent_service(Protocol::Udp, src, udp.src_port)?;
            (packet.service, packet.target) = (Some(found.service), found.target);
            if !client_ok || udp.dst_port == 0 {
                return Some(Err(DropReason::NotOurs));
            }
            Some(from_target(arrival, found.service, (packet, &udp), frame, lanes))
        }
        Destination::Own(_) | Destination::Open(_) => None,
    }
}

/// A datagram to the VIP of the relay `index`.
fn from_client<F: Frame>(
    arrival: &Arrival<'_>,
    index: ServiceIndex,
    (packet, udp): (&mut Packet, &Udp),
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    if !arrival.takes_clients() {
        return Err(DropReason::WrongSide);
    }
    take(packet, frame, udp)?;
    let client = packet.src();
    if !arrival.snapshot.is_client(&client) {
        return Err(DropReason::SourceNotAllowed);
    }
    Ok(Step::DatagramOut(lanes.outward(index, client)))
}

/// A datagram from a target of the relay `index`.
pub(super) fn from_target<F: Frame>(
    arrival: &Arrival<'_>,
    index: ServiceIndex,
    (packet, udp): (&mut Packet, &Udp),
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    if !arrival.takes_targets() {
        return Err(DropReason::WrongSide);
    }
    packet.service = Some(index);
    take(packet, frame, udp)?;
    let side = EgressSide { egress: packet.dst(), tag: None };
    Ok(Step::DatagramIn(lanes.inward(index, side)))
}

/// Takes the header of `packet`, whose checksum the port did not find wrong. Over IPv4 it may have
/// none.
fn take<F: Frame>(packet: &mut Packet, frame: &F, udp: &Udp) -> Result<(), DropReason> {
    packet.segment.tcp = udp.in_place_of_tcp();
    let is_wrong = match (udp.checksum, packet.segment.ip) {
        (0, Datagram::V4(_)) => false,
        (0, Datagram::V6(_)) => true,
        _ => frame.tcp_checksum() == ChecksumVerdict::Bad,
    };
    if is_wrong { Err(DropReason::UdpChecksum) } else { Ok(()) }
}
