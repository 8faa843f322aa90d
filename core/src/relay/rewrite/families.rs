//! Rewrites one segment that changes its family: IPv4 to IPv6 and back as RFC 7915, sections
//! 4.1 and 5.1, has it.
//!
//! The TCP header stays where it is, only its ports and what a SYN offers change; a new IP header
//! is put in front of it. IPv4 options, and extension headers on the way to IPv4, are left out.
//! Each way has a `len`, which touches nothing, so that
//! a segment that does not fit is refused (and quoted) as it came, and an `apply`, which writes.
//! The TCP checksum is updated across both pseudo headers (RFC 1624): damage on the way in stays
//! visible at the end.

use super::action::Rewrite;
use super::in_place::Ipv4Segment;
use super::options::OptionsRule;
use crate::frame::{self, Frame};
use crate::net::Endpoints;
use crate::verdict::DropReason;
use crate::wire::Ipv6Datagram;
use crate::wire::checksum::Change;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{get_u16, get_u32, ipv4, put_u16, put_u32, udp};

/// An IPv6 segment: where it is in its frame, and its headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Segment<'a> {
    /// Offset in bytes of the IPv6 header.
    pub l3: usize,
    /// The IPv6 header.
    pub ip: &'a Ipv6,
    /// Offset in bytes of the TCP header from the IPv6 header: 40 and the extension headers, no
    /// more than the datagram is long.
    pub at: usize,
    /// The TCP header.
    pub tcp: &'a Tcp,
}

impl<'a> Ipv6Segment<'a> {
    /// The segment that `datagram`, which begins at `l3`, carries.
    #[inline]
    pub fn new(l3: usize, datagram: &'a Ipv6Datagram, tcp: &'a Tcp) -> Self {
        Ipv6Segment { l3, ip: &datagram.header, at: datagram.upper.at, tcp }
    }

    /// Length in bytes of the TCP segment, header included.
    const fn segment_len(&self) -> usize {
        self.ip.total_len().saturating_sub(self.at)
    }
}

/// Bytes that a segment without IPv4 options and extension headers gains on the way to IPv6.
pub const GROWTH: usize = ipv6::HEADER_LEN - ipv4::HEADER_LEN;

/// Length in bytes of the IPv6 datagram that `segment` becomes.
#[inline]
pub const fn len_4to6(segment: &Ipv4Segment<'_>) -> usize {
    ipv6::HEADER_LEN + segment.ip.total_len.saturating_sub(segment.ip.header_len)
}

/// Length in bytes of the IPv4 datagram that `segment` becomes; one longer than 65,535 can not be
/// sent.
#[inline]
pub const fn len_6to4(segment: &Ipv6Segment<'_>) -> usize {
    ipv4::HEADER_LEN + segment.segment_len()
}

/// Whether a datagram of `total_len` bytes that was IPv6 goes out with DF clear and an ID: one that
/// IPv6 would carry over any link, for senders over IPv6 take no MTU below 1280 from an ICMP error
/// (RFC 7915, section 5.1).
#[inline]
pub const fn may_be_fragmented(total_len: usize) -> bool {
    total_len + GROWTH <= ipv6::MTU_MIN
}

/// Rewrites the IPv4 segment in `frame` to IPv6, its TTL less one as hop limit, its flow label 0.
/// Gives back where the IPv6 header is afterwards.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the segment is too long for its length field ([`DropReason::TooBig`]), or the frame
/// buffer has no room ([`DropReason::NoRoom`]).
#[inline]
pub fn apply_4to6<F: Frame>(
    frame: &mut F,
    segment: &Ipv4Segment<'_>,
    rewrite: &Rewrite<u128>,
) -> Result<usize, DropReason> {
    let ip = segment.ip;
    let tos = frame.bytes().get(segment.l3 + ipv4::field::TOS);
    let carried = Carried {
        protocol: ipv4::PROTOCOL_TCP,
        at: segment.l3 + ip.header_len,
        header_len: segment.tcp.header_len,
        len: len_4to6(segment) - ipv6::HEADER_LEN,
        hops: ip.ttl.wrapping_sub(1),
        class: tos.copied().unwrap_or_default(),
        src: ip.src.into(),
        dst: ip.dst.into(),
    };
    carried.put_in_ipv6(frame, &rewrite.endpoints, rewrite.options)
}

