//! A peer: its sessions, its handshakes and its locator.
//!
//! At most one handshake of this side is in progress. Sessions overlap, so that a change of keys
//! loses no packet in flight. Packets are sent on the session that the peer confirmed last.

mod about;
mod handshake;

use std::collections::VecDeque;
use std::hash::Hash;

use anyrelay_core::bucket::Bucket;
use anyrelay_core::time::{Instant, Now};
use arrayvec::ArrayVec;

use super::counters::InnerDrop;
use super::keys::PublicKey;
use super::message::Index;
use super::replay::Standing;
use super::routes::PeerIndex;
use super::session::{ACCEPT_MS, Refusal, Session};
use super::shared::Shared;
use handshake::Effort;

pub use about::{PeerConfig, PeerStatus, Traffic};

/// The locator of a peer, to which messages are sent.
pub trait Place: Copy + Eq + Hash {}
impl<T: Copy + Eq + Hash> Place for T {}

/// Sends a message to a locator.
pub type Out<'a, P> = dyn FnMut(P, &[u8]) + 'a;

/// A peer and its state.
#[derive(Debug)]
pub(super) struct Peer<P> {
    number: PeerIndex,
    config: PeerConfig<P>,
    /// The current locator: the configured one, or that of the last packet.
    place: Option<P>,
    /// The last configured locator.
    configured: Option<P>,
    /// The greatest time stamp of its initiations.
    greatest_stamp: u64,
    /// The session to send on.
    current: Option<Session>,
    /// Previous sessions, and those that the peer has not confirmed.
    others: ArrayVec<Session, OTHERS>,
    effort: Option<Effort>,
    /// The earliest time of the next initiation.
    not_before: Instant,
    /// Packets that wait for a session.
    queue: VecDeque<Vec<u8>>,
    /// The time of the first sent packet since the last received message.
    unanswered: Option<Instant>,
    /// The time of the first received packet since the last sent message.
    owed: Option<Instant>,
    sent_at: Option<Instant>,
    heard_at: Option<Instant>,
    bucket: Bucket,
    traffic: Traffic,
}

impl<P: Place> Peer<P> {
    pub(super) fn new(number: PeerIndex, config: PeerConfig<P>) -> Self {
        Peer {
            number,
            place: config.place,
            configured: config.place,
            config,
            greatest_stamp: 0,
            current: None,
            others: ArrayVec::new(),
            effort: None,
            not_before: Instant::default(),
            queue: VecDeque::new(),
            unanswered: None,
            owed: None,
            sent_at: None,
            heard_at: None,
            bucket: Bucket::new(),
            traffic: Traffic::default(),
        }
    }

    pub(super) fn public_key(&self) -> &PublicKey {
        &self.config.public_key
    }

    pub(super) fn number(&self) -> PeerIndex {
        self.number
    }

    pub(super) fn place(&self) -> Option<P> {
        self.place
    }

    pub(super) fn is_unanswering(&self) -> bool {
        self.effort.as_ref().is_some_and(|effort| effort.attempts > 1 || self.place.is_none())
    }

    pub(super) fn is_at(&self, place: P) -> bool {
        self.place == Some(place) || self.configured == Some(place)
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
        let pending = self.effort.as_ref().and_then(|effort| effort.pending.as_ref());
        pending.is_some_and(|(_, local)| *local == index)
    }

    /// Sets the configured locator; `None` when it is no longer known. The locator of received
    /// packets has precedence, as files and DNS lag behind. If the peer falls silent, the next
    /// handshakes use both.
    pub(super) fn set_configured(&mut self, now: Now, place: Option<P>) {
        if self.configured == place {
            return;
        }
        self.configured = place;
        if place.is_some() && !self.is_live(now.instant) {
            self.place = place;
            if let Some(effort) = &mut self.effort {
                // The handshake was sent to an outdated locator.
                effort.next = self.not_before.max(now.instant);
            }
        }
    }

