//! The Internet checksum, computed (RFC 1071) and updated (RFC 1624).
//!
//! Two ways lead to the same number: [`sum`] reads all bytes, [`Change`] takes only the fields that
//! were replaced. An update keeps the difference between a wrong checksum and the right one, so the
//! receiver still detects damage from before the POP.

use std::net::IpAddr;

use crate::net::Address;

/// The one's complement sum of `bytes`, added to `start` and not inverted; [`fold`] reduces it to
/// 16 bits.
///
/// An odd last byte is the high half of a 16-bit word. The loop reads eight bytes at a time and
/// adds their 32-bit halves to two sums: since 2^16 = 1 modulo 2^16 - 1, this equals the sum of the
/// four words. It adds them in the CPU's byte order; swapping the bytes of the sum once gives the
/// same result (RFC 1071, section 2 B). So the loop consists of additions only, and vectorises.
#[inline]
pub fn sum(start: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (mut low, mut high) = (0u64, 0u64);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let (half, rest) = rest.as_chunks::<4>();
    let half = half.first().map_or(0, |half| u32::from_ne_bytes(*half));
    let last = match *rest {
        [] => 0,
        [a] => u32::from_ne_bytes([a, 0, 0, 0]),
        [a, b] => u32::from_ne_bytes([a, b, 0, 0]),
        [a, b, c, ..] => u32::from_ne_bytes([a, b, c, 0]),
    };
    // A datagram has at most 2^13 words of eight bytes, so the sums cannot overflow.
    let total = low + high + u64::from(half) + u64::from(last);
    let once = (total & 0xffff_ffff) + (total >> 32);
    let twice = ((once & 0xffff_ffff) + (once >> 32)) as u32;
    let whole = u64::from(start) + u64::from(u16::from_be(fold(twice)));
    ((whole & 0xffff_ffff) + (whole >> 32)) as u32
}

/// The sum of two sums.
#[inline]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Reduces a sum to 16 bits.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// The checksum of `bytes`, in which the checksum field is zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(0, bytes))
}

/// Whether the checksum in `bytes` is right.
#[inline]
pub fn is_valid(bytes: &[u8]) -> bool {
    fold(sum(0, bytes)) == 0xffff
}

/// The sum of the pseudo header for `len` bytes of `protocol` between two addresses of one family
/// (IPv4: RFC 9293, section 3.1; IPv6: RFC 8200, section 8.1).
#[inline]
pub fn pseudo_header<A: Address>(src: A, dst: A, protocol: u8, len: usize) -> u32 {
    pseudo_sum(src.number(), dst.number(), protocol, len)
}

