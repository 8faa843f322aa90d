//! The text of a token, as agents publish it.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayVec;

use super::address::{TOKEN_LEN_V4, TOKEN_LEN_V6, Token};
use crate::net::Family;

/// A token with the epoch of its key. Its text is base64url (RFC 4648, section 5) without padding,
/// of the epoch's byte and the token.
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
        // A token has one text only: the remaining bits are zero, and fewer than a digit's.
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

/// The reason that a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Its length is wrong.
    #[error("a token has 23 characters (IPv4) or 44 (IPv6): copy all of it")]
    Length,
    /// It has a character that no token has at that place.
    #[error("a token has only letters, digits, '-' and '_', and the last one fits")]
    Digit,
}

/// The digits of base64url.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
