//! RSTs that targets send without timestamps: a client is told of one only by a POP that it came
//! to, by itself or in a hint that the POP had to accept, and only if it answers what the client
//! sent.

use std::net::SocketAddr;

use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::verdict::{AbsorbKind, ReplyKind, Verdict};
use anyrelay_kit::frames::{ACK, RST, SYN};
use anyrelay_kit::pop::Recorder;

use super::{Checked, Input, Memory, require};
use crate::refusals::{Asked, Place, PopTime, Refusal, Syn, mapped};
use crate::setup::{self, Port, Setup};
use crate::wire::{Datagram, ETHERNET_LEN, SegmentView};

impl Memory {
    /// A POP begins anew, and knows of no refusal.
    pub fn forget_refusals(&mut self, pop: usize) {
        self.refusals.forget(pop);
    }

    /// Checks what a POP did with a frame; what it sent obeys the rules for any frame.
    pub fn check_refusals(
        &mut self,
        setup: &Setup,
        at: PopTime,
        input: &Input<'_>,
        out: &Recorder,
    ) -> Checked {
        let waits = out.verdicts().any(|one| one == Verdict::Absorb(AbsorbKind::PendingRst));
        require(waits || out.hints.is_empty(), "a hint of no RST")?;
        let answered = out.replies().any(|kind| kind == ReplyKind::PendingRst);
        if !waits && !answered && !is_of_interest(input.frame) {
            return Ok(());
        }
        let ip = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let segment = ip.and_then(|ip| ip.segment());
        match (segment, input.port) {
            (Some(segment), Port::Wan) => self.check_asked(setup, at, &segment, out),
            (Some(segment), Port::Lan) if Refusal::of(&segment).is_some() => {
                self.check_rst(setup, at, &segment, input.damaged, out)
            }
            _ => require(!waits, "taken for a RST"),
        }
    }

    fn check_asked(
        &mut self,
        setup: &Setup,
        at: PopTime,
        segment: &SegmentView<'_>,
        out: &Recorder,
    ) -> Checked {
        let service = setup.service_at(segment.dst).filter(|at| setup.services[*at].is_pool());
        let answered = out.replies().any(|kind| kind == ReplyKind::PendingRst);
        let Some(service) = service else {
            return require(!answered, "a RST to a client of no pool");
        };
        if answered {
            let bytes = sent(out, Port::Wan).ok_or("no RST is sent")?;
            let reset = segment_of(bytes).ok_or("a malformed RST is sent")?;
            let known = self.mapped.get(&(segment.src, service));
            let (egress, target, _) = *known.ok_or("a RST to a client that sent nothing")?;
            let told = Refusal { target, ..refusal(&reset) };
            let asked = Asked::of(segment, target);
            let is_it = |refusal: &Refusal| (refusal.seq, refusal.ack) == (told.seq, told.ack);
            let found = self.refusals.answer(at, (service, egress), asked, is_it);
            return require(found.is_some(), "a RST that is no answer of the target's");
        }
        // It counts also when it then cannot be sent, for want of a neighbour.
        if segment.has(SYN)
            && let Some((egress, target)) = mapped(out)
        {
            let syn = Syn { client: segment.src, target, end: segment.end() };
            self.refusals.syn(at, (service, egress), syn);
        }
        Ok(())
    }

    fn check_rst(
        &mut self,
        setup: &Setup,
        at: PopTime,
        segment: &SegmentView<'_>,
        damaged: bool,
        out: &Recorder,
    ) -> Checked {
        let service = setup.service_of(segment.src, segment.dst.ip());
        let Some(service) = service.filter(|at| setup.services[*at].is_pool()) else {
            return Ok(());
        };
        let (place, refusal) = ((service, segment.dst), refusal(segment));
        if let Some(told) = sent(out, Port::Wan).and_then(segment_of) {
            let client = self.refusals.refused(at, place, refusal);
            return require(client == Some(told.dst), "a RST that is no answer to the last SYN");
        }
        if out.verdicts().any(|one| one == Verdict::Absorb(AbsorbKind::PendingRst)) {
            require(!damaged, "a damaged RST is remembered")?;
            self.refusals.wait(at, place, refusal);
        }
        let vip = setup.services[service].vip;
        require(out.hints.len() <= usize::from(setup.hints.is_some()), "a hint too many")?;
        let same = |hint: &Hint| read(hint) == (vip, segment.dst, refusal);
        require(out.hints.iter().all(same), "a hint that is not of the RST")
    }

