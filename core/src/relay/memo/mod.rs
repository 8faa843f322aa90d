//! The endpoint memo: what a POP remembers of egress endpoints, to send clients' segments to no
//! more targets than need be, and to tell clients of refusals.
//!
//! A target without a socket for a segment answers with a RST. Such RSTs have no timestamps, and so
//! no tag to map them by. Two tables, under a keyed hash of service, egress endpoint and target,
//! say for whom a RST is and where a segment need not go:
//!
//! - the last SYN that was sent from the endpoint: a RST with ACK that acknowledges it goes to its
//!   client at once;
//! - what is known of a target: that it refused a segment, that it owns the connection at the
//!   endpoint, or that it was asked after all others ([`Known`]). Beside it, a refused SYN.
//!
//! A refusal *answers* a segment under the conditions of RFC 9293, section 3.10.7.1: a RST with ACK
//! must acknowledge the segment's end, and a RST must have the segment's acknowledgment number, if
//! the segment has one, as its own number. A RST without ACK answers no segment without ACK. So
//! what refused a SYN does not answer the ACK of a handshake, which has the same end.
//!
//! Both tables are bounded, shared by a POP's workers, and lost without harm: then a segment goes
//! to more targets, and a client is told later, or times out.

mod atomic;
mod known;
mod numbers;
mod place;
mod seen;
mod slots;
mod times;

use seen::Seen;
use slots::{Slots, WAYS};

use crate::net::IpEndpoint;
use crate::seq::SeqNum;
use crate::time::Instant;

pub use known::{Known, Owned, Rst, Segment};
pub use numbers::{NEAR, Progress};
pub use place::{MemoKey, Place};
pub use times::{LIFETIME_MS, OWNER_REPEAT_MS, REPEAT_MS, UNREACHABLE_MS};

/// A client's SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// The tag of the client; 0 in modes without tags, where the egress endpoint is the client's
    /// alone.
    pub tag: u32,
    /// The number after the SYN and its data.
    pub end: SeqNum,
}

/// The memo.
#[derive(Debug)]
pub struct EndpointMemo {
    key: MemoKey,
    syns: Slots,
    targets: Slots,
    /// The egress endpoints of what is in `targets`.
    seen: Seen,
}

impl EndpointMemo {
    /// A memo of so many SYNs and so much about targets, at least 4 of each.
    pub fn new(key: MemoKey, syns: usize, targets: usize) -> Self {
        let seen = Seen::new(key.of_filter(), targets.max(WAYS));
        let (syns, targets) = (Slots::new(syns.max(WAYS)), Slots::new(targets.max(WAYS)));
        EndpointMemo { key, syns, targets, seen }
    }

    /// Remembers the SYN that is sent from `place`, in place of one before it.
    pub fn remember_syn(&self, now: Instant, place: Place, syn: Syn) {
        let Syn { tag, end } = syn;
        self.syns.keep(self.key.of(place, None, 0), [tag.into(), end.0.into()], over(now));
    }

    /// Forgets the SYN that was sent from `place`: it is no longer the last.
    pub fn forget_syn(&self, now: Instant, place: Place) {
        self.syns.take(self.key.of(place, None, 0), now.as_millis(), |_| true);
    }

    /// The end of the last SYN that was sent from `place`, if it was of the client with `tag`.
    pub fn last_syn(&self, now: Instant, place: Place, tag: u32) -> Option<SeqNum> {
        let key = self.key.of(place, None, 0);
        let [of, end] = self.syns.read(key, now.as_millis(), |_| None)?;
        (of == u64::from(tag)).then_some(SeqNum(end as u32))
    }

    /// The tag of the client whose SYN the RST, sent to `place`, answers, if `is_its` says that the
    /// RST's sender is one of its targets. It is told once: the SYN is forgotten.
    pub fn refused(
        &self,
        now: Instant,
        place: Place,
        rst: Rst,
        is_its: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let Rst::Acknowledging { ack, .. } = rst else { return None };
        let answers = |[tag, end]: [u64; 2]| end == u64::from(ack.0) && is_its(tag as u32);
        let key = self.key.of(place, None, 0);
        let [tag, _] = self.syns.take(key, now.as_millis(), answers)?;
        Some(tag as u32)
    }

    /// Whether nothing is known of any target.
    #[inline]
    pub fn knows_nothing(&self) -> bool {
        self.targets.is_empty()
    }

    /// Whether something may be known of a target at `egress`, of any service: no for most
    /// endpoints of which nothing is known.
    #[inline]
    pub fn may_know(&self, now: Instant, egress: IpEndpoint) -> bool {
        !self.knows_nothing() && self.seen.has(now, egress)
    }

    /// What is known of `target`, to which `segment` from `place` may have to go: a refusal, or an
    /// owner, that is near it is from now on near what follows it.
    pub fn known(
        &self,
        now: Instant,
        place: Place,
        target: IpEndpoint,
        segment: &Segment,
    ) -> Option<Known> {
        let key = self.key.of(place, Some(target), STATE);
        let follow = |words| match (Known::decode(words)?, segment.ack?) {
            (Known::Refused { rst, near, is_exact }, ack) if NEAR.holds(near, ack) => {
                Some(Known::Refused { rst, near: ack, is_exact }.encode())
            }
            (Known::Owner { tag, end, told_ms, at }, _) => {
                let is_its = |to: &Progress| tag == segment.tag && at.is_near(*to);
                let at = segment.progress().filter(is_its)?;
                Some(Known::Owner { tag, end, told_ms, at }.encode())
            }
            _ => None,
        };
        self.targets.read(key, now.as_millis(), follow).and_then(Known::decode)
    }

