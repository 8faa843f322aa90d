//! The interface between the tunnel and the local side of an agent.
//!
//! The tunnel carries datagrams, each with a session and a channel; the addresses of agents are
//! tokens. A local side (UDP sockets, a TUN device) exchanges these datagrams with this host. One
//! thread runs both: a local side never blocks, and never waits for the tunnel.

use std::io;

use anyrelay_core::time::Instant;

use crate::poller::Poller;
pub use anyrelay_core::tunnel::agent::SendError;
pub use anyrelay_core::tunnel::token::PublicToken;

/// A datagram from the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelDatagram<'a> {
    /// The session, chosen by the connecting agent.
    pub session: u64,
    /// The channel in the session.
    pub channel: u16,
    /// The destination of answers. It does not authenticate the sender.
    pub from: PublicToken,
    /// The payload.
    pub body: &'a [u8],
}

/// The tunnel as a local side sees it.
pub trait TunnelAccess {
    /// Sends one datagram. Like any datagram it may get lost; on an error it was not sent.
    ///
    /// # Errors
    /// When the tunnel is not up, or the body is too long.
    fn send(
        &mut self,
        to: &PublicToken,
        session: u64,
        channel: u16,
        body: &[u8],
    ) -> Result<(), SendError>;

    /// The longest body that can be sent to `to`, in bytes; `None` until the tunnel is up.
    fn body_max(&self, to: &PublicToken) -> Option<usize>;

    /// The agent's own token; `None` until the tunnel is up.
    fn own_token(&self) -> Option<PublicToken>;

    /// The time of this turn of the event loop, which reads the clock once per turn.
    fn now(&self) -> Instant;

    /// Requests that a peer be located again, because it does not answer. May be called often:
    /// lookups limit their own rate.
    fn locate(&mut self, peer: SourceIndex);
}

/// The number of a peer source in the list given at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceIndex(pub usize);

/// A local side: UDP forwarding or a TUN device.
///
/// Its keys for the poller must be below [`LOCAL_KEYS_END`].
pub trait LocalSide {
    /// Registers its descriptors with the poller. Called once.
    ///
    /// # Errors
    /// When the agent cannot start.
    fn start(&mut self, poller: &Poller) -> io::Result<()>;

    /// Handles the readable descriptor with this key. Reads a bounded number of datagrams (a
    /// batch), so that other work gets its turn; the poller reports the rest again.
    fn readable(&mut self, key: u64, poller: &Poller, tunnel: &mut dyn TunnelAccess);

    /// Handles a datagram from the tunnel. Its delivery may be delayed until [`LocalSide::flush`].
    fn received(
        &mut self,
        datagram: &TunnelDatagram<'_>,
        poller: &Poller,
        tunnel: &mut dyn TunnelAccess,
    );

    /// Delivers the datagrams that [`LocalSide::received`] delayed. Called after each batch.
    fn flush(&mut self, tunnel: &mut dyn TunnelAccess);

    /// A peer was located, for the first time or at a new place.
    fn located(&mut self, peer: SourceIndex, token: PublicToken, tunnel: &mut dyn TunnelAccess);

    /// The tunnel is up, for the first time or after an outage.
    fn ready(&mut self, _tunnel: &mut dyn TunnelAccess) {}

    /// The time of the next call of [`LocalSide::timers`]; `None` for never.
    fn next_timer(&self) -> Option<Instant>;

    /// Runs the timers that are due.
    fn timers(&mut self, tunnel: &mut dyn TunnelAccess);

    /// The error that forces this side to stop; the agent ends then.
    fn failure(&mut self) -> Option<io::Error> {
        None
    }

    /// The object that `status` shows for this side.
    fn status(&self, now: Instant) -> serde_json::Value;
}

/// No local side: the agent has an open side alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSide {
    /// Datagrams of peers, which have nowhere to go.
    refused: u64,
}

impl LocalSide for NoSide {
    fn start(&mut self, _: &Poller) -> io::Result<()> {
        Ok(())
    }

    fn readable(&mut self, _: u64, _: &Poller, _: &mut dyn TunnelAccess) {}

    fn received(&mut self, _: &TunnelDatagram<'_>, _: &Poller, _: &mut dyn TunnelAccess) {
        self.refused += 1;
    }

    fn flush(&mut self, _: &mut dyn TunnelAccess) {}

    fn located(&mut self, _: SourceIndex, _: PublicToken, _: &mut dyn TunnelAccess) {}

    fn next_timer(&self) -> Option<Instant> {
        None
    }

    fn timers(&mut self, _: &mut dyn TunnelAccess) {}

    fn status(&self, _: Instant) -> serde_json::Value {
        serde_json::json!({ "kind": "none", "refused": self.refused })
    }
}

/// Keys from this one on belong to the agent's own descriptors.
pub const LOCAL_KEYS_END: u64 = 1 << 63;
