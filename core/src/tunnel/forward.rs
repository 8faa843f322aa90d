//! Data: a datagram from one agent to another. Its sender's token shows that it may, the
//! destination's where to.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

use super::keepalive::{ALIGNED, is_acked};
use super::message::{DATA_HEADER_LEN, DataHeader};
use super::service::{TunnelSegment, TunnelService};
use super::token::{OpenError, Return, Token};
use crate::net::Family;
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;

/// What a datagram becomes on its way down: a PSH|ACK segment of the [`header`](DataDown::header) and
/// all of the payload from [`body_at`](DataDown::body_at) on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataDown {
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

/// A datagram up whose form holds, with its tokens still sealed.
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
    /// That in `segment`.
    ///
    /// # Errors
    /// When its form, its size or the family of its sender is wrong.
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

/// What the tokens of a datagram hold, and where the numbers towards both agents start. Of a token
/// that cannot be opened the number means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedTokens {
    own: OpenedToken,
    to: OpenedToken,
}

type OpenedToken = (Result<Return, OpenError>, SeqNum);

impl OpenedTokens {
    /// Before any token was opened, and where the service has no VIP of a token's family.
    pub const NOT: OpenedTokens = OpenedTokens {
        own: (Err(OpenError::Epoch), SeqNum(0)),
        to: (Err(OpenError::Epoch), SeqNum(0)),
    };

    /// The slow twin of [`open_all`]: one after the other.
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

/// Opens the tokens of those of `datagrams` that `lanes` names, [`MANY`] at most, side by side,
/// into the same places of `opened`.
pub fn open_all(
    service: &TunnelService,
    now: UnixTime,
    datagrams: &[DataUp],
    lanes: &[u8],
    opened: &mut [OpenedTokens],
) {
    for family in [Family::V4, Family::V6] {
        let Some(vip) = service.vip(family) else { continue };
        // An end is a lane with whose token it is: the sender's, or the destination's.
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

/// Checks a datagram up, and says what becomes of it. `client_ok` tells whether an address can be
/// an agent's.
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

/// Says what becomes of a datagram whose tokens were opened at the same `now`.
#[inline]
pub fn decide(
    service: &TunnelService,
    now: UnixTime,
    datagram: &DataUp,
    opened: &OpenedTokens,
    client_ok: impl Fn(IpAddr) -> bool,
) -> Result<DataDown, DropReason> {
    let header = &datagram.header;
    // The sender first: who is not one of ours learns nothing of any other token.
    if service.vip(header.sender).is_none() {
        return Err(DropReason::NotOurs);
    }
    let (own, own_start) = &opened.own;
    let own = own.as_ref().map_err(|error| match error {
        OpenError::Epoch => DropReason::OwnTokenEpoch,
        OpenError::Forged => DropReason::OwnToken,
    })?;
    if own.agent != datagram.src {
        return Err(DropReason::TokenSource);
    }
    if !service.has_tenant(own.tenant) {
        return Err(DropReason::UnknownTenant);
    }
    let (tick, stride) = (service.tick(now), service.constants.stride);
    let acked = predict::at(*own_start, stride, tick).plus(1);
    let sent = predict::at(aligned(own.base_high), stride, tick).plus(1 + header.offset());
    let sent_ticks = predict::ticks_between(datagram.seq, sent, stride);
    let in_sequence = sent_ticks.is_some_and(|ticks| SENT_TICKS.contains(&ticks));
    if !in_sequence || !is_acked(datagram.ack, acked, stride) {
        return Err(DropReason::NotInSequence);
    }
    // Then where to.
    let vip = service.vip(header.destination).ok_or(DropReason::DestinationFamily)?;
    let (to, to_start) = &opened.to;
    let to = to.as_ref().map_err(|error| match error {
        OpenError::Epoch => DropReason::DestinationTokenEpoch,
        OpenError::Forged => DropReason::DestinationToken,
    })?;
    if to.tenant != own.tenant {
        return Err(DropReason::OtherTenant);
    }
    if to.agent.port() == 0 || !client_ok(to.agent.ip()) {
        return Err(DropReason::DestinationNotAllowed);
    }
    let behind = Tick(tick.0.wrapping_sub(service.constants.lag.into()));
    let behind = predict::at(SeqNum(u32::from(to.base_high) << 16 | ACK_BASE), stride, behind);
    Ok(DataDown {
        src: vip.addr,
        dst: to.agent,
        seq: predict::at(*to_start, stride, tick).plus(1 + header.offset()),
        ack: behind.plus(1),
        header: header.write_down(),
        body_at: header.own_token_at(),
        issued_by: own.pop,
    })
}

/// Datagrams whose tokens are opened side by side at most.
pub const MANY: usize = 64;

const ENDS: usize = 2 * MANY;

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
