//! The uplink: port, firewall table and sockets of the agent on one address of the host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyrelay_core::time::Instant;

use super::counts::UplinkCounts;
use super::loops::{Carried, Loop, RouteWatch};
use super::steering::{Steering, SteeringError};
use super::{
    Firewall, FirewallError, FlowEndpoints, Receiver, ReservePortError, ReservedPort, Sender, route,
};

/// The destination of an uplink, and the ways to it that count.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// The VIP.
    pub vip: SocketAddr,
    /// The mark and interface of the agent's own traffic.
    pub steering: Steering,
    /// What the agent carries. A route into its own TUN device does not count: after the loss of
    /// the host's network it may be the only one left. Nor does one into a WireGuard interface
    /// that sends to the agent.
    pub carried: Carried,
}

/// The uplink to the VIP: port, firewall table and sockets.
pub struct Uplink {
    local: IpAddr,
    /// The interface that the sockets are bound to: another one may get the name later.
    bound: Option<u32>,
    /// Receives segments from the VIP.
    pub receiver: Receiver,
    /// Sends segments to the VIP.
    pub sender: Sender,
    /// Counters of earlier sockets and uplinks.
    before: UplinkCounts,
    // Dropped in this order: the port stays reserved as long as its table exists.
    firewall: Firewall,
    port: ReservedPort,
}

/// Why the uplink cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The sockets cannot have the mark or interface.
    #[error(transparent)]
    Steering(#[from] SteeringError),
    /// No route leads to the VIP.
    #[error("no route to the VIP {vip}{by}: {source}")]
    Route {
        /// The VIP.
        vip: SocketAddr,
        /// The mark and interface that a route is needed for, as text.
        by: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The route leads into this agent's own TUN device, so the tunnel would carry itself.
    #[error(
        "no route to the VIP {vip} but into {device}, this agent's own TUN device: is the uplink \
         down? Give {vip} a route of its own beside that default route, or start the agent with \
         --interface and the uplink's name (agent.interface), or with --mark (agent.mark) and a \
         rule by which packets with that mark do not take that route"
    )]
    OwnDevice {
        /// The VIP.
        vip: SocketAddr,
        /// The device.
        device: String,
    },
    /// The route leads into an interface whose packets this agent carries.
    #[error("{0}")]
    Loop(Box<Loop>),
    /// The port cannot be reserved.
    #[error(transparent)]
    Port(#[from] ReservePortError),
    /// The firewall table cannot be created.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The packet socket cannot be opened.
    #[error("no packet socket to receive by: {0}")]
    Receiver(io::Error),
    /// The raw socket cannot be opened.
    #[error("no raw socket to send by: {0}")]
    Sender(io::Error),
}

impl UplinkError {
    /// Whether another port would help.
    pub fn port_in_use(&self) -> bool {
        matches!(self, UplinkError::Port(error) if error.in_use())
    }

    /// Whether the error may be temporary, because the host is not on a network.
    pub fn is_temporary(&self) -> bool {
        match self {
            UplinkError::Route { .. } | UplinkError::OwnDevice { .. } => true,
            // With a mark or interface, the uplink's own route may be missing for now.
            UplinkError::Loop(found) => found.is_temporary(),
            _ => false,
        }
    }

    /// Whether an open uplink must be closed: its segments would return into the tunnel, or its
    /// interface is gone.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            UplinkError::OwnDevice { .. } | UplinkError::Loop(_) | UplinkError::Steering(_)
        )
    }
}

impl Uplink {
    /// Opens the uplink from port `port`, for which it waits up to `patience`. `before` are the
    /// counters of earlier uplinks.
    ///
    /// # Errors
    /// When there is no route, or a port, table or socket cannot be had.
    pub fn open(
        watch: &mut RouteWatch,
        port: u16,
        patience: Duration,
        before: UplinkCounts,
    ) -> Result<Self, UplinkError> {
        let (vip, steering) = (watch.config.vip, &watch.config.steering);
        let bound = steering.bound()?;
        let local = route::source_towards(vip, steering).map_err(|source| UplinkError::Route {
            vip,
            by: steering.to_string(),
            source,
        })?;
        watch.check(local)?;
        let config = &watch.config;
        let port = ReservedPort::reserve_within(vip, port, patience)?;
        let firewall = Firewall::install(vip, &port, config.steering.mark)?;
        let (receiver, sender) = sockets(config, local, port.number())?;
        Ok(Uplink { local, bound, receiver, sender, before, firewall, port })
    }

    /// The host's address and the agent's port.
    pub fn local(&self) -> SocketAddr {
        (self.local, self.port.number()).into()
    }

    /// The counters of this uplink and earlier ones.
    pub fn counts(&self) -> UplinkCounts {
        UplinkCounts {
            sender: self.before.sender.and(self.sender.counts()),
            damaged: self.before.damaged + self.receiver.damaged(),
        }
    }

    /// Moves to the source address and interface that the host uses towards the VIP, if they have
    /// changed; returns whether it moved. Without a route nothing changes.
    ///
    /// # Errors
    /// When the new sockets cannot be opened; nothing changes then. After some errors the uplink
    /// must be closed: [`UplinkError::closes`].
    pub fn follow_route(
        &mut self,
        watch: &mut RouteWatch,
        now: Instant,
    ) -> Result<bool, UplinkError> {
        self.sender.update_path(now);
        let steering = &watch.config.steering;
        let bound = steering.bound()?;
        let Ok(local) = route::keep_or_move(self.local, watch.config.vip, steering) else {
            return Ok(false);
        };
        watch.check(local)?;
        if (local, bound) == (self.local, self.bound) {
            return Ok(false);
        }
        let (receiver, sender) = sockets(&watch.config, local, self.port.number())?;
        self.before = self.counts();
        (self.receiver, self.sender) = (receiver, sender);
        (self.local, self.bound) = (local, bound);
        Ok(true)
    }

    /// Creates the firewall table again.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn restore_firewall(&self) -> Result<(), FirewallError> {
        self.firewall.restore()
    }
}

fn sockets(
    config: &UplinkConfig,
    local: IpAddr,
    port: u16,
) -> Result<(Receiver, Sender), UplinkError> {
    let endpoints = FlowEndpoints { local: (local, port).into(), vip: config.vip };
    // The receiver first, so that it misses no answer.
    let receiver = Receiver::open(&endpoints).map_err(UplinkError::Receiver)?;
    let sender = Sender::open(&endpoints, &config.steering).map_err(UplinkError::Sender)?;
    Ok((receiver, sender))
}
