//! Tunnel mode: two agents exchange datagrams through any POP, in what looks to NATs and firewalls
//! like one long TCP connection. The POP remembers nothing: it predicts the server's numbers
//! ([`crate::predict`]), and a token that travels with the data tells it where to send them and
//! with which numbers.
//!
//! The POP's side works on one segment and knows no frames: [`service::SegmentKind::of`] says what a
//! segment is, then [`handshake`], [`keepalive`] and [`forward`] say what to do, and
//! [`quote`] whom an ICMP error concerns. [`message`] and
//! [`token`] are the formats, which agents share. All of it is described in docs/protocol-tunnel.md.

pub mod agent;
pub mod forward;
pub mod handshake;
pub mod keepalive;
pub mod message;
pub mod numbers;
pub mod quote;
pub mod service;
#[cfg(test)]
mod tests;
pub mod token;
pub mod window;

pub use crate::net::Family;
pub use message::{DataHeader, KeepaliveReply, KeepaliveRequest, Malformed};
pub use service::{SegmentKind, TunnelSegment, TunnelService, TunnelVip};
pub use token::{PublicToken, Return, Token, TokenKeys};
