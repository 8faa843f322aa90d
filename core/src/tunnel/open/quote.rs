//! Segments with open packets that ICMP errors quote: the sender of the packet is told.

use std::net::{IpAddr, SocketAddr};

use super::address::OpenAgent;
use super::down::{self, agent_of};
use crate::predict;
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::tunnel::forward::ack_down;
use crate::tunnel::keepalive::ACK_TICKS;
use crate::tunnel::message::{OPEN_HEADER_LEN, OpenHeader};
use crate::tunnel::quoted::Quoted;
use crate::tunnel::service::TunnelService;
use crate::verdict::DropReason;
use crate::wire::icmpv6::may_be_error;
use crate::wire::ipv6::Ipv6;

/// The packet that a quoted segment carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPacket {
    /// Where it begins in the quote.
    pub at: usize,
    /// Its header.
    pub header: Ipv6,
    /// The agent that it was sent to.
    pub agent: OpenAgent,
    /// Its sender, where that is an agent of the same service.
    pub sender: Option<OpenAgent>,
    /// Whether its sender may be told: nobody is told of an ICMPv6 error (RFC 4443, section 2.4).
    pub may_tell: bool,
}

/// The packet in `quoted`, a segment whose sequence number at offset 0 of the POP's tick is
/// `syn_ack` + 1. `client_ok` is whether an address can be an agent's, `host_ok` whether one can be
/// a host's outside of the tunnel.
///
/// # Errors
/// [`DropReason::IcmpQuote`] when too little of the segment is quoted, [`DropReason::IcmpForged`]
/// when no POP sent it, and of the packet's sender [`DropReason::DestinationNotAllowed`], or, where
/// it is an agent, those of [`agent_of`].
pub fn packet(
    service: &TunnelService,
    now: UnixTime,
    syn_ack: SeqNum,
    quoted: &Quoted<'_>,
    client_ok: impl Fn(IpAddr) -> bool,
    host_ok: impl Fn(u128) -> bool,
) -> Result<SentPacket, DropReason> {
    let (open, _) = service.open_side().ok_or(DropReason::IcmpForged)?;
    let (tick, constants) = (service.tick(now), &service.constants);
    let bytes = quoted.payload.get(OPEN_HEADER_LEN..).ok_or(DropReason::IcmpQuote)?;
    let header = OpenHeader::parse_down(quoted.payload).map_err(|_| DropReason::IcmpForged)?;
    // The tick in which it was sent.
    let at_offset = syn_ack.plus(1 + header.offset());
    let ticks = predict::ticks_between(quoted.seq, at_offset, constants.stride);
    let ticks = ticks.filter(|ticks| ACK_TICKS.contains(ticks)).ok_or(DropReason::IcmpForged)?;
    let sent_at = Tick(tick.0.wrapping_add_signed(ticks.into()));
    let inner = Ipv6::parse_start(bytes).ok_or(DropReason::IcmpQuote)?;
    // Its destination is the agent's own address, and holds what the numbers are.
    let agent = open.addresses.decode(now, inner.dst).map_err(|_| DropReason::IcmpForged)?;
    let is_sent = SocketAddr::V4(agent.at) == quoted.dst
        && quoted.ack == ack_down(constants, agent.base_high, sent_at)
        && usize::from(quoted.total_len) == down::OVERHEAD + inner.total_len();
    if !is_sent {
        return Err(DropReason::IcmpForged);
    }
    let sender = match open.addresses.holds(inner.src) {
        true => Some(agent_of(service, now, inner.src, client_ok)?),
        false if host_ok(inner.src) => None,
        false => return Err(DropReason::DestinationNotAllowed),
    };
    let at = quoted.payload_at + OPEN_HEADER_LEN;
    Ok(SentPacket { at, header: inner, agent, sender, may_tell: !may_be_error(&inner, bytes) })
}
