//! Segments to tunnels' VIPs: handshakes and keepalives are answered, datagrams sent on to the
//! agent that they are for.
//!
//! [`crate::tunnel`], which knows no frames, decides what to do; here a segment is taken out of its
//! frame, and the outcome is put back in.

mod data;
mod explain;
pub(super) mod icmp;
pub(super) mod open;
mod read;
mod segment;

pub(super) use data::data;
pub(super) use segment::{read, segment};
