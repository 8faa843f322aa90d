//! What each POP knows. Where it is not certain (a frame was damaged, nothing shows what a POP made
//! of it, or the POP remembers few things), all that it may know is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyrelay_core::relay::mapping::Mapping;
use anyrelay_core::relay::memo::Owned;
use anyrelay_kit::pop::{Recorder, Said};

use super::decide::{Deed, Facts, Question, decide};
use super::facts::{Fact, Known, LIFETIME_MS, Refusal, Stage};
use super::rule::Rule;

/// An egress endpoint of a service, which is named by its place.
pub type Place = (usize, SocketAddr);

/// A target at an egress endpoint.
pub type Tagged = (Place, SocketAddr);

/// A SYN that a POP sent on.
#[derive(Clone, Copy, Debug)]
pub struct Syn {
    pub client: SocketAddr,
    pub end: u32,
}

/// What a target's segment shows of an owner.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The client that it is sent to, if that is known.
    pub client: Option<SocketAddr>,
    pub tag: u32,
    pub end: u32,
    /// Its acknowledgment number.
    pub ack: u32,
    /// Only a target that was asked shows it.
    pub if_asked: bool,
    /// It need not be believed.
    pub perhaps: bool,
}

impl Owner {
    /// What another POP says of the connection of a client.
    pub fn hinted(owned: Owned, client: Option<SocketAddr>) -> Self {
        let Owned { tag, end, ack } = owned;
        Owner { client, tag, end: end.0, ack: ack.0, if_asked: false, perhaps: false }
    }
}

/// What becomes of a target's RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the client whose SYN it answers.
    Client(SocketAddr),
    /// It goes to the client with that tag.
    Tag(u32),
    /// It waits.
    Waits,
}

/// What the POP says that it has mapped a segment by.
pub fn mapped(out: &Recorder) -> Option<&Mapping> {
    out.said.iter().find_map(|said| match said {
        Said::Mapped(_, mapping) => Some(mapping),
        _ => None,
    })
}

/// A POP, and the milliseconds of its monotonic clock.
pub type PopTime = (usize, u64);

/// What the POPs know.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    without: Option<Rule>,
    /// POPs may have forgotten anything.
    pub is_forgetful: bool,
    pops: BTreeMap<usize, Memo>,
}

#[derive(Clone, Debug, Default)]
struct Memo {
    syns: BTreeMap<Place, Vec<Remembered>>,
    /// What may be known.
    facts: BTreeMap<Tagged, Vec<Fact>>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    syn: Syn,
    since_ms: u64,
    /// It may have been forgotten.
    perhaps: bool,
}

impl Refusals {
    /// The model of POPs that lack a rule.
    pub fn without(rule: Rule) -> Self {
        Refusals { without: Some(rule), ..Refusals::default() }
    }

    /// A POP begins anew.
    pub fn forget(&mut self, pop: usize) {
        self.pops.remove(&pop);
    }

    /// A POP decides on a segment; `seen` says whether that is what it did. An error, with all that
    /// it may do, if it is none of these.
    pub fn ask(
        &mut self,
        (pop, now_ms): PopTime,
        asked: &Question<'_>,
        seen: impl Fn(&Deed) -> bool,
    ) -> Result<Deed, Vec<Deed>> {
        let mut concerned = asked.concerned();
        if self.without.is_some() {
            concerned.extend(asked.all);
        }
        let (mut found, mut others) = (Vec::new(), Vec::new());
        let mut known: Vec<Facts> = vec![Facts::new()];
        for target in &concerned {
            let facts = self.facts((pop, now_ms), (asked.place, *target));
            let with = |fact: &Fact| {
                let fact = *fact;
                known.iter().map(move |before| {
                    let mut facts = before.clone();
                    facts.insert(*target, fact);
                    facts
                })
            };
            known = facts.iter().flat_map(with).collect();
        }
        for mut facts in known {
            let deed = decide(self.without, &mut facts, asked, now_ms);
            match seen(&deed) {
                true => found.push((deed, facts)),
                false if !others.contains(&deed) => others.push(deed),
                false => {}
            }
        }
        let Some((deed, _)) = found.first().cloned() else { return Err(others) };
        let memo = self.pops.entry(pop).or_default();
        for target in concerned {
            let mut facts = Vec::new();
            for (_, of_all) in &found {
                let fact = of_all.get(&target).copied().unwrap_or_default();
                if !facts.contains(&fact) {
                    facts.push(fact);
                }
            }
            memo.put((asked.place, target), facts);
        }
        Ok(deed)
    }