    /// Checks what a POP did because of a hint that it had to accept, if it was not to be refused.
    pub fn check_hinted(
        &mut self,
        setup: &Setup,
        at: PopTime,
        (hint, is_due): (&Hint, bool),
        out: &Recorder,
    ) -> Checked {
        require(out.hints.is_empty(), "a hint is hinted again")?;
        let (vip, egress, refusal) = read(hint);
        let service = setup.service_at(vip).ok_or("a hint about no service")?;
        let place: Place = (service, egress);
        let Some(bytes) = sent(out, Port::Wan) else {
            if is_due {
                self.refusals.wait(at, place, refusal);
            }
            return Ok(());
        };
        require(is_due, "a RST because of a hint that must not be accepted")?;
        require(bytes[..6] == setup::router_mac(Port::Wan), "wrong destination MAC")?;
        require(bytes[6..12] == setup::mac(at.0, Port::Wan), "wrong source MAC")?;
        let ip = Datagram::read(&bytes[ETHERNET_LEN..]).ok_or("a malformed datagram is sent")?;
        let reset = ip.segment().ok_or("a malformed segment is sent")?;
        require(ip.ttl == 64 && ip.bytes.len() == 40, "a RST because of a hint is not bare")?;
        require(ip.bytes[4..8] == [0, 0, 0x40, 0], "wrong ID or DF")?;
        require(reset.checksum_holds && reset.window == 0, "a wrong RST because of a hint")?;
        require(reset.flags == RST | ACK && reset.src == vip, "a RST that the hint has not")?;
        require((reset.seq, Some(reset.ack)) == (refusal.seq, refusal.ack), "other numbers")?;
        let client = self.refusals.refused(at, place, refusal);
        require(client == Some(reset.dst), "a hinted RST that is no answer to the last SYN")
    }
}

/// Whether a frame has a SYN or a RST, as far as a glance shows: most have neither.
fn is_of_interest(frame: &[u8]) -> bool {
    let ip = frame.get(ETHERNET_LEN..).unwrap_or_default();
    let Some(len) = ip.first().filter(|first| **first >> 4 == 4).map(|first| first & 15) else {
        return false;
    };
    ip.get(usize::from(len) * 4 + 13).is_some_and(|flags| flags & (SYN | RST) > 0)
}

/// VIP, egress endpoint and RST of a hint.
fn read(hint: &Hint) -> (SocketAddr, SocketAddr, Refusal) {
    let [vip, egress, target] = [hint.vip, hint.egress, hint.target].map(SocketAddr::from);
    let Shows::Refusal(rst) = hint.shows else { todo!() };
    let (seq, ack) = rst.numbers();
    (vip, egress, Refusal { target, seq: seq.0, ack: ack.map(|ack| ack.0) })
}

fn refusal(segment: &SegmentView<'_>) -> Refusal {
    let ack = segment.has(ACK).then_some(segment.ack);
    Refusal { target: segment.src, seq: segment.seq, ack }
}

/// The frame with a segment that left through a port.
fn sent(out: &Recorder, port: Port) -> Option<&[u8]> {
    let frames = out.sent.iter().filter(|(at, _)| at.0 == port as u8);
    frames.map(|(_, frame)| frame.as_slice()).find(|frame| segment_of(frame).is_some())
}

fn segment_of(frame: &[u8]) -> Option<SegmentView<'_>> {
    Datagram::read(frame.get(ETHERNET_LEN..)?)?.segment()
}
