//! A tunnel service with its keys, and the kinds of segments to it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::message::MessageType;
use super::open::OpenService;
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
    /// The constants that POPs and agents share.
    pub constants: Constants,
    /// The largest IP datagram between agents and POPs, in bytes.
    pub tunnel_mtu: u16,
    /// The VIP of IPv4 agents.
    pub vip4: Option<TunnelVip>,
    /// The VIP of IPv6 agents.
    pub vip6: Option<TunnelVip>,
    /// The numbers of the tenants that may use it, ascending.
    pub tenants: Box<[u16]>,
    /// The keys of agents: at least of these tenants.
    pub agents: Arc<AgentKeys>,
    /// Its open side, if it has one; it then has a VIP of IPv4.
    pub open: Option<OpenService>,
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
    /// The sequence numbers towards its agents.
    pub predictor: Predictor,
    /// The keys of the tokens of its agents.
    pub tokens: TokenKeys,
}

impl TunnelVip {
    /// The VIP `addr`, with its keys.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(addr: SocketAddr, keys: &KeyFile) -> Result<Self, HkdfError> {
        let predictor = Predictor::new(&keys.sequence, addr)?;
        let tokens = TokenKeys::new(&keys.tokens, addr)?;
        Ok(TunnelVip { addr, predictor, tokens })
    }
}

/// A TCP segment to a tunnel's VIP, with a correct checksum.
#[derive(Clone, Copy, Debug)]
pub struct TunnelSegment<'a> {
    /// The agent's public endpoint.
    pub src: SocketAddr,
    /// The VIP.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Options, whose lengths are correct.
    pub options: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// Length of its IP datagram, in bytes.
    pub datagram_len: usize,
}

impl TunnelSegment<'_> {
    /// The family of both addresses.
    #[inline]
    pub(super) fn family(&self) -> Family {
        Family::of(self.dst.ip())
    }
}

/// The kind of a segment to a tunnel's VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// The start of a handshake, answered by [`super::handshake`].
    Syn,
    /// No data: the end of a handshake or of a connection, which needs no answer.
    Empty,
    /// A keepalive request, answered by [`super::keepalive`].
    Keepalive,
    /// A datagram, forwarded by [`super::forward`].
    Data,
    /// A packet from an open address, forwarded by [`super::open`].
    Open,
}

impl SegmentKind {
    /// The kind of `segment`, by its flags and the type of its message alone.
    ///
    /// # Errors
    /// [`DropReason::SynAckFromClient`] and [`DropReason::TunnelMalformed`] of what no agent sends.
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
            Some(MessageType::OpenUp) => Ok(SegmentKind::Open),
            _ => Err(DropReason::TunnelMalformed),
        }
    }
}
