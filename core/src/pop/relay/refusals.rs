//! Segments of targets that no mapping can attribute, since they carry no timestamps: RSTs, and
//! what a target without timestamps sends.

use super::super::egress::Egress;
use super::super::egress::answer::{Answer, answer, answer_beside};
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::net::{IpEndpoint, ServiceSlot};
use crate::relay::Relay;
use crate::relay::mapping::EgressSide;
use crate::relay::refusals::{self, Place, Rst};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::tcp;

/// A target's segment without timestamps has no tag. A RST waits for the segment that it answers; a
/// SYN-ACK shows that the target does not use timestamps, and is refused.
pub(in crate::pop) fn untagged<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    if !packet.tcp_checksum_holds(&frame) {
        return egress.drop(packet.service, DropReason::TcpChecksum, frame);
    }
    let (arrival, tcp) = (egress.arrival, packet.segment.tcp);
    let relay = packet.relay(arrival.snapshot);
    let place = relay.and_then(|(_, relay)| place(relay.slot, packet.dst()));
    if tcp.has(tcp::RST)
        && let Some(place) = place
    {
        let rst = match tcp.has(tcp::ACK) {
            true => Rst::Acknowledging { seq: tcp.seq, ack: tcp.ack },
            false => Rst::Bare { seq: tcp.seq },
        };
        arrival.soft.pending_rsts.keep(arrival.now, place, rst);
        return egress.absorb(AbsorbKind::PendingRst, frame);
    }
    egress.count_drop::<F>(packet.service, DropReason::TargetWithoutTimestamps);
    if !tcp.has(tcp::SYN | tcp::ACK) {
        return;
    }
    let kind = ReplyKind::NoTimestamps;
    if !limits.admit_reply(kind) {
        return egress.withhold::<F>(kind);
    }
    answer_beside(egress, packet, frame, &Answer::rst(tcp.ack, None), kind);
}

/// A target's RST that a client's segment should be answered with. A damaged segment is not
/// answered, and the RST goes on waiting: the segment's numbers cannot be believed.
pub(in crate::pop) fn pending_rst<F: Frame, O>(
    egress: &Egress<'_, O>,
    packet: &Packet,
    frame: &F,
    relay: &Relay,
    side: &EgressSide,
) -> Option<Rst> {
    let tcp = packet.segment.tcp;
    if side.tag.is_none() || tcp.has(tcp::RST) {
        return None;
    }
    let arrival = &egress.arrival;
    let place = place(relay.slot, side.egress)?;
    let ack = tcp.has(tcp::ACK).then_some(tcp.ack);
    let end = tcp.end(packet.segment.ip.payload_len());
    let segment = refusals::Segment { ack, end };
    let rst = arrival.soft.pending_rsts.take(arrival.now, place, segment)?;
    if !packet.tcp_checksum_holds(frame) {
        arrival.soft.pending_rsts.keep(arrival.now, place, rst);
        return None;
    }
    Some(rst)
}

/// A client's segment is answered with the RST that its target sent without timestamps.
pub(in crate::pop) fn answer_with_rst<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    rst: Rst,
) {
    let (seq, ack) = match rst {
        Rst::Bare { seq } => (seq, None),
        Rst::Acknowledging { seq, ack } => (seq, Some(ack)),
    };
    answer(egress, packet, frame, &Answer::rst(seq, ack), ReplyKind::PendingRst);
}

/// Where a RST waits that was sent to `egress`; `None` for an address of IPv6, which has no tags.
fn place(slot: ServiceSlot, egress: IpEndpoint) -> Option<Place> {
    let at = egress.of_family::<u32>()?;
    Some(Place { service: slot.0, address: at.ip, port: at.port })
}
