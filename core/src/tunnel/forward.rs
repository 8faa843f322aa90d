//! Data: a datagram from one agent to another. The sender's token proves that the sender may send,
//! and the destination's token holds the destination.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

use super::keepalive::{ALIGNED, is_acked};
use super::message::{DATA_HEADER_LEN, DataHeader};
use super::service::{TunnelSegment, TunnelService};
use super::token::{Return, Token, TokenError};
use crate::net::Family;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;

/// A datagram on its way down: a PSH|ACK segment of the [`header`](DataDown::header) and all of the
/// payload from [`body_at`](DataDown::body_at) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDown {
    /// The VIP of the destination's family.
    pub src: SocketAddr,
    /// The destination agent.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number: below all that the destination has sent.
    pub ack: SeqNum,
    /// The new header. It precedes the sender's token, and replaces the destination's token.
    pub header: [u8; DATA_HEADER_LEN],
    /// The offset of the sender's token in the payload up.
    pub body_at: usize,
    /// The POP that issued the sender's token: the one that last answered its keepalive.
    pub issued_by: u8,
}

/// A datagram on its way up, of correct form, with its tokens still sealed.
#[derive(Clone, Copy, Debug)]
pub struct DataUp {
    src: SocketAddr,
    seq: SeqNum,
    ack: SeqNum,
    header: DataHeader,
    own: Token,
    to: Token,
}

impl DataUp {
    /// Reads the datagram in `segment`.
    ///
    /// # Errors
    /// [`DropReason::TunnelMalformed`] of a wrong form, [`DropReason::BodyTooBig`] beyond the MTU
    /// of the tunnel, and [`DropReason::TokenSource`] where the sender's token is of another
    /// family.
    #[inline]
    pub fn read(service: &TunnelService, segment: &TunnelSegment<'_>) -> Result<Self, DropReason> {
        let payload = segment.payload;
        let header = DataHeader::parse_up(payload).map_err(|_| DropReason::TunnelMalformed)?;
        if segment.datagram_len > usize::from(service.tunnel_mtu) {
            return Err(DropReason::BodyTooBig);
        }
        if header.offset() as usize + payload.len() > usize::from(service.constants.offset) {
            return Err(DropReason::TunnelMalformed);
        }
        if header.sender != segment.family() {
            return Err(DropReason::TokenSource);
        }
        let token_at = |family, at| {
            let token = payload.get(at..).and_then(|bytes| Token::read(family, bytes));
            token.ok_or(DropReason::TunnelMalformed)
        };
        Ok(DataUp {
            src: segment.src,
            seq: segment.seq,
            ack: segment.ack,
            header,
            own: token_at(header.sender, header.own_token_at())?,
            to: token_at(header.destination, DATA_HEADER_LEN)?,
        })
    }
}

/// The contents of both tokens of a datagram, and the sequence numbers towards both agents at tick
/// 0. The number of a token that cannot be opened is meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedTokens {
    own: OpenedToken,
    to: OpenedToken,
}

type OpenedToken = (Result<Return, TokenError>, SeqNum);

impl OpenedTokens {
    /// No token is opened: the initial value, and the result without a VIP of a token's family.
    pub const NOT: OpenedTokens = OpenedTokens {
        own: (Err(TokenError::Epoch), SeqNum(0)),
        to: (Err(TokenError::Epoch), SeqNum(0)),
    };

    /// The slow twin of [`open_all`] opens one token after the other.
    pub fn one(service: &TunnelService, now: UnixTime, datagram: &DataUp) -> OpenedTokens {
        let open = |family, odd, token| {
            let Some(vip) = service.vip(family) else { return OpenedTokens::NOT.own };
            let found = vip.tokens.open(now, odd, token);
            (found, found.map_or(SeqNum(0), |found| vip.predictor.start(found.agent)))
        };
        let DataUp { header, own, to, .. } = datagram;
        OpenedTokens {
            own: open(header.sender, header.sender_odd, own),
            to: open(header.destination, header.destination_odd, to),
        }
    }
}

/// Opens the tokens of the `datagrams` that `lanes` names, at most [`MANY`], side by side, into the
/// same places of `opened`.
pub fn open_all(
    service: &TunnelService,
    now: UnixTime,
    datagrams: &[DataUp],
    lanes: &[u8],
    opened: &mut [OpenedTokens],
) {
    for family in [Family::V4, Family::V6] {
        let Some(vip) = service.vip(family) else { continue };
        // An end is a lane, and whether the token is the sender's (or the destination's).
        let mut ends = ArrayVec::<(u8, bool), ENDS>::new();
        let mut tokens = ArrayVec::<(bool, Token), ENDS>::new();
        for &lane in lanes.iter().take(MANY) {
            let Some(datagram) = datagrams.get(usize::from(lane)) else { continue };
            let header = &datagram.header;
            if header.sender == family {
                ends.push((lane, true));
                tokens.push((header.sender_odd, datagram.own));
            }
            if header.destination == family {
                ends.push((lane, false));
                tokens.push((header.destination_odd, datagram.to));
            }
        }
        let mut place = |(lane, own): (u8, bool), put: &mut dyn FnMut(&mut OpenedToken)| {
            if let Some(opened) = opened.get_mut(usize::from(lane)) {
                put(if own { &mut opened.own } else { &mut opened.to });
            }
        };
        let mut found_at = ArrayVec::<(u8, bool), ENDS>::new();
        let mut agents = ArrayVec::<SocketAddr, ENDS>::new();
        vip.tokens.open_all(now, &tokens, |at, found| {
            let Some(&end) = ends.get(at) else { return };
            if let Ok(found) = found {
                found_at.push(end);
                agents.push(found.agent);
            }
            place(end, &mut |end| end.0 = found);
        });
        let starts = vip.predictor.starts::<ENDS>(&agents);
        for (end, start) in found_at.iter().zip(starts) {
            place(*end, &mut |end| end.1 = start);
        }
    }
}

