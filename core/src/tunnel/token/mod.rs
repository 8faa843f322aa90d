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

use super::epochs::{OfEpoch, OfEpochs};
use crate::crypto::{Aes128, Aes128Inverse, Cmac, HkdfError};
use crate::keys::{Epochs, token_key, token_keys_v6};
use crate::net::Family;
use crate::time::UnixTime;

pub use super::epochs::Lifetime;
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

/// The keys of tokens at one VIP: one or two epochs.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    epochs: OfEpochs<Sealer>,
}

impl TokenKeys {
    /// The keys of `epochs` for the tokens of agents at `vip`.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(epochs: &Epochs, vip: SocketAddr) -> Result<Self, HkdfError> {
        let epochs = OfEpochs::new(epochs, |epoch| {
            Ok(match Family::of(vip.ip()) {
                Family::V4 => {
                    let key = token_key(&epoch.secret, vip)?;
                    Sealer::V4 { seal: Aes128::new(&key), open: Aes128Inverse::new(&key) }
                }
                Family::V6 => {
                    let (mac, mask) = token_keys_v6(&epoch.secret, vip)?;
                    Sealer::V6 { mac: Cmac::new(&mac), mask: Aes128::new(&mask) }
                }
            })
        })?;
        Ok(TokenKeys { epochs })
    }

    /// The epochs, the older one first.
    pub fn lifetimes(&self) -> impl Iterator<Item = Lifetime> {
        self.epochs.lifetimes()
    }

    /// The number of the epoch of new tokens.
    pub fn current_epoch(&self, now: UnixTime) -> Option<u8> {
        self.epochs.current(now).map(OfEpoch::number)
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
        let current = self.epochs.current(now)?;
        let epoch = current.number();
        let token = current.keys.seal(&Return { agent, base_high, tenant, epoch, pop })?;
        Some(PublicToken { epoch, token })
    }

    /// The contents of `token`, which was sealed in an epoch whose number is `odd` or even.
    ///
    /// # Errors
    /// When the epoch is not accepted, or the token is not authentic.
    #[inline]
    pub fn open(&self, now: UnixTime, odd: bool, token: &Token) -> Result<Return, TokenError> {
        let epoch = self.epochs.accepted(now, odd).ok_or(TokenError::Epoch)?;
        epoch.checked(epoch.keys.open(token))
    }
}

impl OfEpoch<Sealer> {
    /// The contents of an opened token, if they are of this epoch.
    #[inline]
    fn checked(&self, found: Option<Return>) -> Result<Return, TokenError> {
        found.filter(|found| found.epoch == self.number()).ok_or(TokenError::Forged)
    }
}
