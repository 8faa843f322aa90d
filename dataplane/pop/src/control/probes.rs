//! Asks workers for probes, and judges what becomes of them.
//!
//! Each worker makes one probe a second, to one service after the other; before its first the POP
//! is starting. If a probe is dropped, the POP is not ready for services of that kind, until one of
//! the same worker to the same service passes. Reasons that lie with others do not count: a next
//! hop that does not answer (POPs do no health checks of targets, and gateways are looked at by
//! readiness itself), and limits that a flood has used up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyrelay_core::counters::Counters;
use anyrelay_core::net::{MAX_PORTS, PortIndex};
use anyrelay_core::pop::probed;
use anyrelay_core::snapshot::{Service, Snapshot};
use anyrelay_core::verdict::DropReason;

use crate::metrics::ProbeCounts;
use crate::worker::{ProbeDesk, ProbeResult};

/// The probes of all workers.
#[derive(Debug, Default)]
pub(super) struct Probes {
    number: u64,
    workers: Vec<OfWorker>,
}

/// Why services are not ready.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProbeReasons {
    pub(super) all: Vec<String>,
    pub(super) relay: Vec<String>,
    pub(super) tunnel: Vec<String>,
}

#[derive(Debug)]
struct OfWorker {
    /// Where the worker counts probes.
    counters: Arc<Counters>,
    /// Drops for each reason, as they were counted before the newest probe.
    drops: [u64; DropReason::COUNT],
    judged: u64,
    /// Probes in a row without a frame buffer.
    without_buffer: u32,
    /// Why a service's probe was dropped, by name; and whether it is a relay.
    failed: BTreeMap<String, (bool, DropReason)>,
}

impl Probes {
    /// For workers that count probes in `counters`.
    pub(super) fn new(counters: &[Arc<Counters>]) -> Self {
        let worker = |counters: &Arc<Counters>| OfWorker {
            counters: Arc::clone(counters),
            drops: [0; DropReason::COUNT],
            judged: 0,
            without_buffer: 0,
            failed: BTreeMap::new(),
        };
        Probes { number: 0, workers: counters.iter().map(worker).collect() }
    }

    /// Makes room to count probes of the services of `next`, before workers have it.
    pub(super) fn make_room(&self, next: &Snapshot) {
        self.workers.iter().for_each(|worker| worker.counters.make_room(next.slots()));
    }

    /// Forgets what was found with another snapshot.
    pub(super) fn forget(&mut self) {
        for worker in &mut self.workers {
            worker.failed.clear();
        }
    }

    /// Asks for the next probes. Call it about once a second.
    pub(super) fn ask<'a>(&mut self, desks: impl Iterator<Item = &'a ProbeDesk>) {
        self.number += 1;
        desks.for_each(|desk| desk.ask(self.number));
    }

    /// Judges probes that were made since the last call.
    pub(super) fn judge<'a>(
        &mut self,
        snapshot: &Snapshot,
        desks: impl Iterator<Item = &'a ProbeDesk>,
        counts: &[ProbeCounts],
    ) {
        for ((worker, desk), counts) in self.workers.iter_mut().zip(desks).zip(counts) {
            if let Some((number, result)) = desk.newest()
                && number != worker.judged
            {
                worker.judged = number;
                worker.judge(probed(snapshot, number), result, counts);
            }
        }
    }

    /// Whether a worker has not made its first probe.
    pub(super) fn are_due(&self) -> bool {
        self.workers.iter().any(|worker| worker.judged == 0)
    }

    /// Why services are not ready.
    pub(super) fn reasons(&self) -> ProbeReasons {
        let mut reasons = ProbeReasons::default();
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.without_buffer >= WITHOUT_BUFFER_MIN {
                let text = "no frame buffer is free; raise dpdk.mbufs";
                reasons.all.push(format!("worker[{number}]: {text}"));
            }
            for (name, (is_relay, reason)) in &worker.failed {
                let of_kind = if *is_relay { &mut reasons.relay } else { &mut reasons.tunnel };
                let text = reason.text();
                of_kind.push(format!(
                    "worker[{number}] does not forward to {name}: a probe was dropped as {reason}: \
                     {text}"
                ));
            }
        }
        reasons
    }
}

