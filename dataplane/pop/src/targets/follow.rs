//! Follows a target that dies and comes back, perhaps again and again.

use std::net::SocketAddr;

use anyrelay_core::config::TargetList;
use anyrelay_core::time::UnixTime;

use super::edit::{Leave, add, drain};
use super::prune::merge_gone;
use super::{Dates, Refusal};

/// What became of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The new list.
    Changed(TargetList),
    /// The list says it already.
    Unchanged,
    /// The target stays out for now. The time at which to ask again.
    Later(UnixTime),
}

/// Changes `list` for a target that was found alive or dead.
///
/// A dead one takes no new connections from the date on, and twice the skew later its connections
/// are given up. One that is back takes connections from the date on, with the weight that it had
/// last (`weight` for one that the list does not have, else 1), but no earlier than `hold_ms`
/// milliseconds after its last end; until then it stays out ([`Followed::Later`]). So it does where
/// the list would have too many dates or make too many candidates, if waiting helps.
///
/// A target that flaps uses two dates, however often it does so:
///
/// - What has not come into force by the date is taken back: an end, or a return.
/// - Once an end is in force, its gap cannot be closed: connections that began within it are at
///   other targets, which would no longer be asked. So the target stays out instead.
/// - When it is gone again after a return, the time between is taken out of the list, as if it had
///   stayed out: of that time it has no connections any more, and those of others stay where they
///   are.
///
/// Apply the changes of several targets one after the other with the same `dates`: they use one
/// date. Whether a target that an operator drained may come back is for the caller to decide.
///
/// # Errors
/// [`Refusal::Last`] if no target would take connections: a dead one then stays in, since it cannot
/// be worse than none. [`Refusal::TooEarly`], [`Refusal::Weight`], [`Refusal::Unknown`] for a dead
/// one that the list does not have, and [`Refusal::Limits`].
pub fn follow(
    list: &TargetList,
    address: SocketAddr,
    is_alive: bool,
    weight: Option<u16>,
    dates: Dates,
    hold_ms: u64,
) -> Result<Followed, Refusal> {
    let merged = merge_gone(list, Some(address), dates.now);
    let own = || list.entries.iter().filter(|target| target.address == address);
    if !is_alive {
        let leave = Leave { gone: true, last: false };
        let drained = drain(&merged, address, leave, dates)?;
        return Ok(drained.map_or(Followed::Unchanged, Followed::Changed));
    }
    let lead_ms = dates.at.as_millis().saturating_sub(dates.now.as_millis());
    let ends = own().map(|target| target.until).filter(|until| *until < dates.at);
    if let Some(end) = ends.max()
        && own().all(|target| target.until < dates.at)
        && dates.at < end.plus_millis(hold_ms)
    {
        return Ok(Followed::Later(end.plus_millis(hold_ms).minus_millis(lead_ms)));
    }
    let is_known = own().next().is_some();
    match add(&merged, address, weight.filter(|_| !is_known), dates) {
        Ok(list) => Ok(Followed::Changed(list)),
        Err(Refusal::Takes(_)) => Ok(Followed::Unchanged),
        Err(Refusal::Limits { later: Some(later), .. }) => {
            Ok(Followed::Later(later.minus_millis(lead_ms)))
        }
        Err(refusal) => Err(refusal),
    }
}