/// [`pseudo_header`] between addresses whose family is known at run time only.
#[inline]
pub fn pseudo_header_of(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u32 {
    let number = |ip| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    pseudo_sum(number(src), number(dst), protocol, len)
}

/// An IPv4 address is the low 32 bits of a number. The words above it are zero; where the family is
/// known at compile time, they cost nothing.
#[inline]
const fn pseudo_sum(src: u128, dst: u128, protocol: u8, len: usize) -> u32 {
    let total = words(src) + words(dst) + protocol as u64 + len as u64;
    let once = (total & 0xffff_ffff) + (total >> 32);
    ((once & 0xffff_ffff) + (once >> 32)) as u32
}

/// The sum of the four 32-bit words of an address.
#[inline]
const fn words(ip: u128) -> u64 {
    const LOW: u64 = 0xffff_ffff;
    let (high, low) = ((ip >> 64) as u64, ip as u64);
    (high >> 32) + (high & LOW) + (low >> 32) + (low & LOW)
}

/// The fields that a rewrite replaces, collected to update a checksum once (RFC 1624, equation 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u64);

impl Change {
    /// No change.
    pub const NONE: Change = Change(0);

    /// Adds the replacement of the 16-bit word `old` by `new`.
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Change {
        Change(self.0 + (!old) as u64 + new as u64)
    }

    /// Adds the replacement of the 32-bit field `old` by `new`. It begins on a 16-bit boundary.
    #[inline]
    pub const fn long(self, old: u32, new: u32) -> Change {
        let gone = !old;
        Change(
            self.0
                + (gone >> 16) as u64
                + (gone & 0xffff) as u64
                + (new >> 16) as u64
                + (new & 0xffff) as u64,
        )
    }

    /// Adds the replacement of the address `old` by `new`. An IPv4 address is the low 32 bits: the
    /// words above add nothing to a sum.
    #[inline]
    pub const fn address(self, old: u128, new: u128) -> Change {
        Change(self.0 + words(!old) + words(new))
    }

    /// Adds the replacement of the bytes `old` by `new`. Both begin on a 16-bit boundary and have
    /// even lengths, which may differ.
    #[inline(always)]
    pub fn bytes(self, old: &[u8], new: &[u8]) -> Change {
        Change(self.0 + (!fold(sum(0, old))) as u64 + fold(sum(0, new)) as u64)
    }

    /// This change and `other`.
    #[inline]
    pub const fn and(self, other: Change) -> Change {
        Change(self.0 + other.0)
    }

    /// The checksum field that was `field` before the change.
    #[inline]
    pub const fn apply(self, field: u16) -> u16 {
        let mut sum = (!field) as u64 + self.0;
        sum = (sum & 0xffff_ffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(0, &bytes)), 0xddf2);
        assert_eq!(fold(0x2ddf0), 0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        assert_eq!(Change::NONE.word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn odd_byte_is_the_high_half() {
        assert_eq!(checksum(&[0x12]), !0x1200);
    }

    proptest! {
        /// The slow twin: word by word.
        #[test]
        fn sum_is_that_of_all_words(
            start: u32,
            bytes in proptest::collection::vec(prop_oneof![Just(0xff), any::<u8>()], 0..1600),
        ) {
            let low = |pair: &[u8]| pair.get(1).map_or(0, |low| u64::from(*low));
            let word = |pair: &[u8]| u64::from(pair[0]) << 8 | low(pair);
            let mut slow = u64::from(start) + bytes.chunks(2).map(word).sum::<u64>();
            while slow > 0xffff {
                slow = (slow & 0xffff) + (slow >> 16);
            }
            prop_assert_eq!(u64::from(fold(sum(start, &bytes))), slow);
        }

        /// The slow twin: the checksum of the changed packet, computed from all bytes.
        #[test]
        fn change_agrees_with_full_sum(
            mut packet in proptest::collection::vec(any::<u8>(), 40..1500),
            edits in proptest::collection::vec((any::<u16>(), any::<u32>()), 1..8),
        ) {
            packet[0] |= 1; // An all-zero packet has two representations of its sum.
            packet[16..18].fill(0);
            let field = checksum(&packet);
            let mut change = Change::NONE;
            for (at, new) in edits {
                let at = 18 + (at as usize % (packet.len() - 22)) / 2 * 2;
                let field: &mut [u8; 4] = packet[at..].first_chunk_mut().unwrap();
                change = change.long(u32::from_be_bytes(*field), new);
                *field = new.to_be_bytes();
            }
            prop_assert_eq!(change.apply(field), checksum(&packet));
        }

        /// The slow twin: the pseudo header as bytes.
        #[test]
        fn pseudo_headers_are_the_sums_of_their_bytes(
            src: u128, dst: u128, protocol: u8,
            payload in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            let len = payload.len();
            let end = [&(len as u32).to_be_bytes()[..], &[0, 0, 0, protocol], &payload].concat();
            let slow = |addresses: &[u8]| fold(sum(0, &[addresses, &end].concat()));
            let fast = |pseudo| fold(sum(pseudo, &payload));

            let want = slow([src.to_be_bytes(), dst.to_be_bytes()].as_flattened());
            prop_assert_eq!(fast(pseudo_header(src, dst, protocol, len)), want);
            prop_assert_eq!(fast(pseudo_header_of(src.ip(), dst.ip(), protocol, len)), want);

            let (src, dst) = (src as u32, dst as u32);
            let want = slow([src.to_be_bytes(), dst.to_be_bytes()].as_flattened());
            prop_assert_eq!(fast(pseudo_header(src, dst, protocol, len)), want);
            prop_assert_eq!(fast(pseudo_header_of(src.ip(), dst.ip(), protocol, len)), want);
        }

        #[test]
        fn a_wrong_checksum_keeps_its_difference(
            field: u16, error in 1u16..0xffff, old: u32, new: u32,
        ) {
            let change = Change::NONE.long(old, new);
            let wrong = fold(u32::from(field) + u32::from(error));
            let right_after = change.apply(field);
            let wrong_after = change.apply(wrong);
            let difference = fold(u32::from(wrong_after) + u32::from(!right_after));
            prop_assert_eq!(difference % 0xffff, error % 0xffff);
        }

        #[test]
        fn addresses_agree_with_bytes(
            old: u128, new: u128, old4: u32, new4: u32, field in 0u16..0xffff,
        ) {
            for (by_address, old, new) in [
                (Change::NONE.address(old, new), &old.to_be_bytes()[..], &new.to_be_bytes()[..]),
                (Change::NONE.address(old4.into(), new), &old4.to_be_bytes(), &new.to_be_bytes()),
                (Change::NONE.address(old, new4.into()), &old.to_be_bytes(), &new4.to_be_bytes()),
            ] {
                let by_bytes = Change::NONE.bytes(old, new);
                prop_assert_eq!(by_address.apply(field) % 0xffff, by_bytes.apply(field) % 0xffff);
            }
        }

        #[test]
        fn bytes_agree_with_words(
            old in proptest::collection::vec(any::<u8>(), 6),
            new in proptest::collection::vec(any::<u8>(), 6), field: u16,
        ) {
            let by_bytes = Change::NONE.bytes(&old, &new).apply(field);
            let word = |b: &[u8], i: usize| u16::from_be_bytes([b[i], b[i + 1]]);
            let by_words = Change::NONE
                .word(word(&old, 0), word(&new, 0))
                .word(word(&old, 2), word(&new, 2))
                .word(word(&old, 4), word(&new, 4))
                .apply(field);
            // 0x0000 and 0xffff both represent zero in one's complement.
            prop_assert_eq!(by_bytes % 0xffff, by_words % 0xffff);
        }
    }
}
