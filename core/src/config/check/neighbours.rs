//! Checks `[neighbours]`.

use super::report::Report;
use crate::config::raw::RawNeighbours;
use crate::config::{NEIGHBOUR_EXPIRE_MS, NeighboursConfig};

/// When gateways are queried.
pub(super) fn neighbours(report: &mut Report, raw: &RawNeighbours) -> NeighboursConfig {
    let mut number = |key: &str, value, low, high| {
        report.number(&format!("neighbours.{key}"), value, low, high).unwrap_or_default()
    };
    let times = NeighboursConfig {
        refresh_ms: number("refresh_ms", raw.refresh_ms, 100, 30_000),
        probe_interval_ms: number("probe_interval_ms", raw.probe_interval_ms, 100, 5000),
        probes: number("probes", raw.probes, 1, 10),
        probe_fixed: raw.probe_fixed,
    };
    let silent_ms = times.refresh_ms + times.probes * times.probe_interval_ms;
    if silent_ms >= NEIGHBOUR_EXPIRE_MS {
        report.error(
            "neighbours",
            format!(
                "a gateway would be missed after {silent_ms} ms (refresh_ms + probes * \
                 probe_interval_ms), but its address is used for {NEIGHBOUR_EXPIRE_MS} ms only; \
                 make one of them less"
            ),
        );
    }
    times
}
