//! The return address of an agent, sealed and open.

use std::net::SocketAddr;

use crate::net::Family;

/// An agent's return address, sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// The token of an agent with an IPv4 address.
    V4([u8; TOKEN_LEN_V4]),
    /// The token of an agent with an IPv6 address.
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

    /// The token of `family` at the start of `bytes`, if they are long enough.
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

/// The contents of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// The agent's public endpoint.
    pub agent: SocketAddr,
    /// The high 16 bits of the base of its sequence numbers; the low ones are 0x8000 by alignment.
    pub base_high: u16,
    /// Its tenant.
    pub tenant: u16,
    /// The epoch of the key.
    pub epoch: u8,
    /// The number of the POP that issued the token.
    pub pop: u8,
}

/// Length of a token of IPv4 agents, in bytes.
pub const TOKEN_LEN_V4: usize = 16;
/// Length of a token of IPv6 agents, in bytes.
pub const TOKEN_LEN_V6: usize = 32;
