//! The headers of a burst in columns: a word of every frame side by side.
//!
//! Words are read and written as the CPU does it, little-endian. One's complement sums do not mind
//! the order of bytes (RFC 1071, section 2), so that only addresses, ports and lengths are turned
//! around, where they are computed with.

use cpu_vector::{BLOCKS, Bytes};

use crate::frame::{ChecksumVerdict, Frame};
use crate::link::RouteKey;
use crate::net::Endpoint;
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
    /// The eight bytes before the IPv4 header: of its source, and what tells its [`Kind`].
    pub kind: Words,
    /// Version, TOS, total length, ID, flags and fragment offset.
    pub ip: Words,
    /// TTL, protocol, checksum, source.
    pub source: Words,
    /// Destination, and both ports.
    pub destination: Words,
    /// The source endpoint, as [`endpoint`] reads it.
    pub from: Words,
    /// The destination endpoint.
    pub to: Words,
    /// A byte of each of these, by which those that differ are nearly always told apart.
    pub from_mark: Bytes,
    pub to_mark: Bytes,
    /// Sequence and acknowledgment number, which stay as they are.
    pub tcp_numbers: Words,
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
    /// The client's address, of targets' segments.
    pub client: Words,
    /// The egress endpoint, as 48 bits.
    pub egress: Words,
    /// What the next hop depends on.
    pub route: [RouteKey; BURST],
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
    source: u64,
}

impl Kind {
    /// Frames with IPv4 to the port with this hardware address and VLAN.
    pub fn new(mac: crate::wire::MacAddr, vlan: Option<u16>) -> Self {
        let mac = mac.to_u64().swap_bytes() >> 16;
        // Untagged: the source, the type. Tagged: two bytes of the source, the tag, the type.
        match vlan {
            None => {
                let kind = u64::from(ethernet::TYPE_IPV4.swap_bytes()) << 48;
                Kind { l3: ethernet::HEADER_LEN, mac, kind, mask: 0xffff << 48, source: LOW48 }
            }
            Some(id) => {
                let [tpid, id, inner] = [ethernet::TYPE_VLAN, id, ethernet::TYPE_IPV4]
                    .map(|word| u64::from(word.swap_bytes()));
                let kind = tpid << 16 | id << 32 | inner << 48;
                // Priority and drop eligibility do not count.
                let mask = 0xffff << 16 | 0xff0f << 32 | 0xffff << 48;
                Kind { l3: ethernet::TAGGED_HEADER_LEN, mac, kind, mask, source: 0xffff }
            }
        }
    }

    /// Bits that are set where a frame is not of this kind.
    #[inline(always)]
    pub fn differs(&self, mac: u64, kind: u64) -> u64 {
        (mac ^ self.mac) & LOW48 | (kind ^ self.kind) & self.mask
    }

    /// 0 where a frame comes from the hardware address 0, as far as it is read: what is 0 there is
    /// looked at again.
    #[inline(always)]
    pub fn source(&self, mac: u64, kind: u64) -> u64 {
        mac >> 48 | kind & self.source
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
        from: [0; BURST],
        to: [0; BURST],
        from_mark: Bytes([0; BURST]),
        to_mark: Bytes([0; BURST]),
        tcp_numbers: [0; BURST],
        tcp: [0; BURST],
        stamp: [0; BURST],
        echo: [0; BURST],
        numbers: Numbers([0; BURST]),
        near: [0; BURST],
        far: [0; BURST],
        new_len: [0; BURST],
        client: [0; BURST],
        egress: [0; BURST],
        route: [RouteKey::NONE; BURST],
    };

    /// Reads the headers of `frames`, whose IPv4 headers begin at `L3`.
    #[inline(always)]
    pub fn gather<const L3: usize, F: Frame>(&mut self, frames: &[F]) {
        for (lane, frame) in frames.iter().enumerate().take(BURST) {
            let bytes = frame.bytes();
            let Some((ethernet, datagram)) = bytes.split_first_chunk::<L3>() else {
                self.len[lane] = 0;
                continue;
            };
            let Some(headers) = datagram.first_chunk::<HEADERS>() else {
                self.len[lane] = 0;
                continue;
            };
            let is_damaged = frame.tcp_checksum() == ChecksumVerdict::Bad;
            self.len[lane] = if is_damaged { 0 } else { datagram.len() as u64 };
            self.mac[lane] = word(ethernet, 0);
            self.kind[lane] = word(ethernet, L3 - 8);
            self.ip[lane] = word(headers, 0);
            self.source[lane] = word(headers, 8);
            self.destination[lane] = word(headers, 16);
            self.tcp_numbers[lane] = word(headers, 24);
            self.tcp[lane] = word(headers, 32);
            // What ends before it has no timestamps, whatever is read for them.
            let at = if datagram.len() < WITH_STAMPS { 0 } else { HEADERS };
            self.stamp[lane] = word(datagram, at);
            self.echo[lane] = u64::from(half_word(datagram, at + 8));
        }
    }

    /// Writes the headers of the segment in `lane`, which leaves with timestamps.
    #[inline(always)]
    pub fn scatter(&self, lane: usize, headers: &mut [u8; WITH_STAMPS]) {
        let lane = lane % BURST;
        put_word(headers, 0, self.ip[lane]);
        put_word(headers, 8, self.source[lane]);
        put_word(headers, 16, self.destination[lane]);
        put_word(headers, 24, self.tcp_numbers[lane]);
        put_word(headers, 32, self.tcp[lane]);
        put_word(headers, 40, self.stamp[lane]);
        put_half_word(headers, 48, self.echo[lane] as u32);
    }
}

/// The six bytes of an endpoint of [`Columns::from`] or [`Columns::to`], XORed.
#[inline(always)]
pub(super) const fn mark(raw: u64) -> u8 {
    let folded = raw ^ raw >> 24;
    (folded ^ folded >> 8 ^ folded >> 16) as u8
}

/// An endpoint of [`Columns::from`] or [`Columns::to`]: four bytes of address and two of port, as
/// they are on the wire.
#[inline(always)]
pub(super) const fn endpoint(raw: u64) -> Endpoint {
    Endpoint { ip: (raw as u32).swap_bytes(), port: ((raw >> 32) as u16).swap_bytes() }
}

/// The same as 48 bits.
#[inline(always)]
pub(super) const fn number_of(raw: u64) -> u64 {
    raw.swap_bytes() >> 16
}

/// Back from 48 bits.
#[inline(always)]
pub(super) const fn wire_of(number: u64) -> u64 {
    (number << 16).swap_bytes()
}

/// Headers of IPv4 and TCP without options.
pub(super) const HEADERS: usize = 40;
/// With two NOPs and timestamps.
pub(super) const WITH_STAMPS: usize = HEADERS + INSERTED as usize;
/// Bytes of the timestamps that a segment without options gets.
pub(super) const INSERTED: u64 = 12;
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
