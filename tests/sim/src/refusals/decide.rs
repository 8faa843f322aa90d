//! What becomes of a client's segment (`docs/protocol.md`, section 19), from all that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyrelay_kit::frames::{ACK, RST};

use super::facts::{Fact, Known, Refusal, Stage, near};
use super::memo::Place;
use super::rule::Rule;
use crate::targets::Choice;
use crate::wire::SegmentView;

/// A client's segment at a POP.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub place: Place,
    /// The client's tag; 0 without.
    pub tag: u32,
    pub choice: &'a Choice,
    /// All targets of the service.
    pub all: &'a [SocketAddr],
    pub opens: bool,
    pub damaged: bool,
    is_rst: bool,
    ack: Option<u32>,
    pub end: u32,
}

impl<'a> Question<'a> {
    pub fn new(
        segment: &SegmentView<'_>,
        (place, tag): (Place, u32),
        (choice, all): (&'a Choice, &'a [SocketAddr]),
        damaged: bool,
    ) -> Self {
        let ack = segment.has(ACK).then_some(segment.ack);
        let (opens, is_rst) = (segment.opens(), segment.has(RST));
        Question { place, tag, choice, all, opens, damaged, is_rst, ack, end: segment.end() }
    }

    /// The targets of which something may be known that matters.
    pub fn concerned(&self) -> BTreeSet<SocketAddr> {
        let choice = self.choice;
        choice.candidates.iter().copied().chain(choice.new).chain(choice.next).collect()
    }
}

/// What becomes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It goes to these.
    To(BTreeSet<SocketAddr>),
    /// The client is told.
    Tell(Refusal),
}

/// What is known of each target.
pub type Facts = BTreeMap<SocketAddr, Fact>;

/// What a target that may have the connection has answered.
struct Answer {
    refused: bool,
    owns: bool,
    is_anothers: bool,
    exact: Option<Refusal>,
}

impl Answer {
    /// Whether a RST with ACK answers the segment.
    fn has_ack(&self) -> bool {
        self.exact.is_some_and(|refusal| refusal.ack.is_some())
    }
}

/// Decides on a segment at a POP that lacks a rule, if it does; `facts` become what is known then.
pub fn decide(without: Option<Rule>, facts: &mut Facts, asked: &Question<'_>, now_ms: u64) -> Deed {
    let lacks = |rule| without == Some(rule);
    let Question { choice, damaged, .. } = asked;
    let new: BTreeSet<_> = choice.new.into_iter().collect();
    let believed = !damaged || lacks(Rule::DamagedSegment);
    if asked.opens {
        let exact = choice.new.and_then(|new| exact(without, facts, asked, new));
        return match exact {
            Some(refusal) if believed => {
                if !lacks(Rule::RstOnce) {
                    forget(facts, &new);
                }
                Deed::Tell(refusal)
            }
            Some(_) => Deed::To(new),
            None => {
                if !lacks(Rule::SynClears) {
                    forget(facts, &choice.candidates);
                    forget(facts, &new);
                }
                Deed::To(new)
            }
        };
    }
    let candidates: BTreeSet<_> = match lacks(Rule::Candidates) {
        true => new,
        false => choice.candidates.iter().copied().collect(),
    };
    if asked.is_rst && !lacks(Rule::ClientRst) {
        return Deed::To(candidates);
    }
    let answers: Vec<_> =
        candidates.iter().map(|target| (*target, answer(without, facts, asked, *target))).collect();
    let those = |is: &dyn Fn(&Answer) -> bool| -> BTreeSet<SocketAddr> {
        answers.iter().filter(|one| is(&one.1)).map(|one| one.0).collect()
    };
    let first = answers.iter().find_map(|one| one.1.exact);
    if let Some(refusal) = first.filter(|_| lacks(Rule::Every) && believed) {
        forget(facts, &candidates);
        return Deed::Tell(refusal);
    }
    let owners = those(&|answer| answer.owns);
    if !owners.is_empty() {
        return Deed::To(owners);
    }
    let left = those(&|answer| !answer.refused && !answer.is_anothers && !answer.has_ack());
    if !left.is_empty() {
        return Deed::To(left);
    }
    let next = choice.next.map(|next| (next, answer(without, facts, asked, next)));
    if let Some((target, _)) = next.as_ref().filter(|next| next.1.owns) {
        return Deed::To([*target].into());
    }
    let silent = those(&|answer| answer.exact.is_none());
    if !silent.is_empty() && candidates.len() > 1 {
        forget(facts, &silent);
    }
    let Some(refusal) = first.filter(|_| silent.is_empty() && believed) else {
        return Deed::To(candidates);
    };
    if let Some((target, answer)) = &next
        && !answer.refused
        && !answer.has_ack()
        && !was_asked(facts, asked, *target)
        && !lacks(Rule::NextAsked)
    {
        if let Some(ack) = asked.ack {
            let known = Known::Asked { tag: asked.tag, ack };
            facts.entry(*target).or_default().known = Some((known, now_ms));
        }
        return Deed::To([*target].into());
    }
    if !lacks(Rule::RstOnce) {
        forget(facts, &candidates);
        forget(facts, &next.map(|next| next.0));
    }
    Deed::Tell(refusal)
}

