//! Segments of relays, and ICMP errors about them.

pub(super) mod ask;
pub(super) mod datagram;
pub(super) mod icmp;
pub(super) mod outer;
pub(super) mod owners;
mod place;
pub(super) mod refusals;
pub(super) mod segment;
