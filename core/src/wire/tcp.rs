//! The TCP header and its options (RFC 9293; timestamps RFC 7323; SACK RFC 2018).

use super::{checksum, ipv4, ipv6};
use super::{get_u16, get_u32, put_u16, put_u32};
use crate::net::Address;
use crate::seq::SeqNum;

/// Offsets in bytes from the start of the TCP header.
pub mod field {
    /// Source port.
    pub const SRC_PORT: usize = 0;
    /// Destination port.
    pub const DST_PORT: usize = 2;
    /// Sequence number.
    pub const SEQ: usize = 4;
    /// Acknowledgment number.
    pub const ACK: usize = 8;
    /// Data offset, in the high half of the byte.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer.
    pub const URGENT: usize = 18;
}

/// Length in bytes without options.
pub const HEADER_LEN: usize = 20;
/// The greatest length in bytes of all options.
pub const OPTIONS_LEN_MAX: usize = 40;

/// FIN.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;
/// ECN-Echo (RFC 3168, section 6.1).
pub const ECE: u8 = 0x40;
/// Congestion window reduced (RFC 3168, section 6.1).
pub const CWR: u8 = 0x80;

/// Option kinds.
pub mod kind {
    /// End of option list.
    pub const END: u8 = 0;
    /// No operation.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// Permission of selective acknowledgment.
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgment.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// TCP-AO (RFC 5925).
    pub const AUTHENTICATION: u8 = 29;
    /// Multipath TCP (RFC 8684).
    pub const MPTCP: u8 = 30;
    /// TCP Fast Open cookie (RFC 7413).
    pub const FAST_OPEN: u8 = 34;
    /// Address of a client behind a proxy (TOA), as kernel modules for load balancers write it.
    pub const CLIENT_ADDRESS: u8 = 200;
    /// Experiment 1 (RFC 6994); also TOA.
    pub const EXPERIMENT_1: u8 = 253;
    /// Experiment 2 (RFC 6994); also TOA.
    pub const EXPERIMENT_2: u8 = 254;
}

/// Length in bytes of a timestamps option.
pub const TIMESTAMPS_LEN: usize = 10;

/// A checked view: the fields that a relay reads, of a header with a valid data offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number; meaningless without [`ACK`].
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Header length in bytes, options included: 20 to 60.
    pub header_len: usize,
}

impl Tcp {
    /// Reads the header of the segment that fills `bytes`; `None` when it is cut off or its data
    /// offset is below 20 bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Tcp> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let header_len = usize::from(head[field::DATA_OFFSET] >> 4) * 4;
        if header_len < HEADER_LEN || header_len > bytes.len() {
            return None;
        }
        Some(Tcp {
            src_port: get_u16(head, field::SRC_PORT),
            dst_port: get_u16(head, field::DST_PORT),
            seq: SeqNum(get_u32(head, field::SEQ)),
            ack: SeqNum(get_u32(head, field::ACK)),
            flags: head[field::FLAGS],
            header_len,
        })
    }

    /// Whether all of the `flags` are set.
    #[inline]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The sequence number after a segment of `segment_len` bytes, header included. SYN and FIN
    /// occupy one number each.
    pub const fn end(&self, segment_len: usize) -> SeqNum {
        let data = segment_len.saturating_sub(self.header_len) as u32;
        let flags = self.has(SYN) as u32 + self.has(FIN) as u32;
        self.seq.plus(data.wrapping_add(flags))
    }
}

/// An option with a length byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// Option kind.
    pub kind: u8,
    /// Offset in bytes of its kind byte from the start of the options.
    pub at: usize,
    /// Length in bytes, kind and length bytes included: at least 2.
    pub len: usize,
}

/// An option whose length is below 2 or goes beyond the end of the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP option's length is below 2 or goes past the end of the options")]
pub struct MalformedOptions;

/// Iterates over the options of a segment, up to their end or an error; NOPs are left out.
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// Over `bytes`, which are all options of a segment.
    pub fn new(bytes: &'a [u8]) -> Self {
        Options { bytes, at: 0 }
    }
}

