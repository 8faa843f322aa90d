//! The IPv4 header and its options (RFC 791).

mod options;

pub use options::{Options, classify_options};

use super::{checksum, get_u16, get_u32, put_u16, put_u32};
use crate::net::{Family, Protocol};

/// Offsets in bytes from the start of the IPv4 header.
pub mod field {
    /// Version and header length.
    pub const VERSION_IHL: usize = 0;
    /// DSCP and ECN.
    pub const TOS: usize = 1;
    /// Total length: header and payload.
    pub const TOTAL_LEN: usize = 2;
    /// Identification.
    pub const ID: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Time to live.
    pub const TTL: usize = 8;
    /// Protocol of the payload.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source address.
    pub const SRC: usize = 12;
    /// Destination address.
    pub const DST: usize = 16;
}

/// Length in bytes without options.
pub const HEADER_LEN: usize = 20;
const _: () = assert!(HEADER_LEN == Family::V4.ip_header_len());

/// The smallest MTU in bytes that a link may have (RFC 791).
pub const MTU_MIN: isize = 68;

/// Protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of UDP, the same in IPv6.
pub const PROTOCOL_UDP: u8 = Protocol::Udp.number();
/// Protocol number of IPv4 in another datagram (RFC 2003), the same in IPv6.
pub const PROTOCOL_IPV4: u8 = 4;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = Protocol::Tcp.number();

/// The DF flag (don't fragment) in the word at [`field::FRAGMENT`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The MF flag (more fragments) in the word at [`field::FRAGMENT`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Why bytes are not an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ipv4Error {
    /// Cut off, not of version 4, or with lengths that contradict each other or the frame.
    #[error("the IPv4 header is cut off or its lengths contradict each other")]
    Malformed,
    /// The header checksum is wrong.
    #[error("the IPv4 header checksum is wrong")]
    Checksum,
}

/// A checked view: the fields that a relay reads, of a header with consistent lengths and a valid
/// checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Header length in bytes, options included: 20 to 60.
    pub header_len: usize,
    /// Length of header and payload in bytes; within the bytes that were parsed.
    pub total_len: usize,
    /// Flags and fragment offset, as on the wire.
    pub fragment: u16,
    /// Time to live in hops.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
}

impl Ipv4 {
    /// Reads and checks the header at the start of `bytes`, which may be longer than the datagram
    /// (Ethernet padding) but not shorter.
    ///
    /// # Errors
    ///
    /// [`Ipv4Error`] for a header that is cut off, inconsistent or damaged.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Ipv4, Ipv4Error> {
        let (header, lengths_hold) = Self::read(bytes).ok_or(Ipv4Error::Malformed)?;
        if !lengths_hold {
            return Err(Ipv4Error::Malformed);
        }
        let sum_holds = match bytes.first_chunk::<HEADER_LEN>() {
            Some(head) if header.header_len == HEADER_LEN => checksum::is_valid(head),
            _ => checksum::is_valid(bytes.get(..header.header_len).unwrap_or_default()),
        };
        if sum_holds { Ok(header) } else { Err(Ipv4Error::Checksum) }
    }

    /// Reads a header that an ICMP error quotes. Its datagram may be cut off after the header, and
    /// its checksum is not checked, as some routers quote a TTL without updating it.
    pub fn parse_quoted(bytes: &[u8]) -> Option<Ipv4> {
        let (header, _) = Self::read(bytes)?;
        (header.total_len >= header.header_len && header.header_len <= bytes.len())
            .then_some(header)
    }

    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<(Ipv4, bool)> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let version_ihl = head[field::VERSION_IHL];
        let header_len = usize::from(version_ihl & 0x0f) * 4;
        if version_ihl >> 4 != 4 || header_len < HEADER_LEN {
            return None;
        }
        let header = Ipv4 {
            header_len,
            total_len: usize::from(get_u16(head, field::TOTAL_LEN)),
            fragment: get_u16(head, field::FRAGMENT),
            ttl: head[field::TTL],
            protocol: head[field::PROTOCOL],
            src: get_u32(head, field::SRC),
            dst: get_u32(head, field::DST),
        };
        let hold = header.total_len >= header_len && header.total_len <= bytes.len();
        Some((header, hold))
    }

    /// The options of the header at the start of `bytes`, from which it was parsed.
    pub fn options<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(HEADER_LEN..self.header_len).unwrap_or_default()
    }

    /// Whether the datagram is a fragment, first or later, of a larger one.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        is_of_fragment(self.fragment)
    }

    /// Offset in bytes of a fragment's payload within that of the original datagram.
    #[inline]
    pub const fn fragment_offset(&self) -> usize {
        (self.fragment & OFFSET_MASK) as usize * 8
    }

    /// Whether more fragments follow.
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        self.fragment & MORE_FRAGMENTS != 0
    }

    /// Whether the datagram is a fragment other than the first, so that it has no ports.
    pub const fn is_later_fragment(&self) -> bool {
        self.fragment & OFFSET_MASK != 0
    }

    /// Whether routers must not fragment the datagram.
    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }
}

