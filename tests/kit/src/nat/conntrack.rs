//! A model of a firewall that tracks TCP connections as strictly as any known one: states, windows
//! of both directions, window scaling, timeouts.
//!
//! Written from the published rules (G. van Rooij, "Real Stateful TCP Packet Filtering in IP
//! Filter", 2000; the behaviour of Linux conntrack with `be_liberal` = 0 and `loose` = 0). It is
//! stricter than today's Linux: acknowledgments and data below the lower bound, which Linux now
//! ignores and passes, are INVALID here, as they were before. `docs/protocol.md` names the rules I
//! to IV as here.

use anyrelay_core::seq::SeqNum;

use super::{Invalid, Rules, Seen, Side, State, Upper};
use crate::frames::{ACK, FIN, RST, SYN};

/// What the firewall remembers of one sender.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    /// The highest end sent.
    end: SeqNum,
    /// The highest end that may be sent: the other side's highest ack plus window.
    end_max: SeqNum,
    /// The largest window announced; 0 before anything was seen.
    window_max: u32,
    /// The highest ack sent.
    ack_max: Option<SeqNum>,
    scale: u8,
    scales: bool,
    unacknowledged: bool,
}

impl Half {
    fn of_syn(seen: &Seen) -> Self {
        let end = seen.end();
        let scale = seen.scale.unwrap_or(0).min(14);
        let window_max = seen.window.max(1);
        Half {
            end,
            end_max: end,
            window_max,
            scale,
            scales: seen.scale.is_some(),
            ..Half::default()
        }
    }

    /// Rule IV allows acks to be this far behind.
    fn ack_window(&self) -> u32 {
        self.window_max.max(ACK_WINDOW_MIN)
    }
}

/// The last segment.
#[derive(Clone, Copy, Debug)]
struct Last {
    side: Side,
    seen: Seen,
    repeated: u32,
}

/// A connection as the firewall sees it.
#[derive(Clone, Debug)]
pub struct Connection {
    rules: Rules,
    state: State,
    halves: [Half; 2],
    last: Last,
    /// A SYN that passed although the connection exists; its SYN-ACK decides.
    pending: Option<Seen>,
    ends_at_ms: u64,
}

/// What a segment that passes means for its connection.
pub enum Opened {
    /// The connection goes on.
    Same,
    /// It was closed, and the SYN opens a new one.
    Anew,
}

impl Connection {
    /// A connection that this SYN opens.
    ///
    /// # Errors
    /// When it is no SYN.
    pub fn new(rules: Rules, now_ms: u64, seen: &Seen) -> Result<Self, Invalid> {
        if seen.flags & (SYN | ACK | RST | FIN) != SYN {
            return Err(Invalid::NoConnection);
        }
        Ok(Connection {
            rules,
            state: State::SynSent,
            halves: [Half::of_syn(seen), Half::default()],
            last: Last { side: Side::Original, seen: *seen, repeated: 0 },
            pending: None,
            ends_at_ms: now_ms + rules.syn_ms,
        })
    }

