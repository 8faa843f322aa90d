//! The UDP header (RFC 768; over IPv6 RFC 8200, section 8.1).

use super::checksum::{self, Change};
use super::ipv4::PROTOCOL_UDP;
use super::tcp::Tcp;
use super::{get_u16, put_u16};
use crate::net::Address;
use crate::seq::SeqNum;

/// Offsets in bytes from the start of the UDP header.
pub mod field {
    /// Source port.
    pub const SRC_PORT: usize = 0;
    /// Destination port.
    pub const DST_PORT: usize = 2;
    /// Length of header and data.
    pub const LEN: usize = 4;
    /// Checksum; 0 stands for none.
    pub const CHECKSUM: usize = 6;
}

/// Length in bytes.
pub const HEADER_LEN: usize = 8;

/// A checked view of a header whose length holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length in bytes of header and data: at least 8. More bytes may follow in the IP datagram.
    pub len: u16,
    /// Checksum; 0 stands for none.
    pub checksum: u16,
}

impl Udp {
    /// Reads the header of the datagram in `bytes`, which follow its IP headers; `None` when it is
    /// cut off, or its length is below 8 or beyond the end.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Udp> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let len = get_u16(head, field::LEN);
        let holds = (HEADER_LEN..=bytes.len()).contains(&usize::from(len));
        holds.then(|| Udp {
            src_port: get_u16(head, field::SRC_PORT),
            dst_port: get_u16(head, field::DST_PORT),
            len,
            checksum: get_u16(head, field::CHECKSUM),
        })
    }

    /// The header in the form of TCP's: its ports, and its length and checksum, which are where TCP
    /// has the sequence number and differ from one datagram to the next as that does.
    pub const fn in_place_of_tcp(&self) -> Tcp {
        Tcp {
            src_port: self.src_port,
            dst_port: self.dst_port,
            seq: SeqNum((self.len as u32) << 16 | self.checksum as u32),
            ack: SeqNum(0),
            flags: 0,
            header_len: HEADER_LEN,
        }
    }
}

/// Whether the checksum of the datagram at the start of `bytes` holds; over IPv4 also where it has
/// none.
pub fn checksum_holds<A: Address>(src: A, dst: A, bytes: &[u8]) -> bool {
    let Some(udp) = Udp::parse(bytes) else { return false };
    if udp.checksum == 0 {
        return A::BITS == u32::BITS as u8;
    }
    checksum::fold(sum(src, dst, udp.len, bytes)) == u16::MAX
}

/// Writes the checksum of the datagram at the start of `bytes`, whose length holds.
pub fn write_checksum<A: Address>(src: A, dst: A, bytes: &mut [u8]) {
    put_u16(bytes, field::CHECKSUM, 0);
    let len = get_u16(bytes, field::LEN);
    put_u16(bytes, field::CHECKSUM, shown(!checksum::fold(sum(src, dst, len, bytes))));
}

/// The checksum in the place of `old` after `change`: none stays none.
#[inline]
pub const fn changed(old: u16, change: Change) -> u16 {
    if old == 0 { 0 } else { shown(change.apply(old)) }
}

/// A checksum as it is sent: 0 would stand for none.
const fn shown(sum: u16) -> u16 {
    if sum == 0 { u16::MAX } else { sum }
}

/// The sum of the pseudo header and of `len` of `bytes`.
fn sum<A: Address>(src: A, dst: A, len: u16, bytes: &[u8]) -> u32 {
    let len = usize::from(len);
    let pseudo = checksum::pseudo_header(src, dst, PROTOCOL_UDP, len);
    checksum::sum(pseudo, bytes.get(..len).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(len: u16, data: &[u8]) -> Vec<u8> {
        [&[1, 2, 3, 4][..], &len.to_be_bytes(), &[0, 0], data].concat()
    }

    #[test]
    fn lengths_hold() {
        let data = [7; 5];
        for (len, holds) in [(0, false), (7, false), (8, true), (13, true), (14, false)] {
            assert_eq!(Udp::parse(&datagram(len, &data)).is_some(), holds, "{len}");
        }
        assert_eq!(Udp::parse(&datagram(8, &[])[..7]), None);
        let read = Udp { src_port: 0x0102, dst_port: 0x0304, len: 9, checksum: 0 };
        assert_eq!(Udp::parse(&datagram(9, &data)), Some(read));
    }

    #[test]
    fn none_is_right_over_ipv4_alone() {
        assert!(checksum_holds(1_u32, 2, &datagram(8, &[])));
        assert!(!checksum_holds(1_u128, 2, &datagram(8, &[])));
    }

    #[test]
    fn a_sum_of_zero_is_sent_as_ones() {
        // The data makes the sum 0xffff, and so its complement 0.
        let mut bytes = datagram(10, &[0, 0]);
        write_checksum(0_u32, 0, &mut bytes);
        let missing = get_u16(&bytes, field::CHECKSUM);
        put_u16(&mut bytes, 8, missing);
        write_checksum(0_u32, 0, &mut bytes);
        assert_eq!(get_u16(&bytes, field::CHECKSUM), u16::MAX);
        assert!(checksum_holds(0_u32, 0, &bytes));
        assert_eq!(changed(missing, Change::NONE.word(0, missing)), u16::MAX);
        assert_eq!(changed(0, Change::NONE.word(0, 9)), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_holds_and_covers_no_more_than_the_length(
            src: u128, dst: u128, data in prop::collection::vec(any::<u8>(), 0..99), extra: [u8; 3],
        ) {
            let len = (HEADER_LEN + data.len()) as u16;
            let mut bytes = datagram(len, &[&data[..], &extra].concat());
            write_checksum(src, dst, &mut bytes);
            prop_assert!(checksum_holds(src, dst, &bytes));
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            prop_assert!(checksum_holds(src, dst, &bytes));
            bytes[0] ^= 1;
            prop_assert!(!checksum_holds(src, dst, &bytes));
        }
    }
}
