//! What the tests, benches and fuzz targets share, once each.
//!
//! - [`carried`] reads and writes tunnels to targets.
//! - [`config`] builds configs of POPs.
//! - [`frames`] writes frames and datagrams from their fields, and checksums, without the core.
//! - [`hex`] writes and reads hexadecimal digits.
//! - [`nat`] models a NAT with a strict firewall in front of an agent.
//! - [`pcap`] reads and writes captures.
//! - [`pop`] hands frames to a POP, and keeps what comes of them.
//! - [`rng`] has reproducible random numbers.
//! - [`tunnel`] has a tunnel service and agents that need no handshake.
//!
//! Apart from the parts that drive the core, nothing here uses the core's parsers or writers: a
//! mistake of the core must not be made again by the test that looks for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where its own inputs are wrong"
)]

pub mod buffer;
pub mod carried;
pub mod config;
pub mod frames;
pub mod hex;
pub mod nat;
pub mod pcap;
pub mod pop;
pub mod rng;
pub mod tunnel;
