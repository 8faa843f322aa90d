//! The inner side: IP packets of a TUN device, encrypted end to end between peers that are
//! identified by static keys.
//!
//! [`InnerSide`] is a state machine without I/O: time, packets, messages and random numbers are
//! arguments (see [`noise`]). [`TunSide`] joins it to a TUN device and to the tunnel.
//! docs/agent.md, "Inner packets", describes the messages. POPs and networks on the path see
//! ciphertexts and their lengths.

pub mod counters;
pub mod device;
mod engine;
pub mod keys;
pub mod message;
pub mod noise;
pub mod packet;
mod peer;
pub mod replay;
pub mod routes;
mod session;
mod shared;
mod side;
#[cfg(test)]
mod tests;

pub use engine::{InnerError, InnerSide, MAX_PEERS};
pub use peer::{Locator, Out, PeerConfig, PeerStatus, PeerTraffic};
pub use shared::{MAX_PACKET, RandomSource};
pub use side::{TokenLocator, TunPeers, TunSide, TunSideError};
