//! Time as the core sees it: numbers that the caller passes in.

/// A point in time, in nanoseconds since an arbitrary start that one caller keeps for one run.
///
/// Live, it is the monotonic clock; in `replay`, the capture's own time stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant `ns` nanoseconds after the start.
    pub const fn from_nanos(ns: u64) -> Self {
        Instant(ns)
    }

    /// The instant `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Self {
        Instant(ms.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Nanoseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub const fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub const fn millis_since(self, earlier: Instant) -> u64 {
        self.nanos_since(earlier) / 1_000_000
    }

    /// The instant `ms` milliseconds later.
    pub const fn plus_millis(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

/// Wall-clock time, in milliseconds since 1970-01-01 00:00:00 UTC, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The time `ms` milliseconds after 1970 began.
    pub const fn from_millis(ms: u64) -> Self {
        UnixTime(ms)
    }

    /// Milliseconds since 1970 began.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `ms` milliseconds later.
    pub const fn plus_millis(self, ms: u64) -> UnixTime {
        UnixTime(self.0.saturating_add(ms))
    }

    /// The tick that this time is in, for ticks of `tick_ms` milliseconds; tick 0 when that is 0.
    pub const fn tick(self, tick_ms: u32) -> Tick {
        match self.0.checked_div(tick_ms as u64) {
            Some(tick) => Tick(tick),
            None => Tick(0),
        }
    }
}

/// A whole number of tick lengths since 1970 began: what sequence numbers of tunnels are predicted
/// from (the draft, section 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

/// What the clocks say at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: for buckets, tables, timers.
    pub instant: Instant,
    /// The wall clock: for ticks and for the lifetimes of keys.
    pub unix: UnixTime,
}

impl Now {
    /// The moment at which both clocks say `ms` milliseconds, each since its own start.
    pub const fn from_millis(ms: u64) -> Self {
        Now { instant: Instant::from_millis(ms), unix: UnixTime::from_millis(ms) }
    }

    /// The moment `ms` milliseconds later, by both clocks.
    pub const fn plus_millis(self, ms: u64) -> Now {
        Now { instant: self.instant.plus_millis(ms), unix: self.unix.plus_millis(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_whole_lengths() {
        let at = |ms| UnixTime::from_millis(ms).tick(8000);
        assert_eq!((at(0), at(7999), at(8000), at(16_001)), (Tick(0), Tick(0), Tick(1), Tick(2)));
        assert_eq!(UnixTime::from_millis(5).tick(0), Tick(0));
    }
}
