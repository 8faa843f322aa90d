//! The passes over a burst: classify every frame, map all segments together, then end every frame
//! in the order of arrival.

use arrayvec::ArrayVec;

use super::arrival::Arrival;
use super::classify::classify;
use super::egress::ship::{Transform, Transmit, ship};
use super::egress::{Egress, port_unreachable};
use super::fast::{Fast, Hops, Prepared};
use super::lanes::{Lane, Lanes};
use super::limits::{Buckets, Limits};
use super::output::{Note, Output};
use super::packet::{Packet, Step};
use super::relay::ask::{Ask, ask};
use super::relay::owners::{Observed, observe};
use super::relay::{datagram, refusals, segment};
use super::{icmp, local, tunnel};
use crate::counters::Counters;
use crate::frame::Frame;
use crate::net::ServiceIndex;
use crate::relay::Relay;
use crate::relay::encapsulated::EncapsulatedMode;
use crate::relay::mapping::{BURST, EgressSide, Mapping};
use crate::relay::targets::{Candidates, TargetIndex};
use crate::verdict::DropReason;
use crate::wire::tcp;

/// Room for one burst, allocated at start.
#[derive(Debug)]
pub(super) struct Scratch {
    // One for each frame of the current burst; those behind them are of earlier bursts.
    packets: [Packet; BURST],
    lanes: Lanes,
    /// For frames that go the general way after all.
    late: Lanes,
    fast: Fast,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            packets: [Packet::NONE; BURST],
            lanes: Lanes::default(),
            late: Lanes::default(),
            fast: Fast::default(),
        }
    }
}

/// Handles the frames of a burst; `frames` is empty afterwards.
#[inline]
pub(super) fn handle<F: Frame, O: Output<F>>(
    arrival: Arrival<'_>,
    buckets: &mut Buckets,
    counters: &Counters,
    scratch: &mut Scratch,
    frames: &mut ArrayVec<F, BURST>,
    out: &mut O,
) {
    let mut limits = Limits::new(arrival, buckets, counters);
    let mut egress = Egress { arrival, counters, out };
    scratch.lanes.clear();
    // Who asks for an explanation hears of each segment by itself.
    if !O::EXPLAINS && arrival.snapshot.has_plans() {
        let mut prepared = Prepared::new();
        scratch.fast.prepare(&arrival, &limits, frames, &mut prepared);
        if prepared.taken != 0 {
            handle_mixed(&mut egress, &mut limits, scratch, frames, &mut prepared);
            return scratch.fast.count(counters, &prepared);
        }
    }
    let Scratch { packets, lanes, .. } = scratch;
    for (packet, frame) in packets.iter_mut().zip(frames.iter_mut()) {
        classify(&arrival, &mut limits, packet, frame, lanes);
    }
    lanes.map(arrival.snapshot, arrival.unix);
    for (packet, frame) in packets.iter().zip(frames.drain(..)) {
        finish(&mut egress, &mut limits, packet, frame, lanes);
    }
}

/// Handles the frames of a burst, of which some are prepared for the fast way. They end in the
/// order of arrival, as each may change what becomes of those behind it.
#[inline]
fn handle_mixed<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    scratch: &mut Scratch,
    frames: &mut ArrayVec<F, BURST>,
    prepared: &mut Prepared<'_>,
) {
    let taken = prepared.taken;
    let Scratch { packets, lanes, late, fast } = scratch;
    let (arrival, mut hops) = (egress.arrival, Hops::new());
    let mut fast_frames = u64::from(taken.count_ones());
    if taken.count_ones() as usize == frames.len() {
        egress.counters.fast_frames.add(fast_frames);
        return fast.finish_all(egress, limits, (prepared, &mut hops), frames);
    }
    let is_taken = |at: usize| taken >> at & 1 == 1;
    let others = packets.iter_mut().zip(frames.iter_mut()).enumerate();
    for (_, (packet, frame)) in others.filter(|(at, _)| !is_taken(*at)) {
        classify(&arrival, limits, packet, frame, lanes);
    }
    lanes.map(arrival.snapshot, arrival.unix);
    // Those that do not go the fast way may have taught the POP something.
    let mut has_learned = false;
    for (at, (packet, mut frame)) in packets.iter_mut().zip(frames.drain(..)).enumerate() {
        if !is_taken(at) {
            finish(egress, limits, packet, frame, lanes);
            has_learned = !arrival.soft.memo.knows_nothing();
            // Or of its neighbours.
            hops = Hops::new();
        } else if has_learned && fast.may_be_known(&arrival, at) {
            fast_frames -= 1;
            late.clear();
            classify(&arrival, limits, packet, &mut frame, late);
            late.map(arrival.snapshot, arrival.unix);
            finish(egress, limits, packet, frame, late);
        } else {
            fast.finish(egress, limits, (prepared, &mut hops), at, frame);
        }
    }
    egress.counters.fast_frames.add(fast_frames);
}

