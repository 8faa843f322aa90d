//! What an egress mode maps: client <-> egress <-> target.
//!
//! ```text
//!   client --> VIP        outward: egress(client), target(client)
//!   egress --> target
//!
//!   target --> egress     inward: client(egress)
//!   VIP    --> client
//! ```

use std::fmt::Debug;

use crate::net::IpEndpoint;
use crate::verdict::DropReason;

pub use super::pool::feistel::BURST;
pub use super::pool::permutation::ClientTimestamps;

/// A client and what stands for it at its target.
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

/// What a client's segment shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSide {
    /// Its source.
    pub client: IpEndpoint,
    /// Whether it carries timestamps.
    pub timestamps: ClientTimestamps,
}

/// What a target's segment shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetSide {
    /// Its destination.
    pub egress: IpEndpoint,
    /// Its TSecr, if it has timestamps.
    pub tag: Option<u32>,
    /// Its source.
    pub target: IpEndpoint,
}

/// An egress mode. Both functions work on the shorter of the two slices, up to [`BURST`].
pub trait EgressMode: Debug {
    /// The name of the mode, as commands print it.
    fn name(&self) -> &'static str;

    /// The targets of the service, ascending.
    fn targets(&self) -> Vec<IpEndpoint>;

    /// The weight of `target` for `client`, by the definition of the choice: the highest wins.
    /// `None` where the families do not fit.
    fn weight(&self, client: IpEndpoint, target: IpEndpoint) -> Option<u64>;

    /// Maps each of `clients` into the same place of `out`.
    fn outward(&self, clients: &[ClientSide], out: &mut [Result<Mapping, DropReason>]);

    /// Finds the client of each of `answers` into the same place of `out`.
    fn inward(&self, answers: &[TargetSide], out: &mut [Result<Mapping, DropReason>]);
}
