//! Reads IPv4 datagrams.

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::limits::Limits;
use super::super::packet::{Packet, Step};
use super::{decapsulate, fragments, host, icmp, tcp};
use crate::frame::Frame;
use crate::net::Address;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::Datagram;
use crate::wire::ipv4::{self, Ipv4, Ipv4Error, Options};

/// Reads the datagram of a frame for this port.
#[inline]
pub(super) fn read<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let ip = parse(packet, frame)?;
    if ip.is_fragment() {
        // No host fragments what must not be fragmented.
        let contradicts = ip.dont_fragment();
        return if contradicts {
            Err(DropReason::Fragment)
        } else {
            fragments::read(arrival, frame)
        };
    }
    let to = arrival.snapshot.classify(ip.dst);
    match ip.protocol {
        ipv4::PROTOCOL_TCP => {
            tcp::read::<F, u32>(arrival, limits, (ip.src, ip.dst), to, packet, frame, lanes)
        }
        ipv4::PROTOCOL_ICMP => icmp::read_v4(arrival, ip.src, to, packet.message(frame)),
        protocol => match to {
            Destination::Pool(_) => decapsulate::read(arrival, protocol, packet, frame, lanes),
            _ => host::read_other(arrival, (ip.src.ip(), protocol), to),
        },
    }
}

/// Reads the IPv4 header at the `l3` of `packet`, and cuts off what follows its datagram.
#[inline(always)]
pub(super) fn parse<F: Frame>(packet: &mut Packet, frame: &mut F) -> Result<Ipv4, DropReason> {
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
