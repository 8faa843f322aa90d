//! The agent's side of tunnel mode as a pure state machine (`docs/protocol-tunnel.md`).
//!
//! One agent has one flow to one VIP. To every NAT and firewall between them that flow looks like
//! one long TCP connection; each segment carries one datagram. The agent predicts nothing by
//! itself: it follows the tick and the numbers that authenticated answers to its keepalives told
//! it, and takes nothing from any other segment. In particular, data never moves its tick or its
//! acks, so that nobody who forges data can push a firewall's view of the flow out of step.
//!
//! No I/O, no clock, no randomness of its own: the caller passes the time and a seed, sends the
//! segments that it is handed, and calls [`Agent::poll`] at [`Agent::next_timer`]. The time must go
//! on while the host sleeps (CLOCK_BOOTTIME): a sleep is seen by it. All state is bounded; sending
//! and receiving a datagram allocates nothing.

mod clock;
mod connect;
mod data;
mod keepalive;
mod random;
mod saved;
mod status;

use std::fmt;
use std::net::SocketAddr;

use arrayvec::ArrayVec;

use self::clock::TickClock;
use self::connect::Phase;
use self::keepalive::{Outstanding, Server, Timer};
use self::random::SeededRandom;
pub use self::saved::{Saved, SavedError};
pub use self::status::{AgentCounters, FlowProblem, FlowState, Status};
use super::message::MessageType;
use super::token::PublicToken;
use crate::keys::AgentKey;
use crate::net::Family;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Instant, Now, Tick};
use crate::wire::tcp::{self, Tcp};

/// What an agent is started with.
#[derive(Clone)]
pub struct AgentSetup {
    /// The service.
    pub vip: SocketAddr,
    /// Who the agent is.
    pub key: AgentKey,
    /// What an earlier run left; ignored when it belongs to another VIP.
    pub saved: Option<Saved>,
    /// 32 bytes from the system's random number generator.
    pub seed: [u8; 32],
    /// First and last port to choose from. The host's kernel must not use them towards the VIP.
    pub ports: (u16, u16),
    /// The largest outer IP datagram that the agent may send; the POPs may allow less.
    pub mtu: u16,
}

/// Shows nothing of the seed.
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
    /// With ports above those that Linux chooses by itself, and the default MTU.
    pub fn new(vip: SocketAddr, key: AgentKey, seed: [u8; 32]) -> Self {
        AgentSetup { vip, key, saved: None, seed, ports: PORTS, mtu: MTU }
    }
}

/// A segment to be sent to the VIP.
#[derive(Debug, PartialEq, Eq)]
pub struct OutgoingSegment<'a> {
    /// The port it comes from.
    pub port: u16,
    /// TCP header and payload. The checksum field is zero: the caller fills it in.
    pub segment: &'a mut [u8],
}

/// Which conversation of two agents a datagram belongs to: answers bear what the question bore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// Chosen at random by the agent that connects.
    pub session: u64,
    /// One of many in the session.
    pub channel: u16,
}

/// A datagram from another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedDatagram<'a> {
    /// The conversation that it belongs to.
    pub conversation: Conversation,
    /// The sender's token: where answers go. Of its epoch only the parity is known here, which is
    /// all that an answer needs.
    pub from: PublicToken,
    /// The datagram.
    pub body: &'a [u8],
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no token yet, or no fresh answer from a POP. What is needed for that is under way.
    #[error("the tunnel is not ready")]
    NotReady,
    /// The body is larger than the way allows.
    #[error("the body is larger than {max} bytes")]
    TooBig {
        /// The largest body to that token.
        max: usize,
    },
    /// The buffer has not [`HEADROOM`] bytes before the body.
    #[error("less than {HEADROOM} bytes before the body")]
    NoHeadroom,
}

/// Bytes that must be free before the body in a buffer given to [`Agent::send`]: TCP header, DATA
/// header, and two tokens of IPv6.
pub const HEADROOM: usize = tcp::HEADER_LEN + 12 + 32 + 32;

