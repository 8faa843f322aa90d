//! Tokens: an agent's return address, which only POPs can make and read.
//!
//! A token holds the agent's address and port as POPs see them, 16 bits of the base of its sequence
//! numbers, its tenant, the epoch of the key and the POP that made it. Its key is bound to the VIP
//! of its family.
//!
//! ```text
//! m    = ip 4|16 | port 2 | base 2 | tenant 2 | epoch 1 | POP id 1            (big-endian)
//! IPv4: K = HKDF(token secret, "token", VIP);  token = AES-128_K(m | 0 0 0 0)
//! IPv6: K1 = HKDF(token secret, "token mac", VIP), K2 = HKDF(token secret, "token mask", VIP)
//!       V = first 8 bytes of AES-CMAC_K1(m);   token = V | (m XOR first 24 bytes of the keystream)
//!       keystream = AES-128_K2(V | 0, as 8 bytes) | AES-128_K2(V | 1, as 8 bytes)
//! ```

mod many;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use arrayvec::ArrayVec;

use super::message::{array_at, put};
use crate::crypto::{Aes128, Aes128Inverse, Block, Cipher, CipherJob, Cmac, HkdfError};
use crate::keys::{Epochs, token_key, token_keys_v6};
use crate::net::Family;
use crate::time::UnixTime;
use crate::wire::get_u64;

/// An agent's return address, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// Of an agent with an IPv4 address.
    V4([u8; TOKEN_LEN_V4]),
    /// Of an agent with an IPv6 address.
    V6([u8; TOKEN_LEN_V6]),
}

impl Token {
    /// Length in bytes of the tokens of agents of `family`.
    #[inline]
    pub const fn len_of(family: Family) -> usize {
        match family {
            Family::V4 => TOKEN_LEN_V4,
            Family::V6 => TOKEN_LEN_V6,
        }
    }

    /// The token of `family` that `bytes` begin with, if they are enough.
    #[inline]
    pub fn read(family: Family, bytes: &[u8]) -> Option<Self> {
        Some(match family {
            Family::V4 => Token::V4(*bytes.first_chunk()?),
            Family::V6 => Token::V6(*bytes.first_chunk()?),
        })
    }

    /// Its family.
    #[inline]
    pub const fn family(&self) -> Family {
        match self {
            Token::V4(_) => Family::V4,
            Token::V6(_) => Family::V6,
        }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Token::V4(bytes) => bytes,
            Token::V6(bytes) => bytes,
        }
    }
}

/// A token as it is published: with the epoch of its key. Its text is base64url (RFC 4648, section
/// 5) without padding, of the epoch's byte and the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicToken {
    /// The epoch of its key.
    pub epoch: u8,
    /// The token.
    pub token: Token,
}

impl fmt::Display for PublicToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let bytes = || std::iter::once(self.epoch).chain(self.token.as_bytes().iter().copied());
        let count = 1 + self.token.as_bytes().len();
        for digit in 0..(count * 8).div_ceil(6) {
            // The six bits from bit 6 * digit on are in one byte or in two.
            let (byte, bit) = (digit * 6 / 8, digit * 6 % 8);
            let mut pair = bytes().skip(byte);
            let word = u16::from_be_bytes([pair.next().unwrap_or(0), pair.next().unwrap_or(0)]);
            let value = usize::from(word >> (10 - bit) & 63);
            f.write_char(char::from(*DIGITS.get(value).unwrap_or(&b'A')))?;
        }
        Ok(())
    }
}

