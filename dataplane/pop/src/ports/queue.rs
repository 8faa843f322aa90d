//! A worker's ends of a port: a queue to receive from, and a TX ring with a buffer in front.
//!
//! Both count what passes. A full TX ring is tried twice and never waited for: what it does not
//! take is dropped as `tx_full`.

use anyrelay_core::counters::Counters;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::BURST;
use anyrelay_core::verdict::DropReason;
use arrayvec::ArrayVec;
use dpdk::{BURST_CAPACITY, Burst, Mbuf};

use super::PopFrame;

/// Frames of one poll, as the core takes them.
pub type Frames = ArrayVec<PopFrame, BURST>;

/// A port's RX queue.
#[derive(Debug)]
pub struct RxQueue {
    port: PortIndex,
    queue: dpdk::RxQueue,
    burst: Burst,
}

impl RxQueue {
    pub(super) fn new(port: PortIndex, queue: dpdk::RxQueue) -> Self {
        RxQueue { port, queue, burst: Burst::new() }
    }

    /// The port.
    pub fn port(&self) -> PortIndex {
        self.port
    }

    /// Takes what has arrived, up to a burst, into `frames`, which is empty; counts it, and drops
    /// and counts frames that are not in one piece. Returns how many had arrived.
    #[inline]
    pub fn receive(&mut self, frames: &mut Frames, counters: &Counters) -> usize {
        let count = self.queue.receive(&mut self.burst);
        if count == 0 {
            return 0;
        }
        let mut bytes = 0;
        for mbuf in self.burst.drain() {
            bytes += mbuf.frame_len();
            if mbuf.is_contiguous() {
                // Never full: it was empty, and holds what a burst holds.
                let _ = frames.try_push(PopFrame::from(mbuf));
            } else {
                counters.count_drop(self.port, None, DropReason::NotContiguous);
            }
        }
        counters.port(self.port).rx.add(count as u64, bytes as u64);
        count
    }
}

/// A port's TX ring and the frames that wait to be put into it together.
#[derive(Debug)]
pub struct TxRing {
    port: PortIndex,
    queue: dpdk::TxQueue,
    burst: Burst,
    bytes: usize,
}

impl TxRing {
    pub(super) fn new(port: PortIndex, queue: dpdk::TxQueue) -> Self {
        TxRing { port, queue, burst: Burst::new(), bytes: 0 }
    }

    /// The port.
    pub fn port(&self) -> PortIndex {
        self.port
    }

    /// Adds a frame; sends the buffer when it is full.
    #[inline]
    pub fn push(&mut self, frame: PopFrame, counters: &Counters) {
        let mbuf = Mbuf::from(frame);
        self.bytes += mbuf.len();
        if let Err(mbuf) = self.burst.push(mbuf) {
            // Not reached: the buffer is flushed below as soon as it is full.
            self.bytes -= mbuf.len();
            counters.count_drop(self.port, None, DropReason::TxFull);
        }
        if self.burst.is_full() {
            self.flush(counters);
        }
    }

    /// Sends what waits, and drops what the ring does not take.
    #[inline]
    pub fn flush(&mut self, counters: &Counters) {
        if !self.burst.is_empty() {
            self.send(counters);
        }
    }

    fn send(&mut self, counters: &Counters) {
        let mut sent = self.queue.send(&mut self.burst);
        if !self.burst.is_empty() {
            // One more chance: a driver may have made room by finishing earlier frames.
            sent += self.queue.send(&mut self.burst);
        }
        let left: usize = self.burst.as_slice().iter().map(Mbuf::len).sum();
        counters.port(self.port).tx.add(sent as u64, (self.bytes - left) as u64);
        self.bytes = 0;
        for _ in 0..self.burst.len() {
            counters.count_drop(self.port, None, DropReason::TxFull);
        }
        self.burst.clear();
    }
}

const _: () = assert!(BURST == BURST_CAPACITY, "a poll's frames fit into one burst of the core");
