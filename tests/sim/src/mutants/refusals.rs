//! POPs that lack one of the rules for refusals: a layer behind a POP knows all that came to it,
//! and tells clients what a POP without the rule would tell them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyrelay_core::net::PortIndex;
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::frames::{ACK, RST, SYN, Segment, framed, put_word, repair};
use anyrelay_kit::pop::{Recorder, Said};

use crate::Sabotage;
use crate::checks::{At, Input};
use crate::refusals::{Deed, Fate, Owner, Place, Question, Refusal, Refusals, Rule, Syn, mapped};
use crate::setup::{self, Port, Setup};
use crate::wire::{Datagram, ETHERNET_LEN, SegmentView};

/// What tells clients of refusals in the place of all POPs.
#[derive(Debug)]
pub struct Teller {
    rule: Rule,
    /// What POPs without the rule would know, and what those with it do: where these tell a client
    /// too, there is nothing to add to what the POP did.
    without: Refusals,
    with: Refusals,
}

impl Teller {
    /// `None` where POPs have the rules for refusals.
    pub fn new(sabotage: Sabotage) -> Option<Self> {
        match sabotage {
            Sabotage::Without(rule) => {
                let (without, with) = (Refusals::without(rule), Refusals::default());
                Some(Teller { rule, without, with })
            }
            _ => None,
        }
    }

    /// A POP begins anew.
    pub fn forget(&mut self, pop: usize) {
        self.without.forget(pop);
        self.with.forget(pop);
    }

    /// A POP took a frame: `out` becomes what a POP without the rule would have done.
    pub fn revise(&mut self, setup: &Setup, at: At<'_>, input: &Input<'_>, out: &mut Recorder) {
        let ip = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let Some((ip, segment)) = ip.and_then(|ip| Some((ip, ip.segment()?))) else { return };
        match input.port {
            Port::Wan => self.asked(setup, at, (&segment, input.damaged), out),
            Port::Lan => self.answered(setup, at, (&ip, &segment), out),
        }
    }

    /// A POP took a hint about a service, of an owner of the connection of that client.
    pub fn hinted(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (service, client): (usize, Option<SocketAddr>),
        hint: &Hint,
    ) {
        let place = (service, hint.egress.into());
        let target = hint.target.into();
        for model in [&mut self.without, &mut self.with] {
            let rst = match hint.shows {
                Shows::Refusal(rst) => rst,
                Shows::Owner(owned) => {
                    model.owner(at.time(), (place, target), Owner::hinted(owned, client));
                    continue;
                }
            };
            let (seq, ack) = rst.numbers();
            let refusal = Refusal { target, seq: seq.0, ack: ack.map(|ack| ack.0) };
            let chosen = |client| at.choose(setup, service, client).has(target);
            let fates = model.fates(at.time(), place, refusal, chosen);
            if let Some(fate) = fates.first() {
                model.settle(at.time(), place, refusal, *fate);
            }
        }
    }