impl FromStr for PublicToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let mut bytes = ArrayVec::<u8, { 1 + TOKEN_LEN_V6 }>::new();
        let (mut held, mut bits) = (0u32, 0);
        for digit in text.bytes() {
            let value = DIGITS.iter().position(|&other| other == digit);
            let value = value.ok_or(ParseTokenError::Digit)? as u32;
            held = held << 6 | value;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.try_push((held >> bits) as u8).map_err(|_| ParseTokenError::Length)?;
                held &= (1 << bits) - 1;
            }
        }
        // Only one text is a token's: what is left over is zero, and less than a digit.
        let (epoch, token) = bytes.split_first().ok_or(ParseTokenError::Length)?;
        let token = match token.len() {
            TOKEN_LEN_V4 => Token::read(Family::V4, token),
            TOKEN_LEN_V6 => Token::read(Family::V6, token),
            _ => None,
        };
        let token = token.filter(|_| bits < 6).ok_or(ParseTokenError::Length)?;
        if held != 0 {
            return Err(ParseTokenError::Digit);
        }
        Ok(PublicToken { epoch: *epoch, token })
    }
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Its length is no token's.
    #[error("a token has 23 characters (IPv4) or 44 (IPv6): copy all of it")]
    Length,
    /// It has a character that no token has there.
    #[error("a token has only letters, digits, '-' and '_', and the last one fits")]
    Digit,
}

/// What a token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// The agent as POPs see it.
    pub agent: SocketAddr,
    /// The high 16 bits of the base of its sequence numbers; the low ones are 0x8000 by alignment.
    pub base_high: u16,
    /// Its tenant.
    pub tenant: u16,
    /// The epoch of the key.
    pub epoch: u8,
    /// The POP that made the token.
    pub pop: u8,
}

/// A token that was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// No epoch with this parity is accepted now.
    Epoch,
    /// It was not made with our key of that epoch.
    Forged,
}

/// When an epoch's tokens are made and accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The epoch's number.
    pub epoch: u8,
    /// From when on it is current; 1970 where that was never said.
    pub current_from: UnixTime,
    /// From when on its tokens are no longer accepted, if that is known.
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

#[derive(Clone, Debug)]
enum Sealer {
    V4 { seal: Aes128, open: Aes128Inverse },
    V6 { mac: Cmac, mask: Aes128 },
}

impl TokenKeys {
    /// Those of `epochs` for tokens of agents at `vip`.
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

    /// The number of the epoch that new tokens are of.
    pub fn current_epoch(&self, now: UnixTime) -> Option<u8> {
        self.current(now).map(|keys| keys.number)
    }

