//! Keepalives, the only segments whose replies are authenticated. From these alone the agent learns
//! the tick, the server's numbers, the constants, its public endpoint, its token and its
//! open address.

use std::net::{Ipv6Addr, SocketAddr};

use super::phase::Phase;
use super::server::{Outstanding, Server};
use super::timer::Round;
use super::{Agent, FlowProblem, OutgoingSegment};
use crate::keys::AgentKey;
use crate::predict::{self, Constants};
use crate::seq::SeqNum;
use crate::time::{Instant, Tick};
use crate::tunnel::keepalive::names;
use crate::tunnel::message::{
    KEEPALIVE_LEN_MAX, KeepaliveReply, KeepaliveRequest, VERSION, keepalive_len, unknown_endpoint,
};
use crate::tunnel::token::PublicToken;
use crate::tunnel::window::{ALIGN_STEP_MAX, ALIGNED, SKEW_TICKS_MAX, SLEEP_TICKS_MAX};
use crate::wire::tcp::{self, Tcp};

impl Agent {
    pub(super) fn poll_keepalive(
        &mut self,
        now: Instant,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        match self.timer.round {
            None if now >= self.timer.next_at => self.start_keepalive(now, out),
            Some(round) if now >= round.at && round.sent < SENT_MAX => self.repeat(now, round, out),
            Some(round) if now >= round.at => {
                self.counters.keepalives_lost += 1;
                self.timer.unanswered += 1;
                if self.timer.unanswered >= UNANSWERED_MAX {
                    return self.give_up(now, out);
                }
                self.timer.round = None;
                self.start_keepalive(now, out);
            }
            _ => {}
        }
    }

    /// Connects again or from another port, after [`UNANSWERED_MAX`] keepalives without a reply.
    fn give_up(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        if self.server.is_some() {
            return self.connect_again(now, out);
        }
        // Only the handshake works: a proxy on the path still has the numbers of the earlier flow,
        // or the POPs do not list the agent.
        if !matches!(self.problem, Some(FlowProblem::Version { .. })) {
            self.problem = Some(FlowProblem::NoAnswer);
        }
        self.timer.fruitless = self.timer.fruitless.saturating_add(1);
        self.connect_anew(now, out);
    }

    /// Sends a keepalive now, as a repetition of the one in progress if there is one.
    pub(super) fn start_keepalive(
        &mut self,
        now: Instant,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        let at = now.plus_millis(self.repeat_ms());
        match self.timer.round {
            Some(_) => {}
            None => self.timer.round = Some(Round { sent: 1, started: now, at }),
        }
        self.send_keepalive(now, out);
    }

    fn repeat(&mut self, now: Instant, round: Round, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        let wait_ms = self.repeat_ms() << round.sent;
        let sent = round.sent + 1;
        self.timer.round = Some(Round { sent, at: now.plus_millis(wait_ms), ..round });
        self.send_keepalive(now, out);
    }

    fn repeat_ms(&self) -> u64 {
        REPEAT_MS.min(u64::from(self.constants.tick_ms) / 4).max(1)
    }

    fn send_keepalive(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        let Phase::Open(open) = self.phase else { return };
        let ack = open.keepalive_ack(self.server, keepalive_len(self.family()) as u32);
        let tick = self.clock.tick(now);
        let seq = self.base.map_or(open.isn, |base| self.at(base, tick)).plus(1);
        let (public, last_tick) =
            self.told.unwrap_or_else(|| (unknown_endpoint(self.family()), Tick(0)));
        let AgentKey { tenant, agent, .. } = self.key;
        let request =
            KeepaliveRequest { tenant, agent, nonce: self.random.next(), last_tick, public };
        let mut segment = [0; tcp::HEADER_LEN + KEEPALIVE_LEN_MAX];
        let (head, payload) = segment.split_at_mut(tcp::HEADER_LEN);
        self.header(seq, ack, tcp::ACK | tcp::PSH, &[]).write(head);
        let Some(payload) = payload.first_chunk_mut() else { return };
        let len = tcp::HEADER_LEN + request.write(self.vip, &self.key.key, payload);
        let Some(segment) = segment.get_mut(..len) else { return };
        if self.outstanding.is_full() {
            self.outstanding.remove(0);
        }
        self.outstanding.push(Outstanding { request, seq, tick, sent: now });
        out(OutgoingSegment { port: self.port, segment });
        self.counters.keepalives_sent += 1;
        self.note_sent(now, tick, ack);
    }

