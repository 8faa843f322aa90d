//! The targets of a relay, with the dates at which new connections begin and end to go to them.
//!
//! Between two dates the targets and their weights do not change: that is an [`Epoch`]. Where a
//! client's segment may have to go at a time follows from the epochs in which its connection may
//! have begun ([`TargetList::window`]).

mod candidates;
mod change;
mod list;
mod moved;

pub use candidates::most_candidates;
pub use change::{Harm, harm, kept_epochs};
pub use list::{
    Epoch, MAX_CANDIDATES, MAX_ENTRIES, MAX_EVENTS, MAX_TARGETS, MAX_WEIGHT, MEMORY_MS, SKEW_MS,
    Target, TargetList, choice,
};
pub use moved::moved_share;
