//! What no longer matters, and what may be left out where a list gets too long.

use std::net::SocketAddr;

use anyrelay_core::config::{Target, TargetList};
use anyrelay_core::time::UnixTime;

/// `list` without what no POP asks about any more at `now`: entries that ended before the memory,
/// and the `since` of others where it lies before the memory. Epochs within the memory stay as they
/// are. The serial stays, too.
///
/// Entries that are gone stay until the memory ends. A POP sends nothing by them, and without them
/// the connections of their time would seem to have begun at other targets, each of which counts as
/// a candidate.
#[must_use]
pub fn prune(list: &TargetList, now: UnixTime) -> TargetList {
    let mut list = list.clone();
    // The clock of a POP may be behind by the skew.
    let begin = now.minus_millis(list.memory_ms).minus_millis(list.skew_ms);
    list.entries.retain(|target| target.until > begin);
    for target in &mut list.entries {
        if target.since <= begin {
            target.since = UnixTime::default();
        }
    }
    list.entries.sort_unstable();
    list
}

/// `list` without the short times in which a target was back and died again: of the entries of
/// `address`, or of each address, that are gone for good at `now`, the first one alone stays.
///
/// This breaks no live connection. Those that the target got in that time are gone; those that
/// other targets got then are still looked for at these, because without the target the same
/// clients have the same winners.
#[must_use]
pub(super) fn merge_gone(
    list: &TargetList,
    address: Option<SocketAddr>,
    now: UnixTime,
) -> TargetList {
    let mut first_of = None;
    let mut merged = list.clone();
    merged.entries.sort_unstable();
    merged.entries.retain(|target| {
        let is_meant = address.is_none_or(|address| address == target.address);
        if !is_meant || !is_past(list, target, now) {
            return true;
        }
        // The entries of an address follow one another.
        let is_first = first_of != Some(target.address);
        first_of = Some(target.address);
        is_first
    });
    merged
}

/// `list` without all entries that are gone for good at `now`, those of `address` or all.
#[must_use]
pub(super) fn without_gone(
    list: &TargetList,
    address: Option<SocketAddr>,
    now: UnixTime,
) -> TargetList {
    let mut rest = list.clone();
    rest.entries.retain(|target| {
        let is_meant = address.is_none_or(|address| address == target.address);
        !is_meant || !is_past(list, target, now)
    });
    rest
}

/// Whether no POP sends anything by `target` any more because it is gone.
fn is_past(list: &TargetList, target: &Target, now: UnixTime) -> bool {
    target.gone.plus_millis(list.skew_ms.saturating_mul(2)) < now
}
