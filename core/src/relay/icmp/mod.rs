//! Maps an ICMP error to the endpoint that it concerns (RFC 792, RFC 1191, RFC 5508).
//!
//! Here are errors that stay IPv4; `families` has those that are IPv6 before, after, or both.
//!
//! The quote inside an error is a segment of ours, on its way to a target or to a client. The same
//! functions that rewrote it then give its first form back now, so that the endpoint sees its own
//! segment quoted; sequence numbers pass as they are, for the endpoint to check.

use crate::frame::{self, Frame};
use crate::relay::options::{self, INSERTED_LEN, TimestampsAt};
use crate::relay::translate::{self, Rewrite, Segment};
use crate::verdict::DropReason;
use crate::wire::checksum::{self, Change};
use crate::wire::icmp;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, Tcp};
use crate::wire::{get_u16, put_u16, put_u32};

mod families;
mod kinds;
mod quote6;
#[cfg(test)]
mod tests;

use kinds::Head;

pub use families::{Mapping4, Mapping6, apply_4to6, apply_6to4, apply_6to6};
pub use kinds::{mtu_for_ipv4, mtu_for_ipv6};
pub use quote6::Quote6;

/// Bytes of the quoted TCP header without which an error can not be mapped: ports and number.
const QUOTED_TCP_MIN: usize = 8;

/// Bytes of a datagram that every host takes (RFC 1812, section 4.3.2.3).
const LEN_EVERY_HOST_TAKES: usize = 576;

/// Longest IPv4 and TCP header.
const HEADERS_MAX: usize = 120;

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
pub struct Quote {
    /// Its headers, with options only where the quote holds them all.
    headers: Headers,
    // Bytes of TCP header in the quote.
    tcp_seen: usize,
    // The quoted byte with the data offset, where the quote holds it.
    data_offset: Option<u8>,
    /// The quoted IPv4 header.
    pub ip: Ipv4,
    /// Quoted source port.
    pub src_port: u16,
    /// Quoted destination port.
    pub dst_port: u16,
    /// What is seen of the timestamps.
    pub seen: Seen,
}

impl Quote {
    /// Reads the quote in `bytes`, what follows the ICMP header.
    pub fn parse(bytes: &[u8]) -> Result<Quote, DropReason> {
        let ip = Ipv4::parse_quoted(bytes).ok_or(DropReason::IcmpQuote)?;
        if ip.protocol != ipv4::PROTOCOL_TCP || ip.is_later_fragment() {
            return Err(DropReason::IcmpQuote);
        }
        let (segment, ports) = quoted_segment(bytes, ip.header_len, ip.total_len)?;
        let whole = Tcp::parse(segment).filter(|tcp| tcp.header_len <= segment.len());
        let tcp_seen = whole.map_or(segment.len().min(tcp::HEADER_LEN), |tcp| tcp.header_len);
        let data_offset = segment.get(tcp::field::DATA_OFFSET).copied();
        let mut headers = Headers::default();
        headers.fill(bytes, ip.header_len, tcp_seen);
        let seen = match whole {
            None => Seen::CutOff,
            Some(_) => match options::find_timestamps(headers.options()) {
                Ok(Some(at)) => Seen::Timestamps(at),
                Ok(None) => Seen::None,
                Err(_) => return Err(DropReason::IcmpQuote),
            },
        };
        Ok(Quote { headers, tcp_seen, data_offset, ip, src_port: ports.0, dst_port: ports.1, seen })
    }

    /// The quoted TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        let Seen::Timestamps(at) = self.seen else { return None };
        let options = self.headers.options();
        Some((options::timestamp_value(options, at), options::timestamp_echo(options, at)))
    }
}

/// What `bytes`, a quote of a datagram of `total_len` bytes, hold of the TCP segment at `at`, and its
/// ports. Refused is what shows too little of it, or was no whole header when it was sent.
fn quoted_segment(
    bytes: &[u8],
    at: usize,
    total_len: usize,
) -> Result<(&[u8], (u16, u16)), DropReason> {
    let segment = bytes.get(at..).unwrap_or_default();
    if segment.len() < QUOTED_TCP_MIN || total_len < at + tcp::HEADER_LEN {
        return Err(DropReason::IcmpQuote);
    }
    let (src, dst) = (tcp::field::SRC_PORT, tcp::field::DST_PORT);
    Ok((segment, (get_u16(segment, src), get_u16(segment, dst))))
}

/// The headers of a quote, in a buffer where they can be rewritten like a segment's.
#[derive(Clone, Copy, Debug)]
struct Headers {
    buffer: [u8; INSERTED_LEN + HEADERS_MAX],
    start: usize,
    end: usize,
    ip_len: usize,
}

impl Default for Headers {
    fn default() -> Self {
        let buffer = [0; INSERTED_LEN + HEADERS_MAX];
        Headers { buffer, start: INSERTED_LEN, end: INSERTED_LEN, ip_len: 0 }
    }
}

