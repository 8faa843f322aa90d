//! Epochs of token secrets, which renew tokens without a gap.
//!
//! Epochs are numbered 0..=255 and wrap, and a file has at most two. New tokens are sealed under
//! the current one. The next epoch is current from its `not_before` on, but its tokens are accepted
//! as soon as it is in the file, because the clocks of POPs differ. The previous epoch is accepted
//! for 24 hours more ([`EPOCH_GRACE_MS`]), so that agents that looked up one of its tokens have
//! time to look it up again.

use super::Secret;
use crate::time::UnixTime;

/// How long an epoch is accepted after its successor became current, in milliseconds: 24 hours.
pub const EPOCH_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// A token secret, and the time from which it is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u8,
    /// Its secret.
    pub secret: Secret,
    /// The time from which it is current; 1970 where the file has none.
    pub not_before: UnixTime,
}

/// One epoch, or two that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    first: Epoch,
    next: Option<Epoch>,
}

impl Epochs {
    /// `first` and, if given, its successor.
    ///
    /// # Errors
    /// When their numbers do not follow each other (0 follows 255), or their times do not.
    pub fn new(first: Epoch, next: Option<Epoch>) -> Result<Self, EpochsError> {
        if let Some(next) = &next {
            if next.number != first.number.wrapping_add(1) {
                return Err(EpochsError::NotConsecutive { first: first.number, next: next.number });
            }
            if next.not_before <= first.not_before {
                return Err(EpochsError::NotLater);
            }
        }
        Ok(Epochs { first, next })
    }

    /// Epoch 0 alone.
    pub const fn single(secret: Secret) -> Self {
        let first = Epoch { number: 0, secret, not_before: UnixTime::from_millis(0) };
        Epochs { first, next: None }
    }

    /// The epochs, the older one first.
    pub fn iter(&self) -> impl Iterator<Item = &Epoch> {
        std::iter::once(&self.first).chain(&self.next)
    }

    /// The epoch of new tokens. The first epoch is current, also before its own time, as long as
    /// the second is not.
    pub fn current(&self, now: UnixTime) -> &Epoch {
        self.next.as_ref().filter(|next| next.not_before <= now).unwrap_or(&self.first)
    }

    /// The time from which tokens of `epoch`, one of these, are not accepted, if it is known.
    pub fn accepted_before(&self, epoch: &Epoch) -> Option<UnixTime> {
        let successor = self.next.as_ref().filter(|next| next.number != epoch.number)?;
        Some(successor.not_before.plus_millis(EPOCH_GRACE_MS))
    }

    /// Whether tokens of the epoch `number` are accepted.
    pub fn accepts(&self, number: u8, now: UnixTime) -> bool {
        let epoch = self.iter().find(|epoch| epoch.number == number);
        epoch.is_some_and(|epoch| self.accepted_before(epoch).is_none_or(|end| now < end))
    }

    /// These epochs with another one, of `secret`, which becomes current at `not_before`. An epoch
    /// that is not accepted any more is removed.
    ///
    /// # Errors
    /// When two epochs are still in use, or `not_before` is not later than that of the newest, or
    /// is so long ago that the previous epoch would be refused at once.
    pub fn rotated(
        &self,
        secret: Secret,
        not_before: UnixTime,
        now: UnixTime,
    ) -> Result<Epochs, RotateError> {
        let first = match &self.next {
            None => &self.first,
            Some(next) if self.accepts(self.first.number, now) => {
                let until = next.not_before.plus_millis(EPOCH_GRACE_MS);
                return Err(RotateError::TooEarly { epoch: self.first.number, until });
            }
            Some(next) => next,
        };
        if self.iter().any(|epoch| epoch.secret == secret) {
            return Err(RotateError::SameSecret);
        }
        let next = Epoch { number: first.number.wrapping_add(1), secret, not_before };
        let rotated = Epochs::new(first.clone(), Some(next)).map_err(|_| RotateError::NotLater)?;
        if !rotated.accepts(first.number, now) {
            return Err(RotateError::LongAgo { epoch: first.number });
        }
        Ok(rotated)
    }
}

/// Two epochs that do not follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochsError {
    /// Their numbers are not consecutive.
    #[error(
        "epoch {next} does not follow epoch {first}: the next one is {}",
        first.wrapping_add(1)
    )]
    NotConsecutive {
        /// The number of the first epoch.
        first: u8,
        /// The number of the second epoch.
        next: u8,
    },
    /// Their times are not ascending.
    #[error("the second epoch must become current later than the first")]
    NotLater,
}

