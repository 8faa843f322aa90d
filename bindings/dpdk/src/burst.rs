//! A fixed array of owned frames, filled by RX and drained by TX.

use std::fmt;
use std::mem::MaybeUninit;
use std::slice;

use crate::mbuf::Mbuf;

/// The capacity of a [`Burst`], in frames.
pub const BURST_CAPACITY: usize = 64;

/// Up to [`BURST_CAPACITY`] frames, in order, without allocation. Dropping it frees the frames left
/// in it with one call.
pub struct Burst {
    /// The first `len` are initialised, the rest are not.
    mbufs: [MaybeUninit<Mbuf>; BURST_CAPACITY],
    len: usize,
}

impl Burst {
    /// An empty burst.
    pub const fn new() -> Burst {
        Burst { mbufs: [const { MaybeUninit::uninit() }; BURST_CAPACITY], len: 0 }
    }

    /// The number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no frames.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it has [`BURST_CAPACITY`] frames.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == BURST_CAPACITY
    }

    /// The frames.
    #[inline]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: the first `len` are initialised, and `MaybeUninit<Mbuf>` has `Mbuf`'s layout.
        unsafe { slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }

    /// The frames, writable. They may be swapped.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: as in `as_slice`; `&mut self` makes the borrow exclusive.
        unsafe { slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }

    /// Adds a frame at the end.
    ///
    /// # Errors
    /// Returns the frame when the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.mbufs.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Removes the last frame and returns it.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot was within `len` until the line above, and is never read again before
        // it is written.
        self.mbufs.get(self.len).map(|slot| unsafe { slot.assume_init_read() })
    }

    /// Removes all frames, first to last. Dropping the iterator frees the frames that it did not
    /// yield.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let end = self.len;
        // A leaked iterator leaks its frames, but none is freed twice.
        self.len = 0;
        Drain { burst: self, next: 0, end }
    }

    /// Moves as many frames as fit from the front of `other` to the end of this burst. Returns
    /// their number.
    pub fn append(&mut self, other: &mut Burst) -> usize {
        let count = other.len.min(BURST_CAPACITY - self.len);
        // SAFETY: `other` has `count` initialised frames, and this burst has `count` free slots
        // after `self.len`; two bursts do not overlap. `remove_front` removes the moved frames from
        // `other`.
        unsafe {
            let from = other.mbufs.as_ptr();
            from.copy_to_nonoverlapping(self.mbufs.as_mut_ptr().add(self.len), count);
            self.len += count;
            other.remove_front(count);
        }
        count
    }

    /// Frees all frames, with one call.
    #[inline]
    pub fn clear(&mut self) {
        drop(self.drain());
    }

    /// The unused slots.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        self.mbufs.get_mut(self.len..).unwrap_or_default()
    }

    /// Counts `count` more slots as frames.
    ///
    /// # Safety
    /// The first `count` slots of [`Burst::spare`] are initialised with frames that have no other
    /// owner.
    #[inline]
    pub(crate) unsafe fn grow(&mut self, count: usize) {
        self.len += count;
    }

    /// The frames as a C array, and their number.
    #[inline]
    pub(crate) fn as_raw(&mut self) -> (*mut *mut dpdk_sys::rte_mbuf, usize) {
        // `Mbuf` is a transparent pointer to an mbuf.
        (self.mbufs.as_mut_ptr().cast(), self.len)
    }

    /// Removes the first `count` frames without freeing them, and moves the others to the front.
    ///
    /// # Safety
    /// `count` is at most `len`, and another owner has taken over those frames.
    #[inline]
    pub(crate) unsafe fn remove_front(&mut self, count: usize) {
        let rest = self.len - count;
        if rest > 0 {
            // SAFETY: both ranges lie within the first `len` slots; `copy` allows overlap.
            unsafe {
                let base = self.mbufs.as_mut_ptr();
                base.add(count).copy_to(base, rest);
            }
        }
        self.len = rest;
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The frames of a [`Burst`], by value: see [`Burst::drain`].
pub struct Drain<'a> {
    burst: &'a mut Burst,
    /// Slots `next..end` are initialised, and owned by this iterator.
    next: usize,
    end: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.end {
            return None;
        }
        let slot = self.burst.mbufs.get(self.next)?;
        self.next += 1;
        // SAFETY: slots `next..end` are initialised; this one is no longer among them.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        let left = self.end - self.next;
        if left == 0 {
            return;
        }
        let (base, _) = self.burst.as_raw();
        // SAFETY: slots `next..end` hold frames that this iterator owns; nothing reads them again.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(base.add(self.next), left as u32) };
    }
}
