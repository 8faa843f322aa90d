//! The chain of extension headers between the IPv6 header and the upper-layer header (RFC 8200,
//! section 4).
//!
//! Hop-by-hop and destination options are skipped if all their options may be; a routing header is
//! refused; a fragment header ends the walk.

use super::{FRAGMENT_LEN, FragmentHeader, PROTOCOL_FRAGMENT, field};

/// The most extension headers that are read in one datagram: more than any host has reason to send.
/// Limits are allowed by RFC 8504, section 5.3.
pub const EXTENSIONS_MAX: usize = 8;

/// The upper-layer header of a datagram: the one after its extension headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upper {
    /// Its protocol.
    pub protocol: u8,
    /// Its offset in bytes from the start of the datagram; at most the datagram's length.
    pub at: usize,
}

/// Why a datagram's upper-layer header is not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// A length beyond the datagram, a misplaced header, more than [`EXTENSIONS_MAX`] headers, or
    /// an unknown option that forbids to skip it (RFC 8200, section 4.2).
    #[error("IPv6 extension headers are malformed, too many, or with options that forbid to skip")]
    Malformed,
    /// A routing header. It is not followed, like IPv4's source routes (RFC 5095).
    #[error("an IPv6 routing header")]
    Routing,
    /// A fragment header, also that of an atomic fragment.
    #[error("an IPv6 fragment header")]
    Fragment,
}

/// Where a walk over extension headers ended.
pub(super) struct Walked {
    /// The first header that was not skipped; a fragment header as well.
    pub upper: Upper,
    /// That header, if it is a fragment header and not cut off.
    pub fragment: Option<FragmentHeader>,
}

impl Walked {
    /// The upper-layer header of a datagram that is not fragmented.
    ///
    /// # Errors
    /// [`ExtensionError::Fragment`] where the walk ended at a fragment header.
    pub fn unfragmented(self) -> Result<Upper, ExtensionError> {
        match self.upper.protocol {
            PROTOCOL_FRAGMENT => Err(ExtensionError::Fragment),
            _ => Ok(self.upper),
        }
    }
}

