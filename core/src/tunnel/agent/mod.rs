//! The agent's side of tunnel mode as a pure state machine (`docs/protocol-tunnel.md`).
//!
//! One agent has one flow to one VIP. NATs and firewalls between them take that flow for one long
//! TCP connection; each segment carries one datagram. The agent predicts nothing by itself: it
//! follows the tick and the sequence numbers of authenticated replies to its keepalives, and learns
//! nothing from other segments. In particular, data never moves its tick or its acks, so that
//! forged data cannot push a firewall's view of the flow out of step.
//!
//! The agent has no I/O, no clock and no randomness of its own: the caller passes the time and a
//! seed, sends the segments that the agent returns, and calls [`Agent::poll`] at
//! [`Agent::next_timer`]. The time must go on while the host sleeps (CLOCK_BOOTTIME), so that the
//! agent notices. All state is bounded; to send and to receive a datagram allocates nothing.

mod accepted;
mod addresses;
mod clock;
mod connect;
mod data;
mod io;
mod keepalive;
mod open;
mod phase;
mod random;
mod saved;
mod server;
mod status;
mod timer;
mod too_big;

use std::net::SocketAddr;

use arrayvec::ArrayVec;

use self::accepted::Accepted;
pub use self::addresses::OpenAddresses;
use self::addresses::OpenState;
use self::clock::TickClock;
pub use self::io::{
    AgentSetup, Conversation, HEADROOM, OPEN_HEADROOM, OpenSendError, OutgoingSegment, Received,
    ReceivedDatagram, SendError,
};
use self::phase::Phase;
use self::random::SeededRandom;
pub use self::saved::{Saved, SavedError};
use self::server::{Outstanding, Server};
pub use self::status::{AgentCounters, FlowProblem, FlowState, Status};
use self::timer::Timer;
pub use self::too_big::packet_too_big;
use super::message::MessageType;
use super::token::PublicToken;
use crate::keys::AgentKey;
use crate::net::Family;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Instant, Now, Tick};
use crate::wire::tcp::{self, Tcp};

/// The agent's side of one flow.
#[derive(Debug)]
pub struct Agent {
    vip: SocketAddr,
    key: AgentKey,
    ports: (u16, u16),
    mtu: u16,
    random: SeededRandom,
    port: u16,
    /// The first sequence number while there is no base.
    first_isn: SeqNum,
    /// The sequence number of tick 0; not known before the first answer.
    base: Option<SeqNum>,
    /// The number that a middlebox adds to the low 16 bits of the agent's numbers; known once
    /// aligned.
    shift: Option<u16>,
    constants: Constants,
    clock: TickClock,
    phase: Phase,
    timer: Timer,
    /// Keepalives without an answer so far.
    outstanding: ArrayVec<Outstanding, OUTSTANDING_MAX>,
    /// The server's numbers in this flow.
    server: Option<Server>,
    /// The server's numbers by which data is accepted; kept when a handshake from the same port is
    /// repeated.
    accepted: Option<Accepted>,
    /// The highest and the last ack that was sent in this flow.
    acked: Option<(SeqNum, SeqNum)>,
    /// The time and tick of the last sent segment.
    last_sent: Instant,
    last_tick: Tick,
    /// The offset of the next datagram, in bytes.
    offset: u32,
    /// The times at which a RST last led to a handshake, and to a keepalive.
    reset_at: [Option<Instant>; 2],
    /// The public endpoint and the tick in the last reply from this port, which requests name.
    told: Option<(SocketAddr, Tick)>,
    /// The public endpoint of the last token.
    public: Option<SocketAddr>,
    token: Option<PublicToken>,
    /// The time at which a POP last issued it.
    token_at: Instant,
    token_version: u64,
    open: OpenState,
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
            told: None,
            public: None,
            token: None,
            token_at: now.instant,
            token_version: 0,
            open: OpenState::default(),
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

    /// Sends what is due at `now`: handshakes, keepalives and their repetitions.
    pub fn poll(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.open.expire(now);
        if self.slept(now) {
            return self.connect_again(now, out);
        }
        match self.phase {
            Phase::Open(_) => self.poll_keepalive(now, out),
            Phase::Idle { .. } | Phase::SynSent(_) => self.poll_connect(now, out),
        }
    }

    /// The latest time of the next call of [`Agent::poll`].
    pub fn next_timer(&self) -> Instant {
        match &self.phase {
            Phase::Idle { at } => *at,
            Phase::SynSent(attempt) => attempt.retry_at,
            Phase::Open(_) => self.timer.next(),
        }
    }

