//! Tokens for tests.

use anyrelay_core::tunnel::token::{PublicToken, Token};

/// A token like no other number's.
pub fn token(number: u8) -> PublicToken {
    PublicToken { epoch: 1, token: Token::V4([number; 16]) }
}
