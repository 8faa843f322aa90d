//! How many handshakes are looked at: each costs several curve operations before it is known
//! whether it is authentic.
//!
//! A POP vouches for the token that a message came from, so nobody can use up another's share. A
//! place where a peer is known to be has its own bucket, in the peer; all others share these.

use std::hash::{BuildHasher, Hash, RandomState};

use anyrelay_core::bucket::Bucket;
use anyrelay_core::time::Instant;

/// Handshake messages per second from the place of a peer.
pub const PER_PEER: u32 = 10;
/// Handshake messages per second from any one other place.
const PER_PLACE: u32 = 5;
/// Handshake messages per second from all other places together: at 0.4 ms each, 4% of a core.
const ALL_PLACES: u32 = 100;

/// Buckets for places where no peer is known to be.
#[derive(Debug)]
pub struct Limits {
    all: Bucket,
    places: Box<[Bucket; SLOTS]>,
    hasher: RandomState,
}

impl Limits {
    /// Full buckets.
    pub fn new() -> Self {
        let places = Box::new([Bucket::new(); SLOTS]);
        // Keyed by the standard library from the system: which places share a bucket must not be
        // known outside, and matters for nothing else.
        Limits { all: Bucket::new(), places, hasher: RandomState::new() }
    }

    /// Whether a handshake message from `place` is looked at.
    pub fn take(&mut self, now: Instant, place: impl Hash) -> bool {
        let slot = (self.hasher.hash_one(place) % SLOTS as u64) as usize;
        // Its own bucket first, so that one place alone cannot empty the one for all.
        self.places.get_mut(slot).is_some_and(|bucket| bucket.take(now, PER_PLACE))
            && self.all.take(now, ALL_PLACES)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new()
    }
}

const SLOTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_leaves_room_for_others_and_all_are_bounded() {
        let mut limits = Limits::new();
        let now = Instant::from_millis(1_000_000);
        let taken = (0..1000).filter(|_| limits.take(now, 1)).count();
        assert_eq!(taken, PER_PLACE as usize);
        let others = (0..100_000).filter(|place| limits.take(now, place)).count();
        assert_eq!(taken + others, ALL_PLACES as usize);
        assert!(limits.take(now.plus_millis(1000), 1));
    }
}
