//! All that the outer side holds for one port on one address of the host, and moving to another.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyrelay_core::time::Instant;

use super::sender::SendCounts;
use super::{Ends, Firewall, FirewallError, Port, PortError, Receiver, Sender, route};

/// Whereto, and which way not.
#[derive(Clone, Debug)]
pub struct Way {
    /// The VIP.
    pub vip: SocketAddr,
    /// The TUN device that this agent has made. A route into it is none: after the loss of the uplink
    /// there may be no other.
    pub own_device: Option<String>,
}

/// The way to the VIP: port, firewall table and sockets.
pub struct Link {
    way: Way,
    local: IpAddr,
    /// Segments from the VIP.
    pub receiver: Receiver,
    /// Segments to the VIP.
    pub sender: Sender,
    /// What earlier sockets of this way counted.
    before: Counts,
    // Dropped in this order: nobody else may have the port while its table is there.
    firewall: Firewall,
    port: Port,
}

/// What a way has counted since the agent was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Segments to the VIP.
    pub sender: SendCounts,
    /// Segments from it whose lengths or checksum did not hold.
    pub damaged: u64,
}

/// The way to the VIP cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No route.
    #[error("no route to the VIP {vip}: {source}")]
    Route {
        /// The VIP.
        vip: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The route is one into this agent's own TUN device, in which the tunnel would carry itself.
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
    /// The port is somebody else's.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No firewall table.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// No packet socket.
    #[error("no packet socket to receive by: {0}")]
    Receiver(io::Error),
    /// No raw socket.
    #[error("no raw socket to send by: {0}")]
    Sender(io::Error),
}

impl LinkError {
    /// Whether another port would do.
    pub fn port_in_use(&self) -> bool {
        matches!(self, LinkError::Port(error) if error.in_use())
    }

    /// Whether it may be better in a moment: the host is not on a network.
    pub fn is_passing(&self) -> bool {
        matches!(self, LinkError::Route { .. } | LinkError::OwnDevice { .. })
    }
}

impl Link {
    /// Opens the way from port `port`, for which it waits up to `patience`; `before` is
    /// what earlier ways counted.
    ///
    /// # Errors
    /// What is missing.
    pub fn open(
        way: &Way,
        port: u16,
        patience: Duration,
        before: Counts,
    ) -> Result<Self, LinkError> {
        let vip = way.vip;
        let local =
            route::source_towards(vip).map_err(|source| LinkError::Route { vip, source })?;
        way.check(local)?;
        let port = Port::keep_within(vip, port, patience)?;
        let firewall = Firewall::install(vip, &port)?;
        let (receiver, sender) = sockets(vip, local, port.number())?;
        Ok(Link { way: way.clone(), local, receiver, sender, before, firewall, port })
    }

    /// The host's address and the agent's port.
    pub fn local(&self) -> SocketAddr {
        (self.local, self.port.number()).into()
    }

    /// What it and earlier ways counted.
    pub fn counts(&self) -> Counts {
        Counts {
            sender: self.before.sender.and(self.sender.counts()),
            damaged: self.before.damaged + self.receiver.damaged(),
        }
    }

    /// Looks whether the host still reaches the VIP from the same address, and moves to the new
    /// one if not; whether it moved. While there is no route all stays as it is.
    ///
    /// # Errors
    /// When the new sockets cannot be opened: all stays as it is. When the route leads into the own
    /// device, the way is to be given up: what is sent by it would come back.
    pub fn follow_route(&mut self, now: Instant) -> Result<bool, LinkError> {
        self.sender.look_at_path(now);
        let Ok(local) = route::keep_or_move(self.local, self.way.vip) else {
            return Ok(false);
        };
        self.way.check(local)?;
        if local == self.local {
            return Ok(false);
        }
        let (receiver, sender) = sockets(self.way.vip, local, self.port.number())?;
        self.before = self.counts();
        (self.receiver, self.sender, self.local) = (receiver, sender, local);
        Ok(true)
    }

    /// Makes the firewall table again.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn restore_firewall(&self) -> Result<(), FirewallError> {
        self.firewall.restore()
    }
}

impl Way {
    /// Whether segments from `local` leave this host, and not by the own device.
    fn check(&self, local: IpAddr) -> Result<(), LinkError> {
        let Some(device) = &self.own_device else { return Ok(()) };
        // A kernel that does not tell is taken at its best: the address alone says that there is a way.
        match (route::device_towards(local, self.vip.ip()), route::index_of(device)) {
            (Ok(used), Ok(own)) if used == own => {
                Err(LinkError::OwnDevice { vip: self.vip, device: device.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn sockets(vip: SocketAddr, local: IpAddr, port: u16) -> Result<(Receiver, Sender), LinkError> {
    let ends = Ends { local: (local, port).into(), vip };
    // The receiver first: an answer never comes before there is someone to take it.
    let receiver = Receiver::open(&ends).map_err(LinkError::Receiver)?;
    let sender = Sender::open(&ends).map_err(LinkError::Sender)?;
    Ok((receiver, sender))
}
