//! One session with a peer: keys, counters, age.

use anyrelay_core::time::Instant;

use super::message::{Index, TRANSPORT_HEADER, transport_head};
use super::noise::{NotAuthentic, Transport};
use super::replay::{ReplayWindow, Standing};

/// From this age on, the side that began a session begins the next.
pub const REKEY_MS: u64 = 120_000;
/// From this age on, the other side does, in case the first cannot.
pub const REKEY_LATE_MS: u64 = 135_000;
/// From this age on, nothing is sealed any more.
pub const SEND_MS: u64 = 180_000;
/// From this age on, nothing is opened any more. Later than [`SEND_MS`], as the two sides begin to
/// count one round trip apart, and packets take their time.
pub const ACCEPT_MS: u64 = 190_000;

const _: () = assert!(REKEY_MS < REKEY_LATE_MS && REKEY_LATE_MS < SEND_MS && SEND_MS < ACCEPT_MS);

/// Keys, counters and age.
#[derive(Debug)]
pub struct Session {
    /// By which index the peer calls it.
    pub local: Index,
    /// Whether the handshake was begun here.
    pub initiated: bool,
    /// Whether the peer is known to have the keys, so that it may be sent on. The initiator knows
    /// from the response; the responder only from the first packet, as an initiation might be
    /// replayed.
    pub confirmed: bool,
    /// When it came to be.
    pub since: Instant,
    transport: Transport,
    remote: Index,
    sealed: u64,
    seen: ReplayWindow,
}

/// Why a packet was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session is too old.
    Expired,
    /// Its counter was seen, or is too far behind.
    Replayed,
    /// It was not sealed with the session's key.
    NotAuthentic,
}

impl Session {
    /// A session whose handshake was done at `since`.
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

    /// Whether it may be sent on.
    pub fn may_send(&self, now: Instant) -> bool {
        self.confirmed && now.millis_since(self.since) < SEND_MS
    }

    /// Whether nothing may be opened with it any more.
    pub fn is_over(&self, now: Instant) -> bool {
        now.millis_since(self.since) >= ACCEPT_MS
    }

    /// Whether this side should begin the next one.
    pub fn wants_rekey(&self, now: Instant) -> bool {
        let due = if self.initiated { REKEY_MS } else { REKEY_LATE_MS };
        now.millis_since(self.since) >= due
    }

    /// Writes the message that carries `packet`; returns its length.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
        let (head, rest) = out.split_first_chunk_mut::<TRANSPORT_HEADER>().ok_or(NotAuthentic)?;
        *head = transport_head(self.remote, self.sealed);
        let len = self.transport.seal(self.sealed, packet, rest)?;
        // 2^64 packets are not sealed in three minutes.
        self.sealed = self.sealed.saturating_add(1);
        Ok(TRANSPORT_HEADER + len)
    }

    /// Opens a message into `out`; returns its length, and how its counter stood.
    pub fn open(
        &mut self,
        now: Instant,
        counter: u64,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(usize, Standing), Refusal> {
        if self.is_over(now) {
            return Err(Refusal::Expired);
        }
        let standing = self.seen.standing(counter);
        if standing == Standing::Refused {
            return Err(Refusal::Replayed);
        }
        let len = self.transport.open(counter, sealed, out).map_err(|_| Refusal::NotAuthentic)?;
        self.seen.note(counter);
        Ok((len, standing))
    }
}
