//! What POPs know of targets, and what follows from it: to which targets a client's segment goes,
//! when a client is told of a RST, and what other POPs are told.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::relay::memo::Owned;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::frames::{ACK, RST, SYN};
use anyrelay_kit::pop::Recorder;

use super::{At, Checked, Input, Memory, require};
use crate::refusals::{Deed, Fate, Owner, Place, Question, Refusal, Syn, mapped};
use crate::setup::{self, Port, Setup};
use crate::wire::{Datagram, ETHERNET_LEN, SegmentView};

impl Memory {
    /// A POP begins anew, and knows nothing.
    pub fn forget_refusals(&mut self, pop: usize) {
        self.refusals.forget(pop);
    }

    /// Checks what a POP did with a frame; what it sent obeys the rules for any frame.
    pub fn check_refusals(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        input: &Input<'_>,
        out: &Recorder,
    ) -> Checked {
        let waits = waits(out);
        let answered = out.replies().any(|kind| kind == ReplyKind::PendingRst);
        let ip = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let segment = ip.and_then(|ip| ip.segment());
        match (segment, input.port) {
            (Some(segment), Port::Wan) => {
                require(!waits && out.hints.is_empty(), "a client's segment is taken for a RST")?;
                self.check_asked(setup, at, (&segment, input.damaged), out)
            }
            (Some(segment), Port::Lan) => {
                self.check_answer(setup, at, (&segment, input.damaged), out)
            }
            _ => require(!waits && !answered && out.hints.is_empty(), "taken for a RST"),
        }
    }