/// Whether a datagram with this word at [`field::FRAGMENT`] is a fragment.
#[inline]
pub const fn is_of_fragment(word: u16) -> bool {
    word & (MORE_FRAGMENTS | OFFSET_MASK) != 0
}

/// The identification of the header at the start of `bytes`.
#[inline]
pub fn id(bytes: &[u8]) -> u16 {
    get_u16(bytes, field::ID)
}

/// All fields of an IPv4 header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset, as on the wire.
    pub fragment: u16,
    /// Time to live in hops.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
}

/// The defaults of a datagram that a POP originates: DF set, so that ID 0 is allowed (RFC 6864,
/// section 4.1). The caller sets length, protocol and addresses.
pub const ORIGINATED: Header = Header {
    tos: 0,
    total_len: 0,
    id: 0,
    fragment: DONT_FRAGMENT,
    ttl: ORIGINATED_TTL,
    protocol: 0,
    src: 0,
    dst: 0,
};

impl Header {
    /// Reads the header at the start of `bytes`, with the checks of [`Ipv4::parse`]. Options are
    /// left out; see [`Ipv4::options`].
    ///
    /// # Errors
    ///
    /// Those of [`Ipv4::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Header, Ipv4Error> {
        let ip = Ipv4::parse(bytes)?;
        Ok(Header {
            tos: bytes.get(field::TOS).copied().unwrap_or_default(),
            total_len: ip.total_len as u16,
            id: id(bytes),
            fragment: ip.fragment,
            ttl: ip.ttl,
            protocol: ip.protocol,
            src: ip.src,
            dst: ip.dst,
        })
    }

    /// Writes the header with its checksum at the start of `bytes`; nothing when they are shorter
    /// than [`HEADER_LEN`].
    #[inline]
    pub fn write(&self, bytes: &mut [u8]) {
        let Some(head) = bytes.first_chunk_mut::<HEADER_LEN>() else { return };
        *head = [0; HEADER_LEN];
        head[field::VERSION_IHL] = 0x45;
        head[field::TOS] = self.tos;
        put_u16(head, field::TOTAL_LEN, self.total_len);
        put_u16(head, field::ID, self.id);
        put_u16(head, field::FRAGMENT, self.fragment);
        head[field::TTL] = self.ttl;
        head[field::PROTOCOL] = self.protocol;
        put_u32(head, field::SRC, self.src);
        put_u32(head, field::DST, self.dst);
        write_checksum(head);
    }
}

/// Computes the checksum of the header that fills `header`, options included, and writes it.
#[inline]
pub fn write_checksum(header: &mut [u8]) {
    put_u16(header, field::CHECKSUM, 0);
    let sum = checksum::checksum(header);
    put_u16(header, field::CHECKSUM, sum);
}

