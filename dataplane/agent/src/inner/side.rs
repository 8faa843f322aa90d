//! The TUN device as an agent's local side: seals and sends packets from the device, and writes
//! opened packets from peers to it.

use std::hash::{Hash, Hasher};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use anyrelay_core::time::{Instant, Now, UnixTime};
use linux_tun::Tun;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::device::{self, TunDeviceConfig, TunDeviceError};
use super::engine::{InnerError, InnerSide};
use super::keys::PrivateKey;
use super::message::{CHANNEL, OVERHEAD};
use super::peer::{PeerConfig, PeerStatus};
use super::routes::PeerIndex;
use super::shared::{MAX_PACKET, RandomSource};
use crate::local::{self, LocalSide, PublicToken, SendError, TunnelAccess, TunnelDatagram};
use crate::poller::Poller;

/// The locator of a peer. Two are equal if the tokens and the parities of their epochs are: a
/// datagram carries only the parity of its sender's epoch, and answers need no more.
#[derive(Clone, Copy, Debug)]
pub struct TokenLocator(pub PublicToken);

impl PartialEq for TokenLocator {
    fn eq(&self, other: &Self) -> bool {
        self.0.token == other.0.token && (self.0.epoch ^ other.0.epoch) & 1 == 0
    }
}

impl Eq for TokenLocator {}

impl Hash for TokenLocator {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.token.hash(state);
    }
}

/// The peers of a TUN side.
#[derive(Clone, Debug)]
pub struct TunPeers {
    /// All peers.
    pub all: Vec<PeerConfig<TokenLocator>>,
    /// The peers that have a source of their locator, in the order of [`SourceIndex`].
    pub source_peers: Vec<PeerIndex>,
}

/// A TUN device with its inner side.
#[derive(Debug)]
pub struct TunSide {
    tun: Tun,
    inner: InnerSide<TokenLocator>,
    source_peers: Vec<PeerIndex>,
    /// The session of all messages of this process.
    session: u64,
    packet: Box<[u8]>,
    /// Whether the MTU follows the tunnel's.
    follows_tunnel: bool,
    /// Whether the device has IPv6 addresses, which need an MTU of at least 1280.
    v6: bool,
    mtu: u16,
    mtu_checked_at: Option<Instant>,
    /// Whether the warning of a too large MTU was logged.
    warned: bool,
    losses: Losses,
    /// The device was removed, so every read fails at once.
    removed: bool,
}

/// Losses between the inner side and the tunnel or the device.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    /// Longer than the tunnel's limit.
    too_big: u64,
    /// The tunnel was not up, or failed.
    tunnel: u64,
    /// The device failed.
    device: u64,
}

