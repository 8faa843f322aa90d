//! Egress: from a worker's decision to a TX ring.
//!
//! A worker with a ring of the port puts the frame into that ring's buffer. If another worker owns
//! the only ring, the frame is passed through that port's bounded lock-free queue; a full queue
//! drops and counts, and never blocks.

mod plan;

use std::sync::Arc;

use anyrelay_core::counters::Counters;
use anyrelay_core::frame::Frame;
use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::{Output, is_query};
use anyrelay_core::relay::hints::Hint;
use anyrelay_core::verdict::DropReason;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::ports::{FramePool, PopFrame, TxRing};

pub use plan::{Ownership, plan, rings_wanted};

/// Frames that wait for the owner of a port's only TX ring.
#[derive(Debug)]
pub struct EgressQueue {
    port: PortIndex,
    frames: CachePadded<ArrayQueue<PopFrame>>,
}

impl EgressQueue {
    fn new(port: PortIndex) -> Arc<Self> {
        let frames = CachePadded::new(ArrayQueue::new(QUEUE_FRAMES));
        Arc::new(EgressQueue { port, frames })
    }

    /// The port of the frames.
    pub fn port(&self) -> PortIndex {
        self.port
    }

    /// The number of waiting frames.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// The maximum number of frames.
    pub fn capacity(&self) -> usize {
        self.frames.capacity()
    }

    /// Frees all waiting frames at the end, when no worker runs. Returns their number.
    pub fn discard(&self) -> usize {
        discard(&self.frames)
    }
}

/// Empties a queue that has no producers any more. Returns the number of elements.
pub fn discard<T>(queue: &ArrayQueue<T>) -> usize {
    (0..queue.capacity()).take_while(|_| queue.pop().is_some()).count()
}

/// A worker's path to a port.
#[derive(Debug)]
enum Route {
    /// The worker's own TX ring, by its index among the worker's rings.
    Ring(usize),
    /// The queue to the owner of the ring.
    Queue(Arc<EgressQueue>),
    /// None: frames of a probe are counted and freed.
    Probe,
}

/// A worker's TX ring, and the queue of frames from other workers.
#[derive(Debug)]
struct OwnedRing {
    ring: TxRing,
    inbound: Option<Arc<EgressQueue>>,
}

/// A worker's paths to all ports; the output of the core.
#[derive(Debug)]
pub struct WorkerEgress {
    routes: Vec<Route>,
    /// The routes of probes; during a probe, the others.
    probe_routes: Vec<Route>,
    /// Frames of the current probe.
    probed: usize,
    rings: Vec<OwnedRing>,
    pool: FramePool,
    counters: Arc<Counters>,
    hints: Arc<ArrayQueue<Hint>>,
}

/// Creates the egress of every worker, in the order of `counters`, and the queues between them.
/// `rings` are the TX rings of each port, `ownerships` their owners; hints for other POPs go to
/// `hints`.
pub fn assign(
    rings: Vec<Vec<TxRing>>,
    ownerships: &[Ownership],
    pool: &FramePool,
    counters: &[Arc<Counters>],
    hints: &Arc<ArrayQueue<Hint>>,
) -> (Vec<WorkerEgress>, Vec<Arc<EgressQueue>>) {
    let new = |counters: &Arc<Counters>| WorkerEgress {
        routes: Vec::new(),
        probe_routes: Vec::new(),
        probed: 0,
        rings: Vec::new(),
        pool: pool.clone(),
        counters: Arc::clone(counters),
        hints: Arc::clone(hints),
    };
    let mut workers: Vec<WorkerEgress> = counters.iter().map(new).collect();
    let mut queues = Vec::new();
    let is_alone = workers.len() == 1;
    for (index, (rings, ownership)) in (0..).zip(rings.into_iter().zip(ownerships)) {
        let mut rings = rings.into_iter();
        match *ownership {
            Ownership::Each => {
                for (worker, ring) in workers.iter_mut().zip(rings) {
                    worker.own(ring, None);
                }
            }
            Ownership::One(owner) => {
                let queue = EgressQueue::new(PortIndex(index));
                for (number, worker) in workers.iter_mut().enumerate() {
                    match (number == owner).then(|| rings.next()).flatten() {
                        Some(ring) => worker.own(ring, (!is_alone).then(|| Arc::clone(&queue))),
                        None => worker.routes.push(Route::Queue(Arc::clone(&queue))),
                    }
                }
                if !is_alone {
                    queues.push(queue);
                }
            }
        }
    }
    for worker in &mut workers {
        worker.probe_routes = worker.routes.iter().map(|_| Route::Probe).collect();
    }
    (workers, queues)
}

