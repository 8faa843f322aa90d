//! The inner side as a state machine: takes and emits packets and messages; time is an argument.

use anyrelay_core::time::{Instant, Now};

use super::counters::{InnerDrop, InnerDrops};
use super::keys::{PrivateKey, PublicKey};
use super::message::{Index, Message, TAG};
use super::noise::Responder;
use super::packet::Addresses;
use super::peer::{Locator, Out, Peer, PeerConfig, PeerStatus};
use super::routes::{PeerIndex, PeerRoutes};
use super::shared::{MAX_PACKET, RandomSource, Shared};
use crate::limits::SenderLimits;

/// The maximum number of peers.
pub const MAX_PEERS: usize = 256;

/// The inner side of one agent.
#[derive(Debug)]
pub struct InnerSide<P> {
    peers: Vec<Peer<P>>,
    routes: PeerRoutes,
    limits: SenderLimits,
    shared: Shared,
}

/// Why an inner side cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InnerError {
    /// More than [`MAX_PEERS`] peers.
    #[error("{0} peers are more than the {MAX_PEERS} that are supported")]
    TooManyPeers(usize),
    /// The public key could not be computed.
    #[error("no public key can be computed: X25519 is missing from this build")]
    NoPublicKey,
}

impl<P: Locator> InnerSide<P> {
    /// An inner side with this private key and these peers, whose keys and allowed prefixes are all
    /// different. `random` must be the system's random number generator.
    ///
    /// # Errors
    /// See [`InnerError`].
    pub fn new(
        private: PrivateKey,
        peers: Vec<PeerConfig<P>>,
        random: RandomSource,
    ) -> Result<Self, InnerError> {
        if peers.len() > MAX_PEERS {
            return Err(InnerError::TooManyPeers(peers.len()));
        }
        let public = private.public().ok_or(InnerError::NoPublicKey)?;
        let numbered = || (0..).map(PeerIndex).zip(&peers);
        let routes =
            PeerRoutes::new(numbered().flat_map(|(number, peer)| {
                peer.allowed.iter().map(move |prefix| (*prefix, number))
            }));
        let peers = (0..).map(PeerIndex).zip(peers);
        Ok(InnerSide {
            peers: peers.map(|(number, peer)| Peer::new(number, peer)).collect(),
            routes,
            limits: SenderLimits::new(PER_LOCATOR, ALL_LOCATORS),
            shared: Shared::new(private, public, random),
        })
    }

    /// The public key of this side.
    pub fn public_key(&self) -> PublicKey {
        self.shared.public
    }

    /// The drops since the start.
    pub fn drops(&self) -> &InnerDrops {
        &self.shared.drops
    }

    /// The status of each peer, in the order of the config.
    pub fn status(&self, now: Instant) -> Vec<PeerStatus<P>> {
        self.peers.iter().map(|peer| peer.status(now)).collect()
    }

    /// The known locators of peers.
    pub fn locators(&self) -> impl Iterator<Item = P> {
        self.peers.iter().filter_map(Peer::locator)
    }

    /// Peers that do not answer, or whose locator is unknown.
    pub fn unresponsive(&self) -> impl Iterator<Item = PeerIndex> {
        self.peers.iter().filter(|peer| peer.is_unresponsive()).map(Peer::number)
    }

    /// Sets a peer's locator, which a file or DNS supplied.
    pub fn set_locator(&mut self, now: Now, peer: PeerIndex, locator: Option<P>) {
        if let Some(peer) = self.peers.get_mut(usize::from(peer.0)) {
            peer.set_configured(now, locator);
        }
    }

    /// The tunnel came up: pending handshakes are retried at once.
    pub fn retry_now(&mut self, now: Instant) {
        self.peers.iter_mut().for_each(|peer| peer.retry_now(now));
    }

    /// Seals a packet from the TUN device and sends it to its peer.
    pub fn send(&mut self, now: Now, packet: &[u8], out: &mut Out<'_, P>) {
        let Some(addresses) = Addresses::parse(packet) else {
            return self.shared.drops.count(InnerDrop::Malformed);
        };
        if packet.len() > MAX_PACKET {
            return self.shared.drops.count(InnerDrop::TooBig);
        }
        let number = self.routes.peer_of(addresses.dst);
        match number.and_then(|number| self.peers.get_mut(usize::from(number.0))) {
            Some(peer) => peer.send(&mut self.shared, now, packet, out),
            None => self.shared.drops.count(InnerDrop::NoRoute),
        }
    }

    /// Handles a message from `from`; returns the packet in it for the TUN device, if any.
    pub fn receive(
        &mut self,
        now: Now,
        from: P,
        body: &[u8],
        out: &mut Out<'_, P>,
    ) -> Option<&[u8]> {
        match Message::parse(body) {
            Some(Message::Transport { receiver, counter, sealed }) => {
                return self.transport(now, from, receiver, counter, sealed, out);
            }
            Some(Message::Initiation { preshared, sender, noise }) => {
                self.initiation(now, from, preshared, sender, noise, out);
            }
            Some(Message::Response { receiver, sender, noise }) => {
                self.response(now, from, receiver, sender, noise, out);
            }
            None => self.shared.drops.count(InnerDrop::Malformed),
        }
        None
    }