    /// The RST with ACK of `target` that answers `segment` from `place`.
    pub fn refused_syn(
        &self,
        now: Instant,
        place: Place,
        target: IpEndpoint,
        segment: &Segment,
    ) -> Option<Rst> {
        let key = self.key.of(place, Some(target), REFUSED_SYN);
        let words = self.targets.read(key, now.as_millis(), |_| None)?;
        Some(decode_acknowledging(words)).filter(|rst| rst.answers(segment))
    }

    /// What `target` is at `place`, whatever the segment.
    pub fn state(&self, now: Instant, place: Place, target: IpEndpoint) -> Option<Known> {
        let key = self.key.of(place, Some(target), STATE);
        self.targets.read(key, now.as_millis(), |_| None).and_then(Known::decode)
    }

    /// Remembers a RST of `target`. False when the same one was remembered within [`REPEAT_MS`].
    pub fn remember_rst(&self, now: Instant, place: Place, target: IpEndpoint, rst: Rst) -> bool {
        let (kind, words) = match rst {
            Rst::Bare { seq } => {
                (STATE, Known::Refused { rst: seq, near: seq, is_exact: true }.encode())
            }
            Rst::Acknowledging { seq, ack } => {
                (REFUSED_SYN, [u64::from(seq.0) << 32 | u64::from(ack.0), 0])
            }
        };
        let key = self.key.of(place, Some(target), kind);
        let recent = (over(now) + 1).saturating_sub(REPEAT_MS);
        let is_news = !self.targets.holds(key, words, recent);
        self.seen.add(now, place.egress);
        self.targets.keep(key, words, over(now));
        is_news
    }

    /// Remembers, for [`UNREACHABLE_MS`], that `target` cannot be reached with segments that
    /// acknowledge `ack`.
    pub fn remember_unreachable(
        &self,
        now: Instant,
        place: Place,
        target: IpEndpoint,
        ack: SeqNum,
    ) {
        let words = Known::Refused { rst: ack, near: ack, is_exact: false }.encode();
        let over = now.as_millis() + UNREACHABLE_MS;
        self.seen.add(now, place.egress);
        self.targets.keep(self.key.of(place, Some(target), STATE), words, over);
    }

    /// Remembers that `target` has a connection at `place`. True where other POPs may be told: they
    /// were not within [`OWNER_REPEAT_MS`].
    pub fn remember_owner(
        &self,
        now: Instant,
        place: Place,
        target: IpEndpoint,
        Owned { tag, end, ack }: Owned,
    ) -> bool {
        let key = self.key.of(place, Some(target), STATE);
        // Of the time 32 bits are kept: far more than the memo remembers.
        let now_ms = now.as_millis() as u32;
        let told_ms = match self.state(now, place, target) {
            Some(Known::Owner { tag: same, told_ms, .. })
                if same == tag && u64::from(now_ms.wrapping_sub(told_ms)) < OWNER_REPEAT_MS =>
            {
                Some(told_ms)
            }
            _ => None,
        };
        let at = Progress::new(end, ack);
        let owner = Known::Owner { tag, end, told_ms: told_ms.unwrap_or(now_ms), at };
        self.seen.add(now, place.egress);
        self.targets.keep(key, owner.encode(), over(now));
        told_ms.is_none()
    }

    /// Remembers that `target` is asked, after all others, with a segment of the client with `tag`
    /// that acknowledges `ack`.
    pub fn remember_asked(
        &self,
        now: Instant,
        place: Place,
        target: IpEndpoint,
        (tag, ack): (u32, SeqNum),
    ) {
        let key = self.key.of(place, Some(target), STATE);
        self.seen.add(now, place.egress);
        self.targets.keep(key, Known::Asked { tag, ack }.encode(), over(now));
    }

    /// The tag of the client that the RST of `target` at `place` is for: one whose connection the
    /// target owned up to the RST's number, or whose segment was the last one to be asked about.
    pub fn told(&self, now: Instant, place: Place, target: IpEndpoint, rst: Rst) -> Option<u32> {
        let (seq, _) = rst.numbers();
        let is_for = |words| match Known::decode(words) {
            Some(Known::Asked { tag, ack }) if ack == seq => Some(tag),
            Some(Known::Owner { tag, end, .. }) if end == seq => Some(tag),
            _ => None,
        };
        let key = self.key.of(place, Some(target), STATE);
        let answers = |words| is_for(words).is_some();
        self.targets.take(key, now.as_millis(), answers).and_then(is_for)
    }

    /// Forgets what is known of `target` at `place`: a new connection begins there, or the client
    /// was told.
    pub fn forget(&self, now: Instant, place: Place, target: IpEndpoint) {
        for kind in [STATE, REFUSED_SYN] {
            let key = self.key.of(place, Some(target), kind);
            self.targets.take(key, now.as_millis(), |_| true);
        }
    }

    /// How many SYNs are remembered, and how much is known of targets.
    pub fn len(&self) -> (u32, u32) {
        (self.syns.used(), self.targets.used())
    }

    /// Frees slots of what is too old, some thousands in each call.
    pub fn expire(&self, now: Instant) {
        self.syns.expire(now.as_millis());
        self.targets.expire(now.as_millis());
    }
}

fn over(now: Instant) -> u64 {
    now.as_millis() + LIFETIME_MS
}

/// What is kept of a target at a place: its state, and a refused SYN.
const STATE: u64 = 0;
const REFUSED_SYN: u64 = 1;

fn decode_acknowledging([numbers, _]: [u64; 2]) -> Rst {
    Rst::Acknowledging { seq: SeqNum((numbers >> 32) as u32), ack: SeqNum(numbers as u32) }
}

#[cfg(test)]
mod tests;
