//! The keepalives that were sent, and the server's numbers in their replies.

use crate::seq::SeqNum;
use crate::time::{Instant, Tick};
use crate::tunnel::message::KeepaliveRequest;

/// A keepalive without a reply so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) request: KeepaliveRequest,
    pub(super) seq: SeqNum,
    pub(super) tick: Tick,
    pub(super) sent: Instant,
}

/// The server's numbers in one flow, from authenticated replies only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// The server's sequence number at tick 0.
    pub(super) start: SeqNum,
    /// Sequence number and tick of the newest reply.
    pub(super) newest: SeqNum,
    pub(super) newest_tick: Tick,
    /// The time of the last reply.
    pub(super) answered_at: Instant,
}
