//! A laboratory of network namespaces: real kernels, real TCP, one machine.
//!
//! ```text
//! client -- client router --+-- POP 1 --+-- target router -- target
//!                           +-- POP 2 --+
//!                           +-- POP 3 --+
//! ```
//!
//! What it promises:
//! - the route to the VIPs (up) and the routes back (down) move between POPs separately, or are
//!   sprayed over them packet by packet ([`Routes`]);
//! - where it is asked for, POPs send each other hints, over a network of their own that loses,
//!   doubles, damages and delays them on request ([`hints`]);
//! - nothing it made outlives it: namespaces, processes (by their id) and directories are gone
//!   after a drop, a panic, SIGINT or SIGTERM; what a run that was killed outright left behind is
//!   removed by the next one ([`registry`]);
//! - several labs can live one after another, or beside each other, in one process.
//!
//! It needs root, and `ip`, `ethtool`, `nft` and `tc` on the path.

pub mod body;
pub mod command;
pub mod config;
pub mod counters;
pub mod decapsulator;
mod error;
pub mod firewall;
pub mod fleet;
pub mod haproxy;
pub mod hints;
pub mod http;
pub mod lab;
pub mod link;
pub mod metrics;
pub mod middlebox;
pub mod namespace;
mod nftables;
pub mod nginx;
pub mod packet;
pub mod pop;
pub mod process;
pub mod quic;
pub mod registry;
pub mod routes;
pub mod script;
pub mod ssh;
pub mod targets;
pub mod topology;
pub mod traffic;
pub mod tunnel;

pub use config::{Device, Egress, Layout, Service};
pub use decapsulator::{Decapsulator, Encapsulation};
pub use error::LabError;
pub use lab::Lab;
pub use namespace::Namespace;
pub use nginx::Nginx;
pub use pop::{Forwarder, Pop};
pub use process::Process;
pub use routes::{Carriers, Direction, Routes};
pub use topology::Topology;

/// What every fallible function of the lab returns.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
