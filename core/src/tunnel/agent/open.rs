//! Open packets: IPv6 packets from and to the agent's open addresses. Their segments are numbered
//! as those of data.

use std::net::Ipv6Addr;

use super::{Agent, OPEN_HEADROOM, OpenSendError, OutgoingSegment};
use crate::net::Family;
use crate::predict::OFFSET_STEP;
use crate::time::Instant;
use crate::tunnel::message::{DATA_HEADER_LEN, OPEN_HEADER_LEN, OpenHeader, open_packet_max, put};
use crate::tunnel::token::Token;
use crate::wire::ipv6::Ipv6;
use crate::wire::tcp::{self, Tcp};

impl Agent {
    pub(super) fn send_open_packet<'b>(
        &mut self,
        now: Instant,
        buffer: &'b mut [u8],
        packet_at: usize,
        out: &mut impl FnMut(OutgoingSegment<'_>),
    ) -> Result<OutgoingSegment<'b>, OpenSendError> {
        let start = packet_at.checked_sub(OPEN_HEADROOM).ok_or(OpenSendError::NoHeadroom)?;
        let segment = buffer.get_mut(start..).ok_or(OpenSendError::NoHeadroom)?;
        let packet = segment.get(OPEN_HEADROOM..).ok_or(OpenSendError::NoHeadroom)?;
        let inner = Ipv6::parse(packet).filter(|inner| inner.total_len() == packet.len());
        let Some(inner) = inner else {
            self.counters.refused_open_not_ipv6 += 1;
            return Err(OpenSendError::NotIpv6);
        };
        let (_, base) = self.ready_to_send(now, out).map_err(|_| OpenSendError::NotReady)?;
        if !self.open.addresses.contains(Ipv6Addr::from_bits(inner.src)) {
            self.counters.refused_open_source += 1;
            return Err(OpenSendError::Source);
        }
        let (len, max) = (packet.len(), self.open_room());
        if len > max {
            self.counters.refused_open_too_big += 1;
            return Err(OpenSendError::TooBig { max });
        }
        let offset = self.next_offset(OPEN_HEADER_LEN + len);
        let header = OpenHeader { offset_steps: (offset / u32::from(OFFSET_STEP)) as u8 };
        let tick = self.clock.tick(now);
        let ack = self.data_ack().ok_or(OpenSendError::NotReady)?;
        let seq = self.at(base, tick).plus(1).plus(offset);
        self.header(seq, ack, tcp::ACK | tcp::PSH, &[]).write(segment);
        put(segment, tcp::HEADER_LEN, &header.write_up());
        self.note_sent(now, tick, ack);
        self.counters.open_packets_sent += 1;
        self.counters.open_bytes_sent += len as u64;
        Ok(OutgoingSegment { port: self.port, segment })
    }

    /// The largest packet, in bytes.
    pub(super) fn open_room(&self) -> usize {
        if self.family() != Family::V4 || self.body_max == 0 {
            return 0;
        }
        // The POPs' limit is of bodies, behind a longer header and two tokens.
        let theirs = usize::from(self.body_max) + BEFORE_BODY - OPEN_HEADER_LEN;
        theirs.min(open_packet_max(self.mtu).into())
    }

    /// Accepts a packet with the numbers of a POP whose clock is right, to one of the agent's own
    /// addresses. As data, it changes counters only.
    #[inline]
    pub(super) fn receive_open_packet<'s>(
        &mut self,
        tcp: &Tcp,
        payload: &'s [u8],
    ) -> Option<&'s [u8]> {
        let accepted = self.accepted_numbers()?;
        let packet = payload.get(OPEN_HEADER_LEN..).unwrap_or_default();
        let inner = Ipv6::parse(packet).filter(|inner| inner.total_len() == packet.len());
        let (Ok(header), Some(inner)) = (OpenHeader::parse_down(payload), inner) else {
            self.counters.refused_open_malformed += 1;
            return None;
        };
        if !self.are_accepted(&accepted, tcp, header.offset()) {
            return None;
        }
        if !self.open.addresses.contains(Ipv6Addr::from_bits(inner.dst)) {
            self.counters.refused_open_destination += 1;
            return None;
        }
        self.counters.open_packets_received += 1;
        self.counters.open_bytes_received += packet.len() as u64;
        Some(packet)
    }
}

/// Bytes in a datagram up in front of its body, from the message's first on, between agents of
/// IPv4.
const BEFORE_BODY: usize = DATA_HEADER_LEN + 2 * Token::len_of(Family::V4);
const _: () = assert!(OPEN_HEADROOM == tcp::HEADER_LEN + OPEN_HEADER_LEN);