/// The agent's side of one flow.
#[derive(Debug)]
pub struct Agent {
    vip: SocketAddr,
    key: AgentKey,
    ports: (u16, u16),
    mtu: u16,
    random: SeededRandom,
    port: u16,
    /// Our first number while there is no base.
    first_isn: SeqNum,
    /// The sequence number of tick 0; not known before the first answer.
    base: Option<SeqNum>,
    /// What a middlebox adds to the low 16 bits of our numbers; known once aligned.
    shift: Option<u16>,
    constants: Constants,
    clock: TickClock,
    phase: Phase,
    timer: Timer,
    /// Keepalives that wait for an answer.
    outstanding: ArrayVec<Outstanding, OUTSTANDING_MAX>,
    /// The server's numbers in this flow.
    server: Option<Server>,
    /// The server's numbers by which data is judged: they outlive a handshake from the same port.
    accepted: Option<data::Accepted>,
    /// The highest ack that was sent in this flow, and the last one.
    acked: Option<(SeqNum, SeqNum)>,
    /// When a segment was sent last, and with which tick.
    last_sent: Instant,
    last_tick: Tick,
    /// Our count of bytes sent, in steps of 64.
    offset: u32,
    /// When a RST last led to a handshake, and to a keepalive.
    reset_at: [Option<Instant>; 2],
    public: Option<SocketAddr>,
    token: Option<PublicToken>,
    /// When a POP gave it out last.
    token_at: Instant,
    token_version: u64,
    pop: Option<u8>,
    body_max: u16,
    round_trip_us: Option<u64>,
    problem: Option<FlowProblem>,
    counters: AgentCounters,
}

impl Agent {
    /// An agent that has sent nothing yet: the first [`Agent::poll`] sends its SYN. The wall clock
    /// of `now` may be wrong; it serves only until the first answer.
    pub fn new(config: AgentSetup, now: Now) -> Self {
        let AgentSetup { vip, key, saved, seed, ports, mtu } = config;
        let saved = saved.filter(|saved| saved.vip == vip);
        let defaults = Constants::default();
        let constants = saved.map_or(defaults, |saved| Constants {
            tick_ms: saved.tick_ms,
            stride: saved.stride,
            ..defaults
        });
        let mut agent = Agent {
            vip,
            key,
            ports,
            mtu,
            random: SeededRandom::new(seed),
            port: 0,
            first_isn: SeqNum(0),
            base: saved.map(|saved| SeqNum(saved.base)),
            shift: saved.map(|saved| saved.shift),
            constants,
            clock: TickClock::new(constants.tick_ms, now.instant, now.unix),
            phase: Phase::Idle { at: now.instant },
            timer: Timer::new(now.instant),
            outstanding: ArrayVec::new(),
            server: None,
            accepted: None,
            acked: None,
            last_sent: now.instant,
            last_tick: Tick(0),
            offset: 0,
            reset_at: [None; 2],
            public: None,
            token: None,
            token_at: now.instant,
            token_version: 0,
            pop: None,
            body_max: 0,
            round_trip_us: None,
            problem: None,
            counters: AgentCounters::default(),
        };
        agent.first_isn = SeqNum(agent.random.next() as u32);
        agent.port = saved.map_or_else(|| agent.random_port(), |saved| saved.port);
        agent
    }

    /// Does what is due at `now`: handshakes, keepalives and their repetitions.
    pub fn poll(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        if self.slept(now) {
            return self.connect_again(now, out);
        }
        match self.phase {
            Phase::Open(_) => self.poll_keepalive(now, out),
            Phase::Idle { .. } | Phase::SynSent(_) => self.poll_connect(now, out),
        }
    }

    /// When [`Agent::poll`] is to be called next, at the latest.
    pub fn next_timer(&self) -> Instant {
        match &self.phase {
            Phase::Idle { at } => *at,
            Phase::SynSent(attempt) => attempt.retry_at,
            Phase::Open(_) => self.timer.next(),
        }
    }

