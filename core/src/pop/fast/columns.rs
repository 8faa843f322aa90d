//! The headers of a burst in columns: a word of every frame side by side.
//!
//! Words are read and written as the CPU does it, little-endian. One's complement sums do not mind
//! the order of bytes (RFC 1071, section 2), so that only addresses, ports and lengths are turned
//! around, where they are computed with.

use cpu_vector::BLOCKS;

use crate::frame::{ChecksumVerdict, Frame};
use crate::relay::mapping::BURST;
use crate::relay::pool::permutation::Numbers;
use crate::wire::ethernet;

/// A word of every frame.
pub(super) type Words = [u64; BURST];

/// Headers from the IPv4 header on, of segments that begin at the same offset.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Columns {
    /// Bytes from the IPv4 header to the end of the frame; 0 for what cannot be taken.
    pub len: Words,
    /// Destination of the frame, and two bytes of its source.
    pub mac: Words,
    /// Four bytes of its source, and what tells the kind of frame: [`Kind`].
    pub kind: Words,
    /// Version, TOS, total length, ID, flags and fragment offset.
    pub ip: Words,
    /// TTL, protocol, checksum, source.
    pub source: Words,
    /// Destination, and both ports.
    pub destination: Words,
    /// Data offset, flags, window, checksum, urgent pointer.
    pub tcp: Words,
    /// NOP, NOP, kind, length and TSval, where there are such options.
    pub stamp: Words,
    /// TSecr.
    pub echo: Words,
    /// What the client's side is mapped to and from: see [`Permutation::map`].
    ///
    /// [`Permutation::map`]: crate::relay::pool::permutation::Permutation::map
    pub numbers: Numbers,
    /// The address and port that the segment leaves with for its source, as 48 bits; of that to a
    /// target the first address of its pool alone.
    pub near: Words,
    /// The address and port that a client's segment goes to, as 48 bits.
    pub far: Words,
    /// Bytes of the datagram that leaves.
    pub new_len: Words,
    /// The client's address.
    pub client: Words,
}

const _: () = assert!(BURST == BLOCKS);

/// How frames of a port begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Where the IPv4 header is.
    pub l3: usize,
    mac: u64,
    kind: u64,
    mask: u64,
}

impl Kind {
    /// Frames with IPv4 to the port with this hardware address and VLAN.
    pub fn new(mac: crate::wire::MacAddr, vlan: Option<u16>) -> Self {
        let mac = mac.to_u64().swap_bytes() >> 16;
        // Untagged: four bytes of the source, the type. Tagged: the tag's contents, the type, and
        // two bytes of the source before them.
        match vlan {
            None => {
                let kind = u64::from(ethernet::TYPE_IPV4.swap_bytes()) << 48;
                Kind { l3: ethernet::HEADER_LEN, mac, kind, mask: 0xffff << 48 }
            }
            Some(id) => {
                let [tpid, id, inner] = [ethernet::TYPE_VLAN, id, ethernet::TYPE_IPV4]
                    .map(|word| u64::from(word.swap_bytes()));
                let kind = tpid << 16 | id << 32 | inner << 48;
                // Priority and drop eligibility do not count.
                let mask = 0xffff << 16 | 0xff0f << 32 | 0xffff << 48;
                Kind { l3: ethernet::TAGGED_HEADER_LEN, mac, kind, mask }
            }
        }
    }

    /// Bits that are set where a frame is not of this kind.
    #[inline(always)]
    pub fn differs(&self, mac: u64, kind: u64) -> u64 {
        (mac ^ self.mac) & LOW48 | (kind ^ self.kind) & self.mask
    }
}

impl Columns {
    pub const EMPTY: Columns = Columns {
        len: [0; BURST],
        mac: [0; BURST],
        kind: [0; BURST],
        ip: [0; BURST],
        source: [0; BURST],
        destination: [0; BURST],
        tcp: [0; BURST],
        stamp: [0; BURST],
        echo: [0; BURST],
        numbers: Numbers([0; BURST]),
        near: [0; BURST],
        far: [0; BURST],
        new_len: [0; BURST],
        client: [0; BURST],
    };

    /// Reads the headers of `frames`, whose IPv4 headers begin at `l3`.
    #[inline(always)]
    pub fn gather<F: Frame>(&mut self, l3: usize, frames: &[F]) {
        for (lane, frame) in frames.iter().enumerate().take(BURST) {
            let bytes = frame.bytes();
            self.len[lane] = 0;
            let Some(headers) = bytes.get(l3..).and_then(|ip| ip.first_chunk::<HEADERS>()) else {
                continue;
            };
            let Some(ethernet) = bytes.get(l3 - 8..).and_then(|end| end.first_chunk::<8>()) else {
                continue;
            };
            if frame.tcp_checksum() == ChecksumVerdict::Bad {
                continue;
            }
            self.len[lane] = (bytes.len() - l3) as u64;
            self.mac[lane] = word(bytes, 0);
            self.kind[lane] = u64::from_le_bytes(*ethernet);
            self.ip[lane] = word(headers, 0);
            self.source[lane] = word(headers, 8);
            self.destination[lane] = word(headers, 16);
            // Sequence and acknowledgment numbers stay as they are.
            self.tcp[lane] = word(headers, 32);
            match bytes.get(l3..).and_then(|ip| ip.first_chunk::<WITH_STAMPS>()) {
                Some(headers) => {
                    self.stamp[lane] = word(headers, 40);
                    self.echo[lane] = u64::from(half_word(headers, 48));
                }
                None => (self.stamp[lane], self.echo[lane]) = (0, 0),
            }
        }
    }

    /// Writes the headers of the segment in `lane`, each of which leaves with timestamps.
    #[inline(always)]
    pub fn scatter(&self, lane: usize, numbers: u64, headers: &mut [u8]) {
        let lane = lane % BURST;
        if let Some(all) = headers.first_chunk_mut::<HEADERS>() {
            put_word(all, 0, self.ip[lane]);
            put_word(all, 8, self.source[lane]);
            put_word(all, 16, self.destination[lane]);
            put_word(all, 24, numbers);
            put_word(all, 32, self.tcp[lane]);
        }
        if let Some(all) = headers.first_chunk_mut::<WITH_STAMPS>() {
            put_word(all, 40, self.stamp[lane]);
            put_half_word(all, 48, self.echo[lane] as u32);
        }
    }
}

/// Headers of IPv4 and TCP without options.
pub(super) const HEADERS: usize = 40;
/// With two NOPs and timestamps.
const WITH_STAMPS: usize = HEADERS + 12;
/// The low 48 bits.
pub(super) const LOW48: u64 = (1 << 48) - 1;

/// The word at `at`.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn half_word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

#[inline(always)]
fn put_word(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

#[inline(always)]
fn put_half_word(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}