/// Sends on, answers, keeps or drops `frame`, as `packet` says.
#[inline]
fn finish<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
) {
    if O::EXPLAINS {
        let of = packet.service.and_then(|index| egress.arrival.snapshot.service(index));
        if let Some(service) = of {
            egress.note::<F>(Note::Service(service.name()));
        }
    }
    match packet.step {
        Step::Outward(lane) => outward(egress, limits, packet, frame, lanes, lane),
        Step::Inward(lane) => inward(egress, limits, packet, frame, lanes, lane),
        Step::DatagramOut(lane) => datagram::outward(egress, limits, packet, frame, lanes, lane),
        Step::DatagramIn(lane) => datagram::inward(egress, limits, packet, frame, lanes, lane),
        Step::TunnelData(lane) => tunnel::data(egress, limits, packet, frame, lanes, lane),
        Step::Tunnel => tunnel::segment(egress, limits, packet, frame),
        Step::OpenDown => tunnel::open::to_agent(egress, limits, packet, frame),
        // It never comes in as such.
        Step::OpenUp => egress.drop(packet.service, DropReason::NotOurs, frame),
        Step::Untagged => refusals::untagged(egress, limits, packet, frame),
        Step::IcmpError => icmp::error(egress, limits, packet, frame),
        Step::UnservedSyn => local::reset::unserved_syn(egress, limits, packet, frame),
        Step::Echo => local::echo::echo(egress, limits, packet, frame),
        Step::EchoFragment => local::echo::fragment(egress, limits, packet, frame),
        Step::Udp => port_unreachable(egress, limits, packet, frame),
        Step::Arp => local::arp::arp(egress, packet, frame),
        Step::NeighbourSolicitation => local::nd::solicitation(egress, packet, frame),
        Step::NeighbourAdvertisement => local::nd::advertisement(egress, packet, frame),
        Step::Drop(reason) => egress.drop(packet.service, reason, frame),
    }
}

/// A client's segment goes to its target, to each that may have its connection, or is answered with
/// a RST that waits for it.
#[inline]
fn outward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
    lane: Lane,
) {
    let Some((index, relay)) = packet.relay(egress.arrival.snapshot) else {
        return egress.drop(packet.service, DropReason::UnservedPort, frame);
    };
    let (side, chosen) = match lanes.outward_at(lane) {
        Ok(mapped) => mapped,
        Err(reason) => return egress.drop(packet.service, reason, frame),
    };
    let (now, memo) = (egress.arrival.now, &egress.arrival.soft.memo);
    let is_of_interest = packet.segment.tcp.has(tcp::SYN) || memo.may_know(now, side.egress);
    if O::EXPLAINS {
        let first = chosen.new.or(chosen.candidates.first());
        if let Some(target) = first.and_then(|first| relay.targets.at(first)) {
            let mapping = Mapping::new(packet.src(), *side, *target);
            egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
        }
    }
    let mut targets = chosen.candidates;
    let tunnel = relay.mode.tunnel();
    if tunnel.is_some_and(EncapsulatedMode::answers_pass_by) {
        // No copies, and none of a new connection to an old target.
        let is_syn = packet.segment.tcp.has(tcp::SYN);
        let old = targets.first().filter(|_| !is_syn);
        targets = chosen.new.or(old).map(Candidates::only).unwrap_or_default();
        if let Some(new) = chosen.new.filter(|_| is_syn) {
            egress.counters.service(relay.slot).target(relay.targets.slot(new).0).syns.add(1);
        }
    } else if is_of_interest {
        targets = match ask(egress, limits, packet, &frame, relay, (side, chosen)) {
            Ok(Ask::Send(targets)) => targets,
            Ok(Ask::Tell(rst)) => return refusals::answer_with_rst(egress, packet, frame, rst),
            Err(reason) => return egress.drop(packet.service, reason, frame),
        };
    }
    let Some(first) = targets.first() else {
        return egress.drop(packet.service, DropReason::NoTarget, frame);
    };
    let way = match tunnel {
        Some(tunnel) => Way::Tunnel(tunnel),
        None => Way::Mapped(side, tells_client::<F, O>(egress, packet, relay)),
    };
    if targets.len() > 1 {
        let others = targets.without(Candidates::only(first));
        copies(egress, limits, packet, &frame, (index, relay, way), others);
    }
    to_target(egress, limits, packet, frame, (index, relay, way), (first, false));
}

