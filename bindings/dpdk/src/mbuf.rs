//! One frame in DPDK's memory.
//!
//! Everything small reads the mbuf's own fields in Rust: no call leaves it per frame but the one
//! that frees it.
//!
//! Source: DPDK 22.11 `rte_mbuf.h`, `rte_mbuf_core.h`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;

/// Bytes free in front of a frame when it comes from a port or a pool.
pub const HEADROOM: u16 = dpdk_sys::DPDK_MBUF_HEADROOM;

/// A frame with one owner; dropped, it goes back to its pool.
///
/// The methods that read and change it act on its first segment, which is the whole frame wherever
/// [`Mbuf::is_contiguous`] holds. [`crate::Port::open`] sets ports up so that it does.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to no thread; whoever holds the handle owns it, and pools take mbufs back
// from any thread.
unsafe impl Send for Mbuf {}

/// What the receiving port said of a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// The port does not check, could not tell, or found none.
    Unknown,
    /// The port found the checksum right.
    Good,
    /// The port found the checksum wrong.
    Bad,
}

impl Mbuf {
    /// Takes over an mbuf.
    ///
    /// # Safety
    /// `raw` is a valid mbuf with a reference count of 1 that nothing else uses or frees, its
    /// lengths and offsets lie within its buffer.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// The frame.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: `from_raw`'s contract, kept by every method here: data_off and data_len lie
        // within the buffer, which is ours while `self` lives. DPDK's memory is mapped and
        // zeroed or written before, so every byte is initialised.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// The frame, writable.
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) }
    }

    /// Bytes in the first segment.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.fields().data_len)
    }

    /// Whether the first segment has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in all segments.
    #[inline]
    pub fn frame_len(&self) -> usize {
        self.fields().pkt_len as usize
    }

    /// Pieces that the frame is in.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.fields().nb_segs)
    }

    /// Whether the frame is in one piece.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.fields().nb_segs == 1
    }

    /// Bytes free in front.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.fields().data_off)
    }

    /// Bytes free behind.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let fields = self.fields();
        usize::from(fields.buf_len)
            .saturating_sub(usize::from(fields.data_off) + usize::from(fields.data_len))
    }

    /// Grows the frame by `count` bytes at its front, contents undefined. False, and nothing done,
    /// when there is no room.
    #[inline]
    #[must_use]
    pub fn prepend(&mut self, count: usize) -> bool {
        if count > self.headroom() || self.len() + count > usize::from(u16::MAX) {
            return false;
        }
        let fields = self.fields_mut();
        fields.data_off -= count as u16; // at most the headroom, a u16
        fields.data_len += count as u16; // checked above
        fields.pkt_len += count as u32;
        true
    }

    /// Grows the frame by `count` bytes at its end, contents undefined. False, and nothing done,
    /// when there is no room, or the frame is not in one piece.
    #[inline]
    #[must_use]
    pub fn append(&mut self, count: usize) -> bool {
        if count > self.tailroom() || !self.is_contiguous() {
            return false;
        }
        let fields = self.fields_mut();
        fields.data_len += count as u16; // at most the tailroom, a u16
        fields.pkt_len += count as u32;
        true
    }

    /// Removes `count` bytes at the front (`rte_pktmbuf_adj`); all of the first segment's when
    /// there are fewer.
    #[inline]
    pub fn trim_front(&mut self, count: usize) {
        let count = count.min(self.len());
        let fields = self.fields_mut();
        fields.data_off += count as u16; // at most data_len, a u16
        fields.data_len -= count as u16;
        fields.pkt_len -= count as u32;
    }

    /// Keeps only the first `len` bytes (`rte_pktmbuf_trim`); nothing happens when there are fewer,
    /// or the frame is not in one piece.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() || !self.is_contiguous() {
            return;
        }
        let fields = self.fields_mut();
        fields.data_len = len as u16; // less than data_len, a u16
        fields.pkt_len = len as u32;
    }

    /// Moves all of the frame into its first segment. False, and nothing done, when that has no room
    /// for it.
    #[must_use]
    pub fn make_contiguous(&mut self) -> bool {
        // SAFETY: `from_raw`: a valid mbuf, ours alone with all of its segments.
        unsafe { dpdk_sys::dpdk_shim_mbuf_linearize(self.0.as_ptr()) == 0 }
    }

    /// Gives up the handle: whoever takes the mbuf owns it.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// The receiving port's verdict on the TCP or UDP checksum.
    #[inline]
    pub fn l4_checksum(&self) -> ChecksumVerdict {
        match self.fields().ol_flags & dpdk_sys::DPDK_RX_L4_CKSUM_MASK {
            dpdk_sys::DPDK_RX_L4_CKSUM_GOOD => ChecksumVerdict::Good,
            dpdk_sys::DPDK_RX_L4_CKSUM_BAD => ChecksumVerdict::Bad,
            // None of the flags is "unknown"; both are "no checksum in the packet, data intact".
            _ => ChecksumVerdict::Unknown,
        }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let fields = self.fields();
        // SAFETY: data_off lies within the buffer (`from_raw`).
        unsafe { fields.buf_addr.cast::<u8>().add(usize::from(fields.data_off)) }
    }

    #[inline]
    fn fields(&self) -> &rte_mbuf {
        // SAFETY: `from_raw`: a valid mbuf that is ours while `self` lives.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn fields_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as in `fields`; `&mut self` makes the borrow exclusive.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `from_raw`: ours alone, and `self` is gone after this.
        unsafe { dpdk_sys::dpdk_shim_mbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .field("segments", &self.fields().nb_segs)
            .finish()
    }
}
