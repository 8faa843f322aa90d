//! Segments that ICMP errors quote (RFC 792, RFC 4443, section 2.4).

use super::headers::Headers;
use crate::net::{Endpoint, Family, IpEndpoint, Protocol};
use crate::relay::rewrite::options::{self, TimestampsAt};
use crate::seq::SeqNum;
use crate::verdict::DropReason;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::tcp::{self, Tcp};
use crate::wire::{get_u16, get_u32, udp};

/// Bytes of the quoted TCP header without which an error can not be mapped: ports and number. They
/// are all of UDP's.
const QUOTED_TCP_MIN: usize = 8;

/// A segment of a relay that an error quotes.
#[derive(Clone, Copy, Debug)]
pub enum Quote {
    /// Over IPv4.
    V4(Quote4),
    /// Over IPv6.
    V6(Quote6),
}

impl Quote {
    /// Reads the quote in `bytes`, which follow the header of an ICMP error of `family`.
    ///
    /// # Errors
    /// When it shows too little, or is no segment: [`DropReason::IcmpQuote`].
    pub fn parse(family: Family, bytes: &[u8]) -> Result<Quote, DropReason> {
        match family {
            Family::V4 => Quote4::parse(bytes).map(Quote::V4),
            Family::V6 => Quote6::parse(bytes).map(Quote::V6),
        }
    }

    /// The protocol of the segment.
    pub fn protocol(&self) -> Protocol {
        match self {
            Quote::V4(quote) => quote.protocol,
            Quote::V6(quote) => quote.protocol,
        }
    }

    /// The source of the segment.
    pub fn src(&self) -> IpEndpoint {
        match self {
            Quote::V4(quote) => Endpoint { ip: quote.ip.src, port: quote.src_port }.into(),
            Quote::V6(quote) => Endpoint { ip: quote.ip.src, port: quote.src_port }.into(),
        }
    }

    /// The destination of the segment.
    pub fn dst(&self) -> IpEndpoint {
        match self {
            Quote::V4(quote) => Endpoint { ip: quote.ip.dst, port: quote.dst_port }.into(),
            Quote::V6(quote) => Endpoint { ip: quote.ip.dst, port: quote.dst_port }.into(),
        }
    }

    /// What is seen of the segment's timestamps.
    pub fn seen(&self) -> Seen {
        match self {
            Quote::V4(quote) => quote.seen,
            Quote::V6(quote) => quote.seen,
        }
    }

    /// Whether the segment is a SYN or a SYN-ACK, where the quote shows its flags.
    pub fn is_syn(&self) -> bool {
        match self {
            Quote::V4(quote) => quote.headers.has(tcp::SYN),
            Quote::V6(quote) => quote.is_syn,
        }
    }

    /// The acknowledgment number of the segment, where the quote shows that it has one.
    pub fn ack(&self) -> Option<SeqNum> {
        match self {
            Quote::V4(quote) => {
                let segment = quote.headers.segment();
                segment.filter(|_| quote.tcp_seen >= tcp::HEADER_LEN).and_then(shown_ack)
            }
            Quote::V6(quote) => quote.ack,
        }
    }

    /// The quoted TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        match self {
            Quote::V4(quote) => quote.timestamps(),
            Quote::V6(quote) => quote.timestamps,
        }
    }
}

/// What the quote shows of the segment's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There they are.
    Timestamps(TimestampsAt),
    /// The segment has none.
    None,
    /// The quote ends before that can be told.
    CutOff,
}

/// A segment of ours that an error quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quote4 {
    /// Its headers, with options only where the quote holds them all.
    pub(super) headers: Headers,
    // Bytes of TCP header in the quote.
    pub(super) tcp_seen: usize,
    /// TCP or UDP.
    pub protocol: Protocol,
    // The quoted byte with the data offset, where the quote holds it.
    pub(super) data_offset: Option<u8>,
    /// The quoted IPv4 header.
    pub ip: Ipv4,
    /// Quoted source port.
    pub src_port: u16,
    /// Quoted destination port.
    pub dst_port: u16,
    /// What is seen of the timestamps.
    pub seen: Seen,
}

impl Quote4 {
    /// Reads the quote in `bytes`, what follows the ICMP header.
    ///
    /// # Errors
    /// When it shows too little, or is no segment: [`DropReason::IcmpQuote`].
    pub fn parse(bytes: &[u8]) -> Result<Quote4, DropReason> {
        let ip = Ipv4::parse_quoted(bytes).ok_or(DropReason::IcmpQuote)?;
        if ip.is_later_fragment() {
            return Err(DropReason::IcmpQuote);
        }
        let protocol = Protocol::of_number(ip.protocol).ok_or(DropReason::IcmpQuote)?;
        let (segment, ports) = quoted_segment(protocol, bytes, ip.header_len, ip.total_len)?;
        let is_tcp = protocol == Protocol::Tcp;
        let whole = Tcp::parse(segment).filter(|tcp| is_tcp && tcp.header_len <= segment.len());
        let shown = segment.len().min(header_len(protocol));
        let tcp_seen = whole.map_or(shown, |tcp| tcp.header_len);
        let data_offset = segment.get(tcp::field::DATA_OFFSET).copied();
        let mut headers = Headers::default();
        headers.fill(bytes, ip.header_len, tcp_seen);
        let seen = match whole {
            None if !is_tcp => Seen::None,
            None => Seen::CutOff,
            Some(_) => match options::find_timestamps(headers.options()) {
                Ok(Some(at)) => Seen::Timestamps(at),
                Ok(None) => Seen::None,
                Err(_) => return Err(DropReason::IcmpQuote),
            },
        };
        Ok(Quote4 {
            headers,
            tcp_seen,
            protocol,
            data_offset,
            ip,
            src_port: ports.0,
            dst_port: ports.1,
            seen,
        })
    }

