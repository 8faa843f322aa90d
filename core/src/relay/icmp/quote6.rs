//! Segments over IPv6 that ICMPv6 errors quote (RFC 4443, section 2.4).

use super::quoted_segment;
use crate::verdict::DropReason;
use crate::wire::ipv6::{self, Ipv6};

/// A segment of ours, over IPv6, that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote6 {
    /// The quoted IPv6 header.
    pub ip: Ipv6,
    // Offset in bytes of the TCP header in the quote.
    pub(super) at: usize,
    // Bytes of the quote that hold TCP.
    pub(super) tcp_seen: usize,
    /// Quoted source port.
    pub src_port: u16,
    /// Quoted destination port.
    pub dst_port: u16,
}

impl Quote6 {
    /// Reads the quote in `bytes`, what follows the ICMPv6 header.
    pub fn parse(bytes: &[u8]) -> Result<Quote6, DropReason> {
        let (ip, upper) = Ipv6::parse_quoted(bytes).ok_or(DropReason::IcmpQuote)?;
        if upper.protocol != ipv6::PROTOCOL_TCP {
            return Err(DropReason::IcmpQuote);
        }
        let (segment, (src_port, dst_port)) = quoted_segment(bytes, upper.at, ip.total_len())?;
        Ok(Quote6 { ip, at: upper.at, tcp_seen: segment.len(), src_port, dst_port })
    }
}
