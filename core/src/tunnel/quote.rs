//! Segments of tunnels that ICMP errors quote: their authenticity, and the agent that sent them.
//!
//! A POP keeps no segment, but it recognises those that POPs have sent: their sequence number is of
//! a recent tick, which is unknown off the path ([`crate::predict`]), and the lower half of their
//! ack number follows from the same tick. A datagram down was an agent's segment up before, and
//! holds the sender's token. So an error about it is for that agent, about the segment that it
//! sent.

use std::net::{IpAddr, SocketAddr};

use super::forward::{ACK_BASE, aligned};
use super::keepalive::{ACK_TICKS, is_acked};
use super::message::{DATA_HEADER_LEN, DataHeader, MessageType};
use super::open;
use super::open::quote::SentPacket;
pub use super::quoted::Quoted;
use super::service::TunnelService;
use super::token::Token;
use crate::net::Family;
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;

/// The sender of the segment that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// A POP: the segment is the answer to a SYN or a keepalive request.
    Answer,
    /// The agent whose datagram it carried.
    Sender(SentSegment),
    /// The host or agent whose open packet it carried.
    Packet(SentPacket),
}

/// The segment that an agent sent, as far as it follows from the segment down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentSegment {
    /// The agent.
    pub src: SocketAddr,
    /// The VIP that it was sent to.
    pub dst: SocketAddr,
    /// Its sequence number, but for the ticks that the agent's clock differed.
    pub seq: SeqNum,
    /// Its ack number, with the same uncertainty.
    pub ack: SeqNum,
    /// Length of its IP datagram, in bytes.
    pub total_len: u16,
    /// The bytes by which that datagram was longer than the one down.
    pub longer_by: u16,
}

/// The sender of `quoted`, a segment that POPs sent. `client_ok` is whether an address can be an
/// agent's, `host_ok` whether one can be a host's outside of the tunnel.
///
/// # Errors
/// [`DropReason::IcmpQuote`] when too little of the segment is quoted, or it is of no agent and VIP
/// of the service; [`DropReason::IcmpForged`] when no POP sent it; of the sender whose datagram it
/// carried [`DropReason::UnknownTenant`] and [`DropReason::DestinationNotAllowed`]; and of an open
/// packet those of [`super::open::quote::packet`].
pub fn concern(
    service: &TunnelService,
    now: UnixTime,
    quoted: &Quoted<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
    host_ok: impl Fn(u128) -> bool,
) -> Result<Concern, DropReason> {
    let vip = service.vip(Family::of(quoted.src.ip())).filter(|vip| vip.addr == quoted.src);
    let vip = vip.ok_or(DropReason::IcmpQuote)?;
    if quoted.dst.port() == 0 || !client_ok(quoted.dst.ip()) {
        return Err(DropReason::IcmpQuote);
    }
    let (start, stride) = (vip.predictor.start(quoted.dst), service.constants.stride);
    let syn_ack = predict::at(start, stride, service.tick(now));
    let is = |seq| is_acked(quoted.seq, seq, stride);
    match MessageType::of(quoted.payload) {
        Some(MessageType::DataDown) => {
            sender(service, now, syn_ack, quoted, client_ok).map(Concern::Sender)
        }
        Some(MessageType::OpenDown) => {
            let packet = open::quote::packet(service, now, syn_ack, quoted, client_ok, host_ok);
            packet.map(Concern::Packet)
        }
        Some(MessageType::KeepaliveReply) if is(syn_ack.plus(1)) => Ok(Concern::Answer),
        Some(_) => Err(DropReason::IcmpForged),
        None if quoted.payload.is_empty() && is(syn_ack) => Ok(Concern::Answer),
        // The payload may be cut off.
        None if quoted.payload.is_empty() => Err(DropReason::IcmpQuote),
        None => Err(DropReason::IcmpForged),
    }
}

/// The segment up of the datagram down in `quoted`. The sequence number at offset 0 of the POP's
/// tick is `syn_ack` + 1.
fn sender(
    service: &TunnelService,
    now: UnixTime,
    syn_ack: SeqNum,
    quoted: &Quoted<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
) -> Result<SentSegment, DropReason> {
    let (tick, constants) = (service.tick(now), &service.constants);
    let stride = constants.stride;
    let payload = quoted.payload;
    if payload.len() < DATA_HEADER_LEN {
        return Err(DropReason::IcmpQuote);
    }
    let header = DataHeader::parse_down_header(payload).map_err(|_| DropReason::IcmpForged)?;
    // The tick in which it was sent.
    let at_offset = syn_ack.plus(1 + header.offset());
    let ticks = predict::ticks_between(quoted.seq, at_offset, stride);
    let ticks = ticks.filter(|ticks| ACK_TICKS.contains(ticks)).ok_or(DropReason::IcmpForged)?;
    let sent_at = Tick(tick.0.wrapping_add_signed(ticks.into()));
    let behind = Tick(sent_at.0.wrapping_sub(constants.lag.into()));
    // The upper half of the ack number is the agent's own, which only its token holds.
    let ack = predict::at(SeqNum(ACK_BASE), stride, behind).plus(1);
    if quoted.ack.0 as u16 != ack.0 as u16 {
        return Err(DropReason::IcmpForged);
    }
    let token = payload.get(DATA_HEADER_LEN..).and_then(|bytes| Token::read(header.sender, bytes));
    let token = token.ok_or(DropReason::IcmpQuote)?;
    let from = service.vip(header.sender).ok_or(DropReason::IcmpForged)?;
    let own = from.tokens.open(now, header.sender_odd, &token);
    let own = own.map_err(|_| DropReason::IcmpForged)?;
    if !service.has_tenant(own.tenant) {
        return Err(DropReason::UnknownTenant);
    }
    if own.agent.port() == 0 || !client_ok(own.agent.ip()) {
        return Err(DropReason::DestinationNotAllowed);
    }
    let longer_by = longer_by(header.sender, Family::of(quoted.dst.ip()));
    let total_len = quoted.total_len.checked_add(longer_by).ok_or(DropReason::IcmpForged)?;
    let up = predict::at(aligned(own.base_high), stride, sent_at);
    Ok(SentSegment {
        src: own.agent,
        dst: from.addr,
        seq: up.plus(1 + header.offset()),
        ack: predict::at(from.predictor.start(own.agent), stride, behind).plus(1),
        total_len,
        longer_by,
    })
}

/// The bytes by which a datagram up of an agent of family `from` is longer than the datagram down
/// to an agent of family `to`: the destination's token, and the difference of the IP headers.
pub const fn longer_by(from: Family, to: Family) -> u16 {
    (Token::len_of(to) + from.ip_header_len() - to.ip_header_len()) as u16
}

const _: () = assert!(longer_by(Family::V4, Family::V6) == 12);
