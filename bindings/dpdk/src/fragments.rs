//! Reassembly of IP fragments.
//!
//! The table is bounded in datagrams and fragments, and allocated at start. A frame passed to it is
//! in the table, or is returned as a part of a complete datagram, or is freed: none is lost or
//! freed twice. The library appends the frames that it gives up to a "death row" without checking
//! for room, so the row is emptied after every call here, and never leaves this module.
//!
//! The library leaves to its caller: it distinguishes datagrams by addresses and ID only, not by
//! protocol; it counts a datagram's bytes without checking for overlaps, and drops all fragments of
//! a datagram whose count does not match, so that later fragments start anew; it counts a duplicate
//! twice; it accepts totals beyond 65535; and it leaves IPv4's header checksum 0. A datagram that
//! it returns consists of fragments that follow each other without gap or overlap.
//!
//! Source: DPDK 22.11 `rte_ip_frag.h`, and the programmer's guide, "IP Fragmentation and Reassembly
//! Library".

use std::fmt;
use std::ptr::NonNull;

use dpdk_sys::{rte_ip_frag_death_row, rte_ip_frag_tbl, rte_mbuf};

use crate::eal::Eal;
use crate::errno::Errno;
use crate::mbuf::Mbuf;

/// The number of fragments of one datagram that a table can hold.
pub const FRAGMENTS_MAX: usize = dpdk_sys::DPDK_FRAGMENTS_MAX as usize;

/// A table of incomplete datagrams; for one thread at a time.
pub struct IpFragTable {
    table: NonNull<rte_ip_frag_tbl>,
    /// Empty between two calls.
    row: Box<rte_ip_frag_death_row>,
    held: usize,
    eal: Eal,
}

// SAFETY: neither the table nor its mbufs are bound to a thread; `&mut self` serialises the calls.
unsafe impl Send for IpFragTable {}

/// The size of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpFragTableConfig {
    /// The maximum number of datagrams.
    pub datagrams: u32,
    /// Entries in a bucket, a power of two. A datagram's addresses and ID select two buckets, and
    /// the datagram can be in either.
    pub bucket: u32,
    /// Lifetime of an incomplete datagram, in the unit of the caller's clock.
    pub timeout: u64,
}

impl IpFragTableConfig {
    /// Bytes of DPDK's memory that such a table takes, within a few hundred: two sets of buckets,
    /// whose number is a power of two, with entries of 256 bytes.
    pub fn memory(&self) -> usize {
        let buckets = self.datagrams.div_ceil(self.bucket).next_power_of_two();
        2 * buckets as usize * self.bucket as usize * PLACE_LEN
    }
}

/// Why a table was not created.
#[derive(Debug, thiserror::Error)]
pub enum IpFragTableError {
    /// Values out of range.
    #[error(
        "fragment table: {datagrams} datagrams in buckets of {bucket}: both must be above 0, at \
         most 1048576, \
         and a bucket a power of two"
    )]
    Config {
        /// Datagrams requested.
        datagrams: u32,
        /// Entries in a bucket requested.
        bucket: u32,
    },
    /// `rte_ip_frag_table_create` failed.
    #[error(
        "fragment table of {datagrams} datagrams: {errno}; give DPDK more memory (-m, or hugepages)"
    )]
    Create {
        /// Datagrams requested.
        datagrams: u32,
        /// DPDK's reason.
        errno: Errno,
    },
}

/// Where a fragment's headers are: the IP header begins after `l2_len` bytes of the frame, and the
/// payload `l3_len` bytes after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentHeaders {
    /// An IPv4 fragment.
    V4 {
        /// Bytes of the link layer's header.
        l2_len: u8,
        /// Bytes of the IPv4 header, options included.
        l3_len: u8,
    },
    /// An IPv6 fragment, whose fragment header follows the fixed header.
    V6 {
        /// Bytes of the link layer's header.
        l2_len: u8,
    },
}

