//! The outer side: segments between this host and the VIP, past the kernel's own TCP.
//!
//! The kernel must neither see these segments (it would answer each with a RST) nor use their port
//! for a connection of its own. So: [`Port`] keeps the port, [`Firewall`] keeps the segments from
//! the kernel's TCP after its connection tracking has seen them, [`Receiver`] takes them off before
//! that by a packet socket with a filter, and [`Sender`] sends them by a raw socket.
//!
//! Only CAP_NET_RAW and CAP_NET_ADMIN are needed: [`capability::check`] names the one missing.

pub mod capability;
pub mod errors;
pub mod filter;
pub mod firewall;
pub mod link;
pub mod path;
pub mod port;
pub mod receiver;
pub mod route;
pub mod segment;
pub mod sender;

pub use firewall::{Firewall, FirewallError};
pub use link::{Counts, Link, LinkError};
pub use port::{Port, PortError};
pub use receiver::Receiver;
pub use sender::Sender;

use std::net::SocketAddr;

/// The two ends of the segments as this host sees them: before any NAT on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This host's address and the agent's port.
    pub local: SocketAddr,
    /// The VIP. Of the same family.
    pub vip: SocketAddr,
}

/// A segment whole, header and payload: longer ones are not received. A jumbo frame holds it.
pub const SEGMENT_LEN_MAX: usize = 9216;

/// Segments sent or received by one call to the system.
pub const BATCH: usize = 64;
