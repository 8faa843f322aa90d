//! What is known of a target at an egress endpoint.

use super::numbers::Progress;
use crate::seq::SeqNum;

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

    /// Whether it answers `segment` (RFC 9293, section 3.10.7.1).
    pub fn answers(self, segment: &Segment) -> bool {
        match self {
            Rst::Acknowledging { seq, ack } => {
                ack == segment.end && segment.ack.is_none_or(|acked| acked == seq)
            }
            Rst::Bare { seq } => segment.ack == Some(seq),
        }
    }
}

/// What a client's segment says.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its acknowledgment number, when it has ACK.
    pub ack: Option<SeqNum>,
    /// The number after its last byte or mark.
    pub end: SeqNum,
    /// The client's tag; 0 in the modes without.
    pub tag: u32,
}

impl Segment {
    /// How far its connection has got; `None` without ACK.
    #[inline]
    pub fn progress(&self) -> Option<Progress> {
        self.ack.map(|ack| Progress::new(ack, self.end))
    }
}

/// A connection that a target's segment shows it to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The client's tag; 0 in the modes without.
    pub tag: u32,
    /// The number after what the target has sent.
    pub end: SeqNum,
    /// The target's acknowledgment number.
    pub ack: SeqNum,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It refused a segment: it has no socket for those with acknowledgment numbers near `near`.
    Refused {
        /// The RST's number.
        rst: SeqNum,
        /// The acknowledgment number of the last segment that was near.
        near: SeqNum,
        /// Whether it was a RST, which answers a segment, or that it cannot be reached.
        is_exact: bool,
    },
    /// It has a socket there.
    Owner {
        /// The client's tag; 0 in the modes without.
        tag: u32,
        /// The number after what it has sent.
        end: SeqNum,
        /// When other POPs were told, in milliseconds, of which these are the low bits.
        told_ms: u32,
        /// How far the connection has got, by the last segment of either side.
        at: Progress,
    },
    /// It was asked after all others refused.
    Asked {
        /// The client's tag; 0 in the modes without.
        tag: u32,
        /// The acknowledgment number of the segment.
        ack: SeqNum,
    },
}

impl Known {
    /// The words that are kept.
    pub(super) fn encode(self) -> [u64; 2] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        match self {
            Known::Refused { rst, near, is_exact } => {
                [pair(rst.0, near.0), if is_exact { EXACT } else { UNREACHABLE }]
            }
            Known::Owner { tag, end, told_ms, at } => {
                let at = u64::from(at.to_bits()) << PROGRESS_BIT;
                [pair(end.0, told_ms), at | OWNER | u64::from(tag)]
            }
            Known::Asked { tag, ack } => [pair(ack.0, 0), ASKED | u64::from(tag)],
        }
    }

    pub(super) fn decode([numbers, kind]: [u64; 2]) -> Option<Known> {
        let (high, low) = (SeqNum((numbers >> 32) as u32), numbers as u32);
        let tag = kind as u32;
        Some(match kind & KIND {
            EXACT => Known::Refused { rst: high, near: SeqNum(low), is_exact: true },
            UNREACHABLE => Known::Refused { rst: high, near: SeqNum(low), is_exact: false },
            OWNER => {
                let at = Progress::from_bits((kind >> PROGRESS_BIT) as u32);
                Known::Owner { tag, end: high, told_ms: low, at }
            }
            ASKED => Known::Asked { tag, ack: high },
            _ => return None,
        })
    }
}

const KIND: u64 = 7 << 32;
const EXACT: u64 = 1 << 32;
const UNREACHABLE: u64 = 2 << 32;
const OWNER: u64 = 3 << 32;
const ASKED: u64 = 4 << 32;
/// Where an owner's progress begins.
const PROGRESS_BIT: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(tag: u32, one: u32, other: u32, is_exact: bool) {
            let (seq, told_ms) = (SeqNum(one), other);
            let at = Progress::new(SeqNum(other), seq);
            for known in [
                Known::Refused { rst: seq, near: SeqNum(other), is_exact },
                Known::Owner { tag, end: seq, told_ms, at },
                Known::Asked { tag, ack: seq },
            ] {
                prop_assert_eq!(Known::decode(known.encode()), Some(known));
            }
        }
    }
}
