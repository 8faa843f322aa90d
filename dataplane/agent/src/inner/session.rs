//! A session with a peer: keys, counters and age.

use anyrelay_core::time::Instant;

use super::message::{Index, TRANSPORT_HEADER, transport_head};
use super::noise::{NotAuthentic, Transport};
use super::replay::{CounterState, ReplayWindow};

/// From this age on, the initiator starts the next session.
pub const REKEY_MS: u64 = 120_000;
/// From this age on, the responder does, in case the initiator cannot.
pub const REKEY_LATE_MS: u64 = 135_000;
/// From this age on, nothing is sealed with the session.
pub const SEND_MS: u64 = 180_000;
/// From this age on, nothing is opened with the session. Later than [`SEND_MS`], as the ages of the
/// two sides differ by a round trip, and packets take time.
pub const ACCEPT_MS: u64 = 190_000;

const _: () = assert!(REKEY_MS < REKEY_LATE_MS && REKEY_LATE_MS < SEND_MS && SEND_MS < ACCEPT_MS);

/// Keys, counters and age.
#[derive(Debug)]
pub struct Session {
    /// The index that the peer sends to.
    pub local: Index,
    /// Whether this side was the initiator.
    pub initiated: bool,
    /// Whether the peer is known to have the keys, so that packets may be sent. The initiator knows
    /// it from the response; the responder from the first packet, as an initiation may be a replay.
    pub confirmed: bool,
    /// The time of the handshake.
    pub since: Instant,
    transport: Transport,
    remote: Index,
    sealed: u64,
    seen: ReplayWindow,
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// The session is too old.
    Expired,
    /// The counter was seen, or is older than the window.
    Replayed,
    /// The packet was not sealed with the session's key.
    NotAuthentic,
}

impl Session {
    /// A session from a handshake at `since`.
    pub fn new(
        transport: Transport,
        local: Index,
        remote: Index,
        initiated: bool,
        since: Instant,
    ) -> Self {
        let seen = ReplayWindow::new();
        Session {
            local,
            initiated,
            confirmed: initiated,
            since,
            transport,
            remote,
            sealed: 0,
            seen,
        }
    }

    /// Whether packets may be sent.
    pub fn may_send(&self, now: Instant) -> bool {
        self.confirmed && now.millis_since(self.since) < SEND_MS
    }

    /// Whether the session is too old for any packet.
    pub fn is_over(&self, now: Instant) -> bool {
        now.millis_since(self.since) >= ACCEPT_MS
    }

    /// Whether this side should start the next session.
    pub fn wants_rekey(&self, now: Instant) -> bool {
        let due = if self.initiated { REKEY_MS } else { REKEY_LATE_MS };
        now.millis_since(self.since) >= due
    }

    /// Writes the message that carries `packet`; returns its length.
    ///
    /// # Errors
    /// When `out` is too short.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
        let (head, rest) = out.split_first_chunk_mut::<TRANSPORT_HEADER>().ok_or(NotAuthentic)?;
        *head = transport_head(self.remote, self.sealed);
        let len = self.transport.seal(self.sealed, packet, rest)?;
        // A session does not seal 2^64 packets in three minutes.
        self.sealed = self.sealed.saturating_add(1);
        Ok(TRANSPORT_HEADER + len)
    }

    /// Opens a message into `out`; returns its length, and the state of its counter.
    ///
    /// # Errors
    /// See [`PacketError`].
    pub fn open(
        &mut self,
        now: Instant,
        counter: u64,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, CounterState), PacketError> {
        if self.is_over(now) {
            return Err(PacketError::Expired);
        }
        let state = self.seen.state(counter);
        if state == CounterState::Refused {
            return Err(PacketError::Replayed);
        }
        let len =
            self.transport.open(counter, sealed, out).map_err(|_| PacketError::NotAuthentic)?;
        self.seen.mark_seen(counter);
        Ok((len, state))
    }
}