    /// A POP sends on a SYN and remembers it.
    pub fn syn(&mut self, (pop, now_ms): PopTime, place: Place, syn: Syn) {
        let (keeps_syns, perhaps) = (self.lacks(Rule::SynLast), self.is_forgetful);
        let syns = self.pops.entry(pop).or_default().syns.entry(place).or_default();
        if !keeps_syns {
            syns.clear();
        }
        syns.push(Remembered { syn, since_ms: now_ms, perhaps });
    }

    /// What may become of a RST; `may_be_of` says whether a client's segments may go to the target.
    pub fn fates(
        &self,
        at: PopTime,
        place: Place,
        refusal: Refusal,
        may_be_of: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Fate> {
        let mut fates = Vec::new();
        if let Some(syn) = self.refused_syn(at, place, refusal, may_be_of) {
            fates.push(Fate::Client(syn.syn.client));
            if !syn.perhaps {
                return fates;
            }
        }
        for fact in self.facts(at, (place, refusal.target)) {
            let fate = tag_of(&fact, refusal).map_or(Fate::Waits, Fate::Tag);
            if !fates.contains(&fate) {
                fates.push(fate);
            }
        }
        fates
    }

    fn refused_syn(
        &self,
        (pop, now_ms): PopTime,
        place: Place,
        refusal: Refusal,
        may_be_of: impl Fn(SocketAddr) -> bool,
    ) -> Option<Remembered> {
        let [any_end, any_target, for_ever] =
            [Rule::SynEnd, Rule::SynTarget, Rule::SynLifetime].map(|rule| self.lacks(rule));
        let ack = refusal.ack?;
        let syns = self.pops.get(&pop)?.syns.get(&place)?;
        let found = syns.iter().find(|one| {
            (ack == one.syn.end || any_end)
                && (any_target || may_be_of(one.syn.client))
                && (now_ms <= one.since_ms + LIFETIME_MS || for_ever)
        });
        found.copied()
    }

    /// That became of it.
    pub fn settle(&mut self, at: PopTime, place: Place, refusal: Refusal, fate: Fate) {
        let (pop, now_ms) = at;
        let (key, again) = ((place, refusal.target), self.lacks(Rule::SynOnce));
        let mut facts = self.facts(at, key);
        let memo = self.pops.entry(pop).or_default();
        match fate {
            Fate::Client(_) if again => {}
            Fate::Client(client) => {
                let syns = memo.syns.entry(place).or_default();
                let of = |one: &Remembered| one.syn.client == client;
                if let Some(found) = syns.iter().position(of) {
                    syns.remove(found);
                }
            }
            Fate::Tag(tag) => {
                facts.retain(|fact| tag_of(fact, refusal) == Some(tag));
                facts.iter_mut().for_each(|fact| fact.known = None);
                memo.put(key, facts);
            }
            Fate::Waits => {
                facts.retain(|fact| tag_of(fact, refusal).is_none());
                for fact in &mut facts {
                    let known = Known::Refused { rst: Some(refusal.seq), place: refusal.seq };
                    match refusal.ack {
                        Some(_) => fact.rst = Some((refusal, now_ms)),
                        None => fact.known = Some((known, now_ms)),
                    }
                }
                memo.put(key, facts);
            }
        }
    }

    /// Nothing shows which of these became of it.
    pub fn settle_hidden(&mut self, at: PopTime, place: Place, refusal: Refusal, fates: &[Fate]) {
        let before = self.facts(at, (place, refusal.target));
        let mut all = Vec::new();
        for fate in fates {
            match fate {
                Fate::Client(_) => {
                    all.extend(before.iter().copied());
                    let memo = self.pops.entry(at.0).or_default();
                    let syns = memo.syns.entry(place).or_default();
                    syns.iter_mut().for_each(|one| one.perhaps = true);
                }
                _ => {
                    self.settle(at, place, refusal, *fate);
                    all.extend(self.facts(at, (place, refusal.target)));
                    let memo = self.pops.entry(at.0).or_default();
                    memo.put((place, refusal.target), before.clone());
                }
            }
        }
        self.pops.entry(at.0).or_default().put((place, refusal.target), all);
    }

    /// A target's segment shows that it owns a connection.
    pub fn owner(&mut self, at: PopTime, key: Tagged, owner: Owner) {
        let is_old = self.is_before_syn(at, key.0, &owner);
        if is_old == Some(true) {
            return;
        }
        let perhaps = owner.perhaps || is_old.is_none();
        let mut facts = self.facts(at, key);
        if perhaps {
            facts.extend(facts.clone());
        }
        let half = if perhaps { facts.len() / 2 } else { facts.len() };
        let stage = Stage { down: owner.end, up: owner.ack };
        for fact in &mut facts[..half] {
            let told_ms = match fact.known {
                Some((Known::Asked { .. }, _)) => None,
                _ if owner.if_asked => continue,
                Some((Known::Owner { tag, told_ms, .. }, _)) if tag == owner.tag => told_ms,
                _ => None,
            };
            let known = Known::Owner { tag: owner.tag, end: owner.end, told_ms, stage };
            fact.known = Some((known, at.1));
        }
        self.pops.entry(at.0).or_default().put(key, facts);
    }

    /// Whether a target's segment is of a connection that was before the client's last SYN; `None`
    /// where the POP may have forgotten that.
    fn is_before_syn(&self, (pop, now_ms): PopTime, place: Place, owner: &Owner) -> Option<bool> {
        let syns = self.pops.get(&pop).and_then(|memo| memo.syns.get(&place));
        let last = syns.and_then(|syns| syns.last()).filter(|last| {
            Some(last.syn.client) == owner.client && now_ms <= last.since_ms + LIFETIME_MS
        });
        let Some(last) = last else { return Some(false) };
        let is_before = !self.lacks(Rule::OwnerSyn) && before(owner.ack, last.syn.end);
        (!last.perhaps || !is_before).then_some(is_before)
    }

    /// A POP tells others of an owner: false if it has told them not long before.
    pub fn told_owner(&mut self, at: PopTime, key: Tagged) -> bool {
        let mut facts = self.facts(at, key);
        facts.retain(|fact| match fact.known {
            Some((Known::Owner { told_ms: Some(told_ms), .. }, _)) => {
                at.1 >= told_ms + OWNER_REPEAT_MS
            }
            _ => true,
        });
        for fact in &mut facts {
            if let Some((Known::Owner { told_ms, .. }, _)) = &mut fact.known {
                *told_ms = Some(at.1);
            }
        }
        let may = !facts.is_empty();
        if may {
            self.pops.entry(at.0).or_default().put(key, facts);
        }
        may
    }

    /// What is known of a target is forgotten, or may be.
    pub fn clear(&mut self, at: PopTime, key: Tagged, perhaps: bool) {
        let mut facts = if perhaps { self.facts(at, key) } else { Vec::new() };
        facts.push(Fact::default());
        self.pops.entry(at.0).or_default().put(key, facts);
    }

    /// A target cannot be reached with segments that acknowledge `ack`.
    pub fn unreachable(&mut self, at: PopTime, key: Tagged, ack: u32, perhaps: bool) {
        let before = self.facts(at, key);
        let known = Known::Refused { rst: None, place: ack };
        let after = before.iter().map(|fact| Fact { known: Some((known, at.1)), ..*fact });
        let mut facts: Vec<_> = after.collect();
        if perhaps {
            facts.extend(before);
        }
        self.pops.entry(at.0).or_default().put(key, facts);
    }

    /// What may be known of a target.
    fn facts(&self, (pop, now_ms): PopTime, key: Tagged) -> Vec<Fact> {
        let known = self.pops.get(&pop).and_then(|memo| memo.facts.get(&key));
        let mut facts = Vec::new();
        for fact in known.map_or(&[Fact::default()][..], Vec::as_slice) {
            let fact = if self.lacks(Rule::RstLifetime) { *fact } else { fact.at(now_ms) };
            let less = [Fact { known: None, ..fact }, Fact { rst: None, ..fact }, Fact::default()];
            let less = less.into_iter().filter(|_| self.is_forgetful);
            for fact in std::iter::once(fact).chain(less) {
                if !facts.contains(&fact) {
                    facts.push(fact);
                }
            }
        }
        facts
    }

    fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }
}

impl Memo {
    fn put(&mut self, key: Tagged, facts: Vec<Fact>) {
        match facts[..] == [Fact::default()] {
            true => self.facts.remove(&key),
            false => self.facts.insert(key, facts),
        };
    }
}

/// The tag of the client that a RST is for, by what is known of its target.
fn tag_of(fact: &Fact, refusal: Refusal) -> Option<u32> {
    match fact.known? {
        (Known::Owner { tag, end, .. }, _) if end == refusal.seq => Some(tag),
        (Known::Asked { tag, ack }, _) if ack == refusal.seq => Some(tag),
        _ => None,
    }
}

fn before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// Others are told of the same owner only after so long, in milliseconds.
const OWNER_REPEAT_MS: u64 = 10_000;
