//! The headers of a quote over IPv4, in a buffer where they can be rewritten like those of a
//! segment.

use crate::frame::Frame;
use crate::relay::rewrite::options::INSERTED_LEN;
use crate::wire::tcp;

/// The headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    buffer: [u8; INSERTED_LEN + HEADERS_MAX],
    start: usize,
    end: usize,
    ip_len: usize,
}

impl Default for Headers {
    fn default() -> Self {
        let buffer = [0; INSERTED_LEN + HEADERS_MAX];
        Headers { buffer, start: INSERTED_LEN, end: INSERTED_LEN, ip_len: 0 }
    }
}

impl Headers {
    /// Takes the first `ip_len + tcp_len` of `bytes`; a TCP header that is cut off is filled up
    /// with zeros and made to have no options.
    pub fn fill(&mut self, bytes: &[u8], ip_len: usize, tcp_len: usize) {
        let len = (ip_len + tcp_len).min(HEADERS_MAX).min(bytes.len());
        if let (Some(place), Some(bytes)) =
            (self.buffer.get_mut(INSERTED_LEN..INSERTED_LEN + len), bytes.get(..len))
        {
            place.copy_from_slice(bytes);
        }
        self.ip_len = ip_len;
        self.end = INSERTED_LEN + ip_len + tcp_len.max(tcp::HEADER_LEN);
        if tcp_len <= tcp::HEADER_LEN
            && let Some(offset) =
                self.buffer.get_mut(INSERTED_LEN + ip_len + tcp::field::DATA_OFFSET)
        {
            *offset = (*offset & 0x0f) | 0x50;
        }
    }

    /// Whether the TCP header has one of these flags.
    pub fn has(&self, flags: u8) -> bool {
        self.bytes().get(self.ip_len + tcp::field::FLAGS).is_some_and(|set| set & flags != 0)
    }

    /// The TCP header.
    pub fn segment(&self) -> Option<&[u8]> {
        self.bytes().get(self.ip_len..)
    }

    pub fn options(&self) -> &[u8] {
        self.bytes().get(self.ip_len + tcp::HEADER_LEN..).unwrap_or_default()
    }
}

impl Frame for Headers {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    fn prepend(&mut self, count: usize) -> bool {
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        start.is_some()
    }

    fn append(&mut self, _: usize) -> bool {
        false
    }

    fn trim_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// Longest IPv4 and TCP header.
const HEADERS_MAX: usize = 120;

/// Bytes of a datagram that every host takes (RFC 1812, section 4.3.2.3).
pub(super) const LEN_EVERY_HOST_TAKES: usize = 576;
