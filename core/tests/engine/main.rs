//! The engine, end to end: frames in, frames out, each as `docs/protocol.md` says.
//!
//! `anyrelay-kit` writes the frames, `world` and `world6` hold a POP with all that it needs. The
//! oracle reads what comes out and judges it: `seen`, `seen6`, `reassembly` and the validators, on
//! `etherparse` alone, independent of both the core and the kit. All tests are one program, because
//! that builds in a fraction of the time of one per file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod agents;
mod buffers;
mod reassembly;
mod seen;
mod seen6;
mod traffic;
mod validator;
mod validator6;
mod validator_echo;
mod world;
mod world6;

mod answers;
mod bad_input;
mod client_address;
mod client_address6;
mod clients;
mod differential;
mod differential6;
mod echo_fragments;
mod encapsulated;
mod equivalence;
mod fair;
mod fast;
mod fragments;
mod gateways;
mod gateways6;
mod headers;
mod hints;
mod icmp;
mod ipv6;
mod links;
mod links6;
mod open;
mod options;
mod pool6;
mod pool6_icmp;
mod probes;
mod reasons;
mod refusals;
mod relay;
mod relay6;
mod relay6_hostile;
mod relay6_icmp;
mod syn_limits;
mod targets;
mod tunnel;
mod tunnel_hostile;
mod tunnel_icmp;
mod tunnel_refusals;
mod tunnel_replay;
mod udp;

use agents::*;
use anyrelay_kit::config::{PopConfig, port, tunnel};
use anyrelay_kit::frames::*;
use anyrelay_kit::pop::{FromBytes, Said, Sent};
use anyrelay_kit::rng::Rng;
use buffers::*;
use reassembly::*;
use seen::{Seen, SeenTcp, upper_checksum};
use seen6::*;
use world::*;
use world6::*;
