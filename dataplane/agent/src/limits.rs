//! How often others may have something done: buckets for each sender, and one for all.
//!
//! A POP vouches for the token that a datagram came from, so nobody can use up another's share of the
//! first kind. Senders are told apart by a keyed hash, in a bounded table.

use std::hash::{BuildHasher, Hash, RandomState};

use anyrelay_core::bucket::Bucket;
use anyrelay_core::time::Instant;

/// Buckets for senders.
#[derive(Debug)]
pub struct Limits {
    all: Bucket,
    places: Box<[Bucket; SLOTS]>,
    hasher: RandomState,
    per_place: u32,
    all_places: u32,
}

impl Limits {
    /// Full buckets: `per_place` a second for each sender, `all_places` for all together.
    pub fn new(per_place: u32, all_places: u32) -> Self {
        let places = Box::new([Bucket::new(); SLOTS]);
        // Keyed by the standard library from the system: which places share a bucket must not be
        // known outside, and matters for nothing else.
        let hasher = RandomState::new();
        Limits { all: Bucket::new(), places, hasher, per_place, all_places }
    }

    /// Whether one more from `place` may be done.
    pub fn take(&mut self, now: Instant, place: impl Hash) -> bool {
        let slot = (self.hasher.hash_one(place) % SLOTS as u64) as usize;
        // Its own bucket first, so that one place alone cannot empty the one for all.
        self.places.get_mut(slot).is_some_and(|bucket| bucket.take(now, self.per_place))
            && self.all.take(now, self.all_places)
    }
}

const SLOTS: usize = 256;

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
}
