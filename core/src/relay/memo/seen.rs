//! Of which egress endpoints the memo may know something: a filter, so that the segments of all
//! others need not be looked at closely.
//!
//! A cell for each value of a keyed hash holds the number of the half lifetime in which it was last
//! written, from 1 to 255 and around. A cell is never cleared: one that is old says yes again after
//! hours, once the numbers have come around, and then a segment is looked at for nothing.

use std::sync::atomic::{AtomicU8, Ordering};

use super::times::LIFETIME_MS;
use crate::net::IpEndpoint;
use crate::time::Instant;

/// The filter.
#[derive(Debug)]
pub(super) struct Seen {
    cells: Box<[AtomicU8]>,
    /// Hashes lose these bits.
    shift: u32,
    factor: u64,
}

impl Seen {
    /// A filter for so many entries, whose hash is keyed by `key`, which is odd.
    pub fn new(key: u64, entries: usize) -> Self {
        let bits = (entries * CELLS_EACH).next_power_of_two().ilog2().clamp(6, 24);
        let cells = (0..1 << bits).map(|_| AtomicU8::new(0)).collect();
        Seen { cells, shift: 64 - bits, factor: key | 1 }
    }

    /// Something of `egress` will be known for up to [`LIFETIME_MS`].
    #[inline]
    pub fn add(&self, now: Instant, egress: IpEndpoint) {
        if let Some(cell) = self.cells.get(self.place(egress)) {
            cell.store(period(now), Ordering::Relaxed);
        }
    }

    /// Whether something of `egress` may be known.
    #[inline]
    pub fn has(&self, now: Instant, egress: IpEndpoint) -> bool {
        let cell = self.cells.get(self.place(egress));
        let cell = cell.map_or(0, |cell| cell.load(Ordering::Relaxed));
        // Periods are of one half: what was written in the last but one may be known. One more on
        // each side, as workers read their clocks apart from each other.
        let age = (u16::from(period(now)) + PERIODS + 1 - u16::from(cell)) % PERIODS;
        cell != 0 && age <= 4
    }

    #[inline]
    fn place(&self, egress: IpEndpoint) -> usize {
        let number = match egress {
            IpEndpoint::V4(at) => u64::from(at.ip) << 16 | u64::from(at.port),
            IpEndpoint::V6(at) => {
                let (high, low) = ((at.ip >> 64) as u64, at.ip as u64);
                (high.wrapping_mul(self.factor) ^ low).wrapping_mul(self.factor)
                    ^ u64::from(at.port)
            }
        };
        (number.wrapping_mul(self.factor) >> self.shift) as usize
    }
}

/// The number of the half lifetime that `now` is in, from 1 on.
#[inline]
fn period(now: Instant) -> u8 {
    1 + (now.as_millis() / (LIFETIME_MS / 2) % u64::from(PERIODS)) as u8
}

/// Numbers of periods.
const PERIODS: u16 = 255;
/// Cells for each entry. Where as many endpoints are added within a lifetime as there are entries,
/// about one in nine of others hits a cell of theirs; of more, more do.
const CELLS_EACH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;

    fn egress(port: u16) -> IpEndpoint {
        Endpoint { ip: 0x6440_0801_u32, port }.into()
    }

    #[test]
    fn what_was_added_is_there_for_a_lifetime_and_not_for_two() {
        let seen = Seen::new(0x9e37_79b9_7f4a_7c15, 1000);
        let wide = IpEndpoint::V6(Endpoint { ip: 0x2001_0db8_u128 << 96, port: 9 });
        // Over two turns of the numbers.
        for start in (0..2 * 255 * 60_000).step_by(7_001_003) {
            let at = |ms| Instant::from_millis(start + ms);
            let port = (start % 60_000) as u16;
            assert!(!seen.has(at(0), egress(port)), "{start}");
            seen.add(at(0), egress(port));
            seen.add(at(0), wide);
            for ms in [0, 1, 59_999, 60_000, LIFETIME_MS] {
                assert!(seen.has(at(ms), egress(port)) && seen.has(at(ms), wide), "{start} {ms}");
            }
            assert!(!seen.has(at(2 * LIFETIME_MS), egress(port)), "{start}");
        }
    }

    #[test]
    fn workers_whose_clocks_differ_miss_nothing() {
        for border in [60_000, 255 * 60_000] {
            let seen = Seen::new(0x9e37_79b9_7f4a_7c15, 1000);
            let at = Instant::from_millis;
            // One reads a little later than the other: before, and at, the border of a period.
            seen.add(at(border), egress(1));
            assert!(seen.has(at(border - 1), egress(1)));
            seen.add(at(border - 1), egress(1));
            assert!(seen.has(at(border + LIFETIME_MS), egress(1)));
        }
    }

    #[test]
    fn few_others_seem_to_be_there_where_all_entries_are_used() {
        let (seen, now) = (Seen::new(0x9e37_79b9_7f4a_7c15, 4096), Instant::from_millis(1));
        (0..4096).for_each(|port| seen.add(now, egress(port)));
        let others = (10_000..60_000).filter(|port| seen.has(now, egress(*port))).count();
        assert!(others < 50_000 / 6, "{others}");
        assert!((0..4096).all(|port| seen.has(now, egress(port))));
    }
}
