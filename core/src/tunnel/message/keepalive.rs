//! Keepalive requests and replies. Both are authenticated for one VIP, and of one length there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Malformed, REPLY, REQUEST, array_at, put};
use crate::crypto::{Key128, hmac_sha256_128, hmac_sha256_128_holds};
use crate::keys::endpoint_fields;
use crate::net::Family;
use crate::predict::{Constants, STRIDE_MIN};
use crate::time::Tick;
use crate::tunnel::token::Token;
use crate::wire::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};

/// Length of the longest keepalive, in bytes.
pub const KEEPALIVE_LEN_MAX: usize = 118;
/// The version of this protocol in keepalives.
pub const VERSION: u8 = 2;

/// L: the length of keepalive requests and replies at a VIP of `family`, in bytes. They are equal,
/// so that a request cannot be used for amplification.
#[inline]
pub const fn keepalive_len(family: Family) -> usize {
    match family {
        Family::V4 => 90,
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
    /// The tick in the last reply, 0 before the first.
    pub last_tick: Tick,
    /// The agent's public endpoint in the last reply, [`unknown_endpoint`] before the first.
    pub public: SocketAddr,
}

impl KeepaliveRequest {
    /// Reads a request to a VIP of `family`, without its MAC.
    ///
    /// # Errors
    /// When its form is wrong.
    pub fn parse(payload: &[u8], family: Family) -> Result<Self, Malformed> {
        let (public, after) = read_endpoint(payload, request::PUBLIC, family).ok_or(Malformed)?;
        let zeros = after..keepalive_len(family) - MAC_LEN;
        let fits = payload.len() == keepalive_len(family)
            && payload.first() == Some(&(REQUEST << 4))
            && payload.get(request::VERSION) == Some(&VERSION)
            && payload.get(zeros).is_some_and(|zeros| zeros.iter().all(|&byte| byte == 0));
        if !fits {
            return Err(Malformed);
        }
        Ok(KeepaliveRequest {
            tenant: get_u16(payload, request::TENANT),
            agent: get_u32(payload, request::AGENT),
            nonce: get_u64(payload, request::NONCE),
            last_tick: Tick(get_u64(payload, request::LAST_TICK)),
            public,
        })
    }

    /// Whether the MAC at the end of `payload` is that of an agent with `key`, for `vip`.
    pub fn mac_holds(payload: &[u8], vip: SocketAddr, key: &Key128) -> bool {
        mac_holds(REQUEST_LABEL, payload, vip, key)
    }

    /// Writes the request of an agent with `key` to `vip` into `out`. Returns its length. The
    /// public endpoint is of the VIP's family.
    pub fn write(&self, vip: SocketAddr, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
        out.fill(0);
        put(out, 0, &[REQUEST << 4, VERSION]);
        put_u16(out, request::TENANT, self.tenant);
        put_u32(out, request::AGENT, self.agent);
        put_u64(out, request::NONCE, self.nonce);
        put_u64(out, request::LAST_TICK, self.last_tick.0);
        put(out, request::PUBLIC, &endpoint_fields(self.public));
        finish(REQUEST_LABEL, vip, key, out)
    }
}

/// What a request to a VIP of `family` names before the first reply: address and port 0.
pub const fn unknown_endpoint(family: Family) -> SocketAddr {
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
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
    /// The agent's open address, with a token, where the tunnel has an open side.
    pub open: Option<Ipv6Addr>,
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
        let (public, after) = read_endpoint(payload, reply::PUBLIC, family).ok_or(Malformed)?;
        let rest = payload.get(after..).ok_or(Malformed)?;
        let token = rest.get(reply::TOKEN_AFTER..).ok_or(Malformed)?;
        let token = match kind & HAS_TOKEN {
            0 => None,
            _ => Some(Token::read(family, token).ok_or(Malformed)?),
        };
        let open = array_at::<16>(rest, reply::TOKEN_AFTER + Token::len_of(family));
        let open = Ipv6Addr::from(open.ok_or(Malformed)?);
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
            public,
            base_low: get_u16(rest, 0),
            epoch: rest.get(2).copied().unwrap_or(0),
            pop: rest.get(3).copied().unwrap_or(0),
            token,
            open: (!open.is_unspecified()).then_some(open),
        })
    }

    /// Whether the MAC at the end of `payload` is that of a POP, from `vip` to the agent with
    /// `key`.
    pub fn mac_holds(payload: &[u8], vip: SocketAddr, key: &Key128) -> bool {
        mac_holds(REPLY_LABEL, payload, vip, key)
    }

    /// Writes the reply from `vip` to the agent with `key` into `out`. Returns its length. The
    /// public endpoint is of the VIP's family; a token of the other family is omitted.
    pub fn write(&self, vip: SocketAddr, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
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
        let after = put(out, reply::PUBLIC, &endpoint_fields(self.public));
        put_u16(out, after, self.base_low);
        put(out, after + 2, &[self.epoch, self.pop]);
        if let Some(token) = token {
            put(out, after + reply::TOKEN_AFTER, token.as_bytes());
        }
        if let Some(open) = self.open {
            let at = after + reply::TOKEN_AFTER + Token::len_of(family);
            put(out, at, &open.octets());
        }
        finish(REPLY_LABEL, vip, key, out)
    }
}

