//! The agent: what the binary `anyrelay-agent` is made of.
//!
//! Rooms: [`outer`] (the segments between this host and the VIP: sockets, port, firewall table),
//! [`local`] (what a local side must do; UDP forwarding and the TUN device are two of them),
//! [`inner`] (IP packets, sealed end to end between peers), [`peers`] (where a peer is: token, file
//! or DNS), [`publish`] (telling others where we are), [`state`] (what outlives the process) and
//! [`cli`] (the command line). What goes into a segment is the core's business: these rooms move
//! bytes, and hold no state of the protocol.
#![deny(unsafe_code)]

pub mod cli;
pub mod inner;
pub mod local;
pub mod outer;
pub mod peers;
pub mod poller;
pub mod publish;
pub mod state;
pub mod stub;
