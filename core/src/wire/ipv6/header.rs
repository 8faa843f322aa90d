//! The fixed IPv6 header (RFC 8200, section 3).

use super::extensions::{self, ExtensionError, Upper, Walked, is_extension};
use super::fragment::{FRAGMENT_LEN, FragmentHeader};
use super::{HEADER_LEN, ORIGINATED_HOP_LIMIT, field, get_address, put_address};
use crate::wire::{get_u16, get_u32, put_u16, put_u32};

/// A checked view: the fields that a relay reads, of a header whose payload is not cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Type of the header after this one.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length in bytes of all that follows this header; within the bytes that were parsed.
    pub payload_len: usize,
}

impl Ipv6 {
    /// Reads the header at the start of `bytes`, which may be longer than the datagram (Ethernet
    /// padding). `None` when the header is cut off, not of version 6, or claims more payload than
    /// `bytes` hold.
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

    /// Reads the header at the start of `bytes`, which may end before the datagram does.
    pub fn parse_start(bytes: &[u8]) -> Option<Ipv6> {
        Self::read(bytes.first_chunk()?)
    }

    /// Reads a datagram that an ICMP error quotes, and finds its upper-layer header. The quote may
    /// be cut off after its extension headers.
    ///
    /// In a first fragment, the upper-layer header is the one after the fragment header. `None` for
    /// a later fragment, which does not contain it.
    pub fn parse_quoted(bytes: &[u8]) -> Option<(Ipv6, Upper)> {
        let ip = Self::read(bytes.first_chunk()?)?;
        let walked = ip.walked(bytes).ok()?;
        let upper = match walked.fragment {
            Some(fragment) if fragment.offset == 0 => {
                Upper { protocol: fragment.next_header, at: fragment.at + FRAGMENT_LEN }
            }
            _ => walked.unfragmented().ok()?,
        };
        Some((ip, upper))
    }

    /// Length in bytes of the datagram.
    #[inline]
    pub const fn total_len(&self) -> usize {
        HEADER_LEN + self.payload_len
    }

    /// Finds the upper-layer header of the datagram at the start of `bytes`, from which this header
    /// was parsed.
    ///
    /// # Errors
    ///
    /// [`ExtensionError`] for extension headers that are not skipped.
    #[inline]
    pub fn upper(&self, bytes: &[u8]) -> Result<Upper, ExtensionError> {
        let first = self.first();
        if !is_extension(first.protocol) {
            return Ok(first);
        }
        self.walked(bytes)?.unfragmented()
    }

    /// The first fragment header of the datagram at the start of `bytes`, from which this header
    /// was parsed. `None` when it has none, it is cut off, or an extension header before it is not
    /// skipped.
    pub fn fragment(&self, bytes: &[u8]) -> Option<FragmentHeader> {
        self.walked(bytes).ok()?.fragment
    }

    /// Makes sure that no host is led on by a routing header in the datagram at the start of
    /// `bytes`, from which this header was parsed.
    ///
    /// # Errors
    /// [`ExtensionError::Routing`] of a routing header, wherever in the chain it is, in a first
    /// fragment too; [`ExtensionError::Malformed`] where the chain may hide one. Later fragments
    /// pass: they have no headers (RFC 7112).
    #[inline]
    pub fn is_not_routed(&self, bytes: &[u8]) -> Result<(), ExtensionError> {
        if !extensions::has_next(self.next_header) {
            return Ok(());
        }
        extensions::pass_all(self.whole(bytes), self.first())
    }

    fn walked(&self, bytes: &[u8]) -> Result<Walked, ExtensionError> {
        extensions::walk(self.whole(bytes), self.first())
    }

    fn first(&self) -> Upper {
        Upper { protocol: self.next_header, at: HEADER_LEN }
    }

    /// The datagram at the start of `bytes`, or what is there of it.
    fn whole<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..self.total_len()).unwrap_or(bytes)
    }
}

/// All fields of an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label (RFC 6437), 20 bits.
    pub flow_label: u32,
    /// Length in bytes of all that follows this header.
    pub payload_len: u16,
    /// Type of the header after this one.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
}

/// The defaults of a datagram that a POP originates, with flow label 0. The caller sets length,
/// next header and addresses.
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
    /// Reads the header at the start of `bytes`, with the checks of [`Ipv6::parse`].
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

    /// Writes the header at the start of `bytes`; nothing when they are shorter than
    /// [`HEADER_LEN`].
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

/// The flow label's bits in the first word.
const FLOW_LABEL: u32 = 0xf_ffff;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        /// A header whose payload is at most 63 bytes.
        fn headers()(
            (traffic_class, next_header, hop_limit) in any::<(u8, u8, u8)>(),
            flow_label in 0..=FLOW_LABEL, payload_len in 0u16..64, src: u128, dst: u128,
        ) -> Header {
            Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(header in headers()) {
            let mut bytes = vec![0xee; HEADER_LEN + usize::from(header.payload_len)];
            header.write(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes), Some(header));
            let view = Ipv6::parse(&bytes).unwrap();
            prop_assert_eq!(view.total_len(), bytes.len());
            prop_assert_eq!((view.src, view.dst), (header.src, header.dst));
        }

        #[test]
        fn headers_that_are_cut_off_or_of_another_version_are_refused(
            header in headers(), len: prop::sample::Index, version in 0u8..16,
        ) {
            let mut bytes = vec![0xee; HEADER_LEN + usize::from(header.payload_len)];
            header.write(&mut bytes);
            prop_assert_eq!(Ipv6::parse(&bytes[..len.index(bytes.len())]), None);
            bytes[0] = bytes[0] & 0x0f | version << 4;
            prop_assert_eq!(Ipv6::parse(&bytes).is_some(), version == 6);
        }
    }
}
