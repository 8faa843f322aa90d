//! The config file as it is written: names, nesting, types and defaults, without a meaning yet.
//!
//! The docs of these structs are the reference of the settings: docs/config.md is made from them
//! by `scripts/reference`. The doc of a field says what the key means and its unit. It ends with
//! `Default:` where the default is not written in the code here, with `Range:`, and with `Reload:`
//! where that differs from the one of its table. Numbers are wide and addresses are text here, so
//! that a value out of its range is reported in the words of [`check`](super::check), together with
//! all other mistakes.

mod limits;
mod neighbours;
mod open;
mod pop;
mod ports;
mod services;
mod target;

use serde::Deserialize;

pub(super) use limits::RawLimits;
pub(super) use neighbours::RawNeighbours;
pub(super) use open::RawOpen;
pub(super) use pop::{RawClock, RawFragmentLimits, RawFragments, RawPop};
pub(super) use ports::{
    RawDpdk, RawIdle, RawInstructions, RawLayout, RawLayoutKind, RawPort, RawSide, RawWorker,
};
pub(super) use services::{
    RawChooseBy, RawClientAddress, RawEgress, RawProtocol, RawRelay, RawReturn, RawTunnel,
};
pub(super) use target::{RawTarget, RawTargetsFile};

/// Each POP has a file of its own. Keys are in a second file, and with tunnels the tenants are in a
/// third. `anyrelay check --config FILE` reports all mistakes at once, each with file, key and
/// reason, and warns of what is permitted but probably not intended. What must be the same on all
/// POPs is said at the key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// The POP itself.
    pub(super) pop: RawPop,
    /// How DPDK is started.
    #[serde(default)]
    pub(super) dpdk: RawDpdk,
    /// A port of DPDK. Range: 1 to 16.
    #[serde(default)]
    pub(super) port: Vec<RawPort>,
    /// A thread of the data plane. Range: 1 to 64.
    #[serde(default)]
    pub(super) worker: Vec<RawWorker>,
    /// The division of work among the workers.
    #[serde(default)]
    pub(super) layout: RawLayout,
    /// Rates of token buckets, each with room for one second's worth, and sizes of tables.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// When gateways are queried by ARP and neighbour discovery, and when one is silent.
    #[serde(default)]
    pub(super) neighbours: RawNeighbours,
    /// Bounds of reassembly, permitted only with `pop.fragments = "reassemble"`. Default: as its
    /// keys say.
    pub(super) fragments: Option<RawFragmentLimits>,
    /// A relay service. Range: 0 to 256, together with the tunnels.
    #[serde(default)]
    pub(super) relay: Vec<RawRelay>,
    /// A tunnel service. Range: 0 to 256, together with the relays.
    #[serde(default)]
    pub(super) tunnel: Vec<RawTunnel>,
    /// The HTTP listener.
    #[serde(default)]
    pub(super) metrics: RawMetrics,
    /// Refusals of targets that POPs tell each other of. Default: none; the POP tells nobody and
    /// listens to nobody.
    pub(super) hints: Option<RawHints>,
}

/// [Refusals](operations.md#refusals) says when hints are needed.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHints {
    /// The UDP socket that hints are sent from and received at, as `ADDRESS:PORT`, on a network
    /// that only the POPs see.
    pub(super) listen: String,
    /// The socket of each other POP, as `ADDRESS:PORT`, of the family of `listen`. Range: 1 to 64.
    pub(super) peers: Vec<String>,
    /// RSTs per second that each worker tells of. Range: 1 to 1000000000.
    #[serde(default = "hints_per_second")]
    pub(super) per_second: i64,
}

fn hints_per_second() -> i64 {
    1000
}

/// Metrics and readiness pages.
///
/// Reload: restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    /// `ADDRESS:PORT` that it listens on. It has no access control: `check` warns if the address is
    /// not a loopback address. Default: none, no listener.
    pub(super) listen: Option<String>,
}
