//! Which frames of a burst go the fast way, as far as the frames themselves say.

use cpu_vector::{Job, Vector, all, bits, lane_mask, pick};

use super::columns::{Columns, INSERTED, Kind, mark, number_of};
use crate::relay::mapping::BURST;

/// Finds the segments that may be taken: of IPv4 without options and no fragment, with a right
/// header checksum and hops left; of TCP either with SYN alone, or with ACK, no SYN and no RST, and
/// no options or two NOPs and timestamps; not too long for any port, where they get timestamps with
/// these.
pub(super) struct Sort<'a> {
    pub columns: &'a mut Columns,
    pub kind: Kind,
    /// Bytes of the longest datagram that may leave.
    pub max_len: u64,
}

/// Which frames are what, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sorted {
    /// They may be taken.
    pub plain: u64,
    /// They have no options.
    pub bare: u64,
    /// They are SYNs of clients, which limits may refuse.
    pub syns: u64,
}

impl Job for Sort<'_> {
    type Output = Sorted;

    #[inline(always)]
    fn run<V: Vector>(self, _: V) -> Sorted {
        let Sort { columns, kind, max_len } = self;
        let (mut plain, mut bare, mut syns) = ([0; BURST], [0; BURST], [0; BURST]);
        for lane in 0..BURST {
            let (ip, source) = (columns.ip[lane], columns.source[lane]);
            let (destination, tcp) = (columns.destination[lane], columns.tcp[lane]);
            let (mac, kind_word) = (columns.mac[lane], columns.kind[lane]);
            let from = source >> 32 | destination & (0xffff << 32);
            let to = destination & LOW32 | (destination >> 48) << 32;
            (columns.from[lane], columns.to[lane]) = (from, to);
            (columns.from_mark.0[lane], columns.to_mark.0[lane]) = (mark(from), mark(to));
            let sum = (ip & LOW32)
                + (ip >> 32)
                + (source & LOW32)
                + (source >> 32)
                + (destination & LOW32);
            // Bits that a segment which is taken has not: another version or header length; MF and
            // offset; another protocol; a source of the frame that is not unicast; and a wrong
            // checksum.
            let off = kind.differs(mac, kind_word)
                | (ip ^ 0x45) & (0xff3f << 48 | 0xff)
                | (source ^ 0x0600) & 0xff00
                | mac >> 48 & 1
                | fold(sum) ^ 0xffff;
            let (total, header) = (swap16(ip >> 16), tcp >> 4 & 0xf);
            // Lengths are small: a difference below 0 has its highest bits set.
            let is_bare = all(header == 5);
            let short = max_len.wrapping_sub(total + (INSERTED & is_bare))
                | columns.len[lane].wrapping_sub(total)
                | total.wrapping_sub(20 + 4 * header)
                | header.wrapping_sub(5);
            // Neither the last hop, nor a frame from nowhere.
            let is_zero = all(source & 0xfe == 0) | all(kind.source(mac, kind_word) == 0);
            let has_stamps = all((columns.stamp[lane] ^ STAMPS) & LOW32 | header ^ 8 == 0);
            let taken = all(off | short >> 32 == 0) & !is_zero;
            // With ACK and neither SYN nor RST; and with SYN alone.
            let is_plain = all((tcp ^ 0x1000) & 0x1600 == 0) & (has_stamps | is_bare);
            let is_syn = all((tcp ^ 0x0200) & 0x1700 == 0);
            (plain[lane], syns[lane]) = (taken & is_plain, taken & is_syn);
            bare[lane] = is_bare;
        }
        Sorted { plain: bits(&plain), bare: bits(&bare), syns: bits(&syns) }
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
            let (client, egress) = (number_of(columns.from[lane]), number_of(columns.to[lane]));
            // Index, port and tag.
            let tag = (columns.echo[lane] << 32).swap_bytes() >> 1;
            let packed = (egress >> 16 & mask) << 48 | (egress & 0xffff) << 32 | tag;
            columns.numbers.0[lane] = pick(back, packed, client);
        }
    }
}

/// The low 32 bits.
pub(super) const LOW32: u64 = 0xffff_ffff;
/// Two NOPs, and kind and length of timestamps.
pub(super) const STAMPS: u64 = u32::from_le_bytes([1, 1, 8, 10]) as u64;
