//! `[neighbours]` as it is written.

use serde::Deserialize;

/// The share of a silent one goes to another gateway of its side
/// ([gateways that fall silent](operations.md#gateways-that-fall-silent)).
/// `refresh_ms + probes * probe_interval_ms` must be less than 60000, as an address is used for 60
/// seconds after the last answer.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawNeighbours {
    /// A gateway is queried again when its last answer is so old, in milliseconds. Range: 100 to
    /// 30000.
    pub(in crate::config) refresh_ms: i64,
    /// Milliseconds between two queries to a gateway that has not answered. Range: 100 to 5000.
    pub(in crate::config) probe_interval_ms: i64,
    /// A gateway is silent when it leaves so many queries unanswered. Range: 1 to 10.
    pub(in crate::config) probes: i64,
    /// Whether gateways of `port.gateway_macs` are queried, at those addresses. One that has
    /// answered once is judged like the others. Default: where a side has several gateways of the
    /// family.
    pub(in crate::config) probe_fixed: Option<bool>,
}

impl Default for RawNeighbours {
    fn default() -> Self {
        RawNeighbours { refresh_ms: 20_000, probe_interval_ms: 1000, probes: 3, probe_fixed: None }
    }
}
