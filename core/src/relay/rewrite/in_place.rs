//! Rewrites an IPv4 segment that stays IPv4, in place: addresses, ports, timestamps, the options of
//! SYNs, TTL.
//!
//! [`plan`] decides without touching the frame, so that a segment which would not fit is refused
//! (and quoted) as it came; [`apply`] then writes. Checksums are updated, never computed anew
//! (RFC 1624): damage on the way in stays visible at the end.

use super::action::Rewrite;
use super::tcp_header::{OptionsPlan, rewrite_head};
use crate::frame::Frame;
use crate::net::{Endpoint, Endpoints, IpEndpoint};
use crate::verdict::DropReason;
use crate::wire::checksum::Change;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{get_u16, put_u16, put_u32};

/// An IPv4 segment: where it is in its frame, and its headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Segment<'a> {
    /// Offset in bytes of the IPv4 header.
    pub l3: usize,
    /// The IPv4 header.
    pub ip: &'a Ipv4,
    /// The TCP header.
    pub tcp: &'a Tcp,
}

impl Ipv4Segment<'_> {
    /// Its source.
    #[inline(always)]
    fn src(&self) -> IpEndpoint {
        Endpoint { ip: self.ip.src, port: self.tcp.src_port }.into()
    }
}

/// A rewrite that is known to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) options: OptionsPlan,
    /// Length in bytes of the IP datagram afterwards.
    pub total_len: usize,
}

/// Plans the rewrite of `segment`, whose TCP options are `bytes`.
///
/// # Errors
/// When the options have no room for what is inserted ([`DropReason::OptionsFull`]), or are longer
/// than TCP allows ([`DropReason::TcpMalformed`]).
#[inline(always)]
pub fn plan(
    segment: &Ipv4Segment<'_>,
    bytes: &[u8],
    rewrite: &Rewrite,
) -> Result<Plan, DropReason> {
    let options = OptionsPlan::new(bytes, rewrite, segment.src())?;
    let headers = segment.ip.header_len + segment.tcp.header_len;
    let data = segment.ip.total_len.saturating_sub(headers);
    let total_len = ipv4::HEADER_LEN + tcp::HEADER_LEN + options.len + data;
    Ok(Plan { options, total_len })
}

/// Rewrites `frame` as planned, TTL less one. Gives back where its IPv4 header is afterwards.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the frame buffer has no room in front: [`DropReason::NoRoom`].
#[inline(always)]
pub fn apply<F: Frame>(
    frame: &mut F,
    segment: &Ipv4Segment<'_>,
    rewrite: &Rewrite,
    plan: &Plan,
) -> Result<usize, DropReason> {
    let old_headers = segment.ip.header_len + segment.tcp.header_len;
    let options_at = segment.l3 + segment.ip.header_len + tcp::HEADER_LEN;
    let old = frame.bytes().get(options_at..segment.l3 + old_headers).unwrap_or_default();
    let rebuilt = plan.options.rebuilt(old, rewrite)?;
    // Where 40 bytes of headers must begin for the options to end where the data begins.
    let data_at = segment.l3 + old_headers;
    let headers_len = ipv4::HEADER_LEN + tcp::HEADER_LEN + plan.options.len;
    let grown = headers_len.saturating_sub(data_at);
    if grown > 0 && !frame.prepend(grown) {
        return Err(DropReason::NoRoom);
    }
    let (l3, old_l3) = (data_at + grown - headers_len, segment.l3 + grown);
    let tcp_len = tcp::HEADER_LEN + plan.options.kept_in_front();
    let bytes = frame.bytes_mut();
    if old_l3 != l3 || segment.ip.header_len != ipv4::HEADER_LEN {
        let old_l4 = old_l3 + segment.ip.header_len;
        let new_l4 = l3 + ipv4::HEADER_LEN;
        // The later header first when both move back, the earlier first when both move forward.
        if new_l4 > old_l4 {
            bytes.copy_within(old_l4..old_l4 + tcp_len, new_l4);
            bytes.copy_within(old_l3..old_l3 + ipv4::HEADER_LEN, l3);
        } else {
            bytes.copy_within(old_l3..old_l3 + ipv4::HEADER_LEN, l3);
            bytes.copy_within(old_l4..old_l4 + tcp_len, new_l4);
        }
    }
    let Some((ip, rest)) =
        bytes.get_mut(l3..).and_then(|bytes| bytes.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>())
    else {
        return Err(DropReason::NoRoom);
    };
    let Some((head, rest)) = rest.split_first_chunk_mut::<{ tcp::HEADER_LEN }>() else {
        return Err(DropReason::NoRoom);
    };
    let Some(options) = rest.get_mut(..plan.options.len) else {
        return Err(DropReason::NoRoom);
    };
    let change = plan.options.write(options, rebuilt.as_ref(), rewrite, segment.src());
    let to = &rewrite.endpoints;
    let change = rewrite_addresses(ip, segment, to, plan.total_len, change);
    let lens = (segment.tcp.header_len, segment.ip.total_len.saturating_sub(segment.ip.header_len));
    rewrite_head(head, lens, (to.src.port, to.dst.port), &plan.options, change);
    Ok(l3)
}

#[inline(always)]
fn rewrite_addresses(
    ip: &mut [u8; ipv4::HEADER_LEN],
    segment: &Ipv4Segment<'_>,
    to: &Endpoints,
    total_len: usize,
    change: Change,
) -> Change {
    let old = segment.ip;
    let moved = Change::NONE.long(old.src, to.src.ip).long(old.dst, to.dst.ip);
    put_u32(ip, ipv4::field::SRC, to.src.ip);
    put_u32(ip, ipv4::field::DST, to.dst.ip);
    let ttl = get_u16(ip, ipv4::field::TTL);
    let new_ttl = ttl.wrapping_sub(0x0100);
    put_u16(ip, ipv4::field::TTL, new_ttl);
    let mut header = moved.word(ttl, new_ttl);
    if total_len != old.total_len {
        put_u16(ip, ipv4::field::TOTAL_LEN, total_len as u16);
        header = header.word(old.total_len as u16, total_len as u16);
    }
    if old.header_len == ipv4::HEADER_LEN {
        let sum = header.apply(get_u16(ip, ipv4::field::CHECKSUM));
        put_u16(ip, ipv4::field::CHECKSUM, sum);
    } else {
        ip[ipv4::field::VERSION_IHL] = 0x45;
        ipv4::write_checksum(ip);
    }
    change.and(moved)
}
