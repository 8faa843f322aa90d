//! Tunnel mode: two agents exchange datagrams through any POP, in segments that NATs and firewalls
//! take for one long TCP connection.
//!
//! The POP keeps no state: it predicts the server's sequence numbers ([`crate::predict`]), and a
//! token that travels with the data holds the destination and the numbers of the segment to it.
//!
//! The POP's side works on one segment and knows no frames: [`SegmentKind::of`] classifies it, then
//! [`handshake`], [`keepalive`] and [`forward`] decide on it, and [`quote`] finds the agent that an
//! ICMP error concerns. [`open`] is for packets from and to hosts that are no agents. [`message`]
//! and [`token`] are the formats that POPs and agents share. docs/protocol-tunnel.md describes all
//! of it.

pub mod agent;
mod epochs;
pub mod forward;
pub mod handshake;
pub mod keepalive;
pub mod message;
pub mod numbers;
pub mod open;
pub mod quote;
mod quoted;
mod service;
#[cfg(test)]
mod tests;
pub mod token;
pub mod window;

pub use crate::net::Family;
pub use message::{DataHeader, KeepaliveReply, KeepaliveRequest, Malformed, OpenHeader};
pub use service::{SegmentKind, TunnelSegment, TunnelService, TunnelVip};
pub use token::{PublicToken, Return, Token, TokenKeys};
