//! Poll-mode workers: a thread per `[[worker]]`, pinned to its CPU.
//!
//! Each turn of a worker's loop reads the clocks once, takes a new snapshot if control posted one,
//! passes a burst of each of its RX queues to the core, with reassembled datagrams in place of
//! fragments if that is the policy, moves frames that other workers handed over, and sends. Nothing
//! in the loop allocates, locks, logs, waits for another worker or panics; frames that cannot go on
//! are dropped and counted. A worker ends when control stops it, and returns its ports then.

mod idle;
mod mailbox;
mod probe;
mod reassembly;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyrelay_core::config::Idle;
use anyrelay_core::counters::Counters;
use anyrelay_core::pop::Pop;
use anyrelay_core::relay::hints::Hint;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::{Instant, Now, UnixTime};
use crossbeam::queue::ArrayQueue;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::egress::WorkerEgress;
use crate::ports::{FramePool, Frames, RegistrationError, RxQueue};

pub use idle::IdlePolicy;
pub use mailbox::Mailbox;
pub use probe::{ProbeDesk, ProbeResult};
pub use reassembly::{FragmentQueue, WorkerReassembly, assign as assign_fragments};

/// The reason that a worker did not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The thread was not started.
    #[error("worker[{worker}]: no thread: {source}")]
    Thread {
        /// The worker's index in the config.
        worker: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The thread could not be pinned.
    #[error(
        "worker[{worker}].core: CPU {core} cannot be used: {source}; take one that exists and that \
         this process may run on (taskset -p, AllowedCPUs)"
    )]
    Pin {
        /// The worker's index in the config.
        worker: usize,
        /// The configured CPU.
        core: u16,
        /// The system's reason.
        source: rustix::io::Errno,
    },
    /// DPDK refused the thread.
    #[error("worker[{worker}]: {source}")]
    Register {
        /// The worker's index in the config.
        worker: usize,
        /// DPDK's reason.
        source: RegistrationError,
    },
    /// The thread panicked: a bug.
    #[error("worker[{worker}]: the thread panicked")]
    Panicked {
        /// The worker's index in the config.
        worker: usize,
    },
}

/// The clocks of the process: a monotonic clock with one start for all workers, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
    offset_ms: i64,
}

impl Clock {
    /// Starts the monotonic clock. `offset_ms` is added to the system's wall clock, in
    /// milliseconds.
    pub fn start(offset_ms: i64) -> Self {
        Clock { start: std::time::Instant::now(), offset_ms }
    }

    /// The present time by both clocks.
    #[inline]
    pub fn now(&self) -> Now {
        let instant = Instant::from_nanos(self.start.elapsed().as_nanos() as u64);
        Now { instant, unix: unix_now(self.offset_ms) }
    }
}

/// The system's wall clock, with `offset_ms` milliseconds added.
#[inline]
pub fn unix_now(offset_ms: i64) -> UnixTime {
    // A system whose clock is before 1970 is in tick 0.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis((since_1970.as_millis() as u64).saturating_add_signed(offset_ms))
}

/// A worker and all that it owns. It is moved into the worker's thread.
pub struct Worker {
    /// Its index in the config.
    pub number: usize,
    /// The CPU that it is pinned to.
    pub core: u16,
    /// The queues that it polls.
    pub rx: Vec<RxQueue>,
    /// Where it sends.
    pub egress: WorkerEgress,
    /// The core's POP.
    pub pop: Pop,
    /// The snapshot in use until control posts a newer one.
    pub snapshot: Arc<Snapshot>,
    /// Its reassembly, if it reassembles datagrams.
    pub reassembly: Option<WorkerReassembly>,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Where it counts what becomes of probes.
    pub probe_counters: Arc<Counters>,
    /// The policy while nothing arrives.
    pub idle: Idle,
    /// Whether it runs the POP's timers, which one worker does.
    pub has_timers: bool,
    /// What other POPs tell, if this worker takes it.
    pub hints: Option<Arc<ArrayQueue<Hint>>>,
    /// The clock of all workers.
    pub clock: Clock,
    /// The pool of DPDK that the thread registers with.
    pub pool: FramePool,
}

/// Control's side of a running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    number: usize,
    shared: Arc<WorkerState>,
    thread: JoinHandle<Result<(), WorkerError>>,
}

/// The state that control and a worker's thread share.
#[derive(Debug, Default)]
struct WorkerState {
    is_running: AtomicBool,
    stop: AtomicBool,
    mailbox: Mailbox,
    probes: ProbeDesk,
}

impl WorkerHandle {
    /// Whether the worker is in its loop.
    pub fn is_running(&self) -> bool {
        self.shared.is_running.load(Ordering::Acquire) && !self.is_finished()
    }

    /// Whether the worker's thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Posts a snapshot, which the worker takes between two bursts. The caller must hold the
    /// previous snapshot until the worker has released it.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        self.shared.mailbox.post(snapshot);
    }

    /// The probes of the worker.
    pub fn probes(&self) -> &ProbeDesk {
        &self.shared.probes
    }

    /// Makes the worker stop at its next turn.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// The reason that the worker did not run, or that it panicked.
    pub fn join(self) -> Result<(), WorkerError> {
        let worker = self.number;
        self.thread.join().unwrap_or(Err(WorkerError::Panicked { worker }))
    }
}

