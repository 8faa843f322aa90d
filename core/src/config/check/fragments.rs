//! Checks the policy for fragments and its limits.

use super::super::Fragments;
use super::super::raw::{RawConfig, RawFragmentLimits, RawFragments};
use super::report::Report;
use crate::fragment::{FragmentLimits, LEFT_FOR_EACH, PER_DATAGRAM_MAX};

pub(super) fn policy(report: &mut Report, raw: &RawConfig) -> Fragments {
    match (raw.pop.fragments, &raw.fragments) {
        (RawFragments::Drop, None) => Fragments::Drop,
        (RawFragments::Drop, Some(_)) => {
            report.error(
                "fragments",
                "there are no fragments to be kept with pop.fragments = \"drop\"; remove the \
                 table, or set \"reassemble\"",
            );
            Fragments::Drop
        }
        (RawFragments::Reassemble, limits) => {
            let default = RawFragmentLimits::default();
            Fragments::Reassemble(self::limits(report, raw, limits.as_ref().unwrap_or(&default)))
        }
    }
}

fn limits(report: &mut Report, raw: &RawConfig, limits: &RawFragmentLimits) -> FragmentLimits {
    let workers = (raw.worker.len() as i64).max(1);
    // All workers together may keep half of the frames, so that the others can still be forwarded.
    let share = raw.dpdk.mbufs / 2 / workers;
    // A wrong number of frames is reported at its own key.
    let share = share.max(FRAMES_MIN);
    let buffers = limits.buffers.unwrap_or(share.min(FRAMES_DEFAULT));
    if buffers > share {
        report.error(
            "fragments.buffers",
            format!(
                "{buffers} for each of {workers} workers are more than half of dpdk.mbufs = {}: \
                 take {share} at most, or raise that",
                raw.dpdk.mbufs
            ),
        );
    }
    let mut number = |key: &str, value, low, high| {
        report.number(&format!("fragments.{key}"), value, low, high).unwrap_or_default()
    };
    FragmentLimits {
        datagrams: number("datagrams", limits.datagrams, 16, 1 << 16),
        per_datagram: number("per_datagram", limits.per_datagram, 2, PER_DATAGRAM_MAX as i64) as u8,
        buffers: number("buffers", buffers, FRAMES_MIN, 1 << 20),
        // TCP retransmits after 200 ms at the earliest, and rarely with the same ID.
        timeout_ms: number("timeout_ms", limits.timeout_ms, 10, 30_000),
    }
}

/// The default number of frame buffers of a worker, if half of the pool is no less.
const FRAMES_DEFAULT: i64 = 2048;
/// The least number of frame buffers of a worker.
const FRAMES_MIN: i64 = 32;

// A datagram must fit into the share of one network, however few the frames are.
const _: () = assert!(FRAMES_MIN as usize >= (1 + LEFT_FOR_EACH) * PER_DATAGRAM_MAX);