/// The reason that no epoch can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Two epochs are in use.
    #[error(
        "tokens of epoch {epoch} are still accepted, and two epochs at most can be: wait until {}",
        crate::time::format_time(*until)
    )]
    TooEarly {
        /// The older epoch.
        epoch: u8,
        /// The time until which it is accepted.
        until: UnixTime,
    },
    /// The new epoch would be current before its predecessor.
    #[error("the new epoch must become current later than the one before it")]
    NotLater,
    /// Its predecessor, and with it the tokens of all agents, would expire at once.
    #[error(
        "the new epoch would have been current for 24 hours already, and the tokens of epoch \
         {epoch}, which all agents have, would be refused at once; name a later time"
    )]
    LongAgo {
        /// The predecessor.
        epoch: u8,
    },
    /// The secret is in use.
    #[error("the new secret is one that the file has already")]
    SameSecret,
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixTime = UnixTime::from_millis(1_000_000_000_000);

    fn epoch(number: u8, not_before: UnixTime) -> Epoch {
        Epoch { number, secret: Secret::new([number; 32]), not_before }
    }

    fn two(first: u8) -> Epochs {
        let next = epoch(first.wrapping_add(1), START);
        Epochs::new(epoch(first, UnixTime::default()), Some(next)).unwrap()
    }

    fn before(time: UnixTime) -> UnixTime {
        UnixTime::from_millis(time.as_millis() - 1)
    }

    #[test]
    fn the_next_epoch_is_current_from_its_time_on() {
        for first in [0, 7, 255] {
            let epochs = two(first);
            assert_eq!(epochs.current(before(START)).number, first);
            assert_eq!(epochs.current(START).number, first.wrapping_add(1));
        }
        let early = Epochs::new(epoch(3, START), None).unwrap();
        assert_eq!(early.current(before(START)).number, 3);
    }

    #[test]
    fn the_next_is_accepted_early_and_the_previous_a_day_longer() {
        let epochs = two(255);
        let end = START.plus_millis(24 * 3600 * 1000);
        for now in [UnixTime::default(), before(START), START, before(end)] {
            assert!(epochs.accepts(255, now) && epochs.accepts(0, now), "{now:?}");
        }
        assert!(!epochs.accepts(255, end) && epochs.accepts(0, end));
        assert!(!epochs.accepts(1, START) && !epochs.accepts(254, START));
        let alone = Epochs::single(Secret::new([1; 32]));
        assert!(alone.accepts(0, UnixTime::from_millis(u64::MAX)));
    }

    #[test]
    fn epochs_follow_each_other() {
        let refused = Epochs::new(epoch(1, UnixTime::default()), Some(epoch(3, START)));
        assert_eq!(refused, Err(EpochsError::NotConsecutive { first: 1, next: 3 }));
        assert_eq!(Epochs::new(epoch(1, START), Some(epoch(2, START))), Err(EpochsError::NotLater));
        assert_eq!(two(1).iter().map(|epoch| epoch.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn rotation_adds_the_next_and_drops_the_expired_epoch() {
        let secret = |byte| Secret::new([byte; 32]);
        let one = Epochs::single(secret(100));
        let two = one.rotated(secret(101), START, UnixTime::default()).unwrap();
        assert_eq!(two.iter().map(|epoch| epoch.number).collect::<Vec<_>>(), [0, 1]);
        let end = START.plus_millis(EPOCH_GRACE_MS);
        let later = end.plus_millis(1);
        assert_eq!(
            two.rotated(secret(102), later, before(end)),
            Err(RotateError::TooEarly { epoch: 0, until: end })
        );
        let three = two.rotated(secret(102), later, end).unwrap();
        assert_eq!(three.iter().map(|epoch| epoch.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(three.current(later).secret, secret(102));
        assert_eq!(two.rotated(secret(102), START, end), Err(RotateError::NotLater));
        // Tokens of the previous epoch must stay valid.
        assert!(one.rotated(secret(101), START, before(end)).is_ok());
        assert_eq!(one.rotated(secret(101), START, end), Err(RotateError::LongAgo { epoch: 0 }));
        assert_eq!(two.rotated(secret(101), later, end), Err(RotateError::SameSecret));
    }
}