fn forget<'a>(facts: &mut Facts, targets: impl IntoIterator<Item = &'a SocketAddr>) {
    for target in targets {
        facts.insert(*target, Fact::default());
    }
}

fn was_asked(facts: &Facts, asked: &Question<'_>, target: SocketAddr) -> bool {
    let known = facts.get(&target).and_then(|fact| fact.known);
    match (known, asked.ack) {
        (Some((Known::Asked { tag, ack }, _)), Some(now)) => tag == asked.tag && near(ack, now),
        _ => false,
    }
}

/// What is known of a target about a segment; the place of a refusal moves.
fn answer(
    without: Option<Rule>,
    facts: &mut Facts,
    asked: &Question<'_>,
    target: SocketAddr,
) -> Answer {
    let lacks = |rule| without == Some(rule);
    let is_near = |number| asked.ack.is_some_and(|ack| near(number, ack));
    let exact = exact(without, facts, asked, target);
    let mut answer = Answer { refused: false, owns: false, is_anothers: false, exact };
    match facts.get_mut(&target).and_then(|fact| fact.known.as_mut()) {
        Some((Known::Refused { place, .. }, _)) if is_near(*place) => {
            *place = asked.ack.unwrap_or(*place);
            answer.refused = true;
        }
        Some((Known::Refused { .. }, _)) => answer.refused = lacks(Rule::Near),
        Some((Known::Owner { tag, stage, .. }, _)) => {
            let is_its = *tag == asked.tag || lacks(Rule::OwnerTag);
            let now = asked.ack.map(|down| Stage { down, up: asked.end });
            let now = now.filter(|now| is_its && (stage.is_near(*now) || lacks(Rule::OwnerStage)));
            (answer.owns, answer.is_anothers) = (now.is_some(), !is_its);
            *stage = now.unwrap_or(*stage);
        }
        _ => {}
    }
    answer
}

/// The RST that answers a segment to a target.
fn exact(
    without: Option<Rule>,
    facts: &Facts,
    asked: &Question<'_>,
    target: SocketAddr,
) -> Option<Refusal> {
    let of = |target: SocketAddr| {
        let fact = facts.get(&target)?;
        let bare = match fact.known {
            Some((Known::Refused { rst: Some(seq), .. }, _)) => {
                Some(Refusal { target, seq, ack: None })
            }
            _ => None,
        };
        let rsts = fact.rst.map(|rst| rst.0).into_iter().chain(bare);
        rsts.into_iter().find(|refusal| fits(refusal, asked, without))
    };
    match without == Some(Rule::RstTarget) {
        true => asked.all.iter().find_map(|target| of(*target)),
        false => of(target),
    }
}

/// Whether a host that has no socket answers a segment with these numbers (RFC 9293, section
/// 3.10.7.1), as far as a RST shows.
fn fits(refusal: &Refusal, asked: &Question<'_>, without: Option<Rule>) -> bool {
    match refusal.ack {
        Some(ack) => {
            (ack == asked.end || without == Some(Rule::RstEnd))
                && (asked.ack.is_none_or(|ack| ack == refusal.seq) || without == Some(Rule::RstAck))
        }
        None => asked.ack == Some(refusal.seq) || without == Some(Rule::RstSeq),
    }
}