    /// The tunnel came up: the next attempt is due at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(effort) = &mut self.effort {
            effort.attempts = 0;
            effort.since = now;
            effort.next = self.not_before.max(now);
        }
    }

    /// Whether there is a session on which the peer answers.
    fn is_live(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|session| session.may_send(now)) && !self.is_unanswering()
    }

    pub(super) fn status(&self, now: Instant) -> PeerStatus<P> {
        let current = self.current.as_ref().filter(|session| session.may_send(now));
        PeerStatus {
            name: self.config.name.clone(),
            public_key: self.config.public_key,
            place: self.place,
            session_age_ms: current.map(|session| now.millis_since(session.since)),
            handshaking: self.effort.is_some(),
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
        if self.emit(shared, now, packet, out) {
            self.unanswered.get_or_insert(now.instant);
            self.rekey_if_due(shared, now, out);
            return;
        }
        if self.queue.len() >= QUEUE {
            self.queue.pop_front();
            shared.drops.count(InnerDrop::QueueFull);
        }
        self.queue.push_back(packet.to_vec());
        self.want(shared, now, out);
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
        let (len, standing) = match session.open(now.instant, counter, sealed, &mut shared.opened) {
            Ok(opened) => opened,
            Err(refusal) => {
                shared.drops.count(match refusal {
                    Refusal::Expired => InnerDrop::Expired,
                    Refusal::Replayed => InnerDrop::Replayed,
                    Refusal::NotAuthentic => InnerDrop::NotAuthentic,
                });
                return None;
            }
        };
        let first = !session.confirmed;
        if first {
            self.confirm(local);
        }
        self.heard(now);
        if standing == Standing::Newest
            && self.current.as_ref().is_some_and(|current| current.local == local)
        {
            self.place = Some(from);
        }
        if len > 0 {
            self.owed.get_or_insert(now.instant);
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
        if self.effort.as_ref().is_some_and(|effort| now.instant >= effort.next) {
            self.attempt(shared, now, out);
        }
        if due(self.unanswered, DEAD_MS) {
            self.unanswered = None;
            self.want(shared, now, out);
        }
        if due(self.owed, ANSWER_MS) {
            self.owed = None;
            self.emit(shared, now, &[], out);
        }
        if let Some(after_ms) = self.keepalive_ms()
            && self.sent_at.is_none_or(|at| now.instant >= at.plus_millis(after_ms))
        {
            if self.emit(shared, now, &[], out) {
                self.rekey_if_due(shared, now, out);
            } else {
                self.sent_at = Some(now.instant);
                self.want(shared, now, out);
            }
        }
    }

    /// The time of the next call of [`Peer::poll`].
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let after = |at: Option<Instant>, ms| at.map(|at| at.plus_millis(ms));
        let over = self.sessions().map(|session| session.since.plus_millis(ACCEPT_MS)).min();
        let keepalive = self.keepalive_ms().map(|ms| after(self.sent_at, ms).unwrap_or_default());
        [
            self.effort.as_ref().map(|effort| effort.next),
            after(self.unanswered, DEAD_MS),
            after(self.owed, ANSWER_MS),
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
    fn emit(&mut self, shared: &mut Shared, now: Now, packet: &[u8], out: &mut Out<'_, P>) -> bool {
        let session = self.current.as_mut().filter(|session| session.may_send(now.instant));
        let (Some(session), Some(place)) = (session, self.place) else {
            return false;
        };
        let sealed = session.seal(packet, &mut shared.sealed).ok();
        let Some(message) = sealed.and_then(|len| shared.sealed.get(..len)) else {
            return false;
        };
        out(place, message);
        self.owed = None;
        self.sent_at = Some(now.instant);
        if !packet.is_empty() {
            self.traffic.sent_packets = self.traffic.sent_packets.wrapping_add(1);
            self.traffic.sent_bytes = self.traffic.sent_bytes.wrapping_add(packet.len() as u64);
        }
        true
    }

    fn heard(&mut self, now: Now) {
        self.unanswered = None;
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
