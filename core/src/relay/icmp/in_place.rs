//! ICMP errors that are and stay IPv4.

use super::headers::{Headers, LEN_EVERY_HOST_TAKES};
use super::kinds::Head;
use super::quote::{Quote4, Seen};
use crate::frame::{self, Frame, header_at};
use crate::net::{Endpoints, Protocol};
use crate::relay::rewrite::Rewrite;
use crate::relay::rewrite::families::Carried;
use crate::relay::rewrite::in_place::{self, Ipv4Segment};
use crate::verdict::DropReason;
use crate::wire::checksum::Change;
use crate::wire::icmp;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{get_u16, put_u16, put_u32};
/// Rewrites the ICMP error in `frame`, TTL less one. Gives back where its IPv4 header is
/// afterwards.
///
/// `ip` is the header at `l3`; `frame` must end where its datagram ends.
pub(super) fn apply<F: Frame>(
    frame: &mut F,
    l3: usize,
    ip: &Ipv4,
    quote: &Quote4,
    to: &Rewrite,
    mtu: Option<u32>,
) -> Result<usize, DropReason> {
    let mut headers = quote.headers;
    let old_len = quote.ip.header_len + quote.tcp_seen;
    let keep = match quote.protocol {
        Protocol::Tcp => {
            rewrite_quote(&mut headers, quote, to)?;
            // A TCP header that was cut off is as short as it was.
            match quote.tcp_seen < tcp::HEADER_LEN {
                true => ipv4::HEADER_LEN + quote.tcp_seen,
                false => headers.bytes().len(),
            }
        }
        Protocol::Udp => {
            carried(quote).move_in_ipv4(&mut headers, 0, &to.endpoints);
            old_len
        }
    };
    // No POP sent a segment that would have been too long before.
    if quote.ip.total_len + keep.saturating_sub(old_len) > usize::from(u16::MAX) {
        return Err(DropReason::IcmpQuote);
    }
    let new = headers.bytes().get(..keep).ok_or(DropReason::IcmpQuote)?;

    let mut outer = *header_at(frame, l3).ok_or(DropReason::IcmpQuote)?;
    let message = l3 + ip.header_len;
    let mut head: [u8; icmp::HEADER_LEN] =
        *header_at(frame, message).ok_or(DropReason::IcmpQuote)?;
    if let Some(mtu) = mtu {
        put_u16(&mut head, icmp::field::MTU, mtu as u16);
    }
    if keep != old_len
        && let Some(len) = Head::read(&head).quote_len_ipv4()
    {
        // Extensions (RFC 4884) are looked for where the quote ended.
        head[icmp::field::QUOTE_WORDS] = 0;
        frame.truncate(message + icmp::HEADER_LEN + len.max(old_len));
    }
    // The quote loses at its end what it gains, where the error is longer than every host takes:
    // an error that fills a link still fits.
    let (gain, len) = (keep.saturating_sub(old_len), frame.bytes().len());
    if len > l3 + LEN_EVERY_HOST_TAKES {
        frame.truncate(len - gain);
    }
    let data_at = message + icmp::HEADER_LEN + old_len;
    if frame.bytes().len() < data_at {
        return Err(DropReason::IcmpQuote);
    }
    let quote_at = frame::put_before(frame, data_at, new).ok_or(DropReason::NoRoom)?;
    let message = frame::put_before(frame, quote_at, &head).ok_or(DropReason::NoRoom)?;
    let bytes = frame.bytes_mut().get_mut(message..).unwrap_or_default();
    icmp::write_checksum(bytes);
    let total_len = ipv4::HEADER_LEN + bytes.len();
    rewrite_outer(&mut outer, &to.endpoints, total_len as u16);
    frame::put_before(frame, message, &outer).ok_or(DropReason::NoRoom)
}

/// The quoted UDP header, and what matters of the one in front of it.
fn carried(quote: &Quote4) -> Carried {
    Carried {
        protocol: quote.protocol.number(),
        at: quote.ip.header_len,
        header_len: quote.tcp_seen,
        len: quote.ip.total_len.saturating_sub(quote.ip.header_len),
        hops: quote.ip.ttl,
        class: 0,
        src: quote.ip.src.into(),
        dst: quote.ip.dst.into(),
    }
}

/// Rewrites the quoted headers like a segment's, then gives back what a quote must not lose: the
/// TTL, and the data offset of a header that is cut off.
fn rewrite_quote(headers: &mut Headers, quote: &Quote4, to: &Rewrite) -> Result<(), DropReason> {
    let ip_len = quote.ip.header_len;
    let tcp = headers.bytes().get(ip_len..).and_then(Tcp::parse).ok_or(DropReason::IcmpQuote)?;
    let segment = Ipv4Segment { l3: 0, ip: &quote.ip, tcp: &tcp };
    let plan = in_place::plan(&segment, headers.options(), to)?;
    let l3 = in_place::apply(headers, &segment, to, &plan)?;
    headers.trim_front(l3);
    let bytes = headers.bytes_mut();
    let ttl = get_u16(bytes, ipv4::field::TTL);
    let sum = get_u16(bytes, ipv4::field::CHECKSUM);
    let first_ttl = ttl.wrapping_add(0x0100);
    put_u16(bytes, ipv4::field::TTL, first_ttl);
    put_u16(bytes, ipv4::field::CHECKSUM, Change::NONE.word(ttl, first_ttl).apply(sum));
    if quote.seen == Seen::CutOff
        && let Some(offset) = quote.data_offset
        && let Some(place) = bytes.get_mut(ipv4::HEADER_LEN + tcp::field::DATA_OFFSET)
    {
        *place = offset;
    }
    Ok(())
}

/// IPv4 options of the error itself go, as everywhere.
fn rewrite_outer(header: &mut [u8; ipv4::HEADER_LEN], quote: &Endpoints, total_len: u16) {
    header[ipv4::field::VERSION_IHL] = 0x45;
    header[ipv4::field::TTL] = header[ipv4::field::TTL].wrapping_sub(1);
    put_u16(header, ipv4::field::TOTAL_LEN, total_len);
    put_u32(header, ipv4::field::SRC, quote.dst.ip);
    put_u32(header, ipv4::field::DST, quote.src.ip);
    ipv4::write_checksum(header);
}
