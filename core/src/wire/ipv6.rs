//! IPv6 header and its extension headers (RFC 8200).

use super::{get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};

/// Offsets from the start of the IPv6 header.
pub mod field {
    /// Version, traffic class and flow label.
    pub const VERSION_CLASS_FLOW: usize = 0;
    /// Length of what follows the header.
    pub const PAYLOAD_LEN: usize = 4;
    /// What follows the header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source address.
    pub const SRC: usize = 8;
    /// Destination address.
    pub const DST: usize = 24;
}

/// Length in bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Smallest MTU in bytes that a link may have (RFC 8200, section 5).
pub const MTU_MIN: usize = 1280;

/// Extension headers that are looked at in one datagram: more than any host has reason to send
/// (RFC 8504, section 5.3 lets hosts have a limit).
pub const EXTENSIONS_MAX: usize = 8;

/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// Number of the fragment header.
pub const PROTOCOL_FRAGMENT: u8 = 44;
/// Length in bytes of the fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// Hop limit of datagrams that a POP originates.
pub const ORIGINATED_HOP_LIMIT: u8 = 64;

/// An IPv6 header whose payload is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// What follows the header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of what follows, in bytes; no longer than what the header was read from.
    pub payload_len: usize,
}

impl Ipv6 {
    /// Reads the header at the start of `bytes`, which may be longer than the datagram (Ethernet
    /// padding); `None` when it is not whole, not version 6, or claims more payload than there is.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Ipv6> {
        let header = Self::read(bytes.first_chunk()?)?;
        (header.payload_len <= bytes.len() - HEADER_LEN).then_some(header)
    }

    #[inline]
    fn read(head: &[u8; HEADER_LEN]) -> Option<Ipv6> {
        let payload_len = usize::from(get_u16(head, field::PAYLOAD_LEN));
        let version_class = get_u16(head, field::VERSION_CLASS_FLOW);
        if version_class >> 12 != 6 {
            return None;
        }
        Some(Ipv6 {
            src: get_address(head, field::SRC),
            dst: get_address(head, field::DST),
            next_header: head[field::NEXT_HEADER],
            hop_limit: head[field::HOP_LIMIT],
            traffic_class: (version_class >> 4) as u8,
            payload_len,
        })
    }

    /// Reads the datagram that an ICMP error quotes, which may be cut off anywhere, and finds what it
    /// carries behind its extension headers, which must not be cut off. Of a fragment that is what is
    /// behind its header, if it is the first: only that one says whose it is.
    pub fn parse_quoted(bytes: &[u8]) -> Option<(Ipv6, Upper)> {
        let ip = Self::read(bytes.first_chunk()?)?;
        let first = Upper { protocol: ip.next_header, at: HEADER_LEN };
        let walked = walk(bytes.get(..ip.total_len()).unwrap_or(bytes), first).ok()?;
        let upper = match walked.fragment {
            Some(fragment) if fragment.offset == 0 => {
                Upper { protocol: fragment.next_header, at: fragment.at + FRAGMENT_LEN }
            }
            _ => walked.whole().ok()?,
        };
        Some((ip, upper))
    }

    /// Length in bytes of the datagram.
    #[inline]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Goes over the extension headers of the datagram at the start of `bytes`, which this header
    /// was read from, and finds what they are in front of.
    #[inline]
    pub fn upper(&self, bytes: &[u8]) -> Result<Upper, ExtensionError> {
        let first = Upper { protocol: self.next_header, at: HEADER_LEN };
        if !is_extension(first.protocol) {
            return Ok(first);
        }
        self.walked(bytes)?.whole()
    }

    /// The first fragment header of the datagram at the start of `bytes`, which this header was read
    /// from; `None` when there is none, it is not whole, or what is in front of it cannot be passed
    /// over.
    pub fn fragment(&self, bytes: &[u8]) -> Option<FragmentHeader> {
        self.walked(bytes).ok()?.fragment
    }

    fn walked(&self, bytes: &[u8]) -> Result<Walked, ExtensionError> {
        let first = Upper { protocol: self.next_header, at: HEADER_LEN };
        walk(bytes.get(..self.total_len()).unwrap_or_default(), first)
    }
}

/// A fragment header (RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Where it begins, in bytes from the start of the datagram.
    pub at: usize,
    /// Where the byte is that says that it follows.
    pub named_at: usize,
    /// What follows it in the whole datagram.
    pub next_header: u8,
    /// Where its payload belongs, in bytes from the start of what is fragmented.
    pub offset: usize,
    /// Whether more follows there.
    pub more: bool,
    /// Which datagram of its sender's it is of.
    pub id: u32,
}

