//! Reads IPv4 datagrams.

use super::super::arrival::Arrival;
use super::super::lanes::Lanes;
use super::super::limits::Limits;
use super::super::packet::{Packet, Step};
use super::{decapsulate, fragments, headers, host, icmp, tcp, udp};
use crate::frame::Frame;
use crate::net::Address;
use crate::snapshot::Destination;
use crate::verdict::DropReason;
use crate::wire::ipv4;

/// Reads the datagram of a frame for this port.
#[inline]
pub(super) fn read<F: Frame>(
    arrival: &Arrival<'_>,
    limits: &mut Limits<'_>,
    packet: &mut Packet,
    frame: &mut F,
    lanes: &mut Lanes,
) -> Result<Step, DropReason> {
    let ip = headers::ipv4(packet, frame)?;
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
        protocol => {
            if protocol == ipv4::PROTOCOL_UDP
                && let Some(read) = udp::read(arrival, (ip.src, ip.dst), to, packet, frame, lanes)
            {
                return read;
            }
            match to {
                Destination::Pool(_) => decapsulate::read(arrival, protocol, packet, frame, lanes),
                _ => host::read_other(arrival, (ip.src.ip(), protocol), to),
            }
        }
    }
}
