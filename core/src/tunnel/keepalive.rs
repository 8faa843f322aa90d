//! Keepalives: an agent identifies itself, and learns the tick, the constants, its public endpoint
//! and, once its sequence numbers are aligned, its token.
//!
//! The checks have two steps, so that the caller can bound the number of MACs that are computed in
//! vain: [`check`] is all before the MAC, [`reply`] the rest. A request that fails gets no answer.
//!
//! The token is only for who names its own public endpoint and a tick near now, as an earlier reply
//! told it. Others can learn no more from a recorded request than where they are themselves.

use std::net::{Ipv6Addr, SocketAddr};

use arrayvec::ArrayVec;

use super::message::{self, KEEPALIVE_LEN_MAX, KeepaliveReply, KeepaliveRequest, keepalive_len};
use super::open::OpenAgent;
use super::service::{TunnelSegment, TunnelService, TunnelVip};
use crate::crypto::Key128;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;

/// A request with an accepted ack number, in the name of a listed agent. Its MAC is not verified
/// yet.
#[derive(Clone, Copy, Debug)]
pub struct UnverifiedRequest<'a> {
    service: &'a TunnelService,
    vip: &'a TunnelVip,
    now: UnixTime,
    tick: Tick,
    // S(n).
    expected: SeqNum,
    request: KeepaliveRequest,
    key: &'a Key128,
}

/// The reply, in a segment from the VIP to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplySegment {
    /// Sequence number: S(n) + 1.
    pub seq: SeqNum,
    /// Acknowledgment number: the end of the request.
    pub ack: SeqNum,
    /// The message, as long as the request.
    pub payload: ArrayVec<u8, KEEPALIVE_LEN_MAX>,
}

/// Checks a request in the order of cost: its form, its ack number, and whether the agent is
/// listed.
///
/// # Errors
/// The first of [`DropReason::TunnelMalformed`], [`DropReason::NotOurs`] without a VIP of the
/// agent's family, [`DropReason::KeepaliveAck`] and [`DropReason::UnknownAgent`].
pub fn check<'a>(
    service: &'a TunnelService,
    now: UnixTime,
    segment: &TunnelSegment<'_>,
) -> Result<UnverifiedRequest<'a>, DropReason> {
    let family = segment.family();
    let request = KeepaliveRequest::parse(segment.payload, family)
        .map_err(|_| DropReason::TunnelMalformed)?;
    let vip = service.vip(family).ok_or(DropReason::NotOurs)?;
    let (tick, stride) = (service.tick(now), service.constants.stride);
    let expected = predict::at(vip.predictor.start(segment.src), stride, tick);
    // The request acks the handshake or a reply.
    let after_syn = expected.plus(1);
    let after_reply = after_syn.plus(keepalive_len(family) as u32);
    if !is_acked(segment.ack, after_syn, stride) && !is_acked(segment.ack, after_reply, stride) {
        return Err(DropReason::KeepaliveAck);
    }
    let KeepaliveRequest { tenant, agent, .. } = request;
    let key = service.agents.get(tenant, agent).filter(|_| service.has_tenant(tenant));
    let key = key.ok_or(DropReason::UnknownAgent)?;
    Ok(UnverifiedRequest { service, vip, now, tick, expected, request, key })
}

/// Verifies the MAC of the request in `segment`, of which [`check`] made `known`, and answers it as
/// the POP with the number `pop`.
///
/// # Errors
/// [`DropReason::KeepaliveMac`] when the MAC is wrong.
pub fn reply(
    known: &UnverifiedRequest<'_>,
    pop: u8,
    segment: &TunnelSegment<'_>,
) -> Result<ReplySegment, DropReason> {
    let UnverifiedRequest { service, vip, now, tick, expected, request, key } = *known;
    if !KeepaliveRequest::mac_holds(segment.payload, vip.addr, key) {
        return Err(DropReason::KeepaliveMac);
    }
    let constants = service.constants;
    // The agent's number at tick 0, by this POP's clock.
    let base = predict::at(segment.seq, constants.stride.wrapping_neg(), tick).0.wrapping_sub(1);
    let (base_high, base_low) = ((base >> 16) as u16, base as u16);
    let token = (names(&request, segment.src, tick) && is_aligned(base_low, &constants))
        .then(|| vip.tokens.seal(now, segment.src, base_high, request.tenant, pop))
        .flatten();
    let family = segment.family();
    let message = KeepaliveReply {
        nonce: request.nonce,
        tick,
        constants,
        body_max: message::body_max(service.tunnel_mtu, family, family),
        public: segment.src,
        base_low,
        epoch: token.map_or(0, |token| token.epoch),
        pop,
        token: token.map(|token| token.token),
        open: token.and_then(|_| open_address(service, now, segment.src, base_high)),
    };
    let mut whole = [0; KEEPALIVE_LEN_MAX];
    let len = message.write(vip.addr, key, &mut whole);
    let mut payload = ArrayVec::from(whole);
    payload.truncate(len);
    Ok(ReplySegment {
        seq: expected.plus(1),
        ack: segment.seq.plus(segment.payload.len() as u32),
        payload,
    })
}

/// The open address of the agent at `public`, where the service has an open side.
fn open_address(
    service: &TunnelService,
    now: UnixTime,
    public: SocketAddr,
    base_high: u16,
) -> Option<Ipv6Addr> {
    let (open, _) = service.open_side()?;
    let SocketAddr::V4(at) = public else { return None };
    open.addresses.encode(now, &OpenAgent { at, base_high }).map(Ipv6Addr::from_bits)
}

/// Whether `request` names `public` and a tick within `ACK_TICKS` of `tick`, without which there
/// is no token.
pub fn names(request: &KeepaliveRequest, public: SocketAddr, tick: Tick) -> bool {
    let ticks = request.last_tick.0.wrapping_sub(tick.0) as i64;
    request.public == public
        && (i64::from(*ACK_TICKS.start())..=i64::from(*ACK_TICKS.end())).contains(&ticks)
}

/// Whether `ack` is `expected`, or that of another tick within [`ACK_TICKS`].
#[inline]
pub(super) fn is_acked(ack: SeqNum, expected: SeqNum, stride: u32) -> bool {
    predict::ticks_between(ack, expected, stride).is_some_and(|ticks| ACK_TICKS.contains(&ticks))
}

/// Whether a base with these low bits is aligned, seen by a POP whose clock differs by some ticks:
/// at most 8 ahead of the agent's or 7 behind, so that the high bits are right.
pub const fn is_aligned(base_low: u16, constants: &Constants) -> bool {
    let distance = base_low as i32 - ALIGNED as i32;
    let stride = constants.stride as i32;
    if stride == 0 || distance % stride != 0 {
        return false;
    }
    let ticks = distance / stride;
    ticks >= -ALIGNED_TICKS_BEHIND && ticks <= ALIGNED_TICKS_AHEAD
}

/// The low 16 bits of an aligned base.
pub const ALIGNED: u16 = 0x8000;

/// Ticks that an agent may be behind the POP.
const ALIGNED_TICKS_BEHIND: i32 = 8;
/// Ticks that an agent may be ahead of the POP.
const ALIGNED_TICKS_AHEAD: i32 = 7;

/// Ticks that the segment which an agent acks, and the tick that it names, may differ from now:
/// behind, because an agent connects again after 10; ahead, because the clocks of POPs differ.
pub(super) const ACK_TICKS: std::ops::RangeInclusive<i32> = -12..=3;
