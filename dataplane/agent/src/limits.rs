//! How often others may have something done: buckets for each sender, and one for all.
//!
//! A POP vouches for the token that a datagram came from, so nobody can use up another's share of the
//! first kind. Who has many tokens could use up the second: so a sender that wasted what was done for
//! it may be shut out for a while, and whoever would keep others out needs ever new tokens. Senders
//! are told apart by a keyed hash, in bounded tables.

use std::hash::{BuildHasher, Hash, RandomState};

use anyrelay_core::bucket::Bucket;
use anyrelay_core::time::Instant;

/// Buckets for senders.
#[derive(Debug)]
pub struct Limits {
    all: Bucket,
    places: Box<[Bucket; SLOTS]>,
    shut_out: Box<[ShutOut; SHUT_OUT_SLOTS]>,
    hasher: RandomState,
    per_place: u32,
    all_places: u32,
}

/// A sender, and until when nothing is done for it.
#[derive(Clone, Copy, Debug, Default)]
struct ShutOut {
    place: u64,
    until: Instant,
}

impl Limits {
    /// Full buckets: `per_place` a second for each sender, `all_places` for all together.
    pub fn new(per_place: u32, all_places: u32) -> Self {
        let places = Box::new([Bucket::new(); SLOTS]);
        // Keyed by the standard library from the system: which places share a bucket must not be
        // known outside, and matters for nothing else.
        let hasher = RandomState::new();
        let shut_out = Box::new([ShutOut::default(); SHUT_OUT_SLOTS]);
        Limits { all: Bucket::new(), places, shut_out, hasher, per_place, all_places }
    }

    /// Whether one more from `place` may be done.
    pub fn take(&mut self, now: Instant, place: impl Hash) -> bool {
        let place = self.hasher.hash_one(place);
        if self.shut_out.get(shut_out_slot(place)).is_some_and(|out| out.holds(now, place)) {
            return false;
        }
        let slot = (place % SLOTS as u64) as usize;
        // Its own bucket first, so that one place alone cannot empty the one for all.
        self.places.get_mut(slot).is_some_and(|bucket| bucket.take(now, self.per_place))
            && self.all.take(now, self.all_places)
    }

    /// What was done for `place` was in vain: nothing is done for it for a while.
    pub fn shut_out(&mut self, now: Instant, place: impl Hash) {
        let place = self.hasher.hash_one(place);
        if let Some(out) = self.shut_out.get_mut(shut_out_slot(place)) {
            *out = ShutOut { place, until: now.plus_millis(SHUT_OUT_MS) };
        }
    }
}

impl ShutOut {
    fn holds(&self, now: Instant, place: u64) -> bool {
        self.place == place && now < self.until
    }
}

/// By other bits than those that choose a bucket.
fn shut_out_slot(place: u64) -> usize {
    (place >> 32) as usize % SHUT_OUT_SLOTS
}

const SLOTS: usize = 256;
/// More than can be shut out in [`SHUT_OUT_MS`] at a hundred a second would need.
const SHUT_OUT_SLOTS: usize = 16_384;
const SHUT_OUT_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_leaves_room_for_others_and_all_are_bounded() {
        let mut limits = Limits::new(5, 100);
        let now = Instant::from_millis(1_000_000);
        let taken = (0..1000).filter(|_| limits.take(now, 1)).count();
        assert_eq!(taken, 5);
        let others = (0..100_000).filter(|place| limits.take(now, place)).count();
        assert_eq!(taken + others, 100);
        assert!(limits.take(now.plus_millis(1000), 1));
    }

    #[test]
    fn who_wastes_it_is_shut_out_for_a_minute_and_nobody_else_is() {
        let mut limits = Limits::new(1_000_000, 1_000_000);
        let at = Instant::from_millis;
        assert!(limits.take(at(0), 1));
        limits.shut_out(at(0), 1);
        assert!(!limits.take(at(59_999), 1));
        assert!(limits.take(at(60_000), 1));
        for place in 0..1000 {
            limits.shut_out(at(100_000), place);
        }
        let others = (1000..2000).filter(|place| limits.take(at(100_000 + place), place)).count();
        assert_eq!(others, 1000, "a shared slot is not a shared fate");
    }
}
