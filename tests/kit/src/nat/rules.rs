//! What the firewall knows of a segment, and what it is set to.

use std::cmp::Reverse;

use anyrelay_core::seq::SeqNum;

use crate::frames::{FIN, SYN};

/// A segment as a firewall sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u32,
    /// Shift count of the window scale option, on SYNs.
    pub scale: Option<u8>,
    /// Length of the data, in bytes.
    pub payload_len: u32,
}

impl Seen {
    /// The number after its last byte; SYN and FIN count as one each.
    pub(super) fn end(&self) -> SeqNum {
        let marks = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.plus(self.payload_len + marks)
    }

    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// The sender of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side that opened the connection.
    Original,
    /// The other side.
    Reply,
}

impl Side {
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn other(self) -> Self {
        if self == Side::Original { Side::Reply } else { Side::Original }
    }
}

/// The end of a segment that is compared with the upper bound of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// The segment's first byte, as Linux does.
    First,
    /// The segment's end, as van Rooij's paper and the BSDs do.
    End,
}

/// The kind of firewall, and its timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How rule I is read.
    pub upper: Upper,
    /// Timeout of an established connection.
    pub established_ms: u64,
    /// Timeout while data is not acknowledged, and of a closing connection.
    pub unacknowledged_ms: u64,
    /// Timeout after a RST.
    pub close_ms: u64,
    /// Timeout of a handshake.
    pub syn_ms: u64,
}

impl Default for Rules {
    /// Timeouts of Linux, with the paper's upper bound.
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
    /// It belongs to no connection and opens none.
    NoConnection,
    /// Its flags do not fit the state.
    State,
    /// Rule I.
    SeqOverUpper,
    /// Rule II.
    SeqUnderLower,
    /// Rule III.
    AckOverUpper,
    /// Rule IV.
    AckUnderLower,
    /// A RST below what the other side acknowledged.
    ResetBelowAck,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A SYN was seen.
    SynSent,
    /// Its SYN-ACK was seen.
    SynReceived,
    /// The handshake is complete.
    Established,
    /// A FIN was seen.
    Closing,
    /// A RST was seen.
    Closed,
}

/// An INVALID segment: when it came in milliseconds, from which side, and why it is INVALID.
pub type Judged = (u64, Side, Invalid, Seen);

/// How often each reason was found, most frequent first.
pub fn summary(invalid: &[Judged]) -> Vec<(Invalid, Side, usize)> {
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
