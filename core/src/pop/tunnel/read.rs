//! Segments to tunnels' VIPs, as [`crate::tunnel`] reads them.

use std::net::SocketAddr;

use super::super::packet::Packet;
use crate::frame::Frame;
use crate::tunnel::TunnelSegment;
use crate::wire::tcp::HEADER_LEN;

/// The segment in `frame`, if its header is there.
#[inline]
pub(super) fn segment_of<'a, F: Frame>(packet: &Packet, frame: &'a F) -> Option<TunnelSegment<'a>> {
    let tcp = packet.segment.tcp;
    let (header, payload) = frame.bytes().get(packet.l4()..)?.split_at_checked(tcp.header_len)?;
    Some(TunnelSegment {
        src: packet.src().into(),
        dst: packet.dst().into(),
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        options: header.get(HEADER_LEN..).unwrap_or_default(),
        payload,
        datagram_len: frame.bytes().len() - packet.segment.l3,
    })
}

/// Both ends of a segment.
#[inline]
pub(super) fn ends(packet: &Packet) -> (SocketAddr, SocketAddr) {
    (packet.src().into(), packet.dst().into())
}
