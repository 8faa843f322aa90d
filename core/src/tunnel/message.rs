//! Messages of tunnels: what the TCP payload of a segment is. Parsed and written for both sides.
//!
//! The high half of byte 0 is the type, the low half holds flags. Numbers are big-endian. Diagrams
//! of all of them are in docs/protocol-tunnel.md.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::token::Token;
use crate::crypto::{Key128, hmac_sha256_128, hmac_sha256_128_holds};
use crate::net::Family;
use crate::predict::Constants;
use crate::time::Tick;
use crate::wire::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};

/// The types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// An agent shows itself, and asks how things are.
    KeepaliveRequest,
    /// A POP tells how things are.
    KeepaliveReply,
    /// A datagram from an agent to a POP.
    DataUp,
    /// A datagram from a POP to an agent.
    DataDown,
}

impl MessageType {
    /// That of a payload; `None` for any other, and for an empty one.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Self> {
        Some(match payload.first()? >> 4 {
            REQUEST => MessageType::KeepaliveRequest,
            REPLY => MessageType::KeepaliveReply,
            DATA_UP => MessageType::DataUp,
            DATA_DOWN => MessageType::DataDown,
            _ => return None,
        })
    }
}

/// A payload that is not the message it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this type: its length, version, flags or padding are wrong")]
pub struct Malformed;

/// L: the length of keepalive requests and replies at a VIP of `family`, in bytes. They are equal,
/// so that nobody is sent more than he sent.
#[inline]
pub const fn keepalive_len(family: Family) -> usize {
    match family {
        Family::V4 => 74,
        Family::V6 => KEEPALIVE_LEN_MAX,
    }
}

/// What an agent says in a keepalive request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveRequest {
    /// Its tenant.
    pub tenant: u16,
    /// Its number among the tenant's agents.
    pub agent: u32,
    /// A number that the reply repeats.
    pub nonce: u64,
}

impl KeepaliveRequest {
    /// Reads a request that was sent to a VIP of `family`. Its MAC is not looked at.
    pub fn parse(payload: &[u8], family: Family) -> Result<Self, Malformed> {
        let padding = request::PADDING..keepalive_len(family) - MAC_LEN;
        let fits = payload.len() == keepalive_len(family)
            && payload.first() == Some(&(REQUEST << 4))
            && payload.get(request::VERSION) == Some(&VERSION)
            && payload.get(padding).is_some_and(|padding| padding.iter().all(|&byte| byte == 0));
        if !fits {
            return Err(Malformed);
        }
        Ok(KeepaliveRequest {
            tenant: get_u16(payload, request::TENANT),
            agent: get_u32(payload, request::AGENT),
            nonce: get_u64(payload, request::NONCE),
        })
    }

    /// Whether the MAC at the end of `payload` is that of an agent with `key`.
    pub fn mac_holds(payload: &[u8], key: &Key128) -> bool {
        mac_holds(REQUEST_LABEL, payload, key)
    }

    /// Writes the request of an agent with `key` to a VIP of `family` into `out`. Returns its
    /// length.
    pub fn write(&self, family: Family, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
        out.fill(0);
        put(out, 0, &[REQUEST << 4, VERSION]);
        put_u16(out, request::TENANT, self.tenant);
        put_u32(out, request::AGENT, self.agent);
        put_u64(out, request::NONCE, self.nonce);
        finish(REQUEST_LABEL, family, key, out)
    }
}

/// What a POP says in a keepalive reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveReply {
    /// The request's.
    pub nonce: u64,
    /// The POP's tick.
    pub tick: Tick,
    /// The tunnel's constants.
    pub constants: Constants,
    /// The longest body that an agent of this family may send to one of the same.
    pub body_max: u16,
    /// The agent as the POP sees it.
    pub public: SocketAddr,
    /// The low 16 bits of the base of the agent's numbers, as the POP sees them.
    pub base_low: u16,
    /// The epoch of the token; 0 without one.
    pub epoch: u8,
    /// The POP.
    pub pop: u8,
    /// The agent's token, once its base is aligned.
    pub token: Option<Token>,
}

