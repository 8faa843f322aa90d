//! Probes: segments that a worker passes through its own path, to prove that it forwards.
//!
//! Control asks for a probe by its number, and the worker makes the frame and takes it through the
//! core with its snapshot, like one that it received. No port sends it ([`WorkerEgress`]), and it
//! is counted apart. This costs a worker two loads in each turn, and a microsecond for a probe.
//!
//! [`WorkerEgress`]: crate::egress::WorkerEgress

use std::sync::atomic::{AtomicU64, Ordering};

use anyrelay_core::time::Now;

use super::Worker;
use crate::ports::Frames;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It was forwarded or answered.
    Forwarded,
    /// It was dropped.
    Dropped,
    /// There was no free frame buffer.
    NoBuffer,
    /// There is nothing to probe: no service, or no address that the config takes for a client's.
    Nothing,
}

/// Control's questions and a worker's answers.
#[derive(Debug, Default)]
pub struct ProbeDesk {
    /// The number of the newest probe that is wanted.
    wanted: AtomicU64,
    /// The number of the newest probe that was made, times [`RESULTS`], and its result.
    made: AtomicU64,
}

impl ProbeDesk {
    /// Asks for the probe of this number, which is higher than those before.
    pub fn ask(&self, number: u64) {
        self.wanted.store(number, Ordering::Release);
    }

    /// The newest probe that was made, and its result; `None` before the first.
    pub fn newest(&self) -> Option<(u64, ProbeResult)> {
        let made = self.made.load(Ordering::Acquire);
        let result = match made % RESULTS {
            0 => ProbeResult::Forwarded,
            1 => ProbeResult::Dropped,
            2 => ProbeResult::NoBuffer,
            _ => ProbeResult::Nothing,
        };
        (made >= RESULTS).then_some((made / RESULTS, result))
    }

    /// The probe that is to be made. Only the worker calls it.
    #[inline]
    pub(super) fn due(&self) -> Option<u64> {
        let wanted = self.wanted.load(Ordering::Acquire);
        (wanted != self.made.load(Ordering::Relaxed) / RESULTS).then_some(wanted)
    }

    /// Gives the result of a probe. Only the worker calls it.
    pub(super) fn answer(&self, number: u64, result: ProbeResult) {
        self.made.store(number * RESULTS + result as u64, Ordering::Release);
    }
}

impl Worker {
    /// Makes the probe of this number. `frames` is empty before and after.
    #[cold]
    #[inline(never)]
    pub(super) fn probe(&mut self, now: Now, number: u64, frames: &mut Frames) -> ProbeResult {
        let Some(mut frame) = self.pool.allocate() else { return ProbeResult::NoBuffer };
        let Some(port) = self.pop.write_probe(&self.snapshot, number, &mut frame) else {
            return ProbeResult::Nothing;
        };
        let _ = frames.try_push(frame);
        self.pop.swap_counters(&mut self.probe_counters);
        self.egress.begin_probe();
        self.pop.handle_burst(now, &self.snapshot, port, frames, &mut self.egress);
        frames.clear();
        let sent = self.egress.end_probe();
        self.pop.swap_counters(&mut self.probe_counters);
        if sent > 0 { ProbeResult::Forwarded } else { ProbeResult::Dropped }
    }
}

/// More than there are results.
const RESULTS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_is_made_once_and_answered() {
        let desk = ProbeDesk::default();
        assert_eq!((desk.due(), desk.newest()), (None, None));
        let results = [
            ProbeResult::Forwarded,
            ProbeResult::Dropped,
            ProbeResult::NoBuffer,
            ProbeResult::Nothing,
        ];
        for (number, result) in (1..).zip(results) {
            desk.ask(number);
            assert_eq!(desk.due(), Some(number));
            desk.answer(number, result);
            assert_eq!((desk.due(), desk.newest()), (None, Some((number, result))));
        }
    }
}