/// Turns the header that fills `header` into that of an answer: to its sender, with a new TTL.
pub fn turn_round(header: &mut [u8]) {
    let (src, dst) = (get_u32(header, field::SRC), get_u32(header, field::DST));
    put_u32(header, field::SRC, dst);
    put_u32(header, field::DST, src);
    if let Some(ttl) = header.get_mut(field::TTL) {
        *ttl = ORIGINATED_TTL;
    }
    write_checksum(header);
}

/// Whether `ip` may be the source of a datagram: not this network, loopback, multicast or reserved
/// (RFC 6890). Link-local sources are allowed, as routers send from them.
#[inline]
pub const fn can_be_source(ip: u32) -> bool {
    !matches!(ip >> 24, 0 | 127 | 224..)
}

/// TTL of datagrams that a POP originates, as recommended by RFC 1700.
pub const ORIGINATED_TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header {
        total_len: 24,
        protocol: PROTOCOL_TCP,
        src: 0x0102_0304,
        dst: 0x0506_0708,
        ..ORIGINATED
    };

    fn header() -> [u8; 24] {
        let mut bytes = [0; 24];
        HEADER.write(&mut bytes);
        bytes
    }

    fn with_checksum(mut bytes: [u8; 24]) -> [u8; 24] {
        let len = (usize::from(bytes[0] & 15) * 4).min(24);
        write_checksum(&mut bytes[..len]);
        bytes
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            (tos, id, fragment, ttl, protocol) in any::<(u8, u16, u16, u8, u8)>(),
            src: u32, dst: u32, payload_len in 0u16..64,
        ) {
            let total_len = HEADER_LEN as u16 + payload_len;
            let header = Header { tos, total_len, id, fragment, ttl, protocol, src, dst };
            let mut bytes = vec![0xee; usize::from(total_len)];
            header.write(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes), Ok(header));
            let view = Ipv4::parse(&bytes).unwrap();
            prop_assert_eq!(view.dont_fragment(), fragment & DONT_FRAGMENT != 0);
            let is_fragment = view.more_fragments() || view.fragment_offset() > 0;
            prop_assert_eq!(view.is_fragment(), is_fragment);
            prop_assert_eq!(view.options(&bytes), []);
        }

        #[test]
        fn options_follow_the_fixed_header(
            options in proptest::collection::vec(any::<[u8; 4]>(), 0..=10),
            payload_len in 0usize..9,
        ) {
            let options = options.as_flattened();
            let header_len = HEADER_LEN + options.len();
            let total_len = (header_len + payload_len) as u16;
            let mut bytes = vec![0xee; usize::from(total_len)];
            Header { total_len, ..HEADER }.write(&mut bytes);
            bytes[field::VERSION_IHL] = 0x40 | (header_len / 4) as u8;
            bytes[HEADER_LEN..header_len].copy_from_slice(options);
            write_checksum(&mut bytes[..header_len]);
            let view = Ipv4::parse(&bytes).unwrap();
            prop_assert_eq!((view.header_len, view.options(&bytes)), (header_len, options));
            prop_assert_eq!(Header::parse(&bytes), Ok(Header { total_len, ..HEADER }));
        }
    }

    #[test]
    fn inconsistent_lengths_are_malformed() {
        for (at, value) in [(0, 0x44), (0, 0x55), (0, 0x4f), (3, 19), (3, 25), (2, 1)] {
            let mut bytes = header();
            bytes[at] = value;
            assert_eq!(Ipv4::parse(&with_checksum(bytes)), Err(Ipv4Error::Malformed), "{at}");
        }
        for len in 0..24 {
            assert_eq!(Ipv4::parse(&header()[..len]), Err(Ipv4Error::Malformed));
        }
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        for bit in 0..160 {
            let mut bytes = header();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Ipv4::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn sources_are_distinguished() {
        for (ip, can) in [
            (0, false),
            (0x00ff_ffff, false),
            (0x0100_0000, true),
            (0x7f00_0001, false),
            (0xa9fe_0101, true),
            (0xdfff_ffff, true),
            (0xe000_0000, false),
            (0xffff_ffff, false),
        ] {
            assert_eq!(can_be_source(ip), can, "{ip:#x}");
        }
    }
}
