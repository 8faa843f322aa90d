//! What an agent can tell about itself.

use std::fmt;
use std::net::SocketAddr;

use crate::time::Tick;
use crate::tunnel::token::PublicToken;

/// How far the way to the POPs is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// A handshake is under way.
    Connecting,
    /// The handshake is done; no keepalive was answered since.
    Confirming,
    /// Keepalives are answered; the numbers are being moved to where tokens can be given out.
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

/// What stands in the way, if anything does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowProblem {
    /// Nothing comes back for a SYN.
    #[error(
        "no answer to SYNs: is the VIP right, is the network up, and does a firewall let TCP through?"
    )]
    NoHandshake,
    /// A RST came back for a SYN.
    #[error(
        "SYNs are answered with RST: no tunnel service is at this address and port, or a firewall rejects it"
    )]
    Refused,
    /// The handshake works, keepalives stay without an answer.
    #[error(
        "the handshake works, but keepalives are not answered: is the key this tenant's and not revoked, and do agent and POPs speak the same version?"
    )]
    NoAnswer,
    /// A reply of another version of the protocol came.
    #[error("a POP speaks version {theirs} of the protocol, this agent version {ours}")]
    Version {
        /// The POP's version.
        theirs: u8,
        /// Our version.
        ours: u8,
    },
    /// The POPs' constants cannot work.
    #[error("the POPs' constants (tick, stride, lag, offset) do not fit each other")]
    Constants,
}

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// What was counted since the agent was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct AgentCounters {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl AgentCounters {
            /// Each counter's name and value.
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
    /// Handshakes begun again from the same port.
    re_syns,
    /// Ports taken after the first.
    new_ports,
    /// Keepalives sent, each repetition counted.
    keepalives_sent,
    /// Keepalives answered.
    keepalives_answered,
    /// Keepalives given up after all their repetitions.
    keepalives_lost,
    /// Datagrams handed over for sending and sent.
    datagrams_sent,
    /// Bytes of their bodies.
    bytes_sent,
    /// Datagrams received and taken.
    datagrams_received,
    /// Bytes of their bodies.
    bytes_received,
    /// RSTs received, of any kind.
    resets,
    /// FINs received and ignored.
    fins,
    /// Datagrams not sent as there is no token or no fresh answer yet.
    refused_not_ready,
    /// Datagrams not sent as they are too big.
    refused_too_big,
    /// Segments received that are no TCP header, or not from the VIP to the agent's port.
    refused_malformed,
    /// SYN-ACKs received that acknowledge no SYN of ours.
    refused_syn_ack,
    /// Replies to no outstanding keepalive, or to one that was answered before.
    refused_reply_nonce,
    /// Replies that are not what the protocol's version says.
    refused_reply_malformed,
    /// Replies whose MAC does not hold.
    refused_reply_mac,
    /// Replies of another version of the protocol.
    refused_reply_version,
    /// Replies that do not acknowledge their request exactly, or not from the server's numbers.
    refused_reply_numbers,
    /// Replies with constants that cannot work.
    refused_reply_constants,
    /// Data before a keepalive was answered.
    refused_data_early,
    /// Data cut off or with flags that none has.
    refused_data_malformed,
    /// Data whose sequence number no POP's clock gives.
    refused_data_seq,
    /// Data whose acknowledgment number is not that of its sequence number's tick.
    refused_data_ack,
    /// Payloads of a kind that no POP sends.
    refused_kind,
}

/// A snapshot of what an agent knows of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How far the way is open.
    pub state: FlowState,
    /// What stands in the way.
    pub problem: Option<FlowProblem>,
    /// The service.
    pub vip: SocketAddr,
    /// The agent's port.
    pub port: u16,
    /// The agent's address as the POPs see it.
    pub public: Option<SocketAddr>,
    /// The POPs' tick now, as far as known.
    pub tick: Option<Tick>,
    /// How exactly the tick's begin is known, in milliseconds either way.
    pub tick_uncertainty_ms: u64,
    /// The POP that answered last.
    pub pop: Option<u8>,
    /// The agent's own token.
    pub token: Option<PublicToken>,
    /// The largest body to a token of the agent's own family.
    pub body_max: Option<usize>,
    /// From the last answered keepalive to its answer, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Since the last answer, in milliseconds.
    pub silent_ms: Option<u64>,
    /// Whether a middlebox changes sequence numbers.
    pub numbers_rewritten: bool,
    /// What was counted.
    pub counters: AgentCounters,
}