    fn current(&self, now: UnixTime) -> Option<&EpochKeys> {
        // The first is current as long as no other is.
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

    /// What `token` holds, which was made in an epoch whose number is odd, or is not.
    #[inline]
    pub fn open(&self, now: UnixTime, odd: bool, token: &Token) -> Result<Return, OpenError> {
        let keys = self.epochs.iter().find(|keys| keys.is_odd() == odd).ok_or(OpenError::Epoch)?;
        if keys.is_over(now) {
            return Err(OpenError::Epoch);
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

    /// What a token of this epoch holds, if it could be opened: that it is one of this epoch.
    #[inline]
    fn checked(&self, found: Option<Return>) -> Result<Return, OpenError> {
        found.filter(|found| found.epoch == self.number).ok_or(OpenError::Forged)
    }
}

impl Sealer {
    fn seal(&self, holds: &Return) -> Option<Token> {
        match (self, holds.agent.ip()) {
            (Sealer::V4 { seal, .. }, IpAddr::V4(ip)) => {
                let mut block = [0; TOKEN_LEN_V4];
                put(&mut block, 0, &ip.octets());
                put(&mut block, 4, &holds.tail());
                Some(Token::V4(seal.encrypt_block(&block)))
            }
            (Sealer::V6 { mac, mask }, IpAddr::V6(ip)) => {
                let mut fields = [0; FIELDS_LEN_V6];
                put(&mut fields, 0, &ip.octets());
                put(&mut fields, 16, &holds.tail());
                let check: [u8; CHECK_LEN] = array_at(&mac.mac(&fields), 0)?;
                let mut token = [0; TOKEN_LEN_V6];
                put(&mut token, 0, &check);
                put(&mut token, CHECK_LEN, &masked(mask, check, &fields));
                Some(Token::V6(token))
            }
            _ => None,
        }
    }

    /// What the token holds: one by one, and the slow twin of opening many.
    fn open(&self, token: &Token) -> Option<Return> {
        match (self, token) {
            (Sealer::V4 { open, .. }, Token::V4(token)) => {
                Return::of_block(&open.decrypt_block(token))
            }
            (Sealer::V6 { mac, mask }, Token::V6(token)) => {
                let check: [u8; CHECK_LEN] = array_at(token, 0)?;
                let fields = masked(mask, check, &array_at(token, CHECK_LEN)?);
                // Numbers are compared in one step, which tells nothing of where they differ.
                let expected: [u8; CHECK_LEN] = array_at(&mac.mac(&fields), 0)?;
                let ip: [u8; 16] = array_at(&fields, 0)?;
                (u64::from_ne_bytes(expected) == u64::from_ne_bytes(check))
                    .then(|| Return::with_tail(Ipv6Addr::from(ip).into(), get_u64(&fields, 16)))
            }
            _ => None,
        }
    }
}

impl Return {
    /// What follows the address.
    fn tail(&self) -> [u8; 8] {
        let ([a, b], [c, d]) = (self.agent.port().to_be_bytes(), self.base_high.to_be_bytes());
        let [e, f] = self.tenant.to_be_bytes();
        [a, b, c, d, e, f, self.epoch, self.pop]
    }

    /// What an IPv4 token holds, if it ends as it must.
    #[inline]
    fn of_block(block: &Block) -> Option<Self> {
        let block = u128::from_be_bytes(*block);
        let ip = Ipv4Addr::from_bits((block >> 96) as u32);
        (block as u32 == 0).then(|| Return::with_tail(ip.into(), (block >> 32) as u64))
    }

    /// The address, and what follows it.
    #[inline]
    fn with_tail(ip: IpAddr, tail: u64) -> Self {
        Return {
            agent: SocketAddr::new(ip, (tail >> 48) as u16),
            base_high: (tail >> 32) as u16,
            tenant: (tail >> 16) as u16,
            epoch: (tail >> 8) as u8,
            pop: tail as u8,
        }
    }
}

/// The fields of an IPv6 token under the mask that `check` gives, or out from under it.
#[inline]
fn masked(
    mask: &Aes128,
    check: [u8; CHECK_LEN],
    fields: &[u8; FIELDS_LEN_V6],
) -> [u8; FIELDS_LEN_V6] {
    let mut stream = [[0; 16]; 2];
    mask.run(Keystream { check, stream: &mut stream });
    let mut out = *fields;
    out.iter_mut().zip(stream.as_flattened()).for_each(|(byte, mask)| *byte ^= mask);
    out
}

/// Both blocks of the mask with one look at the CPU.
struct Keystream<'a> {
    check: [u8; CHECK_LEN],
    stream: &'a mut [Block; 2],
}

impl CipherJob for Keystream<'_> {
    #[inline(always)]
    fn run<C: Cipher>(self, cipher: &C) {
        let first = u128::from(u64::from_be_bytes(self.check)) << 64;
        let blocks = [first, first | 1].map(|block| cipher.encrypt_one(&block.to_be_bytes()));
        *self.stream = blocks;
    }
}

/// Length of a token of IPv4 agents, in bytes.
pub const TOKEN_LEN_V4: usize = 16;
/// Length of a token of IPv6 agents, in bytes.
pub const TOKEN_LEN_V6: usize = 32;

/// Lengths of what an IPv6 token holds, and of the check before it.
const FIELDS_LEN_V6: usize = 24;
const CHECK_LEN: usize = 8;

/// The digits of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const _: () = assert!(CHECK_LEN + FIELDS_LEN_V6 == TOKEN_LEN_V6);
