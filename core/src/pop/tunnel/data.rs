//! Datagrams of agents: each goes on to the agent that it is for.
//!
//! The body and the sender's token stay where they are in the frame: only the headers in front of
//! them are written anew.

use super::super::egress::Egress;
use super::super::egress::headers::{Headers, sum_behind};
use super::super::egress::ship::{Transform, Transmit, ship};
use super::super::lanes::{Lane, Lanes};
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use super::explain;
use super::read::{ends, segment_of};
use crate::frame::Frame;
use crate::net::Towards;
use crate::tunnel::forward::{self, DataDown};
use crate::verdict::DropReason;
use crate::wire::tcp::{ACK, PSH};
use crate::wire::{Datagram, checksum, ipv4};

/// A datagram whose tokens are open.
#[inline]
pub(in crate::pop) fn data<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
    lanes: &Lanes,
    lane: Lane,
) {
    let arrival = egress.arrival;
    let tunnel = packet.service.and_then(|index| Some((index, arrival.snapshot.tunnel(index)?)));
    let Some(((service, tunnel), (datagram, opened))) = tunnel.zip(lanes.datagram_at(lane)) else {
        return egress.drop(packet.service, DropReason::UnservedPort, frame);
    };
    if O::EXPLAINS
        && let Some(segment) = segment_of(packet, &frame)
    {
        let out = &mut *egress.out;
        explain::segment(&tunnel.service, arrival.unix, &segment, |note| out.explain(note));
    }
    let client_ok = |ip| arrival.snapshot.client_ok(ip);
    let decided = forward::decide(&tunnel.service, arrival.unix, datagram, opened, client_ok);
    let down = match decided {
        Ok(down) => down,
        Err(reason) => return egress.drop(packet.service, reason, frame),
    };
    let traffic = &egress.counters.service(tunnel.slot).up;
    traffic.add(1, (frame.bytes().len() - packet.segment.l3) as u64);
    if down.issued_by != arrival.snapshot.config.pop.id {
        egress.counters.count_issued_elsewhere(down.issued_by);
    }
    let payload_at = packet.l4() + packet.segment.tcp.header_len;
    let transmit = Transmit {
        service,
        slot: tunnel.slot,
        towards: Towards::Clients,
        destination: down.dst.ip(),
        is_copy: false,
        target: None,
        rewrite: DataRewrite { body_at: payload_at + down.body_at, down: &down },
    };
    ship(egress, limits, packet, frame, &transmit);
}

/// The rewrite of a datagram.
struct DataRewrite<'a> {
    down: &'a DataDown,
    /// Where the bytes that stay begin in the frame.
    body_at: usize,
}

/// Where things are in the frame afterwards.
struct Places {
    headers: Headers,
    l3: usize,
    /// The header of the message.
    header_at: usize,
    total_len: usize,
}

impl Transform for DataRewrite<'_> {
    type Plan = Places;

    const IS_ICMP_ERROR: bool = false;

    /// The bytes in front of the sender's token are longer than what takes their place: a header
    /// and a token more than IP headers can differ.
    #[inline]
    fn plan<F: Frame>(&self, packet: &Packet, frame: &F) -> Result<Places, DropReason> {
        let (down, l3) = (self.down, packet.segment.l3);
        let tos = match packet.segment.ip {
            Datagram::V4(_) => frame.bytes().get(l3 + ipv4::field::TOS).copied(),
            Datagram::V6(ip) => Some(ip.header.traffic_class),
        };
        let headers = Headers {
            src: down.src,
            dst: down.dst,
            seq: down.seq,
            ack: down.ack,
            flags: PSH | ACK,
            ttl: packet.segment.ip.hops().wrapping_sub(1),
            tos: tos.unwrap_or_default(),
        };
        let header_at = self.body_at.checked_sub(down.header.len());
        let l3 = header_at.and_then(|at| at.checked_sub(headers.len()));
        let (Some(header_at), Some(l3)) = (header_at, l3) else {
            return Err(DropReason::NoRoom);
        };
        let total_len = frame.bytes().len().saturating_sub(l3);
        Ok(Places { headers, l3, header_at, total_len })
    }

    #[inline]
    fn total_len(&self, _: &Packet, places: &Places) -> usize {
        places.total_len
    }

    #[inline]
    fn apply<F: Frame>(
        &self,
        packet: &Packet,
        frame: &mut F,
        places: &Places,
    ) -> Result<usize, DropReason> {
        let Places { headers, l3, header_at, .. } = places;
        let header = self.down.header;
        let bytes = frame.bytes_mut();
        let replaced = bytes.get(packet.l4()..self.body_at).unwrap_or_default();
        let behind = sum_behind(ends(packet), replaced, bytes.len() - packet.l4());
        if let Some(place) = bytes.get_mut(*header_at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = header;
        }
        let datagram = bytes.get_mut(*l3..).unwrap_or_default();
        headers.write(datagram, &[], checksum::sum(behind, &header));
        Ok(*l3)
    }
}
