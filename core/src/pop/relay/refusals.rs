//! Refusals: RSTs of targets without timestamps, which no mapping can attribute, and the clients
//! that they are for. The memo says for whom a RST is, here and from other POPs.

use super::super::egress::answer::{Answer, answer, answer_beside};
use super::super::egress::ship::ship;
use super::super::egress::{Egress, originate};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::place::{is_of_before, place};
use super::segment;
use crate::frame::Frame;
use crate::net::{IpEndpoint, Protocol, ServiceIndex};
use crate::relay::Relay;
use crate::relay::hints::{Hint, Shows};
use crate::relay::mapping::{EgressSide, Mapping, Tag};
use crate::relay::memo::{Place, Rst};
use crate::snapshot::{Snapshot, Tabled};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};
use crate::wire::tcp::{self, Tcp};

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
    {
        count(egress, packet, relay);
        let refusal = Refusal::of(packet, relay);
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

/// A target's RST that a socket need not have sent.
pub(in crate::pop) struct Refusal {
    place: Place,
    target: IpEndpoint,
    rst: Rst,
}

impl Refusal {
    /// The one in `packet`.
    pub fn of(packet: &Packet, relay: &Relay) -> Self {
        let rst = rst_of(&packet.segment.tcp);
        Refusal { place: place(relay, packet.dst()), target: packet.sender(relay), rst }
    }

    /// The client that it is for, if the memo knows: its SYN is the last one of the endpoint and
    /// went to this target, or the target owned its connection, or it is the answer to the last
    /// question about it.
    pub fn client<O>(&self, egress: &Egress<'_, O>, relay: &Relay) -> Option<IpEndpoint> {
        let Refusal { place, target, rst } = *self;
        let arrival = &egress.arrival;
        let memo = &arrival.soft.memo;
        let client_of = |tag| {
            let tag = relay.mode.is_tagged().then_some(Tag(tag));
            let side = EgressSide { egress: place.egress, tag };
            relay.inward(side, target).ok().map(|mapping| mapping.client)
        };
        let is_its_target = |tag| {
            let Some(client) = client_of(tag) else { return false };
            let chosen = relay.targets.choose(&client, arrival.unix);
            let index = relay.targets.index_of(&target);
            index.is_some_and(|index| chosen.candidates.has(index) || chosen.new == Some(index))
        };
        let tag = memo
            .refused(arrival.now, place, rst, is_its_target)
            .or_else(|| memo.told(arrival.now, place, target, rst))?;
        let client = client_of(tag)?;
        arrival.snapshot.is_client(&client).then_some(client)
    }
}

/// Counts a RST that no socket need have sent.
pub(super) fn count<O>(egress: &Egress<'_, O>, packet: &Packet, relay: &Relay) {
    let counters = egress.counters.service(relay.slot);
    counters.target(relay.targets.slot(packet.target).0).refusals.add(1);
}

/// The RST with this header.
fn rst_of(tcp: &Tcp) -> Rst {
    match tcp.has(tcp::ACK) {
        true => Rst::Acknowledging { seq: tcp.seq, ack: tcp.ack },
        false => Rst::Bare { seq: tcp.seq },
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
    let mapping = Mapping::new(*client, side, packet.sender(relay));
    egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    match segment::inward(packet, &frame, index, relay, client) {
        Ok(transmit) => {
            ship(egress, limits, packet, frame, &transmit);
        }
        Err(reason) => egress.drop(packet.service, reason, frame),
    }
}

/// A RST waits for the segment that it answers, and other POPs are told of it.
pub(in crate::pop) fn wait<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    frame: F,
    relay: &Relay,
    refusal: &Refusal,
) {
    let Refusal { place, target, rst } = *refusal;
    let arrival = egress.arrival;
    if arrival.soft.memo.remember_rst(arrival.now, place, target, rst) {
        let (vip, egress_side) = (relay.vip, place.egress);
        let shows = Shows::Refusal(rst);
        send_hint::<F, O>(egress, limits, Hint { vip, egress: egress_side, target, shows });
    }
    egress.absorb(AbsorbKind::PendingRst, frame);
}

/// Tells other POPs, if there are any.
pub(super) fn send_hint<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    hint: Hint,
) {
    if egress.arrival.snapshot.config.hints.is_none() {
        return;
    }
    let hints = &egress.counters.hints;
    match limits.admit_hint() && egress.out.hint(hint) {
        true => hints.sent.add(1),
        false => hints.withheld.add(1),
    }
}

/// Another POP's hint, as if what it tells of had arrived here.
pub(in crate::pop) fn hinted<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    relay: &Relay,
    hint: &Hint,
) {
    let (place, target, arrival) = (place(relay, hint.egress), hint.target, egress.arrival);
    let rst = match hint.shows {
        Shows::Refusal(rst) => rst,
        Shows::Owner(owned) => {
            if !is_of_before(egress, place, owned.tag, owned.ack) {
                arrival.soft.memo.remember_owner(arrival.now, place, target, owned);
            }
            return;
        }
    };
    let refusal = Refusal { place, target, rst };
    let Some(client) = refusal.client(egress, relay) else {
        arrival.soft.memo.remember_rst(arrival.now, place, target, rst);
        return;
    };
    let (seq, ack) = rst.numbers();
    let rst = Answer::rst(seq, ack);
    originate::<F, O>(egress, limits, relay.slot, (relay.vip, client), &rst, ReplyKind::HintedRst);
}

/// The relay that `hint` is about, where this POP has it.
pub(in crate::pop) fn hinted_relay<'a>(snapshot: &'a Snapshot, hint: &Hint) -> Option<&'a Relay> {
    let relay = match hint.vip {
        IpEndpoint::V4(vip) => relay_at(snapshot, vip.ip, vip.port),
        IpEndpoint::V6(vip) => relay_at(snapshot, vip.ip, vip.port),
    }?;
    let is_its_egress = match relay.egress {
        Some(net) => net.contains(hint.egress.ip()),
        None => {
            snapshot.is_client(&hint.egress)
                && hint.egress.ip().is_ipv4() == relay.vip.ip().is_ipv4()
        }
    };
    let is_its_target = relay.targets.index_of(&hint.target).is_some();
    (is_its_egress && is_its_target).then_some(relay)
}

fn relay_at<A: Tabled>(snapshot: &Snapshot, ip: A, port: u16) -> Option<&Relay> {
    snapshot.relay(snapshot.service_at(Protocol::Tcp, ip, port)?)
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
