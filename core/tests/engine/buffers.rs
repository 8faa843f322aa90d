//! Frame buffers that are less kind than a new one.

use anyrelay_core::frame::{Frame, HeapFrame};
use anyrelay_kit::pop::FromBytes;

/// A frame whose new bytes are garbage, as in a buffer that was used before.
pub struct Used(HeapFrame);

impl FromBytes for Used {
    fn from_bytes(bytes: &[u8]) -> Self {
        Used(HeapFrame::new(bytes))
    }
}

impl Frame for Used {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, count: usize) -> bool {
        let done = self.0.prepend(count);
        if done {
            self.0.bytes_mut()[..count].fill(0xa5);
        }
        done
    }
    fn append(&mut self, count: usize) -> bool {
        let len = self.0.bytes().len();
        let done = self.0.append(count);
        self.0.bytes_mut()[len..].fill(0x5a);
        done
    }
    fn trim_front(&mut self, count: usize) {
        self.0.trim_front(count);
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A frame without headroom and tailroom.
pub struct Tight(HeapFrame);

impl FromBytes for Tight {
    fn from_bytes(bytes: &[u8]) -> Self {
        Tight(HeapFrame::new(bytes))
    }
}

impl Frame for Tight {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, _: usize) -> bool {
        false
    }
    fn append(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, count: usize) {
        self.0.trim_front(count);
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}
