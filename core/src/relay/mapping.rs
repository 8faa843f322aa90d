//! What an egress mode maps: client <-> egress.
//!
//! ```text
//!   client                           egress side
//!
//!   client --> VIP    outward ==>    egress --> target
//!   client <-- VIP    <== inward     egress <-- target
//! ```
//!
//! Which target it is depends on the client alone ([`targets`](super::targets)).

use std::fmt::Debug;

use crate::net::IpEndpoint;
use crate::verdict::DropReason;

pub use super::pool::feistel::BURST;

/// A tag: the part of an egress side that travels in TCP timestamps, as TSval towards the target
/// and as TSecr on the way back. It is a number of 31 bits; the lowest bit of the timestamp says
/// whether the segment is a SYN that had no timestamps itself (`docs/protocol.md`, section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// The largest tag of a client: that of the last rest.
    pub const MAX: Tag = Tag((1 + ((1u64 << REST_BITS) - 1) / PORTS) as u32);

    /// The timestamp of a SYN of the client without timestamps: the oldest of its connection.
    #[inline(always)]
    pub fn of_bare_syn(self) -> u32 {
        self.0 << 1
    }

    /// The timestamp of every other segment of the client.
    #[inline(always)]
    pub fn timestamp(self) -> u32 {
        self.0 << 1 | 1
    }

    /// The tag in a timestamp.
    #[inline(always)]
    pub fn of_timestamp(timestamp: u32) -> Tag {
        Tag(timestamp >> 1)
    }

    /// Whether a timestamp is that of a SYN without timestamps, or of the answer to one.
    #[inline(always)]
    pub fn is_of_bare_syn(timestamp: u32) -> bool {
        timestamp & 1 == 0
    }
}

/// Bits that tag and egress port hold together, of pools of either family.
pub(super) const REST_BITS: u32 = 46;
/// The lowest egress port of a pool.
pub(super) const FIRST_PORT: u16 = 1024;
/// How many egress ports an address of a pool has.
pub(super) const PORTS: u64 = 65536 - FIRST_PORT as u64;

const _: () = assert!(Tag::MAX.0 < 1 << 31);

/// What stands for a client at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressSide {
    /// The source of the client's segments as the target sees them, and so the destination of the
    /// target's.
    pub egress: IpEndpoint,
    /// The tag, in the modes that have one.
    pub tag: Option<Tag>,
}

/// A client, what stands for it, and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The client.
    pub client: IpEndpoint,
    /// The source of its segments as the target sees them.
    pub egress: IpEndpoint,
    /// The target.
    pub target: IpEndpoint,
    /// The tag in its timestamps, in the modes that have one.
    pub tag: Option<Tag>,
}

impl Mapping {
    /// The mapping of a client and its egress side, one of which was mapped to the other.
    #[inline]
    pub fn new(client: IpEndpoint, side: EgressSide, target: IpEndpoint) -> Self {
        let EgressSide { egress, tag } = side;
        Mapping { client, egress, target, tag }
    }
}

/// An egress mode. Both functions work on the shorter of the two slices, up to [`BURST`].
pub trait EgressMode: Debug {
    /// The name of the mode, as commands print it.
    fn name(&self) -> &'static str;

    /// Maps each of `clients` into the same place of `out`.
    fn outward(&self, clients: &[IpEndpoint], out: &mut [Result<EgressSide, DropReason>]);

    /// Finds the client of each of `egress` into the same place of `out`.
    fn inward(&self, egress: &[EgressSide], out: &mut [Result<IpEndpoint, DropReason>]);
}
