//! Tokens for tests.

use anyrelay_core::tunnel::token::{PublicToken, Token};

/// A token that differs for each number.
pub fn token(number: u8) -> PublicToken {
    PublicToken { epoch: 1, token: Token::V4([number; 16]) }
}
