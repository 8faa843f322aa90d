//! The handshake, and the reasons to repeat it.
//!
//! A handshake from the same port begins at the flow's number of that tick, so that it is in the
//! window of a firewall that still has the flow, and issued tokens stay valid. A new port is chosen
//! when the old numbers are lost or unusable; then a new token must be published.

use super::phase::{Attempt, Open, Phase};
use super::{Agent, FlowProblem, OutgoingSegment};
use crate::seq::SeqNum;
use crate::time::{Instant, Tick};
use crate::tunnel::handshake::{self, OPTIONS_LEN, WINDOW};
use crate::tunnel::window;
use crate::wire::tcp::{self, Tcp};

impl Agent {
    pub(super) fn poll_connect(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        match self.phase {
            Phase::Idle { at } if now >= at => {
                // The number of earlier attempts from this port: a firewall that saw one of them
                // would take a lower number for an old segment.
                let isn = self.first_isn;
                let wait_ms = SYN_WAIT_MS.min(u64::from(self.constants.tick_ms) / 2).max(1);
                self.send_syn(now, Attempt { isn, sent: 0, wait_ms, retry_at: now }, out);
            }
            Phase::SynSent(attempt) if now >= attempt.retry_at => {
                if attempt.sent >= SYNS_UNTIL_PROBLEM && self.problem != Some(FlowProblem::Refused)
                {
                    self.problem = Some(FlowProblem::NoHandshake);
                }
                let wait_ms = (attempt.wait_ms * 2).min(SYN_WAIT_MS_MAX);
                self.send_syn(now, Attempt { wait_ms, ..attempt }, out);
            }
            _ => {}
        }
    }

    fn send_syn(
        &mut self,
        now: Instant,
        attempt: Attempt,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        let tick = self.clock.tick(now);
        let isn = self.base.map_or(attempt.isn, |base| self.at(base, tick));
        let headers = if self.vip.is_ipv4() { 40 } else { 60 };
        let mut segment = [0; tcp::HEADER_LEN + OPTIONS_LEN];
        let options = handshake::options(self.mtu.saturating_sub(headers));
        self.header(isn, SeqNum(0), tcp::SYN, &options).write(&mut segment);
        out(OutgoingSegment { port: self.port, segment: &mut segment });
        self.counters.syns_sent += 1;
        self.last_sent = now;
        let retry_at = now.plus_millis(attempt.wait_ms);
        let sent = attempt.sent.saturating_add(1);
        self.phase = Phase::SynSent(Attempt { isn, sent, retry_at, ..attempt });
    }

    /// Processes a SYN, a SYN-ACK or a RST.
    pub(super) fn receive_control(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        if tcp.has(tcp::RST) {
            return self.receive_reset(now, tcp, out);
        }
        let phase = self.phase;
        match phase {
            Phase::SynSent(attempt) if tcp.has(tcp::ACK) && tcp.ack == attempt.isn.plus(1) => {
                self.open(now, attempt.isn, tcp.seq, out);
            }
            // A second SYN-ACK, of a POP whose clock is behind the first POP's. Firewalls may have
            // seen either of the two first; an ack of the lower one is valid for both.
            Phase::Open(open)
                if tcp.has(tcp::ACK)
                    && tcp.ack == open.isn.plus(1)
                    && self.server.is_none()
                    && tcp.seq.before(open.server_isn) =>
            {
                let floor = Some(tcp.seq.plus(1));
                self.phase = Phase::Open(Open {
                    server_isn: tcp.seq,
                    keepalive_floor: floor,
                    data_floor: floor,
                    ..open
                });
            }
            _ => self.counters.refused_syn_ack += 1,
        }
    }

