//! Which frames of a burst go the fast way, as far as the frames themselves say.

use cpu_vector::{Job, Vector, all, bits, lane_mask, pick};

use super::columns::{Columns, Kind, LOW48};
use crate::relay::mapping::BURST;

/// Finds the segments that may be taken: of IPv4 without options and no fragment, with a right
/// header checksum and hops left; of TCP with ACK, no SYN and no RST, and no options or two NOPs
/// and timestamps; not too long for any port with timestamps put in.
pub(super) struct Sort<'a> {
    pub columns: &'a Columns,
    pub kind: Kind,
    /// Bytes of the longest datagram that is taken.
    pub max_len: u64,
}

/// Which frames are what, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sorted {
    /// They may be taken.
    pub plain: u64,
    /// They have no options.
    pub bare: u64,
}

impl Job for Sort<'_> {
    type Output = Sorted;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> Sorted {
        let Sort { columns, kind, max_len } = self;
        let (mut plain, mut bare) = ([0; BURST], [0; BURST]);
        for lane in 0..BURST {
            let (ip, source) = (columns.ip[lane], columns.source[lane]);
            let (destination, tcp) = (columns.destination[lane], columns.tcp[lane]);
            let (mac, kind_word) = (columns.mac[lane], columns.kind[lane]);
            let sum = (ip & LOW32)
                + (ip >> 32)
                + (source & LOW32)
                + (source >> 32)
                + (destination & LOW32);
            // Version and header length; MF and offset; protocol; ACK, SYN, RST.
            let off = kind.differs(mac, kind_word)
                | (ip ^ 0x45) & (0xff3f << 48 | 0xff)
                | (source ^ 0x0600) & 0xff00
                | (tcp ^ 0x1000) & 0x1600;
            let total = swap16(ip >> 16);
            let header = tcp >> 4 & 0xf;
            let has_stamps = all(header == 8) & all(columns.stamp[lane] & LOW32 == STAMPS);
            let is_bare = all(header == 5);
            // The source of the frame is unicast, and not 0.
            let from = mac >> 48 | (kind_word << 16 & LOW48);
            plain[lane] = all(off == 0)
                & all(fold(sum) == 0xffff)
                & all(mac >> 48 & 1 == 0)
                & all(from != 0)
                & all(source & 0xfe != 0)
                & all(total <= max_len)
                & all(total <= columns.len[lane])
                & all(total >= 20 + 4 * header)
                & (has_stamps | is_bare);
            bare[lane] = is_bare;
        }
        Sorted { plain: bits(&plain), bare: bits(&bare) }
    }
}

/// The one's complement sum of the 16-bit words of a sum of few words of 32 bits.
#[inline(always)]
pub(super) const fn fold(sum: u64) -> u64 {
    let sum = (sum & LOW32) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// The lowest two bytes in the other order.
#[inline(always)]
pub(super) const fn swap16(word: u64) -> u64 {
    (word & 0xff) << 8 | word >> 8 & 0xff
}

/// What the mapping begins with: the client of a client's segment, or what stands for it.
pub(super) struct Number<'a> {
    pub columns: &'a mut Columns,
    /// The segments of targets.
    pub down: u64,
    /// In each lane, the bits of an address that are its index in the pool.
    pub index_mask: &'a [u64; BURST],
}

impl Job for Number<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Number { columns, down, index_mask } = self;
        for (lane, mask) in index_mask.iter().enumerate() {
            let back = lane_mask(down, lane);
            let (source, destination) = (columns.source[lane], columns.destination[lane]);
            // Address and port of the client, 48 bits.
            let x = (source >> 32 | destination & 0xffff << 32).swap_bytes() >> 16;
            // Index, port and tag.
            let ip = (destination << 32).swap_bytes();
            let port = (destination >> 48 << 48).swap_bytes();
            let tag = (columns.echo[lane] << 32).swap_bytes() >> 1;
            let packed = (ip & mask) << 48 | port << 32 | tag;
            columns.numbers.0[lane] = pick(back, packed, x);
        }
    }
}

/// The low 32 bits.
pub(super) const LOW32: u64 = 0xffff_ffff;
/// Two NOPs, and kind and length of timestamps.
pub(super) const STAMPS: u64 = u32::from_le_bytes([1, 1, 8, 10]) as u64;
