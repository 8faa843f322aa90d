//! Reassembles datagrams before the core, which accepts whole datagrams only.
//!
//! All fragments of a datagram meet on one worker, whatever ports and queues they arrived on: a
//! keyed hash of the datagram names it. A worker that receives another's fragment hands it over
//! through that worker's bounded lock-free queue; when the queue is full, the fragment is dropped
//! and counted. The core's reassembly table decides on each fragment, a table of DPDK holds the
//! frames; both are bounded and allocated at start.

use std::sync::Arc;

use anyrelay_core::config::Fragments;
use anyrelay_core::counters::Counters;
use anyrelay_core::fragment::{
    self, Admitted, Fragment, FragmentArrival, FragmentHash, FragmentLimits, ReassemblyTable,
};
use anyrelay_core::net::{PortIndex, Side};
use anyrelay_core::pop::{Arrived, BURST, Pop};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::verdict::DropReason;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::egress;
use crate::ports::{FragmentTable, FramePool, Frames, Kept, PopFrame, PortsError};

/// Fragments on their way to the worker that reassembles their datagrams.
#[derive(Debug)]
pub struct FragmentQueue(CachePadded<ArrayQueue<(PortIndex, PopFrame)>>);

impl FragmentQueue {
    fn new() -> Arc<Self> {
        Arc::new(FragmentQueue(CachePadded::new(ArrayQueue::new(QUEUE_FRAMES))))
    }

    /// The most frames that it holds.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Returns all frames to their pool, and how many they were: for shutdown, when no worker runs.
    pub fn discard(&self) -> usize {
        egress::discard(&self.0)
    }
}

/// Reassembled datagrams, each with the port that it enters through.
pub type ReassembledFrames = ArrayVec<(PortIndex, PopFrame), BURST>;

/// The reassembly of one worker, and its queues to and from the others.
#[derive(Debug)]
pub struct WorkerReassembly {
    hash: FragmentHash,
    /// The queues of all workers that reassemble datagrams.
    queues: Arc<[Arc<FragmentQueue>]>,
    /// The index of this worker's queue.
    number: usize,
    reassembler: Reassembler,
}

/// The decisions on fragments, and the frames that they admitted.
#[derive(Debug)]
struct Reassembler {
    table: ReassemblyTable,
    frames: FragmentTable,
    reassembled: ReassembledFrames,
    counters: Arc<Counters>,
}

/// The reassembly of each worker that has one, and the queues between them.
pub type Assigned = (Vec<Option<WorkerReassembly>>, Vec<Arc<FragmentQueue>>);

/// Assigns reassembly to each worker that receives, if that is the policy; in the order of
/// `counters`.
///
/// # Errors
/// When DPDK's memory is short.
pub fn assign(
    snapshot: &Snapshot,
    pool: &FramePool,
    counters: &[Arc<Counters>],
) -> Result<Assigned, PortsError> {
    let Fragments::Reassemble(limits) = snapshot.config.pop.fragments else {
        return Ok((counters.iter().map(|_| None).collect(), Vec::new()));
    };
    let workers = &snapshot.config.workers;
    let receivers = workers.iter().filter(|worker| !worker.rx.is_empty()).count();
    let queues: Arc<[_]> = (0..receivers).map(|_| FragmentQueue::new()).collect();
    let mut assigned = Vec::new();
    for (worker, counters) in workers.iter().zip(counters) {
        let number = assigned.iter().filter(|other: &&Option<_>| other.is_some()).count();
        assigned.push(if worker.rx.is_empty() {
            None
        } else {
            let reassembler = Reassembler::new(snapshot, pool, &limits, counters)?;
            let (hash, queues) = (snapshot.fragment_hash.clone(), Arc::clone(&queues));
            Some(WorkerReassembly { hash, queues, number, reassembler })
        });
    }
    Ok((assigned, queues.to_vec()))
}

impl WorkerReassembly {
    /// Removes the fragments from a burst that arrived on `port`, and hands over those that other
    /// workers reassemble.
    #[inline]
    pub fn take(
        &mut self,
        now: Now,
        pop: &Pop,
        snapshot: &Snapshot,
        port: PortIndex,
        frames: &mut Frames,
    ) {
        let mut at = 0;
        while let Some(frame) = frames.get_mut(at) {
            match pop.incoming(snapshot, port, frame) {
                Arrived::Whole => at += 1,
                Arrived::Refused(reason) => {
                    drop(frames.remove(at));
                    self.reassembler.counters.count_drop(port, None, reason);
                }
                Arrived::Fragment(fragment) => {
                    let frame = frames.remove(at);
                    self.hand_out(now, snapshot, port, frame, &fragment);
                }
            }
        }
    }

