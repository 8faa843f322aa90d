//! Puts datagrams together out of fragments, in front of the engine, which sees whole ones only.
//!
//! All fragments of a datagram meet on one worker, whatever ports and queues they came in through: a
//! keyed hash of the datagram says on which. A worker that receives another's fragment hands it over
//! through that one's bounded lock-free queue; a full queue drops and counts. The ledger decides on
//! each fragment, the table holds the frames; both are bounded and allocated at start.

use std::sync::Arc;

use anyrelay_core::config::Fragments;
use anyrelay_core::counters::Counters;
use anyrelay_core::fragment::FragmentLimits;
use anyrelay_core::fragment::{self, Admitted, Arrival, Fragment, FragmentHash, Ledger};
use anyrelay_core::net::PortIndex;
use anyrelay_core::net::Side;
use anyrelay_core::pop::{Arrived, BURST, Pop};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::Now;
use anyrelay_core::verdict::DropReason;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::egress;
use crate::ports::{FragmentTable, FramePool, Frames, Kept, PopFrame, PortsError};

/// Fragments that wait for the worker that puts their datagrams together.
#[derive(Debug)]
pub struct FragmentQueue(CachePadded<ArrayQueue<(PortIndex, PopFrame)>>);

impl FragmentQueue {
    fn new() -> Arc<Self> {
        Arc::new(FragmentQueue(CachePadded::new(ArrayQueue::new(QUEUE_FRAMES))))
    }

    /// Frames that it holds at most.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Gives all waiting frames back to their pool: for the end, when no worker runs any more.
    /// Returns how many.
    pub fn discard(&self) -> usize {
        egress::discard(&self.0)
    }
}

/// Datagrams that became whole, each with the port that it came in through.
pub type Wholes = ArrayVec<(PortIndex, PopFrame), BURST>;

/// A worker's part in putting datagrams together.
#[derive(Debug)]
pub struct Reassembly {
    hash: FragmentHash,
    /// Those of all workers that put datagrams together.
    queues: Arc<[Arc<FragmentQueue>]>,
    /// Its place among them.
    number: usize,
    desk: Desk,
}

/// What belongs together: the ledger, and the frames that it admitted.
#[derive(Debug)]
struct Desk {
    ledger: Ledger,
    table: FragmentTable,
    wholes: Wholes,
    counters: Arc<Counters>,
}

/// The part of each worker, for those that have one, and the queues between them.
pub type Parts = (Vec<Option<Reassembly>>, Vec<Arc<FragmentQueue>>);

/// What each worker has to do with fragments, in the order of `counters`: those that receive put
/// datagrams together, if that is the policy.
///
/// # Errors
/// When DPDK's memory is short.
pub fn assign(
    snapshot: &Snapshot,
    pool: &FramePool,
    counters: &[Arc<Counters>],
) -> Result<Parts, PortsError> {
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
            let desk = Desk::new(snapshot, pool, &limits, counters)?;
            let (hash, queues) = (snapshot.fragment_hash.clone(), Arc::clone(&queues));
            Some(Reassembly { hash, queues, number, desk })
        });
    }
    Ok((assigned, queues.to_vec()))
}

