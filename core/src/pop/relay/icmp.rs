//! ICMP errors about segments of relays: each goes, in the family of the endpoint that sent the
//! segment, to that endpoint, with its own segment quoted.
//!
//! An error is passed on only about a segment that a POP can have sent: the quote's client can be a
//! client's address, and its target is the one that all POPs choose for that client.

use std::net::IpAddr;

use super::super::egress::Egress;
use super::super::egress::ship::{Transform, Transmit, ship};
use super::super::limits::Limits;
use super::super::output::{Note, Output};
use super::super::packet::Packet;
use super::place::place;
use crate::frame::Frame;
use crate::net::{Endpoint, Family, IpEndpoint, IpEndpoints, Protocol, ServiceIndex, Towards};
use crate::relay::Relay;
use crate::relay::encapsulated::EncapsulatedMode;
use crate::relay::icmp::{ErrorRewrite, Quote, Seen, raised_mtu};
use crate::relay::mapping::{EgressSide, Mapping, Tag};
use crate::relay::rewrite::options::{INSERTED_LEN, OptionsRule, TimestampsOption};
use crate::relay::rewrite::{IpRewrite, Timestamps};
use crate::relay::targets::{Candidates, Chosen, TargetIndex};
use crate::snapshot::{Destination, Snapshot, Tabled, TargetPlace};
use crate::verdict::{AbsorbKind, DropReason};
use crate::wire::ipv6;

/// An ICMP error in hand.
pub(in crate::pop) struct QuotingError<'a> {
    pub packet: &'a Packet,
    pub quote: Quote,
    /// The MTU that it announces.
    pub mtu: Option<u32>,
    /// Whether it says that the segment's destination cannot be reached.
    pub is_unreachable: bool,
    /// What its destination means.
    pub to: Destination,
}

impl QuotingError<'_> {
    /// The reason for an error that concerns no relay: to the address of a client, it may be
    /// anybody's.
    pub fn stray(&self, reason: DropReason) -> DropReason {
        if self.to.is_other() { DropReason::NotOurs } else { reason }
    }

    /// The service that the quoted segment is of. To the VIP, its source is the VIP; else its
    /// destination is a target.
    pub fn service(&self, snapshot: &Snapshot) -> Option<ServiceIndex> {
        // Of what came in a tunnel it is known.
        if self.packet.service.is_some() {
            return self.packet.service;
        }
        match (self.quote.src(), self.quote.dst()) {
            (IpEndpoint::V4(src), IpEndpoint::V4(dst)) => self.find(snapshot, src, dst),
            (IpEndpoint::V6(src), IpEndpoint::V6(dst)) => self.find(snapshot, src, dst),
            // Both are of the family of their header.
            _ => None,
        }
    }

    fn find<A: Tabled>(
        &self,
        snapshot: &Snapshot,
        src: Endpoint<A>,
        dst: Endpoint<A>,
    ) -> Option<ServiceIndex> {
        let of = self.quote.protocol();
        let service = |found: Option<TargetPlace>| found.map(|found| found.service);
        match self.to {
            Destination::Vip => snapshot.service_at(of, src.ip, src.port),
            Destination::Pool(pool) => service(snapshot.service_behind(of, pool, dst.ip, dst.port)),
            _ => service(snapshot.transparent_service(of, dst.ip, dst.port)),
        }
    }
}

/// Maps an ICMP error about a segment of `relay` and sends it on.
#[cold]
#[inline(never)]
pub(in crate::pop) fn relay_error<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    error: &QuotingError<'_>,
    frame: F,
    service: ServiceIndex,
    relay: &Relay,
) {
    match error.to {
        Destination::Vip => to_targets(egress, limits, error, frame, service, relay),
        _ => to_client(egress, limits, error, frame, service, relay),
    }
}

fn to_client<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    error: &QuotingError<'_>,
    frame: F,
    service: ServiceIndex,
    relay: &Relay,
) {
    let (mapping, chosen, to) = match about_outward::<F, O>(egress, error, relay) {
        Ok(found) => found,
        Err(reason) => return egress.drop(Some(service), reason, frame),
    };
    let quote = &error.quote;
    if error.is_unreachable && remember_unreachable(egress, relay, &mapping, chosen, quote) {
        return egress.absorb(AbsorbKind::Unreachable, frame);
    }
    let transmit = transmit(error, (service, relay), Towards::Clients, &mapping, to);
    ship(egress, limits, error.packet, frame, &transmit);
}