    /// Processes a reply, if it is authentic and its numbers are right.
    pub(super) fn receive_reply(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        payload: &[u8],
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) {
        let Some((asked, reply)) = self.authenticate(payload) else { return };
        let Phase::Open(open) = self.phase else { return };
        let Constants { tick_ms, stride, .. } = reply.constants;
        if reply.constants.check(0).is_err() {
            self.counters.refused_reply_constants += 1;
            self.problem = Some(FlowProblem::Constants);
            return;
        }
        // The MAC does not cover TCP's numbers, which NATs may rewrite, so that they are checked
        // separately.
        let start = predict::at(tcp.seq.plus(u32::MAX), stride.wrapping_neg(), reply.tick);
        let expected = match self.server {
            Some(server) => server.start == start,
            None => predict::ticks_between(tcp.seq, open.server_isn.plus(1), stride)
                .is_some_and(|ticks| ticks.unsigned_abs() <= HANDSHAKE_TICKS_MAX),
        };
        if !expected || tcp.ack != asked.seq.plus(payload.len() as u32) {
            self.counters.refused_reply_numbers += 1;
            return;
        }
        self.outstanding.retain(|other| other.request.nonce != asked.request.nonce);
        let same = (self.constants.tick_ms, self.constants.stride) == (tick_ms, stride);
        let keeps = self.base.is_none() || same;
        self.constants = reply.constants;
        let guessed = !self.clock.is_learned() && self.base.is_some();
        let off = reply.tick.0.abs_diff(asked.tick.0) > u64::from(SKEW_TICKS_MAX);
        self.clock.learn(reply.tick, tick_ms, asked.sent, now);
        self.learn_server(now, tcp.seq, start, reply.tick);
        self.counters.keepalives_answered += 1;
        self.round_trip_us = Some(now.nanos_since(asked.sent) / 1000);
        self.told = Some((reply.public, reply.tick));
        self.pop = Some(reply.pop);
        self.body_max = reply.body_max;
        self.problem = None;
        self.finish_round(now);
        if guessed && off && keeps {
            // The first numbers after a restart were of a wrong clock, and firewalls would enforce
            // them.
            return self.connect_again(now, out);
        }
        // With another tick or stride all earlier numbers are void.
        if !keeps || !self.align(now, &asked, &reply, out) {
            self.connect_anew(now, out);
        }
    }

    /// The reply, if it answers an outstanding keepalive and its MAC is right.
    fn authenticate(&mut self, payload: &[u8]) -> Option<(Outstanding, KeepaliveReply)> {
        let nonce = payload.get(NONCE_AT..).and_then(|rest| rest.first_chunk().copied());
        let nonce = nonce.map(u64::from_be_bytes);
        let asked =
            self.outstanding.iter().copied().find(|asked| Some(asked.request.nonce) == nonce);
        let Some(asked) = asked else {
            self.counters.refused_reply_nonce += 1;
            return None;
        };
        match payload.get(VERSION_AT) {
            Some(&theirs) if theirs != VERSION => {
                // It is not authenticated, and only displayed.
                self.counters.refused_reply_version += 1;
                self.problem = Some(FlowProblem::Version { theirs, ours: VERSION });
                return None;
            }
            _ => {}
        }
        if !KeepaliveReply::mac_holds(payload, self.vip, &self.key.key) {
            self.counters.refused_reply_mac += 1;
            return None;
        }
        let reply = KeepaliveReply::parse(payload, self.family());
        self.counters.refused_reply_malformed += u64::from(reply.is_err());
        reply.ok().map(|reply| (asked, reply))
    }

    fn learn_server(&mut self, now: Instant, seq: SeqNum, start: SeqNum, tick: Tick) {
        let before = self.server.filter(|server| !seq.after(server.newest));
        // An older reply, or one of a POP whose clock is behind, does not lower the numbers.
        let (newest, newest_tick) =
            before.map_or((seq, tick), |server| (server.newest, server.newest_tick));
        let server = Server { start, newest, newest_tick, answered_at: now };
        self.server = Some(server);
        let (len, behind) = (keepalive_len(self.family()) as u32, self.lag_bytes());
        if let Phase::Open(open) = &mut self.phase {
            open.pass_floors(&server, len, behind);
        }
    }

    fn finish_round(&mut self, now: Instant) {
        self.timer.unanswered = 0;
        self.timer.fruitless = 0;
        if let Some(round) = self.timer.round.take() {
            // Up to an eighth earlier than T, so that agents that start together spread out, and
            // replies sample the phase of the tick.
            let tick_ms = u64::from(self.constants.tick_ms);
            let early_ms = self.random.below(tick_ms / 8 + 1);
            self.timer.next_at = round.started.plus_millis(tick_ms - early_ms).max(now);
        }
    }