    /// Whether it has timed out.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.ends_at_ms
    }

    /// Judges a segment, and updates the connection when it is valid.
    ///
    /// # Errors
    /// When it is INVALID.
    pub fn see(&mut self, now_ms: u64, side: Side, seen: &Seen) -> Result<Opened, Invalid> {
        if seen.has(SYN) && !seen.has(ACK) {
            return self.see_syn(now_ms, side, seen);
        }
        if seen.has(SYN) {
            return self.see_syn_ack(now_ms, side, seen);
        }
        let mut next = match (self.state, side) {
            (_, _) if seen.has(RST) => State::Closed,
            (State::SynSent, Side::Original) => return Err(Invalid::State),
            (State::SynSent, Side::Reply) if seen.has(FIN) => return Err(Invalid::State),
            // Passes: the server may remember an older connection.
            (State::SynSent, Side::Reply) => return Ok(Opened::Same),
            (_, _) if !seen.has(ACK) => return Err(Invalid::State),
            (State::Closed, _) => State::Closed,
            (_, _) if seen.has(FIN) => State::Closing,
            (State::SynReceived, Side::Original) => State::Established,
            (state, _) => state,
        };
        if seen.has(RST)
            && let Some(acked) = self.halves[side.other().index()].ack_max
        {
            if seen.seq.before(acked) {
                return Err(Invalid::ResetBelowAck);
            }
            let follows = self.last.side == side && self.last.seen.end() == seen.seq;
            if self.state == State::Established && seen.seq != acked && !follows {
                // It may be forged: the connection stays, with the timeout of a closed one.
                next = State::Established;
            }
        }
        self.judge(side, seen)?;
        self.note(now_ms, side, seen, next);
        Ok(Opened::Same)
    }

    fn see_syn(&mut self, now_ms: u64, side: Side, seen: &Seen) -> Result<Opened, Invalid> {
        if side == Side::Reply {
            return Err(Invalid::State);
        }
        let last_was_own_reset = self.last.side == side && self.last.seen.has(RST);
        match self.state {
            State::SynSent => {
                if seen.end().after(self.halves[0].end) {
                    self.halves[0] = Half::of_syn(seen);
                }
                self.last = Last { side, seen: *seen, repeated: 0 };
                self.ends_at_ms = now_ms + self.rules.syn_ms;
                Ok(Opened::Same)
            }
            State::Closed if last_was_own_reset => Ok(Opened::Anew),
            _ => {
                self.pending = Some(*seen);
                self.last = Last { side, seen: *seen, repeated: 0 };
                Ok(Opened::Same)
            }
        }
    }

    fn see_syn_ack(&mut self, now_ms: u64, side: Side, seen: &Seen) -> Result<Opened, Invalid> {
        if side == Side::Original {
            return Err(Invalid::State);
        }
        if self.state != State::SynSent {
            let answers = |syn: &Seen| self.last.side == Side::Original && syn.end() == seen.ack;
            let Some(syn) = self.pending.filter(answers) else {
                // Of the connection as it is: passes without effect.
                self.last = Last { side, seen: *seen, repeated: 0 };
                self.pending = None;
                return Ok(Opened::Same);
            };
            self.halves = [Half::of_syn(&syn), Half::default()];
        }
        self.halves[1] = Half { ack_max: None, ..Half::of_syn(seen) };
        if !(self.halves[0].scales && self.halves[1].scales) {
            self.halves[0].scale = 0;
            self.halves[1].scale = 0;
        }
        self.judge(side, seen)?;
        self.note(now_ms, side, seen, State::SynReceived);
        Ok(Opened::Same)
    }

    /// The four rules.
    fn judge(&self, side: Side, seen: &Seen) -> Result<(), Invalid> {
        let (sender, receiver) = (&self.halves[side.index()], &self.halves[side.other().index()]);
        let (mut first, mut end) = (seen.seq, seen.end());
        let ack = if seen.has(ACK) { seen.ack } else { receiver.end };
        if first == end && !seen.has(RST) {
            // Without data only the ack counts.
            (first, end) = (sender.end, sender.end);
        }
        let upper = if self.rules.upper == Upper::End { end } else { first };
        if upper.after(sender.end_max) && !seen.has(SYN) {
            return Err(Invalid::SeqOverUpper);
        }
        let lower = sender.end.plus(receiver.window_max.wrapping_neg());
        if receiver.window_max != 0 && end.before(lower) {
            return Err(Invalid::SeqUnderLower);
        }
        if ack.after(receiver.end) {
            return Err(Invalid::AckOverUpper);
        }
        if ack.before(receiver.end.plus(sender.ack_window().wrapping_neg())) {
            return Err(Invalid::AckUnderLower);
        }
        Ok(())
    }

    /// Updates the connection by a segment that passed.
    fn note(&mut self, now_ms: u64, side: Side, seen: &Seen, next: State) {
        let [mut sender, mut receiver] =
            [self.halves[side.index()], self.halves[side.other().index()]];
        // Without data its sequence number was not judged, and does not count.
        let empty = seen.end() == seen.seq && !seen.has(RST);
        let end = if empty { sender.end } else { seen.end() };
        let scale = if seen.has(SYN) { 0 } else { sender.scale };
        let window = seen.window << scale;
        sender.window_max = sender.window_max.max(window);
        if end.after(sender.end) {
            sender.end = end;
            sender.unacknowledged = true;
        }
        if end.after(sender.end_max) {
            let over = end.distance_from(sender.end_max) as u32;
            receiver.window_max += over;
        }
        if seen.has(ACK) {
            let highest = sender.ack_max.filter(|highest| !seen.ack.after(*highest));
            sender.ack_max = Some(highest.unwrap_or(seen.ack));
            let allowed = seen.ack.plus(window);
            if allowed.after(receiver.end_max) {
                receiver.end_max = allowed;
            }
            if seen.ack == receiver.end {
                receiver.unacknowledged = false;
            }
        }
        (self.halves[side.index()], self.halves[side.other().index()]) = (sender, receiver);
        let same = self.last.side == side
            && (self.last.seen.seq, self.last.seen.ack, self.last.seen.end())
                == (seen.seq, seen.ack, seen.end());
        let repeated = if same && !seen.has(SYN) { self.last.repeated + 1 } else { 0 };
        self.last = Last { side, seen: *seen, repeated };
        self.pending = None;
        let was = self.state;
        self.state = next;
        let unsure = self.halves.iter().any(|half| half.unacknowledged) || repeated >= REPEATS_MAX;
        let timeout_ms = match next {
            _ if seen.has(RST) => self.rules.close_ms,
            State::SynSent | State::SynReceived => self.rules.syn_ms,
            State::Established if unsure => {
                self.rules.established_ms.min(self.rules.unacknowledged_ms)
            }
            State::Established => self.rules.established_ms,
            State::Closing => self.rules.unacknowledged_ms,
            // A segment on a closed connection does not extend it.
            State::Closed => return,
        };
        if !(was == State::Closed && next == State::Closed) {
            self.ends_at_ms = now_ms + timeout_ms;
        }
    }
}

/// A window that acks may be behind at least (van Rooij, section on MAXACKWINDOW).
const ACK_WINDOW_MIN: u32 = 66_000;
const REPEATS_MAX: u32 = 3;
