//! What the tests, benches and fuzz targets share, once each.
//!
//! - [`frames`]: frames and datagrams from their fields, and checksums, independent of the core
//! - [`rng`]: reproducible random numbers
//!
//! Apart from the parts that drive the core, nothing here uses the core's parsers or writers: a
//! mistake of the core must not be made again by the test that looks for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where its own inputs are wrong"
)]

pub mod frames;
pub mod rng;
