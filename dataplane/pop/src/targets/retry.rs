//! When a change that is refused now would pass.

use anyrelay_core::config::TargetList;
use anyrelay_core::time::UnixTime;

use super::{Dates, Refusal, whole_seconds};

/// The result of `change` at the date of `dates`. If the new list would not pass the checks, the
/// refusal has the first date at which it would.
pub(super) fn with_later<T>(
    list: &TargetList,
    dates: Dates,
    change: impl Fn(Dates) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let reason = match change(dates) {
        Err(Refusal::Limits { reason, .. }) => reason,
        other => return other,
    };
    let mut others = other_dates(list, dates.at);
    others.truncate(TRIES_MAX);
    let later = others.into_iter().find(|at| change(dates.moved_to(*at)).is_ok());
    Err(Refusal::Limits { reason, later })
}

/// The dates later than `at` at which the limits may be others, ascending: those of the list, at
/// which a change costs no date of its own, and those at which one of them is forgotten.
fn other_dates(list: &TargetList, at: UnixTime) -> Vec<UnixTime> {
    let events = list.events();
    let forgotten = |event: &UnixTime| {
        whole_seconds(event.plus_millis(list.memory_ms).plus_millis(list.skew_ms).plus_millis(1))
    };
    let mut dates: Vec<_> = events.iter().map(forgotten).chain(events.iter().copied()).collect();
    dates.retain(|date| *date > at);
    dates.sort_unstable();
    dates.dedup();
    dates
}

/// Dates that are tried: all events within a memory, and the ends of theirs.
const TRIES_MAX: usize = 40;
