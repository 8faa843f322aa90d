//! The pure POP of anyrelay.
//!
//! A POP is a pure function: `(frame, clock, config with keys) -> frames`. This crate is that
//! function and nothing else: it does no I/O, reads no clock, draws no random numbers, knows no
//! DPDK and contains no `unsafe`. Whatever it keeps between two frames (neighbours, rate-limit
//! buckets, pending RSTs) is bounded, allocated at start, and harmless to lose: any POP with the
//! same config and keys gives the same answer to the same frame.
#![forbid(unsafe_code)]

pub mod bucket;
pub mod config;
pub mod counters;
pub mod crypto;
pub mod fragment;
pub mod frame;
pub mod keys;
pub mod link;
pub mod net;
pub mod pop;
pub mod predict;
pub mod problem;
pub mod relay;
pub mod seq;
pub mod snapshot;
pub mod time;
pub mod tunnel;
pub mod verdict;
pub mod wire;
