//! The agent as a library, from which the binary `anyrelay-agent` is built.
//!
//! Modules:
//!
//! - [`outer`]: segments between this host and the VIP: sockets, port, firewall table
//! - [`local`]: the interface of a local side
//! - [`udp`]: a local side that forwards UDP
//! - [`inner`]: a local side that carries IP packets of a TUN device, encrypted end to end
//! - [`open`]: a TUN device with the agent's open address, beside the local side
//! - [`iproute`]: addresses and routes of TUN devices
//! - [`engine`]: the event loop that joins a local side to the tunnel
//! - [`control`]: the socket that answers `status`
//! - [`peers`]: location of peers: token, file or DNS
//! - [`publish`]: publication of the agent's own token and open address
//! - [`limits`]: rate limits per sender
//! - [`config`]: the config file of `run`
//! - [`state`]: the state file, which outlives the process
//! - [`cli`]: the command line
//!
//! The protocol of the segments, with its state, is in `anyrelay_core::tunnel`; the agent moves
//! bytes.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod engine;
pub mod inner;
pub mod iproute;
pub mod limits;
pub mod local;
pub mod open;
pub mod outer;
pub mod peers;
pub mod poller;
pub mod publish;
pub mod state;
#[cfg(test)]
mod testing;
pub mod udp;