impl Iterator for Options<'_> {
    type Item = Result<Opt, MalformedOptions>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each turn consumes at least one of at most 40 bytes.
        while let Some(&kind) = self.bytes.get(self.at) {
            match kind {
                kind::END => break,
                kind::NOP => self.at += 1,
                _ => {
                    let at = self.at;
                    let len = usize::from(self.bytes.get(at + 1).copied().unwrap_or(0));
                    if len < 2 || at + len > self.bytes.len() {
                        self.at = self.bytes.len();
                        return Some(Err(MalformedOptions));
                    }
                    self.at += len;
                    return Some(Ok(Opt { kind, at, len }));
                }
            }
        }
        None
    }
}

/// The fields of a TCP header, without the urgent pointer, which is written as 0, and without the
/// checksum, which depends on addresses and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number; meaningless without [`ACK`].
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Window, before scaling.
    pub window: u16,
    /// Options, padded to a multiple of four bytes; at most [`OPTIONS_LEN_MAX`] bytes.
    pub options: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads the header of the segment that fills `bytes`, with the checks of [`Tcp::parse`].
    pub fn parse(bytes: &'a [u8]) -> Option<Header<'a>> {
        let Tcp { src_port, dst_port, seq, ack, flags, header_len } = Tcp::parse(bytes)?;
        let window = get_u16(bytes, field::WINDOW);
        let options = bytes.get(HEADER_LEN..header_len)?;
        Some(Header { src_port, dst_port, seq, ack, flags, window, options })
    }

    /// Length in bytes, options included.
    #[inline]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Writes the header at the start of `segment`, with a checksum of 0; nothing when `segment` is
    /// shorter than the header.
    #[inline]
    pub fn write(&self, segment: &mut [u8]) {
        self.put(segment, 0);
    }

    /// Writes the header at the start of `segment`; nothing when `segment` is shorter than the
    /// header. The checksum is that of a segment whose pseudo header and data have the sum `rest`.
    #[inline]
    pub fn write_with_checksum(&self, segment: &mut [u8], rest: u32) {
        // A few 16-bit numbers, so the sum cannot overflow.
        let [seq, ack] = [self.seq.0, self.ack.0].map(|number| (number >> 16) + (number & 0xffff));
        let fixed = u32::from(self.src_port)
            + u32::from(self.dst_port)
            + seq
            + ack
            + u32::from(self.offset_and_flags())
            + u32::from(self.window);
        let options = checksum::fold(checksum::sum(0, self.options));
        let sum = u32::from(checksum::fold(rest)) + fixed + u32::from(options);
        self.put(segment, !checksum::fold(sum));
    }

    #[inline]
    fn put(&self, segment: &mut [u8], checksum: u16) {
        let Some((header, _)) = segment.split_at_mut_checked(self.header_len()) else { return };
        let Some((head, options)) = header.split_first_chunk_mut::<HEADER_LEN>() else { return };
        put_u16(head, field::SRC_PORT, self.src_port);
        put_u16(head, field::DST_PORT, self.dst_port);
        put_u32(head, field::SEQ, self.seq.0);
        put_u32(head, field::ACK, self.ack.0);
        put_u16(head, field::DATA_OFFSET, self.offset_and_flags());
        put_u16(head, field::WINDOW, self.window);
        put_u16(head, field::CHECKSUM, checksum);
        put_u16(head, field::URGENT, 0);
        options.copy_from_slice(self.options);
    }

    /// The 16-bit word of data offset and flags.
    #[inline]
    const fn offset_and_flags(&self) -> u16 {
        ((self.header_len() / 4) << 12) as u16 | self.flags as u16
    }
}

/// Computes the checksum of the segment from `src` to `dst` that fills `segment`, and writes it.
#[inline]
pub fn write_checksum<A: Address>(src: A, dst: A, segment: &mut [u8]) {
    put_u16(segment, field::CHECKSUM, 0);
    let sum = !checksum::fold(sum(src, dst, segment));
    put_u16(segment, field::CHECKSUM, sum);
}

/// Whether the checksum of the segment from `src` to `dst` that fills `segment` is right.
#[inline]
pub fn checksum_holds<A: Address>(src: A, dst: A, segment: &[u8]) -> bool {
    checksum::fold(sum(src, dst, segment)) == 0xffff
}

#[inline]
fn sum<A: Address>(src: A, dst: A, segment: &[u8]) -> u32 {
    let pseudo = checksum::pseudo_header(src, dst, PROTOCOL, segment.len());
    checksum::sum(pseudo, segment)
}

