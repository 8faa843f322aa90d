//! The uplink: port, firewall table and sockets of the agent on one address of the host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyrelay_core::time::Instant;

use super::counts::UplinkCounts;
use super::{
    Firewall, FirewallError, FlowEndpoints, Receiver, ReservePortError, ReservedPort, Sender, route,
};

/// The destination of an uplink, and the device that it must not use.
#[derive(Clone, Debug)]
pub struct UplinkConfig {
    /// The VIP.
    pub vip: SocketAddr,
    /// The agent's own TUN device. A route into it does not count: after the loss of the host's
    /// network it may be the only one left.
    pub own_device: Option<String>,
}

/// The uplink to the VIP: port, firewall table and sockets.
pub struct Uplink {
    config: UplinkConfig,
    local: IpAddr,
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
    /// No route leads to the VIP.
    #[error("no route to the VIP {vip}: {source}")]
    Route {
        /// The VIP.
        vip: SocketAddr,
        /// The error of the system call.
        source: io::Error,
    },
    /// The route leads into this agent's own TUN device, so the tunnel would carry itself.
    #[error(
        "no route to the VIP {vip} but into {device}, this agent's own TUN device: is the uplink \
         down? Give {vip} a route of its own beside that default route"
    )]
    OwnDevice {
        /// The VIP.
        vip: SocketAddr,
        /// The device.
        device: String,
    },
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
        matches!(self, UplinkError::Route { .. } | UplinkError::OwnDevice { .. })
    }
}

impl Uplink {
    /// Opens the uplink from port `port`, for which it waits up to `patience`. `before` are the
    /// counters of earlier uplinks.
    ///
    /// # Errors
    /// When there is no route, or a port, table or socket cannot be had.
    pub fn open(
        config: &UplinkConfig,
        port: u16,
        patience: Duration,
        before: UplinkCounts,
    ) -> Result<Self, UplinkError> {
        let vip = config.vip;
        let local =
            route::source_towards(vip).map_err(|source| UplinkError::Route { vip, source })?;
        config.check(local)?;
        let port = ReservedPort::reserve_within(vip, port, patience)?;
        let firewall = Firewall::install(vip, &port)?;
        let (receiver, sender) = sockets(vip, local, port.number())?;
        Ok(Uplink { config: config.clone(), local, receiver, sender, before, firewall, port })
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

    /// Moves to the source address that the host uses towards the VIP, if it has changed; returns
    /// whether it moved. Without a route nothing changes.
    ///
    /// # Errors
    /// When the new sockets cannot be opened; nothing changes then. When the route leads into the
    /// agent's own device, the uplink must be closed: its segments would return into the tunnel.
    pub fn follow_route(&mut self, now: Instant) -> Result<bool, UplinkError> {
        self.sender.update_path(now);
        let Ok(local) = route::keep_or_move(self.local, self.config.vip) else {
            return Ok(false);
        };
        self.config.check(local)?;
        if local == self.local {
            return Ok(false);
        }
        let (receiver, sender) = sockets(self.config.vip, local, self.port.number())?;
        self.before = self.counts();
        (self.receiver, self.sender, self.local) = (receiver, sender, local);
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

impl UplinkConfig {
    /// Checks that segments from `local` do not leave through the agent's own device.
    fn check(&self, local: IpAddr) -> Result<(), UplinkError> {
        let Some(device) = &self.own_device else { return Ok(()) };
        // A kernel that does not answer counts as a pass: the address shows that a route exists.
        match (route::device_towards(local, self.vip.ip()), route::index_of(device)) {
            (Ok(used), Ok(own)) if used == own => {
                Err(UplinkError::OwnDevice { vip: self.vip, device: device.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn sockets(vip: SocketAddr, local: IpAddr, port: u16) -> Result<(Receiver, Sender), UplinkError> {
    let endpoints = FlowEndpoints { local: (local, port).into(), vip };
    // The receiver first, so that it misses no answer.
    let receiver = Receiver::open(&endpoints).map_err(UplinkError::Receiver)?;
    let sender = Sender::open(&endpoints).map_err(UplinkError::Sender)?;
    Ok((receiver, sender))
}