/// The outcome of offering a fragment.
#[derive(Debug)]
pub enum Reassembly {
    /// The datagram is incomplete; the table keeps the fragment.
    Pending,
    /// The datagram is complete: here it is, in several segments. IPv4's length and fragment word
    /// and IPv6's length and next header are those of the datagram, IPv6's fragment header is
    /// removed, and IPv4's checksum is 0.
    Complete(Mbuf),
    /// The fragment was freed, and with it all fragments of its datagram: the table had no room,
    /// the headers do not fit the frame, or the datagram's fragments contradict each other.
    Refused,
}

impl IpFragTable {
    /// An empty table.
    ///
    /// # Errors
    /// When a value is out of range, or memory is short.
    pub fn new(eal: &Eal, config: &IpFragTableConfig) -> Result<IpFragTable, IpFragTableError> {
        let IpFragTableConfig { datagrams, bucket, timeout } = *config;
        let is_size = |size: u32| (1..=SIZE_MAX).contains(&size);
        if !is_size(datagrams) || !is_size(bucket) || !bucket.is_power_of_two() {
            return Err(IpFragTableError::Config { datagrams, bucket });
        }
        let _control = eal.control();
        // SAFETY: EAL runs; the socket is that of the calling thread, or any.
        let table = unsafe {
            let socket = dpdk_sys::rte_socket_id().cast_signed();
            let buckets = datagrams.div_ceil(bucket);
            dpdk_sys::rte_ip_frag_table_create(buckets, bucket, datagrams, timeout, socket)
        };
        let table = NonNull::new(table)
            .ok_or_else(|| IpFragTableError::Create { datagrams, errno: Errno::last() })?;
        // SAFETY: a count, and pointers that are not read beyond it; all-zero is valid.
        let row = unsafe { Box::new(std::mem::zeroed()) };
        Ok(IpFragTable { table, row, held: 0, eal: eal.clone() })
    }

    /// Takes a fragment, at the time `now` of the caller's clock.
    pub fn offer(&mut self, mbuf: Mbuf, headers: FragmentHeaders, now: u64) -> Reassembly {
        let Some((l2_len, l3_len)) = headers.lengths_in(&mbuf) else { return Reassembly::Refused };
        let raw = mbuf.into_raw();
        let table = self.table.as_ptr();
        // SAFETY: the table is owned and alive; the row is empty, and one call adds at most three
        // times the fragments of a datagram and this one; the mbuf is owned and contiguous, and
        // `lengths_in` checked that it has its headers and ends with its datagram. From here on the
        // table or the row owns it, or it is part of the returned datagram.
        let whole = unsafe {
            let reassemble = match headers {
                FragmentHeaders::V4 { .. } => dpdk_sys::dpdk_shim_reassemble_ipv4,
                FragmentHeaders::V6 { .. } => dpdk_sys::dpdk_shim_reassemble_ipv6,
            };
            reassemble(table, &mut *self.row, raw.as_ptr(), l2_len, l3_len, now)
        };
        self.held += 1;
        let is_given_up = self.segments_on_row().any(|segment| segment == raw.as_ptr());
        self.free_row();
        match NonNull::new(whole) {
            Some(whole) => {
                // SAFETY: the library gave up the chain, whose segments were all owned here.
                let whole = unsafe { Mbuf::from_raw(whole) };
                self.held = self.held.saturating_sub(whole.segments());
                Reassembly::Complete(whole)
            }
            None if is_given_up => Reassembly::Refused,
            None => Reassembly::Pending,
        }
    }

    /// Frees expired datagrams, as many as one death row holds: 32 of the largest. Returns the
    /// number of their fragments.
    pub fn expire(&mut self, now: u64) -> usize {
        if self.held == 0 {
            return 0;
        }
        let table = self.table.as_ptr();
        // SAFETY: the table is owned and alive, and the row is empty.
        unsafe { dpdk_sys::rte_ip_frag_table_del_expired_entries(table, &mut *self.row, now) };
        self.free_row()
    }