impl Worker {
    /// Starts the worker's thread.
    ///
    /// # Errors
    /// When the system starts no thread. Later errors are returned by [`WorkerHandle::join`].
    pub fn spawn(self) -> Result<WorkerHandle, WorkerError> {
        let number = self.number;
        let shared = Arc::new(WorkerState::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || self.run(&of_thread))
            .map_err(|source| WorkerError::Thread { worker: number, source })?;
        Ok(WorkerHandle { number, shared, thread })
    }

    fn run(mut self, shared: &WorkerState) -> Result<(), WorkerError> {
        let worker = self.number;
        pin(self.core).map_err(|source| WorkerError::Pin { worker, core: self.core, source })?;
        let registration = self
            .pool
            .register_thread()
            .map_err(|source| WorkerError::Register { worker, source })?;
        let mut idle = IdlePolicy::new(self.idle);
        shared.is_running.store(true, Ordering::Release);
        self.poll_until_stopped(shared, &mut idle);
        self.egress.flush();
        // Frames and queues are freed while the thread is registered with DPDK.
        drop(self);
        drop(registration);
        Ok(())
    }

    fn poll_until_stopped(&mut self, shared: &WorkerState, idle: &mut IdlePolicy) {
        let mut frames = Frames::new();
        let mut timers_due = self.clock.now().instant;
        while !shared.stop.load(Ordering::Relaxed) {
            if let Some(snapshot) = shared.mailbox.take() {
                // Control keeps the previous one, so that nothing is freed here.
                self.snapshot = snapshot;
                // Targets that are new on a link are asked for before there is traffic.
                timers_due = Instant::default();
            }
            let now = self.clock.now();
            let received = self.receive(now, &mut frames);
            if self.has_timers && now.instant >= timers_due {
                timers_due = now.instant.plus_millis(TIMER_MS);
                self.pop.poll(now, &self.snapshot, &mut self.egress);
            }
            self.take_hints(now);
            if let Some(number) = shared.probes.due() {
                shared.probes.answer(number, self.probe(now, number, &mut frames));
            }
            let collected = self.collect_fragments(now, &mut frames) + self.egress.collect();
            self.egress.flush();
            if received > 0 {
                self.counters.busy_polls.add(1);
            } else {
                self.counters.idle_polls.add(1);
            }
            if received + collected > 0 { idle.reset() } else { idle.wait() }
        }
    }

    /// Passes one burst of each RX queue to the core. Returns the number of frames.
    #[inline]
    fn receive(&mut self, now: Now, frames: &mut Frames) -> usize {
        let mut received = 0;
        for index in 0..self.rx.len() {
            let Some(queue) = self.rx.get_mut(index) else { break };
            let count = queue.receive(frames, &self.counters);
            if count > 0 {
                let port = queue.port();
                if let Some(reassembly) = &mut self.reassembly {
                    reassembly.take(now, &self.pop, &self.snapshot, port, frames);
                }
                self.pop.handle_burst(now, &self.snapshot, port, frames, &mut self.egress);
                // The core drains all of them; if it ever did not, they must not accumulate.
                frames.clear();
            }
            received += count;
            self.handle_reassembled(now, frames);
        }
        received
    }

    /// Passes hints of other POPs to the core, a bounded number in each turn.
    #[inline]
    fn take_hints(&mut self, now: Now) {
        let Some(hints) = &self.hints else { return };
        for _ in 0..HINTS_AT_ONCE {
            let Some(hint) = hints.pop() else { return };
            self.pop.take_hint(now, &self.snapshot, &hint, &mut self.egress);
        }
    }

    /// Accepts fragments that other workers handed over, and removes expired ones. Returns the
    /// number of the former.
    #[inline]
    fn collect_fragments(&mut self, now: Now, frames: &mut Frames) -> usize {
        let Some(reassembly) = &mut self.reassembly else { return 0 };
        let count = reassembly.collect(now, &self.pop, &self.snapshot);
        self.handle_reassembled(now, frames);
        count
    }

    /// Passes reassembled datagrams to the core. `frames` is empty before and after.
    #[inline]
    fn handle_reassembled(&mut self, now: Now, frames: &mut Frames) {
        let Some(reassembly) = &mut self.reassembly else { return };
        let reassembled = reassembly.reassembled();
        // Each turn removes all datagrams that enter through one port.
        while let Some(&(port, _)) = reassembled.first() {
            for at in (0..reassembled.len()).rev() {
                if reassembled.get(at).is_some_and(|(other, _)| *other == port) {
                    let (_, frame) = reassembled.remove(at);
                    let _ = frames.try_push(frame);
                }
            }
            // They were removed backwards; the core gets them in the order of their completion.
            frames.reverse();
            self.pop.handle_burst(now, &self.snapshot, port, frames, &mut self.egress);
            frames.clear();
        }
    }
}

/// Pins the calling thread to a CPU.
fn pin(core: u16) -> Result<(), rustix::io::Errno> {
    let mut cpus = CpuSet::new();
    let core = usize::from(core);
    if core >= CpuSet::MAX_CPU {
        return Err(rustix::io::Errno::INVAL);
    }
    cpus.set(core);
    sched_setaffinity(None, &cpus)
}

/// Hints that are taken in one turn.
const HINTS_AT_ONCE: usize = 32;

/// How often timers run, in milliseconds.
const TIMER_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        // The test's own affinity must not change, so that another thread is pinned.
        let result = thread::spawn(|| pin(1000)).join().unwrap();
        assert_eq!(result, Err(rustix::io::Errno::INVAL));
        assert_eq!(thread::spawn(|| pin(u16::MAX)).join().unwrap(), Err(rustix::io::Errno::INVAL));
    }
}
