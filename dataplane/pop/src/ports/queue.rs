//! A worker's ends of a port: an RX queue, and a TX ring with a buffer before it.
//!
//! Both count frames. A full TX ring is tried twice and never waited for: frames that it does not
//! accept are dropped as `tx_full`.

use std::sync::Arc;

use anyrelay_core::counters::{Counter, Counters};
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::BURST;
use anyrelay_core::verdict::DropReason;
use arrayvec::ArrayVec;
use dpdk::{BURST_CAPACITY, Burst, Mbuf};

use super::PopFrame;

/// Frames of one poll, in the type of the core.
pub type Frames = ArrayVec<PopFrame, BURST>;

/// A port's RX queue.
#[derive(Debug)]
pub struct RxQueue {
    port: PortIndex,
    queue: dpdk::RxQueue,
    burst: Burst,
    /// Frames received by this queue.
    received: Arc<Counter>,
}

impl RxQueue {
    pub(super) fn new(port: PortIndex, queue: dpdk::RxQueue) -> Self {
        RxQueue { port, queue, burst: Burst::new(), received: Arc::default() }
    }

    /// The port.
    pub fn port(&self) -> PortIndex {
        self.port
    }

    /// Frames received by this queue, whoever polls it.
    pub(super) fn received(&self) -> Arc<Counter> {
        Arc::clone(&self.received)
    }

    /// Receives up to a burst of frames into `frames`, which is empty, and counts them. Frames that
    /// the driver scattered over several mbufs, as net_e1000_em does with large ones, are made
    /// contiguous; those that do not fit into one mbuf are dropped and counted. Returns the number
    /// of received frames.
    #[inline]
    pub fn receive(&mut self, frames: &mut Frames, counters: &Counters) -> usize {
        let count = self.queue.receive(&mut self.burst);
        if count == 0 {
            return 0;
        }
        let mut bytes = 0;
        for mut mbuf in self.burst.drain() {
            bytes += mbuf.frame_len();
            if mbuf.is_contiguous() || mbuf.make_contiguous() {
                // Never full: it was empty, and has the capacity of a burst.
                let _ = frames.try_push(PopFrame::from(mbuf));
            } else {
                counters.count_drop(self.port, None, DropReason::NotContiguous);
            }
        }
        counters.port(self.port).rx.add(count as u64, bytes as u64);
        self.received.add(count as u64);
        count
    }
}

/// A port's TX ring, and the frames buffered for it.
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

    /// Adds a frame; flushes the buffer when it is full.
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

    /// Sends the buffered frames, and drops those that the ring does not accept.
    #[inline]
    pub fn flush(&mut self, counters: &Counters) {
        if !self.burst.is_empty() {
            self.send(counters);
        }
    }

    fn send(&mut self, counters: &Counters) {
        let mut sent = self.queue.send(&mut self.burst);
        if !self.burst.is_empty() {
            // A second attempt: the driver may have freed descriptors of sent frames.
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
