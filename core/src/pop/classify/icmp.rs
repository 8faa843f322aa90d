//! Reads ICMP and ICMPv6 messages.

use std::net::IpAddr;

use super::super::arrival::Arrival;
use super::super::packet::Step;
use super::host;
use crate::net::Address;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::icmp::{self, ParseError};
use crate::wire::icmpv6;
use crate::wire::ipv6::Ipv6;
use crate::wire::{Datagram, Ipv6Datagram};

/// Reads an ICMP message from `src`.
pub(super) fn read_v4(
    arrival: &Arrival<'_>,
    src: u32,
    to: Destination,
    message: &[u8],
) -> Result<Step, DropReason> {
    match icmp::parse(message).map_err(refused)? {
        icmp::Kind::EchoRequest => echo(arrival, src.ip(), to),
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
        icmpv6::Kind::EchoRequest => echo(arrival, header.src.ip(), to),
        icmpv6::Kind::Error { .. } => error(to),
        icmpv6::Kind::Other => Err(unwanted(to)),
    }
}

/// Reads the ICMP message of a target in a tunnel, in the datagram with the header `ip`: nothing
/// but errors goes on.
pub(super) fn read_error(ip: &Datagram, message: &[u8]) -> Result<Step, DropReason> {
    let is_error = match ip {
        Datagram::V4(_) => {
            matches!(icmp::parse(message).map_err(refused)?, icmp::Kind::Error { .. })
        }
        Datagram::V6(Ipv6Datagram { header, .. }) => {
            let kind = icmpv6::parse(header.src, header.dst, message).map_err(refused)?;
            matches!(kind, icmpv6::Kind::Error { .. })
        }
    };
    if is_error { Ok(Step::IcmpError) } else { Err(DropReason::IcmpType) }
}

/// An echo request is answered for VIPs and the port's addresses.
fn echo(arrival: &Arrival<'_>, src: IpAddr, to: Destination) -> Result<Step, DropReason> {
    if !host::is_own(to) {
        Err(unwanted(to))
    } else if host::may_ask(arrival, src) {
        Ok(Step::Echo)
    } else {
        Err(DropReason::SourceNotAllowed)
    }
}

/// Whom an error concerns shows its quote.
fn error(to: Destination) -> Result<Step, DropReason> {
    match to {
        Destination::Vip | Destination::Pool(_) | Destination::Other { .. } => Ok(Step::IcmpError),
        Destination::Own(_) | Destination::Open(_) => Err(unwanted(to)),
    }
}

fn unwanted(to: Destination) -> DropReason {
    if to.is_other() { DropReason::NotOurs } else { DropReason::IcmpType }
}

fn refused(error: ParseError) -> DropReason {
    match error {
        ParseError::Malformed => DropReason::IcmpMalformed,
        ParseError::Checksum => DropReason::IcmpChecksum,
    }
}
