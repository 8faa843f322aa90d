//! Reads IP headers, of whole frames and of what is in a tunnel.

use super::super::packet::Packet;
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::ipv4::{self, Ipv4, Ipv4Error, Options};
use crate::wire::ipv6::{ExtensionError, Ipv6, Upper};
use crate::wire::{Datagram, Ipv6Datagram};

/// Reads the IPv4 header at the `l3` of `packet`, and cuts off what follows its datagram.
#[inline(always)]
pub(super) fn ipv4<F: Frame>(packet: &mut Packet, frame: &mut F) -> Result<Ipv4, DropReason> {
    let l3 = packet.segment.l3;
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let ip = Ipv4::parse(datagram).map_err(|error| match error {
        Ipv4Error::Malformed => DropReason::Ipv4Malformed,
        Ipv4Error::Checksum => DropReason::Ipv4Checksum,
    })?;
    packet.segment.ip = Datagram::V4(ip);
    if ip.header_len > ipv4::HEADER_LEN {
        match ipv4::classify_options(ip.options(datagram)) {
            Options::Removable => {}
            Options::SourceRoute => return Err(DropReason::SourceRoute),
            Options::Malformed => return Err(DropReason::Ipv4Options),
        }
    }
    // Ethernet's padding follows the datagram.
    frame.truncate(l3 + ip.total_len);
    Ok(ip)
}

/// Reads the headers of the whole datagram at the `l3` of `packet`, and cuts off what follows it.
#[cold]
pub(super) fn ipv6<F: Frame>(
    packet: &mut Packet,
    frame: &mut F,
) -> Result<(Ipv6, Upper), DropReason> {
    let l3 = packet.segment.l3;
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let header = Ipv6::parse(datagram).ok_or(DropReason::Ipv6Malformed)?;
    let upper = header.upper(datagram).map_err(refused)?;
    packet.segment.ip = Datagram::V6(Ipv6Datagram { header, upper });
    frame.truncate(l3 + header.total_len());
    Ok((header, upper))
}

/// Why a datagram with such extension headers is dropped.
pub(super) fn refused(error: ExtensionError) -> DropReason {
    match error {
        ExtensionError::Malformed => DropReason::Ipv6Options,
        ExtensionError::Routing => DropReason::SourceRoute,
        ExtensionError::Fragment => DropReason::Fragment,
    }
}
