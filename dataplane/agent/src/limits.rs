//! Rate limits for work that peers cause: a bucket for each sender, and one for all of them.
//!
//! POPs authenticate the token that a datagram came from, so no sender can use up another's bucket.
//! A sender with many tokens could use up the common bucket; so a sender whose work was wasted may
//! be banned for a while, and a flood needs ever new tokens. A keyed hash maps senders to bounded
//! tables.

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

/// A banned sender, and the end of the ban.
#[derive(Clone, Copy, Debug, Default)]
struct ShutOut {
    place: u64,
    until: Instant,
}

impl Limits {
    /// Full buckets: `per_sender` a second for each sender, `all_senders` for all together.
    pub fn new(per_place: u32, all_places: u32) -> Self {
        let places = Box::new([Bucket::new(); SLOTS]);
        // A random key from the system: other hosts must not know which senders share a bucket.
        let hasher = RandomState::new();
        let shut_out = Box::new([ShutOut::default(); SHUT_OUT_SLOTS]);
        Limits { all: Bucket::new(), places, shut_out, hasher, per_place, all_places }
    }

    /// Takes one token from the buckets of `sender`; false if it is banned or a bucket is empty.
    pub fn take(&mut self, now: Instant, place: impl Hash) -> bool {
        let place = self.hasher.hash_one(place);
        if self.shut_out.get(shut_out_slot(place)).is_some_and(|out| out.holds(now, place)) {
            return false;
        }
        let slot = (place % SLOTS as u64) as usize;
        // The sender's own bucket first, so that one sender alone cannot empty the common one.
        self.places.get_mut(slot).is_some_and(|bucket| bucket.take(now, self.per_place))
            && self.all.take(now, self.all_places)
    }

    /// Bans `sender` for [`BAN_MS`], because the work that it caused was wasted.
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

/// Uses other bits of the hash than the choice of the bucket.
fn shut_out_slot(place: u64) -> usize {
    (place >> 32) as usize % SHUT_OUT_SLOTS
}

const SLOTS: usize = 256;
/// More than the bans of [`BAN_MS`] at a hundred a second.
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
