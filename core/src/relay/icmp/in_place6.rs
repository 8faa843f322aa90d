//! ICMP errors that are and stay IPv6, about segments whose timestamps change.
//!
//! A quote that becomes longer or shorter gets new headers around it, without extension headers,
//! and extensions behind it (RFC 4884) are cut off; else all of them stay.

use super::families::{Outer, Translated, move_outer};
use super::kinds::Head;
use super::quote::Quote6;
use crate::frame::{Frame, header_at};
use crate::relay::rewrite::Rewrite;
use crate::relay::rewrite::families::Ipv6Segment;
use crate::relay::rewrite::in_place6;
use crate::verdict::DropReason;
use crate::wire::icmpv6;
use crate::wire::ipv6::Ipv6;
use crate::wire::tcp::{self, Tcp};

/// Rewrites the ICMPv6 error in `frame`, hop limit less one. Gives back where its IPv6 header is
/// afterwards.
///
/// `ip` is the header at `l3`, and `at` where the message begins from there; `frame` must end where
/// its datagram ends.
///
/// # Errors
/// When the quote shows less than the whole TCP header ([`DropReason::IcmpQuote`]), its options
/// have no room for the timestamps ([`DropReason::OptionsFull`]), or the frame buffer has none
/// ([`DropReason::NoRoom`]).
pub(super) fn apply<F: Frame>(
    frame: &mut F,
    l3: usize,
    (ip, at): (&Ipv6, usize),
    quote: &Quote6,
    to: &Rewrite<u128>,
    mtu: Option<u32>,
) -> Result<usize, DropReason> {
    let quote_at = l3 + at + icmpv6::HEADER_LEN;
    let head = Head::read(header_at(frame, l3 + at).ok_or(DropReason::IcmpQuote)?);
    let tcp_at = quote_at + quote.at;
    let tcp = frame.bytes().get(tcp_at..).and_then(Tcp::parse).ok_or(DropReason::IcmpQuote)?;
    let segment = Ipv6Segment { l3: quote_at, ip: &quote.ip, at: quote.at, tcp: &tcp };
    let options = frame.bytes().get(tcp_at + tcp::HEADER_LEN..tcp_at + tcp.header_len);
    let plan = in_place6::plan(&segment, options.unwrap_or_default(), to)?;
    let is_as_long = plan.total_len == quote.ip.total_len();
    if !is_as_long && let Some(len) = head.quote_len_ipv6() {
        frame.truncate((quote_at + len).max(tcp_at + tcp.header_len));
    }
    let moved_to = in_place6::apply(frame, &segment, to, &plan, quote.ip.hop_limit)?;
    if is_as_long {
        move_outer(frame, l3, (ip, at), &Translated { quote: to.endpoints, mtu });
        return Ok(l3);
    }
    let (hops, class) = (ip.hop_limit.wrapping_sub(1), ip.traffic_class);
    let outer = Outer { quote_at: moved_to, hops, class };
    outer.put_ipv6(frame, head.around_another_quote(mtu), &to.endpoints)
}
