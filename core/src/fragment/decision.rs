//! Where a fragment arrived, and the decision on it.

use crate::net::{PortIndex, Side};
use crate::time::Instant;

/// When and where a fragment arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentArrival {
    /// The time.
    pub now: Instant,
    /// The port.
    pub port: PortIndex,
    /// The side of the port.
    pub side: Side,
}

/// The decision on a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Its frame is to be kept.
    Waits,
    /// Its frame is to be kept; with it the datagram is complete.
    Completes(Reassembled),
    /// It was counted, and its frame is to be freed.
    Refused,
}

/// A datagram all of whose fragments arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reassembled {
    /// The port through which its first fragment arrived, whose Ethernet and IP header it has.
    pub port: PortIndex,
    /// The number of its fragments.
    pub fragments: usize,
    /// The length of its payload in bytes.
    pub len: usize,
    /// Whether a router marked one of the fragments (CE).
    pub is_marked: bool,
}
