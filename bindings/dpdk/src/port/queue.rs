//! The packet path of a port: one handle per queue, each with one owner.

use std::fmt;
use std::sync::Arc;

use super::Inner;
use crate::burst::Burst;

/// A receive queue. Each queue of a port has one handle, so its holder is the only thread to poll
/// it.
pub struct RxQueue {
    port: u16,
    queue: u16,
    inner: Arc<Inner>,
}

/// A transmit queue. Each queue of a port has one handle, so its holder is the only thread to send
/// on it.
pub struct TxQueue {
    port: u16,
    queue: u16,
    inner: Arc<Inner>,
}

impl RxQueue {
    pub(super) fn new(inner: &Arc<Inner>, queue: u16) -> RxQueue {
        RxQueue { port: inner.id, queue, inner: Arc::clone(inner) }
    }

    /// Appends received frames to `burst`, as many as fit, and prefetches the first cache line of
    /// each. Returns their number; never waits.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        self.receive_up_to(burst, usize::MAX)
    }

    /// Like [`RxQueue::receive`], but at most `most` frames. Vectorised drivers want multiples of 4
    /// or 8.
    #[inline]
    pub fn receive_up_to(&mut self, burst: &mut Burst, most: usize) -> usize {
        let spare = burst.spare();
        let room = spare.len().min(most) as u16; // at most BURST_CAPACITY
        // SAFETY: the port is started and stays so while `inner` is held; `&mut self` on the
        // queue's only handle makes this its only caller. `spare` has room for `room` pointers, and
        // the first `count` are valid mbufs that the driver has given up.
        unsafe {
            let base = spare.as_mut_ptr().cast();
            let count = dpdk_sys::dpdk_shim_rx_burst(self.port, self.queue, base, room);
            burst.grow(usize::from(count));
            usize::from(count)
        }
    }

    /// The queue's number.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of its port.
    pub fn port_name(&self) -> &str {
        &self.inner.name
    }
}

impl TxQueue {
    pub(super) fn new(inner: &Arc<Inner>, queue: u16) -> TxQueue {
        TxQueue { port: inner.id, queue, inner: Arc::clone(inner) }
    }

    /// Sends the frames of `burst`, first to last, and removes those that the port accepted.
    /// Returns their number; never waits. The caller still owns the others, in order, and may retry
    /// them, or drop and count them.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let (base, len) = burst.as_raw();
        // SAFETY: the port is started and stays so while `inner` is held; `&mut self` on the
        // queue's only handle makes this its only caller. The first `len` pointers are mbufs that
        // `burst` owns; the driver owns the first `sent` of them afterwards.
        unsafe {
            // At most BURST_CAPACITY.
            let sent = dpdk_sys::dpdk_shim_tx_burst(self.port, self.queue, base, len as u16);
            burst.remove_front(usize::from(sent));
            usize::from(sent)
        }
    }

    /// The queue's number.
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The name of its port.
    pub fn port_name(&self) -> &str {
        &self.inner.name
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RxQueue({}:{})", self.inner.name, self.queue)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({}:{})", self.inner.name, self.queue)
    }
}
