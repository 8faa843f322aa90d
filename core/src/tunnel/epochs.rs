//! Keys that are derived from token secrets, of one epoch or two.

use arrayvec::ArrayVec;

use crate::crypto::HkdfError;
use crate::keys::{Epoch, Epochs};
use crate::time::UnixTime;

/// The times in which the tokens of an epoch are issued and accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The epoch's number.
    pub epoch: u8,
    /// The time from which it is current; 1970 where the key file has none.
    pub current_from: UnixTime,
    /// The time from which its tokens are not accepted, if it is known.
    pub accepted_before: Option<UnixTime>,
}

/// What was derived from the secret of each epoch, the older one first.
#[derive(Clone, Debug)]
pub(super) struct OfEpochs<K>(ArrayVec<OfEpoch<K>, 2>);

/// What was derived from the secret of one epoch.
#[derive(Clone, Debug)]
pub(super) struct OfEpoch<K> {
    lifetime: Lifetime,
    pub keys: K,
}

impl<K> OfEpochs<K> {
    pub fn new(
        epochs: &Epochs,
        derive: impl Fn(&Epoch) -> Result<K, HkdfError>,
    ) -> Result<Self, HkdfError> {
        let mut all = ArrayVec::new();
        for epoch in epochs.iter() {
            let lifetime = Lifetime {
                epoch: epoch.number,
                current_from: epoch.not_before,
                accepted_before: epochs.accepted_before(epoch),
            };
            all.push(OfEpoch { lifetime, keys: derive(epoch)? });
        }
        Ok(OfEpochs(all))
    }

    pub fn lifetimes(&self) -> impl Iterator<Item = Lifetime> {
        self.0.iter().map(|epoch| epoch.lifetime)
    }

    /// That of new tokens.
    pub fn current(&self, now: UnixTime) -> Option<&OfEpoch<K>> {
        // The first epoch is current as long as the second is not.
        let later = self.0.iter().skip(1).find(|epoch| epoch.lifetime.current_from <= now);
        later.or(self.0.first())
    }

    /// The one whose number is `odd` or even, if it is accepted.
    #[inline]
    pub fn accepted(&self, now: UnixTime, odd: bool) -> Option<&OfEpoch<K>> {
        let found = self.0.iter().find(|epoch| epoch.is_odd() == odd);
        found.filter(|epoch| epoch.lifetime.accepted_before.is_none_or(|end| now < end))
    }
}

impl<K> OfEpoch<K> {
    #[inline]
    pub fn number(&self) -> u8 {
        self.lifetime.epoch
    }

    #[inline]
    pub fn is_odd(&self) -> bool {
        self.number() % 2 == 1
    }
}
