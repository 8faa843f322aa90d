//! The targets of services, with their dates.

mod choice;
mod plan;

pub use choice::{Choice, Entry, Hashes, NEVER, TargetList};
pub use plan::{Changes, draw};
