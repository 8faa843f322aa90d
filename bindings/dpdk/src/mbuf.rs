//! One frame in DPDK's memory.
//!
//! The accessors read the mbuf's fields in Rust; freeing is the only call into C per frame.
//!
//! Source: DPDK 22.11 `rte_mbuf.h`, `rte_mbuf_core.h`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;

/// Free bytes before a frame's data when it comes from a port or a pool.
pub const HEADROOM: u16 = dpdk_sys::DPDK_MBUF_HEADROOM;

/// A frame with one owner; dropping it returns it to its pool.
///
/// The methods that read and change it act on its first segment, which is the whole frame wherever
/// [`Mbuf::is_contiguous`] holds. [`crate::Port::open`] sets ports up so that it does.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf is bound to no thread; the handle owns it, and pools accept mbufs from any
// thread.
unsafe impl Send for Mbuf {}

/// The receiving port's result for a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// The port does not check, could not tell, or found no checksum.
    Unknown,
    /// The checksum is right.
    Good,
    /// The checksum is wrong.
    Bad,
}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// `raw` is a valid mbuf with a reference count of 1 that has no other owner, and its lengths
    /// and offsets lie within its buffer.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// The frame.
    #[inline]
    pub fn data(&self) -> &[u8] {
        // SAFETY: by the contract of `from_raw`, which every method here keeps, data_off and
        // data_len lie within the buffer, which `self` owns. DPDK's memory is mapped and zeroed or
        // written before, so every byte is initialised.
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

    /// The number of segments.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.fields().nb_segs)
    }

    /// Whether the frame has one segment.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.fields().nb_segs == 1
    }

    /// Free bytes before the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.fields().data_off)
    }

    /// Free bytes after the data.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let fields = self.fields();
        usize::from(fields.buf_len)
            .saturating_sub(usize::from(fields.data_off) + usize::from(fields.data_len))
    }

    /// Extends the frame by `count` bytes at its front, contents undefined. Returns false, and
    /// changes nothing, when there is no room.
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

    /// Moves the start of the data so that what was at `from` is at `to`, and gives it `len` bytes
    /// then, no more than it has. Bytes that come in at the front are undefined. `None`, without
    /// effect, when the headroom is too small.
    #[inline]
    pub fn reshape(&mut self, to: usize, from: usize, len: usize) -> Option<&mut [u8]> {
        let start = (self.headroom() + from).checked_sub(to)?;
        let has = (self.len() + to).saturating_sub(from);
        let len = len.min(has).min(usize::from(u16::MAX));
        if from > self.len() || !self.is_contiguous() {
            return None;
        }
        let fields = self.fields_mut();
        // At most the end of the data before, which is within a buffer that 16 bits measure.
        fields.data_off = start as u16;
        fields.data_len = len as u16;
        fields.pkt_len = len as u32;
        Some(self.data_mut())
    }

    /// Extends the frame by `count` bytes at its end, contents undefined. Returns false, and
    /// changes nothing, when there is no room, or the frame has several segments.
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

    /// Removes `count` bytes at the front (`rte_pktmbuf_adj`), at most all of the first segment.
    #[inline]
    pub fn trim_front(&mut self, count: usize) {
        let count = count.min(self.len());
        let fields = self.fields_mut();
        fields.data_off += count as u16; // at most data_len, a u16
        fields.data_len -= count as u16;
        fields.pkt_len -= count as u32;
    }

    /// Keeps the first `len` bytes (`rte_pktmbuf_trim`). Does nothing when the frame is shorter, or
    /// has several segments.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() || !self.is_contiguous() {
            return;
        }
        let fields = self.fields_mut();
        fields.data_len = len as u16; // less than data_len, a u16
        fields.pkt_len = len as u32;
    }

    /// Moves the whole frame into its first segment. Returns false, and changes nothing, when that
    /// has no room for it.
    #[must_use]
    pub fn make_contiguous(&mut self) -> bool {
        // SAFETY: `from_raw`: a valid mbuf, owned here with all of its segments.
        unsafe { dpdk_sys::dpdk_shim_mbuf_linearize(self.0.as_ptr()) == 0 }
    }

    /// Gives up the handle: the caller becomes the owner of the mbuf.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// The receiving port's result for the TCP or UDP checksum.
    #[inline]
    pub fn l4_checksum(&self) -> ChecksumVerdict {
        match self.fields().ol_flags & dpdk_sys::DPDK_RX_L4_CKSUM_MASK {
            dpdk_sys::DPDK_RX_L4_CKSUM_GOOD => ChecksumVerdict::Good,
            dpdk_sys::DPDK_RX_L4_CKSUM_BAD => ChecksumVerdict::Bad,
            // No flag means "unknown"; both flags mean "no checksum in the packet, data intact".
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
        // SAFETY: `from_raw`: a valid mbuf that `self` owns.
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
        // SAFETY: `from_raw`: owned here, and `self` is gone after this.
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
