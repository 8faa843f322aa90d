//! DPDK's mbuf as the core's frame.

use anyrelay_core::frame::{ChecksumVerdict, Frame};
use dpdk::Mbuf;

/// A contiguous frame in DPDK's memory. Dropping it returns it to its pool.
#[derive(Debug)]
#[repr(transparent)]
pub struct PopFrame(Mbuf);

impl From<Mbuf> for PopFrame {
    #[inline]
    fn from(mbuf: Mbuf) -> Self {
        PopFrame(mbuf)
    }
}

impl From<PopFrame> for Mbuf {
    #[inline]
    fn from(frame: PopFrame) -> Self {
        frame.0
    }
}

impl Frame for PopFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.data()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.data_mut()
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        self.0.prepend(count)
    }

    #[inline]
    fn append(&mut self, count: usize) -> bool {
        self.0.append(count)
    }

    #[inline]
    fn trim_front(&mut self, count: usize) {
        self.0.trim_front(count);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    #[inline]
    fn reshape(&mut self, to: usize, from: usize, len: usize) -> Option<&mut [u8]> {
        self.0.reshape(to, from, len)
    }

    #[inline]
    fn tcp_checksum(&self) -> ChecksumVerdict {
        match self.0.l4_checksum() {
            dpdk::ChecksumVerdict::Unknown => ChecksumVerdict::Unknown,
            dpdk::ChecksumVerdict::Good => ChecksumVerdict::Good,
            dpdk::ChecksumVerdict::Bad => ChecksumVerdict::Bad,
        }
    }
}
