//! The inner side: IP packets of a TUN device, sealed end to end between peers that are pinned by
//! their static keys.
//!
//! [`Inner`] is a state machine without I/O: the time, packets and messages are passed in, and so
//! is randomness (`snow` draws none, see [`noise`]). [`TunSide`] joins it to a TUN device and to the
//! tunnel. What goes on the wire is in docs/agent.md, "Inner packets". A POP and everyone on the
//! way sees sealed bytes and their lengths.

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

pub use engine::{Inner, InnerError, MAX_PEERS};
pub use peer::{Out, PeerConfig, PeerStatus, Place, Traffic};
pub use shared::{MAX_PACKET, Random};
pub use side::{TokenPlace, TunPeers, TunSide, TunSideError};