    /// Processes a segment from the VIP, from the TCP header on. The caller has verified its
    /// checksum.
    pub fn receive<'s>(
        &mut self,
        now: Instant,
        segment: &'s [u8],
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Option<Received<'s>> {
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
            // Only a middlebox sends a FIN. The flow goes on as long as the middlebox passes it.
            self.counters.fins += 1;
            return None;
        }
        match MessageType::of(payload) {
            Some(MessageType::DataDown) => {
                return self.receive_data(&tcp, payload).map(Received::Datagram);
            }
            Some(MessageType::OpenDown) => {
                return self.receive_open_packet(&tcp, payload).map(Received::Open);
            }
            Some(MessageType::KeepaliveReply) => self.receive_reply(now, &tcp, payload, out),
            _ if payload.is_empty() => {}
            _ => self.counters.refused_kind += 1,
        }
        None
    }

    /// Makes a segment of the body, which is in `buffer` from `body_at` on, in the same buffer.
    /// Passes a keepalive to `out` when one must be sent first.
    ///
    /// # Errors
    /// When the agent is not ready, the body is too large, or the buffer has too little headroom.
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

    /// Makes a segment of the IPv6 packet, which is in `buffer` from `packet_at` on, in the same
    /// buffer. Passes a keepalive to `out` when one must be sent first.
    ///
    /// # Errors
    /// When the agent is not ready, the packet is none that it may send from an open address, or
    /// the buffer has too little headroom.
    pub fn send_open<'b>(
        &mut self,
        now: Instant,
        buffer: &'b mut [u8],
        packet_at: usize,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Result<OutgoingSegment<'b>, OpenSendError> {
        self.send_open_packet(now, buffer, packet_at, out)
    }

    /// The largest packet, in bytes, that can be sent from an open address; 0 before the first
    /// reply, and at a VIP of IPv6, where there are none.
    pub fn open_packet_max(&self) -> usize {
        self.open_room()
    }

    /// The agent's open addresses, if its tunnel has an open side. They are unknown while the
    /// agent has no token.
    pub fn open_addresses(&self) -> OpenAddresses {
        self.open.addresses
    }

    /// A number that grows whenever the open addresses change.
    pub fn open_version(&self) -> u64 {
        self.open.version
    }

    /// The largest body, in bytes, that can be sent to `to`; 0 before the first reply.
    pub fn body_max(&self, to: &PublicToken) -> usize {
        self.body_room(to)
    }

    /// The agent's own token, once it has one.
    pub fn token(&self) -> Option<PublicToken> {
        self.token
    }

    /// A number that grows whenever the token must be published again: for the first token, and
    /// when address, port, numbers or epoch changed. Tokens that differ only in the POP that issued
    /// them are equivalent.
    pub fn token_version(&self) -> u64 {
        self.token_version
    }

    /// The agent's port. Segments to other ports are not the agent's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The state to keep for the next run; `None` while the numbers are not aligned.
    pub fn saved(&self) -> Option<Saved> {
        let (base, shift) = (self.base?, self.shift?);
        let Constants { tick_ms, stride, .. } = self.constants;
        Some(Saved { vip: self.vip, port: self.port, base: base.0, shift, tick_ms, stride })
    }

    /// Repeats the handshake after the host's address changed, because NATs on the new path do not
    /// know the flow. Port and numbers stay; the public address may change.
    pub fn rebound(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.connect_again(now, out);
    }

    /// Changes the port, because the host's kernel uses it.
    pub fn port_taken(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.connect_anew(now, out);
    }

    /// A snapshot of the flow.
    pub fn status(&self, now: Instant) -> Status {
        let known = self.server.is_some();
        Status {
            state: self.state(),
            problem: self.problem,
            vip: self.vip,
            port: self.port,
            public: self.told.map(|(public, _)| public),
            tick: known.then(|| self.clock.clone().tick(now)),
            tick_uncertainty_ms: self.clock.uncertainty_ms(),
            pop: self.pop,
            token: self.token,
            open: self.open.addresses,
            body_max: self.token.map(|own| self.body_room(&own)),
            round_trip_us: self.round_trip_us,
            silent_ms: self.server.map(|server| now.millis_since(server.answered_at)),
            numbers_rewritten: self.shift.is_some_and(|shift| shift != 0),
            counters: self.counters,
        }
    }

    /// The counters.
    pub fn counters(&self) -> &AgentCounters {
        &self.counters
    }

    /// The state of the flow.
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
        // Never the previous port, which is unusable if a new one is chosen.
        if port == self.port { if port < last { port + 1 } else { first.max(1) } } else { port }
    }

    /// The sequence number of `tick` without offset, before the 1 that the SYN takes.
    fn at(&self, base: SeqNum, tick: Tick) -> SeqNum {
        predict::at(base, self.constants.stride, tick)
    }

    /// Records that a segment with `ack` is sent at `now` in `tick`.
    fn note_sent(&mut self, now: Instant, tick: Tick, ack: SeqNum) {
        self.last_sent = now;
        self.last_tick = tick;
        let highest = self.acked.map_or(ack, |(high, _)| if ack.after(high) { ack } else { high });
        self.acked = Some((highest, ack));
    }
}

/// Most keepalives without an answer that are kept.
const OUTSTANDING_MAX: usize = 16;
