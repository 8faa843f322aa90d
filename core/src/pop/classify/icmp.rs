//! Reads ICMP and ICMPv6 messages, and what is neither that nor TCP.

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::packet::Step;
use crate::net::{Address, is_unicast};
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::icmp::{self, ParseError};
use crate::wire::icmpv6;
use crate::wire::ipv4::PROTOCOL_UDP;
use crate::wire::ipv6::Ipv6;

/// Reads an ICMP message from `src`.
pub(super) fn read_v4(
    arrival: &Arrival<'_>,
    src: u32,
    to: Destination,
    message: &[u8],
) -> Result<Step, DropReason> {
    match icmp::parse(message).map_err(refused)? {
        icmp::Kind::EchoRequest => echo(to, || is_unicast(src) && arrival.source_ok(src.ip())),
        icmp::Kind::Error { .. } => error(to),
        icmp::Kind::Other => Err(unwanted(to)),
    }
}

/// Reads the ICMPv6 message of the datagram with `header`.
pub(super) fn read_v6(
    arrival: &Arrival<'_>,
    header: &Ipv6,
    to: Destination,
    message: &[u8],
) -> Result<Step, DropReason> {
    match icmpv6::parse(header.src, header.dst, message).map_err(refused)? {
        icmpv6::Kind::Solicitation => Ok(Step::NeighbourSolicitation),
        icmpv6::Kind::Advertisement => Ok(Step::NeighbourAdvertisement),
        icmpv6::Kind::EchoRequest => echo(to, || arrival.source_ok(header.src.ip())),
        icmpv6::Kind::Error { .. } => error(to),
        icmpv6::Kind::Other => Err(unwanted(to)),
    }
}

/// Reads a datagram of a protocol that the POP does not relay, from `src` of a host or not. UDP is
/// answered where an echo request would be.
#[cold]
pub(super) fn read_other(
    arrival: &Arrival<'_>,
    (src, protocol): (IpAddr, u8),
    to: Destination,
) -> Result<Step, DropReason> {
    let host = match src {
        IpAddr::V4(src) => is_unicast(src.to_bits()),
        IpAddr::V6(_) => true,
    };
    match to {
        Destination::Vip | Destination::Own(_)
            if protocol == PROTOCOL_UDP && host && arrival.source_ok(src) =>
        {
            Ok(Step::Udp)
        }
        Destination::Other => Err(DropReason::NotOurs),
        _ => Err(DropReason::Protocol),
    }
}

/// An echo request is answered for VIPs and the port's addresses. A reply must not go to a group,
/// or come back to a POP.
fn echo(to: Destination, source_ok: impl Fn() -> bool) -> Result<Step, DropReason> {
    match to {
        Destination::Vip | Destination::Own(_) if source_ok() => Ok(Step::Echo),
        Destination::Vip | Destination::Own(_) => Err(DropReason::SourceNotAllowed),
        Destination::Pool(_) | Destination::Other => Err(unwanted(to)),
    }
}

/// Whom an error concerns shows its quote.
fn error(to: Destination) -> Result<Step, DropReason> {
    match to {
        Destination::Vip | Destination::Pool(_) | Destination::Other => Ok(Step::IcmpError),
        Destination::Own(_) => Err(unwanted(to)),
    }
}

fn unwanted(to: Destination) -> DropReason {
    if to == Destination::Other { DropReason::NotOurs } else { DropReason::IcmpType }
}

fn refused(error: ParseError) -> DropReason {
    match error {
        ParseError::Malformed => DropReason::IcmpMalformed,
        ParseError::Checksum => DropReason::IcmpChecksum,
    }
}
