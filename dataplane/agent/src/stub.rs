//! Stands for core's `tunnel` until that is there.
#![allow(missing_docs)]

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicToken {
    pub epoch: u8,
    pub token: [u8; 16],
}

impl fmt::Display for PublicToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.epoch)?;
        self.token.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PublicToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let bytes: Option<Vec<u8>> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        match bytes.as_deref() {
            Some([epoch, token @ ..]) => {
                Ok(PublicToken { epoch: *epoch, token: token.try_into().map_err(|_| NoToken)? })
            }
            _ => Err(NoToken),
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token")]
pub struct NoToken;

#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub session: u64,
    pub channel: u16,
    pub from: PublicToken,
    pub body: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the tunnel is not up")]
    NotReady,
    #[error("the body is longer than {max} bytes")]
    TooBig { max: usize },
}

#[cfg(test)]
pub fn sample(byte: u8) -> PublicToken {
    PublicToken { epoch: 1, token: [byte; 16] }
}

#[cfg(test)]
pub const SAMPLE: &str = "0101010101010101010101010101010101";