    fn hand_out(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        port: PortIndex,
        frame: PopFrame,
        fragment: &Fragment,
    ) {
        let owner = self.hash.worker(&fragment.key, self.queues.len());
        if owner == self.number {
            return self.reassembler.put(arrival(now, snapshot, port), frame, fragment);
        }
        let counters = &self.reassembler.counters;
        let Some(queue) = self.queues.get(owner) else { return };
        match queue.0.push((port, frame)) {
            Ok(()) => counters.fragments.handed_over.add(1),
            Err(_) => counters.count_drop(port, None, DropReason::FragmentQueueFull),
        }
    }

    /// Accepts at most a burst of the fragments that other workers handed over, and removes expired
    /// datagrams. Returns the number of fragments.
    #[inline]
    pub fn collect(&mut self, now: Now, pop: &Pop, snapshot: &Snapshot) -> usize {
        let mut count = 0;
        if let Some(queue) = self.queues.get(self.number).filter(|_| self.queues.len() > 1) {
            let queue = Arc::clone(queue);
            while count < BURST
                && let Some((port, mut frame)) = queue.0.pop()
            {
                count += 1;
                // To read the fragment again costs less than to queue it parsed, and a reload may
                // have changed the answer.
                match pop.incoming(snapshot, port, &mut frame) {
                    Arrived::Fragment(fragment) => {
                        self.reassembler.put(arrival(now, snapshot, port), frame, &fragment);
                    }
                    Arrived::Refused(reason) => {
                        self.reassembler.counters.count_drop(port, None, reason);
                    }
                    Arrived::Whole => {
                        self.reassembler.counters.count_drop(port, None, DropReason::Fragment);
                    }
                }
            }
        }
        self.reassembler.expire(now);
        count
    }

    /// The datagrams that were reassembled since the caller last removed them.
    #[inline]
    pub fn reassembled(&mut self) -> &mut ReassembledFrames {
        &mut self.reassembler.reassembled
    }
}

fn arrival(now: Now, snapshot: &Snapshot, port: PortIndex) -> FragmentArrival {
    let config = snapshot.config.ports.get(usize::from(port.0));
    let side = config.map_or(Side::Both, |port| port.side);
    FragmentArrival { now: now.instant, port, side }
}

impl Reassembler {
    fn new(
        snapshot: &Snapshot,
        pool: &FramePool,
        limits: &FragmentLimits,
        counters: &Arc<Counters>,
    ) -> Result<Reassembler, PortsError> {
        let (hash, networks) = (snapshot.fragment_hash.clone(), snapshot.bucket_hash.clone());
        Ok(Reassembler {
            table: ReassemblyTable::new(*limits, pool.frame_len_max(), hash, networks),
            frames: FragmentTable::new(pool, limits)?,
            reassembled: ReassembledFrames::new(),
            counters: Arc::clone(counters),
        })
    }

    /// Decides on a fragment, and keeps or frees it.
    fn put(&mut self, at: FragmentArrival, frame: PopFrame, fragment: &Fragment) {
        let counters = &self.counters;
        let reassembled = match self.table.admit(at, fragment, counters) {
            Admitted::Refused => return,
            Admitted::Waits => None,
            Admitted::Completes(reassembled) => Some(reassembled),
        };
        let kept = self.frames.keep(frame, fragment, at.now);
        let Some(reassembled) = reassembled else {
            match kept {
                Kept::Waits => {}
                // DPDK's table may not call a datagram whole that the core does not.
                Kept::Refused | Kept::Whole(_) | Kept::TooLong => {
                    self.table.discard(&fragment.key, counters);
                }
            }
            return;
        };
        let reason = match kept {
            Kept::Whole(mut frame) => {
                if fragment::complete_header(&mut frame, &reassembled) {
                    counters.fragments.datagrams.add(1);
                    counters.fragments.fragments.add(reassembled.fragments as u64);
                    // It is emptied before every burst, and each frame completes one datagram at
                    // most, so that there is room.
                    let _ = self.reassembled.try_push((reassembled.port, frame));
                    return;
                }
                DropReason::FragmentConflict
            }
            Kept::TooLong => DropReason::FragmentTooLong,
            Kept::Waits | Kept::Refused => DropReason::FragmentTableFull,
        };
        for _ in 0..reassembled.fragments {
            counters.count_drop(reassembled.port, None, reason);
        }
    }

    /// Frees expired datagrams, a bounded number in each turn.
    #[inline]
    fn expire(&mut self, now: Now) {
        if !self.table.is_empty() || self.frames.held() > 0 {
            self.table.expire(now.instant, &self.counters);
            self.frames.expire(now.instant);
        }
        self.counters.fragments.waiting.set(self.frames.held() as u64);
    }
}

/// The most frames in a queue: 16 bursts.
const QUEUE_FRAMES: usize = 1024;
