//! Data: a datagram from one agent to another. Its sender's token shows that it may, the
//! destination's where to.

use std::net::{IpAddr, SocketAddr};

use super::keepalive::{ALIGNED, is_acked};
use super::message::{DATA_HEADER_LEN, DataHeader};
use super::service::{Segment, Service};
use super::token::{OpenError, Token};
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;

/// What a datagram becomes on its way down: a PSH|ACK segment of the [`header`](Down::header) and
/// all of the payload from [`body_at`](Down::body_at) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down {
    /// The VIP of the destination's family.
    pub src: SocketAddr,
    /// The agent that it is for.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number: behind all that the agent has sent.
    pub ack: SeqNum,
    /// The new header, which goes in front of the sender's token in place of the destination's.
    pub header: [u8; DATA_HEADER_LEN],
    /// Where the sender's token begins in the payload up.
    pub body_at: usize,
    /// The POP that made the sender's token: the one that it last spoke to.
    pub issued_by: u8,
}

/// Checks a datagram up, and says what becomes of it. `client_ok` tells whether an address can be
/// an agent's.
#[inline]
pub fn accept(
    service: &Service,
    now: UnixTime,
    segment: &Segment<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
) -> Result<Down, DropReason> {
    let payload = segment.payload;
    let header = DataHeader::parse_up(payload).map_err(|_| DropReason::TunnelMalformed)?;
    if segment.datagram_len > usize::from(service.tunnel_mtu) {
        return Err(DropReason::BodyTooBig);
    }
    if header.offset() as usize + payload.len() > usize::from(service.constants.offset) {
        return Err(DropReason::TunnelMalformed);
    }
    let token_at = |family, at| payload.get(at..).and_then(|bytes| Token::read(family, bytes));
    // The sender first: who is not one of ours learns nothing of any other token.
    let family = segment.family();
    if header.sender != family {
        return Err(DropReason::TokenSource);
    }
    let vip = service.vip(family).ok_or(DropReason::NotOurs)?;
    let own = token_at(family, header.own_token_at()).ok_or(DropReason::TunnelMalformed)?;
    let own = vip.tokens.open(now, header.sender_odd, &own).map_err(|error| match error {
        OpenError::Epoch => DropReason::OwnTokenEpoch,
        OpenError::Forged => DropReason::OwnToken,
    })?;
    if own.agent != segment.src {
        return Err(DropReason::TokenSource);
    }
    if !service.has_tenant(own.tenant) {
        return Err(DropReason::UnknownTenant);
    }
    let (tick, stride) = (service.tick(now), service.constants.stride);
    let acked = predict::at(vip.predictor.start(segment.src), stride, tick).plus(1);
    let sent = predict::at(aligned(own.base_high), stride, tick).plus(1 + header.offset());
    let sent_ticks = predict::ticks_between(segment.seq, sent, stride);
    let in_sequence = sent_ticks.is_some_and(|ticks| SENT_TICKS.contains(&ticks));
    if !in_sequence || !is_acked(segment.ack, acked, stride) {
        return Err(DropReason::NotInSequence);
    }
    // Then where to.
    let vip = service.vip(header.destination).ok_or(DropReason::DestinationFamily)?;
    let to = token_at(header.destination, DATA_HEADER_LEN).ok_or(DropReason::TunnelMalformed)?;
    let to = vip.tokens.open(now, header.destination_odd, &to).map_err(|error| match error {
        OpenError::Epoch => DropReason::DestinationTokenEpoch,
        OpenError::Forged => DropReason::DestinationToken,
    })?;
    if to.tenant != own.tenant {
        return Err(DropReason::OtherTenant);
    }
    if to.agent.port() == 0 || !client_ok(to.agent.ip()) {
        return Err(DropReason::DestinationNotAllowed);
    }
    let start = vip.predictor.start(to.agent);
    let behind = Tick(tick.0.wrapping_sub(service.constants.lag.into()));
    let behind = predict::at(SeqNum(u32::from(to.base_high) << 16 | ACK_BASE), stride, behind);
    Ok(Down {
        src: vip.addr,
        dst: to.agent,
        seq: predict::at(start, stride, tick).plus(1 + header.offset()),
        ack: behind.plus(1),
        header: header.write_down(),
        body_at: header.own_token_at(),
        issued_by: own.pop,
    })
}

/// The base of an agent's numbers, of which a token holds the high half.
#[inline]
pub(super) fn aligned(base_high: u16) -> SeqNum {
    SeqNum(u32::from(base_high) << 16 | ALIGNED as u32)
}

/// The low 16 bits that stand for the base in acks: 0x2000 below the aligned one, so that an ack is
/// behind what the agent has sent also where clocks differ.
pub(super) const ACK_BASE: u32 = 0x6000;

/// Ticks that an agent's clock may be off, when it sends data.
pub(super) const SENT_TICKS: std::ops::RangeInclusive<i32> = -3..=3;