impl OfWorker {
    fn judge(&mut self, service: Option<&Service>, result: ProbeResult, counts: &ProbeCounts) {
        let dropped_as = self.newest_reason();
        let name = service.map(|service| service.name().to_owned()).unwrap_or_default();
        self.without_buffer = match result {
            ProbeResult::NoBuffer => self.without_buffer.saturating_add(1),
            _ => 0,
        };
        let count = match (result, dropped_as) {
            (ProbeResult::Nothing, _) => return,
            (ProbeResult::NoBuffer, _) => &counts.failed,
            (ProbeResult::Dropped, Some(reason)) if !is_of_others(reason) => {
                let is_relay = matches!(service, Some(Service::Relay(_)));
                self.failed.insert(name, (is_relay, reason));
                &counts.failed
            }
            (ProbeResult::Dropped, _) => &counts.excused,
            (ProbeResult::Forwarded, _) => {
                self.failed.remove(&name);
                &counts.forwarded
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// The reason whose count rose since the last call.
    fn newest_reason(&mut self) -> Option<DropReason> {
        let mut newest = None;
        for (before, &reason) in self.drops.iter_mut().zip(DropReason::ALL) {
            let ports = (0..MAX_PORTS as u8).map(PortIndex);
            let count = ports.map(|port| self.counters.drops(port, reason)).sum();
            if count != *before {
                newest = Some(reason);
            }
            *before = count;
        }
        newest
    }
}

/// Whether the cause of such drops is not the POP: the network's, or that of who drained a service.
fn is_of_others(reason: DropReason) -> bool {
    use DropReason::{NeighbourUnresolved, NoTarget, RateNeighbour, RateSynAck};
    matches!(reason, NeighbourUnresolved | NoTarget | RateNeighbour | RateSynAck)
}

/// One may be missing for a moment.
const WITHOUT_BUFFER_MIN: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        counters: Arc<Counters>,
        counts: ProbeCounts,
        probes: Probes,
    }

    impl World {
        fn new() -> World {
            let counters = Arc::new(Counters::new([]));
            let probes = Probes::new(&[Arc::clone(&counters)]);
            World { counters, counts: ProbeCounts::default(), probes }
        }

        fn judge(&mut self, result: ProbeResult, drop: Option<DropReason>) -> ProbeReasons {
            if let Some(reason) = drop {
                self.counters.count_drop(PortIndex(1), None, reason);
            }
            self.probes.workers[0].judge(None, result, &self.counts);
            self.probes.reasons()
        }

        fn counted(&self) -> [u64; 3] {
            let ProbeCounts { forwarded, failed, excused } = &self.counts;
            [forwarded, failed, excused].map(|count| count.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_dropped_probe_is_a_reason_until_one_passes() {
        let mut world = World::new();
        assert_eq!(world.judge(ProbeResult::Forwarded, None), ProbeReasons::default());
        let reasons = world.judge(ProbeResult::Dropped, Some(DropReason::NoRoom));
        let [reason] = &reasons.tunnel[..] else { panic!("{reasons:?}") };
        assert!(reason.starts_with("worker[0] does not forward to "), "{reason}");
        assert!(reason.contains("dropped as no_room"), "{reason}");
        assert_eq!(world.judge(ProbeResult::Nothing, None), reasons);
        assert_eq!(world.judge(ProbeResult::Forwarded, None), ProbeReasons::default());
        assert_eq!(world.counted(), [2, 1, 0]);
        world.judge(ProbeResult::Dropped, Some(DropReason::NoRoom));
        world.probes.forget();
        assert_eq!(world.probes.reasons(), ProbeReasons::default());
    }

    #[test]
    fn silent_neighbours_floods_and_drained_services_are_no_reason() {
        use DropReason::{NeighbourUnresolved, NoTarget, RateNeighbour, RateSynAck};
        let mut world = World::new();
        for reason in [NeighbourUnresolved, RateNeighbour, RateSynAck, NoTarget] {
            let reasons = world.judge(ProbeResult::Dropped, Some(reason));
            assert_eq!(reasons, ProbeReasons::default(), "{reason}");
        }
        assert_eq!(world.counted(), [0, 0, 4]);
    }

    #[test]
    fn two_probes_without_a_buffer_are_a_reason() {
        let mut world = World::new();
        assert_eq!(world.judge(ProbeResult::NoBuffer, None), ProbeReasons::default());
        let reasons = world.judge(ProbeResult::NoBuffer, None);
        assert!(reasons.all[0].contains("no frame buffer is free"), "{reasons:?}");
        assert_eq!(world.judge(ProbeResult::Forwarded, None), ProbeReasons::default());
        assert_eq!(world.counted(), [1, 2, 0]);
    }
}