impl Reassembly {
    /// Takes the fragments out of a burst that came in through `port`, those of other workers'
    /// datagrams for handing over.
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
                    self.desk.counters.count_drop(port, None, reason);
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
            return self.desk.put(arrival(now, snapshot, port), frame, fragment);
        }
        let counters = &self.desk.counters;
        let Some(queue) = self.queues.get(owner) else { return };
        match queue.0.push((port, frame)) {
            Ok(()) => counters.fragments.handed_over.add(1),
            Err(_) => counters.count_drop(port, None, DropReason::FragmentQueueFull),
        }
    }

    /// Takes what other workers handed over, a burst at most, and gives up datagrams whose time is up.
    /// Returns how many frames were handed over.
    #[inline]
    pub fn collect(&mut self, now: Now, pop: &Pop, snapshot: &Snapshot) -> usize {
        let mut count = 0;
        if let Some(queue) = self.queues.get(self.number).filter(|_| self.queues.len() > 1) {
            let queue = Arc::clone(queue);
            while count < BURST
                && let Some((port, mut frame)) = queue.0.pop()
            {
                count += 1;
                // Read again: a reload may have come in between, and it is cheaper than to carry it.
                match pop.incoming(snapshot, port, &mut frame) {
                    Arrived::Fragment(fragment) => {
                        self.desk.put(arrival(now, snapshot, port), frame, &fragment);
                    }
                    Arrived::Refused(reason) => {
                        self.desk.counters.count_drop(port, None, reason);
                    }
                    Arrived::Whole => {
                        self.desk.counters.count_drop(port, None, DropReason::Fragment);
                    }
                }
            }
        }
        self.desk.expire(now);
        count
    }

    /// The datagrams that became whole since they were last taken out.
    #[inline]
    pub fn wholes(&mut self) -> &mut Wholes {
        &mut self.desk.wholes
    }
}

fn arrival(now: Now, snapshot: &Snapshot, port: PortIndex) -> Arrival {
    let config = snapshot.config.ports.get(usize::from(port.0));
    let side = config.map_or(Side::Both, |port| port.side);
    Arrival { now: now.instant, port, side }
}

impl Desk {
    fn new(
        snapshot: &Snapshot,
        pool: &FramePool,
        limits: &FragmentLimits,
        counters: &Arc<Counters>,
    ) -> Result<Desk, PortsError> {
        let (hash, networks) = (snapshot.fragment_hash.clone(), snapshot.bucket_hash.clone());
        Ok(Desk {
            ledger: Ledger::new(*limits, pool.frame_len_max(), hash, networks),
            table: FragmentTable::new(pool, limits)?,
            wholes: Wholes::new(),
            counters: Arc::clone(counters),
        })
    }

    /// Decides on a fragment, and keeps or frees it.
    fn put(&mut self, at: Arrival, frame: PopFrame, fragment: &Fragment) {
        let counters = &self.counters;
        let finished = match self.ledger.admit(at, fragment, counters) {
            Admitted::Refused => return,
            Admitted::Waits => None,
            Admitted::Completes(finished) => Some(finished),
        };
        let kept = self.table.keep(frame, fragment, at.now);
        let Some(finished) = finished else {
            match kept {
                Kept::Waits => {}
                // Nothing is passed on that the ledger did not find whole.
                Kept::Refused | Kept::Whole(_) | Kept::TooLong => {
                    self.ledger.refused(&fragment.key, counters);
                }
            }
            return;
        };
        let reason = match kept {
            Kept::Whole(mut frame) => {
                if fragment::finish(&mut frame, &finished) {
                    counters.fragments.datagrams.add(1);
                    counters.fragments.fragments.add(finished.fragments as u64);
                    // Emptied before every burst, and each frame of one makes one whole at most.
                    let _ = self.wholes.try_push((finished.port, frame));
                    return;
                }
                DropReason::FragmentConflict
            }
            Kept::TooLong => DropReason::FragmentTooLong,
            Kept::Waits | Kept::Refused => DropReason::FragmentTableFull,
        };
        for _ in 0..finished.fragments {
            counters.count_drop(finished.port, None, reason);
        }
    }

    /// Frees what waited too long: each turn, busy or idle, a bounded number.
    #[inline]
    fn expire(&mut self, now: Now) {
        if !self.ledger.is_empty() || self.table.held() > 0 {
            self.ledger.expire(now.instant, &self.counters);
            self.table.expire(now.instant);
        }
        self.counters.fragments.waiting.set(self.table.held() as u64);
    }
}

/// Frames that a queue holds: 16 bursts.
const QUEUE_FRAMES: usize = 1024;