/// Checks a datagram up, and makes the segment down. `client_ok` is whether an address can be an
/// agent's.
///
/// # Errors
/// Those of [`DataUp::read`] and [`decide`].
pub fn accept(
    service: &TunnelService,
    now: UnixTime,
    segment: &TunnelSegment<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
) -> Result<DataDown, DropReason> {
    let datagram = DataUp::read(service, segment)?;
    let opened = OpenedTokens::one(service, now, &datagram);
    decide(service, now, &datagram, &opened, client_ok)
}

/// Makes the segment down of a datagram whose tokens were opened at the same `now`.
///
/// # Errors
/// The first of these: [`DropReason::NotOurs`] without a VIP of the sender's family; of its token
/// [`DropReason::OwnTokenEpoch`], [`DropReason::OwnToken`], [`DropReason::TokenSource`] and
/// [`DropReason::UnknownTenant`]; [`DropReason::NotInSequence`]; and of the destination
/// [`DropReason::DestinationFamily`], [`DropReason::DestinationTokenEpoch`],
/// [`DropReason::DestinationToken`], [`DropReason::OtherTenant`] and
/// [`DropReason::DestinationNotAllowed`].
#[inline]
pub fn decide(
    service: &TunnelService,
    now: UnixTime,
    datagram: &DataUp,
    opened: &OpenedTokens,
    client_ok: impl Fn(IpAddr) -> bool,
) -> Result<DataDown, DropReason> {
    let header = &datagram.header;
    // The sender is checked first: without a token of its own it learns nothing of other tokens.
    if service.vip(header.sender).is_none() {
        return Err(DropReason::NotOurs);
    }
    let (own, own_start) = &opened.own;
    let own = own.as_ref().map_err(|error| match error {
        TokenError::Epoch => DropReason::OwnTokenEpoch,
        TokenError::Forged => DropReason::OwnToken,
    })?;
    if own.agent != datagram.src {
        return Err(DropReason::TokenSource);
    }
    if !service.has_tenant(own.tenant) {
        return Err(DropReason::UnknownTenant);
    }
    let (tick, stride) = (service.tick(now), service.constants.stride);
    let numbers = (datagram.seq, datagram.ack);
    if !is_in_sequence(service, tick, *own_start, own.base_high, header.offset(), numbers) {
        return Err(DropReason::NotInSequence);
    }
    // Then the destination is checked.
    let vip = service.vip(header.destination).ok_or(DropReason::DestinationFamily)?;
    let (to, to_start) = &opened.to;
    let to = to.as_ref().map_err(|error| match error {
        TokenError::Epoch => DropReason::DestinationTokenEpoch,
        TokenError::Forged => DropReason::DestinationToken,
    })?;
    if to.tenant != own.tenant {
        return Err(DropReason::OtherTenant);
    }
    if to.agent.port() == 0 || !client_ok(to.agent.ip()) {
        return Err(DropReason::DestinationNotAllowed);
    }
    Ok(DataDown {
        src: vip.addr,
        dst: to.agent,
        seq: predict::at(*to_start, stride, tick).plus(1 + header.offset()),
        ack: ack_down(&service.constants, to.base_high, tick),
        header: header.write_down(),
        body_at: header.own_token_at(),
        issued_by: own.pop,
    })
}

/// Most datagrams whose tokens are opened side by side.
pub const MANY: usize = 64;

const ENDS: usize = 2 * MANY;

/// Whether data up in `tick` has numbers, seq and ack, of its sender: of an agent towards which the
/// POPs' number at tick 0 is `start`, with this high half of its base.
#[inline]
pub(super) fn is_in_sequence(
    service: &TunnelService,
    tick: Tick,
    start: SeqNum,
    base_high: u16,
    offset: u32,
    (seq, ack): (SeqNum, SeqNum),
) -> bool {
    let stride = service.constants.stride;
    let acked = predict::at(start, stride, tick).plus(1);
    let sent = predict::at(aligned(base_high), stride, tick).plus(1 + offset);
    let sent_ticks = predict::ticks_between(seq, sent, stride);
    sent_ticks.is_some_and(|ticks| SENT_TICKS.contains(&ticks)) && is_acked(ack, acked, stride)
}

/// The ack number of data down in `tick`, to an agent with this high half of its base.
#[inline]
pub(super) fn ack_down(constants: &Constants, base_high: u16, tick: Tick) -> SeqNum {
    let behind = Tick(tick.0.wrapping_sub(constants.lag.into()));
    let base = SeqNum(u32::from(base_high) << 16 | ACK_BASE);
    predict::at(base, constants.stride, behind).plus(1)
}

/// The base of an agent's sequence numbers, of which a token holds the high half.
#[inline]
pub(super) fn aligned(base_high: u16) -> SeqNum {
    SeqNum(u32::from(base_high) << 16 | ALIGNED as u32)
}

/// The low 16 bits of the base in acks: 0x2000 below the aligned base, so that an ack is below all
/// that the agent has sent, even where clocks differ.
pub(super) const ACK_BASE: u32 = 0x6000;

/// Ticks that the clock of an agent that sends data may differ.
pub(super) const SENT_TICKS: std::ops::RangeInclusive<i32> = -3..=3;
