//! The IPv6 fragment header (RFC 8200, section 4.5).

use crate::wire::{get_u16, get_u32, put_u16, put_u32};

/// Offsets in bytes from the start of the fragment header.
mod field {
    pub const NEXT_HEADER: usize = 0;
    pub const OFFSET_MORE: usize = 2;
    pub const ID: usize = 4;
}

/// Length in bytes of the fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// A fragment header and its place in the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Offset in bytes of this header from the start of the datagram.
    pub at: usize,
    /// Offset in bytes of the Next Header field that leads to this header.
    pub next_header_at: usize,
    /// Type of the header after this one, in the original datagram.
    pub next_header: u8,
    /// Offset in bytes of this fragment's data within the fragmentable part of the original
    /// datagram; a multiple of eight.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification of the original datagram.
    pub id: u32,
}

impl FragmentHeader {
    /// Reads the header at `at` of `datagram`, to which the Next Header field at `next_header_at`
    /// leads; `None` when it is cut off.
    pub(super) fn parse(
        datagram: &[u8],
        at: usize,
        next_header_at: usize,
    ) -> Option<FragmentHeader> {
        let header: &[u8; FRAGMENT_LEN] = datagram.get(at..)?.first_chunk()?;
        let word = get_u16(header, field::OFFSET_MORE);
        Some(FragmentHeader {
            at,
            next_header_at,
            next_header: header[field::NEXT_HEADER],
            offset: usize::from(word & OFFSET_MASK),
            more: word & MORE != 0,
            id: get_u32(header, field::ID),
        })
    }

    /// Writes the header at its place of `datagram`; nothing past the end.
    pub fn write(&self, datagram: &mut [u8]) {
        let Some(header) = datagram.get_mut(self.at..) else { return };
        let word = self.offset as u16 & OFFSET_MASK | u16::from(self.more);
        // The byte after the next header is reserved.
        put_u16(header, field::NEXT_HEADER, u16::from(self.next_header) << 8);
        put_u16(header, field::OFFSET_MORE, word);
        put_u32(header, field::ID, self.id);
    }

    /// Whether the fragment contains the whole datagram (atomic fragment, RFC 6946).
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// The offset in bytes, which is in units of eight: the three low bits are other fields.
const OFFSET_MASK: u16 = 0xfff8;
const MORE: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            at in 40usize..80, next_header_at in 0usize..80, next_header: u8,
            offset in 0usize..0x2000, more: bool, id: u32,
        ) {
            let offset = 8 * offset;
            let fragment = FragmentHeader { at, next_header_at, next_header, offset, more, id };
            prop_assert_eq!(fragment.is_atomic(), offset == 0 && !more);
            let mut datagram = vec![0xee; at + FRAGMENT_LEN + 3];
            fragment.write(&mut datagram);
            prop_assert_eq!(FragmentHeader::parse(&datagram, at, next_header_at), Some(fragment));
            prop_assert!(datagram[..at].iter().all(|byte| *byte == 0xee));
            prop_assert_eq!(&datagram[at + FRAGMENT_LEN..], [0xee; 3]);
            let cut = &datagram[..at + FRAGMENT_LEN - 1];
            prop_assert_eq!(FragmentHeader::parse(cut, at, next_header_at), None);
        }
    }
}
