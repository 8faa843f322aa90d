//! The frames of incomplete datagrams, in a table of librte_ip_frag.

use anyrelay_core::fragment::{Fragment, FragmentLimits, PER_DATAGRAM_MAX};
use anyrelay_core::time::Instant;
use dpdk::{FragmentHeaders, IpFragTable, IpFragTableConfig, IpFragTableError, Mbuf, Reassembly};

use super::{FramePool, PopFrame};

/// The outcome for a fragment.
#[derive(Debug)]
pub enum Kept {
    /// The datagram is incomplete.
    Waits,
    /// The datagram is complete, in one frame.
    Whole(PopFrame),
    /// The datagram is complete, but was freed because it is too long for one frame.
    TooLong,
    /// The table had no room; all fragments of the datagram were freed.
    Refused,
}

/// The frames of one worker's incomplete datagrams.
#[derive(Debug)]
pub struct FragmentTable(IpFragTable);

impl FragmentTable {
    /// An empty table.
    ///
    /// # Errors
    /// When DPDK has too little memory.
    pub fn new(pool: &FramePool, limits: &FragmentLimits) -> Result<Self, IpFragTableError> {
        Ok(FragmentTable(IpFragTable::new(&pool.eal.0, &config(limits))?))
    }

    /// Bytes of DPDK's memory that a table with these limits takes.
    pub fn memory(limits: &FragmentLimits) -> usize {
        config(limits).memory()
    }

    /// Keeps the fragment in `frame`, which the core's reassembly table has admitted.
    pub fn keep(&mut self, frame: PopFrame, fragment: &Fragment, now: Instant) -> Kept {
        // A length beyond a byte is no length of a header; the table refuses it.
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

    /// Frees the frames of expired datagrams, a bounded number.
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

/// Entries of a bucket. The table has twice as many entries as datagrams, and each datagram may be
/// in one of two buckets, so that a bucket is rarely full before the core's table is.
const BUCKET: u32 = 16;

const _: () = assert!(PER_DATAGRAM_MAX <= dpdk::FRAGMENTS_MAX);
