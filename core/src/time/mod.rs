//! Time, which the caller passes in: this crate reads no clock.

mod datetime;
mod duration;

pub use datetime::{format_time, from_toml, parse_time};
pub use duration::{format_duration, parse_duration};

/// A point in time, in nanoseconds since an arbitrary start that is fixed for one run.
///
/// In a running POP it comes from the monotonic clock; in `replay`, from the capture's timestamps.
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

    /// Nanoseconds since `earlier`; 0 when `earlier` is later.
    pub const fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Milliseconds since `earlier`; 0 when `earlier` is later.
    pub const fn millis_since(self, earlier: Instant) -> u64 {
        self.nanos_since(earlier) / 1_000_000
    }

    /// The instant `ms` milliseconds later.
    pub const fn plus_millis(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

/// Wall-clock time, in milliseconds since 1970-01-01 00:00:00 UTC, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// A time that does not come: after all others.
    pub const NEVER: UnixTime = UnixTime(u64::MAX);

    /// The time `ms` milliseconds after the start of 1970.
    pub const fn from_millis(ms: u64) -> Self {
        UnixTime(ms)
    }

    /// Milliseconds since the start of 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time `ms` milliseconds later.
    pub const fn plus_millis(self, ms: u64) -> UnixTime {
        UnixTime(self.0.saturating_add(ms))
    }

    /// The time `ms` milliseconds earlier, or the start of 1970.
    pub const fn minus_millis(self, ms: u64) -> UnixTime {
        UnixTime(self.0.saturating_sub(ms))
    }

    /// The tick that contains this time, for ticks of `tick_ms` milliseconds; tick 0 if `tick_ms`
    /// is 0.
    pub const fn tick(self, tick_ms: u32) -> Tick {
        match self.0.checked_div(tick_ms as u64) {
            Some(tick) => Tick(tick),
            None => Tick(0),
        }
    }
}

/// The number of a tick, counted from the start of 1970. Sequence numbers of tunnels are predicted
/// from it (the draft, section 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

/// The readings of both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, for token buckets, tables and timers.
    pub instant: Instant,
    /// The wall clock, for ticks and lifetimes of keys.
    pub unix: UnixTime,
}

impl Now {
    /// The moment at which both clocks read `ms` milliseconds, each since its own start.
    pub const fn from_millis(ms: u64) -> Self {
        Now { instant: Instant::from_millis(ms), unix: UnixTime::from_millis(ms) }
    }

    /// The moment `ms` milliseconds later on both clocks.
    pub const fn plus_millis(self, ms: u64) -> Now {
        Now { instant: self.instant.plus_millis(ms), unix: self.unix.plus_millis(ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_begins_at_each_multiple_of_its_length() {
        let at = |ms| UnixTime::from_millis(ms).tick(8000);
        assert_eq!((at(0), at(7999), at(8000), at(16_001)), (Tick(0), Tick(0), Tick(1), Tick(2)));
        assert_eq!(UnixTime::from_millis(5).tick(0), Tick(0));
    }
}