    fn asked(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (segment, damaged): (&SegmentView<'_>, bool),
        out: &mut Recorder,
    ) {
        let (Some(service), Some(found)) = (setup.service_at(segment.dst), mapped(out)) else {
            return;
        };
        let place = (service, found.egress.into());
        let tag = found.tag.map_or(0, |tag| tag.0);
        let choice = at.choose(setup, service, segment.src);
        let all = &setup.services[service].targets;
        let asked = Question::new(segment, (place, tag), (&choice, all), damaged);
        let [rightly, deed] = [&mut self.with, &mut self.without]
            .map(|model| model.ask(at.time(), &asked, |_| true).ok());
        let forwarded = Verdict::Forward(PortIndex(Port::Lan as u8));
        let was_sent = out.verdicts().any(|one| one == forwarded);
        if segment.has(SYN) && (setup.services[service].is_pool() || choice.candidates.len() > 1) {
            let syn = Syn { client: segment.src, end: segment.end() };
            self.without.syn(at.time(), place, syn);
            self.with.syn(at.time(), place, syn);
        }
        if !was_sent || rightly == deed {
            return;
        }
        match deed {
            Some(Deed::Tell(refusal)) => {
                let flags = if refusal.ack.is_some() { RST | ACK } else { RST };
                let (seq, ack) = (refusal.seq, refusal.ack.unwrap_or(0));
                let reset = Segment::new(segment.dst, segment.src, flags);
                let reset = Segment { seq, ack, ttl: 64, window: 0, ..reset }.from_host();
                say(at.pop, &reset, Verdict::Reply(ReplyKind::PendingRst), out);
                out.said.push(Said::Sent(ReplyKind::PendingRst));
            }
            Some(Deed::To(targets)) if !damaged => send_to(&targets, out),
            _ => {}
        }
    }

    fn answered(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (ip, segment): (&Datagram<'_>, &SegmentView<'_>),
        out: &mut Recorder,
    ) {
        let Some(service) = setup.service_of(segment.src, segment.dst.ip()) else { return };
        let of = &setup.services[service];
        let (place, target) = ((service, segment.dst), segment.src);
        let found = mapped(out).filter(|_| !of.is_pool() || segment.timestamps().is_some());
        let found = found.map(|found| {
            let client = SocketAddr::from(found.client);
            (at.choose(setup, service, client), client, found.tag.map_or(0, |tag| tag.0))
        });
        let waits = found.as_ref().is_none_or(|(choice, ..)| choice.candidates != [target]);
        match (Refusal::of(segment), found) {
            (Some(refusal), _) if waits => self.rst(setup, at, (ip, refusal), place, out),
            (_, Some((choice, client, tag))) => {
                let (client, if_asked) = (Some(client), choice.candidates.len() < 2);
                let (end, ack, perhaps) = (segment.end(), segment.ack, false);
                let owner = Owner { client, tag, end, ack, if_asked, perhaps };
                for model in [&mut self.without, &mut self.with] {
                    if segment.has(RST) {
                        model.clear(at.time(), (place, target), false);
                    } else if segment.has(ACK) {
                        model.owner(at.time(), (place, target), owner);
                    }
                }
            }
            _ => {}
        }
    }

    fn rst(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (ip, refusal): (&Datagram<'_>, Refusal),
        place: Place,
        out: &mut Recorder,
    ) {
        let believed = out.verdicts().all(|one| match one {
            Verdict::Drop(DropReason::TcpChecksum) => self.rule == Rule::DamagedRst,
            Verdict::Drop(_) => false,
            _ => true,
        });
        if !believed {
            return;
        }
        let damaged = out.drops().next().is_some();
        let chosen = |client| at.choose(setup, place.0, client).has(refusal.target);
        let [fate, rightly] = [&mut self.without, &mut self.with].map(|model| {
            let fate = model.fates(at.time(), place, refusal, chosen).first().copied();
            let fate = fate.unwrap_or(Fate::Waits);
            (fate, model)
        });
        let is_client = |fate: Fate| matches!(fate, Fate::Client(_));
        fate.1.settle(at.time(), place, refusal, fate.0);
        if !damaged {
            rightly.1.settle(at.time(), place, refusal, rightly.0);
        }
        if out.verdicts().any(|one| matches!(one, Verdict::Forward(_))) {
            return;
        }
        let vip = setup.services[place.0].vip;
        if let Fate::Client(client) = fate.0
            && (damaged || !is_client(rightly.0))
        {
            let mut bytes = ip.bytes.to_vec();
            address(&mut bytes, ip.payload_at, 0, vip);
            address(&mut bytes, ip.payload_at, 1, client);
            let ttl_at = if ip.src.is_ipv4() { 8 } else { 7 };
            bytes[ttl_at] -= 1;
            repair(&mut bytes);
            return say(at.pop, &bytes, Verdict::Forward(PortIndex(Port::Wan as u8)), out);
        }
        if damaged && self.rule == Rule::DamagedRst {
            out.said.retain(|said| !matches!(said, Said::Verdict(_)));
            out.said.push(Said::Verdict(Verdict::Absorb(AbsorbKind::PendingRst)));
        }
    }
}

/// What a POP sends to some target goes to these instead.
fn send_to(targets: &BTreeSet<SocketAddr>, out: &mut Recorder) {
    let is_segment = |frame: &[u8]| {
        let ip = frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        ip.and_then(|ip| ip.segment().map(|_| ip.payload_at))
    };
    let mut sent = out.sent.iter().filter(|(port, _)| port.0 == Port::Lan as u8);
    let first = sent.find_map(|(port, frame)| Some((*port, frame.clone(), is_segment(frame)?)));
    let Some((port, frame, tcp_at)) = first else { return };
    out.sent.retain(|(_, frame)| is_segment(frame).is_none());
    out.said.retain(|said| !matches!(said, Said::Verdict(_)));
    for target in targets {
        let mut datagram = frame[ETHERNET_LEN..].to_vec();
        address(&mut datagram, tcp_at, 1, *target);
        repair(&mut datagram);
        let bytes = [&frame[..ETHERNET_LEN], &datagram].concat();
        out.sent.push((port, bytes));
        out.said.push(Said::Verdict(Verdict::Forward(port)));
    }
}

/// Writes source (0) or destination (1) of a segment.
fn address(bytes: &mut [u8], tcp_at: usize, which: usize, to: SocketAddr) {
    match to.ip() {
        IpAddr::V4(ip) => bytes[12 + 4 * which..][..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes[8 + 16 * which..][..16].copy_from_slice(&ip.octets()),
    }
    put_word(bytes, tcp_at + 2 * which, to.port());
}

/// A POP sends a datagram to a client, and nothing else.
fn say(pop: usize, datagram: &[u8], verdict: Verdict, out: &mut Recorder) {
    let (to, from) = (setup::router_mac(Port::Wan), setup::mac(pop, Port::Wan));
    out.sent.clear();
    out.sent.push((PortIndex(Port::Wan as u8), framed(to, from, None, datagram)));
    out.said.retain(|said| !matches!(said, Said::Verdict(_)));
    out.said.push(Said::Verdict(verdict));
    out.hints.clear();
}
