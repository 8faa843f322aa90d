//! A tunnel service as a POP has it, and what a segment to it is.

use std::net::SocketAddr;
use std::sync::Arc;

use super::message::MessageType;
use super::token::TokenKeys;
use crate::crypto::HkdfError;
use crate::keys::{AgentKeys, KeyFile};
use crate::net::Family;
use crate::predict::{Constants, Predictor};
use crate::seq::SeqNum;
use crate::time::{Tick, UnixTime};
use crate::verdict::DropReason;
use crate::wire::tcp::{ACK, FIN, RST, SYN};

/// A tunnel service.
#[derive(Clone, Debug)]
pub struct TunnelService {
    /// What POPs and agents agree on.
    pub constants: Constants,
    /// The largest IP datagram between agents and POPs, in bytes.
    pub tunnel_mtu: u16,
    /// Where IPv4 agents come.
    pub vip4: Option<TunnelVip>,
    /// Where IPv6 agents come.
    pub vip6: Option<TunnelVip>,
    /// The numbers of the tenants that may use it, ascending.
    pub tenants: Box<[u16]>,
    /// The keys of agents: of these tenants at least.
    pub agents: Arc<AgentKeys>,
}

impl TunnelService {
    /// The VIP of `family`, if it has one.
    #[inline]
    pub fn vip(&self, family: Family) -> Option<&TunnelVip> {
        match family {
            Family::V4 => self.vip4.as_ref(),
            Family::V6 => self.vip6.as_ref(),
        }
    }

    /// Whether the tenant may use it.
    #[inline]
    pub fn has_tenant(&self, tenant: u16) -> bool {
        self.tenants.binary_search(&tenant).is_ok()
    }

    /// The tick at `now`.
    #[inline]
    pub(super) fn tick(&self, now: UnixTime) -> Tick {
        now.tick(self.constants.tick_ms)
    }
}

/// One of a service's VIPs, with its keys.
#[derive(Clone, Debug)]
pub struct TunnelVip {
    /// Its address and port.
    pub addr: SocketAddr,
    /// The numbers that agents there expect.
    pub predictor: Predictor,
    /// Tokens of agents that come there.
    pub tokens: TokenKeys,
}

impl TunnelVip {
    /// The VIP `addr`, with its keys.
    pub fn new(addr: SocketAddr, keys: &KeyFile) -> Result<Self, HkdfError> {
        let predictor = Predictor::new(&keys.sequence, addr)?;
        let tokens = TokenKeys::new(&keys.tokens, addr)?;
        Ok(TunnelVip { addr, predictor, tokens })
    }
}

/// A TCP segment to a tunnel's VIP, whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub struct TunnelSegment<'a> {
    /// The agent as the POP sees it.
    pub src: SocketAddr,
    /// The VIP.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Options, whose lengths hold.
    pub options: &'a [u8],
    /// What follows them.
    pub payload: &'a [u8],
    /// Length of the IP datagram that it came in, in bytes.
    pub datagram_len: usize,
}

impl TunnelSegment<'_> {
    /// The family of both addresses.
    #[inline]
    pub(super) fn family(&self) -> Family {
        Family::of(self.dst.ip())
    }
}

/// What a segment to a tunnel's VIP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// The start of a handshake: [`super::handshake`].
    Syn,
    /// Nothing to be done: the end of a handshake, or of a connection.
    Empty,
    /// [`super::keepalive`].
    Keepalive,
    /// [`super::forward`].
    Data,
}

impl SegmentKind {
    /// What `segment` is, judged by its flags and the type of its message alone.
    ///
    /// # Errors
    /// When it is nothing that an agent sends.
    #[inline]
    pub fn of(segment: &TunnelSegment<'_>) -> Result<Self, DropReason> {
        if segment.flags & SYN != 0 {
            let ack = segment.flags & ACK != 0;
            return if ack { Err(DropReason::SynAckFromClient) } else { Ok(SegmentKind::Syn) };
        }
        if segment.payload.is_empty() {
            return Ok(SegmentKind::Empty);
        }
        if segment.flags & ACK == 0 || segment.flags & (RST | FIN) != 0 {
            return Err(DropReason::TunnelMalformed);
        }
        match MessageType::of(segment.payload) {
            Some(MessageType::KeepaliveRequest) => Ok(SegmentKind::Keepalive),
            Some(MessageType::DataUp) => Ok(SegmentKind::Data),
            _ => Err(DropReason::TunnelMalformed),
        }
    }
}