    fn open(
        &mut self,
        now: Instant,
        isn: SeqNum,
        server_isn: SeqNum,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        let ack = server_isn.plus(1);
        let floor = Some(ack);
        self.phase =
            Phase::Open(Open { isn, server_isn, keepalive_floor: floor, data_floor: floor });
        self.counters.handshakes += 1;
        self.acked = None;
        let tick = self.clock.tick(now);
        let mut segment = [0; tcp::HEADER_LEN];
        self.header(isn.plus(1), ack, tcp::ACK, &[]).write(&mut segment);
        out(OutgoingSegment { port: self.port, segment: &mut segment });
        self.note_sent(now, tick, ack);
        self.start_keepalive(now, out);
    }

    /// A RST may be a middlebox's, or forged. One that is exactly at the last ack has closed the
    /// flow in the firewalls that saw it, and only a handshake opens it again. Any other RST has at
    /// most shortened their timeouts, which a keepalive restores.
    fn receive_reset(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        self.counters.resets += 1;
        match self.phase {
            Phase::Idle { .. } => {}
            Phase::SynSent(attempt) => {
                if tcp.has(tcp::ACK) && tcp.ack == attempt.isn.plus(1) {
                    self.problem = Some(FlowProblem::Refused);
                }
            }
            Phase::Open(_) => {
                let closes = self.acked.is_some_and(|(high, last)| [high, last].contains(&tcp.seq));
                if closes && self.reset_allows(0, now) {
                    self.connect_again(now, out);
                } else if !closes && self.reset_allows(1, now) {
                    self.start_keepalive(now, out);
                }
            }
        }
    }

    /// Whether to react to a RST of this kind: once per tick.
    fn reset_allows(&mut self, kind: usize, now: Instant) -> bool {
        let tick_ms = u64::from(self.constants.tick_ms);
        match self.reset_at.get_mut(kind) {
            Some(at) if at.is_none_or(|at| now.millis_since(at) >= tick_ms) => {
                *at = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Repeats the handshake from the same port.
    pub(super) fn connect_again(
        &mut self,
        now: Instant,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        self.counters.re_syns += 1;
        self.forget_flow(now);
        self.poll_connect(now, out);
    }

    /// Chooses a new port and random numbers.
    pub(super) fn connect_anew(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.counters.new_ports += 1;
        self.forget_flow(now);
        self.port = self.random_port();
        self.first_isn = SeqNum(self.random.next() as u32);
        self.base = None;
        self.shift = None;
        self.token = None;
        self.open.clear();
        self.told = None;
        self.public = None;
        self.accepted = None;
        self.phase = Phase::Idle { at: now.plus_millis(self.timer.wait_before_anew_ms()) };
        self.poll_connect(now, out);
    }

    fn forget_flow(&mut self, now: Instant) {
        self.outstanding.clear();
        self.server = None;
        self.acked = None;
        self.timer.clear(now);
        self.phase = Phase::Idle { at: now };
    }

    /// Whether the last reply is so old that acks of it are out of the window.
    pub(super) fn slept(&mut self, now: Instant) -> bool {
        let max = u64::from(window::sleep_max(&self.constants));
        self.answer_age(now).is_some_and(|age| age > max)
    }

    /// The header of a segment to the VIP. The caller computes its checksum, which covers the local
    /// address.
    #[inline]
    pub(super) fn header<'a>(
        &self,
        seq: SeqNum,
        ack: SeqNum,
        flags: u8,
        options: &'a [u8],
    ) -> tcp::Header<'a> {
        let (src_port, dst_port) = (self.port, self.vip.port());
        tcp::Header { src_port, dst_port, seq, ack, flags, window: WINDOW, options }
    }

    /// Ticks since the newest answered keepalive of this flow.
    pub(super) fn answer_age(&mut self, now: Instant) -> Option<u64> {
        let Tick(tick) = self.clock.tick(now);
        self.server.map(|server| tick.saturating_sub(server.newest_tick.0))
    }
}

const SYN_WAIT_MS: u64 = 500;
const SYN_WAIT_MS_MAX: u64 = 8000;
const SYNS_UNTIL_PROBLEM: u32 = 3;
