//! A peer: its sessions, its handshakes and its locator.
//!
//! At most one handshake of this side is in progress. Sessions overlap, so that a change of keys
//! loses no packet in flight. Packets are sent on the session that the peer confirmed last.

mod config;
mod handshake;

use std::collections::VecDeque;
use std::hash::Hash;

use anyrelay_core::bucket::Bucket;
use anyrelay_core::time::{Instant, Now};
use arrayvec::ArrayVec;

use super::counters::InnerDrop;
use super::keys::PublicKey;
use super::message::Index;
use super::replay::CounterState;
use super::routes::PeerIndex;
use super::session::{ACCEPT_MS, PacketError, Session};
use super::shared::Shared;
use handshake::Handshaking;

pub use config::{PeerConfig, PeerStatus, PeerTraffic};

/// The locator of a peer, to which messages are sent.
pub trait Locator: Copy + Eq + Hash {}
impl<T: Copy + Eq + Hash> Locator for T {}

/// Sends a message to a locator.
pub type Out<'a, P> = dyn FnMut(P, &[u8]) + 'a;

/// A peer and its state.
#[derive(Debug)]
pub(super) struct Peer<P> {
    number: PeerIndex,
    config: PeerConfig<P>,
    /// The current locator: the configured one, or that of the last packet.
    locator: Option<P>,
    /// The last configured locator.
    configured: Option<P>,
    /// The greatest time stamp of its initiations.
    greatest_stamp: u64,
    /// The session to send on.
    current: Option<Session>,
    /// Previous sessions, and those that the peer has not confirmed.
    others: ArrayVec<Session, OTHERS>,
    handshaking: Option<Handshaking>,
    /// The earliest time of the next initiation.
    not_before: Instant,
    /// Packets that wait for a session.
    queue: VecDeque<Vec<u8>>,
    /// The time of the first sent packet since the last received message.
    unanswered_since: Option<Instant>,
    /// The time of the first received packet since the last sent message.
    unacked_since: Option<Instant>,
    sent_at: Option<Instant>,
    heard_at: Option<Instant>,
    bucket: Bucket,
    traffic: PeerTraffic,
}

impl<P: Locator> Peer<P> {
    pub(super) fn new(number: PeerIndex, config: PeerConfig<P>) -> Self {
        Peer {
            number,
            locator: config.locator,
            configured: config.locator,
            config,
            greatest_stamp: 0,
            current: None,
            others: ArrayVec::new(),
            handshaking: None,
            not_before: Instant::default(),
            queue: VecDeque::new(),
            unanswered_since: None,
            unacked_since: None,
            sent_at: None,
            heard_at: None,
            bucket: Bucket::new(),
            traffic: PeerTraffic::default(),
        }
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.config.public_key
    }

    pub(super) fn number(&self) -> PeerIndex {
        self.number
    }

    pub(super) fn locator(&self) -> Option<P> {
        self.locator
    }

    pub(super) fn is_unresponsive(&self) -> bool {
        self.handshaking
            .as_ref()
            .is_some_and(|handshaking| handshaking.attempts > 1 || self.locator.is_none())
    }

    pub(super) fn is_at(&self, locator: P) -> bool {
        self.locator == Some(locator) || self.configured == Some(locator)
    }

    /// Takes a token from the bucket of handshakes from this peer's locators.
    pub(super) fn take_handshake(&mut self, now: Instant, per_second: u32) -> bool {
        self.bucket.take(now, per_second)
    }

    /// Whether `index` belongs to a session or handshake of this peer.
    pub(super) fn has(&self, index: Index) -> bool {
        self.is_pending(index) || self.sessions().any(|session| session.local == index)
    }

    pub(super) fn is_pending(&self, index: Index) -> bool {
        let pending =
            self.handshaking.as_ref().and_then(|handshaking| handshaking.pending.as_ref());
        pending.is_some_and(|(_, local)| *local == index)
    }

    /// Sets the configured locator; `None` when it is no longer known. The locator of received
    /// packets has precedence, as files and DNS lag behind. If the peer falls silent, the next
    /// handshakes use both.
    pub(super) fn set_configured(&mut self, now: Now, locator: Option<P>) {
        if self.configured == locator {
            return;
        }
        self.configured = locator;
        if locator.is_some() && !self.is_live(now.instant) {
            self.locator = locator;
            if let Some(handshaking) = &mut self.handshaking {
                // The handshake was sent to an outdated locator.
                handshaking.next = self.not_before.max(now.instant);
            }
        }
    }

    /// The tunnel came up: the next attempt is due at once.
    pub(super) fn retry_now(&mut self, now: Instant) {
        if let Some(handshaking) = &mut self.handshaking {
            handshaking.attempts = 0;
            handshaking.since = now;
            handshaking.next = self.not_before.max(now);
        }
    }