    /// Takes a segment that came from the VIP: TCP header on, checksum verified by the caller.
    pub fn receive<'s>(
        &mut self,
        now: Instant,
        segment: &'s [u8],
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Option<ReceivedDatagram<'s>> {
        let Some(tcp) = Tcp::parse(segment).filter(|tcp| self.is_ours(tcp)) else {
            self.counters.refused_malformed += 1;
            return None;
        };
        let payload = segment.get(tcp.header_len..).unwrap_or_default();
        if tcp.flags & (tcp::RST | tcp::SYN) != 0 {
            self.receive_control(now, &tcp, out);
            return None;
        }
        if tcp.has(tcp::FIN) {
            // Only a middlebox sends one. The flow goes on as long as it lets it.
            self.counters.fins += 1;
            return None;
        }
        match MessageType::of(payload) {
            Some(MessageType::DataDown) => return self.receive_data(&tcp, payload),
            Some(MessageType::KeepaliveReply) => self.receive_reply(now, &tcp, payload, out),
            _ if payload.is_empty() => {}
            _ => self.counters.refused_kind += 1,
        }
        None
    }

    /// Makes a segment of the body that `buffer` holds from `body_at` on, in the same buffer, right
    /// before it; `out` is handed a keepalive when one must go first.
    pub fn send<'b>(
        &mut self,
        now: Instant,
        to: &PublicToken,
        conversation: Conversation,
        buffer: &'b mut [u8],
        body_at: usize,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Result<OutgoingSegment<'b>, SendError> {
        self.send_data(now, to, conversation, buffer, body_at, out)
    }

    /// The largest body that can be sent to `to`; 0 before the first answer.
    pub fn body_max(&self, to: &PublicToken) -> usize {
        self.body_room(to)
    }

    /// The agent's own token, once it has one.
    pub fn token(&self) -> Option<PublicToken> {
        self.token
    }

    /// A number that grows whenever the token must be published anew: at the first one, and when
    /// address, port, numbers or epoch changed. Tokens that differ only in the POP that made them
    /// are as good as each other.
    pub fn token_version(&self) -> u64 {
        self.token_version
    }

    /// The agent's port: segments to any other are not its own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What to keep for the next run; `None` while tokens could not be given out yet.
    pub fn saved(&self) -> Option<Saved> {
        let (base, shift) = (self.base?, self.shift?);
        let Constants { tick_ms, stride, .. } = self.constants;
        Some(Saved { vip: self.vip, port: self.port, base: base.0, shift, tick_ms, stride })
    }

    /// The host's address changed: NATs on the new way know nothing of the flow. Port and numbers
    /// stay, the public address may not.
    pub fn rebound(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.connect_again(now, out);
    }

    /// The host's kernel uses the port for something else: take another.
    pub fn port_taken(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.connect_anew(now, out);
    }

    /// What the agent knows of its flow.
    pub fn status(&self, now: Instant) -> Status {
        let known = self.server.is_some();
        Status {
            state: self.state(),
            problem: self.problem,
            vip: self.vip,
            port: self.port,
            public: self.public,
            tick: known.then(|| self.clock.clone().tick(now)),
            tick_uncertainty_ms: self.clock.uncertainty_ms(),
            pop: self.pop,
            token: self.token,
            body_max: self.token.map(|own| self.body_room(&own)),
            round_trip_us: self.round_trip_us,
            silent_ms: self.server.map(|server| now.millis_since(server.answered_at)),
            numbers_rewritten: self.shift.is_some_and(|shift| shift != 0),
            counters: self.counters,
        }
    }

    /// What was counted.
    pub fn counters(&self) -> &AgentCounters {
        &self.counters
    }

    /// How far the way to the POPs is open.
    pub fn state(&self) -> FlowState {
        match (&self.phase, self.server, self.token) {
            (Phase::Idle { .. } | Phase::SynSent(_), _, _) => FlowState::Connecting,
            (Phase::Open(_), None, _) => FlowState::Confirming,
            (Phase::Open(_), Some(_), None) => FlowState::Aligning,
            (Phase::Open(_), Some(_), Some(_)) => FlowState::Ready,
        }
    }

    fn family(&self) -> Family {
        Family::of(self.vip.ip())
    }

    fn is_ours(&self, tcp: &Tcp) -> bool {
        tcp.src_port == self.vip.port() && tcp.dst_port == self.port
    }

    fn random_port(&mut self) -> u16 {
        let (first, last) = self.ports;
        let count = u64::from(last.saturating_sub(first)) + 1;
        let port = first.wrapping_add(self.random.below(count) as u16).max(1);
        // Never the one before: a new port is taken because that one is of no use any more.
        if port == self.port { if port < last { port + 1 } else { first.max(1) } } else { port }
    }

    /// The sequence number of `tick` without offset, before the 1 that the SYN took.
    fn at(&self, base: SeqNum, tick: Tick) -> SeqNum {
        predict::at(base, self.constants.stride, tick)
    }

    /// Notes that a segment with `ack` is being sent at `now` in `tick`.
    fn note_sent(&mut self, now: Instant, tick: Tick, ack: SeqNum) {
        self.last_sent = now;
        self.last_tick = tick;
        let highest = self.acked.map_or(ack, |(high, _)| if ack.after(high) { ack } else { high });
        self.acked = Some((highest, ack));
    }
}

/// Keepalives whose answers are waited for.
const OUTSTANDING_MAX: usize = 16;
/// Above the ports that Linux chooses by itself (32768 to 60999).
const PORTS: (u16, u16) = (61_000, 65_535);
/// The default `tunnel_mtu` of a POP.
const MTU: u16 = 1400;
