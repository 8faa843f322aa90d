//! What the POP answers as a host: datagrams to VIPs and to the addresses of its ports.

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::packet::Step;
use crate::net::is_unicast;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::ipv4::PROTOCOL_UDP;

/// Whether the POP is the host that `to` means.
pub(super) fn is_own(to: Destination) -> bool {
    matches!(to, Destination::Vip | Destination::Own(_))
}

/// Whether an answer may go to `src`: not to a group, nor back to a POP.
pub(super) fn may_ask(arrival: &Arrival<'_>, src: IpAddr) -> bool {
    let unicast = match src {
        IpAddr::V4(src) => is_unicast(src.to_bits()),
        IpAddr::V6(_) => true,
    };
    unicast && arrival.source_ok(src)
}

/// Reads a datagram of `src` that is neither TCP nor ICMP. UDP is answered where an echo request
/// would be.
#[cold]
pub(super) fn read_other(
    arrival: &Arrival<'_>,
    (src, protocol): (IpAddr, u8),
    to: Destination,
) -> Result<Step, DropReason> {
    match to {
        Destination::Other { .. } => Err(DropReason::NotOurs),
        _ if protocol == PROTOCOL_UDP && is_own(to) && may_ask(arrival, src) => Ok(Step::Udp),
        _ => Err(DropReason::Protocol),
    }
}
