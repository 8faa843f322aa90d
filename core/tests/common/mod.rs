//! What the tests of the engine share: frames written by hand, a POP with its world, and outputs
//! read back by `etherparse`. Nothing here uses the core's own parsers or writers.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a kit for tests, of which each test file uses a part"
)]

pub mod frames;
pub mod seen;
pub mod world;

#[allow(unused_imports, reason = "each test file uses a part")]
pub use {frames::*, seen::*, world::*};
