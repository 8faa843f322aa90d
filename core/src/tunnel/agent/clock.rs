//! The agent's estimate of the POPs' tick, and of the time at which the next one begins.
//!
//! A keepalive reply names the POP's tick at some time between the request and the reply. That
//! bounds the difference of the two clocks from both sides; the intersection of the bounds of
//! several replies gives the phase of the tick more exactly than one. The bounds of POPs whose
//! clocks differ do not intersect; then the newest is used.

use crate::time::{Instant, Tick, UnixTime};

/// Follows the POPs' tick.
#[derive(Clone, Debug)]
pub(super) struct TickClock {
    tick_ns: i64,
    /// Bounds of the POPs' time less the agent's, in nanoseconds.
    low: i64,
    high: i64,
    learned_at: Instant,
    learned: bool,
    /// The present tick, and the time at which the next begins: a cache, for which a datagram needs
    /// one comparison.
    current: Tick,
    until: Instant,
}

impl TickClock {
    /// Starts from the host's wall clock, which may be wrong, until the first reply.
    pub(super) fn new(tick_ms: u32, now: Instant, unix: UnixTime) -> Self {
        let ours = nanos(now);
        let theirs = i64::try_from(unix.as_millis()).unwrap_or(0).saturating_mul(NS_PER_MS);
        let offset = theirs.saturating_sub(ours);
        let tick_ns = i64::from(tick_ms.max(1)).saturating_mul(NS_PER_MS);
        let mut clock = TickClock {
            tick_ns,
            low: offset,
            high: offset,
            learned_at: now,
            learned: false,
            current: Tick(0),
            until: now,
        };
        clock.find(now);
        clock
    }

    /// Learns that a POP was in `tick` at some time from `sent` to `received`. The length of a tick
    /// may have changed.
    pub(super) fn learn(&mut self, tick: Tick, tick_ms: u32, sent: Instant, received: Instant) {
        let tick_ns = i64::from(tick_ms.max(1)).saturating_mul(NS_PER_MS);
        let begin = i64::try_from(tick.0).unwrap_or(i64::MAX).saturating_mul(tick_ns);
        let low = begin.saturating_sub(nanos(received));
        let high = begin.saturating_add(tick_ns - 1).saturating_sub(nanos(sent));
        // Clocks drift, so that older bounds become wider.
        let age = i64::try_from(received.nanos_since(self.learned_at)).unwrap_or(i64::MAX);
        let drift = age / DRIFT_PER;
        let both_low = low.max(self.low.saturating_sub(drift));
        let both_high = high.min(self.high.saturating_add(drift));
        let agrees = self.learned && both_low <= both_high && tick_ns == self.tick_ns;
        (self.low, self.high) = if agrees { (both_low, both_high) } else { (low, high) };
        self.tick_ns = tick_ns;
        self.learned_at = received;
        self.learned = true;
        self.find(received);
    }

    /// The present tick.
    #[inline]
    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        if now >= self.until {
            self.find(now);
        }
        self.current
    }

    /// Whether a reply has given the tick.
    pub(super) fn is_learned(&self) -> bool {
        self.learned
    }

    /// The uncertainty of the phase, in milliseconds either way.
    pub(super) fn uncertainty_ms(&self) -> u64 {
        u64::try_from(self.high.saturating_sub(self.low) / 2 / NS_PER_MS).unwrap_or(0)
    }

    fn find(&mut self, now: Instant) {
        let offset = self.low.saturating_add(self.high.saturating_sub(self.low) / 2);
        let theirs = nanos(now).saturating_add(offset).max(0);
        let tick = theirs / self.tick_ns;
        let next = tick.saturating_add(1).saturating_mul(self.tick_ns).saturating_sub(offset);
        self.current = Tick(tick.unsigned_abs());
        self.until = Instant::from_nanos(u64::try_from(next).unwrap_or(0));
    }
}

fn nanos(instant: Instant) -> i64 {
    i64::try_from(instant.as_nanos()).unwrap_or(i64::MAX)
}

const NS_PER_MS: i64 = 1_000_000;
/// Two clocks drift apart by at most one part in this many: 200 parts in a million.
const DRIFT_PER: i64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    const T: u32 = 8000;

    /// The reply of a POP whose clock is `ahead_ms` ahead.
    fn answer(clock: &mut TickClock, at_ms: u64, ahead_ms: u64, rtt_ms: u64) {
        let tick = UnixTime::from_millis(at_ms + rtt_ms / 2 + ahead_ms).tick(T);
        clock.learn(tick, T, Instant::from_millis(at_ms), Instant::from_millis(at_ms + rtt_ms));
    }

    #[test]
    fn the_phase_becomes_known() {
        for ahead in [0u64, 1234, 7999, 1_700_000_000_123] {
            let mut clock = TickClock::new(T, Instant::from_millis(0), UnixTime::from_millis(77));
            for round in 0..40u64 {
                answer(&mut clock, round * 7300, ahead, 40);
            }
            assert!(clock.uncertainty_ms() < 500, "{ahead}: {}", clock.uncertainty_ms());
            let mut wrong = 0;
            for at in 300_000..310_000u64 {
                let tick = clock.tick(Instant::from_millis(at));
                wrong += u32::from(tick != UnixTime::from_millis(at + ahead).tick(T));
            }
            assert!(wrong <= 1000, "{ahead}: wrong for {wrong} ms of a tick");
        }
    }

    #[test]
    fn one_reply_is_exact_to_a_tick_and_another_pop_is_followed() {
        let mut clock = TickClock::new(T, Instant::from_millis(0), UnixTime::from_millis(0));
        answer(&mut clock, 100, 1_700_000_000_000, 10);
        let expected = UnixTime::from_millis(1_700_000_000_105).tick(T);
        assert_eq!(clock.tick(Instant::from_millis(110)), expected);
        for (at, ahead) in [(8000u64, 50_000u64), (16_000, 0), (24_000, 30_000)] {
            answer(&mut clock, at, 1_700_000_000_000 + ahead, 10);
            let expected = UnixTime::from_millis(1_700_000_000_005 + ahead + at).tick(T);
            assert_eq!(clock.tick(Instant::from_millis(at + 10)), expected);
        }
    }

    #[test]
    fn extreme_numbers_do_not_panic() {
        let mut clock = TickClock::new(0, Instant::from_nanos(u64::MAX), UnixTime::from_millis(0));
        for tick in [0, 1, u64::MAX] {
            for (sent, received) in [(0, u64::MAX), (u64::MAX, 0), (0, 0)] {
                let at = Instant::from_nanos;
                clock.learn(Tick(tick), u32::MAX, at(sent), at(received));
                clock.tick(at(u64::MAX));
                clock.uncertainty_ms();
            }
        }
    }
}
