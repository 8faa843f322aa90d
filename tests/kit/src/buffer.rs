//! Frame buffers that are reused, so that what is measured with them allocates nothing.

use anyrelay_core::frame::Frame;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::Output;

/// A frame buffer.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8; 2048]>,
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::new()
    }
}

impl Buffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Buffer { bytes: Box::new([0; 2048]), start: 0, end: 0 }
    }

    /// Replaces the frame by `bytes`.
    pub fn fill(&mut self, bytes: &[u8]) {
        (self.start, self.end) = (HEADROOM, HEADROOM + bytes.len());
        self.bytes[HEADROOM..self.end].copy_from_slice(bytes);
    }
}

impl Frame for Buffer {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
    #[inline(always)]
    fn prepend(&mut self, count: usize) -> bool {
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }
    #[inline(always)]
    fn append(&mut self, count: usize) -> bool {
        let fits = self.end + count <= self.bytes.len();
        self.end += if fits { count } else { 0 };
        fits
    }
    #[inline(always)]
    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// A buffer that comes back when its frame is dropped.
impl Frame for &mut Buffer {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        (**self).bytes()
    }
    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        (**self).bytes_mut()
    }
    #[inline(always)]
    fn prepend(&mut self, count: usize) -> bool {
        (**self).prepend(count)
    }
    #[inline(always)]
    fn append(&mut self, count: usize) -> bool {
        (**self).append(count)
    }
    #[inline(always)]
    fn trim_front(&mut self, count: usize) {
        (**self).trim_front(count);
    }
    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        (**self).truncate(len);
    }
}

/// Counts transmitted frames.
#[derive(Debug, Default)]
pub struct Sent(pub u64);

impl Output<&mut Buffer> for Sent {
    #[inline(always)]
    fn transmit(&mut self, _: PortIndex, _: &mut Buffer) {
        self.0 += 1;
    }
    #[inline(always)]
    fn allocate(&mut self) -> Option<&'static mut Buffer> {
        None
    }
}

/// Counts transmitted frames, and collects their buffers.
#[derive(Debug)]
pub struct Sink {
    /// The buffers.
    pub free: Vec<Buffer>,
    /// Transmitted frames of each port.
    pub sent: [u64; 2],
}

impl Output<Buffer> for Sink {
    #[inline(always)]
    fn transmit(&mut self, port: PortIndex, frame: Buffer) {
        self.sent[usize::from(port.0)] += 1;
        self.free.push(frame);
    }
    #[inline(always)]
    fn allocate(&mut self) -> Option<Buffer> {
        None
    }
}

const HEADROOM: usize = 128;
