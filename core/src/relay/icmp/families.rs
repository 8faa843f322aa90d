//! ICMP errors that are IPv6 before, after, or both: what they say in the other family's words, the
//! quote translated as its segment was, and headers of the other family around it.
//!
//! Extensions behind a quote (RFC 4884) are cut off where the family changes, and so is what would
//! not fit the datagram that every host takes.

use super::headers::LEN_EVERY_HOST_TAKES;
use super::kinds::Head;
use super::quote::{Quote4, Quote6, header_len};
use crate::frame::{self, Frame, header_at};
use crate::net::Endpoints;
use crate::relay::rewrite::families::{Carried, Ids};
use crate::relay::rewrite::options::OptionsRule;
use crate::verdict::DropReason;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::{icmp, icmpv6, put_u32};

/// What an error becomes whose family changes, or that is IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translated<A: Copy> {
    /// Endpoints of the quoted segment, as the host that the error is for sent it.
    pub quote: Endpoints<A>,
    /// The MTU to announce, in bytes, where the error announces one.
    pub mtu: Option<u32>,
}

/// Rewrites the ICMP error in `frame` to IPv6, TTL less one. Gives back where its IPv6 header is
/// afterwards. What ICMPv6 has no words for is refused.
///
/// `ip` is the header at `l3`; `frame` must end where its datagram ends.
///
/// # Errors
/// When ICMPv6 has no such error ([`DropReason::IcmpType`]), the quote is cut off
/// ([`DropReason::IcmpQuote`]), or the frame buffer has no room ([`DropReason::NoRoom`]).
pub fn apply_4to6<F: Frame>(
    frame: &mut F,
    l3: usize,
    ip: &Ipv4,
    quote: &Quote4,
    to: &Translated<u128>,
) -> Result<usize, DropReason> {
    let class = header_at::<F, { ipv4::HEADER_LEN }>(frame, l3).ok_or(DropReason::IcmpQuote)?
        [ipv4::field::TOS];
    let message = l3 + ip.header_len;
    let head = Head::read(header_at(frame, message).ok_or(DropReason::IcmpQuote)?);
    let new = head.for_ipv6(to.mtu).ok_or(DropReason::IcmpType)?;
    let quote_at = message + icmp::HEADER_LEN;
    let inner =
        header_at::<F, { ipv4::HEADER_LEN }>(frame, quote_at).ok_or(DropReason::IcmpQuote)?;
    let carried = Carried {
        protocol: quote.protocol.number(),
        at: quote_at + quote.ip.header_len,
        header_len: quote.tcp_seen,
        len: quote.ip.total_len.saturating_sub(quote.ip.header_len),
        hops: quote.ip.ttl,
        class: inner[ipv4::field::TOS],
        src: quote.ip.src.into(),
        dst: quote.ip.dst.into(),
    };
    cut(frame, quote_at, head.quote_len_ipv4(), &carried);
    let quote_at = carried.put_in_ipv6(frame, &to.quote, OptionsRule::Keep)?;
    let outer = Outer { quote_at, hops: ip.ttl.wrapping_sub(1), class };
    outer.put_ipv6(frame, new, &to.quote)
}

/// Rewrites the ICMPv6 error in `frame` to IPv4, hop limit less one. Gives back where its IPv4
/// header is afterwards. What ICMP has no words for is refused.
///
/// `ip` is the header at `l3`, and `at` where the message begins from there; `frame` must end where
/// its datagram ends.
///
/// # Errors
/// When ICMP has no such error ([`DropReason::IcmpType`]), the quote is cut off
/// ([`DropReason::IcmpQuote`]) or too long ([`DropReason::TooBig`]), or the frame buffer has no
/// room ([`DropReason::NoRoom`]).
pub fn apply_6to4<F: Frame>(
    frame: &mut F,
    l3: usize,
    (ip, at): (&Ipv6, usize),
    quote: &Quote6,
    to: &Translated<u32>,
) -> Result<usize, DropReason> {
    let head = Head::read(header_at(frame, l3 + at).ok_or(DropReason::IcmpQuote)?);
    let new = head.for_ipv4(to.mtu).ok_or(DropReason::IcmpType)?;
    let quote_at = l3 + at + icmpv6::HEADER_LEN;
    let carried = quote.carried(quote_at);
    cut(frame, quote_at, head.quote_len_ipv6(), &carried);
    // With DF, as hosts send segments: frag-needed is about nothing else.
    let quote_at = carried.put_in_ipv4(frame, &to.quote, OptionsRule::Keep, Ids::new(None))?;
    let outer = Outer { quote_at, hops: ip.hop_limit.wrapping_sub(1), class: ip.traffic_class };
    outer.put_ipv4(frame, new, &to.quote)
}

