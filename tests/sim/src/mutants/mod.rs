//! POPs that are wrong on purpose, in ways that look right to most hosts.

mod open;
mod refusals;
mod stamps;

pub use refusals::Teller;
pub use stamps::Mutant;
