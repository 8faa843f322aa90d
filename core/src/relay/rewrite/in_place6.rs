//! Rewrites an IPv6 segment that stays IPv6, in place: addresses, ports, timestamps, the options of
//! SYNs, hop limit. Its extension headers and flow label stay.
//!
//! As over IPv4 ([`super::in_place`]): [`plan`] touches nothing, [`apply`] writes, and checksums
//! are updated, never computed anew.

use super::action::Rewrite;
use super::families::Ipv6Segment;
use super::in_place::Plan;
use super::tcp_header::{OptionsPlan, rewrite_head};
use crate::frame::Frame;
use crate::net::{Endpoint, IpEndpoint};
use crate::verdict::DropReason;
use crate::wire::checksum::Change;
use crate::wire::ipv6;
use crate::wire::put_u16;
use crate::wire::tcp;

/// Plans the rewrite of `segment`, whose TCP options are `bytes`.
///
/// # Errors
/// When the options have no room for what is inserted ([`DropReason::OptionsFull`]), or the
/// datagram none for the options ([`DropReason::TooBig`]).
#[inline(always)]
pub fn plan(
    segment: &Ipv6Segment<'_>,
    bytes: &[u8],
    rewrite: &Rewrite<u128>,
) -> Result<Plan, DropReason> {
    let options = OptionsPlan::new(bytes, rewrite, src(segment))?;
    let rest = segment.ip.total_len().saturating_sub(segment.tcp.header_len);
    let total_len = rest + tcp::HEADER_LEN + options.len;
    if total_len > ipv6::HEADER_LEN + usize::from(u16::MAX) {
        return Err(DropReason::TooBig);
    }
    Ok(Plan { options, total_len })
}

/// Rewrites `frame` as planned, with the hop limit `hops`. Gives back where its IPv6 header is
/// afterwards.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the frame buffer has no room in front: [`DropReason::NoRoom`].
#[inline(always)]
pub fn apply<F: Frame>(
    frame: &mut F,
    segment: &Ipv6Segment<'_>,
    rewrite: &Rewrite<u128>,
    plan: &Plan,
    hops: u8,
) -> Result<usize, DropReason> {
    let Ipv6Segment { l3, ip, at, tcp } = *segment;
    let (head_len, old_headers) = (at + tcp::HEADER_LEN, at + tcp.header_len);
    let old = frame.bytes().get(l3 + head_len..l3 + old_headers).unwrap_or_default();
    let rebuilt = plan.options.rebuilt(old, rewrite)?;
    // Where the headers must begin for the options to end where the data begins.
    let data_at = l3 + old_headers;
    let headers_len = head_len + plan.options.len;
    let grown = headers_len.saturating_sub(data_at);
    if grown > 0 && !frame.prepend(grown) {
        return Err(DropReason::NoRoom);
    }
    let (l3, old_l3) = (data_at + grown - headers_len, l3 + grown);
    let bytes = frame.bytes_mut();
    if old_l3 != l3 {
        let kept = head_len + plan.options.kept_in_front();
        if bytes.len() < old_l3 + kept {
            return Err(DropReason::NoRoom);
        }
        bytes.copy_within(old_l3..old_l3 + kept, l3);
    }
    let (header, rest) =
        bytes.get_mut(l3..).and_then(|bytes| bytes.split_at_mut_checked(at)).ok_or(NO_ROOM)?;
    let (head, rest) = rest.split_first_chunk_mut::<{ tcp::HEADER_LEN }>().ok_or(NO_ROOM)?;
    let options = rest.get_mut(..plan.options.len).ok_or(NO_ROOM)?;
    let change = plan.options.write(options, rebuilt.as_ref(), rewrite, src(segment));

    let to = &rewrite.endpoints;
    ipv6::put_address(header, ipv6::field::SRC, to.src.ip);
    ipv6::put_address(header, ipv6::field::DST, to.dst.ip);
    if let Some(hop_limit) = header.get_mut(ipv6::field::HOP_LIMIT) {
        *hop_limit = hops;
    }
    let payload_len = plan.total_len.saturating_sub(ipv6::HEADER_LEN) as u16;
    put_u16(header, ipv6::field::PAYLOAD_LEN, payload_len);
    let moved = Change::NONE.address(ip.src, to.src.ip).address(ip.dst, to.dst.ip);
    let lens = (tcp.header_len, ip.total_len().saturating_sub(at));
    let ports = (to.src.port, to.dst.port);
    rewrite_head(head, lens, ports, &plan.options, change.and(moved));
    Ok(l3)
}

/// The source of a segment.
#[inline(always)]
fn src(segment: &Ipv6Segment<'_>) -> IpEndpoint {
    Endpoint { ip: segment.ip.src, port: segment.tcp.src_port }.into()
}

const NO_ROOM: DropReason = DropReason::NoRoom;
