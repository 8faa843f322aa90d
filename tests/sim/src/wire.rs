//! Datagrams and segments, read and written by hand: none of the core's code, so that a mistake of
//! its own is not made twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub const TCP: u8 = 6;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are passed over (`docs/protocol.md`, section 12).
pub const EXTENSIONS_MAX: usize = 8;

pub const ETHERNET_LEN: usize = 14;
pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;
pub const TYPE_IPV6: u16 = 0x86dd;

pub type Mac = [u8; 6];
pub const BROADCAST: Mac = [0xff; 6];

pub fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from(two[0]) << 8 | u16::from(two[1]))
}

pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

pub fn put_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

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
        if bytes.len() < 20 || !whole || sum(&bytes[..payload_at], 0) != 0xffff {
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

    /// The segment in it, if there is one with honest lengths.
    pub fn segment(&self) -> Option<Segment<'a>> {
        let bytes = self.payload();
        let header_len = usize::from(*bytes.get(12)? >> 4) * 4;
        if self.protocol != TCP || header_len < 20 || bytes.len() < header_len {
            return None;
        }
        Some(Segment {
            src: SocketAddr::new(self.src, word(bytes, 0)),
            dst: SocketAddr::new(self.dst, word(bytes, 2)),
            seq: long(bytes, 4),
            ack: long(bytes, 8),
            flags: bytes[13],
            window: word(bytes, 14),
            options: &bytes[20..header_len],
            data: &bytes[header_len..],
            checksum_holds: transport_sum(self.src, self.dst, TCP, bytes) == 0xffff,
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
                // What is not known must be refused.
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
        set_len(&mut bytes);
    }
    bytes
}

/// Takes the last `count` bytes of data out of a segment, and its FIN.
pub fn cut_data(datagram: &mut Vec<u8>, count: usize) {
    let Some(ip) = Datagram::read(datagram) else { return };
    let (len, flags_at) = (ip.bytes.len().saturating_sub(count), ip.payload_at + 13);
    datagram.truncate(len);
    datagram[flags_at] &= !FIN;
    set_len(datagram);
    repair(datagram);
}

/// Writes the length of a datagram into its header.
pub fn set_len(bytes: &mut [u8]) {
    let len = bytes.len() as u16;
    match bytes[0] >> 4 {
        6 => put_word(bytes, 4, len - 40),
        _ => put_word(bytes, 2, len),
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: &'a [u8],
    pub data: &'a [u8],
    pub checksum_holds: bool,
}

impl<'a> Segment<'a> {
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// A SYN without ACK.
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// The number after its last byte or mark.
    pub fn end(&self) -> u32 {
        let marks = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq.wrapping_add(self.data.len() as u32 + marks)
    }

    /// Its options but NOPs; an `Err` behind those with honest lengths.
    pub fn options(&self) -> impl Iterator<Item = Result<(u8, &'a [u8]), ()>> {
        let mut rest = self.options;
        std::iter::from_fn(move || {
            while let [1, after @ ..] = rest {
                rest = after;
            }
            let (kind, len) = match rest {
                [] | [0, ..] => return None,
                [kind, len, ..] if usize::from(*len) >= 2 && usize::from(*len) <= rest.len() => {
                    (*kind, usize::from(*len))
                }
                _ => {
                    rest = &[];
                    return Some(Err(()));
                }
            };
            let value = &rest[2..len];
            rest = &rest[len..];
            Some(Ok((kind, value)))
        })
    }

    pub fn option(&self, kind: u8) -> Option<&'a [u8]> {
        self.options().flatten().find(|option| option.0 == kind).map(|option| option.1)
    }

    /// TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        let value = self.option(8).filter(|value| value.len() == 8)?;
        Some((long(value, 0), long(value, 4)))
    }
}

/// The one's complement sum of `bytes` and `start`, folded.
fn sum(bytes: &[u8], start: u64) -> u16 {
    let mut total = start;
    let mut words = bytes.chunks_exact(4);
    for four in &mut words {
        total += u64::from(u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The sum that the checksums of TCP and ICMPv6 are of; 0xffff where the checksum in `bytes` holds.
fn transport_sum(src: IpAddr, dst: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let of = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum(&ip.octets(), 0),
        IpAddr::V6(ip) => sum(&ip.octets(), 0),
    };
    let pseudo = u64::from(of(src)) + u64::from(of(dst)) + u64::from(protocol) + bytes.len() as u64;
    sum(bytes, pseudo)
}

/// Whether the checksum of a whole ICMP or ICMPv6 message holds.
pub fn icmp_holds(ip: &Datagram<'_>) -> bool {
    match ip.protocol {
        ICMP => sum(ip.payload(), 0) == 0xffff,
        _ => transport_sum(ip.src, ip.dst, ICMPV6, ip.payload()) == 0xffff,
    }
}

/// A datagram that carries `segment` (TCP header and data), with all checksums right.
pub fn datagram(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let len = segment.len() as u16;
    let mut bytes = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, protocol, 0, 0];
            put_word(&mut bytes, 2, 20 + len);
            bytes.extend_from_slice(&src.octets());
            bytes.extend_from_slice(&dst.octets());
            bytes
        }
        (src, dst) => {
            let six = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let mut bytes = vec![0x60, 0, 0, 0, 0, 0, protocol, ttl];
            put_word(&mut bytes, 4, len);
            bytes.extend_from_slice(&six(src).octets());
            bytes.extend_from_slice(&six(dst).octets());
            bytes
        }
    };
    bytes.extend_from_slice(segment);
    repair(&mut bytes);
    bytes
}

