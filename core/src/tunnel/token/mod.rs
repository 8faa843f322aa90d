//! Tokens: the sealed return address of an agent, which only POPs can make and read.
//!
//! A token holds the agent's public endpoint, 16 bits of the base of its sequence numbers, its
//! tenant, the epoch of the key and the POP that issued it. Its key is bound to the VIP of its
//! family.
//!
//! ```text
//! m    = ip 4|16 | port 2 | base 2 | tenant 2 | epoch 1 | POP id 1            (big-endian)
//! IPv4: K = HKDF(token secret, "token", VIP);  token = AES-128_K(m | 0 0 0 0)
//! IPv6: K1 = HKDF(token secret, "token mac", VIP), K2 = HKDF(token secret, "token mask", VIP)
//!       V = first 8 bytes of AES-CMAC_K1(m);   token = V | (m XOR first 24 bytes of the keystream)
//!       keystream = AES-128_K2(V | 0, as 8 bytes) | AES-128_K2(V | 1, as 8 bytes)
//! ```

mod address;
mod many;
mod public;
mod sealer;

use std::net::SocketAddr;

use arrayvec::ArrayVec;

use crate::crypto::{Aes128, Aes128Inverse, Cmac, HkdfError};
use crate::keys::{Epochs, token_key, token_keys_v6};
use crate::net::Family;
use crate::time::UnixTime;

pub use address::{Return, TOKEN_LEN_V4, TOKEN_LEN_V6, Token};
pub use public::{ParseTokenError, PublicToken};
use sealer::Sealer;

/// The reason that a token cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// No epoch of this parity is accepted now.
    Epoch,
    /// It was not sealed under the key of that epoch.
    Forged,
}

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

/// The keys of tokens at one VIP: one or two epochs.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    epochs: ArrayVec<EpochKeys, 2>,
}

#[derive(Clone, Debug)]
struct EpochKeys {
    number: u8,
    current_from: UnixTime,
    accepted_before: Option<UnixTime>,
    sealer: Sealer,
}

impl TokenKeys {
    /// The keys of `epochs` for the tokens of agents at `vip`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(epochs: &Epochs, vip: SocketAddr) -> Result<Self, HkdfError> {
        let mut keys = ArrayVec::new();
        for epoch in epochs.iter() {
            let sealer = match Family::of(vip.ip()) {
                Family::V4 => {
                    let key = token_key(&epoch.secret, vip)?;
                    Sealer::V4 { seal: Aes128::new(&key), open: Aes128Inverse::new(&key) }
                }
                Family::V6 => {
                    let (mac, mask) = token_keys_v6(&epoch.secret, vip)?;
                    Sealer::V6 { mac: Cmac::new(&mac), mask: Aes128::new(&mask) }
                }
            };
            keys.push(EpochKeys {
                number: epoch.number,
                current_from: epoch.not_before,
                accepted_before: epochs.accepted_before(epoch),
                sealer,
            });
        }
        Ok(TokenKeys { epochs: keys })
    }

    /// The epochs, the older one first.
    pub fn lifetimes(&self) -> impl Iterator<Item = Lifetime> {
        self.epochs.iter().map(|keys| Lifetime {
            epoch: keys.number,
            current_from: keys.current_from,
            accepted_before: keys.accepted_before,
        })
    }

    /// The number of the epoch of new tokens.
    pub fn current_epoch(&self, now: UnixTime) -> Option<u8> {
        self.current(now).map(|keys| keys.number)
    }

    fn current(&self, now: UnixTime) -> Option<&EpochKeys> {
        // The first epoch is current as long as the second is not.
        let later = self.epochs.iter().skip(1).find(|keys| keys.current_from <= now);
        later.or(self.epochs.first())
    }

    /// A token of the current epoch for `agent`. `None` when its family is not the VIP's.
    pub fn seal(
        &self,
        now: UnixTime,
        agent: SocketAddr,
        base_high: u16,
        tenant: u16,
        pop: u8,
    ) -> Option<PublicToken> {
        let keys = self.current(now)?;
        let epoch = keys.number;
        let token = keys.sealer.seal(&Return { agent, base_high, tenant, epoch, pop })?;
        Some(PublicToken { epoch, token })
    }

    /// The contents of `token`, which was sealed in an epoch whose number is `odd` or even.
    ///
    /// # Errors
    /// When the epoch is not accepted, or the token is not authentic.
    #[inline]
    pub fn open(&self, now: UnixTime, odd: bool, token: &Token) -> Result<Return, TokenError> {
        let keys = self.epochs.iter().find(|keys| keys.is_odd() == odd).ok_or(TokenError::Epoch)?;
        if keys.is_over(now) {
            return Err(TokenError::Epoch);
        }
        keys.checked(keys.sealer.open(token))
    }
}

impl EpochKeys {
    #[inline]
    fn is_odd(&self) -> bool {
        self.number % 2 == 1
    }

    #[inline]
    fn is_over(&self, now: UnixTime) -> bool {
        self.accepted_before.is_some_and(|end| now >= end)
    }

    /// The contents of an opened token, if they are of this epoch.
    #[inline]
    fn checked(&self, found: Option<Return>) -> Result<Return, TokenError> {
        found.filter(|found| found.epoch == self.number).ok_or(TokenError::Forged)
    }
}