    /// Moves the base to the alignment at which POPs issue tokens, and keeps the token once it is
    /// issued. Returns whether the flow's numbers are usable.
    fn align(
        &mut self,
        now: Instant,
        asked: &Outstanding,
        reply: &KeepaliveReply,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> bool {
        // The base of this request by the POP's tick, and what a middlebox added to it.
        let stride = self.constants.stride;
        let shown = predict::at(asked.seq.plus(u32::MAX), stride.wrapping_neg(), reply.tick);
        let shift = reply.base_low.wrapping_sub(shown.0 as u16);
        let first = self.base.is_none();
        let base = self.base.unwrap_or(shown);
        self.base = Some(base);
        let missing = ALIGNED.wrapping_sub((base.0 as u16).wrapping_add(shift));
        if self.shift.is_some_and(|before| before != shift) {
            // A middlebox changes the numbers in another way than before. POPs that open an old
            // token send acks that no firewall accepts, so that the port must change.
            return false;
        }
        if missing != 0 {
            let step = u32::from(missing).min(ALIGN_STEP_MAX);
            self.base = Some(base.plus(step));
            // Replies to earlier requests are of the earlier base.
            self.ask_again(now, out);
            return true;
        }
        self.shift = Some(shift);
        // A POP cannot see differences of whole blocks of 2^16, so that the tick of the request
        // must be near its own. Before the first reply the base is computed by the POP's tick.
        let ahead = reply.tick.0.wrapping_sub(asked.tick.0) as i64;
        let near = first || TOKEN_TICKS.contains(&ahead);
        match reply.token {
            Some(token) if near => {
                self.timer.steps = 0;
                let token = PublicToken { epoch: reply.epoch, token };
                self.take_token(now, token, reply.public, reply.open);
                self.accept_from(base);
            }
            // Replies to earlier requests, which name as little, have no token either.
            None if !names(&asked.request, reply.public, reply.tick) => {
                // The NAT gave the agent another endpoint, at which its token is refused.
                if self.public != Some(reply.public) {
                    self.token = None;
                    self.open.clear();
                }
                self.ask_again(now, out);
            }
            // The tick is right now, so that the POP will see the aligned base in the next request.
            _ if self.token.is_none() => self.timer.next_at = now.plus_millis(self.repeat_ms()),
            _ => {}
        }
        true
    }

    /// Sends another request, which says more than the outstanding ones: at once for the first
    /// times, then with the next keepalive.
    fn ask_again(&mut self, now: Instant, out: &mut impl FnMut(OutgoingSegment<'_>)) {
        self.outstanding.clear();
        self.timer.steps = self.timer.steps.saturating_add(1);
        if self.timer.steps <= STEPS_AT_ONCE {
            self.start_keepalive(now, out);
        }
    }

    /// Takes the token, and the open address that was issued with it.
    fn take_token(
        &mut self,
        now: Instant,
        token: PublicToken,
        public: SocketAddr,
        open: Option<Ipv6Addr>,
    ) {
        let moved = self.public != Some(public);
        if let Some(own) = self.token.filter(|_| !moved) {
            // Around the begin of an epoch, POPs whose clocks differ alternate. All of them accept
            // the newer token, which need not be published more than once.
            let turns = token.epoch.wrapping_add(1) == own.epoch;
            let recent_ms = u64::from(self.constants.tick_ms) * u64::from(SLEEP_TICKS_MAX);
            if turns && now.millis_since(self.token_at) <= recent_ms {
                return;
            }
        }
        let renewed = self.token.is_none_or(|own| own.epoch != token.epoch);
        self.token_version += u64::from(moved || renewed);
        // The address of the epoch before stays valid, if it says where the agent still is.
        self.open.take(now, open, renewed && !moved);
        self.public = Some(public);
        self.token = Some(token);
        self.token_at = now;
    }
}

/// Offsets in a reply's payload that hold for every version of the protocol.
const VERSION_AT: usize = 1;
const NONCE_AT: usize = 2;
/// Milliseconds until the first repetition of a keepalive; each later one waits twice as long.
const REPEAT_MS: u64 = 200;
/// Transmissions of one keepalive before it is given up.
const SENT_MAX: u32 = 4;
/// Keepalives without a reply after which the handshake is repeated.
const UNANSWERED_MAX: u32 = 2;
/// Most ticks between the SYN-ACK and the first reply.
const HANDSHAKE_TICKS_MAX: u32 = 15;
/// Ticks by which a POP may be ahead of the agent (behind, when negative) and still compute the
/// right block of 2^16.
const TOKEN_TICKS: std::ops::RangeInclusive<i64> = -7..=8;
/// Steps of alignment and naming without a pause, twice as many as needed. With a middlebox that
/// changes the numbers differently each time, one further step follows in each tick.
const STEPS_AT_ONCE: u32 = 4;
