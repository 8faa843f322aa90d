//! Datagrams and segments, read by hand and without the core's code, so that a mistake of the core
//! is not made twice. The kit writes them.

mod answers;
mod segment;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_kit::frames::{
    DESTINATION_OPTIONS, FIN, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, TCP, internet_checksum, long,
    repair, set_length, transport_checksum, word,
};

pub use answers::{advertisement, arp_reply, refusal};
pub use segment::{SegmentView, timestamps, timestamps_at};

/// Extension headers that are passed over (`docs/protocol.md`, section 12).
pub const EXTENSIONS_MAX: usize = 8;

pub const ETHERNET_LEN: usize = 14;

/// An IP datagram of either family.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    /// Where what it carries begins.
    pub payload_at: usize,
    pub ttl: u8,
    pub tos: u8,
    pub protocol: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
}

impl<'a> Datagram<'a> {
    /// `None` for what no receiver takes: lying lengths, a wrong checksum, a fragment. Bytes behind
    /// the datagram are padding.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::read4(bytes),
            6 => Self::read6(bytes),
            _ => None,
        }
    }

    fn read4(bytes: &'a [u8]) -> Option<Self> {
        let payload_at = usize::from(bytes[0] & 15) * 4;
        let total_len = usize::from(word(bytes, 2));
        let whole = payload_at >= 20 && total_len >= payload_at && total_len <= bytes.len();
        if bytes.len() < 20 || !whole || internet_checksum(&[&bytes[..payload_at]]) != 0 {
            return None;
        }
        if word(bytes, 6) & 0x3fff != 0 {
            return None;
        }
        Some(Datagram {
            bytes: &bytes[..total_len],
            payload_at,
            ttl: bytes[8],
            tos: bytes[1],
            protocol: bytes[9],
            src: Ipv4Addr::from_bits(long(bytes, 12)).into(),
            dst: Ipv4Addr::from_bits(long(bytes, 16)).into(),
        })
    }

    fn read6(bytes: &'a [u8]) -> Option<Self> {
        let total_len = 40 + usize::from(word(bytes, 4));
        if bytes.len() < 40 || total_len > bytes.len() {
            return None;
        }
        let address = |at: usize| {
            let octets: [u8; 16] = bytes[at..at + 16].try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)))
        };
        let (protocol, payload_at) = upper6(&bytes[..total_len])?;
        Some(Datagram {
            bytes: &bytes[..total_len],
            payload_at,
            ttl: bytes[7],
            tos: (word(bytes, 0) >> 4) as u8,
            protocol,
            src: address(8)?,
            dst: address(24)?,
        })
    }

    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_at..]
    }

    /// The segment in it, if it has one whose lengths fit.
    pub fn segment(&self) -> Option<SegmentView<'a>> {
        let bytes = self.payload();
        let header_len = usize::from(*bytes.get(12)? >> 4) * 4;
        if self.protocol != TCP || header_len < 20 || bytes.len() < header_len {
            return None;
        }
        Some(SegmentView {
            src: SocketAddr::new(self.src, word(bytes, 0)),
            dst: SocketAddr::new(self.dst, word(bytes, 2)),
            seq: long(bytes, 4),
            ack: long(bytes, 8),
            flags: bytes[13],
            window: word(bytes, 14),
            options: &bytes[20..header_len],
            data: &bytes[header_len..],
            checksum_holds: transport_checksum(self.src, self.dst, TCP, bytes) == 0,
        })
    }
}

/// What an IPv6 datagram, which may be cut off, carries behind its extension headers, and where it
/// begins: what a host takes, so `None` for lengths that lie and headers that are out of place.
pub fn upper6(bytes: &[u8]) -> Option<(u8, usize)> {
    let (mut protocol, mut at) = (*bytes.get(6)?, 40);
    for place in 0..=EXTENSIONS_MAX {
        match protocol {
            HOP_BY_HOP if place > 0 => return None,
            HOP_BY_HOP | DESTINATION_OPTIONS => {}
            ROUTING => return None,
            _ => return Some((protocol, at)),
        }
        let len = 8 + 8 * usize::from(*bytes.get(at + 1)?);
        let mut options = bytes.get(at + 2..at + len)?;
        while let [kind, rest @ ..] = options {
            options = match kind {
                0 => rest,
                // An unknown option of these kinds must be refused.
                64.. => return None,
                _ => rest.get(1 + usize::from(*rest.first()?)..)?,
            };
        }
        (protocol, at) = (bytes[at], at + len);
    }
    None
}

/// Whether a datagram has IPv6 extension headers that are to be passed over.
pub fn has_extensions(datagram: &[u8]) -> bool {
    datagram[0] >> 4 == 6 && upper6(datagram).is_some_and(|(_, at)| at > 40)
}

/// A datagram as a host's TCP gets it.
pub fn without_extensions(datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    if bytes[0] >> 4 == 6
        && let Some((protocol, at)) = upper6(datagram)
    {
        bytes.drain(40..at);
        bytes[6] = protocol;
        set_length(&mut bytes);
    }
    bytes
}

/// Takes the last `count` bytes of data out of a segment, and its FIN.
pub fn cut_data(datagram: &mut Vec<u8>, count: usize) {
    let Some(ip) = Datagram::read(datagram) else { return };
    let (len, flags_at) = (ip.bytes.len().saturating_sub(count), ip.payload_at + 13);
    datagram.truncate(len);
    datagram[flags_at] &= !FIN;
    set_length(datagram);
    repair(datagram);
}

/// Puts the padding before the timestamps, as most stacks do (RFC 7323, appendix A), of a segment
/// that has no other options.
pub fn pad_first(datagram: &mut [u8]) {
    let Some(ip) = Datagram::read(datagram) else { return };
    let options_at = ip.payload_at + 20;
    let Some([8, 10, stamps @ .., _, _]) = ip.segment().map(|segment| segment.options) else {
        return;
    };
    if let Ok(stamps) = <[u8; 8]>::try_from(stamps) {
        datagram[options_at..options_at + 4].copy_from_slice(&[1, 1, 8, 10]);
        datagram[options_at + 4..options_at + 12].copy_from_slice(&stamps);
        repair(datagram);
    }
}

/// Whether the checksum of a whole ICMP or ICMPv6 message holds.
pub fn icmp_holds(ip: &Datagram<'_>) -> bool {
    match ip.protocol {
        ICMP => internet_checksum(&[ip.payload()]) == 0,
        _ => transport_checksum(ip.src, ip.dst, ICMPV6, ip.payload()) == 0,
    }
}
