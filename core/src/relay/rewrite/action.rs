//! What a segment becomes, as data.

use super::options::{OptionsRule, TimestampsAt, TimestampsOption};
use crate::net::{Endpoints, IpEndpoints};

/// What happens to the timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// They stay, or there are none.
    Keep,
    /// TSval becomes the tag: client to target, when the client has timestamps.
    SetValue(TimestampsAt, u32),
    /// TSecr becomes this: 0 on the way to a client with timestamps, the tag in a quote for the
    /// target.
    SetEcho(TimestampsAt, u32),
    /// `NOP NOP TS {value, echo}` is inserted: `{tag, 0}` on the way to the target when the client
    /// has no timestamps, `{0, tag}` in a quote of a target's segment.
    Insert(TimestampsOption),
    /// They are removed: target to client, when the client has no timestamps.
    Strip,
}

/// What a segment becomes over IPv4, or with `u128` over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite<A: Copy = u32> {
    /// Source and destination afterwards.
    pub endpoints: Endpoints<A>,
    /// What happens to the timestamps; only segments that stay in their family have another than
    /// [`Timestamps::Keep`].
    pub timestamps: Timestamps,
    /// What happens to the other options.
    pub options: OptionsRule,
    /// Whether the address of the segment's source, a client's, is inserted for the target, for
    /// which there is room; only in segments that stay in their family.
    pub client_address: bool,
    /// The ID of an IPv4 datagram that was IPv6 and [may be
    /// fragmented](super::families::may_be_fragmented); others keep theirs, or have none.
    pub id: u16,
}

/// What a segment becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpRewrite {
    /// An IPv4 segment.
    V4(Rewrite<u32>),
    /// An IPv6 segment.
    V6(Rewrite<u128>),
}

impl IpRewrite {
    /// The rewrite to `endpoints`, without an ID and without a client's address.
    #[inline(always)]
    pub fn new(endpoints: IpEndpoints, timestamps: Timestamps, options: OptionsRule) -> Self {
        match endpoints {
            IpEndpoints::V4(endpoints) => {
                let client_address = false;
                IpRewrite::V4(Rewrite { endpoints, timestamps, options, client_address, id: 0 })
            }
            IpEndpoints::V6(endpoints) => {
                let client_address = false;
                IpRewrite::V6(Rewrite { endpoints, timestamps, options, client_address, id: 0 })
            }
        }
    }
    /// The same, with the address of the segment's source inserted if `tells`.
    #[inline(always)]
    pub fn with_client_address(mut self, tells: bool) -> Self {
        match &mut self {
            IpRewrite::V4(rewrite) => rewrite.client_address = tells,
            IpRewrite::V6(rewrite) => rewrite.client_address = tells,
        }
        self
    }
}
