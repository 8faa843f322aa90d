//! The status of an agent.

use std::fmt;
use std::net::SocketAddr;

use super::addresses::OpenAddresses;
use crate::time::Tick;
use crate::tunnel::token::PublicToken;

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// A handshake is in progress.
    Connecting,
    /// The handshake is complete; no keepalive was answered yet.
    Confirming,
    /// Keepalives are answered; the numbers are not aligned yet, so that no token is issued.
    Aligning,
    /// Data can be sent and received.
    Ready,
}

impl FlowState {
    /// Its name in `status`.
    pub const fn label(self) -> &'static str {
        match self {
            FlowState::Connecting => "connecting",
            FlowState::Confirming => "confirming",
            FlowState::Aligning => "aligning",
            FlowState::Ready => "ready",
        }
    }
}

impl fmt::Display for FlowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The reason that the flow is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowProblem {
    /// SYNs are not answered.
    #[error(
        "no answer to SYNs: is the VIP right, is the network up, and does a firewall let TCP \
         through?"
    )]
    NoHandshake,
    /// A RST answers a SYN.
    #[error(
        "SYNs are answered with RST: no tunnel service is at this address and port, or a firewall \
         rejects it"
    )]
    Refused,
    /// The handshake works, but keepalives are not answered.
    #[error(
        "the handshake works, but keepalives are not answered: is the key this tenant's and not \
         revoked, is the VIP the service's own address and not one that is translated to it, and \
         do agent and POPs speak the same version?"
    )]
    NoAnswer,
    /// A reply is of another version of the protocol.
    #[error("a POP speaks version {theirs} of the protocol, this agent version {ours}")]
    Version {
        /// The POP's version.
        theirs: u8,
        /// The agent's version.
        ours: u8,
    },
    /// The POPs' constants do not fit each other.
    #[error("the POPs' constants (tick, stride, lag, offset) do not fit each other")]
    Constants,
}

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// Counts since the agent was created.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct AgentCounters {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl AgentCounters {
            /// The name and value of each counter.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// SYNs sent.
    syns_sent,
    /// Handshakes completed.
    handshakes,
    /// Handshakes repeated from the same port.
    re_syns,
    /// Ports chosen after the first.
    new_ports,
    /// Keepalives sent, each repetition counted.
    keepalives_sent,
    /// Keepalives answered.
    keepalives_answered,
    /// Keepalives given up after all their repetitions.
    keepalives_lost,
    /// Datagrams sent.
    datagrams_sent,
    /// Bytes of their bodies.
    bytes_sent,
    /// Datagrams received and accepted.
    datagrams_received,
    /// Bytes of their bodies.
    bytes_received,
    /// Packets sent from an open address.
    open_packets_sent,
    /// Their bytes.
    open_bytes_sent,
    /// Packets to an open address received and accepted.
    open_packets_received,
    /// Their bytes.
    open_bytes_received,
    /// RSTs received, of any kind.
    resets,
    /// FINs received and ignored.
    fins,
    /// Datagrams and open packets not sent without a token or a recent reply.
    refused_not_ready,
    /// Datagrams not sent because they are too large.
    refused_too_big,
    /// Packets not sent from an open address because they are not one whole IPv6 packet.
    refused_open_not_ipv6,
    /// Packets not sent because their source is no open address of the agent that POPs accept.
    refused_open_source,
    /// Packets not sent from an open address because they are too large.
    refused_open_too_big,
    /// Segments received without a TCP header, or not from the VIP to the agent's port.
    refused_malformed,
    /// SYN-ACKs received that acknowledge no SYN of the agent.
    refused_syn_ack,
    /// Replies to no outstanding keepalive, or to one that was answered before.
    refused_reply_nonce,
    /// Replies of a wrong form.
    refused_reply_malformed,
    /// Replies with a wrong MAC.
    refused_reply_mac,
    /// Replies of another version of the protocol.
    refused_reply_version,
    /// Replies that do not acknowledge their request exactly, or with other numbers than the
    /// server's.
    refused_reply_numbers,
    /// Replies with constants that do not fit each other.
    refused_reply_constants,
    /// Data or open packets before a keepalive was answered.
    refused_data_early,
    /// Data cut off or with invalid flags.
    refused_data_malformed,
    /// Data or open packets with the sequence number of no tick that a POP can be in.
    refused_data_seq,
    /// Data or open packets whose ack number is not of the tick of their sequence number.
    refused_data_ack,
    /// Open packets cut off, with invalid flags, or without one whole IPv6 packet in them.
    refused_open_malformed,
    /// Open packets to an address that is not the agent's.
    refused_open_destination,
    /// Payloads of a kind that no POP sends.
    refused_kind,
}

/// A snapshot of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state of the flow.
    pub state: FlowState,
    /// The reason that it is not ready, if known.
    pub problem: Option<FlowProblem>,
    /// The VIP of the service.
    pub vip: SocketAddr,
    /// The agent's port.
    pub port: u16,
    /// The agent's public endpoint.
    pub public: Option<SocketAddr>,
    /// The POPs' present tick, if known.
    pub tick: Option<Tick>,
    /// The uncertainty of the begin of the tick, in milliseconds either way.
    pub tick_uncertainty_ms: u64,
    /// The POP that answered last.
    pub pop: Option<u8>,
    /// The agent's own token.
    pub token: Option<PublicToken>,
    /// The agent's open addresses.
    pub open: OpenAddresses,
    /// The largest body to a token of the agent's own family, in bytes.
    pub body_max: Option<usize>,
    /// The time from the last answered keepalive to its reply, in microseconds.
    pub round_trip_us: Option<u64>,
    /// The time since the last reply, in milliseconds.
    pub silent_ms: Option<u64>,
    /// Whether a middlebox rewrites sequence numbers.
    pub numbers_rewritten: bool,
    /// The counters.
    pub counters: AgentCounters,
}