/// Whether that a target cannot be reached is kept from the client: of one of several, it says as
/// little as a RST. Then it is remembered.
pub(super) fn remember_unreachable<O>(
    egress: &Egress<'_, O>,
    relay: &Relay,
    mapping: &Mapping,
    chosen: Chosen,
    quote: &Quote,
) -> bool {
    // UDP went to no other target.
    if chosen.candidates.len() <= 1 || quote.is_syn() || quote.protocol() == Protocol::Udp {
        return false;
    }
    if let Some(ack) = quote.ack() {
        let (now, place) = (egress.arrival.now, place(relay, mapping.egress));
        egress.arrival.soft.memo.remember_unreachable(now, place, mapping.target, ack);
    }
    true
}

/// An error that goes on, about a segment with that mapping.
fn transmit<'a>(
    error: &'a QuotingError<'_>,
    (service, relay): (ServiceIndex, &'a Relay),
    towards: Towards,
    mapping: &Mapping,
    to: ErrorRewrite,
) -> Transmit<QuoteRewrite<'a>> {
    let destination = to.destination();
    let client = mapping.client.ip();
    let rewrite = QuoteRewrite { to, quote: &error.quote, client, tunnel: None };
    let slot = relay.slot;
    Transmit { service, slot, towards, destination, is_copy: false, target: None, rewrite }
}

/// Which of several targets sent the segment is not known: each is told.
fn to_targets<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    error: &QuotingError<'_>,
    frame: F,
    service: ServiceIndex,
    relay: &Relay,
) {
    let targets = match candidates_of(egress, error, relay) {
        Ok(targets) => targets,
        Err(reason) => return egress.drop(Some(service), reason, frame),
    };
    let first = targets.first();
    for target in targets.iter().filter(|target| Some(*target) != first) {
        match egress.copy(&frame) {
            Some(copy) => to_target(egress, limits, error, copy, service, relay, (target, true)),
            None => egress.count_drop::<F>(Some(service), DropReason::NoBuffer),
        }
    }
    match first {
        Some(target) => to_target(egress, limits, error, frame, service, relay, (target, false)),
        None => egress.drop(Some(service), DropReason::NoTarget, frame),
    }
}

fn to_target<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    error: &QuotingError<'_>,
    frame: F,
    service: ServiceIndex,
    relay: &Relay,
    (target, is_copy): (TargetIndex, bool),
) {
    let (mapping, to) = match about_inward::<F, O>(egress, error, relay, target) {
        Ok(found) => found,
        Err(reason) => return egress.drop(Some(service), reason, frame),
    };
    let mut transmit = transmit(error, (service, relay), Towards::Targets, &mapping, to);
    if let Some(tunnel) = relay.mode.tunnel() {
        transmit.destination = mapping.target.ip();
        transmit.rewrite.tunnel = Some((tunnel, mapping));
    }
    transmit.is_copy = is_copy;
    ship(egress, limits, error.packet, frame, &transmit);
}

/// About a segment on its way to a target: for the client.
fn about_outward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    error: &QuotingError<'_>,
    relay: &Relay,
) -> Result<(Mapping, Chosen, ErrorRewrite), DropReason> {
    let QuotingError { quote, mtu, .. } = error;
    let arrival = egress.arrival;
    let target = match relay.mode.tunnel() {
        Some(_) => error.packet.sender(relay),
        None => quote.dst(),
    };
    if !arrival.takes_targets() {
        return Err(DropReason::WrongSide);
    }
    let timestamps = quote.timestamps().filter(|_| relay.mode.is_tagged());
    if relay.mode.is_tagged() && timestamps.is_none() {
        return Err(DropReason::IcmpQuote);
    }
    let tag = timestamps.map(|(value, _)| Tag::of_timestamp(value));
    let mapping = relay.inward(EgressSide { egress: quote.src(), tag }, target)?;
    let client = mapping.client;
    if !arrival.snapshot.is_client(&client) {
        return Err(error.stray(DropReason::BadTag));
    }
    egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    let chosen = relay.targets.choose(&client, arrival.unix);
    let index = relay.targets.index_of(&target);
    if !index.is_some_and(|index| chosen.candidates.has(index) || chosen.new == Some(index)) {
        return Err(error.stray(DropReason::IcmpQuote));
    }
    // A segment that echoes nothing may be one into which the POP inserted its timestamps.
    let (timestamps, less) = match (quote.seen(), timestamps) {
        (Seen::Timestamps(_), Some((_, 0))) => (Timestamps::Strip, INSERTED_LEN as u32),
        (Seen::Timestamps(at), Some(_)) => (Timestamps::SetValue(at, 0), 0),
        _ => (Timestamps::Keep, 0),
    };
    let mtu = mtu.map(|mtu| {
        let mtu = announced(egress, relay, quote, mtu, (Towards::Clients, client.ip()));
        match client {
            IpEndpoint::V4(_) => mtu.saturating_sub(less),
            // A host ignores less (RFC 8201, section 4).
            IpEndpoint::V6(_) => mtu.saturating_sub(less).max(ipv6::MTU_MIN as u32),
        }
    });
    // The client did not send its address.
    let others = match relay.client_address {
        Some(_) => OptionsRule::WithoutClientAddress,
        None => OptionsRule::Keep,
    };
    let quote = quoted(client, relay.vip, timestamps, others)?;
    Ok((mapping, chosen, ErrorRewrite { quote, mtu }))
}

