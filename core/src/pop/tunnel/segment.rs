//! Handshakes and keepalives, and which segments are datagrams.

use super::super::egress::Egress;
use super::super::egress::answer::{Answer, answer};
use super::super::egress::headers::verified;
use super::super::lanes::Lanes;
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::{Packet, Step};
use super::read::segment_of;
use super::{explain, open};
use crate::frame::Frame;
use crate::net::ServiceIndex;
use crate::snapshot::Tunnel;
use crate::time::UnixTime;
use crate::tunnel::forward::DataUp;
use crate::tunnel::handshake::{MSS_LEN, SynAck};
use crate::tunnel::keepalive::ReplySegment;
use crate::tunnel::{SegmentKind, TunnelSegment, handshake, keepalive};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::tcp::{ACK, PSH, SYN};

/// Reads a segment to the VIP of `tunnel`. A datagram takes a lane.
#[inline(never)]
pub(in crate::pop) fn read<F: Frame>(
    tunnel: &Tunnel,
    index: ServiceIndex,
    packet: &Packet,
    frame: &F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let segment = segment_of(packet, frame).ok_or(DropReason::TcpMalformed)?;
    // A POP acts on segments of tunnels itself, so damage must end here.
    if !verified(segment.src, segment.dst, packet.message(frame)) {
        return Err(DropReason::TcpChecksum);
    }
    if SegmentKind::of(&segment) != Ok(SegmentKind::Data) {
        return Ok(Step::Tunnel);
    }
    // A malformed datagram is read again, and explained, when it is judged.
    Ok(match DataUp::read(&tunnel.service, &segment) {
        Ok(datagram) => Step::TunnelData(lanes.datagram(index, datagram)),
        Err(_) => Step::Tunnel,
    })
}

/// The outcome of judging a segment, apart from its frame.
enum Outcome {
    SynAck(SynAck),
    Keepalive(ReplySegment),
    Taken,
}

/// A segment to a tunnel's VIP that is no datagram.
#[inline]
pub(in crate::pop) fn segment<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    let arrival = egress.arrival;
    let Some(tunnel) = packet.service.and_then(|index| arrival.snapshot.tunnel(index)) else {
        return egress.drop(packet.service, DropReason::UnservedPort, frame);
    };
    let Some(segment) = segment_of(packet, &frame) else {
        return egress.drop(packet.service, DropReason::TcpMalformed, frame);
    };
    if O::EXPLAINS {
        let out = &mut *egress.out;
        explain::segment(&tunnel.service, arrival.unix, &segment, |note| out.explain(note));
    }
    if SegmentKind::of(&segment) == Ok(SegmentKind::Open)
        && let Some(index) = packet.service
    {
        return open::from_agent(egress, limits, packet, frame, (index, tunnel));
    }
    match judge::<F, O>(egress, limits, tunnel, &segment) {
        Ok(Outcome::Taken) => egress.absorb(AbsorbKind::TunnelAck, frame),
        Ok(Outcome::Keepalive(reply)) => {
            let reply = Answer {
                seq: reply.seq,
                ack: reply.ack,
                flags: PSH | ACK,
                options: &[],
                payload: &reply.payload,
            };
            answer(egress, packet, frame, &reply, ReplyKind::Keepalive);
        }
        Ok(Outcome::SynAck(syn_ack)) => send_syn_ack(egress, packet, frame, &syn_ack),
        Err(reason) => egress.drop(packet.service, reason, frame),
    }
}

#[inline]
fn judge<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    tunnel: &Tunnel,
    segment: &TunnelSegment<'_>,
) -> Result<Outcome, DropReason> {
    let (service, now) = (&tunnel.service, egress.arrival.unix);
    match SegmentKind::of(segment)? {
        // A well-formed one has a lane, and is not judged here.
        SegmentKind::Data => match DataUp::read(service, segment) {
            Ok(_) => Err(DropReason::TunnelMalformed),
            Err(reason) => Err(reason),
        },
        // Judged with its frame.
        SegmentKind::Open => Err(DropReason::TunnelMalformed),
        SegmentKind::Empty => Ok(Outcome::Taken),
        SegmentKind::Keepalive => {
            let pop = egress.arrival.snapshot.config.pop.id;
            answer_keepalive(limits, tunnel, segment, now, pop).map(Outcome::Keepalive)
        }
        SegmentKind::Syn => {
            if !limits.admit_syn_ack(tunnel.slot, segment.src.ip()) {
                egress.withhold::<F>(ReplyKind::SynAck);
                return Err(DropReason::RateSynAck);
            }
            handshake::syn_ack(service, now, segment).map(Outcome::SynAck)
        }
    }
}

/// Only wrong MACs use up buckets, so that keepalives of other hosts, and from other ports behind
/// the same NAT, are unaffected.
fn answer_keepalive(
    limits: &mut Limits<'_>,
    tunnel: &Tunnel,
    segment: &TunnelSegment<'_>,
    now: UnixTime,
    pop: u8,
) -> Result<ReplySegment, DropReason> {
    let known = keepalive::check(&tunnel.service, now, segment)?;
    let buckets = limits.keepalive_buckets(tunnel.slot, segment.src);
    let buckets = buckets.ok_or(DropReason::RateKeepalive)?;
    let reply = keepalive::reply(&known, pop, segment);
    if reply.is_err() {
        limits.charge_wrong_mac(buckets);
    }
    reply
}

fn send_syn_ack<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    syn_ack: &SynAck,
) {
    let options = handshake::options(syn_ack.mss);
    let options = if syn_ack.window_scale { &options[..] } else { &options[..MSS_LEN] };
    let (seq, ack) = (syn_ack.seq, syn_ack.ack);
    let syn_ack = Answer { seq, ack, flags: SYN | ACK, options, payload: &[] };
    answer(egress, packet, frame, &syn_ack, ReplyKind::SynAck);
}