/// Why the TUN side was not created.
#[derive(Debug, thiserror::Error)]
pub enum TunSideError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] TunDeviceError),
    /// The inner side failed.
    #[error(transparent)]
    InnerSide(#[from] InnerError),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

impl TunSide {
    /// Creates the device. `random` must be the system's random number generator.
    ///
    /// # Errors
    /// See [`TunSideError`].
    pub fn open(
        device: &TunDeviceConfig,
        private: PrivateKey,
        peers: TunPeers,
        mut random: RandomSource,
    ) -> Result<TunSide, TunSideError> {
        let mut session = [0; 8];
        if !random(&mut session) {
            return Err(TunSideError::NoRandom);
        }
        let inner = InnerSide::new(private, peers.all, random)?;
        let v6 = device.addresses.iter().any(|(address, _)| address.is_ipv6());
        let mtu = device.mtu.unwrap_or(FIRST_MTU);
        Ok(TunSide {
            tun: device::open(device, mtu)?,
            inner,
            source_peers: peers.source_peers,
            session: u64::from_be_bytes(session),
            packet: vec![0; MAX_PACKET].into_boxed_slice(),
            follows_tunnel: device.mtu.is_none(),
            v6,
            mtu,
            mtu_checked_at: None,
            warned: false,
            losses: Losses::default(),
            removed: false,
        })
    }

    /// Sets the device's MTU to the least that the tunnel carries to any peer, so that the kernel
    /// informs senders, and programs make no packets that do not fit.
    fn update_mtu(&mut self, tunnel: &dyn TunnelAccess) {
        let now = tunnel.now();
        if self.mtu_checked_at.is_some_and(|at| now.millis_since(at) < MTU_EVERY_MS) {
            return;
        }
        self.mtu_checked_at = Some(now);
        let bodies = self.inner.locators().filter_map(|locator| tunnel.body_max(&locator.0));
        let Some(most) = bodies.min().map(|body| body.saturating_sub(OVERHEAD)) else {
            return;
        };
        let most = u16::try_from(most.min(MAX_PACKET)).unwrap_or(u16::MAX);
        if !self.follows_tunnel || (self.v6 && most < V6_MTU) {
            if most < self.mtu && !self.warned {
                self.warned = true;
                tracing::warn!(
                    "{}: MTU {} is more than the {most} that the tunnel carries: longer packets \
                     are lost; lower the MTU (IPv6 inside needs {V6_MTU}) or raise the POPs' \
                     tunnel_mtu by {}",
                    self.tun.name(),
                    self.mtu,
                    self.mtu - most,
                );
            }
            return;
        }
        let most = most.max(LEAST_MTU);
        if most != self.mtu {
            match self.tun.set_mtu(most) {
                Ok(()) => tracing::info!("{}: MTU {} -> {most}", self.tun.name(), self.mtu),
                Err(error) => tracing::warn!("{}: MTU {most}: {error}", self.tun.name()),
            }
            self.mtu = most;
        }
    }
}

impl LocalSide for TunSide {
    fn start(&mut self, poller: &Poller) -> io::Result<()> {
        poller.add(&self.tun, KEY)
    }

    fn readable(&mut self, _key: u64, _poller: &Poller, tunnel: &mut dyn TunnelAccess) {
        let now = now(tunnel);
        let TunSide { tun, inner, packet, losses, session, .. } = self;
        let too_big = losses.too_big;
        for _ in 0..BATCH {
            match tun.read(packet) {
                Ok(Some(len)) => {
                    let packet = packet.get(..len).unwrap_or_default();
                    inner.send(now, packet, &mut |to, body| {
                        losses.send(tunnel, to, *session, body);
                    });
                }
                Ok(None) => break,
                Err(error) => {
                    // A device that is only down may be brought up again by the operator.
                    self.removed |= error.raw_os_error() == Some(Errno::BADFD.raw_os_error());
                    losses.device = losses.device.wrapping_add(1);
                    break;
                }
            }
        }
        if self.losses.too_big != too_big {
            // The tunnel's limit has fallen.
            self.mtu_checked_at = None;
        }
        self.update_mtu(tunnel);
    }

    fn received(
        &mut self,
        datagram: &TunnelDatagram<'_>,
        _poller: &Poller,
        tunnel: &mut dyn TunnelAccess,
    ) {
        if datagram.channel != CHANNEL {
            return;
        }
        let now = now(tunnel);
        let TunSide { tun, inner, losses, session, .. } = self;
        let packet =
            inner.receive(now, TokenLocator(datagram.from), datagram.body, &mut |to, body| {
                losses.send(tunnel, to, *session, body);
            });
        if let Some(packet) = packet
            && tun.write(packet).is_err()
        {
            losses.device = losses.device.wrapping_add(1);
        }
    }

    fn flush(&mut self, _tunnel: &mut dyn TunnelAccess) {}

    fn located(
        &mut self,
        peer: local::SourceIndex,
        token: PublicToken,
        tunnel: &mut dyn TunnelAccess,
    ) {
        if let Some(peer) = self.source_peers.get(peer.0) {
            self.inner.set_locator(now(tunnel), *peer, Some(TokenLocator(token)));
        }
        self.mtu_checked_at = None;
        self.timers(tunnel);
    }

    fn ready(&mut self, tunnel: &mut dyn TunnelAccess) {
        self.inner.retry_now(tunnel.now());
        self.mtu_checked_at = None;
        self.timers(tunnel);
    }

    fn next_timer(&self) -> Option<Instant> {
        self.inner.next_timer()
    }

    fn timers(&mut self, tunnel: &mut dyn TunnelAccess) {
        let now = now(tunnel);
        let TunSide { inner, losses, session, .. } = self;
        inner.poll(now, &mut |to, body| losses.send(tunnel, to, *session, body));
        for peer in self.inner.unresponsive() {
            if let Some(at) = self.source_peers.iter().position(|number| *number == peer) {
                tunnel.locate(local::SourceIndex(at));
            }
        }
        self.update_mtu(tunnel);
    }

    fn failure(&mut self) -> Option<io::Error> {
        let name = self.tun.name();
        let text = || format!("the TUN device {name} was removed; start the agent again");
        self.removed.then(|| io::Error::new(io::ErrorKind::NotFound, text()))
    }

    fn status(&self, now: Instant) -> Value {
        let drops = self.inner.drops().iter().filter(|(_, count)| *count > 0);
        let mut drops: serde_json::Map<_, _> =
            drops.map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
        let Losses { too_big, tunnel, device } = self.losses;
        for (name, count) in
            [("too_big_for_tunnel", too_big), ("tunnel_not_up", tunnel), ("device", device)]
        {
            if count > 0 {
                drops.insert(name.to_owned(), count.into());
            }
        }
        json!({
            "kind": "tun",
            "device": self.tun.name(),
            "mtu": self.mtu,
            "public_key": self.inner.public_key().to_string(),
            "peers": self.inner.status(now).iter().map(peer_status).collect::<Vec<_>>(),
            "drops": drops,
        })
    }
}

impl Losses {
    fn send(&mut self, tunnel: &mut dyn TunnelAccess, to: TokenLocator, session: u64, body: &[u8]) {
        let count = match tunnel.send(&to.0, session, CHANNEL, body) {
            Ok(()) => return,
            Err(SendError::TooBig { .. }) => &mut self.too_big,
            Err(_) => &mut self.tunnel,
        };
        *count = count.wrapping_add(1);
    }
}

fn peer_status(peer: &PeerStatus<TokenLocator>) -> Value {
    let traffic = &peer.traffic;
    json!({
        "name": peer.name,
        "public_key": peer.public_key.to_string(),
        "token": peer.locator.map(|locator| locator.0.to_string()),
        "session_age_ms": peer.session_age_ms,
        "handshaking": peer.handshaking,
        "heard_ms_ago": peer.heard_ms_ago,
        "sessions": traffic.sessions,
        "sent_packets": traffic.sent_packets,
        "sent_bytes": traffic.sent_bytes,
        "received_packets": traffic.received_packets,
        "received_bytes": traffic.received_bytes,
    })
}

/// The tunnel's time, and the wall clock's for the time stamps of initiations.
fn now(tunnel: &dyn TunnelAccess) -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Now { instant: tunnel.now(), unix: UnixTime::from_millis(ms) }
}

const KEY: u64 = 0;
/// Packets read from the device before other work gets its turn.
const BATCH: usize = 64;
/// The MTU with the default tunnel_mtu between IPv4 agents: 1400 - 84 - [`OVERHEAD`].
const FIRST_MTU: u16 = 1400 - 84 - OVERHEAD as u16;
const _: () = assert!(FIRST_MTU >= V6_MTU && OVERHEAD == 28);
/// The minimum MTU of IPv6 links (RFC 8200, section 5).
const V6_MTU: u16 = 1280;
/// The minimum of IPv4 hosts (RFC 791).
const LEAST_MTU: u16 = 576;
const MTU_EVERY_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::token;

    #[test]
    fn locators_compare_token_and_parity_of_the_epoch() {
        let locator = |epoch, number| TokenLocator(PublicToken { epoch, ..token(number) });
        assert_eq!(locator(7, 1), locator(1, 1));
        assert_ne!(locator(7, 1), locator(6, 1));
        assert_ne!(locator(7, 1), locator(7, 2));
    }
}
