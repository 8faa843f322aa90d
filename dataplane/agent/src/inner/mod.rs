//! The inner side: IP packets of a TUN device, sealed end to end between peers that are pinned by
//! their static keys.
//!
//! What goes on the wire is in docs/agent.md, "Inner packets". A POP and everyone on the way sees
//! sealed bytes and their lengths.

pub mod keys;
pub mod message;
pub mod noise;
pub mod packet;
pub mod replay;
pub mod routes;
