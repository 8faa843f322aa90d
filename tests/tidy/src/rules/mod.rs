//! The rules. Each takes the tree and returns its violations.

pub mod circles;
pub mod edges;
pub mod leftovers;
pub mod names;
pub mod order;
pub mod size;
pub mod style;