    /// The quoted TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        let Seen::Timestamps(at) = self.seen else { return None };
        let options = self.headers.options();
        Some((options::timestamp_value(options, at), options::timestamp_echo(options, at)))
    }
}

/// A segment of ours, over IPv6, that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote6 {
    /// The quoted IPv6 header.
    pub ip: Ipv6,
    /// TCP or UDP.
    pub protocol: Protocol,
    // Offset in bytes of the TCP or UDP header in the quote.
    pub(super) at: usize,
    // Bytes of the quote that hold TCP or UDP.
    pub(super) tcp_seen: usize,
    /// Quoted source port.
    pub src_port: u16,
    /// Quoted destination port.
    pub dst_port: u16,
    // What is shown of the number, the flags and the options.
    ack: Option<SeqNum>,
    is_syn: bool,
    pub(super) seen: Seen,
    timestamps: Option<(u32, u32)>,
}

impl Quote6 {
    /// Reads the quote in `bytes`, what follows the ICMPv6 header.
    ///
    /// # Errors
    /// When it shows too little, or is no segment: [`DropReason::IcmpQuote`].
    pub fn parse(bytes: &[u8]) -> Result<Quote6, DropReason> {
        let (ip, upper) = Ipv6::parse_quoted(bytes).ok_or(DropReason::IcmpQuote)?;
        let protocol = Protocol::of_number(upper.protocol).ok_or(DropReason::IcmpQuote)?;
        let (segment, (src_port, dst_port)) =
            quoted_segment(protocol, bytes, upper.at, ip.total_len())?;
        if protocol == Protocol::Udp {
            return Ok(Quote6 {
                ip,
                protocol,
                at: upper.at,
                tcp_seen: segment.len(),
                src_port,
                dst_port,
                ack: None,
                is_syn: false,
                seen: Seen::None,
                timestamps: None,
            });
        }
        let flags = segment.get(tcp::field::FLAGS).copied().unwrap_or_default();
        let (at, tcp_seen) = (upper.at, segment.len());
        let (ack, is_syn) = (shown_ack(segment), flags & tcp::SYN != 0);
        let whole = Tcp::parse(segment);
        let options = whole.and_then(|tcp| segment.get(tcp::HEADER_LEN..tcp.header_len));
        // Options that cannot be read are left alone, as those that are cut off.
        let (seen, timestamps) = match options.map(|all| (all, options::find_timestamps(all))) {
            Some((all, Ok(Some(at)))) => {
                let numbers = (options::timestamp_value(all, at), options::timestamp_echo(all, at));
                (Seen::Timestamps(at), Some(numbers))
            }
            Some((_, Ok(None))) => (Seen::None, None),
            Some((_, Err(_))) | None => (Seen::CutOff, None),
        };
        Ok(Quote6 { ip, protocol, at, tcp_seen, src_port, dst_port, ack, is_syn, seen, timestamps })
    }
}

/// The acknowledgment number of a segment, if it shows one.
fn shown_ack(segment: &[u8]) -> Option<SeqNum> {
    let flags = segment.get(tcp::field::FLAGS)?;
    (flags & tcp::ACK != 0).then(|| SeqNum(get_u32(segment, tcp::field::ACK)))
}

/// Length in bytes of a header of `protocol` without options.
pub(super) const fn header_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => tcp::HEADER_LEN,
        Protocol::Udp => udp::HEADER_LEN,
    }
}

/// What `bytes`, a quote of a datagram of `total_len` bytes, hold of the segment of `protocol` at
/// `at`, and its ports. Refused is what shows too little of it, or was no whole header when it was
/// sent.
fn quoted_segment(
    protocol: Protocol,
    bytes: &[u8],
    at: usize,
    total_len: usize,
) -> Result<(&[u8], (u16, u16)), DropReason> {
    let segment = bytes.get(at..).unwrap_or_default();
    if segment.len() < QUOTED_TCP_MIN || total_len < at + header_len(protocol) {
        return Err(DropReason::IcmpQuote);
    }
    let (src, dst) = (tcp::field::SRC_PORT, tcp::field::DST_PORT);
    Ok((segment, (get_u16(segment, src), get_u16(segment, dst))))
}
