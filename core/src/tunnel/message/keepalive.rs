//! Keepalive requests and replies. Both are authenticated, and of one length at a VIP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Malformed, REPLY, REQUEST, array_at, put};
use crate::crypto::{Key128, hmac_sha256_128, hmac_sha256_128_holds};
use crate::net::Family;
use crate::predict::{Constants, STRIDE_MIN};
use crate::time::Tick;
use crate::tunnel::token::Token;
use crate::wire::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};

/// Length of the longest keepalive, in bytes.
pub const KEEPALIVE_LEN_MAX: usize = 102;
/// The version of this protocol in keepalives.
pub const VERSION: u8 = 1;

/// L: the length of keepalive requests and replies at a VIP of `family`, in bytes. They are equal,
/// so that a request cannot be used for amplification.
#[inline]
pub const fn keepalive_len(family: Family) -> usize {
    match family {
        Family::V4 => 74,
        Family::V6 => KEEPALIVE_LEN_MAX,
    }
}

/// A keepalive request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveRequest {
    /// The agent's tenant.
    pub tenant: u16,
    /// The agent's number within the tenant.
    pub agent: u32,
    /// A number that the reply repeats.
    pub nonce: u64,
}

impl KeepaliveRequest {
    /// Reads a request to a VIP of `family`, without its MAC.
    ///
    /// # Errors
    /// When its form is wrong.
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

/// A keepalive reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveReply {
    /// The nonce of the request.
    pub nonce: u64,
    /// The POP's tick.
    pub tick: Tick,
    /// The tunnel's constants.
    pub constants: Constants,
    /// The longest body, in bytes, that an agent of this family may send to one of the same.
    pub body_max: u16,
    /// The agent's public endpoint.
    pub public: SocketAddr,
    /// The low 16 bits of the base of the agent's sequence numbers, as the POP computes them.
    pub base_low: u16,
    /// The epoch of the token; 0 without one.
    pub epoch: u8,
    /// The POP's number.
    pub pop: u8,
    /// The agent's token, once its base is aligned.
    pub token: Option<Token>,
}

impl KeepaliveReply {
    /// Reads a reply from a VIP of `family`, whose MAC was verified by
    /// [`KeepaliveReply::mac_holds`].
    ///
    /// # Errors
    /// When its form is wrong.
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
    /// of the agent's address; a token of the other family is omitted.
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

/// Writes the MAC at the end of the message of `family` in `out`. Returns the message's length.
fn finish(label: &[u8], family: Family, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
    let len = keepalive_len(family);
    let (message, _) = out.split_at_checked(len - MAC_LEN).unwrap_or((&[], &[]));
    let mac = hmac_sha256_128(key, &[label, &[0], message]);
    put(out, len - MAC_LEN, &mac)
}

fn mac_holds(label: &[u8], payload: &[u8], key: &Key128) -> bool {
    payload
        .split_last_chunk()
        .is_some_and(|(message, mac)| hmac_sha256_128_holds(key, &[label, &[0], message], mac))
}

const MAC_LEN: usize = 16;

/// The flag of replies that have a token.
const HAS_TOKEN: u8 = 1;

/// The beginning of the input of a MAC, so that a MAC of one direction does not hold in the other.
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

/// Offsets in replies; that of the token counts from the end of the address.
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

const _: () =
    assert!(keepalive_len(Family::V4) == reply::IP + 4 + reply::TOKEN_AFTER_IP + 16 + MAC_LEN);
const _: () =
    assert!(keepalive_len(Family::V6) == reply::IP + 16 + reply::TOKEN_AFTER_IP + 32 + MAC_LEN);
// The ack of a keepalive is not that of another tick.
const _: () = assert!((KEEPALIVE_LEN_MAX as u32) < STRIDE_MIN);
