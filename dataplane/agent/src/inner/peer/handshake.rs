//! Handshakes with a peer.
//!
//! At most one handshake of this side is in progress. When both sides start at once, the one of the
//! smaller public key wins.

use anyrelay_core::time::{Instant, Now};

use super::{Locator, Out, Peer};
use crate::inner::counters::InnerDrop;
use crate::inner::message::{INITIATION_LEN, Index, RESPONSE_LEN, initiation_head, response_head};
use crate::inner::noise::{Identity, Initiator, Responder};
use crate::inner::session::Session;
use crate::inner::shared::Shared;

/// The attempts to establish a session, from the first initiation until it is established.
#[derive(Debug)]
pub(super) struct Handshaking {
    pub(super) since: Instant,
    pub(super) attempts: u32,
    pub(super) next: Instant,
    /// The handshake that waits for a response.
    pub(super) pending: Option<(Initiator, Index)>,
}

impl<P: Locator> Peer<P> {
    /// Handles an authenticated initiation of this peer.
    pub(in crate::inner) fn initiation(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: P,
        remote: Index,
        handshake: Responder,
        out: &mut Out<'_, P>,
    ) {
        if handshake.preshared != self.config.preshared_key.is_some() {
            return shared.drops.count(InnerDrop::PresharedKeyMismatch);
        }
        let stamp = u64::from_be_bytes(handshake.stamp);
        if stamp <= self.greatest_stamp {
            return shared.drops.count(InnerDrop::OldInitiation);
        }
        let Some(local) = shared.new_index(self.number) else {
            return shared.drops.count(InnerDrop::NoRandom);
        };
        let mut message = [0; RESPONSE_LEN];
        let (head, noise) = message.split_at_mut(RESPONSE_HEAD);
        head.copy_from_slice(&response_head(remote, local));
        let Ok((transport, _)) = handshake.respond(self.config.preshared_key.as_ref(), noise)
        else {
            return shared.drops.count(InnerDrop::HandshakeNotAuthentic);
        };
        self.greatest_stamp = stamp;
        if *self.public_key() < shared.public
            && let Some(handshaking) = &mut self.handshaking
        {
            // Both sides have started: the handshake of the smaller key wins. This side retries
            // only if that one fails.
            handshaking.pending = None;
            handshaking.next = handshaking.next.max(now.instant.plus_millis(RETRY_MS));
        }
        // The peer starts again only after it has given up its last handshake.
        self.others.retain(|session| session.confirmed);
        self.retain_session(Session::new(transport, local, remote, false, now.instant));
        out(from, &message);
    }

    /// Handles a response to the handshake with the index `local`.
    pub(in crate::inner) fn response(
        &mut self,
        shared: &mut Shared,
        now: Now,
        from: P,
        (local, remote): (Index, Index),
        noise: &[u8],
        out: &mut Out<'_, P>,
    ) {
        let pending = self.handshaking.as_mut().and_then(|handshaking| {
            let right = |(initiator, index): &mut (Initiator, Index)| {
                *index == local && initiator.read(noise).is_ok()
            };
            handshaking.pending.take_if(right)
        });
        let Some(Ok(transport)) = pending.map(|(initiator, _)| initiator.finish()) else {
            return shared.drops.count(InnerDrop::HandshakeNotAuthentic);
        };
        let session = Session::new(transport, local, remote, true, now.instant);
        if let Some(before) = self.current.replace(session) {
            self.retain_session(before);
        }
        self.locator = Some(from);
        self.heard(now);
        if !self.established(shared, now, out) {
            // The peer does not use the session before it has received a packet of it.
            self.seal_and_send(shared, now, &[], out);
        }
    }

    /// Starts a handshake with a peer that sent a packet of an unknown session: this side has
    /// restarted, and the peer would detect it only by a timeout.
    pub(in crate::inner) fn on_unknown_session(
        &mut self,
        shared: &mut Shared,
        now: Now,
        out: &mut Out<'_, P>,
    ) {
        if self.current.is_none() && self.others.is_empty() {
            self.establish(shared, now, out);
        }
    }

    pub(super) fn rekey_if_due(&mut self, shared: &mut Shared, now: Now, out: &mut Out<'_, P>) {
        if self.current.as_ref().is_some_and(|session| session.wants_rekey(now.instant)) {
            self.establish(shared, now, out);
        }
    }

