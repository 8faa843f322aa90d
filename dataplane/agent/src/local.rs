//! The boundary between the tunnel and the local side of an agent.
//!
//! The tunnel carries datagrams, each with a session and a channel, to and from addresses that are
//! tokens. A local side takes datagrams off this host (UDP sockets, a TUN device) and brings them
//! to it. One thread does both: a local side never blocks, and never waits for the tunnel.

use std::io;

use anyrelay_core::time::Instant;

use crate::poller::Poller;
pub use anyrelay_core::tunnel::agent::SendError;
pub use anyrelay_core::tunnel::token::PublicToken;

/// A datagram that came through the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The session, chosen by the agent that connected.
    pub session: u64,
    /// The channel in it.
    pub channel: u16,
    /// Where answers go. It proves nothing about the sender.
    pub from: PublicToken,
    /// The datagram.
    pub body: &'a [u8],
}

/// What a local side may ask of the tunnel.
pub trait Tunnel {
    /// Sends one datagram. It may get lost like any datagram; an error says that it was not sent.
    ///
    /// # Errors
    /// When the tunnel is not up, or the body does not fit.
    fn send(
        &mut self,
        to: &PublicToken,
        session: u64,
        channel: u16,
        body: &[u8],
    ) -> Result<(), SendError>;

    /// The longest body that can go to `to`, in bytes; `None` until the tunnel is up.
    fn body_max(&self, to: &PublicToken) -> Option<usize>;

    /// Where this agent is; `None` until the tunnel is up.
    fn own_token(&self) -> Option<PublicToken>;

    /// The time of this turn of the loop: one clock reading for all that it does.
    fn now(&self) -> Instant;

    /// Asks for a peer to be located anew, because it does not answer. It may be asked often: what
    /// looks up DNS or files has its own pace.
    fn locate(&mut self, peer: PeerIndex);
}

/// Which of the peers given at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIndex(pub usize);

/// A local side: UDP forwarding or a TUN device.
///
/// Keys given to the poller must be below [`LOCAL_KEYS_END`].
pub trait LocalSide {
    /// Opens for traffic: registers what is to be read. Called once.
    ///
    /// # Errors
    /// What stops the agent from starting.
    fn start(&mut self, poller: &Poller) -> io::Result<()>;

    /// The descriptor with this key is readable. Reads a bounded number of datagrams (a batch), so
    /// that other work gets its turn; what is left is told again.
    fn readable(&mut self, key: u64, poller: &Poller, tunnel: &mut dyn Tunnel);

    /// A datagram came through the tunnel. It may be kept back until [`LocalSide::flush`].
    fn received(&mut self, datagram: &Received<'_>, poller: &Poller, tunnel: &mut dyn Tunnel);

    /// Hands over what [`LocalSide::received`] kept back. Called after each batch.
    fn flush(&mut self, tunnel: &mut dyn Tunnel);

    /// A peer was found, for the first time or somewhere else than before.
    fn located(&mut self, peer: PeerIndex, token: PublicToken, tunnel: &mut dyn Tunnel);

    /// The tunnel is up, for the first time or after an outage.
    fn ready(&mut self, _tunnel: &mut dyn Tunnel) {}

    /// When [`LocalSide::timers`] is to be called next; `None` for never.
    fn next_timer(&self) -> Option<Instant>;

    /// Does what is due.
    fn timers(&mut self, tunnel: &mut dyn Tunnel);

    /// Why this side cannot go on, if it cannot: the agent ends then.
    fn failure(&mut self) -> Option<io::Error> {
        None
    }

    /// What `status` shows of this side, as an object.
    fn status(&self, now: Instant) -> serde_json::Value;
}

/// Keys from here on belong to the agent's own descriptors.
pub const LOCAL_KEYS_END: u64 = 1 << 63;