    fn check_asked(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (segment, damaged): (&SegmentView<'_>, bool),
        out: &Recorder,
    ) -> Checked {
        let answered = out.replies().any(|kind| kind == ReplyKind::PendingRst);
        let (Some(service), Some(found)) = (setup.service_at(segment.dst), mapped(out)) else {
            return require(!answered, "a RST to a client of no service");
        };
        let place: Place = (service, found.egress.into());
        let tag = found.tag.map_or(0, |tag| tag.0);
        let choice = at.choose(setup, service, segment.src);
        let all = &setup.services[service].targets;
        let asked = Question::new(segment, (place, tag), (&choice, all), damaged);
        let to = sent_to(out)?;
        // It counts also when it then cannot be sent.
        let is_hidden = to.is_empty() && !answered;
        let told = match answered {
            true => {
                let bytes = sent(out, Port::Wan).ok_or("no RST is sent")?;
                let reset = segment_of(bytes).ok_or("a malformed RST is sent")?;
                Some(Refusal::numbers(&reset))
            }
            false => None,
        };
        if out.drops().any(|reason| reason == DropReason::NoTarget) {
            return require(choice.new.is_none() && asked.opens, "there is a target");
        }
        let deed = self.refusals.ask(at.time(), &asked, |deed| match deed {
            _ if is_hidden => true,
            Deed::To(targets) => told.is_none() && *targets == to,
            Deed::Tell(refusal) => told.is_some_and(|told| refusal.is_like(&told)),
        });
        if let Err(may) = deed {
            let what = match told {
                Some(_) => "a RST that is no answer of the target's",
                None => "not to the targets that it must go to",
            };
            return Err(format!("{what}: {to:?} instead of {may:?}, {choice:?}"));
        }
        let is_remembered = setup.services[service].is_pool() || choice.candidates.len() > 1;
        if segment.has(SYN) && !answered && is_remembered {
            let syn = Syn { client: segment.src, end: segment.end() };
            self.refusals.syn(at.time(), place, syn);
        }
        Ok(())
    }

    fn check_answer(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (segment, damaged): (&SegmentView<'_>, bool),
        out: &Recorder,
    ) -> Checked {
        let Some(service) = setup.service_of(segment.src, segment.dst.ip()) else {
            return require(!waits(out), "a RST of no target waits");
        };
        let of = &setup.services[service];
        let (place, vip): (Place, _) = ((service, segment.dst), of.vip);
        let is_tagged = of.is_pool();
        let refusal = Refusal::of(segment);
        let found = mapped(out).filter(|_| !is_tagged || segment.timestamps().is_some());
        let client = found.map(|found| SocketAddr::from(found.client));
        let choice = client.map(|client| at.choose(setup, service, client));
        let has_one = choice.as_ref().is_none_or(|choice| choice.candidates == [segment.src]);
        match refusal {
            Some(refusal) if is_tagged || !has_one => {
                let hidden = out.drops().next().is_some();
                self.check_rst(setup, at, (place, refusal), (damaged, hidden), out)?;
            }
            _ => {
                require(!waits(out), "a RST of the client's only target waits")?;
                let Some(choice) = choice else {
                    return require(out.hints.is_empty(), "a hint of what was not mapped");
                };
                let key = (place, segment.src);
                if segment.has(RST) {
                    self.refusals.clear(at.time(), key, damaged);
                } else if segment.has(ACK) {
                    let tag = found.and_then(|found| found.tag).map_or(0, |tag| tag.0);
                    let if_asked = choice.candidates.len() < 2;
                    let (end, ack, perhaps) = (segment.end(), segment.ack, damaged);
                    let owner = Owner { client, tag, end, ack, if_asked, perhaps };
                    self.refusals.owner(at.time(), key, owner);
                }
            }
        }
        require(out.hints.len() <= usize::from(setup.hints.is_some()), "a hint too many")?;
        let Some(hint) = out.hints.first() else { return Ok(()) };
        let [to, egress, target] = [hint.vip, hint.egress, hint.target].map(SocketAddr::from);
        let is_its = (to, egress, target) == (vip, segment.dst, segment.src);
        require(is_its, "a hint that is not of the segment")?;
        match hint.shows {
            Shows::Refusal(_) => {
                require(waits(out), "a hint of no RST")?;
                let same = refusal.is_some_and(|refusal| refusal_of(hint) == Some(refusal));
                require(same, "a hint that is not of the RST")
            }
            Shows::Owner(Owned { tag, end, ack }) => {
                let is_one = found.map(|found| found.tag.map_or(0, |tag| tag.0)) == Some(tag);
                let is_its = (end.0, ack.0) == (segment.end(), segment.ack);
                require(is_one && is_its, "a hint of another owner")?;
                require(!segment.has(RST), "a hint of an owner without a socket")?;
                let may = self.refusals.told_owner(at.time(), (place, segment.src));
                require(may, "an owner is hinted again too soon")
            }
        }
    }

    fn check_rst(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (place, refusal): (Place, Refusal),
        (damaged, is_hidden): (bool, bool),
        out: &Recorder,
    ) -> Checked {
        let chosen = |client| at.choose(setup, place.0, client).has(refusal.target);
        let fates = self.refusals.fates(at.time(), place, refusal, chosen);
        if is_hidden {
            // One with a wrong checksum changes nothing, nor does one with SYN, or of a target that
            // the POP does not know yet.
            let ignores = |reason| {
                use DropReason::{NotOurs, TcpChecksum, TcpFlags, UnknownTarget};
                [NotOurs, TcpChecksum, TcpFlags, UnknownTarget].contains(&reason)
            };
            let ignored = out.drops().any(ignores);
            if !ignored {
                self.refusals.settle_hidden(at.time(), place, refusal, &fates);
            }
            return Ok(());
        }
        require(!damaged, "a damaged RST is remembered")?;
        let told = sent(out, Port::Wan).and_then(segment_of).map(|told| told.dst);
        let is_it = |fate: &&Fate| self.is_for(place, **fate) == told;
        match fates.iter().find(is_it).copied() {
            Some(fate) => self.refusals.settle(at.time(), place, refusal, fate),
            None => {
                let what = match told {
                    Some(_) => "a RST that is no answer to the last SYN",
                    None => "a RST that nobody is told of",
                };
                return Err(format!("{what}: {fates:?}"));
            }
        }
        require(told.is_some() || waits(out), "a RST is lost")
    }

    /// The client that is told, if one is.
    fn is_for(&self, (service, egress): Place, fate: Fate) -> Option<SocketAddr> {
        match fate {
            Fate::Client(client) => Some(client),
            Fate::Tag(tag) => self.client(service, egress, tag),
            Fate::Waits => None,
        }
    }

    /// Checks what a POP did because of a hint that it had to accept, if it was not to be refused.
    pub fn check_hinted(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (hint, is_due): (&Hint, bool),
        out: &Recorder,
    ) -> Checked {
        require(out.hints.is_empty(), "a hint is hinted again")?;
        let (vip, egress) = (SocketAddr::from(hint.vip), SocketAddr::from(hint.egress));
        let service = setup.service_at(vip).ok_or("a hint about no service")?;
        let place: Place = (service, egress);
        let told = sent(out, Port::Wan);
        let Some(refusal) = refusal_of(hint) else {
            require(told.is_none(), "a RST because of a hint of an owner")?;
            let Shows::Owner(owned) = hint.shows else { return Ok(()) };
            if is_due {
                let owner = Owner::hinted(owned, self.client(service, egress, owned.tag));
                self.refusals.owner(at.time(), (place, hint.target.into()), owner);
            }
            return Ok(());
        };
        if !is_due {
            return require(told.is_none(), "a RST because of a hint that must not be accepted");
        }
        let chosen = |client| at.choose(setup, service, client).has(refusal.target);
        let fates = self.refusals.fates(at.time(), place, refusal, chosen);
        let Some(bytes) = told else {
            // Nothing says that a client could not be told for want of a neighbour.
            self.refusals.settle_hidden(at.time(), place, refusal, &fates);
            return Ok(());
        };
        require(bytes[..6] == setup::router_mac(Port::Wan), "wrong destination MAC")?;
        require(bytes[6..12] == setup::mac(at.pop, Port::Wan), "wrong source MAC")?;
        let ip = Datagram::read(&bytes[ETHERNET_LEN..]).ok_or("a malformed datagram is sent")?;
        let reset = ip.segment().ok_or("a malformed segment is sent")?;
        require(ip.ttl == 64 && ip.payload().len() == 20, "a RST because of a hint is not bare")?;
        let is_whole = ip.src.is_ipv6() || ip.bytes[4..8] == [0, 0, 0x40, 0];
        require(is_whole, "wrong ID or DF")?;
        require(reset.checksum_holds && reset.window == 0, "a wrong RST because of a hint")?;
        require(reset.flags & !ACK == RST && reset.src == vip, "a RST that the hint has not")?;
        require(Refusal::numbers(&reset).is_like(&refusal), "other numbers")?;
        let is_it = |fate: &&Fate| self.is_for(place, **fate) == Some(reset.dst);
        let fate = fates.iter().find(is_it).copied();
        let fate = fate.ok_or("a hinted RST that is no answer to the last SYN")?;
        self.refusals.settle(at.time(), place, refusal, fate);
        Ok(())
    }

    /// Whether an ICMP error about a segment to `target` may have been taken in: one that says that
    /// it cannot be reached, of a client with several targets.
    pub fn note_unreachable(
        &mut self,
        setup: &Setup,
        at: At<'_>,
        (service, client, target): (usize, SocketAddr, SocketAddr),
        ack: Option<(u32, bool)>,
    ) -> bool {
        let choice = at.choose(setup, service, client);
        if choice.candidates.len() < 2 {
            return false;
        }
        if let (Some((egress, _)), Some((ack, is_shown))) =
            (self.mapped.get(&(client, service)), ack)
        {
            let key = ((service, *egress), target);
            self.refusals.unreachable(at.time(), key, ack, !is_shown);
        }
        true
    }
}

fn waits(out: &Recorder) -> bool {
    out.verdicts().any(|one| one == Verdict::Absorb(AbsorbKind::PendingRst))
}

/// The RST of a hint, if it is of one.
fn refusal_of(hint: &Hint) -> Option<Refusal> {
    let Shows::Refusal(rst) = hint.shows else { return None };
    let (seq, ack) = rst.numbers();
    Some(Refusal { target: hint.target.into(), seq: seq.0, ack: ack.map(|ack| ack.0) })
}

/// The targets that a segment left for, each once.
fn sent_to(out: &Recorder) -> Result<BTreeSet<SocketAddr>, String> {
    let frames = out.sent.iter().filter(|(port, _)| port.0 == Port::Lan as u8);
    let mut targets = BTreeSet::new();
    for segment in frames.filter_map(|(_, frame)| segment_of(frame)) {
        require(targets.insert(segment.dst), "a segment goes to a target twice")?;
    }
    Ok(targets)
}

/// The frame with a segment that left through a port.
fn sent(out: &Recorder, port: Port) -> Option<&[u8]> {
    let frames = out.sent.iter().filter(|(at, _)| at.0 == port as u8);
    frames.map(|(_, frame)| frame.as_slice()).find(|frame| segment_of(frame).is_some())
}

fn segment_of(frame: &[u8]) -> Option<SegmentView<'_>> {
    Datagram::read(frame.get(ETHERNET_LEN..)?)?.segment()
}