    /// Starts to establish a session, unless that is in progress.
    pub(super) fn establish(&mut self, shared: &mut Shared, now: Now, out: &mut Out<'_, P>) {
        if self.handshaking.is_some() {
            return;
        }
        let next = self.not_before.max(now.instant);
        self.handshaking =
            Some(Handshaking { since: now.instant, attempts: 0, next, pending: None });
        if next == now.instant {
            self.attempt_handshake(shared, now, out);
        }
    }

    /// Sends an initiation, or gives up.
    pub(super) fn attempt_handshake(
        &mut self,
        shared: &mut Shared,
        now: Now,
        out: &mut Out<'_, P>,
    ) {
        let Some(handshaking) = &mut self.handshaking else {
            return;
        };
        if now.instant.millis_since(handshaking.since) >= GIVE_UP_MS {
            shared.drops.add(InnerDrop::NoHandshake, self.queue.len() as u64);
            self.queue.clear();
            self.unanswered_since = None;
            self.handshaking = None;
            return;
        }
        // Exponential backoff, with a jitter of up to a quarter so that the two sides do not
        // synchronise.
        let wait = (RETRY_MS << handshaking.attempts.min(MAX_DOUBLINGS)).min(RETRY_MAX_MS);
        handshaking.next =
            now.instant.plus_millis(wait + wait * u64::from(shared.random_byte()) / 1024);
        // The last known locator may be outdated, and so may the configured one.
        let locator = if handshaking.attempts % 2 == 1 {
            self.configured.or(self.locator)
        } else {
            self.locator
        };
        handshaking.attempts += 1;
        let Some(locator) = locator else {
            return shared.drops.count(InnerDrop::NoLocator);
        };
        let (Some(ephemeral), Some(local)) = (shared.random(), shared.new_index(self.number))
        else {
            return shared.drops.count(InnerDrop::NoRandom);
        };
        let preshared = self.config.preshared_key.as_ref();
        let mut message = [0; INITIATION_LEN];
        let (head, noise) = message.split_at_mut(INITIATION_HEAD);
        head.copy_from_slice(&initiation_head(preshared.is_some(), local));
        let stamp = shared.stamp(now).to_be_bytes();
        let identity = Identity { private: &shared.private, preshared };
        let begun = Initiator::begin(identity, &self.config.public_key, ephemeral, stamp, noise);
        let Ok((initiator, _)) = begun else {
            return shared.drops.count(InnerDrop::HandshakeNotAuthentic);
        };
        handshaking.pending = Some((initiator, local));
        self.not_before = now.instant.plus_millis(RETRY_MS);
        out(locator, &message);
    }

    /// The peer has the keys of the session `local`, which becomes the current one.
    pub(super) fn confirm(&mut self, local: Index) {
        let Some(at) = self.others.iter().position(|session| session.local == local) else {
            return;
        };
        let mut session = self.others.remove(at);
        session.confirmed = true;
        if let Some(before) = self.current.replace(session) {
            self.retain_session(before);
        }
    }

    /// Sends the queued packets on a new session; returns whether there were any.
    pub(super) fn established(
        &mut self,
        shared: &mut Shared,
        now: Now,
        out: &mut Out<'_, P>,
    ) -> bool {
        self.handshaking = None;
        self.traffic.sessions = self.traffic.sessions.wrapping_add(1);
        let mut sent = false;
        while let Some(packet) = self.queue.pop_front() {
            sent |= self.seal_and_send(shared, now, &packet, out);
        }
        if sent {
            self.unanswered_since.get_or_insert(now.instant);
        }
        sent
    }

    /// Keeps a session beside the current one; removes the oldest if necessary.
    fn retain_session(&mut self, session: Session) {
        if self.others.is_full() {
            let oldest = self.others.iter().enumerate().min_by_key(|(_, other)| other.since);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.others.remove(at);
            }
        }
        // The loop above made room.
        let _ = self.others.try_push(session);
    }
}

/// The first timeout of a response, and the minimum interval of initiations to one peer.
const RETRY_MS: u64 = 1000;
const RETRY_MAX_MS: u64 = 8000;
const MAX_DOUBLINGS: u32 = 3;
/// After this time without a response, the next packet starts a new attempt.
const GIVE_UP_MS: u64 = 90_000;
const INITIATION_HEAD: usize = 4;
const RESPONSE_HEAD: usize = 8;
