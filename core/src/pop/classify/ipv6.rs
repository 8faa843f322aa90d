//! Reads IPv6 datagrams.

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::limits::Limits;
use super::super::packet::{Packet, Step};
use super::super::tunnel;
use super::{decapsulate, fragments, headers, host, icmp, tcp, udp};
use crate::fragment;
use crate::frame::Frame;
use crate::net::Address;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv6::{self, ExtensionError, Ipv6};
use crate::wire::{Datagram, Ipv6Datagram, ipv4, nd};

/// Reads the datagram of a frame for this port or a group that it is in.
// A call of its own: inlined, it would burden the path of IPv4.
#[inline(never)]
pub(super) fn read<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    ethernet: &Ethernet,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let l3 = packet.segment.l3;
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let mut header = Ipv6::parse(datagram).ok_or(DropReason::Ipv6Malformed)?;
    // A unicast datagram must not reach a group of hosts (RFC 1122, section 3.3.6).
    if !ethernet.dst.is_unicast() && !ipv6::is_multicast(header.dst) {
        return Err(DropReason::WrongMac);
    }
    let to = arrival.meaning(header.dst);
    if let Destination::Open(index) = to {
        return tunnel::open::read(arrival, index, header, packet, frame);
    }
    let upper = match header.upper(datagram) {
        Err(ExtensionError::Fragment) if fragment::remove_atomic(frame, l3, &header) => {
            let whole = read_without_fragment_header(frame, l3)?;
            header = whole.header;
            whole.upper
        }
        Err(ExtensionError::Fragment) => return fragments::read(arrival, frame),
        found => found.map_err(headers::refused)?,
    };
    packet.segment.ip = Datagram::V6(Ipv6Datagram { header, upper });
    // Ethernet's padding follows the datagram.
    frame.truncate(l3 + header.total_len());
    match upper.protocol {
        ipv6::PROTOCOL_TCP => {
            let ends = (header.src, header.dst);
            tcp::read::<F, u128>(arrival, limits, ends, to, packet, frame, lanes)
        }
        ipv6::PROTOCOL_ICMPV6 => icmp::read_v6(arrival, &header, to, packet.message(frame)),
        protocol => {
            if protocol == ipv4::PROTOCOL_UDP
                && let Some(read) =
                    udp::read(arrival, (header.src, header.dst), to, packet, frame, lanes)
            {
                return read;
            }
            match to {
                Destination::Pool(_) => decapsulate::read(arrival, protocol, packet, frame, lanes),
                _ => host::read_other(arrival, (header.src.ip(), protocol), to),
            }
        }
    }
}

/// Reads the datagram at `l3` anew, which was an atomic fragment (RFC 6946).
#[cold]
fn read_without_fragment_header<F: Frame>(
    frame: &F,
    l3: usize,
) -> Result<Ipv6Datagram, DropReason> {
    let datagram = frame.bytes().get(l3..).unwrap_or_default();
    let header = Ipv6::parse(datagram).ok_or(DropReason::Ipv6Malformed)?;
    let upper = header.upper(datagram).map_err(headers::refused)?;
    let kind = datagram.get(upper.at).copied().unwrap_or_default();
    if upper.protocol == ipv6::PROTOCOL_ICMPV6 && nd::is_discovery(kind) {
        // Not even an atomic fragment may carry it (RFC 6980, section 5).
        return Err(DropReason::NdMalformed);
    }
    Ok(Ipv6Datagram { header, upper })
}
