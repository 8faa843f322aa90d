//! Segments of relays, and ICMP errors about them.

pub(super) mod icmp;
pub(super) mod refusals;
pub(super) mod segment;