impl FragmentHeader {
    /// Whether it is all of its datagram (RFC 6946).
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }

    /// Writes the header at its place of `datagram`; nothing past the end.
    pub fn write(&self, datagram: &mut [u8]) {
        let word = self.offset as u16 & FRAGMENT_OFFSET | u16::from(self.more);
        put_u16(datagram, self.at, u16::from(self.next_header) << 8);
        put_u16(datagram, self.at + 2, word);
        put_u32(datagram, self.at + 4, self.id);
    }

    fn read(datagram: &[u8], at: usize, named_at: usize) -> Option<FragmentHeader> {
        let header: &[u8; FRAGMENT_LEN] = datagram.get(at..)?.first_chunk()?;
        let word = get_u16(header, 2);
        Some(FragmentHeader {
            at,
            named_at,
            next_header: header[0],
            offset: usize::from(word & FRAGMENT_OFFSET),
            more: word & 1 != 0,
            id: get_u32(header, 4),
        })
    }
}

/// What a datagram carries behind its extension headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol.
    pub protocol: u8,
    /// Where it begins, in bytes from the start of the datagram; at most at its end.
    pub at: usize,
}

/// Why a datagram's extension headers are not passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// Lengths that lie, headers out of place, too many of them, or an option that a host which
    /// does not know it must refuse (RFC 8200, section 4.2).
    #[error("IPv6 extension headers with lengths that lie, too many, or with unknown options")]
    Malformed,
    /// A routing header: not to be followed, as IPv4's source routes (RFC 5095).
    #[error("an IPv6 routing header")]
    Routing,
    /// A fragment header, also of a datagram that is whole.
    #[error("an IPv6 fragment header")]
    Fragment,
}

/// Where a walk over extension headers ended.
struct Walked {
    upper: Upper,
    /// The fragment header that ended it, if it is whole.
    fragment: Option<FragmentHeader>,
}

impl Walked {
    /// What is behind all extension headers; a fragment header is not one to be passed over.
    fn whole(self) -> Result<Upper, ExtensionError> {
        match self.upper.protocol {
            PROTOCOL_FRAGMENT => Err(ExtensionError::Fragment),
            _ => Ok(self.upper),
        }
    }
}

/// Walks over extension headers, from `upper` to what is none or is a fragment header.
fn walk(datagram: &[u8], mut upper: Upper) -> Result<Walked, ExtensionError> {
    let mut named_at = field::NEXT_HEADER;
    for place in 0..=EXTENSIONS_MAX {
        match upper.protocol {
            // Only the fixed header may be in front of it.
            HOP_BY_HOP if place > 0 => return Err(ExtensionError::Malformed),
            HOP_BY_HOP | DESTINATION => {}
            ROUTING => return Err(ExtensionError::Routing),
            PROTOCOL_FRAGMENT => {
                let fragment = FragmentHeader::read(datagram, upper.at, named_at);
                return Ok(Walked { upper, fragment });
            }
            _ => return Ok(Walked { upper, fragment: None }),
        }
        let rest = datagram.get(upper.at..).unwrap_or_default();
        let &[next, units, ..] = rest else { return Err(ExtensionError::Malformed) };
        let len = (usize::from(units) + 1) * 8;
        let options = rest.get(2..len).ok_or(ExtensionError::Malformed)?;
        if !may_be_skipped(options) {
            return Err(ExtensionError::Malformed);
        }
        named_at = upper.at;
        upper = Upper { protocol: next, at: upper.at + len };
    }
    Err(ExtensionError::Malformed)
}

/// Whether all options are whole and may be skipped by a host that does not know them.
fn may_be_skipped(options: &[u8]) -> bool {
    let mut rest = options;
    // At most 2046 bytes, at least one used up in each turn.
    while let Some((&kind, tail)) = rest.split_first() {
        if kind == OPTION_PAD_1 {
            rest = tail;
            continue;
        }
        let after = tail.split_first().and_then(|(&len, data)| data.get(usize::from(len)..));
        match after {
            Some(after) if kind & OPTION_ACTION == 0 => rest = after,
            _ => return false,
        }
    }
    true
}

/// Whether a header of this number is one that [`Ipv6::upper`] looks at on its way.
#[inline]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | PROTOCOL_FRAGMENT | DESTINATION)
}

/// What an IPv6 header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label (RFC 6437), 20 bits.
    pub flow_label: u32,
    /// Length of what follows, in bytes.
    pub payload_len: u16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
}

