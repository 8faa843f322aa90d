//! Open packets: IPv6 packets from and to the agent's open addresses. Their segments are numbered
//! as those of data.

use std::net::{IpAddr, Ipv6Addr};

use super::{Agent, OPEN_HEADROOM, OpenSendError, OutgoingSegment};
use crate::keys::EPOCH_GRACE_MS;
use crate::net::Family;
use crate::predict::OFFSET_STEP;
use crate::time::Instant;
use crate::tunnel::message::{DATA_HEADER_LEN, OPEN_HEADER_LEN, OpenHeader, open_packet_max, put};
use crate::tunnel::token::Token;
use crate::wire::icmp_error::{self, IcmpError};
use crate::wire::icmpv6::may_be_error;
use crate::wire::ipv6::{self, Ipv6, MTU_MIN, PROTOCOL_ICMPV6, can_be_source, is_multicast};
use crate::wire::tcp::{self, Tcp};

/// The open addresses of an agent that POPs accept now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenAddresses {
    /// The address of the newest epoch. New connections use it.
    pub current: Option<Ipv6Addr>,
    /// The address of the epoch before, until that ends. It is deprecated (RFC 4862, section
    /// 5.5.4): for what was begun with it.
    pub deprecated: Option<Ipv6Addr>,
}

impl OpenAddresses {
    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: Ipv6Addr) -> bool {
        [self.current, self.deprecated].contains(&Some(ip))
    }
}

/// The addresses, with the end of the deprecated one and a number that grows at each change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenState {
    pub(super) addresses: OpenAddresses,
    ends_at: Instant,
    pub(super) version: u64,
}

impl OpenState {
    /// Takes the address in a reply. After a new epoch the one so far is `kept` as deprecated.
    pub(super) fn take(&mut self, now: Instant, address: Option<Ipv6Addr>, keeps: bool) {
        let before = self.addresses;
        if address == before.current {
            return;
        }
        let deprecated = before.current.filter(|_| keeps && address.is_some());
        self.addresses = OpenAddresses { current: address, deprecated };
        self.ends_at = now.plus_millis(EPOCH_GRACE_MS);
        self.version += 1;
    }

    /// Forgets a deprecated address whose epoch has ended.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.addresses.deprecated.is_some() && now >= self.ends_at {
            self.addresses.deprecated = None;
            self.version += 1;
        }
    }

    /// The addresses are no longer the agent's.
    pub(super) fn clear(&mut self) {
        self.version += u64::from(self.addresses != OpenAddresses::default());
        self.addresses = OpenAddresses::default();
    }
}

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

/// Writes into `message` the packet-too-big (RFC 4443, section 3.2) that tells the sender of
/// `packet`, an IPv6 packet, of `mtu`. Returns its length, or `None` where no error may be sent,
/// or nobody can be told.
///
/// Its source is the destination of the packet: the tunnel has no address of its own here.
pub fn packet_too_big(packet: &[u8], mtu: u16, message: &mut [u8; MTU_MIN]) -> Option<usize> {
    let inner = Ipv6::parse(packet)?;
    let tells = can_be_source(inner.src) && !is_multicast(inner.dst);
    if !tells || may_be_error(&inner, packet) {
        return None;
    }
    let quote = packet.get(..packet.len().min(MTU_MIN - ERROR_HEADERS_LEN))?;
    let (src, dst) = (Ipv6Addr::from_bits(inner.dst), Ipv6Addr::from_bits(inner.src));
    let len = put(message, ERROR_HEADERS_LEN, quote);
    let (head, icmp) = message.get_mut(..len)?.split_at_mut_checked(ipv6::HEADER_LEN)?;
    IcmpError::TooBig(mtu).write(IpAddr::V6(src), IpAddr::V6(dst), icmp);
    let header = ipv6::Header {
        payload_len: icmp.len() as u16,
        next_header: PROTOCOL_ICMPV6,
        hop_limit: ipv6::ORIGINATED_HOP_LIMIT,
        src: inner.dst,
        dst: inner.src,
        ..ipv6::ORIGINATED
    };
    header.write(head);
    Some(len)
}

/// Bytes in a datagram up in front of its body, from the message's first on, between agents of
/// IPv4.
const BEFORE_BODY: usize = DATA_HEADER_LEN + 2 * Token::len_of(Family::V4);
const ERROR_HEADERS_LEN: usize = ipv6::HEADER_LEN + icmp_error::HEADER_LEN;
const _: () = assert!(OPEN_HEADROOM == tcp::HEADER_LEN + OPEN_HEADER_LEN);
