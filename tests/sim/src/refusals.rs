//! What POPs know of refusals, modelled a second time from `docs/protocol.md`, sections 9 and 18:
//! the SYNs and the RSTs without timestamps that came to each, and who may be told. Slow, and
//! without bounds, so it may know more than a POP, but never less.
//!
//! A model without one of the rules plays a POP that lacks it (`mutants`).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyrelay_kit::frames::{ACK, RST};
use anyrelay_kit::pop::{Recorder, Said};

use crate::wire::SegmentView;

/// A condition for a refusal to be believed, and for a client to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A RST with ACK goes to a client at once only if it acknowledges the end of the SYN.
    SynEnd,
    /// And only if it comes from the target that the SYN went to.
    SynTarget,
    /// The SYN is forgotten then.
    SynOnce,
    /// Only the last SYN of an egress endpoint is remembered.
    SynLast,
    /// For 120 s.
    SynLifetime,
    /// A RST with ACK answers a segment whose end it acknowledges.
    RstEnd,
    /// And whose acknowledgment number it has, if the segment has one.
    RstAck,
    /// A RST without ACK has the acknowledgment number of the segment that it answers.
    RstSeq,
    /// A RST answers segments to the target that sent it.
    RstTarget,
    /// Once.
    RstOnce,
    /// For 120 s.
    RstLifetime,
    /// A SYN that no RST answers removes the RSTs of its egress endpoint.
    SynClears,
    /// A RST of a client's is not answered.
    ClientRst,
    /// A damaged RST is not believed.
    DamagedRst,
    /// A damaged segment is not answered.
    DamagedSegment,
    /// A hint has a MAC under the key of all POPs.
    HintMac,
    /// It is not older than 5 s.
    HintTime,
    /// It is taken.
    HintTaken,
    /// It is not hinted again.
    HintOnce,
}

/// An egress endpoint of a service, which is named by its place.
pub type Place = (usize, SocketAddr);

/// A target's RST without timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub target: SocketAddr,
    pub seq: u32,
    /// Its acknowledgment number, if it has ACK.
    pub ack: Option<u32>,
}

impl Refusal {
    /// The one in a segment from a target, if it is one.
    pub fn of(segment: &SegmentView<'_>) -> Option<Self> {
        let is_one = segment.has(RST) && segment.timestamps().is_none();
        let ack = segment.has(ACK).then_some(segment.ack);
        is_one.then_some(Refusal { target: segment.src, seq: segment.seq, ack })
    }
}

/// A SYN that a POP sent on.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    pub client: SocketAddr,
    pub target: SocketAddr,
    pub end: u32,
}

/// A client's segment that a RST may answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub target: SocketAddr,
    /// Its acknowledgment number, if it has ACK.
    ack: Option<u32>,
    end: u32,
    is_rst: bool,
}

impl Asked {
    pub fn of(segment: &SegmentView<'_>, target: SocketAddr) -> Self {
        let ack = segment.has(ACK).then_some(segment.ack);
        Asked { target, ack, end: segment.end(), is_rst: segment.has(RST) }
    }
}

/// The egress endpoint and the target of a client's segment, as the POP says that it has mapped it.
pub fn mapped(out: &Recorder) -> Option<(SocketAddr, SocketAddr)> {
    out.said.iter().find_map(|said| match said {
        Said::Mapped(_, mapping) => Some((mapping.egress.into(), mapping.target.into())),
        _ => None,
    })
}

/// A POP, and the milliseconds of its monotonic clock.
pub type PopTime = (usize, u64);

/// What the POPs know.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    without: Option<Rule>,
    pops: BTreeMap<usize, Memo>,
}

#[derive(Clone, Debug, Default)]
struct Memo {
    syns: BTreeMap<Place, Vec<(Syn, u64)>>,
    rsts: BTreeMap<Place, Vec<(Refusal, u64)>>,
}

impl Refusals {
    /// The model of POPs that lack a rule.
    pub fn without(rule: Rule) -> Self {
        Refusals { without: Some(rule), pops: BTreeMap::new() }
    }

    /// A POP begins anew.
    pub fn forget(&mut self, pop: usize) {
        self.pops.remove(&pop);
    }

    /// A POP sends on a SYN that no RST answers.
    pub fn syn(&mut self, (pop, now_ms): PopTime, place: Place, syn: Syn) {
        let (keeps_rsts, keeps_syns) = (self.lacks(Rule::SynClears), self.lacks(Rule::SynLast));
        let memo = self.pops.entry(pop).or_default();
        if !keeps_rsts {
            memo.rsts.remove(&place);
        }
        let syns = memo.syns.entry(place).or_default();
        if !keeps_syns {
            syns.clear();
        }
        syns.push((syn, now_ms));
    }

    /// The client that a POP tells of a RST at once: the one whose SYN it answers.
    pub fn refused(
        &mut self,
        (pop, now_ms): PopTime,
        place: Place,
        refusal: Refusal,
    ) -> Option<SocketAddr> {
        let [any_end, any_target, for_ever, again] =
            [Rule::SynEnd, Rule::SynTarget, Rule::SynLifetime, Rule::SynOnce]
                .map(|rule| self.lacks(rule));
        let ack = refusal.ack?;
        let syns = self.pops.get_mut(&pop)?.syns.get_mut(&place)?;
        let at = syns.iter().position(|(syn, since_ms)| {
            (ack == syn.end || any_end)
                && (refusal.target == syn.target || any_target)
                && (now_ms <= since_ms + LIFETIME_MS || for_ever)
        })?;
        let client = syns[at].0.client;
        if !again {
            syns.remove(at);
        }
        Some(client)
    }

    /// A RST waits at a POP.
    pub fn wait(&mut self, (pop, now_ms): PopTime, place: Place, refusal: Refusal) {
        let rsts = self.pops.entry(pop).or_default().rsts.entry(place).or_default();
        rsts.retain(|(known, _)| *known != refusal);
        rsts.push((refusal, now_ms));
    }

    /// The RST that a POP answers a client's segment with, of those that `may` be it.
    pub fn answer(
        &mut self,
        (pop, now_ms): PopTime,
        place: Place,
        asked: Asked,
        may: impl Fn(&Refusal) -> bool,
    ) -> Option<Refusal> {
        let [any_target, for_ever, again] =
            [Rule::RstTarget, Rule::RstLifetime, Rule::RstOnce].map(|rule| self.lacks(rule));
        if asked.is_rst && !self.lacks(Rule::ClientRst) {
            return None;
        }
        let without = self.without;
        let rsts = self.pops.get_mut(&pop)?.rsts.get_mut(&place)?;
        let at = rsts.iter().position(|(refusal, since_ms)| {
            may(refusal)
                && (refusal.target == asked.target || any_target)
                && (now_ms <= since_ms + LIFETIME_MS || for_ever)
                && numbers_fit(refusal, asked, without)
        })?;
        let refusal = rsts[at].0;
        if !again {
            rsts.remove(at);
        }
        Some(refusal)
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }
}

/// Whether a host that has no socket answers a segment with these numbers (RFC 9293, section
/// 3.10.7.1), as far as a RST shows.
fn numbers_fit(refusal: &Refusal, asked: Asked, without: Option<Rule>) -> bool {
    match refusal.ack {
        Some(ack) => {
            (ack == asked.end || without == Some(Rule::RstEnd))
                && (asked.ack.is_none_or(|ack| ack == refusal.seq) || without == Some(Rule::RstAck))
        }
        None => asked.ack == Some(refusal.seq) || without == Some(Rule::RstSeq),
    }
}

/// How long a POP remembers, in milliseconds.
const LIFETIME_MS: u64 = 120_000;