impl KeepaliveReply {
    /// Reads a reply that came from a VIP of `family`. Its MAC is not looked at:
    /// [`KeepaliveReply::mac_holds`] comes first.
    pub fn parse(payload: &[u8], family: Family) -> Result<Self, Malformed> {
        let kind = payload.first().ok_or(Malformed)?;
        let fits = payload.len() == keepalive_len(family)
            && kind & !HAS_TOKEN == REPLY << 4
            && payload.get(1) == Some(&VERSION);
        if !fits {
            return Err(Malformed);
        }
        let (ip, after): (IpAddr, usize) = match family {
            Family::V4 => {
                let ip: [u8; 4] = array_at(payload, reply::IP).ok_or(Malformed)?;
                (Ipv4Addr::from(ip).into(), reply::IP + 4)
            }
            Family::V6 => {
                let ip: [u8; 16] = array_at(payload, reply::IP).ok_or(Malformed)?;
                (Ipv6Addr::from(ip).into(), reply::IP + 16)
            }
        };
        let rest = payload.get(after..).ok_or(Malformed)?;
        let token = rest.get(reply::TOKEN_AFTER_IP..).ok_or(Malformed)?;
        let token = match kind & HAS_TOKEN {
            0 => None,
            _ => Some(Token::read(family, token).ok_or(Malformed)?),
        };
        Ok(KeepaliveReply {
            nonce: get_u64(payload, reply::NONCE),
            tick: Tick(get_u64(payload, reply::TICK)),
            constants: Constants {
                tick_ms: get_u32(payload, reply::TICK_MS),
                stride: get_u32(payload, reply::STRIDE),
                lag: get_u16(payload, reply::LAG),
                offset: get_u16(payload, reply::OFFSET),
            },
            body_max: get_u16(payload, reply::BODY_MAX),
            public: SocketAddr::new(ip, get_u16(rest, 0)),
            base_low: get_u16(rest, 2),
            epoch: rest.get(4).copied().unwrap_or(0),
            pop: rest.get(5).copied().unwrap_or(0),
            token,
        })
    }

    /// Whether the MAC at the end of `payload` is that of a POP, for the agent with `key`.
    pub fn mac_holds(payload: &[u8], key: &Key128) -> bool {
        mac_holds(REPLY_LABEL, payload, key)
    }

    /// Writes the reply to the agent with `key` into `out`. Returns its length. The family is that
    /// of the agent's address; a token of another is left out.
    pub fn write(&self, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
        let family = Family::of(self.public.ip());
        let token = self.token.filter(|token| token.family() == family);
        let flags = if token.is_some() { HAS_TOKEN } else { 0 };
        out.fill(0);
        put(out, 0, &[REPLY << 4 | flags, VERSION]);
        put_u64(out, reply::NONCE, self.nonce);
        put_u64(out, reply::TICK, self.tick.0);
        put_u32(out, reply::TICK_MS, self.constants.tick_ms);
        put_u32(out, reply::STRIDE, self.constants.stride);
        put_u16(out, reply::LAG, self.constants.lag);
        put_u16(out, reply::OFFSET, self.constants.offset);
        put_u16(out, reply::BODY_MAX, self.body_max);
        let after = match self.public.ip() {
            IpAddr::V4(ip) => put(out, reply::IP, &ip.octets()),
            IpAddr::V6(ip) => put(out, reply::IP, &ip.octets()),
        };
        put_u16(out, after, self.public.port());
        put_u16(out, after + 2, self.base_low);
        put(out, after + 4, &[self.epoch, self.pop]);
        if let Some(token) = token {
            put(out, after + reply::TOKEN_AFTER_IP, token.as_bytes());
        }
        finish(REPLY_LABEL, family, key, out)
    }
}

/// The header of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The family of the token of the agent that it is for. On the way down it is not said, and
    /// [`Family::V4`] here.
    pub destination: Family,
    /// The family of the token of the agent that it is from.
    pub sender: Family,
    /// Whether the epoch of the destination's token is odd; on the way down not said, and false.
    pub destination_odd: bool,
    /// Whether the epoch of the sender's token is odd.
    pub sender_odd: bool,
    /// How far in front of the tick's number its segment is, in steps of 64 bytes.
    pub offset_steps: u8,
    /// What the agents use it for.
    pub channel: u16,
    /// Which conversation of the agents it belongs to.
    pub session: u64,
}

impl DataHeader {
    /// Reads the header of a datagram on the way up, which both tokens and the body follow.
    ///
    /// The tokens are there when this returns a header.
    #[inline]
    pub fn parse_up(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse(payload, DATA_UP)?;
        if payload.len() < header.body_at_up() { Err(Malformed) } else { Ok(header) }
    }

    /// Reads the header of a datagram on the way down, which the sender's token and the body
    /// follow.
    #[inline]
    pub fn parse_down(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse_down_seen(payload)?;
        if payload.len() < header.body_at_down() { Err(Malformed) } else { Ok(header) }
    }