/// The address of `family` and the port at `at`, and the offset of their end.
fn read_endpoint(payload: &[u8], at: usize, family: Family) -> Option<(SocketAddr, usize)> {
    let (ip, after): (IpAddr, usize) = match family {
        Family::V4 => (Ipv4Addr::from(array_at::<4>(payload, at)?).into(), at + 4),
        Family::V6 => (Ipv6Addr::from(array_at::<16>(payload, at)?).into(), at + 16),
    };
    Some((SocketAddr::new(ip, get_u16(payload, after)), after + 2))
}

/// Writes the MAC at the end of the message to or from `vip` in `out`. Returns the message's
/// length.
fn finish(label: &[u8], vip: SocketAddr, key: &Key128, out: &mut [u8; KEEPALIVE_LEN_MAX]) -> usize {
    let len = keepalive_len(Family::of(vip.ip()));
    let (message, _) = out.split_at_checked(len - MAC_LEN).unwrap_or((&[], &[]));
    let mac = hmac_sha256_128(key, &[label, &[0], &endpoint_fields(vip), message]);
    put(out, len - MAC_LEN, &mac)
}

fn mac_holds(label: &[u8], payload: &[u8], vip: SocketAddr, key: &Key128) -> bool {
    payload.split_last_chunk().is_some_and(|(message, mac)| {
        hmac_sha256_128_holds(key, &[label, &[0], &endpoint_fields(vip), message], mac)
    })
}

const MAC_LEN: usize = 16;

/// Length of the open address in replies, and of as many zero bytes in requests.
const OPEN_LEN: usize = 16;

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
    pub const LAST_TICK: usize = 16;
    pub const PUBLIC: usize = 24;
}

/// Offsets in replies; that of the token counts from the end of the public endpoint.
mod reply {
    pub const NONCE: usize = 2;
    pub const TICK: usize = 10;
    pub const TICK_MS: usize = 18;
    pub const STRIDE: usize = 22;
    pub const LAG: usize = 26;
    pub const OFFSET: usize = 28;
    pub const BODY_MAX: usize = 30;
    pub const PUBLIC: usize = 32;
    pub const TOKEN_AFTER: usize = 4;
}

const fn reply_len(ip_len: usize, token_len: usize) -> usize {
    reply::PUBLIC + ip_len + 2 + reply::TOKEN_AFTER + token_len + OPEN_LEN + MAC_LEN
}

const _: () = assert!(keepalive_len(Family::V4) == reply_len(4, Token::len_of(Family::V4)));
const _: () = assert!(keepalive_len(Family::V6) == reply_len(16, Token::len_of(Family::V6)));
// What a request says leaves room for zeros.
const _: () = assert!(request::PUBLIC + 6 + OPEN_LEN + MAC_LEN <= keepalive_len(Family::V4));
const _: () = assert!(request::PUBLIC + 18 + OPEN_LEN + MAC_LEN <= keepalive_len(Family::V6));
// The ack of a keepalive is not that of another tick.
const _: () = assert!((KEEPALIVE_LEN_MAX as u32) < STRIDE_MIN);
