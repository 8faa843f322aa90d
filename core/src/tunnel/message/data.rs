//! The header of datagrams.

use super::{DATA_DOWN, DATA_UP, Malformed, put};
use crate::net::Family;
use crate::predict::OFFSET_STEP;
use crate::tunnel::token::Token;
use crate::wire::tcp;
use crate::wire::{get_u16, get_u64, put_u16, put_u64};

/// Length of the header of a datagram, in bytes.
pub const DATA_HEADER_LEN: usize = 12;

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The family of the destination's token. The header down does not have it: [`Family::V4`].
    pub destination: Family,
    /// The family of the sender's token.
    pub sender: Family,
    /// Whether the epoch of the destination's token is odd. The header down does not have it:
    /// false.
    pub destination_odd: bool,
    /// Whether the epoch of the sender's token is odd.
    pub sender_odd: bool,
    /// The offset of its sequence number beyond the tick's, in steps of 64 bytes.
    pub offset_steps: u8,
    /// The channel within the session.
    pub channel: u16,
    /// The session of the two agents.
    pub session: u64,
}

impl DataHeader {
    /// Reads the header of a datagram up, before both tokens and the body.
    ///
    /// # Errors
    /// When it is none, or the tokens are cut off.
    #[inline]
    pub fn parse_up(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse(payload, DATA_UP)?;
        if payload.len() < header.body_at_up() { Err(Malformed) } else { Ok(header) }
    }

    /// Reads the header of a datagram down, before the sender's token and the body.
    ///
    /// # Errors
    /// When it is none, or the token is cut off.
    #[inline]
    pub fn parse_down(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_down_header(payload)?;
        if payload.len() < header.body_at_down() { Err(Malformed) } else { Ok(header) }
    }

    /// Reads the header of a datagram down, of which no more than the header is required.
    #[inline]
    pub(in crate::tunnel) fn parse_down_header(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse(payload, DATA_DOWN)?;
        let has_to = payload.first().is_some_and(|first| first & (TO_V6 | TO_ODD) != 0);
        if has_to { Err(Malformed) } else { Ok(header) }
    }

    #[inline]
    fn parse(payload: &[u8], kind: u8) -> Result<Self, Malformed> {
        let head: &[u8; DATA_HEADER_LEN] = payload.first_chunk().ok_or(Malformed)?;
        let flags = head[0];
        if flags >> 4 != kind {
            return Err(Malformed);
        }
        let family = |flag| if flags & flag == 0 { Family::V4 } else { Family::V6 };
        Ok(DataHeader {
            destination: family(TO_V6),
            sender: family(FROM_V6),
            destination_odd: flags & TO_ODD != 0,
            sender_odd: flags & FROM_ODD != 0,
            offset_steps: head[1],
            channel: get_u16(head, field::CHANNEL),
            session: get_u64(head, field::SESSION),
        })
    }

    /// The header of the datagram up.
    #[inline]
    pub fn write_up(&self) -> [u8; DATA_HEADER_LEN] {
        self.write(DATA_UP, self.flags())
    }

    /// The header of the datagram down, without the flags of the destination's token.
    #[inline]
    pub fn write_down(&self) -> [u8; DATA_HEADER_LEN] {
        self.write(DATA_DOWN, self.flags() & !(TO_V6 | TO_ODD))
    }

    fn flags(&self) -> u8 {
        let flag = |flag, set| if set { flag } else { 0 };
        flag(TO_V6, self.destination == Family::V6)
            | flag(FROM_V6, self.sender == Family::V6)
            | flag(TO_ODD, self.destination_odd)
            | flag(FROM_ODD, self.sender_odd)
    }

    fn write(&self, kind: u8, flags: u8) -> [u8; DATA_HEADER_LEN] {
        let mut out = [0; DATA_HEADER_LEN];
        put(&mut out, 0, &[kind << 4 | flags, self.offset_steps]);
        put_u16(&mut out, field::CHANNEL, self.channel);
        put_u64(&mut out, field::SESSION, self.session);
        out
    }

    /// The offset of its sequence number beyond the tick's, in bytes.
    #[inline]
    pub const fn offset(&self) -> u32 {
        self.offset_steps as u32 * OFFSET_STEP as u32
    }

    /// The offset of the sender's token in a datagram up, after the header and the destination's
    /// token.
    #[inline]
    pub const fn own_token_at(&self) -> usize {
        DATA_HEADER_LEN + Token::len_of(self.destination)
    }

    /// The offset of the body in a datagram up.
    #[inline]
    pub const fn body_at_up(&self) -> usize {
        self.own_token_at() + Token::len_of(self.sender)
    }

    /// The offset of the body in a datagram down.
    #[inline]
    pub const fn body_at_down(&self) -> usize {
        DATA_HEADER_LEN + Token::len_of(self.sender)
    }
}

/// The longest body, in bytes, of a datagram from an agent of family `from` to one of family `to`
/// in an IP datagram of at most `mtu` bytes; 0 when none fits.
pub const fn body_max(mtu: u16, from: Family, to: Family) -> u16 {
    let tokens = Token::len_of(from) + Token::len_of(to);
    let around = from.ip_header_len() + tcp::HEADER_LEN + DATA_HEADER_LEN + tokens;
    mtu.saturating_sub(around as u16)
}

/// The destination's token is of IPv6; on the way up only.
const TO_V6: u8 = 8;
/// The sender's token is of IPv6.
const FROM_V6: u8 = 4;
/// The epoch of the destination's token is odd; on the way up only.
const TO_ODD: u8 = 2;
/// The epoch of the sender's token is odd.
const FROM_ODD: u8 = 1;

/// Offsets in the header.
mod field {
    pub const CHANNEL: usize = 2;
    pub const SESSION: usize = 4;
}
