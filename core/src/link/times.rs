//! How long hardware addresses are used, and how many are kept.

use crate::config::{NEIGHBOUR_EXPIRE_MS, NeighboursConfig};

/// A host on a link is queried again when its last answer is older than this; a gateway by default.
pub const REFRESH_MS: u64 = 20_000;
/// A neighbour whose last answer is older than this is not used.
pub const EXPIRE_MS: u64 = NEIGHBOUR_EXPIRE_MS as u64;
/// A host on a link is queried at most once in this time; a gateway by default.
pub const ASK_INTERVAL_MS: u64 = 1_000;
/// A gateway that leaves so many queries unanswered gives up its share, by default.
pub const PROBES: u64 = 3;
/// Most on-link hosts of each family that are remembered, besides gateways.
pub const HOSTS_MAX: usize = 4096;

/// When a neighbour is queried, and when it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTimes {
    /// Age of the last answer from which on it is queried again, in milliseconds.
    pub refresh_ms: u64,
    /// Least time between two queries, in milliseconds; also how long an answer may take.
    pub interval_ms: u64,
    /// It is silent when so many queries went unanswered.
    pub probes: u64,
}

impl ProbeTimes {
    /// Those of hosts on a link, and the defaults of gateways.
    pub const HOST: ProbeTimes =
        ProbeTimes { refresh_ms: REFRESH_MS, interval_ms: ASK_INTERVAL_MS, probes: PROBES };
}

impl From<&NeighboursConfig> for ProbeTimes {
    fn from(config: &NeighboursConfig) -> Self {
        ProbeTimes {
            refresh_ms: config.refresh_ms.into(),
            interval_ms: config.probe_interval_ms.into(),
            probes: config.probes.into(),
        }
    }
}
