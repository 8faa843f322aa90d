//! Changes of a list of targets that break no live connection.
//!
//! Pure functions over a [`TargetList`]: no clock, no file. Each change has a date
//! ([`Dates::at`]) at which every POP must have the new list. Up to that date the new list says
//! what the old one said of every time that POPs still ask about (docs/protocol.md, section 19);
//! from then on it says what was asked for. What an earlier change had set for later is overwritten
//! for the same target, and stays for the others.
//!
//! A function that changes a list returns `None` if there is nothing to change. A new list has the
//! next serial, is without entries that no longer matter, and passes the checks of a targets file.

mod edit;
mod follow;
mod prune;
mod retry;
mod state;

use std::net::SocketAddr;

use anyrelay_core::config::{MAX_WEIGHT, TargetList};
use anyrelay_core::time::{UnixTime, format_duration, format_time};
use thiserror::Error;

pub use edit::{Leave, add, drain, first, remove, weight};
pub use follow::{Followed, follow};
pub use prune::prune;
pub use state::{State, state};

/// When a change is made, and when it comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The time now.
    pub now: UnixTime,
    /// The date of the change. Nothing that the list says of earlier times is changed, so that
    /// every POP must have the new list by then.
    pub at: UnixTime,
}

impl Dates {
    /// A change of `list` that is made at `now`, and that reaches the last POP `lead_ms`
    /// milliseconds later: twice the skew after that, in whole seconds.
    pub fn after(list: &TargetList, now: UnixTime, lead_ms: u64) -> Self {
        let at = now.plus_millis(lead_ms).plus_millis(list.skew_ms.saturating_mul(2));
        Dates { now, at: whole_seconds(at) }
    }

    /// The same change at another date.
    #[must_use]
    pub fn moved_to(self, at: UnixTime) -> Self {
        Dates { at, ..self }
    }

    /// The first date in whole seconds that a change of `list` may have at `now`: after what POPs
    /// already look at.
    pub fn earliest(list: &TargetList, now: UnixTime) -> UnixTime {
        whole_seconds(now.plus_millis(list.skew_ms).plus_millis(1))
    }

    /// Refuses a date that POPs already look at.
    fn check(self, list: &TargetList) -> Result<(), Refusal> {
        if self.at > self.now.plus_millis(list.skew_ms) {
            return Ok(());
        }
        let earliest = Dates::earliest(list, self.now);
        Err(Refusal::TooEarly { at: self.at, earliest, skew_ms: list.skew_ms })
    }
}

/// Why a list is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The date is one that POPs already look at.
    #[error(
        "the change cannot have the date {}: POPs look up to {} ahead; the earliest date is {}",
        format_time(*.at), format_duration(*.skew_ms), format_time(*.earliest)
    )]
    TooEarly {
        /// The date.
        at: UnixTime,
        /// The earliest one.
        earliest: UnixTime,
        /// The skew of the list, in milliseconds.
        skew_ms: u64,
    },
    /// The list does not have the target.
    #[error("{0} is no target of this list")]
    Unknown(SocketAddr),
    /// The address is of another family than the others.
    #[error("{0} is of another family than the other targets of this list; all must be of one")]
    Family(SocketAddr),
    /// The target to add takes connections at the date and has no end.
    #[error("{0} takes connections already; to change its weight, use `weight`")]
    Takes(SocketAddr),
    /// The target to weigh takes no connections from the date on.
    #[error("{0} takes no new connections then; `add` makes it take them, with --weight")]
    TakesNone(SocketAddr),
    /// No target would take connections.
    #[error("no target would take connections from {} on; add another one first", format_time(*.0))]
    Last(UnixTime),
    /// A weight out of range.
    #[error("the weight {0} is out of range: it must be 1 to {MAX_WEIGHT}")]
    Weight(u16),
    /// The new list would not pass the checks.
    #[error("{reason}")]
    Limits {
        /// What the checks say.
        reason: String,
        /// The first date at which the same change would pass; `None` if none was found.
        later: Option<UnixTime>,
    },
}

/// `time`, or the next whole second.
fn whole_seconds(time: UnixTime) -> UnixTime {
    let millis = time.as_millis();
    UnixTime::from_millis(millis.checked_next_multiple_of(1000).unwrap_or(millis))
}

#[cfg(test)]
mod tests;
