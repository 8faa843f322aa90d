//! Rewrites one UDP datagram: ports and checksum, and the IP header in front of it, in its family
//! or in the other (RFC 7915, sections 4.1, 4.5, 5.1 and 5.5).
//!
//! IPv4 options are left out, and extension headers on the way to IPv4. The checksum is updated
//! (RFC 1624), so that damage on the way in stays visible at the end. A datagram over IPv4 without
//! one stays without, or gets one on the way to IPv6, where each must have one.

use super::families::{Carried, Ids};
use super::options::OptionsRule;
use super::{IpRewrite, Segment};
use crate::frame::Frame;
use crate::verdict::DropReason;
use crate::wire::udp::{self, HEADER_LEN};
use crate::wire::{Datagram, get_u16, ipv4, ipv6};

/// Length in bytes of the IP datagram that `datagram` becomes.
pub fn len(datagram: &Segment, to: &IpRewrite) -> usize {
    match (&datagram.ip, to) {
        (Datagram::V6(ip), IpRewrite::V6(_)) => ip.header.total_len(),
        (ip, IpRewrite::V4(_)) => ipv4::HEADER_LEN + ip.payload_len(),
        (ip, IpRewrite::V6(_)) => ipv6::HEADER_LEN + ip.payload_len(),
    }
}

/// Rewrites `frame`, TTL or hop limit less one. Gives back where its IP header is afterwards. An
/// IPv4 datagram that was IPv6 may be fragmented if it has an `id`.
///
/// `frame` must end where its datagram ends.
///
/// # Errors
/// When the datagram is too long for its length field ([`DropReason::TooBig`]), or the frame buffer
/// has no room ([`DropReason::NoRoom`]).
pub fn apply<F: Frame>(
    frame: &mut F,
    datagram: &Segment,
    to: &IpRewrite,
    id: Option<u16>,
) -> Result<usize, DropReason> {
    let Segment { l3, ip, .. } = datagram;
    let header = frame.bytes().get(*l3..).unwrap_or_default();
    let (class, kept) = (crate::wire::ip::class(header), Ids::of(header));
    let (src, dst) = match ip {
        Datagram::V4(ip) => (ip.src.into(), ip.dst.into()),
        Datagram::V6(ip) => (ip.header.src, ip.header.dst),
    };
    let carried = Carried {
        protocol: ipv4::PROTOCOL_UDP,
        at: l3 + ip.headers_len(),
        header_len: HEADER_LEN,
        len: ip.payload_len(),
        hops: ip.hops().wrapping_sub(1),
        class,
        src,
        dst,
    };
    let keep = OptionsRule::Keep;
    match (ip, to) {
        (Datagram::V4(_), IpRewrite::V4(to)) => {
            carried.put_in_ipv4(frame, &to.endpoints, keep, kept)
        }
        (Datagram::V6(_), IpRewrite::V4(to)) => {
            carried.put_in_ipv4(frame, &to.endpoints, keep, Ids::new(id))
        }
        (Datagram::V6(_), IpRewrite::V6(to)) => {
            carried.move_in_ipv6(frame, *l3, &to.endpoints, keep);
            Ok(*l3)
        }
        (Datagram::V4(_), IpRewrite::V6(to)) => {
            let l3 = carried.put_in_ipv6(frame, &to.endpoints, keep)?;
            let bytes = frame.bytes_mut().get_mut(l3 + ipv6::HEADER_LEN..).unwrap_or_default();
            if get_u16(bytes, udp::field::CHECKSUM) == 0 {
                udp::write_checksum(to.endpoints.src.ip, to.endpoints.dst.ip, bytes);
            }
            Ok(l3)
        }
    }
}
