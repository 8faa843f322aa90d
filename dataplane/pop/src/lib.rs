//! The POP daemon: what the binary `anyrelay` is made of.
//!
//! Rooms: [`ports`] (the only one that names DPDK), [`worker`] (pinned poll-mode threads),
//! [`egress`] (TX rings and the queues between workers), [`control`] (start, reload, readiness,
//! stop), [`metrics`] (counters over HTTP), [`replay`] (the POP over a capture, without ports) and
//! [`cli`] (the command line). The packet path is the core's; these rooms move frames to it and
//! from it.
#![deny(unsafe_code)]

pub mod cli;
pub mod control;
pub mod egress;
pub mod metrics;
pub mod ports;
pub mod replay;
pub mod worker;