impl Headers {
    /// Takes the first `ip_len + tcp_len` of `bytes`; a TCP header that is cut off is filled up
    /// with zeros and made to have no options.
    fn fill(&mut self, bytes: &[u8], ip_len: usize, tcp_len: usize) {
        let len = (ip_len + tcp_len).min(HEADERS_MAX).min(bytes.len());
        if let (Some(place), Some(bytes)) =
            (self.buffer.get_mut(INSERTED_LEN..INSERTED_LEN + len), bytes.get(..len))
        {
            place.copy_from_slice(bytes);
        }
        self.ip_len = ip_len;
        self.end = INSERTED_LEN + ip_len + tcp_len.max(tcp::HEADER_LEN);
        if tcp_len <= tcp::HEADER_LEN
            && let Some(offset) =
                self.buffer.get_mut(INSERTED_LEN + ip_len + tcp::field::DATA_OFFSET)
        {
            *offset = (*offset & 0x0f) | 0x50;
        }
    }

    fn options(&self) -> &[u8] {
        self.bytes().get(self.ip_len + tcp::HEADER_LEN..).unwrap_or_default()
    }
}

impl Frame for Headers {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn prepend(&mut self, count: usize) -> bool {
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }

    fn append(&mut self, _: usize) -> bool {
        false
    }

    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// What an ICMP error becomes.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// What the quoted segment becomes, as the endpoint sent it; its TTL stays.
    pub quote: Rewrite,
    /// The MTU to announce, where the error announces one.
    pub mtu: Option<u16>,
}

impl Mapping {
    /// Whom the error is for: the endpoint that sent the quoted segment.
    pub fn addressee(&self) -> u32 {
        self.quote.endpoints.src
    }

    /// Whom it comes from: the peer that the endpoint knows, as a NAT has it (RFC 5508, section 4).
    /// The reporting router may have an address that filters on the way drop, and neither side
    /// learns of the other's.
    fn reporter(&self) -> u32 {
        self.quote.endpoints.dst
    }
}

/// Rewrites the ICMP error in `frame`, TTL less one. Gives back where its IPv4 header is afterwards.
///
/// `ip` is the header at `l3`; `frame` must end where its datagram ends.
pub fn apply<F: Frame>(
    frame: &mut F,
    l3: usize,
    ip: &Ipv4,
    quote: &Quote,
    mapping: &Mapping,
) -> Result<usize, DropReason> {
    let mut headers = quote.headers;
    rewrite_quote(&mut headers, quote, &mapping.quote)?;
    // A TCP header that was cut off is as short as it was.
    let old_len = quote.ip.header_len + quote.tcp_seen;
    let keep = if quote.tcp_seen < tcp::HEADER_LEN {
        ipv4::HEADER_LEN + quote.tcp_seen
    } else {
        headers.bytes().len()
    };
    let new = headers.bytes().get(..keep).ok_or(DropReason::IcmpQuote)?;

    let mut outer = *header_at(frame, l3)?;
    let message = l3 + ip.header_len;
    let mut head: [u8; icmp::HEADER_LEN] = *header_at(frame, message)?;
    if let Some(mtu) = mapping.mtu {
        put_u16(&mut head, icmp::field::MTU, mtu);
    }
    if keep != old_len
        && let Some(len) = Head::read(&head).quote_len_ipv4()
    {
        // Extensions (RFC 4884) are looked for where the quote ended.
        head[icmp::field::QUOTE_WORDS] = 0;
        frame.truncate(message + icmp::HEADER_LEN + len.max(old_len));
    }
    // What the quote gains it loses at its end, where that is more than every host takes anyway: an error
    // that fills a link stays one that fits.
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
    rewrite_outer(&mut outer, mapping, total_len as u16);
    frame::put_before(frame, message, &outer).ok_or(DropReason::NoRoom)
}

/// The header of `N` bytes that begins at `at`.
fn header_at<F: Frame, const N: usize>(frame: &F, at: usize) -> Result<&[u8; N], DropReason> {
    let header = frame.bytes().get(at..).and_then(|bytes| bytes.first_chunk());
    header.ok_or(DropReason::IcmpQuote)
}

/// Rewrites the quoted headers like a segment's, then gives back what a quote must not lose: the
/// TTL, and the data offset of a header that is cut off.
fn rewrite_quote(headers: &mut Headers, quote: &Quote, to: &Rewrite) -> Result<(), DropReason> {
    let ip_len = quote.ip.header_len;
    let tcp = headers.bytes().get(ip_len..).and_then(Tcp::parse).ok_or(DropReason::IcmpQuote)?;
    let segment = Segment { l3: 0, ip: quote.ip, tcp };
    let plan = translate::plan(&segment, headers.options(), to)?;
    let l3 = translate::apply(headers, &segment, to, &plan)?;
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
fn rewrite_outer(header: &mut [u8; ipv4::HEADER_LEN], mapping: &Mapping, total_len: u16) {
    header[ipv4::field::VERSION_IHL] = 0x45;
    header[ipv4::field::TTL] = header[ipv4::field::TTL].wrapping_sub(1);
    put_u16(header, ipv4::field::TOTAL_LEN, total_len);
    put_u32(header, ipv4::field::SRC, mapping.reporter());
    put_u32(header, ipv4::field::DST, mapping.addressee());
    put_u16(header, ipv4::field::CHECKSUM, 0);
    let sum = checksum::checksum(header);
    put_u16(header, ipv4::field::CHECKSUM, sum);
}