    /// Whether there is a session on which the peer answers.
    fn is_live(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|session| session.may_send(now))
            && !self.is_unresponsive()
    }

    pub(super) fn status(&self, now: Instant) -> PeerStatus<P> {
        let current = self.current.as_ref().filter(|session| session.may_send(now));
        PeerStatus {
            name: self.config.name.clone(),
            public_key: self.config.public_key,
            locator: self.locator,
            session_age_ms: current.map(|session| now.millis_since(session.since)),
            handshaking: self.handshaking.is_some(),
            heard_ms_ago: self.heard_at.map(|at| now.millis_since(at)),
            traffic: self.traffic,
        }
    }

    /// Seals and sends a packet, or queues it until there is a session.
    pub(super) fn send(
        &mut self,
        shared: &mut Shared,
        now: Now,
        packet: &[u8],
        out: &mut Out<'_, P>,
    ) {
        if self.seal_and_send(shared, now, packet, out) {
            self.unanswered_since.get_or_insert(now.instant);
            self.rekey_if_due(shared, now, out);
            return;
        }
        if self.queue.len() >= QUEUE {
            self.queue.pop_front();
            shared.drops.count(InnerDrop::QueueFull);
        }
        self.queue.push_back(packet.to_vec());
        self.establish(shared, now, out);
    }

    /// Opens a packet of the session `local` into `shared.opened`; returns its length.
    pub(super) fn transport(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: P,
        (local, counter): (Index, u64),
        sealed: &[u8],
        out: &mut Out<'_, P>,
    ) -> Option<usize> {
        let current = self.current.iter_mut();
        let Some(session) = current.chain(&mut self.others).find(|session| session.local == local)
        else {
            shared.drops.count(InnerDrop::UnknownSession);
            return None;
        };
        let (len, state) = match session.open(now.instant, counter, sealed, &mut shared.opened) {
            Ok(opened) => opened,
            Err(error) => {
                shared.drops.count(match error {
                    PacketError::Expired => InnerDrop::Expired,
                    PacketError::Replayed => InnerDrop::Replayed,
                    PacketError::NotAuthentic => InnerDrop::NotAuthentic,
                });
                return None;
            }
        };
        let first = !session.confirmed;
        if first {
            self.confirm(local);
        }
        self.heard(now);
        if state == CounterState::Newest
            && self.current.as_ref().is_some_and(|current| current.local == local)
        {
            self.locator = Some(from);
        }
        if len > 0 {
            self.unacked_since.get_or_insert(now.instant);
            self.traffic.received_packets = self.traffic.received_packets.wrapping_add(1);
            self.traffic.received_bytes = self.traffic.received_bytes.wrapping_add(len as u64);
        }
        if first {
            self.established(shared, now, out);
        }
        // Only the initiator rekeys on received packets: otherwise both sides would start at once.
        if self.current.as_ref().is_some_and(|session| session.initiated) {
            self.rekey_if_due(shared, now, out);
        }
        Some(len)
    }

    /// Runs the timers that are due.
    pub(super) fn poll(&mut self, shared: &mut Shared, now: Now, out: &mut Out<'_, P>) {
        let due = |at: Option<Instant>, after_ms: u64| {
            at.is_some_and(|at| now.instant >= at.plus_millis(after_ms))
        };
        self.others.retain(|session| !session.is_over(now.instant));
        self.current.take_if(|session| session.is_over(now.instant));
        if self.handshaking.as_ref().is_some_and(|handshaking| now.instant >= handshaking.next) {
            self.attempt_handshake(shared, now, out);
        }
        if due(self.unanswered_since, DEAD_MS) {
            self.unanswered_since = None;
            self.establish(shared, now, out);
        }
        if due(self.unacked_since, ANSWER_MS) {
            self.unacked_since = None;
            self.seal_and_send(shared, now, &[], out);
        }
        if let Some(after_ms) = self.keepalive_ms()
            && self.sent_at.is_none_or(|at| now.instant >= at.plus_millis(after_ms))
        {
            if self.seal_and_send(shared, now, &[], out) {
                self.rekey_if_due(shared, now, out);
            } else {
                self.sent_at = Some(now.instant);
                self.establish(shared, now, out);
            }
        }
    }

    /// The time of the next call of [`Peer::poll`].
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let after = |at: Option<Instant>, ms| at.map(|at| at.plus_millis(ms));
        let over = self.sessions().map(|session| session.since.plus_millis(ACCEPT_MS)).min();
        let keepalive = self.keepalive_ms().map(|ms| after(self.sent_at, ms).unwrap_or_default());
        [
            self.handshaking.as_ref().map(|handshaking| handshaking.next),
            after(self.unanswered_since, DEAD_MS),
            after(self.unacked_since, ANSWER_MS),
            keepalive,
            over,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.current.iter().chain(&self.others)
    }

    fn keepalive_ms(&self) -> Option<u64> {
        let seconds = u64::from(self.config.keepalive_seconds);
        (seconds > 0).then_some(seconds * 1000)
    }

    /// Seals `packet` and sends it; false without a usable session.
    fn seal_and_send(
        &mut self,
        shared: &mut Shared,
        now: Now,
        packet: &[u8],
        out: &mut Out<'_, P>,
    ) -> bool {
        let session = self.current.as_mut().filter(|session| session.may_send(now.instant));
        let (Some(session), Some(locator)) = (session, self.locator) else {
            return false;
        };
        let sealed = session.seal(packet, &mut shared.sealed).ok();
        let Some(message) = sealed.and_then(|len| shared.sealed.get(..len)) else {
            return false;
        };
        out(locator, message);
        self.unacked_since = None;
        self.sent_at = Some(now.instant);
        if !packet.is_empty() {
            self.traffic.sent_packets = self.traffic.sent_packets.wrapping_add(1);
            self.traffic.sent_bytes = self.traffic.sent_bytes.wrapping_add(packet.len() as u64);
        }
        true
    }

    fn heard(&mut self, now: Now) {
        self.unanswered_since = None;
        self.heard_at = Some(now.instant);
    }
}

/// The time without an answer after which a new handshake starts, as the peer may have restarted.
/// More than [`ANSWER_MS`] and a round trip.
const DEAD_MS: u64 = 10_000;
/// The time after a received packet when a keepalive is sent for want of an answer.
const ANSWER_MS: u64 = 5000;
const _: () = assert!(ANSWER_MS + 2000 < DEAD_MS);
/// Packets queued for a session.
const QUEUE: usize = 64;
/// Sessions beside the current one: the previous one, an unconfirmed one, and one more for when
/// both sides start at once.
const OTHERS: usize = 3;