/// The fields that are the same in all datagrams which a POP originates: flow label 0. Length, next
/// header and addresses are for the caller to fill in.
pub const ORIGINATED: Header = Header {
    traffic_class: 0,
    flow_label: 0,
    payload_len: 0,
    next_header: 0,
    hop_limit: ORIGINATED_HOP_LIMIT,
    src: 0,
    dst: 0,
};

impl Header {
    /// Reads the header at the start of `bytes`, as [`Ipv6::parse`] does.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let ip = Ipv6::parse(bytes)?;
        Some(Header {
            traffic_class: ip.traffic_class,
            flow_label: get_u32(bytes, field::VERSION_CLASS_FLOW) & FLOW_LABEL,
            payload_len: ip.payload_len as u16,
            next_header: ip.next_header,
            hop_limit: ip.hop_limit,
            src: ip.src,
            dst: ip.dst,
        })
    }

    /// Writes the header at the start of `bytes`, which hold at least [`HEADER_LEN`] bytes; nothing
    /// is written when they do not.
    #[inline]
    pub fn write(&self, bytes: &mut [u8]) {
        let Some(head) = bytes.first_chunk_mut::<HEADER_LEN>() else { return };
        let class = u32::from(self.traffic_class) << 20;
        put_u32(head, field::VERSION_CLASS_FLOW, 6 << 28 | class | self.flow_label & FLOW_LABEL);
        put_u16(head, field::PAYLOAD_LEN, self.payload_len);
        head[field::NEXT_HEADER] = self.next_header;
        head[field::HOP_LIMIT] = self.hop_limit;
        put_address(head, field::SRC, self.src);
        put_address(head, field::DST, self.dst);
    }
}

/// Whether a host can have sent a datagram from `ip`: neither unspecified, loopback, multicast, nor
/// an IPv4 address in disguise (RFC 4291), though from a link-local one, as neighbours do.
#[inline]
pub const fn can_be_source(ip: u128) -> bool {
    let high = ip >> 32;
    high != 0 && high != 0xffff && !is_multicast(ip)
}

/// Whether `ip` is a group's.
#[inline]
pub const fn is_multicast(ip: u128) -> bool {
    ip >> 120 == 0xff
}

/// The address at `at`; 0 past the end.
#[inline]
pub(crate) fn get_address(bytes: &[u8], at: usize) -> u128 {
    u128::from(get_u64(bytes, at)) << 64 | u128::from(get_u64(bytes, at + 8))
}

/// Writes an address at `at`; nothing past the end.
#[inline]
pub(crate) fn put_address(bytes: &mut [u8], at: usize, ip: u128) {
    put_u64(bytes, at, (ip >> 64) as u64);
    put_u64(bytes, at + 8, ip as u64);
}

/// The flow label in the header's first 32 bits.
const FLOW_LABEL: u32 = 0xf_ffff;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// The offset in the fragment header's word, in bytes: it counts in units of eight, and the three low
/// bits are others.
const FRAGMENT_OFFSET: u16 = 0xfff8;