/// Rewrites the IPv6 segment in `frame` to IPv4, its hop limit less one as TTL. Gives back where
/// the IPv4 header is afterwards.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the segment is too long for IPv4 ([`DropReason::TooBig`]), or the frame buffer has no
/// room ([`DropReason::NoRoom`]).
#[inline]
pub fn apply_6to4<F: Frame>(
    frame: &mut F,
    segment: &Ipv6Segment<'_>,
    rewrite: &Rewrite,
) -> Result<usize, DropReason> {
    let id = may_be_fragmented(len_6to4(segment)).then_some(rewrite.id);
    Carried::of(segment).put_in_ipv4(frame, &rewrite.endpoints, rewrite.options, Ids::new(id))
}

/// What an IPv4 header says of fragments: the ID, and the word of flags and offset.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Ids {
    id: u16,
    fragment: u16,
}

impl Ids {
    /// Of a datagram that may be fragmented if it has an ID.
    #[inline(always)]
    pub fn new(id: Option<u16>) -> Self {
        let fragment = if id.is_some() { 0 } else { ipv4::DONT_FRAGMENT };
        Ids { id: id.unwrap_or(0), fragment }
    }

    /// Those in `header`.
    pub fn of(header: &[u8]) -> Self {
        Ids { id: ipv4::id(header), fragment: get_u16(header, ipv4::field::FRAGMENT) }
    }
}

/// A TCP segment or UDP datagram, whole or as far as an ICMP error quotes it, and what matters of
/// the IP header in front of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::relay) struct Carried {
    /// Its protocol.
    pub protocol: u8,
    /// Offset in bytes of the TCP or UDP header.
    pub at: usize,
    /// Bytes of that header that are there.
    pub header_len: usize,
    /// Length in bytes of the whole segment or datagram, header included.
    pub len: usize,
    /// TTL or hop limit to be written.
    pub hops: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// Source address; one of IPv4 is the last 32 of the bits.
    pub src: u128,
    /// Destination address, likewise.
    pub dst: u128,
}

impl Carried {
    #[inline]
    fn of(segment: &Ipv6Segment<'_>) -> Carried {
        Carried {
            protocol: ipv6::PROTOCOL_TCP,
            at: segment.l3 + segment.at,
            header_len: segment.tcp.header_len,
            len: segment.segment_len(),
            hops: segment.ip.hop_limit.wrapping_sub(1),
            class: segment.ip.traffic_class,
            src: segment.ip.src,
            dst: segment.ip.dst,
        }
    }

    /// Puts an IPv6 header in front; gives back where it begins.
    ///
    /// # Errors
    /// [`DropReason::TooBig`] where its length field cannot hold the length, and
    /// [`DropReason::NoRoom`] where the frame has no room in front.
    #[inline]
    pub fn put_in_ipv6<F: Frame>(
        &self,
        frame: &mut F,
        to: &Endpoints<u128>,
        options: OptionsRule,
    ) -> Result<usize, DropReason> {
        let header = ipv6::Header {
            traffic_class: self.class,
            payload_len: length(self.len)?,
            next_header: self.protocol,
            hop_limit: self.hops,
            src: to.src.ip,
            dst: to.dst.ip,
            ..ipv6::ORIGINATED
        };
        let mut bytes = [0; ipv6::HEADER_LEN];
        header.write(&mut bytes);
        let l3 = frame::put_before(frame, self.at, &bytes).ok_or(DropReason::NoRoom)?;
        let ports = (to.src.port, to.dst.port);
        self.rewrite_upper(frame, l3 + ipv6::HEADER_LEN, to.src.ip, to.dst.ip, ports, options);
        Ok(l3)
    }