    /// Runs the timers that are due.
    pub fn poll(&mut self, now: Now, out: &mut Out<'_, P>) {
        for peer in &mut self.peers {
            peer.poll(&mut self.shared, now, out);
        }
        // Unanswered handshakes leave indices behind.
        if self.shared.indices.len() > MAX_PEERS + INDICES_PER_PEER * self.peers.len() {
            self.forget_indices();
        }
    }

    /// The time of the next call of [`InnerSide::poll`].
    pub fn next_timer(&self) -> Option<Instant> {
        self.peers.iter().filter_map(Peer::next_timer).min()
    }

    fn transport(
        &mut self,
        now: Now,
        from: P,
        local: Index,
        counter: u64,
        sealed: &[u8],
        out: &mut Out<'_, P>,
    ) -> Option<&[u8]> {
        let number = self.shared.indices.get(&local).copied();
        let Some((number, peer)) =
            number.and_then(|number| Some((number, self.peers.get_mut(usize::from(number.0))?)))
        else {
            self.shared.drops.count(InnerDrop::UnknownSession);
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.is_at(from)) {
                peer.on_unknown_session(&mut self.shared, now, out);
            }
            return None;
        };
        if sealed.len() > MAX_PACKET + TAG {
            self.shared.drops.count(InnerDrop::TooBig);
            return None;
        }
        let len = peer.transport(&mut self.shared, now, from, (local, counter), sealed, out)?;
        if len == 0 {
            return None;
        }
        let packet = self.shared.opened.get(..len)?;
        let reason = match Addresses::parse(packet) {
            Some(addresses) if self.routes.peer_of(addresses.src) == Some(number) => {
                return Some(packet);
            }
            Some(_) => InnerDrop::SourceNotAllowed,
            None => InnerDrop::InnerMalformed,
        };
        self.shared.drops.count(reason);
        None
    }

    fn initiation(
        &mut self,
        now: Now,
        from: P,
        preshared: bool,
        remote: Index,
        noise: &[u8],
        out: &mut Out<'_, P>,
    ) {
        if !self.take_handshake(now, from) {
            return;
        }
        let Some(ephemeral) = self.shared.random() else {
            return self.shared.drops.count(InnerDrop::NoRandom);
        };
        let read = Responder::read(&self.shared.private, preshared, ephemeral, noise);
        let drop = match read {
            Err(_) => InnerDrop::HandshakeNotAuthentic,
            Ok(handshake) => {
                let mut peers = self.peers.iter_mut();
                match peers.find(|peer| *peer.public_key() == handshake.peer) {
                    Some(peer) => {
                        peer.initiation(&mut self.shared, now, from, remote, handshake, out);
                        return self.forget_indices();
                    }
                    None => InnerDrop::UnknownPeer,
                }
            }
        };
        // Not a peer: it must not use up the budget of peers that come from a new locator.
        self.limits.ban(now.instant, from);
        self.shared.drops.count(drop);
    }

    fn response(
        &mut self,
        now: Now,
        from: P,
        local: Index,
        remote: Index,
        noise: &[u8],
        out: &mut Out<'_, P>,
    ) {
        let number = self.shared.indices.get(&local).map(|number| usize::from(number.0));
        let waiting = number
            .filter(|number| self.peers.get(*number).is_some_and(|peer| peer.is_pending(local)));
        if waiting.is_none() {
            return self.shared.drops.count(InnerDrop::UnknownSession);
        }
        if self.take_handshake(now, from)
            && let Some(peer) = waiting.and_then(|number| self.peers.get_mut(number))
        {
            peer.response(&mut self.shared, now, from, (local, remote), noise, out);
            self.forget_indices();
        }
    }

    /// Takes a token from the rate limit for handshakes from `from`.
    fn take_handshake(&mut self, now: Now, from: P) -> bool {
        let taken = match self.peers.iter_mut().find(|peer| peer.is_at(from)) {
            Some(peer) => peer.take_handshake(now.instant, PER_PEER),
            None => self.limits.take(now.instant, from),
        };
        if !taken {
            self.shared.drops.count(InnerDrop::RateLimited);
        }
        taken
    }

    /// Removes the indices of ended sessions. A handshake costs far more than this.
    fn forget_indices(&mut self) {
        let peers = &self.peers;
        self.shared.indices.retain(|index, number| {
            peers.get(usize::from(number.0)).is_some_and(|peer| peer.has(*index))
        });
    }
}

/// The usual number of sessions and handshakes of a peer.
const INDICES_PER_PEER: usize = 4;
/// Handshake messages per second from the locator of a peer, from any one other locator, and from
/// all other locators together: at 0.4 ms each, 4% of a core.
const PER_PEER: u32 = 10;
const PER_LOCATOR: u32 = 5;
const ALL_LOCATORS: u32 = 100;