/// Rewrites the ICMPv6 error in `frame`, which stays IPv6, hop limit less one. Its headers stay
/// where they are.
///
/// `ip` is the header at `l3`, and `at` where the message begins from there; `frame` must end where
/// its datagram ends.
pub fn apply_6to6<F: Frame>(
    frame: &mut F,
    l3: usize,
    (ip, at): (&Ipv6, usize),
    quote: &Quote6,
    to: &Translated<u128>,
) {
    let quote_at = l3 + at + icmpv6::HEADER_LEN;
    quote.carried(quote_at).move_in_ipv6(frame, quote_at, &to.quote, OptionsRule::Keep);
    move_outer(frame, l3, (ip, at), to);
}

/// Rewrites what is around a quote that is rewritten already and as long as it was: addresses, hop
/// limit, MTU and checksum.
pub(super) fn move_outer<F: Frame>(
    frame: &mut F,
    l3: usize,
    (ip, at): (&Ipv6, usize),
    to: &Translated<u128>,
) {
    let (src, dst) = (to.quote.dst.ip, to.quote.src.ip);
    let header = frame.bytes_mut().get_mut(l3..).unwrap_or_default();
    ipv6::put_address(header, ipv6::field::SRC, src);
    ipv6::put_address(header, ipv6::field::DST, dst);
    if let Some(hop_limit) = header.get_mut(ipv6::field::HOP_LIMIT) {
        *hop_limit = ip.hop_limit.wrapping_sub(1);
    }
    let message = header.get_mut(at..).unwrap_or_default();
    if let Some(mtu) = to.mtu {
        put_u32(message, icmpv6::field::MTU, mtu);
    }
    icmpv6::write_checksum(src, dst, message);
}

impl Quote6 {
    /// What is quoted in the frame at `quote_at`.
    fn carried(&self, quote_at: usize) -> Carried {
        Carried {
            protocol: self.protocol.number(),
            at: quote_at + self.at,
            header_len: self.tcp_seen.min(header_len(self.protocol)),
            len: self.ip.total_len().saturating_sub(self.at),
            hops: self.ip.hop_limit,
            class: self.ip.traffic_class,
            src: self.ip.src,
            dst: self.ip.dst,
        }
    }
}

/// Cuts off what follows `len` bytes of the quote at `quote_at`, but none of the headers in it.
fn cut<F: Frame>(frame: &mut F, quote_at: usize, len: Option<usize>, carried: &Carried) {
    if let Some(len) = len {
        frame.truncate((quote_at + len).max(carried.at + carried.header_len));
    }
}

/// What goes around a quote that is rewritten already.
pub(super) struct Outer {
    /// Where the quote begins.
    pub quote_at: usize,
    /// TTL or hop limit to be written.
    pub hops: u8,
    /// DSCP and ECN.
    pub class: u8,
}

impl Outer {
    /// Puts the heads of an ICMPv6 error in front. It comes from whom its addressee knows as the
    /// peer, as over IPv4.
    pub fn put_ipv6<F: Frame>(
        &self,
        frame: &mut F,
        head: Head,
        quote: &Endpoints<u128>,
    ) -> Result<usize, DropReason> {
        frame.truncate(self.quote_at + ipv6::MTU_MIN - ipv6::HEADER_LEN - icmpv6::HEADER_LEN);
        let at = frame::put_before(frame, self.quote_at, &head.bytes());
        let at = at.ok_or(DropReason::NoRoom)?;
        let (src, dst) = (quote.dst.ip, quote.src.ip);
        let message = frame.bytes_mut().get_mut(at..).unwrap_or_default();
        icmpv6::write_checksum(src, dst, message);
        let header = ipv6::Header {
            traffic_class: self.class,
            payload_len: message.len() as u16,
            next_header: ipv6::PROTOCOL_ICMPV6,
            hop_limit: self.hops,
            src,
            dst,
            ..ipv6::ORIGINATED
        };
        let mut bytes = [0; ipv6::HEADER_LEN];
        header.write(&mut bytes);
        frame::put_before(frame, at, &bytes).ok_or(DropReason::NoRoom)
    }

    /// [`Outer::put_ipv6`] for IPv4.
    fn put_ipv4<F: Frame>(
        &self,
        frame: &mut F,
        head: Head,
        quote: &Endpoints<u32>,
    ) -> Result<usize, DropReason> {
        frame.truncate(self.quote_at + LEN_EVERY_HOST_TAKES - ipv4::HEADER_LEN - icmp::HEADER_LEN);
        let at = frame::put_before(frame, self.quote_at, &head.bytes());
        let at = at.ok_or(DropReason::NoRoom)?;
        let message = frame.bytes_mut().get_mut(at..).unwrap_or_default();
        icmp::write_checksum(message);
        let header = ipv4::Header {
            tos: self.class,
            total_len: (ipv4::HEADER_LEN + message.len()) as u16,
            ttl: self.hops,
            protocol: ipv4::PROTOCOL_ICMP,
            src: quote.dst.ip,
            dst: quote.src.ip,
            ..ipv4::ORIGINATED
        };
        let mut bytes = [0; ipv4::HEADER_LEN];
        header.write(&mut bytes);
        frame::put_before(frame, at, &bytes).ok_or(DropReason::NoRoom)
    }
}
