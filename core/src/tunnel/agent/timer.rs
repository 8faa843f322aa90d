//! The schedule of keepalives.

use crate::time::Instant;

/// The schedule of keepalives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// The keepalive in progress.
    pub(super) round: Option<Round>,
    /// The time at which the next begins.
    pub(super) next_at: Instant,
    /// Successive keepalives that were given up.
    pub(super) unanswered: u32,
    /// Successive ports on which none was answered.
    pub(super) fruitless: u32,
    /// Steps of alignment and naming since the last token.
    pub(super) steps: u32,
}

/// One keepalive and its repetitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Transmissions so far.
    pub(super) sent: u32,
    pub(super) started: Instant,
    /// The time at which it is repeated or given up.
    pub(super) at: Instant,
}

impl Timer {
    pub(super) const fn new(now: Instant) -> Self {
        Timer { round: None, next_at: now, unanswered: 0, fruitless: 0, steps: 0 }
    }

    pub(super) fn next(&self) -> Instant {
        self.round.map_or(self.next_at, |round| round.at)
    }

    pub(super) fn clear(&mut self, now: Instant) {
        *self = Timer { fruitless: self.fruitless, ..Timer::new(now) };
    }

    /// How long to wait before another port: not at all for the first, then longer and longer, so
    /// that an agent whose key is refused does not flood NATs with flows.
    pub(super) fn wait_before_anew_ms(&self) -> u64 {
        match self.fruitless {
            0 | 1 => 0,
            count => (1000 << count.min(6)).min(ANEW_WAIT_MS_MAX),
        }
    }
}

/// The longest wait before another port, in milliseconds.
const ANEW_WAIT_MS_MAX: u64 = 60_000;
