//! POPs that lack one of the rules for refusals: a layer behind a POP knows all that came to it,
//! and tells clients what a POP without the rule would tell them.

use std::net::{IpAddr, SocketAddr};

use anyrelay_core::net::PortIndex;
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::frames::{ACK, RST, SYN, Segment, framed, put_word, repair};
use anyrelay_kit::pop::{Recorder, Said};

use crate::Sabotage;
use crate::checks::Input;
use crate::refusals::{Asked, PopTime, Refusal, Refusals, Rule, Syn, mapped};
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
    pub fn revise(&mut self, setup: &Setup, at: PopTime, input: &Input<'_>, out: &mut Recorder) {
        let ip = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let Some((ip, segment)) = ip.and_then(|ip| Some((ip, ip.segment()?))) else { return };
        match input.port {
            Port::Wan => self.asked(setup, at, &segment, input.damaged, out),
            Port::Lan => self.rst(setup, at, (&ip, &segment), out),
        }
    }

    /// A POP took a hint about a service.
    pub fn hinted(&mut self, at: PopTime, service: usize, hint: &Hint) {
        let Shows::Refusal(rst) = hint.shows else { todo!() };
        let (seq, ack) = rst.numbers();
        let (seq, ack) = (seq.0, ack.map(|ack| ack.0));
        let refusal = Refusal { target: hint.target.into(), seq, ack };
        let place = (service, hint.egress.into());
        for model in [&mut self.without, &mut self.with] {
            if model.refused(at, place, refusal).is_none() {
                model.wait(at, place, refusal);
            }
        }
    }

    fn asked(
        &mut self,
        setup: &Setup,
        at: PopTime,
        segment: &SegmentView<'_>,
        damaged: bool,
        out: &mut Recorder,
    ) {
        let service = setup.service_at(segment.dst).filter(|at| setup.services[*at].is_pool());
        let (Some(service), Some((egress, target))) = (service, mapped(out)) else { return };
        let place = (service, egress);
        let asked = Asked::of(segment, target);
        let rightly = match damaged {
            false => self.with.answer(at, place, asked, |_| true),
            true => None,
        };
        if !damaged || self.rule == Rule::DamagedSegment {
            let found = self.without.answer(at, place, asked, |_| true);
            let forwarded = Verdict::Forward(PortIndex(Port::Lan as u8));
            if out.verdicts().all(|one| one != forwarded) {
                return;
            }
            if let Some(refusal) = found.filter(|_| rightly.is_none()) {
                let flags = if refusal.ack.is_some() { RST | ACK } else { RST };
                let (seq, ack) = (refusal.seq, refusal.ack.unwrap_or(0));
                let reset = Segment::new(segment.dst, segment.src, flags);
                let reset = Segment { seq, ack, ttl: 64, window: 0, ..reset }.from_host();
                say(at.0, &reset, Verdict::Reply(ReplyKind::PendingRst), out);
                return out.said.push(Said::Sent(ReplyKind::PendingRst));
            }
        }
        if segment.has(SYN) {
            let syn = Syn { client: segment.src, target, end: segment.end() };
            self.without.syn(at, place, syn);
            self.with.syn(at, place, syn);
        }
    }

    fn rst(
        &mut self,
        setup: &Setup,
        at: PopTime,
        (ip, segment): (&Datagram<'_>, &SegmentView<'_>),
        out: &mut Recorder,
    ) {
        let service = setup.service_of(segment.src, segment.dst.ip());
        let service = service.filter(|at| setup.services[*at].is_pool());
        let (Some(service), Some(refusal)) = (service, Refusal::of(segment)) else { return };
        let believed = out.verdicts().all(|one| match one {
            Verdict::Drop(DropReason::TcpChecksum) => self.rule == Rule::DamagedRst,
            Verdict::Drop(_) => false,
            _ => true,
        });
        if !believed {
            return;
        }
        let place = (service, segment.dst);
        let client = self.without.refused(at, place, refusal);
        let rightly = self.with.refused(at, place, refusal);
        if out.verdicts().any(|one| matches!(one, Verdict::Forward(_))) {
            return;
        }
        let vip = setup.services[service].vip;
        if let Some(client) = client.filter(|_| rightly.is_none()) {
            let mut bytes = ip.bytes.to_vec();
            address(&mut bytes, ip.payload_at, 0, vip);
            address(&mut bytes, ip.payload_at, 1, client);
            bytes[8] -= 1;
            repair(&mut bytes);
            return say(at.0, &bytes, Verdict::Forward(PortIndex(Port::Wan as u8)), out);
        }
        self.without.wait(at, place, refusal);
        let damaged = out.drops().next().is_some();
        if !damaged {
            self.with.wait(at, place, refusal);
        }
        if damaged && self.rule == Rule::DamagedRst {
            out.said.retain(|said| !matches!(said, Said::Verdict(_)));
            out.said.push(Said::Verdict(Verdict::Absorb(AbsorbKind::PendingRst)));
        }
    }
}

/// Writes source (0) or destination (1) of an IPv4 segment.
fn address(bytes: &mut [u8], tcp_at: usize, which: usize, to: SocketAddr) {
    if let IpAddr::V4(ip) = to.ip() {
        bytes[12 + 4 * which..][..4].copy_from_slice(&ip.octets());
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