/// TCP's protocol number, the same in both families.
const PROTOCOL: u8 = ipv4::PROTOCOL_TCP;
const _: () = assert!(PROTOCOL == ipv6::PROTOCOL_TCP);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn damage_invalidates_the_checksum_between<A: Address>(src: A, dst: A, other: A) {
        let mut segment = [0xd1; 33];
        write_checksum(src, dst, &mut segment);
        assert!(checksum_holds(src, dst, &segment));
        assert!(!checksum_holds(src, other, &segment));
        assert!(!checksum_holds(src, dst, &segment[..32]));
    }

    #[test]
    fn damage_invalidates_the_checksum() {
        damage_invalidates_the_checksum_between(0xc000_0201u32, 0xcb00_7101, 0xcb00_7102);
        damage_invalidates_the_checksum_between(u128::MAX - 7, 1 << 100, 1 << 101);
    }

    #[test]
    fn a_slice_shorter_than_the_header_is_not_written() {
        let header = Header {
            src_port: 1,
            dst_port: 2,
            seq: SeqNum(3),
            ack: SeqNum(4),
            flags: SYN,
            window: 5,
            options: &[kind::MSS, 4, 5, 6],
        };
        let mut bytes = [0xee; 24];
        header.write(&mut bytes[..23]);
        assert_eq!(bytes, [0xee; 24]);
        header.write(&mut bytes);
        assert_eq!(
            bytes,
            [0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0x60, 2, 0, 5, 0, 0, 0, 0, 2, 4, 5, 6]
        );
    }

    #[test]
    fn end_counts_data_syn_and_fin() {
        let mut bytes = [0; 30];
        bytes[field::DATA_OFFSET] = 0x60;
        bytes[field::FLAGS] = SYN | FIN;
        let tcp = Tcp::parse(&bytes).unwrap();
        assert_eq!(tcp.end(bytes.len()), SeqNum(8));
    }

    #[test]
    fn a_data_offset_within_the_segment_is_valid() {
        let mut bytes = [0; 24];
        for offset in 0..16u8 {
            bytes[field::DATA_OFFSET] = offset << 4;
            assert_eq!(Tcp::parse(&bytes).is_some(), offset == 5 || offset == 6, "{offset}");
        }
        bytes[field::DATA_OFFSET] = 0x50;
        for len in 0..20 {
            assert_eq!(Tcp::parse(&bytes[..len]), None);
        }
    }

    #[test]
    fn wrong_option_lengths_are_errors() {
        for wrong in [&[2u8, 0, 0, 0][..], &[2, 1, 0, 0], &[2, 5, 0, 0], &[1, 1, 1, 2]] {
            assert!(Options::new(wrong).any(|option| option.is_err()), "{wrong:?}");
        }
        assert_eq!(Options::new(&[1, 0, 2, 0]).next(), None);
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            (src_port, dst_port, seq, ack) in any::<(u16, u16, u32, u32)>(), flags: u8, window: u16,
            options in proptest::collection::vec(any::<[u8; 4]>(), 0..=10),
            data in proptest::collection::vec(any::<u8>(), 0..99), ips: [u128; 2],
        ) {
            let options = options.as_flattened();
            let (seq, ack) = (SeqNum(seq), SeqNum(ack));
            let header = Header { src_port, dst_port, seq, ack, flags, window, options };
            let mut segment = vec![0xee; header.header_len()];
            segment.extend(&data);
            header.write(&mut segment);
            prop_assert_eq!(Header::parse(&segment), Some(header));

            // The slow twin of the derived checksum: the sum of all bytes.
            write_checksum(ips[0], ips[1], &mut segment);
            let mut derived = vec![0xee; header.header_len()];
            derived.extend(&data);
            let pseudo = checksum::pseudo_header(ips[0], ips[1], PROTOCOL, segment.len());
            header.write_with_checksum(&mut derived, checksum::sum(pseudo, &data));
            prop_assert_eq!(segment, derived);
        }

        #[test]
        fn options_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..=40)) {
            for option in Options::new(&bytes).take(64).flatten() {
                prop_assert!(option.at + option.len <= bytes.len());
            }
            prop_assert!(Options::new(&bytes).count() <= 40);
        }
    }
}
