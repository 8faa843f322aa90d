//! Open packets, read by hand: docs/protocol-tunnel.md, sections 18 and 19.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use crate::carried::{class, require};
use crate::frames::{
    ACK, ICMP, ICMPV6, PSH, TCP, addresses, internet_checksum, long, transport_checksum, upper,
    word,
};

/// A segment with an open packet, of which a quote may have cut off the end.
#[derive(Clone, Copy, Debug)]
pub struct OpenSegment<'a> {
    /// Whether it goes to an agent.
    pub is_down: bool,
    /// Where it is from.
    pub src: SocketAddrV4,
    /// Where it goes to.
    pub dst: SocketAddrV4,
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgment number.
    pub ack: u32,
    /// Bytes in front of the number of the tick.
    pub offset: u32,
    /// DSCP and ECN of the outer header.
    pub class: u8,
    /// The packet in it.
    pub inner: &'a [u8],
}

impl<'a> OpenSegment<'a> {
    /// Reads the one in `datagram`, if that is a TCP segment over IPv4 whose payload begins like an
    /// open packet. Nothing else of it is checked.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        if datagram.first()? >> 4 != 4 || word(datagram, 6) & 0x1fff != 0 {
            return None;
        }
        let (TCP, at) = upper(datagram)? else { return None };
        let end = usize::from(word(datagram, 2)).min(datagram.len());
        let segment = datagram.get(at..end).filter(|segment| segment.len() >= 20)?;
        let payload = segment.get(usize::from(segment[12] >> 4) * 4..)?;
        let kind = *payload.first()?;
        if ![UP, DOWN].contains(&kind) {
            return None;
        }
        let end_of = |at: usize, port_at| {
            let ip = Ipv4Addr::from_bits(long(datagram, at));
            SocketAddrV4::new(ip, word(segment, port_at))
        };
        Some(OpenSegment {
            is_down: kind == DOWN,
            src: end_of(12, 0),
            dst: end_of(16, 2),
            seq: long(segment, 4),
            ack: long(segment, 8),
            offset: u32::from(*payload.get(1)?) * 64,
            class: datagram[1],
            inner: payload.get(4..)?,
        })
    }

    /// The one that an ICMP error quotes.
    pub fn quoted(error: &'a [u8]) -> Option<Self> {
        let (ICMP, at) = upper(error)? else { return None };
        Self::read(error.get(at + 8..)?).filter(|quoted| quoted.is_down)
    }
}

/// Checks the headers of a segment that a POP sent with an open packet.
///
/// # Errors
/// The rule that they break.
pub fn check_down(datagram: &[u8]) -> Result<(), &'static str> {
    require(datagram.len() >= 64 && datagram[0] == 0x45, "too little over IPv4, or options")?;
    let segment = &datagram[20..];
    let inner = &segment[24..];
    require(usize::from(word(datagram, 2)) == datagram.len(), "a wrong length")?;
    require(internet_checksum(&[&datagram[..20]]) == 0, "a wrong checksum of IPv4")?;
    require(datagram[8] == 64, "another TTL than 64")?;
    require((word(datagram, 4), word(datagram, 6)) == (0, 0x4000), "an ID, or no DF")?;
    require(inner.len() >= 40 && inner[0] >> 4 == 6, "no IPv6 packet inside")?;
    require(class(datagram) == class(inner), "other DSCP or ECN than inside")?;
    require(usize::from(word(inner, 4)) + 40 == inner.len(), "more or less than a packet inside")?;
    let (src, dst) = addresses(datagram).ok_or("no addresses")?;
    require(transport_checksum(src, dst, TCP, segment) == 0, "a wrong checksum of TCP")?;
    require((segment[12], segment[13]) == (0x50, PSH | ACK), "options, or other flags")?;
    require((word(segment, 14), word(segment, 18)) == (0xffff, 0), "window or urgent pointer")?;
    require((segment[20], word(segment, 22)) == (DOWN, 0), "a wrong open header")?;
    let len = 64 * usize::from(segment[21]) + 4 + inner.len();
    require(len <= OFFSET, "beyond OFFSET")
}

/// Checks that `after` is the packet `before` one hop further, with the class that it has when it
/// came out of a header of the class `outer`, if it did (RFC 6040, section 4.2).
///
/// # Errors
/// The rule that it breaks.
pub fn check_onward(before: &[u8], after: &[u8], outer: Option<u8>) -> Result<(), &'static str> {
    require(before.len() >= 40 && before[0] >> 4 == 6, "no IPv6 packet came")?;
    let len = 40 + usize::from(word(before, 4));
    let mut want = before.get(..len).ok_or("a packet that was cut off came")?.to_vec();
    require(want[7] > 1, "the packet was at its last hop")?;
    want[7] -= 1;
    if let Some(outer) = outer {
        let (inside, ecn) = (class(before), outer & 3);
        let then = match (inside & 3, ecn) {
            (0, 3) => return Err("a mark around a packet whose sender does not know of marks"),
            (1 | 2, 3) => 3,
            (2, 1) => 1,
            (inside, _) => inside,
        };
        let first = word(&want, 0) & 0xf00f | u16::from(inside & 0xfc | then) << 4;
        want[..2].copy_from_slice(&first.to_be_bytes());
    }
    require(want == after, "the packet is changed in more than hops and marks")
}

/// Checks an ICMPv6 error of a POP from `source` about `packet`, whose beginning it may quote.
///
/// # Errors
/// The rule that it breaks.
pub fn check_error(error: &[u8], source: u128, packet: &[u8]) -> Result<(), &'static str> {
    let (src, dst) = addresses(error).ok_or("no datagram")?;
    require(src == Ipv6Addr::from_bits(source), "another source than icmp_source")?;
    let message = error.get(40..).filter(|message| message.len() > 8).ok_or("no message")?;
    require(error.len() <= 1280, "an error beyond the least MTU of IPv6")?;
    require(usize::from(word(error, 4)) == message.len(), "a wrong length")?;
    require(error[6] == ICMPV6 && [1, 2, 3].contains(&message[0]), "no error")?;
    require(transport_checksum(src, dst, ICMPV6, message) == 0, "a wrong checksum of ICMPv6")?;
    require(message[0] == 2 || long(message, 4) == 0, "something where zeros are")?;
    require(message[0] != 2 || long(message, 4) >= 1280, "less than the least MTU of IPv6")?;
    let quote = &message[8..];
    require(packet.starts_with(quote), "a quote of something else")?;
    require(Some(dst) == addresses(quote).map(|(src, _)| src), "told to another than the sender")
}

const UP: u8 = 0x50;
const DOWN: u8 = 0x60;
/// Of the default constants.
const OFFSET: usize = 16384;