const OPTION_PAD_1: u8 = 0;
/// What is to be done by who does not know the option; 0 is to skip it.
const OPTION_ACTION: u8 = 0xc0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A datagram with these extension headers in front of `protocol` and 4 bytes of it.
    fn datagram(extensions: &[(u8, &[u8])], protocol: u8) -> Vec<u8> {
        let mut payload = Vec::new();
        for (place, (_, rest)) in extensions.iter().enumerate() {
            let next = extensions.get(place + 1).map_or(protocol, |(kind, _)| *kind);
            payload.push(next);
            payload.extend(*rest);
        }
        payload.extend([0xee; 4]);
        let mut bytes = vec![0; HEADER_LEN];
        Header {
            traffic_class: 0xb9,
            flow_label: 0xabcde,
            payload_len: payload.len() as u16,
            next_header: extensions.first().map_or(protocol, |(kind, _)| *kind),
            hop_limit: 9,
            src: 1 << 100 | 1,
            dst: 1 << 100 | 2,
        }
        .write(&mut bytes);
        bytes.extend(payload);
        bytes
    }

    fn upper(bytes: &[u8]) -> Result<Upper, ExtensionError> {
        Ipv6::parse(bytes).unwrap().upper(bytes)
    }

    const PADDING: &[u8] = &[0, 1, 4, 0, 0, 0, 0];

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let bytes = datagram(&[], PROTOCOL_TCP);
        let parsed = Ipv6::parse(&bytes).unwrap();
        let want = Ipv6 {
            src: 1 << 100 | 1,
            dst: 1 << 100 | 2,
            next_header: PROTOCOL_TCP,
            hop_limit: 9,
            traffic_class: 0xb9,
            payload_len: 4,
        };
        assert_eq!((parsed, parsed.total_len()), (want, bytes.len()));
        for len in 0..bytes.len() {
            assert_eq!(Ipv6::parse(&bytes[..len]), None, "{len}");
        }
        for version in (0..16).filter(|version| *version != 6) {
            let mut wrong = bytes.clone();
            wrong[0] = version << 4;
            assert_eq!(Ipv6::parse(&wrong), None);
        }
    }

    #[test]
    fn extension_headers_are_passed_over() {
        let long = [&[1u8, 5, 2, 0, 0][..], &[0; 10]].concat();
        for (chain, at) in [
            (&[][..], 40),
            (&[(0, PADDING)], 48),
            (&[(0, PADDING), (60, &long)], 64),
            (&[(60, PADDING), (60, PADDING)], 56),
        ] {
            // What is not known is for others to judge: AH, ESP, no next header, UDP.
            for protocol in [PROTOCOL_TCP, PROTOCOL_ICMPV6, 17, 50, 51, 59, 135] {
                let found = upper(&datagram(chain, protocol));
                assert_eq!(found, Ok(Upper { protocol, at }), "{chain:?}");
            }
        }
    }

    #[test]
    fn routing_and_fragment_headers_are_told_wherever_they_stand() {
        for in_front in [&[][..], &[(0, PADDING)], &[(0, PADDING), (60, PADDING)]] {
            for (kind, error) in [(43, ExtensionError::Routing), (44, ExtensionError::Fragment)] {
                let chain = [in_front, &[(kind, PADDING)]].concat();
                assert_eq!(upper(&datagram(&chain, 6)), Err(error));
            }
        }
    }

    #[test]
    fn fragment_headers_are_read_and_written_where_they_stand() {
        for (in_front, at, named_at) in
            [(&[][..], 40, 6), (&[(0, PADDING)], 48, 40), (&[(0, PADDING), (60, PADDING)], 56, 48)]
        {
            let header = &[0, 0x12, 0x39, 0xca, 0xfe, 0xba, 0xbe];
            let mut bytes = datagram(&[in_front, &[(44, header)]].concat(), 6);
            let parsed = Ipv6::parse(&bytes).unwrap();
            let fragment = parsed.fragment(&bytes).unwrap();
            let (offset, id) = (0x1238, 0xcafe_babe);
            let want = FragmentHeader { at, named_at, next_header: 6, offset, more: true, id };
            assert_eq!(fragment, want);
            assert!(!fragment.is_atomic());
            let before = bytes.clone();
            bytes[at..at + 8].fill(0xff);
            fragment.write(&mut bytes);
            assert_eq!(bytes, before);
            put_u16(&mut bytes, field::PAYLOAD_LEN, (at + 7 - HEADER_LEN) as u16);
            assert_eq!(Ipv6::parse(&bytes).unwrap().fragment(&bytes), None, "cut off");
        }
        let atomic = datagram(&[(44, &[0, 0, 6, 0, 0, 0, 1])], 6);
        assert!(Ipv6::parse(&atomic).unwrap().fragment(&atomic).unwrap().is_atomic());
        let none = datagram(&[(60, PADDING)], 6);
        assert_eq!(Ipv6::parse(&none).unwrap().fragment(&none), None);
    }

    #[test]
    fn lying_extension_headers_are_malformed() {
        let bad: [&[u8]; 8] = [
            &[255, 1, 4, 0, 0, 0, 0],
            &[2, 1, 4, 0, 0, 0, 0],
            &[0, 1, 5, 0, 0, 0, 0],
            &[0, 1, 3, 0, 0, 0, 7],
            // Actions other than to skip: jumbo payload, and made-up ones.
            &[0, 0xc2, 4, 0, 1, 0, 0],
            &[0, 0x40, 4, 0, 0, 0, 0],
            &[0, 0x80, 4, 0, 0, 0, 0],
            &[0, 5, 2, 0, 0, 0xc0, 0],
        ];
        for rest in bad {
            for kind in [HOP_BY_HOP, DESTINATION] {
                let bytes = datagram(&[(kind, rest)], 6);
                assert_eq!(upper(&bytes), Err(ExtensionError::Malformed), "{rest:?}");
            }
        }
        let misplaced = datagram(&[(60, PADDING), (0, PADDING)], 6);
        assert_eq!(upper(&misplaced), Err(ExtensionError::Malformed));
        // Cut off, with a payload length that admits it.
        let whole = datagram(&[(0, PADDING), (60, PADDING)], 6);
        for len in HEADER_LEN..HEADER_LEN + 16 {
            let mut cut = whole[..len].to_vec();
            put_u16(&mut cut, field::PAYLOAD_LEN, (len - HEADER_LEN) as u16);
            assert_eq!(upper(&cut), Err(ExtensionError::Malformed), "{len}");
        }
    }

    #[test]
    fn quotes_may_be_cut_off_behind_their_extension_headers() {
        let whole = datagram(&[(0, PADDING), (60, PADDING)], PROTOCOL_TCP);
        for len in 0..whole.len() {
            let found = Ipv6::parse_quoted(&whole[..len]);
            let want = Upper { protocol: PROTOCOL_TCP, at: HEADER_LEN + 16 };
            assert_eq!(found.map(|(_, upper)| upper), (len >= want.at).then_some(want), "{len}");
        }
        // Nothing behind the datagram is read, though there may be something.
        let mut short = whole.clone();
        put_u16(&mut short, field::PAYLOAD_LEN, 8);
        assert_eq!(Ipv6::parse_quoted(&short), None);
        let bad = datagram(&[(43, PADDING)], PROTOCOL_TCP);
        assert_eq!(Ipv6::parse_quoted(&bad), None);
    }

    #[test]
    fn quotes_of_first_fragments_are_read_and_of_later_ones_are_not() {
        for (word, first) in [(0u16, true), (1, true), (6, true), (8, false), (0xfff9, false)] {
            let [high, low] = word.to_be_bytes();
            let header = [0, high, low, 1, 2, 3, 4];
            let quote = datagram(&[(60, PADDING), (44, &header)], PROTOCOL_TCP);
            let want = Upper { protocol: PROTOCOL_TCP, at: HEADER_LEN + 16 };
            let found = Ipv6::parse_quoted(&quote).map(|(_, upper)| upper);
            assert_eq!(found, first.then_some(want), "{word:#x}");
            assert_eq!(Ipv6::parse_quoted(&quote[..HEADER_LEN + 15]), None, "cut off");
        }
    }

    #[test]
    fn a_chain_is_bounded() {
        let chain = |count| vec![(60, PADDING); count];
        assert!(upper(&datagram(&chain(EXTENSIONS_MAX), 6)).is_ok());
        let too_long = datagram(&chain(EXTENSIONS_MAX + 1), 6);
        assert_eq!(upper(&too_long), Err(ExtensionError::Malformed));
    }

    #[test]
    fn sources_are_told_apart() {
        let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        for text in ["2001:db8::1", "fe80::1", "fd00::1", "64:ff9b::1.2.3.4"] {
            assert!(can_be_source(ip(text)), "{text}");
        }
        for text in ["::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "ff02::1", "ff00::"] {
            assert!(!can_be_source(ip(text)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            (traffic_class, next_header, hop_limit) in any::<(u8, u8, u8)>(), flow_label in 0..=FLOW_LABEL,
            payload_len in 0u16..64, src: u128, dst: u128,
        ) {
            let header = Header {
                traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst,
            };
            let mut bytes = vec![0xee; HEADER_LEN + usize::from(payload_len)];
            header.write(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes), Some(header));
        }

        #[test]
        fn what_is_found_is_inside(
            mut bytes in proptest::collection::vec(any::<u8>(), HEADER_LEN..200),
            kinds in proptest::collection::vec(prop::sample::select(vec![0u8, 6, 43, 44, 58, 60]), 4),
        ) {
            // Make it likely that the walk gets somewhere.
            bytes[0] = 0x60;
            let payload_len = (bytes.len() - HEADER_LEN) as u16;
            put_u16(&mut bytes, field::PAYLOAD_LEN, payload_len);
            bytes[field::NEXT_HEADER] = kinds[0];
            for (at, kind) in (HEADER_LEN..).step_by(8).zip(&kinds[1..]) {
                if let Some([next, units, option, len, ..]) = bytes.get_mut(at..) {
                    (*next, *units, *option, *len) = (*kind, 0, 1, 4);
                }
            }
            if let Ok(upper) = upper(&bytes) {
                prop_assert!(upper.at <= bytes.len() && !is_extension(upper.protocol));
            }
        }
    }
}
