//! What an egress mode maps: client <-> egress.
//!
//! ```text
//!   client side                      egress side
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
pub use super::pool::permutation::ClientTimestamps;

/// What a client's segment shows of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSide {
    /// Its source.
    pub client: IpEndpoint,
    /// Whether it carries timestamps.
    pub timestamps: ClientTimestamps,
}

impl ClientSide {
    /// The side of `client` in a mode without a tag, where nothing depends on its timestamps.
    #[inline(always)]
    pub fn without_tag(client: IpEndpoint) -> Self {
        ClientSide { client, timestamps: ClientTimestamps::Absent }
    }
}

/// What stands for a client at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressSide {
    /// The source of the client's segments as the target sees them, and so the destination of the
    /// target's.
    pub egress: IpEndpoint,
    /// The tag, in the modes that have one: TSval towards the target, TSecr on the way back.
    pub tag: Option<u32>,
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

/// A tag: the part of a mapping that travels in TCP timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// TSval towards the target, TSecr on the way back.
    pub value: u32,
    /// Whether the client's own segments carry timestamps.
    pub timestamps: ClientTimestamps,
}

impl Mapping {
    /// The mapping of two sides, one of which was mapped to the other.
    #[inline]
    pub fn new(client: ClientSide, egress: EgressSide, target: IpEndpoint) -> Self {
        let ClientSide { client, timestamps } = client;
        let EgressSide { egress, tag } = egress;
        Mapping { client, egress, target, tag: tag.map(|value| Tag { value, timestamps }) }
    }
}

/// An egress mode. Both functions work on the shorter of the two slices, up to [`BURST`].
pub trait EgressMode: Debug {
    /// The name of the mode, as commands print it.
    fn name(&self) -> &'static str;

    /// Maps each of `clients` into the same place of `out`.
    fn outward(&self, clients: &[ClientSide], out: &mut [Result<EgressSide, DropReason>]);

    /// Finds the client of each of `egress` into the same place of `out`.
    fn inward(&self, egress: &[EgressSide], out: &mut [Result<ClientSide, DropReason>]);
}