    /// The same where no more than the header need be there.
    #[inline]
    pub(super) fn parse_down_seen(payload: &[u8]) -> Result<Self, Malformed> {
        let header = Self::parse(payload, DATA_DOWN)?;
        let said = payload.first().is_some_and(|first| first & (TO_V6 | TO_ODD) != 0);
        if said { Err(Malformed) } else { Ok(header) }
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
            channel: get_u16(head, data::CHANNEL),
            session: get_u64(head, data::SESSION),
        })
    }

    /// The header as it goes up.
    #[inline]
    pub fn write_up(&self) -> [u8; DATA_HEADER_LEN] {
        self.write(DATA_UP, self.flags())
    }

    /// The header as it goes down: without what it says of the destination's token.
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
        put_u16(&mut out, data::CHANNEL, self.channel);
        put_u64(&mut out, data::SESSION, self.session);
        out
    }

    /// How far in front of the tick's number its segment is, in bytes.
    #[inline]
    pub const fn offset(&self) -> u32 {
        self.offset_steps as u32 * crate::predict::OFFSET_STEP as u32
    }

    /// Where the sender's own token is on the way up. The destination's is before it, behind the
    /// header.
    #[inline]
    pub const fn own_token_at(&self) -> usize {
        DATA_HEADER_LEN + Token::len_of(self.destination)
    }

    /// Where the body begins on the way up.
    #[inline]
    pub const fn body_at_up(&self) -> usize {
        self.own_token_at() + Token::len_of(self.sender)
    }

    /// Where the body begins on the way down.
    #[inline]
    pub const fn body_at_down(&self) -> usize {
        DATA_HEADER_LEN + Token::len_of(self.sender)
    }
}

/// The longest body of a datagram up, from an agent of one family to one of another, when its IP
/// datagram is to have at most `mtu` bytes; 0 when none fits.
pub const fn body_max(mtu: u16, from: Family, to: Family) -> u16 {
    let tokens = Token::len_of(from) + Token::len_of(to);
    let around = from.ip_header_len() + crate::wire::tcp::HEADER_LEN + DATA_HEADER_LEN + tokens;
    mtu.saturating_sub(around as u16)
}

/// Puts the MAC behind the message of `family` in `out`. Returns the message's length.
fn finish(label: &[u8], family: Family, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
    let len = keepalive_len(family);
    let (said, _) = out.split_at_checked(len - MAC_LEN).unwrap_or((&[], &[]));
    let mac = hmac_sha256_128(key, &[label, &[0], said]);
    put(out, len - MAC_LEN, &mac)
}

fn mac_holds(label: &[u8], payload: &[u8], key: &Key128) -> bool {
    payload
        .split_last_chunk()
        .is_some_and(|(said, mac)| hmac_sha256_128_holds(key, &[label, &[0], said], mac))
}

/// The `N` bytes at `at`, if they are there.
#[inline]
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes `value` at `at`, nothing past the end. Returns where it ends.
#[inline]
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> usize {
    let end = at + value.len();
    if let Some(place) = bytes.get_mut(at..end) {
        place.copy_from_slice(value);
    }
    end
}

/// Length of the longest keepalive, in bytes.
pub const KEEPALIVE_LEN_MAX: usize = 102;
/// Length of the header of a datagram, in bytes.
pub const DATA_HEADER_LEN: usize = 12;
/// The version of this protocol in keepalives.
pub const VERSION: u8 = 1;

const MAC_LEN: usize = 16;

/// Types.
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const DATA_UP: u8 = 3;
const DATA_DOWN: u8 = 4;

/// Flags of replies.
const HAS_TOKEN: u8 = 1;

/// Flags of datagrams.
const TO_V6: u8 = 8;
const FROM_V6: u8 = 4;
const TO_ODD: u8 = 2;
const FROM_ODD: u8 = 1;

/// What a MAC is made over begins with, so that none of one direction holds in the other.
const REQUEST_LABEL: &[u8] = b"keepalive request";
const REPLY_LABEL: &[u8] = b"keepalive reply";

/// Offsets in requests.
mod request {
    pub const VERSION: usize = 1;
    pub const TENANT: usize = 2;
    pub const AGENT: usize = 4;
    pub const NONCE: usize = 8;
    pub const PADDING: usize = 16;
}

/// Offsets in replies; what follows the address is counted from its end.
mod reply {
    pub const NONCE: usize = 2;
    pub const TICK: usize = 10;
    pub const TICK_MS: usize = 18;
    pub const STRIDE: usize = 22;
    pub const LAG: usize = 26;
    pub const OFFSET: usize = 28;
    pub const BODY_MAX: usize = 30;
    pub const IP: usize = 32;
    pub const TOKEN_AFTER_IP: usize = 6;
}

/// Offsets in the header of datagrams.
mod data {
    pub const CHANNEL: usize = 2;
    pub const SESSION: usize = 4;
}

const _: () =
    assert!(keepalive_len(Family::V4) == reply::IP + 4 + reply::TOKEN_AFTER_IP + 16 + MAC_LEN);
const _: () =
    assert!(keepalive_len(Family::V6) == reply::IP + 16 + reply::TOKEN_AFTER_IP + 32 + MAC_LEN);
// An ack of a keepalive is taken for none of another tick.
const _: () = assert!((KEEPALIVE_LEN_MAX as u32) < crate::predict::STRIDE_MIN);