    /// The number of fragments in the table.
    #[inline]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The fragments on the row. Some may be chained: the library reassembles until it finds a gap.
    fn segments_on_row(&self) -> impl Iterator<Item = *mut rte_mbuf> {
        let next = |segment: &*mut rte_mbuf| {
            // SAFETY: a segment of a frame on the row, which nothing frees or changes meanwhile.
            let next = unsafe { (**segment).next };
            (!next.is_null()).then_some(next)
        };
        let frames = self.row.row.iter().take(self.row.cnt as usize);
        frames.flat_map(move |&frame| std::iter::successors(Some(frame), next).take(FRAGMENTS_MAX))
    }

    /// Frees the fragments that the last call gave up. Returns their number.
    fn free_row(&mut self) -> usize {
        let count = self.segments_on_row().count();
        if count > 0 {
            // SAFETY: the row's mbufs are no longer in the table, nor anywhere else.
            unsafe { dpdk_sys::rte_ip_frag_free_death_row(&mut *self.row, PREFETCH) };
            self.held = self.held.saturating_sub(count);
        }
        count
    }
}

impl FragmentHeaders {
    /// The lengths of both headers, if the frame is contiguous, has the headers, and ends with its
    /// datagram.
    fn lengths_in(self, mbuf: &Mbuf) -> Option<(u8, u16)> {
        let (l2_len, header_len) = match self {
            FragmentHeaders::V4 { l2_len, l3_len } => (l2_len, u16::from(l3_len)),
            FragmentHeaders::V6 { l2_len } => (l2_len, IPV6_HEADERS_LEN),
        };
        let datagram = mbuf.data().get(usize::from(l2_len)..)?;
        let header = datagram.get(..usize::from(header_len))?;
        let holds = match self {
            FragmentHeaders::V4 { .. } => {
                let &[_, _, high, low, ..] = header else { return None };
                let total_len = usize::from(u16::from_be_bytes([high, low]));
                header.len() >= IPV4_HEADER_LEN_MIN && total_len == datagram.len()
            }
            FragmentHeaders::V6 { .. } => {
                let &[_, _, _, _, high, low, next, ..] = header else { return None };
                let payload_len = usize::from(u16::from_be_bytes([high, low]));
                next == IPV6_FRAGMENT && payload_len + IPV6_HEADER_LEN == datagram.len()
            }
        };
        (holds && mbuf.is_contiguous() && l2_len <= L2_LEN_MAX).then_some((l2_len, header_len))
    }
}

impl fmt::Debug for IpFragTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpFragTable").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for IpFragTable {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: the table is owned, alive, and gone after this call. It frees its frames, whose
        // pools outlive them.
        unsafe { dpdk_sys::rte_ip_frag_table_destroy(self.table.as_ptr()) };
    }
}

const IPV4_HEADER_LEN_MIN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
/// Bytes of the fixed header and the fragment header.
const IPV6_HEADERS_LEN: u16 = 48;
/// The protocol number of the fragment header.
const IPV6_FRAGMENT: u8 = 44;
/// The largest value of the mbuf's field of 7 bits.
const L2_LEN_MAX: u8 = 127;
/// Bytes of an entry: `struct ip_frag_pkt`, which DPDK does not export, is four cache lines long.
const PLACE_LEN: usize = 256;
const SIZE_MAX: u32 = 1 << 20;
/// The number of frames to prefetch while freeing.
const PREFETCH: u32 = 3;

// One call may give up an expired datagram in the fragment's entry, another because the table is
// full, the fragment's own datagram, and the fragment; a row has room for all of them.
const _: () =
    assert!(3 * FRAGMENTS_MAX < dpdk_sys::RTE_IP_FRAG_DEATH_ROW_LEN as usize * (FRAGMENTS_MAX + 1));