    /// Puts an IPv4 header with these `ids` in front; gives back where it begins.
    ///
    /// # Errors
    /// As [`Self::put_in_ipv6`].
    #[inline]
    pub fn put_in_ipv4<F: Frame>(
        &self,
        frame: &mut F,
        to: &Endpoints,
        options: OptionsRule,
        ids: Ids,
    ) -> Result<usize, DropReason> {
        let header = ipv4::Header {
            tos: self.class,
            total_len: length(ipv4::HEADER_LEN + self.len)?,
            id: ids.id,
            fragment: ids.fragment,
            ttl: self.hops,
            protocol: self.protocol,
            src: to.src.ip,
            dst: to.dst.ip,
        };
        let mut bytes = [0; ipv4::HEADER_LEN];
        header.write(&mut bytes);
        let l3 = frame::put_before(frame, self.at, &bytes).ok_or(DropReason::NoRoom)?;
        let (src, dst) = (to.src.ip.into(), to.dst.ip.into());
        let ports = (to.src.port, to.dst.port);
        self.rewrite_upper(frame, l3 + ipv4::HEADER_LEN, src, dst, ports, options);
        Ok(l3)
    }

    /// Changes the IPv6 header at `l3`, which is in front already.
    #[inline]
    pub fn move_in_ipv6<F: Frame>(
        &self,
        frame: &mut F,
        l3: usize,
        to: &Endpoints<u128>,
        options: OptionsRule,
    ) {
        let ports = (to.src.port, to.dst.port);
        self.rewrite_upper(frame, self.at, to.src.ip, to.dst.ip, ports, options);
        let header = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        ipv6::put_address(header, ipv6::field::SRC, to.src.ip);
        ipv6::put_address(header, ipv6::field::DST, to.dst.ip);
        if let Some(hop_limit) = header.get_mut(ipv6::field::HOP_LIMIT) {
            *hop_limit = self.hops;
        }
    }

    /// Changes the addresses in the IPv4 header at `l3`, which is in front already and has whatever
    /// options it has.
    pub fn move_in_ipv4<F: Frame>(&self, frame: &mut F, l3: usize, to: &Endpoints) {
        let (src, dst) = (to.src.ip.into(), to.dst.ip.into());
        let ports = (to.src.port, to.dst.port);
        self.rewrite_upper(frame, self.at, src, dst, ports, OptionsRule::Keep);
        let header = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
        let moved = Change::NONE.address(self.src, src).address(self.dst, dst);
        put_u32(header, ipv4::field::SRC, to.src.ip);
        put_u32(header, ipv4::field::DST, to.dst.ip);
        let sum = moved.apply(get_u16(header, ipv4::field::CHECKSUM));
        put_u16(header, ipv4::field::CHECKSUM, sum);
    }

    /// Rewrites the TCP or UDP header, which is at `at` now: its ports, and what a SYN offers.
    /// Protocol and length are the same numbers in the pseudo headers of both families. Of a quoted
    /// header nothing is written beyond its end, nor half a checksum.
    #[inline]
    fn rewrite_upper<F: Frame>(
        &self,
        frame: &mut F,
        at: usize,
        src: u128,
        dst: u128,
        (src_port, dst_port): (u16, u16),
        options: OptionsRule,
    ) {
        let header = frame.bytes_mut().get_mut(at..at + self.header_len).unwrap_or_default();
        let old_ports = get_u32(header, tcp::field::SRC_PORT);
        let new_ports = u32::from(src_port) << 16 | u32::from(dst_port);
        put_u32(header, tcp::field::SRC_PORT, new_ports);
        let moved = Change::NONE.address(self.src, src).address(self.dst, dst);
        let mut change = moved.long(old_ports, new_ports);
        if self.protocol == ipv4::PROTOCOL_UDP {
            let sum = udp::changed(get_u16(header, udp::field::CHECKSUM), change);
            return put_u16(header, udp::field::CHECKSUM, sum);
        }
        if options != OptionsRule::Keep
            && let Some(bytes) = header.get_mut(tcp::HEADER_LEN..)
        {
            change = change.and(options.apply(bytes));
        }
        let sum = change.apply(get_u16(header, tcp::field::CHECKSUM));
        put_u16(header, tcp::field::CHECKSUM, sum);
    }
}

/// A length as headers hold it. A segment of more than 65,515 bytes fits IPv6 only.
#[inline]
fn length(len: usize) -> Result<u16, DropReason> {
    u16::try_from(len).map_err(|_| DropReason::TooBig)
}