/// How a client's segment gets to the targets of its relay.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// From what stands for the client; with the client's address in it, if that is said.
    Mapped(&'a EgressSide, bool),
    /// Whole, in a tunnel.
    Tunnel(&'a EncapsulatedMode),
}

/// A client's segment, or a copy of it, goes to a target.
#[inline(always)]
fn to_target<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    (index, relay, way): (ServiceIndex, &Relay, Way<'_>),
    (target, is_copy): (TargetIndex, bool),
) {
    match way {
        Way::Mapped(side, tells_client) => {
            let mut made = segment::outward(packet, index, relay, side, (target, tells_client));
            send(egress, limits, packet, frame, (&mut made, is_copy));
        }
        Way::Tunnel(tunnel) => {
            let way = (index, relay, tunnel);
            into_tunnel(egress, limits, packet, frame, way, (target, is_copy));
        }
    }
}

/// The same in a tunnel, out of the way of the others.
#[inline(never)]
fn into_tunnel<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    (index, relay, tunnel): (ServiceIndex, &Relay, &EncapsulatedMode),
    (target, is_copy): (TargetIndex, bool),
) {
    let mut made = segment::into_tunnel(packet, index, (relay, tunnel), target);
    send(egress, limits, packet, frame, (&mut made, is_copy));
}

/// Sends `frame` on as it was `made` up, or drops it.
#[inline(always)]
fn send<F: Frame, O: Output<F>, R: Transform>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    (made, is_copy): (&mut Result<Transmit<R>, DropReason>, bool),
) {
    // Looked at where it is: a copy of what was just written would wait for the writes.
    match made {
        Ok(transmit) => {
            transmit.is_copy = is_copy;
            ship(egress, limits, packet, frame, transmit);
        }
        Err(reason) => egress.drop(packet.service, *reason, frame),
    }
}

/// Whether a client's segment tells the targets of `relay` the client's address.
#[inline(always)]
fn tells_client<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    relay: &Relay,
) -> bool {
    relay.client_address.is_some() && has_room_to_tell::<F, O>(egress, packet, relay)
}

/// The same for targets that want to know it.
#[inline(never)]
fn has_room_to_tell<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    relay: &Relay,
) -> bool {
    let min_mtu = egress.arrival.soft.links.min_mtu() as usize;
    let Some(fits) = segment::client_address_fits(packet, relay, min_mtu) else { return false };
    if !fits && packet.segment.tcp.has(tcp::SYN) {
        egress.counters.service(relay.slot).syns_without_address.add(1);
    }
    egress.note::<F>(Note::ClientAddress { is_told: fits });
    fits
}

/// A client's segment goes to further targets as well.
#[cold]
#[inline(never)]
fn copies<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: &F,
    relay: (ServiceIndex, &Relay, Way<'_>),
    targets: Candidates,
) {
    for target in targets.iter() {
        match egress.copy(frame) {
            Some(copy) => to_target(egress, limits, packet, copy, relay, (target, true)),
            None => egress.count_drop::<F>(packet.service, DropReason::NoBuffer),
        }
    }
}

/// A target's segment goes to its client, if its mapping is a client's.
#[inline]
fn inward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
    lane: Lane,
) {
    let arrival = egress.arrival;
    let Some((index, relay)) = packet.relay(arrival.snapshot) else {
        return egress.drop(packet.service, DropReason::UnknownTarget, frame);
    };
    let (client, chosen) = match lanes.inward_at(lane) {
        Ok(mapped) => mapped,
        Err(reason) => return egress.drop(packet.service, reason, frame),
    };
    // Where nothing stands for the client, its address was looked at as it came in.
    if relay.mode.has_stand_ins() && !arrival.snapshot.is_client(client) {
        return egress.drop(packet.service, DropReason::BadTag, frame);
    }
    if O::EXPLAINS {
        let side = segment::egress_side(packet, relay, packet.tcp_options(&frame));
        let mapping = Mapping::new(*client, side, packet.sender(relay));
        egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    }
    let is_of_interest = !chosen.candidates.is_empty()
        || packet.segment.tcp.has(tcp::RST)
        || arrival.soft.memo.may_know(arrival.now, packet.dst());
    if is_of_interest
        && let Observed::Refusal(refusal) =
            observe(egress, limits, packet, &frame, relay, (client, chosen))
    {
        return match packet.tcp_checksum_holds(&frame) {
            true => refusals::wait(egress, limits, frame, relay, &refusal),
            false => egress.drop(packet.service, DropReason::TcpChecksum, frame),
        };
    }
    let mut made = segment::inward(packet, &frame, index, relay, client);
    send(egress, limits, packet, frame, (&mut made, false));
}