/// Makes all checksums of a datagram right, that of TCP, ICMP or ICMPv6 included.
pub fn repair(bytes: &mut [u8]) {
    if bytes[0] >> 4 == 4 {
        repair_ipv4(bytes);
    }
    let Some(ip) = Datagram::read(bytes) else { return };
    let (src, dst, protocol, at) = (ip.src, ip.dst, ip.protocol, ip.payload_at);
    let field = at + if protocol == TCP { 16 } else { 2 };
    if field + 2 > bytes.len() {
        return;
    }
    put_word(bytes, field, 0);
    let sum = match protocol {
        ICMP => sum(&bytes[at..], 0),
        _ => transport_sum(src, dst, protocol, &bytes[at..]),
    };
    put_word(bytes, field, !sum);
}

/// Whether the checksum of an IPv4 header holds.
pub fn ipv4_header_holds(header: &[u8]) -> bool {
    sum(header, 0) == 0xffff
}

/// Makes the header checksum of an IPv4 datagram right.
pub fn repair_ipv4(bytes: &mut [u8]) {
    let header_len = usize::from(bytes[0] & 15) * 4;
    put_word(bytes, 10, 0);
    let checksum = !sum(&bytes[..header_len], 0);
    put_word(bytes, 10, checksum);
}

/// A TCP header without options; the checksum is left to [`datagram`].
pub fn tcp_header(src: u16, dst: u16, seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend_from_slice(&src.to_be_bytes());
    bytes.extend_from_slice(&dst.to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&ack.to_be_bytes());
    bytes.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// The answer of a host that knows nothing of the segment's connection, without timestamps (RFC
/// 9293, section 3.10.7.1).
pub fn refusal(segment: &Segment<'_>) -> Option<Vec<u8>> {
    if segment.has(RST) {
        return None;
    }
    let (src, dst) = (segment.dst, segment.src);
    let tcp = match segment.has(ACK) {
        true => tcp_header(src.port(), dst.port(), segment.ack, 0, RST),
        false => tcp_header(src.port(), dst.port(), 0, segment.end(), RST | ACK),
    };
    Some(datagram(src.ip(), dst.ip(), 64, TCP, &tcp))
}

pub fn ethernet(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_LEN + payload.len().max(46));
    frame.extend_from_slice(&dst);
    frame.extend_from_slice(&src);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The frame that a datagram is in.
pub fn framed(dst: Mac, src: Mac, datagram: &[u8]) -> Vec<u8> {
    let v6 = datagram.first().is_some_and(|first| first >> 4 == 6);
    ethernet(dst, src, if v6 { TYPE_IPV6 } else { TYPE_IPV4 }, datagram)
}

/// The reply of the station `mac` to an ARP request, if it is one and asks for `ip`.
pub fn arp_reply(frame: &[u8], mac: Mac, ip: Ipv4Addr) -> Option<Vec<u8>> {
    let arp = frame.get(ETHERNET_LEN..ETHERNET_LEN + 28)?;
    if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || arp[24..28] != ip.octets() {
        return None;
    }
    let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
    reply.extend_from_slice(&mac);
    reply.extend_from_slice(&ip.octets());
    reply.extend_from_slice(&arp[8..18]);
    let asker: Mac = arp[8..14].try_into().ok()?;
    Some(ethernet(asker, mac, TYPE_ARP, &reply))
}

/// The advertisement of the router `mac` to a neighbour solicitation, if it is one and asks for `ip`
/// (RFC 4861, section 4.4).
pub fn advertisement(frame: &[u8], mac: Mac, ip: Ipv6Addr) -> Option<Vec<u8>> {
    let datagram_in = Datagram::read(frame.get(ETHERNET_LEN..)?)?;
    let message = datagram_in.payload();
    let asks = datagram_in.protocol == ICMPV6 && message.len() >= 24 && message[0] == 135;
    if !asks || message[8..24] != ip.octets() || datagram_in.ttl != 255 {
        return None;
    }
    let mut answer = vec![136, 0, 0, 0, 0xe0, 0, 0, 0];
    answer.extend_from_slice(&ip.octets());
    answer.extend_from_slice(&[2, 1]);
    answer.extend_from_slice(&mac);
    let asker: Mac = frame.get(6..12)?.try_into().ok()?;
    let bytes = datagram(ip.into(), datagram_in.src, 255, ICMPV6, &answer);
    Some(ethernet(asker, mac, TYPE_IPV6, &bytes))
}
