//! The engine, end to end: frames in, frames out, each as `docs/protocol.md` says.
//!
//! `frames` writes frames by hand, `seen` reads outputs back with `etherparse` and verifies every
//! checksum, `world` holds a POP with all that it needs. None of them uses the core's own parsers
//! or writers. One program, for it is built in a fraction of the time of one per file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod agents;
mod frames;
mod frames6;
mod seen;
mod traffic;
mod validator;
mod validator6;
mod world;
mod world6;

mod answers;
mod bad_input;
mod clients;
mod differential;
mod differential6;
mod equivalence;
mod fragments;
mod headers;
mod icmp;
mod ipv6;
mod links;
mod links6;
mod options;
mod reasons;
mod relay;
mod relay6;
mod relay6_hostile;
mod relay6_icmp;
mod syn_limits;
mod tunnel;
mod tunnel_hostile;
mod tunnel_icmp;
mod tunnel_refusals;

use agents::*;
use frames::*;
use frames6::*;
use seen::*;
use world::*;
use world6::*;
