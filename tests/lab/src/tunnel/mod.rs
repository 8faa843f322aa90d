//! A laboratory for tunnels: agents behind strict NATs, a router, POPs that all are the VIP.
//!
//! ```text
//! agent 1 --[box]-- NAT 1 --[box]--+            +-- POP 1
//! agent 2 --[box]-- NAT 2 --[box]--+-- router --+-- POP 2
//! outsider ------------------------+            +-- POP 3
//! ```
//!
//! What it promises, beside what the [`crate`] does:
//! - each NAT masquerades and drops what conntrack calls invalid, which it counts and logs by its
//!   own namespace's netlink log, so that labs cannot see each other's ([`Nat`]);
//! - the route to the VIP moves for each agent separately ([`AgentRoutes`]);
//! - a box, where there is one, is a [`crate::middlebox::Middlebox`].
//!
//! With IPv6 the NATs are stateful firewalls that leave addresses as they are.

pub mod agent;
pub mod config;
pub mod conntrack_log;
pub mod lab;
pub mod nat;
pub mod nat64;
pub mod queues;
pub mod routes;
pub mod stream;
pub mod topology;

pub use agent::{Agent, AgentBuilder};
pub use config::Constants;
pub use lab::{TunnelLab, TunnelLabBuilder};
pub use nat::Nat;
pub use nat64::Nat64;
pub use routes::AgentRoutes;
pub use topology::{AgentSite, Family, Shape, Site, TunnelTopology};