/// The targets that may have sent the segment to the client that the error quotes.
fn candidates_of<O>(
    egress: &Egress<'_, O>,
    error: &QuotingError<'_>,
    relay: &Relay,
) -> Result<Candidates, DropReason> {
    let (arrival, client) = (egress.arrival, error.quote.dst());
    if !arrival.takes_clients() {
        return Err(DropReason::WrongSide);
    }
    if !arrival.snapshot.is_client(&client) {
        return Err(DropReason::IcmpQuote);
    }
    let chosen = relay.targets.choose(&client, arrival.unix);
    Ok(chosen.candidates.and(chosen.new.map(Candidates::only).unwrap_or_default()))
}

/// About a segment on its way to a client: for the target.
fn about_inward<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    error: &QuotingError<'_>,
    relay: &Relay,
    target: TargetIndex,
) -> Result<(Mapping, ErrorRewrite), DropReason> {
    let QuotingError { quote, mtu, .. } = error;
    let client = quote.dst();
    let side = relay.egress_of(client).map_err(|_| DropReason::IcmpQuote)?;
    let target = *relay.targets.at(target).ok_or(DropReason::IcmpQuote)?;
    let mapping = Mapping::new(client, side, target);
    egress.note::<F>(Note::Mapped(relay.mode.name(), mapping));
    let timestamps = match (mapping.tag, quote.seen()) {
        (Some(tag), Seen::Timestamps(at)) => Timestamps::SetEcho(at, tag.timestamp()),
        // The target sent the SYN-ACK with the timestamps that the client did not get.
        (Some(tag), Seen::None) if quote.is_syn() => {
            Timestamps::Insert(TimestampsOption { value: 0, echo: tag.of_bare_syn() })
        }
        _ => Timestamps::Keep,
    };
    let to = (
        Towards::Targets,
        if relay.mode.tunnel().is_some() { relay.vip.ip() } else { mapping.target.ip() },
    );
    let mtu = mtu.map(|mtu| announced(egress, relay, quote, mtu, to));
    // In a tunnel the target sends as the VIP.
    let src = if relay.mode.tunnel().is_some() { relay.vip } else { mapping.target };
    let quote = quoted(src, mapping.egress, timestamps, OptionsRule::Keep)?;
    Ok((mapping, ErrorRewrite { quote, mtu }))
}

/// The MTU that goes on to `addressee` in the place of `mtu`. One that the floor raises is counted:
/// the addressee does not learn how small its path is.
pub(super) fn announced<O>(
    egress: &Egress<'_, O>,
    relay: &Relay,
    quote: &Quote,
    mtu: u32,
    (towards, addressee): (Towards, IpAddr),
) -> u32 {
    let to = Family::of(addressee);
    let told = raised_mtu(mtu, quote, to, relay.mtu_floor);
    if told > raised_mtu(mtu, quote, to, 0) {
        egress.counters.service(relay.slot).raised_mtus(towards).add(1);
    }
    told
}

/// The quoted segment as its sender sent it.
fn quoted(
    src: IpEndpoint,
    dst: IpEndpoint,
    timestamps: Timestamps,
    others: OptionsRule,
) -> Result<IpRewrite, DropReason> {
    let endpoints = IpEndpoints::new(src, dst).ok_or(DropReason::IcmpQuote)?;
    Ok(IpRewrite::new(endpoints, timestamps, others))
}

/// The rewrite of an ICMP error about a segment of a relay.
struct QuoteRewrite<'a> {
    to: ErrorRewrite,
    quote: &'a Quote,
    client: IpAddr,
    /// The tunnel that it goes to its target in, and the target and client.
    tunnel: Option<(&'a EncapsulatedMode, Mapping)>,
}

impl Transform for QuoteRewrite<'_> {
    type Plan = ();

    const IS_ICMP_ERROR: bool = true;

    fn charged(&self) -> Option<IpAddr> {
        Some(self.client)
    }

    fn plan<F: Frame>(&self, _: &Packet, _: &F) -> Result<(), DropReason> {
        Ok(())
    }

    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        (): &(),
    ) -> Result<usize, DropReason> {
        let l3 = self.to.apply(frame, packet.segment.l3, &packet.segment.ip, self.quote)?;
        match &self.tunnel {
            None => Ok(l3),
            Some((tunnel, Mapping { client, target, .. })) => {
                tunnel.put(frame, l3, client, target.ip(), None)
            }
        }
    }
}
