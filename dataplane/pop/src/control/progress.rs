//! Whether workers and ports make progress, judged by their counters.
//!
//! A worker is stuck when it has completed no turn of its loop for [`STUCK_AFTER`], seen by at
//! least [`TURNS_MIN`] turns of the control loop, so that a host that stood still as a whole
//! accuses nobody. A port is stuck in a direction when over [`SECONDS_MIN`] samples in a row frames
//! were lost there and none got through. It stays so until one does, or until nothing has been lost
//! for [`FORGET_AFTER`], because a POP that is not ready may have nothing to send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_core::config::Config;
use anyrelay_core::counters::Counters;
use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::DropReason;

use crate::ports::PortSample;

/// The progress of all workers and ports.
#[derive(Debug, Default)]
pub(super) struct Progress {
    workers: Vec<Turns>,
    ports: Vec<[Flow; 2]>,
}

impl Progress {
    /// Takes note of the workers' turns. Call it at each turn of the control loop.
    pub(super) fn see_workers(&mut self, now: Instant, workers: &[Arc<Counters>]) {
        self.workers.resize_with(workers.len(), || Turns::new(now));
        for (turns, counters) in self.workers.iter_mut().zip(workers) {
            let count = counters.idle_polls.get().wrapping_add(counters.busy_polls.get());
            turns.see(now, count);
        }
    }

    /// Takes note of the ports' frames. Call it about once a second.
    pub(super) fn see_ports(
        &mut self,
        now: Instant,
        workers: &[Arc<Counters>],
        samples: &[PortSample],
    ) {
        self.ports.resize_with(samples.len(), Default::default);
        for (index, (flows, sample)) in (0..).zip(self.ports.iter_mut().zip(samples)) {
            let port = PortIndex(index);
            let sum = |of: fn(&Counters, PortIndex) -> u64| {
                workers.iter().map(|counters| of(counters, port)).sum::<u64>()
            };
            let received = sum(|counters, port| counters.port(port).rx.packets.get());
            let sent = sum(|counters, port| counters.port(port).tx.packets.get());
            let unsent = sum(|counters, port| counters.drops(port, DropReason::TxFull));
            let [rx, tx] = flows;
            rx.see(now, received, sample.rx_missed.wrapping_add(sample.rx_no_buffer));
            tx.see(now, sent, unsent);
        }
    }

    /// Whether a worker stands still.
    pub(super) fn is_any_stuck(&self) -> bool {
        self.workers.iter().any(Turns::is_stuck)
    }

    /// What does not make progress, one reason each.
    pub(super) fn reasons(&self, config: &Config) -> Vec<String> {
        let mut reasons = Vec::new();
        for (number, turns) in self.workers.iter().enumerate().filter(|(_, w)| w.is_stuck()) {
            let core = config.workers.get(number).map_or(0, |worker| worker.core);
            let seconds = STUCK_AFTER.as_secs();
            let turns = turns.count;
            reasons.push(format!(
                "worker[{number}] is stuck: no turn of its loop in {seconds} s (after {turns}; \
                 core {core})"
            ));
        }
        for (port, [rx, tx]) in config.ports.iter().zip(&self.ports) {
            let name = &port.name;
            if rx.is_stuck {
                reasons.push(format!("port {name}: no frame reaches a worker, and some are lost"));
            }
            if tx.is_stuck {
                reasons.push(format!("port {name}: it accepts no frame, its TX ring stays full"));
            }
        }
        reasons
    }
}

/// The turns of a worker's loop.
#[derive(Debug)]
struct Turns {
    count: u64,
    since: Instant,
    seen: u32,
    now: Instant,
}

impl Turns {
    fn new(now: Instant) -> Self {
        Turns { count: 0, since: now, seen: 0, now }
    }

    fn see(&mut self, now: Instant, count: u64) {
        self.now = now;
        if count != self.count {
            *self = Turns { count, ..Turns::new(now) };
        } else {
            self.seen = self.seen.saturating_add(1);
        }
    }

    fn is_stuck(&self) -> bool {
        self.seen >= TURNS_MIN && self.now.saturating_duration_since(self.since) >= STUCK_AFTER
    }
}

/// The frames of a port in one direction.
#[derive(Debug, Default)]
struct Flow {
    passed: u64,
    lost: u64,
    /// Samples in a row in which frames were lost and none passed.
    bad: u32,
    lost_at: Option<Instant>,
    is_stuck: bool,
}

impl Flow {
    fn see(&mut self, now: Instant, passed: u64, lost: u64) {
        let (has_passed, has_lost) = (passed != self.passed, lost != self.lost);
        (self.passed, self.lost) = (passed, lost);
        if has_passed {
            (self.bad, self.is_stuck) = (0, false);
        } else if has_lost {
            (self.bad, self.lost_at) = (self.bad.saturating_add(1), Some(now));
            self.is_stuck |= self.bad >= SECONDS_MIN;
        } else {
            self.bad = 0;
            let forgotten = |at| now.saturating_duration_since(at) >= FORGET_AFTER;
            self.is_stuck &= !self.lost_at.is_some_and(forgotten);
        }
    }
}

const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Half of the turns of the control loop in that time.
const TURNS_MIN: u32 = 10;
const SECONDS_MIN: u32 = 2;
const FORGET_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(50);

    #[test]
    fn a_worker_is_stuck_after_a_second_without_a_turn() {
        let start = Instant::now();
        let mut turns = Turns::new(start);
        for turn in 0..100 {
            turns.see(start + turn * TURN, turn.into());
            assert!(!turns.is_stuck(), "{turn}");
        }
        let last = start + 99 * TURN;
        for turn in 1..20 {
            turns.see(last + turn * TURN, 99);
            assert!(!turns.is_stuck(), "{turn}");
        }
        turns.see(last + 20 * TURN, 99);
        assert!(turns.is_stuck());
        turns.see(last + 21 * TURN, 100);
        assert!(!turns.is_stuck());
    }

    #[test]
    fn a_host_that_stood_still_accuses_no_worker() {
        let start = Instant::now();
        let mut turns = Turns::new(start);
        turns.see(start, 7);
        for turn in 0..9 {
            turns.see(start + Duration::from_secs(60) + turn * TURN, 7);
            assert!(!turns.is_stuck(), "{turn}");
        }
    }

    #[test]
    fn a_port_is_stuck_while_frames_are_lost_and_none_pass() {
        let start = Instant::now();
        let second = |s| start + Duration::from_secs(s);
        let mut flow = Flow::default();
        // Some are lost, and others pass.
        for s in 0..5 {
            flow.see(second(s), s + 1, 10 * (s + 1));
            assert!(!flow.is_stuck);
        }
        flow.see(second(5), 5, 60);
        assert!(!flow.is_stuck);
        flow.see(second(6), 5, 61);
        assert!(flow.is_stuck);
        // Nothing is tried: it stays so for a minute.
        flow.see(second(7), 5, 61);
        flow.see(second(65), 5, 61);
        assert!(flow.is_stuck);
        flow.see(second(66), 5, 61);
        assert!(!flow.is_stuck);
        // One passes.
        flow.see(second(67), 5, 62);
        flow.see(second(68), 5, 63);
        assert!(flow.is_stuck);
        flow.see(second(69), 6, 64);
        assert!(!flow.is_stuck);
    }

    #[test]
    fn an_idle_port_is_not_stuck() {
        let (mut flow, start) = (Flow::default(), Instant::now());
        for s in 0..10 {
            flow.see(start + Duration::from_secs(s), 3, 4);
        }
        assert!(!flow.is_stuck);
    }
}