/// Walks over extension headers, from `upper` to an upper-layer or fragment header.
pub(super) fn walk(datagram: &[u8], mut upper: Upper) -> Result<Walked, ExtensionError> {
    let mut next_header_at = field::NEXT_HEADER;
    for place in 0..=EXTENSIONS_MAX {
        match upper.protocol {
            // Allowed only directly after the IPv6 header.
            HOP_BY_HOP if place > 0 => return Err(ExtensionError::Malformed),
            HOP_BY_HOP | DESTINATION => {}
            ROUTING => return Err(ExtensionError::Routing),
            PROTOCOL_FRAGMENT => {
                let fragment = FragmentHeader::parse(datagram, upper.at, next_header_at);
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
        next_header_at = upper.at;
        upper = Upper { protocol: next, at: upper.at + len };
    }
    Err(ExtensionError::Malformed)
}

/// Whether `protocol` is the number of a header that another one may follow.
#[inline]
pub(super) const fn has_next(protocol: u8) -> bool {
    is_extension(protocol) || matches!(protocol, AUTHENTICATION | MOBILITY | HIP | SHIM6)
}

/// Walks over all headers that [have a next one](has_next), those of a first fragment too.
pub(super) fn pass_all(datagram: &[u8], mut from: Upper) -> Result<(), ExtensionError> {
    for _ in 0..=EXTENSIONS_MAX {
        let Walked { upper, fragment } = walk(datagram, from)?;
        let rest = datagram.get(upper.at..).unwrap_or_default();
        let (next, len) = match (upper.protocol, rest) {
            (PROTOCOL_FRAGMENT, _) => match fragment {
                None => return Err(ExtensionError::Malformed),
                Some(fragment) if fragment.offset > 0 => return Ok(()),
                Some(fragment) => (fragment.next_header, FRAGMENT_LEN),
            },
            (AUTHENTICATION, &[next, units, ..]) => (next, (usize::from(units) + 2) * 4),
            (MOBILITY | HIP | SHIM6, &[next, units, ..]) => (next, (usize::from(units) + 1) * 8),
            (AUTHENTICATION | MOBILITY | HIP | SHIM6, _) => return Err(ExtensionError::Malformed),
            _ => return Ok(()),
        };
        if rest.len() < len {
            return Err(ExtensionError::Malformed);
        }
        from = Upper { protocol: next, at: upper.at + len };
    }
    Err(ExtensionError::Malformed)
}

/// Whether no option is cut off, and a host that knows none of them may skip all.
fn may_be_skipped(options: &[u8]) -> bool {
    let mut rest = options;
    // Each turn consumes at least one of at most 2046 bytes.
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

/// Whether `protocol` is the number of an extension header that [`super::Ipv6::upper`] reads.
#[inline]
pub const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | PROTOCOL_FRAGMENT | DESTINATION)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
// Headers that are read by hosts alone: RFC 4302, RFC 6275, RFC 7401, RFC 5533.
const AUTHENTICATION: u8 = 51;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

const OPTION_PAD_1: u8 = 0;
/// The bits of an option's type that tell a host which does not know it what to do; 0 is to skip.
const OPTION_ACTION: u8 = 0xc0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6::{HEADER_LEN, Header, Ipv6, ORIGINATED, PROTOCOL_ICMPV6, PROTOCOL_TCP};
    use crate::wire::put_u16;
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
        let payload_len = payload.len() as u16;
        let next_header = extensions.first().map_or(protocol, |(kind, _)| *kind);
        let (src, dst) = (1 << 100 | 1, 1 << 100 | 2);
        Header { payload_len, next_header, src, dst, ..ORIGINATED }.write(&mut bytes);
        bytes.extend(payload);
        bytes
    }

    fn upper(bytes: &[u8]) -> Result<Upper, ExtensionError> {
        Ipv6::parse(bytes).unwrap().upper(bytes)
    }

    const PADDING: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    const ROUTE: (u8, &[u8]) = (ROUTING, &[0, 4, 1, 0, 0, 0, 0]);

    /// A first fragment's header, and one at an offset of 8 bytes.
    const FIRST: (u8, &[u8]) = (PROTOCOL_FRAGMENT, &[0, 0, 1, 0, 0, 0, 7]);
    const LATER: (u8, &[u8]) = (PROTOCOL_FRAGMENT, &[0, 0, 9, 0, 0, 0, 7]);

    #[test]
    fn a_routing_header_is_found_behind_all_that_may_be_in_front() {
        let ahead: [(u8, &[u8]); 6] = [
            (DESTINATION, PADDING),
            FIRST,
            (AUTHENTICATION, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (MOBILITY, &[0; 7]),
            (HIP, &[0; 7]),
            (SHIM6, &[0; 7]),
        ];
        let passes = |extensions: &[(u8, &[u8])]| {
            let bytes = datagram(extensions, PROTOCOL_TCP);
            Ipv6::parse(&bytes).unwrap().is_not_routed(&bytes)
        };
        assert_eq!(passes(&[ROUTE]), Err(ExtensionError::Routing));
        for first in ahead {
            assert_eq!(passes(&[first]), Ok(()));
            assert_eq!(passes(&[first, ROUTE]), Err(ExtensionError::Routing), "{first:?}");
            for second in ahead {
                assert_eq!(passes(&[first, second]), Ok(()), "{first:?} {second:?}");
                let routed = passes(&[first, second, ROUTE]);
                assert_eq!(routed, Err(ExtensionError::Routing), "{first:?} {second:?}");
            }
            // Cut off, so that what follows is not seen.
            let whole = datagram(&[first], PROTOCOL_TCP);
            for len in HEADER_LEN..whole.len() - 4 {
                let mut cut = whole[..len].to_vec();
                put_u16(&mut cut, field::PAYLOAD_LEN, (len - HEADER_LEN) as u16);
                let found = Ipv6::parse(&cut).unwrap().is_not_routed(&cut);
                assert_eq!(found, Err(ExtensionError::Malformed), "{first:?} {len}");
            }
        }
        // Later fragments have no headers.
        assert_eq!(passes(&[LATER, ROUTE]), Ok(()));
    }

    #[test]
    fn extension_headers_are_skipped() {
        let long = [&[1u8, 5, 2, 0, 0][..], &[0; 10]].concat();
        for (chain, at) in [
            (&[][..], 40),
            (&[(0, PADDING)], 48),
            (&[(0, PADDING), (60, &long)], 64),
            (&[(60, PADDING), (60, PADDING)], 56),
        ] {
            // All other headers are upper-layer headers here: UDP, ESP, AH, no next header.
            for protocol in [PROTOCOL_TCP, PROTOCOL_ICMPV6, 17, 50, 51, 59, 135] {
                let found = upper(&datagram(chain, protocol));
                assert_eq!(found, Ok(Upper { protocol, at }), "{chain:?}");
            }
        }
    }

    #[test]
    fn routing_and_fragment_headers_are_reported_at_any_place() {
        for in_front in [&[][..], &[(0, PADDING)], &[(0, PADDING), (60, PADDING)]] {
            for (kind, error) in [(43, ExtensionError::Routing), (44, ExtensionError::Fragment)] {
                let chain = [in_front, &[(kind, PADDING)]].concat();
                assert_eq!(upper(&datagram(&chain, 6)), Err(error));
            }
        }
    }

    #[test]
    fn fragment_headers_are_read_and_written_at_any_place() {
        for (in_front, at, next_header_at) in
            [(&[][..], 40, 6), (&[(0, PADDING)], 48, 40), (&[(0, PADDING), (60, PADDING)], 56, 48)]
        {
            let header = &[0, 0x12, 0x39, 0xca, 0xfe, 0xba, 0xbe];
            let mut bytes = datagram(&[in_front, &[(44, header)]].concat(), 6);
            let parsed = Ipv6::parse(&bytes).unwrap();
            let fragment = parsed.fragment(&bytes).unwrap();
            let (offset, id) = (0x1238, 0xcafe_babe);
            let want =
                FragmentHeader { at, next_header_at, next_header: 6, offset, more: true, id };
            assert_eq!(fragment, want);
            let before = bytes.clone();
            bytes[at..at + 8].fill(0xff);
            fragment.write(&mut bytes);
            assert_eq!(bytes, before);
            put_u16(&mut bytes, field::PAYLOAD_LEN, (at + 7 - HEADER_LEN) as u16);
            assert_eq!(Ipv6::parse(&bytes).unwrap().fragment(&bytes), None, "cut off");
        }
        let none = datagram(&[(60, PADDING)], 6);
        assert_eq!(Ipv6::parse(&none).unwrap().fragment(&none), None);
    }

    #[test]
    fn malformed_extension_headers_are_refused() {
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
        // Cut off, with a payload length that agrees.
        let whole = datagram(&[(0, PADDING), (60, PADDING)], 6);
        for len in HEADER_LEN..HEADER_LEN + 16 {
            let mut cut = whole[..len].to_vec();
            put_u16(&mut cut, field::PAYLOAD_LEN, (len - HEADER_LEN) as u16);
            assert_eq!(upper(&cut), Err(ExtensionError::Malformed), "{len}");
        }
    }

    #[test]
    fn quotes_may_be_cut_off_after_their_extension_headers() {
        let whole = datagram(&[(0, PADDING), (60, PADDING)], PROTOCOL_TCP);
        for len in 0..whole.len() {
            let found = Ipv6::parse_quoted(&whole[..len]);
            let want = Upper { protocol: PROTOCOL_TCP, at: HEADER_LEN + 16 };
            assert_eq!(found.map(|(_, upper)| upper), (len >= want.at).then_some(want), "{len}");
        }
        // Bytes after the end of the datagram are not read.
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

    proptest! {
        #[test]
        fn an_upper_header_lies_inside(
            mut bytes in proptest::collection::vec(any::<u8>(), HEADER_LEN..200),
            kinds in proptest::collection::vec(
                prop::sample::select(vec![0u8, 6, 43, 44, 58, 60]), 4,
            ),
        ) {
            // Valid beginnings of headers make longer walks likely.
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
