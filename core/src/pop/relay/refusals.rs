//! Refusals: segments of targets without timestamps, which no mapping can attribute, and the
//! clients that they are for. The memo says for whom a RST is, here and from other POPs.

use super::super::egress::answer::{Answer, answer, answer_beside};
use super::super::egress::ship::ship;
use super::super::egress::{Egress, originate};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::segment;
use crate::frame::Frame;
use crate::net::{Endpoint, IpEndpoint, ServiceIndex, ServiceSlot};
use crate::relay::Relay;
use crate::relay::hints::Hint;
use crate::relay::mapping::{EgressSide, Mapping};
use crate::relay::memo::{Place, Rst, Segment, Syn};
use crate::snapshot::Snapshot;
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::tcp;

/// A target's segment without timestamps has no tag. A RST that answers the last SYN of its egress
/// endpoint goes to the client; another one waits for the segment that it answers, here and at
/// other POPs. A SYN-ACK shows that the target does not use timestamps, and is refused.
pub(in crate::pop) fn untagged<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    if !packet.tcp_checksum_holds(&frame) {
        return egress.drop(packet.service, DropReason::TcpChecksum, frame);
    }
    let tcp = packet.segment.tcp;
    if tcp.has(tcp::RST)
        && let Some((index, relay)) = packet.relay(egress.arrival.snapshot)
        && let Some(refusal) = Refusal::of(packet, relay)
    {
        return match refusal.client(egress, relay) {
            Some(client) => tell(egress, limits, packet, frame, (index, relay), &client),
            None => wait(egress, limits, frame, relay, &refusal),
        };
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

/// A target's RST without timestamps.
struct Refusal {
    place: Place,
    egress: Endpoint,
    target: Endpoint,
    rst: Rst,
}

impl Refusal {
    /// The one in `packet`; `None` for IPv6, which has no tags.
    fn of(packet: &Packet, relay: &Relay) -> Option<Self> {
        let tcp = packet.segment.tcp;
        let rst = match tcp.has(tcp::ACK) {
            true => Rst::Acknowledging { seq: tcp.seq, ack: tcp.ack },
            false => Rst::Bare { seq: tcp.seq },
        };
        let (IpEndpoint::V4(egress), IpEndpoint::V4(target)) = (packet.dst(), packet.src()) else {
            return None;
        };
        Some(Refusal { place: place(relay.slot, egress), egress, target, rst })
    }

    /// The client whose SYN it answers, if the SYN went to this target.
    fn client<O>(&self, egress: &Egress<'_, O>, relay: &Relay) -> Option<IpEndpoint> {
        let arrival = &egress.arrival;
        let client = arrival.soft.memo.refused(arrival.now, self.place, self.rst)?.into();
        let is_its_target = relay.targets.target(&client) == Some(self.target.into());
        (is_its_target && arrival.snapshot.is_client(&client)).then_some(client)
    }
}

/// A RST goes to the client whose SYN it answers, as any segment of the target.
fn tell<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    (index, relay): (ServiceIndex, &Relay),
    client: &IpEndpoint,
) {
    let side = EgressSide { egress: packet.dst(), tag: None };
    egress.note::<F>(Note::Mapped(relay.mode.name(), Mapping::new(*client, side, packet.src())));
    match segment::inward(packet, &frame, index, relay, client) {
        Ok(transmit) => {
            ship(egress, limits, packet, frame, &transmit);
        }
        Err(reason) => egress.drop(packet.service, reason, frame),
    }
}

/// A RST waits for the segment that it answers, and other POPs are told of it.
fn wait<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    frame: F,
    relay: &Relay,
    refusal: &Refusal,
) {
    let Refusal { place, egress: endpoint, target, rst } = *refusal;
    let arrival = egress.arrival;
    let is_news = arrival.soft.memo.remember_rst(arrival.now, place, target, rst);
    if is_news
        && arrival.snapshot.config.hints.is_some()
        && let IpEndpoint::V4(vip) = relay.vip
    {
        let hint = Hint { vip, egress: endpoint, target, rst };
        let hints = &egress.counters.hints;
        match limits.admit_hint() && egress.out.hint(hint) {
            true => hints.sent.add(1),
            false => hints.withheld.add(1),
        }
    }
    egress.absorb(AbsorbKind::PendingRst, frame);
}

