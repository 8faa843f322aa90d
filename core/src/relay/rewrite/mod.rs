//! Turns a TCP segment into what the other side gets: endpoints, timestamps, the options of SYNs,
//! TTL or hop limit, and where the families differ the IP header. [`datagrams`] does the same for
//! UDP.
//!
//! [`plan`] decides without touching the frame, so that a segment which would not fit is refused
//! (and quoted) as it came; [`apply`] then writes. Checksums are updated, never computed anew (RFC
//! 1624): damage on the way in stays visible at the end.

mod action;
pub mod datagrams;
pub mod families;
mod fragment_ids;
pub mod in_place;
pub mod in_place6;
#[cfg(test)]
mod insertions;
pub mod options;
mod packet_ids;
#[cfg(test)]
pub(in crate::relay) mod plain;
mod tcp_header;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::crypto::HkdfError;
use crate::frame::Frame;
use crate::keys::{Secret, fragment_id_key, packet_id_key};
use crate::verdict::DropReason;
use crate::wire::Datagram;
use crate::wire::tcp::Tcp;
#[cfg(doc)]
use crate::wire::udp;

use families::Ipv6Segment;
use in_place::Ipv4Segment;

pub use action::{IpRewrite, Rewrite, Timestamps};
pub use fragment_ids::FragmentIds;
pub use packet_ids::PacketIds;

/// A segment: where it is in its frame, and its headers.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Offset in bytes of the IP header.
    pub l3: usize,
    /// The IP header.
    pub ip: Datagram,
    /// The TCP header; of a UDP datagram [its own in that form](udp::Udp::in_place_of_tcp).
    pub tcp: Tcp,
}

/// A rewrite that is known to be possible.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// A segment stays in its family.
    InPlace(in_place::Plan),
    /// One changes it: the length in bytes of the IP datagram afterwards.
    Families(usize),
}

impl Plan {
    /// Length in bytes of the IP datagram afterwards.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        match self {
            Plan::InPlace(plan) => plan.total_len,
            Plan::Families(total_len) => *total_len,
        }
    }
}

/// Plans the rewrite of `segment`, whose TCP options are `options`.
///
/// # Errors
/// When the options have no room for the timestamps: [`DropReason::OptionsFull`].
#[inline(always)]
pub fn plan(segment: &Segment, options: &[u8], rewrite: &IpRewrite) -> Result<Plan, DropReason> {
    let Segment { l3, ip, tcp } = segment;
    let l3 = *l3;
    Ok(match (ip, rewrite) {
        (Datagram::V4(ip), IpRewrite::V4(rewrite)) => {
            Plan::InPlace(in_place::plan(&Ipv4Segment { l3, ip, tcp }, options, rewrite)?)
        }
        (Datagram::V4(ip), IpRewrite::V6(_)) => {
            Plan::Families(families::len_4to6(&Ipv4Segment { l3, ip, tcp }))
        }
        (Datagram::V6(ip), IpRewrite::V4(_)) => {
            Plan::Families(families::len_6to4(&Ipv6Segment::new(l3, ip, tcp)))
        }
        (Datagram::V6(ip), IpRewrite::V6(rewrite)) => {
            let segment = Ipv6Segment::new(l3, ip, tcp);
            Plan::InPlace(in_place6::plan(&segment, options, rewrite)?)
        }
    })
}

/// Rewrites `frame` as planned, TTL or hop limit less one. Gives back where its IP header is
/// afterwards. `frame` must end where its datagram ends.
///
/// # Errors
/// When the frame buffer has no room in front ([`DropReason::NoRoom`]), or a segment is too long
/// for IPv4 ([`DropReason::TooBig`]).
#[inline(always)]
pub fn apply<F: Frame>(
    frame: &mut F,
    segment: &Segment,
    rewrite: &IpRewrite,
    plan: &Plan,
) -> Result<usize, DropReason> {
    let Segment { l3, ip, tcp } = segment;
    let l3 = *l3;
    match (ip, rewrite, plan) {
        (Datagram::V4(ip), IpRewrite::V4(rewrite), Plan::InPlace(plan)) => {
            in_place::apply(frame, &Ipv4Segment { l3, ip, tcp }, rewrite, plan)
        }
        (Datagram::V4(ip), IpRewrite::V6(rewrite), _) => {
            families::apply_4to6(frame, &Ipv4Segment { l3, ip, tcp }, rewrite)
        }
        (Datagram::V6(ip), IpRewrite::V4(rewrite), _) => {
            families::apply_6to4(frame, &Ipv6Segment::new(l3, ip, tcp), rewrite)
        }
        (Datagram::V6(ip), IpRewrite::V6(rewrite), Plan::InPlace(plan)) => {
            let (segment, hops) = (Ipv6Segment::new(l3, ip, tcp), ip.header.hop_limit);
            in_place6::apply(frame, &segment, rewrite, plan, hops.wrapping_sub(1))
        }
        // A plan of another rewrite.
        (Datagram::V4(_), IpRewrite::V4(_), Plan::Families(_))
        | (Datagram::V6(_), IpRewrite::V6(_), Plan::Families(_)) => Err(DropReason::NoRoom),
    }
}

/// The IDs that a service with IPv4 on a side gives its datagrams.
#[derive(Clone, Debug)]
pub struct DatagramIds {
    /// Those of datagrams that the POP sends in fragments.
    pub fragments: FragmentIds,
    /// Those of IPv4 datagrams that were IPv6.
    pub packets: PacketIds,
}

impl DatagramIds {
    /// The IDs of the service at `vip`.
    ///
    /// # Errors
    /// When their keys cannot be derived from `secret`.
    pub fn new(secret: &Secret, vip: SocketAddr) -> Result<Self, HkdfError> {
        let fragments = fragment_id_key(secret, vip)?;
        let packets = packet_id_key(secret, vip)?;
        Ok(DatagramIds {
            fragments: FragmentIds::new(&fragments),
            packets: PacketIds::new(&packets),
        })
    }
}
