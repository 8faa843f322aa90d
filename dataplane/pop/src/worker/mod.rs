//! Poll-mode workers: a thread per `[[worker]]`, pinned to its CPU.
//!
//! Each turn of a worker's loop reads the clocks once, takes a new snapshot if control posted one,
//! hands a burst of each of its RX queues to the core, with datagrams in the place of fragments where
//! they are put together, moves what others handed over, and sends.
//! In the loop nothing allocates, locks, logs, waits for another worker or panics; what cannot go
//! on is dropped and counted. A worker ends when it is told to stop, and gives its ports back then.

mod idle;
mod mailbox;
mod reassembly;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use anyrelay_core::config::Idle;
use anyrelay_core::counters::Counters;
use anyrelay_core::pop::Pop;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::{Instant, Now, UnixTime};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::egress::Egress;
use crate::ports::{FramePool, Frames, RegistrationError, RxQueue};

pub use idle::IdlePolicy;
pub use mailbox::Mailbox;
pub use reassembly::{FragmentQueue, Reassembly, assign as assign_fragments};

/// Why a worker did not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The thread was not started.
    #[error("worker[{worker}]: no thread: {source}")]
    Thread {
        /// The worker's number.
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
        /// The worker's number.
        worker: usize,
        /// The CPU asked for.
        core: u16,
        /// The system's reason.
        source: rustix::io::Errno,
    },
    /// DPDK refused the thread.
    #[error("worker[{worker}]: {source}")]
    Register {
        /// The worker's number.
        worker: usize,
        /// DPDK's reason.
        source: RegistrationError,
    },
    /// The thread panicked, which is a bug.
    #[error("worker[{worker}]: the thread panicked")]
    Panicked {
        /// The worker's number.
        worker: usize,
    },
}

/// The clocks of a process: the monotonic one from one start for all workers, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
    offset_ms: i64,
}

impl Clock {
    /// Clocks that start now. `offset_ms` is added to the system's wall clock.
    pub fn start(offset_ms: i64) -> Self {
        Clock { start: std::time::Instant::now(), offset_ms }
    }

    /// What both say now.
    #[inline]
    pub fn now(&self) -> Now {
        let instant = Instant::from_nanos(self.start.elapsed().as_nanos() as u64);
        Now { instant, unix: unix_now(self.offset_ms) }
    }
}

/// The system's wall clock, with `offset_ms` added.
#[inline]
pub fn unix_now(offset_ms: i64) -> UnixTime {
    // A system whose clock says that it is before 1970 is in tick 0.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_millis((since_1970.as_millis() as u64).saturating_add_signed(offset_ms))
}

/// All that a worker works with. It is moved into the worker's thread.
pub struct Worker {
    /// Its number: its place in the config.
    pub number: usize,
    /// The CPU that it is pinned to.
    pub core: u16,
    /// The queues that it polls.
    pub rx: Vec<RxQueue>,
    /// Its ways out.
    pub egress: Egress,
    /// The engine.
    pub pop: Pop,
    /// What the engine goes by until control posts a newer one.
    pub snapshot: Arc<Snapshot>,
    /// What it puts together out of fragments, if anything.
    pub reassembly: Option<Reassembly>,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// What it does when nothing arrives.
    pub idle: Idle,
    /// Whether it runs the POP's timers; one worker does.
    pub has_timers: bool,
    /// The clock of all workers.
    pub clock: Clock,
    /// DPDK, to register with.
    pub pool: FramePool,
}

/// Control's side of a running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    number: usize,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), WorkerError>>,
}

/// What control and a worker's thread share.
#[derive(Debug, Default)]
struct Shared {
    is_running: AtomicBool,
    stop: AtomicBool,
    mailbox: Mailbox,
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

    /// Posts a snapshot; the worker takes it between two bursts. The caller keeps a handle on the
    /// snapshot before, until the worker has let go of it.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        self.shared.mailbox.post(snapshot);
    }

    /// Tells the worker to stop; it does so at its next turn.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
    }

    /// Waits for the thread's end.
    ///
    /// # Errors
    /// Why it did not run, or that it panicked.
    pub fn join(self) -> Result<(), WorkerError> {
        let worker = self.number;
        self.thread.join().unwrap_or(Err(WorkerError::Panicked { worker }))
    }
}

impl Worker {
    /// Starts the worker's thread.
    ///
    /// # Errors
    /// When the system gives no thread. What happens later is told by [`WorkerHandle::join`].
    pub fn spawn(self) -> Result<WorkerHandle, WorkerError> {
        let number = self.number;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || self.run(&of_thread))
            .map_err(|source| WorkerError::Thread { worker: number, source })?;
        Ok(WorkerHandle { number, shared, thread })
    }

    fn run(mut self, shared: &Shared) -> Result<(), WorkerError> {
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
        // Frames and queues go back while DPDK still knows the thread.
        drop(self);
        drop(registration);
        Ok(())
    }

    fn poll_until_stopped(&mut self, shared: &Shared, idle: &mut IdlePolicy) {
        let mut frames = Frames::new();
        let mut timers_due = self.clock.now().instant;
        while !shared.stop.load(Ordering::Relaxed) {
            if let Some(snapshot) = shared.mailbox.take() {
                // Control keeps the one before, so nothing is freed here.
                self.snapshot = snapshot;
            }
            let now = self.clock.now();
            let received = self.receive(now, &mut frames);
            if self.has_timers && now.instant >= timers_due {
                timers_due = now.instant.plus_millis(TIMER_MS);
                self.pop.poll(now, &mut self.egress);
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

    /// One burst of each RX queue, through the engine. Returns the number of frames.
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
                // The engine drains them all; were it ever not to, they must not pile up.
                frames.clear();
            }
            received += count;
            self.handle_wholes(now, frames);
        }
        received
    }

    /// Takes fragments that other workers handed over, and gives up those that waited too long.
    /// Returns how many there were.
    #[inline]
    fn collect_fragments(&mut self, now: Now, frames: &mut Frames) -> usize {
        let Some(reassembly) = &mut self.reassembly else { return 0 };
        let count = reassembly.collect(now, &self.pop, &self.snapshot);
        self.handle_wholes(now, frames);
        count
    }

    /// Datagrams that were put together, through the engine. `frames` is empty before and after.
    #[inline]
    fn handle_wholes(&mut self, now: Now, frames: &mut Frames) {
        let Some(reassembly) = &mut self.reassembly else { return };
        let wholes = reassembly.wholes();
        // Each turn takes out all that came in through one port.
        while let Some(&(port, _)) = wholes.first() {
            for at in (0..wholes.len()).rev() {
                if wholes.get(at).is_some_and(|(other, _)| *other == port) {
                    let (_, frame) = wholes.remove(at);
                    let _ = frames.try_push(frame);
                }
            }
            // Backwards out, and forwards in again: in the order in which they became whole.
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

/// How often timers run, in milliseconds.
const TIMER_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        // The test's own affinity must survive: pin a thread of its own.
        let result = thread::spawn(|| pin(1000)).join().unwrap();
        assert_eq!(result, Err(rustix::io::Errno::INVAL));
        assert_eq!(thread::spawn(|| pin(u16::MAX)).join().unwrap(), Err(rustix::io::Errno::INVAL));
    }
}
