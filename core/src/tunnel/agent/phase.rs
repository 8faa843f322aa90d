//! The phases of a flow, and the ack numbers of an open one.

use super::server::Server;
use crate::seq::SeqNum;
use crate::time::Instant;

/// The phase of the flow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// A SYN is due at that time.
    Idle { at: Instant },
    /// A SYN was sent.
    SynSent(Attempt),
    /// The handshake is done.
    Open(Open),
}

/// A handshake in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) isn: SeqNum,
    pub(super) sent: u32,
    pub(super) wait_ms: u64,
    /// The time of the next SYN.
    pub(super) retry_at: Instant,
}

/// The numbers of the handshake of an open flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// The agent's first number.
    pub(super) isn: SeqNum,
    /// The server's first number.
    pub(super) server_isn: SeqNum,
    /// Acks of keepalives stay at the server's first number until they would pass it. Then the
    /// floor is dropped, because numbers wrap and would meet it again.
    pub(super) keepalive_floor: Option<SeqNum>,
    /// The floor of the acks of data, which lag behind.
    pub(super) data_floor: Option<SeqNum>,
}

impl Open {
    /// The ack number of a keepalive: the end of the newest reply.
    pub(super) fn keepalive_ack(&self, server: Option<Server>, len: u32) -> SeqNum {
        let exact = server.map(|server| server.newest.plus(len));
        held(self.keepalive_floor, exact, self.server_isn)
    }

    /// The ack number of data: `behind` bytes below the newest reply.
    pub(super) fn data_ack(&self, server: &Server, behind: u32) -> SeqNum {
        held(self.data_floor, Some(lagged(server, behind)), self.server_isn)
    }

    /// Drops the floors that the newest reply has passed. This is checked at each reply, because
    /// numbers advance also while nothing is sent.
    pub(super) fn pass_floors(&mut self, server: &Server, len: u32, behind: u32) {
        let below = |floor: &SeqNum, ack: SeqNum| !ack.after(*floor);
        self.keepalive_floor =
            self.keepalive_floor.filter(|floor| below(floor, server.newest.plus(len)));
        self.data_floor = self.data_floor.filter(|floor| below(floor, lagged(server, behind)));
    }
}

fn lagged(server: &Server, behind: u32) -> SeqNum {
    server.newest.plus(behind.wrapping_neg())
}

/// `ack`, or the floor as long as there is one.
#[inline]
fn held(floor: Option<SeqNum>, ack: Option<SeqNum>, server_isn: SeqNum) -> SeqNum {
    match (floor, ack) {
        (Some(floor), _) => floor,
        (None, Some(ack)) => ack,
        (None, None) => server_isn.plus(1),
    }
}
