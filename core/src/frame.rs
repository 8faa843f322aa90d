//! The interface to frame buffers, and one on the heap for tests and offline use.

/// The receiving port's verdict on a frame's TCP checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumVerdict {
    /// The port did not check it.
    #[default]
    Unknown,
    /// The port found the checksum right.
    Good,
    /// The port found the checksum wrong.
    Bad,
}

/// A contiguous Ethernet frame with headroom and tailroom.
///
/// Growth fails without room, so that no buffer of the packet path has to allocate.
pub trait Frame {
    /// The frame, from the first byte of the Ethernet header.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `count` bytes of undefined content at its front. False, without effect,
    /// when the headroom is too small.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Grows the frame by `count` bytes of undefined content at its end. False, without effect,
    /// when the tailroom is too small.
    #[must_use]
    fn append(&mut self, count: usize) -> bool;

    /// Removes `count` bytes at the front, or all if the frame is shorter.
    fn trim_front(&mut self, count: usize);

    /// Shortens the frame to its first `len` bytes; no effect if it is shorter.
    fn truncate(&mut self, len: usize);

    /// Moves the start of the frame so that what was at `from` is at `to`, and gives it `len` bytes
    /// then, no more than it has. What is in front is undefined. `None`, without effect, when the
    /// headroom is too small.
    #[inline]
    fn reshape(&mut self, to: usize, from: usize, len: usize) -> Option<&mut [u8]> {
        if to > from && !self.prepend(to - from) {
            return None;
        }
        self.trim_front(from.saturating_sub(to));
        self.truncate(len);
        Some(self.bytes_mut())
    }

    /// The receiving port's verdict on the TCP checksum.
    fn tcp_checksum(&self) -> ChecksumVerdict {
        ChecksumVerdict::Unknown
    }
}

/// Writes `header` over the bytes that end at offset `at`, and grows the frame at its front if they
/// are too few. Returns the offset of the header; `None`, without effect, when the headroom is too
/// small.
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

/// Headroom of a new [`HeapFrame`] in bytes, that of DPDK's mbufs by default.
pub const HEAP_HEADROOM: usize = 128;

/// The most bytes that a [`HeapFrame`] holds, headroom included.
pub const HEAP_CAPACITY: usize = HEAP_HEADROOM + 16 * 1024;

/// A frame on the heap, for tests and `replay`.
#[derive(Clone, Debug, Default)]
pub struct HeapFrame {
    buffer: Vec<u8>,
    start: usize,
    /// The verdict that [`Frame::tcp_checksum`] returns.
    pub checksum: ChecksumVerdict,
}

impl HeapFrame {
    /// A frame that contains `bytes`.
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
    fn a_header_is_put_before_an_offset() {
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
