//! The agent: what the binary `anyrelay-agent` is made of.
//!
//! Rooms: [`outer`] (the segments between this host and the VIP: sockets, port, firewall table),
//! [`local`] (what a local side must do), [`udp`] (UDP forwarding, one local side), [`inner`] (IP
//! packets, sealed end to end between peers, the other), [`engine`] (the loop that joins the two),
//! [`control`] (what `status` asks), [`peers`] (where a peer is: token, file or DNS), [`publish`]
//! (telling others where we are), [`limits`] (how often others may have something done), [`config`] (the file of `run`), [`state`] (what outlives the process) and [`cli`] (the command
//! line). What goes into a segment is the core's business: these rooms move bytes, and hold no
//! state of the protocol.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod engine;
pub mod inner;
pub mod limits;
pub mod local;
pub mod outer;
pub mod peers;
pub mod poller;
pub mod publish;
pub mod state;
#[cfg(test)]
mod testing;
pub mod udp;
