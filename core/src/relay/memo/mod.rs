//! The endpoint memo: what a POP remembers of egress endpoints, to tell clients of refusals.
//!
//! RSTs of targets that have no socket carry no timestamps, and so no tag to map them by. Two
//! tables, under the service and the egress address and port, say for whom a RST is:
//!
//! - the last SYN that was sent from the endpoint: a RST with ACK that acknowledges it goes to its
//!   client at once;
//! - RSTs that no SYN explains. The next segment of a client that maps there is answered with the
//!   RST, if it answers that very segment (RFC 9293, section 3.10.7.1): a RST with ACK must
//!   acknowledge the segment's end, and a RST must have the segment's acknowledgment number, if the
//!   segment has one, as its own number. A RST without ACK answers no segment without ACK. So what
//!   refused a SYN does not answer the ACK of a handshake, which has the same end.
//!
//! Both are bounded, shared by a POP's workers, and lost without harm: then a client is told later,
//! or times out.

mod atomic;
mod slots;

use slots::{Slots, WAYS};

use crate::net::Endpoint;
use crate::seq::SeqNum;
use crate::time::Instant;

/// How long the memo remembers, in milliseconds: longer than the 75 s between two keepalive probes
/// of most hosts.
pub const LIFETIME_MS: u64 = 120_000;

/// For how long the same RST again is no news to other POPs, in milliseconds.
pub const REPEAT_MS: u64 = 100;

/// An egress endpoint of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the service, below 2^14.
    pub service: u16,
    /// Egress address.
    pub address: u32,
    /// Egress port.
    pub port: u16,
}

/// A client's SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// The client.
    pub client: Endpoint,
    /// The number after the SYN and its data.
    pub end: SeqNum,
}

/// A target's RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rst {
    /// RST without ACK: answers a segment that acknowledged `seq`.
    Bare {
        /// Its sequence number.
        seq: SeqNum,
    },
    /// RST with ACK: answers a segment that ended at `ack`.
    Acknowledging {
        /// Its sequence number.
        seq: SeqNum,
        /// Its acknowledgment number.
        ack: SeqNum,
    },
}

impl Rst {
    /// Its sequence number, and its acknowledgment number, if it has one.
    pub fn numbers(self) -> (SeqNum, Option<SeqNum>) {
        match self {
            Rst::Bare { seq } => (seq, None),
            Rst::Acknowledging { seq, ack } => (seq, Some(ack)),
        }
    }
}

/// What a client's segment must say to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its acknowledgment number, when it has ACK.
    pub ack: Option<SeqNum>,
    /// The number after its last byte or mark.
    pub end: SeqNum,
    /// The target that it goes to.
    pub target: Endpoint,
}

/// The memo.
#[derive(Debug)]
pub struct EndpointMemo {
    syns: Slots,
    rsts: Slots,
}

impl EndpointMemo {
    /// A memo of so many SYNs and so many RSTs, at least 4 of each.
    pub fn new(syns: usize, rsts: usize) -> Self {
        EndpointMemo { syns: Slots::new(syns.max(WAYS)), rsts: Slots::new(rsts.max(WAYS)) }
    }

    /// Remembers the SYN that is sent from `place`, in place of one before it.
    pub fn remember_syn(&self, now: Instant, place: Place, syn: Syn) {
        let Syn { client, end } = syn;
        self.syns.keep(key(place, SYN), [number(client), end.0.into()], over(now));
    }

    /// Forgets the SYN that was sent from `place`: it is no longer the last.
    pub fn forget_syn(&self, now: Instant, place: Place) {
        self.syns.take(key(place, SYN), now.as_millis(), |_| true);
    }

    /// The client whose SYN the RST, sent to `place`, answers. It is told once: the SYN is
    /// forgotten.
    pub fn refused(&self, now: Instant, place: Place, rst: Rst) -> Option<Endpoint> {
        let Rst::Acknowledging { ack, .. } = rst else { return None };
        let answers = |[_, end]: [u64; 2]| end == u64::from(ack.0);
        let [client, _] = self.syns.take(key(place, SYN), now.as_millis(), answers)?;
        Some(endpoint(client))
    }

    /// Remembers a RST of `target`; the oldest of its slots gives way when none is free. False when
    /// the same one was remembered within [`REPEAT_MS`].
    pub fn remember_rst(&self, now: Instant, place: Place, target: Endpoint, rst: Rst) -> bool {
        let (kind, numbers) = match rst {
            Rst::Bare { seq } => (BARE, u64::from(seq.0) << 32),
            Rst::Acknowledging { seq, ack } => {
                (ACKNOWLEDGING, u64::from(seq.0) << 32 | u64::from(ack.0))
            }
        };
        let (key, words) = (key(place, kind), [numbers, number(target)]);
        let recent = (over(now) + 1).saturating_sub(REPEAT_MS);
        let is_news = !self.rsts.holds(key, words, recent);
        self.rsts.keep(key, words, over(now));
        is_news
    }

    /// Whether no RST is remembered.
    #[inline]
    pub fn has_no_rsts(&self) -> bool {
        self.rsts.is_empty()
    }

    /// Takes out the RST that answers `segment`, sent from `place`.
    pub fn take_rst(&self, now: Instant, place: Place, segment: Segment) -> Option<Rst> {
        [ACKNOWLEDGING, BARE].into_iter().find_map(|kind| {
            let answers = |[numbers, target]: [u64; 2]| {
                target == number(segment.target) && answers(decode(kind, numbers), segment)
            };
            let [numbers, _] = self.rsts.take(key(place, kind), now.as_millis(), answers)?;
            Some(decode(kind, numbers))
        })
    }

    /// Forgets the RSTs that were sent to `place`: a new connection begins there.
    pub fn forget_rsts(&self, now: Instant, place: Place) {
        for kind in [ACKNOWLEDGING, BARE] {
            self.rsts.take(key(place, kind), now.as_millis(), |_| true);
        }
    }

    /// How many SYNs and RSTs are remembered.
    pub fn len(&self) -> (u32, u32) {
        (self.syns.used(), self.rsts.used())
    }

    /// Frees slots of what is too old, some thousands in each call.
    pub fn expire(&self, now: Instant) {
        self.syns.expire(now.as_millis());
        self.rsts.expire(now.as_millis());
    }
}

fn over(now: Instant) -> u64 {
    now.as_millis() + LIFETIME_MS
}

fn answers(rst: Rst, segment: Segment) -> bool {
    match rst {
        Rst::Acknowledging { seq, ack } => {
            ack == segment.end && segment.ack.is_none_or(|acked| acked == seq)
        }
        Rst::Bare { seq } => segment.ack == Some(seq),
    }
}

/// The two kinds of RSTs, and SYNs, which have a table of their own.
const ACKNOWLEDGING: u64 = 0;
const BARE: u64 = 1;
const SYN: u64 = 0;

fn key(place: Place, kind: u64) -> u64 {
    let service = u64::from(place.service) & 0x3fff;
    1 << 63 | kind << 62 | service << 48 | u64::from(place.address) << 16 | u64::from(place.port)
}

fn number(at: Endpoint) -> u64 {
    u64::from(at.ip) << 16 | u64::from(at.port)
}

fn endpoint(number: u64) -> Endpoint {
    Endpoint { ip: (number >> 16) as u32, port: number as u16 }
}

fn decode(kind: u64, numbers: u64) -> Rst {
    let seq = SeqNum((numbers >> 32) as u32);
    match kind {
        BARE => Rst::Bare { seq },
        _ => Rst::Acknowledging { seq, ack: SeqNum(numbers as u32) },
    }
}

#[cfg(test)]
mod tests;
