//! Segments of tunnels that ICMP errors quote: their authenticity, and the agent that sent them.
//!
//! A POP keeps no segment, but it recognises those that POPs have sent: their sequence number is of
//! a recent tick, which is unknown off the path ([`crate::predict`]), and the lower half of their
//! ack number follows from the same tick. A datagram down was an agent's segment up before, and
//! holds the sender's token. So an error about it is for that agent, about the segment that it
//! sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::forward::{ACK_BASE, aligned};
use super::keepalive::{ACK_TICKS, is_acked};
use super::message::{DATA_HEADER_LEN, DataHeader, MessageType};
use super::service::TunnelService;
use super::token::Token;
use crate::net::Family;
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{HEADER_LEN, field};
use crate::wire::{get_u16, get_u32};

/// A segment from a VIP, as far as an error quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// The VIP.
    pub src: SocketAddr,
    /// The agent that it was sent to.
    pub dst: SocketAddr,
    /// Length of its IP datagram, in bytes.
    pub total_len: u16,
    seq: SeqNum,
    ack: SeqNum,
    /// The quoted part of its payload.
    payload: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Reads the quote in `bytes`, which follow the header of an ICMP error of `family`; `None`
    /// when they are no TCP segment, or end before the ack number does.
    pub fn parse(family: Family, bytes: &'a [u8]) -> Option<Self> {
        let (src, dst, header_len, total_len): (IpAddr, IpAddr, _, _) = match family {
            Family::V4 => {
                let ip = Ipv4::parse_quoted(bytes)?;
                if ip.protocol != ipv4::PROTOCOL_TCP || ip.is_later_fragment() {
                    return None;
                }
                let [src, dst] = [ip.src, ip.dst].map(Ipv4Addr::from_bits);
                (src.into(), dst.into(), ip.header_len, ip.total_len as u16)
            }
            Family::V6 => {
                let (ip, _) = Ipv6::parse_quoted(bytes)?;
                // Segments of POPs have no extension headers.
                if ip.next_header != ipv6::PROTOCOL_TCP {
                    return None;
                }
                let [src, dst] = [ip.src, ip.dst].map(Ipv6Addr::from_bits);
                let total_len = u16::try_from(ip.total_len()).ok()?;
                (src.into(), dst.into(), ipv6::HEADER_LEN, total_len)
            }
        };
        let tcp = bytes.get(header_len..usize::from(total_len).min(bytes.len()))?;
        if tcp.len() < NUMBERS_END {
            return None;
        }
        // The only segment with options, the SYN-ACK, has no payload.
        let offset = tcp.get(field::DATA_OFFSET).map_or(0, |byte| usize::from(byte >> 4) * 4);
        Some(Quoted {
            src: SocketAddr::new(src, get_u16(tcp, field::SRC_PORT)),
            dst: SocketAddr::new(dst, get_u16(tcp, field::DST_PORT)),
            total_len,
            seq: SeqNum(get_u32(tcp, field::SEQ)),
            ack: SeqNum(get_u32(tcp, field::ACK)),
            payload: tcp.get(offset.max(HEADER_LEN)..).unwrap_or_default(),
        })
    }
}

/// The sender of the segment that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// A POP: the segment is the answer to a SYN or a keepalive request.
    Answer,
    /// The agent whose datagram it carried.
    Sender(SentSegment),
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
/// agent's.
///
/// # Errors
/// [`DropReason::IcmpQuote`] when too little of the segment is quoted, or it is of no agent and VIP
/// of the service; [`DropReason::IcmpForged`] when no POP sent it; and of the sender whose
/// datagram it carried [`DropReason::UnknownTenant`] and [`DropReason::DestinationNotAllowed`].
pub fn concern(
    service: &TunnelService,
    now: UnixTime,
    quoted: &Quoted<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
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

/// The end of the ack number in a TCP header.
const NUMBERS_END: usize = field::ACK + 4;

const _: () = assert!(longer_by(Family::V4, Family::V6) == 12);
