//! A model of a firewall that tracks TCP connections as strictly as such firewalls are known to:
//! states, windows of both directions, window scaling, timeouts. Written from the published rules
//! (G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter", 2000; the behaviour of Linux
//! conntrack with be_liberal = 0 and loose = 0), and stricter than today's Linux in that what that
//! lets through as "ignored" (acks and data below the lower bound) is INVALID here, as it was.
//!
//! `docs/protocol.md` names the rules I to IV as they are named here.

use std::cmp::Reverse;

use anyrelay_core::seq::SeqNum;
use anyrelay_core::wire::tcp::{ACK, FIN, RST, SYN};

/// A segment as a firewall sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u8,
    pub window: u32,
    /// The window scale option, on SYNs.
    pub scale: Option<u8>,
    pub payload_len: u32,
}

impl Seen {
    fn end(&self) -> SeqNum {
        let marks = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.plus(self.payload_len + marks)
    }

    fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Who sent a segment: the side that opened the connection, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Original,
    Reply,
}

impl Side {
    fn index(self) -> usize {
        self as usize
    }

    fn other(self) -> Self {
        if self == Side::Original { Side::Reply } else { Side::Original }
    }
}

/// What the upper bound of a window is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// The segment's first byte, as Linux does.
    First,
    /// The segment's end, as van Rooij's paper and the BSDs do.
    End,
}

/// Timeouts in milliseconds, and the kind of firewall.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub upper: Upper,
    pub established_ms: u64,
    pub unacknowledged_ms: u64,
    pub close_ms: u64,
    pub syn_ms: u64,
}

impl Default for Rules {
    /// Those of Linux, with the paper's upper bound.
    fn default() -> Self {
        Rules {
            upper: Upper::End,
            established_ms: 432_000_000,
            unacknowledged_ms: 300_000,
            close_ms: 10_000,
            syn_ms: 60_000,
        }
    }
}

/// Why a segment is INVALID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    NoConnection,
    State,
    /// Rule I.
    SeqOverUpper,
    /// Rule II.
    SeqUnderLower,
    /// Rule III.
    AckOverUpper,
    /// Rule IV.
    AckUnderLower,
    ResetBelowAck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    SynSent,
    SynReceived,
    Established,
    Closing,
    Closed,
}

/// What is known of one sender.
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

/// What was seen last.
#[derive(Clone, Copy, Debug)]
struct Last {
    side: Side,
    seen: Seen,
    repeated: u32,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    rules: Rules,
    state: State,
    halves: [Half; 2],
    last: Last,
    /// A SYN that was let through although the connection exists: its SYN-ACK decides.
    pending: Option<Seen>,
    ends_at_ms: u64,
}

/// What becomes of a connection by a SYN.
pub enum Opened {
    /// It goes on.
    Same,
    /// It was closed: a new one is to be made of the SYN.
    Anew,
}

impl Connection {
    /// Of the first SYN.
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

    /// Judges a segment, and takes it in when it is valid.
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
            // Let through: perhaps the server remembers an older connection.
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
                // It may be forged: the connection stays, for as long as a closed one does.
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
                // Of a connection that is as it was: let through and forgotten.
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

    /// Takes in a segment that passed.
    fn note(&mut self, now_ms: u64, side: Side, seen: &Seen, next: State) {
        let [mut sender, mut receiver] =
            [self.halves[side.index()], self.halves[side.other().index()]];
        // Without data its sequence number was not judged, and says nothing.
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
            // What passes a closed connection does not keep it.
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

/// Counts of what was INVALID, most frequent first.
pub fn summary(invalid: &[(u64, Side, Invalid, Seen)]) -> Vec<(Invalid, Side, usize)> {
    let mut counts: Vec<(Invalid, Side, usize)> = Vec::new();
    for (_, side, reason, _) in invalid {
        match counts.iter_mut().find(|(other, at, _)| other == reason && at == side) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((*reason, *side, 1)),
        }
    }
    counts.sort_by_key(|(_, _, count)| Reverse(*count));
    counts
}
