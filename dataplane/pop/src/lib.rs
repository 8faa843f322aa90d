//! The POP daemon as a library, from which the binary `anyrelay` is built.
//!
//! Modules:
//!
//! - [`ports`]: ports and frames; the only module that names DPDK
//! - [`worker`]: pinned poll-mode threads
//! - [`egress`]: TX rings and the queues between workers
//! - [`hints`]: what POPs tell each other of refusals
//! - [`control`]: start, reload, readiness, stop
//! - [`metrics`]: counters over HTTP
//! - [`health`]: checks of targets, and what they change in targets files
//! - [`interfaces`]: the kernel's interfaces below ports
//! - [`probe`]: which egress modes a target can have
//! - [`replay`]: the POP over a capture, without ports
//! - [`targets`]: changes of a list of targets that break no connection
//! - [`cli`]: the command line
//!
//! The packet path is in `anyrelay_core`; these modules move its frames.
#![deny(unsafe_code)]

pub mod cli;
pub mod control;
pub mod egress;
pub mod health;
pub mod hints;
pub mod interfaces;
pub mod metrics;
pub mod ports;
pub mod probe;
pub mod replay;
pub mod targets;
pub mod worker;