impl WorkerEgress {
    fn own(&mut self, ring: TxRing, inbound: Option<Arc<EgressQueue>>) {
        self.routes.push(Route::Ring(self.rings.len()));
        self.rings.push(OwnedRing { ring, inbound });
    }

    /// Moves frames from other workers into the rings, a bounded number in each turn. Returns their
    /// number.
    #[inline]
    pub fn collect(&mut self) -> usize {
        let mut count = 0;
        for OwnedRing { ring, inbound } in &mut self.rings {
            let Some(queue) = inbound else { continue };
            for _ in 0..COLLECT_MAX {
                let Some(frame) = queue.frames.pop() else { break };
                ring.push(frame, &self.counters);
                count += 1;
            }
        }
        count
    }

    /// From now on, what is transmitted leaves through no port, but for queries for neighbours.
    pub fn begin_probe(&mut self) {
        self.probed = 0;
        std::mem::swap(&mut self.routes, &mut self.probe_routes);
    }

    /// Ends that. Returns the number of frames that would have left.
    pub fn end_probe(&mut self) -> usize {
        std::mem::swap(&mut self.routes, &mut self.probe_routes);
        self.probed
    }

    /// Frees a frame of a probe. A query was due, and the answer is waited for: it leaves.
    #[cold]
    fn take_probed(&mut self, port: PortIndex, frame: PopFrame) {
        if !is_query(frame.bytes()) {
            self.probed += 1;
            return;
        }
        std::mem::swap(&mut self.routes, &mut self.probe_routes);
        self.transmit(port, frame);
        std::mem::swap(&mut self.routes, &mut self.probe_routes);
    }

    /// Sends the buffered frames of all rings.
    #[inline]
    pub fn flush(&mut self) {
        for OwnedRing { ring, .. } in &mut self.rings {
            ring.flush(&self.counters);
        }
    }
}

impl Output<PopFrame> for WorkerEgress {
    #[inline]
    fn transmit(&mut self, port: PortIndex, frame: PopFrame) {
        match self.routes.get(usize::from(port.0)) {
            Some(Route::Ring(index)) => {
                if let Some(owned) = self.rings.get_mut(*index) {
                    owned.ring.push(frame, &self.counters);
                }
            }
            Some(Route::Queue(queue)) => {
                if queue.frames.push(frame).is_err() {
                    self.counters.port(port).queue_overflow.add(1);
                    self.counters.count_drop(port, None, DropReason::EgressQueueFull);
                }
            }
            Some(Route::Probe) => self.take_probed(port, frame),
            // The core names configured ports only; if it did not, the loss would be counted.
            None => self.counters.count_drop(port, None, DropReason::TxFull),
        }
    }

    #[inline]
    fn transmit_all(&mut self, port: PortIndex, frames: impl Iterator<Item = PopFrame>) {
        // Nearly always it is a ring of this worker's, which is looked up once.
        if let Some(Route::Ring(index)) = self.routes.get(usize::from(port.0))
            && let Some(owned) = self.rings.get_mut(*index)
        {
            return frames.for_each(|frame| owned.ring.push(frame, &self.counters));
        }
        frames.for_each(|frame| self.transmit(port, frame));
    }

    fn hint(&mut self, hint: Hint) -> bool {
        self.hints.push(hint).is_ok()
    }

    #[inline]
    fn allocate(&mut self) -> Option<PopFrame> {
        self.pool.allocate()
    }
}

/// The capacity of a queue in frames: 32 bursts, which a busy worker fills while an idle one
/// sleeps.
const QUEUE_FRAMES: usize = 2048;

/// The maximum number of frames from one queue in one turn of the loop.
const COLLECT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_frames_are_counted() {
        let queue = ArrayQueue::new(3);
        for left in [0, 1, 3] {
            (0..left).for_each(|number| queue.push(number).unwrap());
            assert_eq!(discard(&queue), left);
            assert!(queue.is_empty());
        }
    }
}
