//! The frames of datagrams that are not whole yet: librte_ip_frag's table behind the core's words.

use anyrelay_core::fragment::FragmentLimits;
use anyrelay_core::fragment::{Fragment, PER_DATAGRAM_MAX};
use anyrelay_core::time::Instant;
use dpdk::{FragmentHeaders, IpFragTable, IpFragTableConfig, IpFragTableError, Mbuf, Reassembly};

use super::{FramePool, PopFrame};

/// What became of a fragment.
#[derive(Debug)]
pub enum Kept {
    /// It waits for others.
    Waits,
    /// Its datagram is whole, and in one frame.
    Whole(PopFrame),
    /// Its datagram is whole, but no frame holds it; it is gone.
    TooLong,
    /// It is gone, with all of its datagram: the table had no place.
    Refused,
}

/// A worker's table of frames.
#[derive(Debug)]
pub struct FragmentTable(IpFragTable);

impl FragmentTable {
    /// An empty table.
    ///
    /// # Errors
    /// When DPDK's memory is short.
    pub fn new(pool: &FramePool, limits: &FragmentLimits) -> Result<Self, IpFragTableError> {
        Ok(FragmentTable(IpFragTable::new(&pool.eal.0, &config(limits))?))
    }

    /// Bytes of DPDK's memory that a table with these limits takes.
    pub fn memory(limits: &FragmentLimits) -> usize {
        config(limits).memory()
    }

    /// Keeps the fragment in `frame`, which the ledger has admitted.
    pub fn keep(&mut self, frame: PopFrame, fragment: &Fragment, now: Instant) -> Kept {
        // What does not fit a byte was not read from a header; the table refuses it.
        let l2_len = u8::try_from(fragment.l3).unwrap_or(u8::MAX);
        let headers = if fragment.key.dst.is_ipv4() {
            let l3_len = u8::try_from(fragment.headers_len).unwrap_or(0);
            FragmentHeaders::V4 { l2_len, l3_len }
        } else {
            FragmentHeaders::V6 { l2_len }
        };
        match self.0.offer(Mbuf::from(frame), headers, now.as_nanos()) {
            Reassembly::Pending => Kept::Waits,
            Reassembly::Refused => Kept::Refused,
            Reassembly::Complete(mut mbuf) => {
                if mbuf.make_contiguous() {
                    Kept::Whole(PopFrame::from(mbuf))
                } else {
                    Kept::TooLong
                }
            }
        }
    }

    /// Frees frames of datagrams whose time is up, a bounded number.
    pub fn expire(&mut self, now: Instant) {
        self.0.expire(now.as_nanos());
    }

    /// Frames in it.
    #[inline]
    pub fn held(&self) -> usize {
        self.0.held()
    }
}

fn config(limits: &FragmentLimits) -> IpFragTableConfig {
    IpFragTableConfig {
        datagrams: limits.datagrams,
        bucket: BUCKET,
        timeout: u64::from(limits.timeout_ms) * 1_000_000,
    }
}

/// Places in a bucket of the table. It has twice as many places as datagrams, and each may be in one of
/// two buckets, so that hardly one is full before the ledger is.
const BUCKET: u32 = 16;

const _: () = assert!(PER_DATAGRAM_MAX <= dpdk::FRAGMENTS_MAX);
