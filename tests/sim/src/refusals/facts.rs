//! What is known of a target at an egress endpoint.

use std::net::SocketAddr;

use anyrelay_kit::frames::{ACK, RST};

use crate::wire::SegmentView;

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
        is_one.then(|| Refusal::numbers(segment))
    }

    /// The numbers of a RST.
    pub fn numbers(segment: &SegmentView<'_>) -> Self {
        let ack = segment.has(ACK).then_some(segment.ack);
        Refusal { target: segment.src, seq: segment.seq, ack }
    }

    /// Whether it is the same RST, whoever sent it.
    pub fn is_like(&self, other: &Refusal) -> bool {
        (self.seq, self.ack) == (other.seq, other.ack)
    }
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has no socket for segments near a place. Without the number of a RST, it cannot be
    /// reached.
    Refused { rst: Option<u32>, place: u32 },
    /// It has a connection of the client with that tag, and sent up to that end. Others were told
    /// of it. Segments of the connection were last seen at that stage.
    Owner { tag: u32, end: u32, told_ms: Option<u64>, stage: Stage },
    /// It was asked after all others.
    Asked { tag: u32, ack: u32 },
}

/// What is known of one target, each with the time since when: what it is, and a RST with ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    pub known: Option<(Known, u64)>,
    pub rst: Option<(Refusal, u64)>,
}

impl Fact {
    /// Without what is too old.
    pub fn at(self, now_ms: u64) -> Self {
        let in_time = |since_ms: u64| now_ms <= since_ms + LIFETIME_MS;
        let known = self.known.filter(|(known, since_ms)| match known {
            Known::Refused { rst: None, .. } => now_ms <= since_ms + UNREACHABLE_MS,
            _ => in_time(*since_ms),
        });
        Fact { known, rst: self.rst.filter(|rst| in_time(rst.1)) }
    }
}

/// What the target has sent and what the client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub down: u32,
    pub up: u32,
}

impl Stage {
    /// Whether both are near, as far as numbers without their last 20 bits say.
    pub fn is_near(self, other: Stage) -> bool {
        let least = |number: u32| number & !0xf_ffff;
        let are_near = |one, other| {
            let apart = least(one).wrapping_sub(least(other)) as i32;
            apart.unsigned_abs() <= 1 << 24
        };
        are_near(self.down, other.down) && are_near(self.up, other.up)
    }
}

/// Whether two numbers are near each other.
pub fn near(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32).unsigned_abs() < 1 << 24
}

/// How long a POP remembers, in milliseconds.
pub const LIFETIME_MS: u64 = 120_000;

/// How long it remembers that a target cannot be reached, in milliseconds.
const UNREACHABLE_MS: u64 = 3000;
