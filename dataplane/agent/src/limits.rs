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
pub struct SenderLimits {
    all: Bucket,
    buckets: Box<[Bucket; SLOTS]>,
    bans: Box<[Ban; BAN_SLOTS]>,
    hasher: RandomState,
    per_sender: u32,
    all_senders: u32,
}

/// A banned sender, and the end of the ban.
#[derive(Clone, Copy, Debug, Default)]
struct Ban {
    sender: u64,
    until: Instant,
}

impl SenderLimits {
    /// Full buckets: `per_sender` a second for each sender, `all_senders` for all together.
    pub fn new(per_sender: u32, all_senders: u32) -> Self {
        let buckets = Box::new([Bucket::new(); SLOTS]);
        // A random key from the system: other hosts must not know which senders share a bucket.
        let hasher = RandomState::new();
        let bans = Box::new([Ban::default(); BAN_SLOTS]);
        SenderLimits { all: Bucket::new(), buckets, bans, hasher, per_sender, all_senders }
    }

    /// Takes one token from the buckets of `sender`; false if it is banned or a bucket is empty.
    pub fn take(&mut self, now: Instant, sender: impl Hash) -> bool {
        let sender = self.hasher.hash_one(sender);
        if self.bans.get(ban_slot(sender)).is_some_and(|ban| ban.holds(now, sender)) {
            return false;
        }
        let slot = (sender % SLOTS as u64) as usize;
        // The sender's own bucket first, so that one sender alone cannot empty the common one.
        self.buckets.get_mut(slot).is_some_and(|bucket| bucket.take(now, self.per_sender))
            && self.all.take(now, self.all_senders)
    }

    /// Bans `sender` for [`BAN_MS`], because the work that it caused was wasted.
    pub fn ban(&mut self, now: Instant, sender: impl Hash) {
        let sender = self.hasher.hash_one(sender);
        if let Some(ban) = self.bans.get_mut(ban_slot(sender)) {
            *ban = Ban { sender, until: now.plus_millis(BAN_MS) };
        }
    }
}

impl Ban {
    fn holds(&self, now: Instant, sender: u64) -> bool {
        self.sender == sender && now < self.until
    }
}

/// Uses other bits of the hash than the choice of the bucket.
fn ban_slot(sender: u64) -> usize {
    (sender >> 32) as usize % BAN_SLOTS
}

const SLOTS: usize = 256;
/// More than the bans of [`BAN_MS`] at a hundred a second.
const BAN_SLOTS: usize = 16_384;
const BAN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_per_sender_and_for_all() {
        let mut limits = SenderLimits::new(5, 100);
        let now = Instant::from_millis(1_000_000);
        let taken = (0..1000).filter(|_| limits.take(now, 1)).count();
        assert_eq!(taken, 5);
        let others = (0..100_000).filter(|sender| limits.take(now, sender)).count();
        assert_eq!(taken + others, 100);
        assert!(limits.take(now.plus_millis(1000), 1));
    }

    #[test]
    fn a_banned_sender_waits_a_minute_and_no_other_does() {
        let mut limits = SenderLimits::new(1_000_000, 1_000_000);
        let at = Instant::from_millis;
        assert!(limits.take(at(0), 1));
        limits.ban(at(0), 1);
        assert!(!limits.take(at(59_999), 1));
        assert!(limits.take(at(60_000), 1));
        for sender in 0..1000 {
            limits.ban(at(100_000), sender);
        }
        let others =
            (1000..2000).filter(|sender| limits.take(at(100_000 + sender), sender)).count();
        assert_eq!(others, 1000, "a shared slot is not a shared fate");
    }
}
