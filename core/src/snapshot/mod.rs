//! What workers read: config and keys, ready for use, never changed once built.
//!
//! A reload builds a new snapshot beside the old one and swaps them between bursts. The lookups
//! here are those of the packet path.

mod addresses;
mod compiled;
mod digest;
mod meanings;
mod on_link;
mod plans;
mod relays;
mod reload;
mod service;
mod slots;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod tunnels;
mod udp;

pub use compiled::Snapshot;
pub use digest::MAPPING_VERSION;
pub use reload::{Conflict, ConflictKind, reload_conflicts};
pub use service::{Destination, PoolIndex, Service, TargetPlace};
pub use tables::Tabled;
pub use tunnels::Tunnel;
