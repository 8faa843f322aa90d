//! What the core asks of a frame buffer, and a heap-backed one for tests and offline use.

/// What the receiving port said of a frame's TCP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// The port does not check, or could not tell.
    #[default]
    Unknown,
    /// The port found the checksum right.
    Good,
    /// The port found the checksum wrong.
    Bad,
}

/// A contiguous Ethernet frame with room in front of it and behind it.
///
/// Growing can fail for want of room; nothing here allocates.
pub trait Frame {
    /// The frame, from the first byte of the Ethernet header.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `count` bytes at its front, contents undefined. False, and nothing done,
    /// when there is no room.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Grows the frame by `count` bytes at its end, contents undefined. False, and nothing done,
    /// when there is no room.
    #[must_use]
    fn append(&mut self, count: usize) -> bool;

    /// Removes `count` bytes at the front; all of them when there are fewer.
    fn trim_front(&mut self, count: usize);

    /// Keeps only the first `len` bytes; nothing happens when there are fewer.
    fn truncate(&mut self, len: usize);

    /// The receiving port's verdict on the TCP checksum.
    fn tcp_checksum(&self) -> ChecksumVerdict {
        ChecksumVerdict::Unknown
    }
}

/// Writes `header` so that it ends where `at` is, over what is there, and grows the frame at its front
/// where it must. Gives back where the header begins then; `None`, and nothing done, when there is
/// no room for it.
#[inline]
pub fn put_before<F: Frame>(frame: &mut F, at: usize, header: &[u8]) -> Option<usize> {
    let grown = header.len().saturating_sub(at);
    if at > frame.bytes().len() || grown > 0 && !frame.prepend(grown) {
        return None;
    }
    let start = at + grown - header.len();
    frame.bytes_mut().get_mut(start..start + header.len())?.copy_from_slice(header);
    Some(start)
}

/// The header of `N` bytes that begins at `at`; `None` when the frame ends before it does.
#[inline]
pub fn header_at<F: Frame, const N: usize>(frame: &F, at: usize) -> Option<&[u8; N]> {
    frame.bytes().get(at..)?.first_chunk()
}

/// Bytes that a [`HeapFrame`] keeps free in front of its contents, as DPDK's mbufs do.
pub const HEAP_HEADROOM: usize = 128;

/// Bytes that a [`HeapFrame`] holds at most, room in front included.
pub const HEAP_CAPACITY: usize = HEAP_HEADROOM + 16 * 1024;

/// A frame on the heap: the test double, and what `replay` uses.
#[derive(Clone, Debug, Default)]
pub struct HeapFrame {
    buffer: Vec<u8>,
    start: usize,
    /// The verdict to report.
    pub checksum: ChecksumVerdict,
}

impl HeapFrame {
    /// A frame with the contents `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(HEAP_HEADROOM + bytes.len() + 64);
        buffer.resize(HEAP_HEADROOM, 0);
        buffer.extend_from_slice(bytes);
        HeapFrame { buffer, start: HEAP_HEADROOM, checksum: ChecksumVerdict::Unknown }
    }
}

impl Frame for HeapFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn prepend(&mut self, count: usize) -> bool {
        let Some(start) = self.start.checked_sub(count) else { return false };
        self.start = start;
        true
    }

    fn append(&mut self, count: usize) -> bool {
        let len = self.buffer.len() + count;
        if len > HEAP_CAPACITY {
            return false;
        }
        self.buffer.resize(len, 0);
        true
    }

    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
    }

    fn truncate(&mut self, len: usize) {
        let end = self.start + len;
        self.buffer.truncate(end);
    }

    fn tcp_checksum(&self) -> ChecksumVerdict {
        self.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_goes_before_what_it_belongs_to() {
        let mut frame = HeapFrame::new(b"abcdef");
        assert_eq!(put_before(&mut frame, 3, b"XY"), Some(1));
        assert_eq!(frame.bytes(), b"aXYdef");
        assert_eq!(put_before(&mut frame, 3, b"12345"), Some(0));
        assert_eq!(frame.bytes(), b"12345def");
        assert_eq!(put_before(&mut frame, 9, b"12"), None);
        assert_eq!(put_before(&mut frame, 8, &[7; HEAP_HEADROOM + 8]), None);
        assert_eq!(frame.bytes(), b"12345def");
    }
}