/// Another POP's hint, as if the RST that it tells of had arrived here.
pub(in crate::pop) fn hinted<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    relay: &Relay,
    hint: &Hint,
) {
    let Hint { egress: endpoint, target, rst, .. } = *hint;
    let refusal = Refusal { place: place(relay.slot, endpoint), egress: endpoint, target, rst };
    let arrival = egress.arrival;
    let Some(client) = refusal.client(egress, relay) else {
        arrival.soft.memo.remember_rst(arrival.now, refusal.place, target, rst);
        return;
    };
    let (seq, ack) = rst.numbers();
    let rst = Answer::rst(seq, ack);
    originate::<F, O>(egress, limits, relay.slot, (relay.vip, client), &rst, ReplyKind::HintedRst);
}

/// The relay that `hint` is about, where this POP has it.
pub(in crate::pop) fn hinted_relay<'a>(snapshot: &'a Snapshot, hint: &Hint) -> Option<&'a Relay> {
    let relay = snapshot.relay(snapshot.service_at(hint.vip.ip, hint.vip.port)?)?;
    let is_its_egress = relay.mode.is_tagged()
        && relay.egress.is_some_and(|net| net.contains(IpEndpoint::V4(hint.egress).ip()));
    let is_its_target = relay.targets.all().contains(&hint.target.into());
    (is_its_egress && is_its_target).then_some(relay)
}

/// What a client's segment means to the memo: a target's RST that it should be answered with. A SYN
/// is remembered, and RSTs to connections before it are forgotten. A damaged segment is not
/// answered, and the RST goes on waiting: the segment's numbers cannot be believed.
#[inline(never)]
pub(in crate::pop) fn look<F: Frame, O>(
    egress: &Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: &F,
    relay: &Relay,
    (side, target): (&EgressSide, &IpEndpoint),
) -> Option<Rst> {
    let tcp = packet.segment.tcp;
    let (IpEndpoint::V4(at), IpEndpoint::V4(target), Some(_)) = (side.egress, *target, side.tag)
    else {
        return None;
    };
    if tcp.has(tcp::RST) {
        return None;
    }
    let (arrival, place) = (&egress.arrival, place(relay.slot, at));
    let memo = &arrival.soft.memo;
    let end = tcp.end(packet.segment.ip.payload_len());
    let ack = tcp.has(tcp::ACK).then_some(tcp.ack);
    if !memo.has_no_rsts() {
        let segment = Segment { ack, end, target };
        if let Some(rst) = memo.take_rst(arrival.now, place, segment) {
            if packet.tcp_checksum_holds(frame) {
                return Some(rst);
            }
            memo.remember_rst(arrival.now, place, target, rst);
        }
    }
    if tcp.has(tcp::SYN)
        && let IpEndpoint::V4(client) = packet.src()
    {
        memo.forget_rsts(arrival.now, place);
        if limits.admit_remembered_syn(packet.src().ip()) {
            memo.remember_syn(arrival.now, place, Syn { client, end });
        } else {
            // What is remembered is the last SYN or none.
            memo.forget_syn(arrival.now, place);
        }
    }
    None
}

/// A client's segment is answered with the RST that its target sent without timestamps.
pub(in crate::pop) fn answer_with_rst<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    packet: &Packet,
    frame: F,
    rst: Rst,
) {
    let (seq, ack) = rst.numbers();
    answer(egress, packet, frame, &Answer::rst(seq, ack), ReplyKind::PendingRst);
}

fn place(slot: ServiceSlot, at: Endpoint) -> Place {
    Place { service: slot.0, address: at.ip, port: at.port }
}
