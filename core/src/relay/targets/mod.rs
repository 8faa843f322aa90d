//! Which of a service's targets a client belongs to: every POP chooses the same ones without
//! asking.
//!
//! A SYN goes to the winner among the targets that take new connections now. A later segment may
//! belong to a connection that began under other targets, or by the clock of another POP: its
//! *candidates* are the winners of all epochs in which its connection may have begun.

pub mod log;
pub mod rendezvous;

mod candidates;
mod choice;

pub use candidates::{Candidates, Chosen, TargetIndex, TargetSlot};
pub use choice::{Targets, Window};
