//! TCP header and its options (RFC 9293; timestamps RFC 7323; SACK RFC 2018).

use super::{get_u16, get_u32, put_u16, put_u32};
use crate::seq::SeqNum;
use crate::wire::{checksum, ipv4, ipv6};

/// Offsets from the start of the TCP header.
pub mod field {
    /// Source port.
    pub const SRC_PORT: usize = 0;
    /// Destination port.
    pub const DST_PORT: usize = 2;
    /// Sequence number.
    pub const SEQ: usize = 4;
    /// Acknowledgment number.
    pub const ACK: usize = 8;
    /// Data offset in the high half of the byte; the flags are the byte after it.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
}

/// Length in bytes without options.
pub const HEADER_LEN: usize = 20;
/// Length in bytes of the longest options.
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
    /// Experiments (RFC 6994).
    pub const EXPERIMENT_1: u8 = 253;
    /// Experiments (RFC 6994).
    pub const EXPERIMENT_2: u8 = 254;
}

/// Length in bytes of a timestamps option.
pub const TIMESTAMPS_LEN: usize = 10;

/// A TCP header whose data offset holds.
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
    /// Reads the header of the segment that fills `bytes`; `None` when it is not whole.
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

    /// The number after the last one that a segment of `segment_len` bytes, header included,
    /// takes: SYN and FIN take one each.
    pub const fn end(&self, segment_len: usize) -> SeqNum {
        let data = segment_len.saturating_sub(self.header_len) as u32;
        let marks = self.has(SYN) as u32 + self.has(FIN) as u32;
        self.seq.plus(data.wrapping_add(marks))
    }
}

/// One option that takes more than a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// Option kind.
    pub kind: u8,
    /// Where its kind byte is, from the start of the options.
    pub at: usize,
    /// Length in bytes, kind and length bytes included: at least 2.
    pub len: usize,
}

/// Option lengths that lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP option's length is below 2 or goes past the end of the options")]
pub struct MalformedOptions;

/// Walks the options of a segment, NOPs left out, until their end.
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Options<'a> {
    /// Over `bytes`, the options without the 20 bytes before them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Options { bytes, at: 0 }
    }
}

impl Iterator for Options<'_> {
    type Item = Result<Opt, MalformedOptions>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each turn goes at least one byte on, of 40 at most.
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

/// A RST without options and data (RFC 9293, section 3.10.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number, for a RST|ACK.
    pub ack: Option<SeqNum>,
}

impl Reset {
    /// Length in bytes of the IPv4 datagram.
    pub const LEN: usize = ipv4::HEADER_LEN + HEADER_LEN;

    /// Writes IPv4 and TCP header with their checksums at the start of `bytes`, which hold at
    /// least [`Reset::LEN`] bytes; nothing is written when they do not.
    pub fn write(&self, bytes: &mut [u8]) {
        let Some(datagram) = bytes.first_chunk_mut::<{ Self::LEN }>() else { return };
        let (head, segment) = datagram.split_at_mut(ipv4::HEADER_LEN);
        let (src, dst) = (self.src, self.dst);
        let total_len = Self::LEN as u16;
        ipv4::Originated { total_len, protocol: ipv4::PROTOCOL_TCP, src, dst }.write(head);
        segment.fill(0);
        put_u16(segment, field::SRC_PORT, self.src_port);
        put_u16(segment, field::DST_PORT, self.dst_port);
        put_u32(segment, field::SEQ, self.seq.0);
        put_u32(segment, field::ACK, self.ack.map_or(0, |ack| ack.0));
        segment[field::DATA_OFFSET] = (HEADER_LEN as u8 / 4) << 4;
        segment[field::FLAGS] = if self.ack.is_some() { RST | ACK } else { RST };
        let sum = segment_checksum(src, dst, segment);
        put_u16(segment, field::CHECKSUM, sum);
    }
}

/// The checksum field of `segment`, in which that field is zero, between two addresses.
pub fn segment_checksum(src: u32, dst: u32, segment: &[u8]) -> u16 {
    let pseudo = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_TCP, segment.len() as u16);
    !checksum::fold(checksum::sum(pseudo, segment))
}

/// Whether the checksum of `segment` between two addresses holds.
pub fn checksum_holds(src: u32, dst: u32, segment: &[u8]) -> bool {
    let pseudo = checksum::pseudo_header(src, dst, ipv4::PROTOCOL_TCP, segment.len() as u16);
    checksum::fold(checksum::sum(pseudo, segment)) == 0xffff
}

/// [`segment_checksum`] between two IPv6 addresses.
#[inline]
pub fn segment_checksum6(src: u128, dst: u128, segment: &[u8]) -> u16 {
    !checksum::fold(sum6(src, dst, segment))
}

/// [`checksum_holds`] between two IPv6 addresses.
#[inline]
pub fn checksum_holds6(src: u128, dst: u128, segment: &[u8]) -> bool {
    checksum::fold(sum6(src, dst, segment)) == 0xffff
}

#[inline]
fn sum6(src: u128, dst: u128, segment: &[u8]) -> u32 {
    let len = segment.len() as u32;
    checksum::sum(checksum::pseudo_header6(src, dst, ipv6::PROTOCOL_TCP, len), segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reset_parses_and_its_checksums_hold() {
        let reset = Reset {
            src: 1,
            dst: 2,
            src_port: 80,
            dst_port: 4000,
            seq: SeqNum(7),
            ack: Some(SeqNum(9)),
        };
        let mut bytes = [0xee; Reset::LEN];
        reset.write(&mut bytes);
        assert!(ipv4::Ipv4::parse(&bytes).is_ok());
        let tcp = Tcp::parse(&bytes[20..]).unwrap();
        assert_eq!((tcp.seq, tcp.ack, tcp.flags), (SeqNum(7), SeqNum(9), RST | ACK));
        assert!(checksum_holds(1, 2, &bytes[20..]));
    }

    #[test]
    fn checksums_hold_between_ipv6_addresses() {
        let (src, dst) = (u128::MAX - 7, 1 << 100);
        let mut segment = [0xd1; 33];
        put_u16(&mut segment, field::CHECKSUM, 0);
        let sum = segment_checksum6(src, dst, &segment);
        put_u16(&mut segment, field::CHECKSUM, sum);
        assert!(checksum_holds6(src, dst, &segment));
        assert!(!checksum_holds6(src, dst + 1, &segment));
        assert!(!checksum_holds6(src, dst, &segment[..32]));
    }

    #[test]
    fn end_counts_data_and_marks() {
        let mut bytes = [0; 30];
        bytes[field::DATA_OFFSET] = 0x60;
        bytes[field::FLAGS] = SYN | FIN;
        let tcp = Tcp::parse(&bytes).unwrap();
        assert_eq!(tcp.end(bytes.len()), SeqNum(8));
    }

    #[test]
    fn data_offset_must_hold() {
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
    fn lying_option_lengths_are_seen() {
        for lying in [&[2u8, 0, 0, 0][..], &[2, 1, 0, 0], &[2, 5, 0, 0], &[1, 1, 1, 2]] {
            assert!(Options::new(lying).any(|option| option.is_err()), "{lying:?}");
        }
        assert_eq!(Options::new(&[1, 0, 2, 0]).next(), None);
    }

    proptest! {
        #[test]
        fn options_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..=40)) {
            for option in Options::new(&bytes).take(64).flatten() {
                prop_assert!(option.at + option.len <= bytes.len());
            }
            prop_assert!(Options::new(&bytes).count() <= 40);
        }
    }
}
