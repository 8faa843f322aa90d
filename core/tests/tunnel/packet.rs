//! Segments on their way, and the tests' random numbers.

use std::net::SocketAddr;

use anyrelay_core::seq::SeqNum;
use anyrelay_core::wire::tcp::{Options, Tcp};

use crate::conntrack::Seen;

/// Random numbers of the tests: splitmix64.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }

    /// Whether something happens that does `permille` times in a thousand.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn bytes(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// A segment on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// TCP header and payload; the checksum is not looked at.
    pub tcp: Vec<u8>,
}

impl Packet {
    pub fn head(&self) -> Tcp {
        Tcp::parse(&self.tcp).expect("whole")
    }

    pub fn payload(&self) -> &[u8] {
        &self.tcp[self.head().header_len..]
    }

    pub fn is_data(&self) -> bool {
        self.payload().first().is_some_and(|first| matches!(first >> 4, 3 | 4))
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.tcp[at..at + value.len()].copy_from_slice(value);
    }

    pub fn set_seq(&mut self, seq: SeqNum) {
        self.put(4, &seq.0.to_be_bytes());
    }

    pub fn set_ack(&mut self, ack: SeqNum) {
        self.put(8, &ack.0.to_be_bytes());
    }

    pub fn set_addresses(&mut self, src: SocketAddr, dst: SocketAddr) {
        (self.src, self.dst) = (src, dst);
        self.put(0, &src.port().to_be_bytes());
        self.put(2, &dst.port().to_be_bytes());
    }

    /// Overwrites the window scale option with NOPs.
    pub fn strip_scale(&mut self) {
        let found = Options::new(&self.tcp[20..self.head().header_len])
            .flatten()
            .find(|option| option.kind == 3);
        if let Some(option) = found {
            self.tcp[20 + option.at..20 + option.at + option.len].fill(1);
        }
    }

    pub fn seen(&self) -> Seen {
        let head = self.head();
        let options = &self.tcp[20..head.header_len];
        let scale = Options::new(options).flatten().find(|option| option.kind == 3);
        Seen {
            seq: head.seq,
            ack: head.ack,
            flags: head.flags,
            window: u32::from(u16::from_be_bytes([self.tcp[14], self.tcp[15]])),
            scale: scale.map(|option| options[option.at + 2]),
            payload_len: self.payload().len() as u32,
        }
    }
}
