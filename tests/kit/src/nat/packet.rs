//! Segments on the path between an agent and a POP, without their IP headers.

use std::net::SocketAddr;

use anyrelay_core::seq::SeqNum;

use super::Seen;
use crate::frames::{long, word};

/// A segment, and the addresses that its datagram has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub src: SocketAddr,
    /// Destination.
    pub dst: SocketAddr,
    /// TCP header and data; the checksum is ignored.
    pub tcp: Vec<u8>,
}

/// The fields of a TCP header that tests look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Flags.
    pub flags: u8,
    /// Length of the header with its options, in bytes.
    pub header_len: usize,
}

impl Packet {
    /// Its header.
    pub fn head(&self) -> Head {
        let header_len = usize::from(self.tcp[12] >> 4) * 4;
        assert!((20..=self.tcp.len()).contains(&header_len), "no TCP header: {:02x?}", self.tcp);
        Head {
            seq: SeqNum(long(&self.tcp, 4)),
            ack: SeqNum(long(&self.tcp, 8)),
            flags: self.tcp[13],
            header_len,
        }
    }

    /// Its options.
    pub fn options(&self) -> &[u8] {
        &self.tcp[20..self.head().header_len]
    }

    /// Its data.
    pub fn payload(&self) -> &[u8] {
        &self.tcp[self.head().header_len..]
    }

    /// Whether its data is a DATA message of a tunnel, up or down.
    pub fn is_data(&self) -> bool {
        self.payload().first().is_some_and(|first| matches!(first >> 4, 3 | 4))
    }

    /// Replaces the sequence number.
    pub fn set_seq(&mut self, seq: SeqNum) {
        self.put(4, &seq.0.to_be_bytes());
    }

    /// Replaces the acknowledgment number.
    pub fn set_ack(&mut self, ack: SeqNum) {
        self.put(8, &ack.0.to_be_bytes());
    }

    /// Replaces addresses and ports.
    pub fn set_addresses(&mut self, src: SocketAddr, dst: SocketAddr) {
        (self.src, self.dst) = (src, dst);
        self.put(0, &src.port().to_be_bytes());
        self.put(2, &dst.port().to_be_bytes());
    }

    /// Overwrites the window scale option with NOPs.
    pub fn strip_scale(&mut self) {
        if let Some(at) = self.scale_at() {
            self.tcp[at..at + 3].fill(1);
        }
    }

    /// The segment as a firewall sees it.
    pub fn seen(&self) -> Seen {
        let head = self.head();
        Seen {
            seq: head.seq,
            ack: head.ack,
            flags: head.flags,
            window: u32::from(word(&self.tcp, 14)),
            scale: self.scale_at().map(|at| self.tcp[at + 2]),
            payload_len: self.payload().len() as u32,
        }
    }

    /// Where the window scale option begins.
    fn scale_at(&self) -> Option<usize> {
        let end = self.head().header_len;
        let mut at = 20;
        while at < end {
            match self.tcp[at] {
                0 => return None,
                1 => at += 1,
                3 if at + 3 <= end => return Some(at),
                _ => at += usize::from(*self.tcp.get(at + 1)?).max(2),
            }
        }
        None
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.tcp[at..at + value.len()].copy_from_slice(value);
    }
}
