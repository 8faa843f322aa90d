//! The inputs and outputs of an agent.

use std::fmt;
use std::net::SocketAddr;

use super::Saved;
use crate::keys::AgentKey;
use crate::tunnel::token::PublicToken;
use crate::wire::tcp;

/// The settings and secrets of an agent.
#[derive(Clone)]
pub struct AgentSetup {
    /// The VIP of the service.
    pub vip: SocketAddr,
    /// The identity and key of the agent.
    pub key: AgentKey,
    /// The state of an earlier run; ignored when it belongs to another VIP.
    pub saved: Option<Saved>,
    /// 32 bytes from the system's random number generator.
    pub seed: [u8; 32],
    /// The first and the last port to choose from. The host's kernel must not use them towards the
    /// VIP.
    pub ports: (u16, u16),
    /// The largest outer IP datagram of the agent, in bytes; the POPs may allow less.
    pub mtu: u16,
}

/// Hides the seed.
impl fmt::Debug for AgentSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AgentSetup { vip, key, saved, seed: _, ports, mtu } = self;
        f.debug_struct("AgentSetup")
            .field("vip", vip)
            .field("key", key)
            .field("saved", saved)
            .field("ports", ports)
            .field("mtu", mtu)
            .finish_non_exhaustive()
    }
}

impl AgentSetup {
    /// The setup with ports above Linux's ephemeral ports, and the default MTU.
    pub fn new(vip: SocketAddr, key: AgentKey, seed: [u8; 32]) -> Self {
        AgentSetup { vip, key, saved: None, seed, ports: PORTS, mtu: MTU }
    }
}

/// A segment for the caller to send to the VIP.
#[derive(Debug, PartialEq, Eq)]
pub struct OutgoingSegment<'a> {
    /// The source port.
    pub port: u16,
    /// TCP header and payload. The checksum is zero: the caller computes it.
    pub segment: &'a mut [u8],
}

/// The conversation of two agents that a datagram belongs to; answers repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// A random number of the agent that connects.
    pub session: u64,
    /// The channel within the session.
    pub channel: u16,
}

/// A datagram from another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram<'a> {
    /// The conversation that it belongs to.
    pub conversation: Conversation,
    /// The sender's token, for answers. Only the parity of its epoch is known, which suffices for
    /// an answer.
    pub from: PublicToken,
    /// The datagram.
    pub body: &'a [u8],
}

/// The reason that a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The agent has no token yet, or no recent answer of a POP, and is already trying to get them.
    #[error("the tunnel is not ready")]
    NotReady,
    /// The body is larger than the path to the destination allows.
    #[error("the body is larger than {max} bytes")]
    TooBig {
        /// The largest body to that token, in bytes.
        max: usize,
    },
    /// The buffer has less than [`HEADROOM`] bytes before the body.
    #[error("less than {HEADROOM} bytes before the body")]
    NoHeadroom,
}

/// What came in a segment from a POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A datagram from another agent.
    Datagram(ReceivedDatagram<'a>),
    /// A whole IPv6 packet to one of the agent's open addresses.
    Open(&'a [u8]),
}

impl<'a> Received<'a> {
    /// The datagram, if it is one.
    pub fn datagram(self) -> Option<ReceivedDatagram<'a>> {
        match self {
            Received::Datagram(datagram) => Some(datagram),
            Received::Open(_) => None,
        }
    }
}

/// The reason that a packet was not sent from an open address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSendError {
    /// The agent has no token yet, or no recent answer of a POP, and is already trying to get them.
    #[error("the tunnel is not ready")]
    NotReady,
    /// Another version of IP, or its length is not that of the packet.
    #[error("not one whole IPv6 packet")]
    NotIpv6,
    /// Its source is not an open address of the agent that POPs accept now.
    #[error("the source is no open address of this agent")]
    Source,
    /// The packet is larger than the tunnel allows.
    #[error("the packet is larger than {max} bytes")]
    TooBig {
        /// The largest packet, in bytes.
        max: usize,
    },
    /// The buffer has less than [`OPEN_HEADROOM`] bytes before the packet.
    #[error("less than {OPEN_HEADROOM} bytes before the packet")]
    NoHeadroom,
}

/// Bytes that must be free before the packet in the buffer of
/// [`Agent::send_open`](super::Agent::send_open): TCP header and open header.
pub const OPEN_HEADROOM: usize = tcp::HEADER_LEN + 4;

/// Bytes that must be free before the body in the buffer of [`Agent::send`](super::Agent::send):
/// TCP header, DATA header, and two tokens of IPv6.
pub const HEADROOM: usize = tcp::HEADER_LEN + 12 + 32 + 32;

/// Ports above Linux's ephemeral ports (32768 to 60999).
const PORTS: (u16, u16) = (61_000, 65_535);
/// The default `tunnel_mtu` of a POP.
const MTU: u16 = 1400;
