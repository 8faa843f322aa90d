//! The control plane: starts, reloads, monitors and stops the POP.
//!
//! The order of the start is: config and keys, the metrics listener's address, signals, DPDK and
//! ports, workers, HTTP. All of it runs on the calling thread, which also writes every log line,
//! and opens and closes DPDK. The POP is ready when all workers run and make progress, as do its
//! ports, all links are up, a gateway of each side and family answers, and it is not draining; and
//! for tunnels, when the wall clock is accurate enough.

mod clock;
mod error;
mod gateways;
mod links;
mod load;
mod probes;
mod progress;
mod queues;
mod reload;
pub mod signals;
mod start;
mod targets;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyrelay_core::counters::Counters;
use anyrelay_core::net::{MAX_PORTS, PortIndex};
use anyrelay_core::pop::SoftState;
use anyrelay_core::problem::Problem;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::verdict::DropReason;
use crossbeam::channel::{Receiver, RecvTimeoutError};

use crate::hints::HintExchange;
use crate::metrics::{Readiness, Sample, Telemetry};
use crate::ports::{FramePool, PortHandle};
use crate::worker::{Clock, FragmentQueue, WorkerHandle};
use clock::ClockWatch;
use gateways::GatewayWatch;
use links::LinkWatch;
use probes::Probes;
use progress::Progress;
use queues::QueueWatch;
use reload::Published;
use signals::Event;
use targets::TargetsWatch;
use watch::DropWatch;

pub use error::RunError;
pub use load::{FILE_MAX, Files, Loaded, load, load_offline, parse_keys, parse_tenants, read};

/// The options of `run`.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The config's path.
    pub config: PathBuf,
    /// Whether a reload may break established connections.
    pub breaks_connections: bool,
}

/// Runs a POP until it is stopped.
///
/// # Errors
/// When it does not start, or a worker ends early. The parts that run are stopped first.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let mut running = start::start(options)?;
    let result = running.serve();
    let stopped = running.shut_down();
    // The worker's error has more information than the fact that it ended.
    stopped.and(result)
}

/// A running POP.
struct Running {
    options: RunOptions,
    /// The files of the snapshot that runs, for when those of targets change.
    files: Files,
    targets: TargetsWatch,
    events: Receiver<Event>,
    published: Published,
    soft: Arc<SoftState>,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    watch: DropWatch,
    queue_watch: QueueWatch,
    links: LinkWatch,
    gateways: GatewayWatch,
    wall_clock: ClockWatch,
    progress: Progress,
    probes: Probes,
    workers: Vec<WorkerHandle>,
    /// The exchange of hints with other POPs, if there are any.
    hints: Option<HintExchange>,
    /// The queues between workers; their frames must be freed before the pool.
    fragment_queues: Vec<Arc<FragmentQueue>>,
    /// The end of the drain, once a stop was requested.
    drain_until: Option<Instant>,
    // Dropped in this order, after the workers.
    ports: Vec<PortHandle>,
    pool: FramePool,
}

impl Running {
    /// Runs the control loop until the POP is drained or a worker ends.
    fn serve(&mut self) -> Result<(), RunError> {
        let mut second = Instant::now();
        let mut links_due = second;
        loop {
            match self.events.recv_timeout(TICK) {
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Stop) => self.begin_drain(),
                Err(RecvTimeoutError::Timeout) => {}
                // If the signal thread ended, the loop must not spin.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            }
            self.telemetry.beat();
            self.published.free_retired();
            if let Some(worker) = self.workers.iter().position(WorkerHandle::is_finished) {
                return Err(RunError::Ended { worker });
            }
            if let Some(port) = self.ports.iter().find(|port| port.is_removal_requested()) {
                return Err(RunError::Removed { port: port.name.clone() });
            }
            let now = Instant::now();
            self.progress.see_workers(now, &self.telemetry.counters);
            let links_changed = now >= links_due && {
                links_due = now + LINKS_INTERVAL;
                self.links.observe(&self.ports)
            };
            if self.observe_gateways(now) || links_changed {
                self.telemetry.set_sample(self.sample());
            }
            if now >= second {
                second = now + SECOND;
                self.observe(now);
                if self.targets.has_changed() {
                    self.reload_targets();
                }
            }
            let desks = self.workers.iter().map(WorkerHandle::probes);
            self.probes.judge(self.published.newest(), desks, &self.telemetry.probes);
            self.tell_readiness();
            if self.drain_until.is_some_and(|until| now >= until) {
                return Ok(());
            }
        }
    }

    /// Samples DPDK's counters, and logs warnings for the operator.
    fn observe(&mut self, now: Instant) {
        let sample = self.sample();
        for single in self.queue_watch.due(&sample.ports) {
            single.log(self.ports.get(single.port).map_or("?", |port| &port.name));
        }
        self.progress.see_ports(now, &self.telemetry.counters, &sample.ports);
        self.telemetry.set_sample(sample);
        self.ask_clock(now);
        let snapshot = self.published.newest();
        self.probes.ask(self.workers.iter().map(WorkerHandle::probes));
        for warning in self.watch.due(now, snapshot, &self.telemetry.counters) {
            warning.log();
        }
    }

    fn observe_gateways(&mut self, now: Instant) -> bool {
        let (at, links) = (self.clock.now().instant, &self.soft.links);
        let ports = &self.published.newest().config.ports;
        self.gateways.observe(now, ports, &links.gateways(at), &links.cut_off_gateways(at))
    }

    fn sample(&self) -> Sample {
        Sample {
            ports: self.ports.iter().map(PortHandle::sample).collect(),
            links: self.links.samples(),
            gateways: self.gateways.samples(),
            buffers: self.pool.capacity(),
            buffers_free: self.pool.available(),
        }
    }

    /// Queries the error of the kernel's clock, if the config requires it.
    fn ask_clock(&mut self, now: Instant) {
        self.wall_clock.ask(&self.published.newest().config, now);
        self.telemetry.set_clock(self.wall_clock.state);
    }

    fn tell_readiness(&self) {
        if self.drain_until.is_none() && self.probes.are_due() && !self.progress.is_any_stuck() {
            // A worker that stands still from the start is a reason of its own.
            return;
        }
        let config = &self.published.newest().config;
        let mut readiness = Readiness {
            all: self.unready(),
            has_relays: !config.relays.is_empty(),
            has_tunnels: !config.tunnels.is_empty(),
            ..Readiness::default()
        };
        if self.drain_until.is_none() {
            let probes = self.probes.reasons();
            readiness.all.extend(probes.all);
            readiness.relay = probes.relay;
            readiness.tunnel = probes.tunnel;
            readiness.relay.extend(self.wall_clock.relay_doubt.clone());
            readiness.tunnel.extend(self.wall_clock.doubt.clone());
        }
        let text = readiness.reasons().collect::<Vec<_>>().join("; ");
        if !self.telemetry.set_readiness(readiness) {
            return;
        }
        if text.is_empty() {
            tracing::info!("ready");
        } else {
            tracing::info!(because = text, "not ready");
        }
    }

    /// The reasons why the POP is not ready for any service; empty when it is.
    fn unready(&self) -> Vec<String> {
        if self.drain_until.is_some() {
            return vec!["draining".to_owned()];
        }
        let mut reasons = Vec::new();
        for (number, worker) in self.workers.iter().enumerate() {
            if !worker.is_running() {
                reasons.push(format!("worker[{number}] is not running"));
            }
        }
        reasons.extend(self.links.reasons());
        let snapshot = self.published.newest();
        for (port, gateway) in self.soft.links.cut_off_gateways(self.clock.now().instant) {
            let port = snapshot.config.ports.get(usize::from(port.0));
            let name = port.map_or("?", |port| port.name.as_str());
            let how = if gateway.is_ipv4() { "ARP" } else { "neighbour discovery" };
            reasons.push(format!("port {name}: gateway {gateway} does not answer {how}"));
        }
        reasons.extend(self.progress.reasons(&snapshot.config));
        reasons
    }

    /// Loads the files again, or logs why they are refused.
    fn reload(&mut self) {
        let running = Arc::clone(self.published.newest());
        let may_break = self.options.breaks_connections;
        match reload::prepare(&self.options.config, &running, may_break) {
            Ok(Loaded { files, snapshot, targets }) => {
                (self.files, self.targets) = (files, targets);
                self.publish(snapshot);
                self.telemetry.reloads_done.fetch_add(1, Ordering::Relaxed);
                let next = self.published.newest();
                let (services, tunnels) = (next.config.relays.len(), next.config.tunnels.len());
                let digest = next.digest();
                tracing::info!(services, tunnels, digest, before = running.digest(), "reloaded");
            }
            Err(refusal) => {
                self.refuse(refusal.problems());
                tracing::error!("reload refused; the running config stays in place");
            }
        }
    }

    /// Loads the targets files again, of which one changed.
    fn reload_targets(&mut self) {
        let running = Arc::clone(self.published.newest());
        match reload::prepare_targets(&self.files, &running) {
            Ok((next, late)) => {
                for problem in &late {
                    tracing::error!("{problem}");
                }
                if !late.is_empty() {
                    self.telemetry.late_targets.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("targets changed late; connections may break");
                }
                self.publish(next);
                self.telemetry.reloads_done.fetch_add(1, Ordering::Relaxed);
                let next = self.published.newest();
                let (digest, before) = (next.targets_digest(), running.targets_digest());
                tracing::info!(digest, before, "targets reloaded");
            }
            Err(problems) => {
                self.refuse(&problems.0);
                tracing::error!("targets refused; those that run stay in place");
            }
        }
    }

    fn refuse(&self, problems: &[Problem]) {
        for problem in problems {
            tracing::error!("{problem}");
        }
        self.telemetry.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives workers and all others the next snapshot.
    fn publish(&mut self, next: Snapshot) {
        let next = Arc::new(next);
        for warning in &next.config.warnings {
            tracing::warn!("{warning}");
        }
        self.published.replace(Arc::clone(&next));
        self.telemetry.counters.iter().for_each(|counters| counters.make_room(next.slots()));
        self.probes.make_room(&next);
        self.probes.forget();
        for worker in &self.workers {
            worker.post(Arc::clone(&next));
        }
        if let Some(hints) = &self.hints {
            hints.post(Arc::clone(&next));
        }
        self.telemetry.set_snapshot(next);
        // It may be the first config with tunnels.
        self.ask_clock(Instant::now());
    }

    /// Starts the drain: the POP is not ready, and forwards for a while. A second request stops at
    /// once.
    fn begin_drain(&mut self) {
        let now = Instant::now();
        if self.drain_until.is_some() {
            tracing::info!("stopping now");
            self.drain_until = Some(now);
            return;
        }
        let seconds = self.published.newest().config.pop.drain_seconds;
        tracing::info!(seconds, "draining");
        self.drain_until = Some(now + Duration::from_secs(seconds.into()));
    }

    /// Stops workers, then closes ports and DPDK.
    fn shut_down(self) -> Result<(), RunError> {
        self.telemetry.set_readiness(Readiness::none("stopped"));
        if let Some(hints) = self.hints {
            hints.stop();
        }
        let result = start::stop_workers(self.workers);
        let unsent: usize = self.telemetry.queues.iter().map(|queue| queue.discard()).sum();
        let handed_over: usize = self.fragment_queues.iter().map(|queue| queue.discard()).sum();
        // The worker has freed the fragments of incomplete datagrams.
        let waited =
            self.telemetry.counters.iter().map(|counters| counters.fragments.waiting.get());
        let fragments = handed_over as u64 + waited.sum::<u64>();
        drop(self.ports);
        drop(self.pool);
        if result.is_ok() {
            let Totals { received, forwarded, sent, dropped } =
                Totals::of(&self.telemetry.counters);
            tracing::info!(received, forwarded, sent, dropped, unsent, fragments, "stopped");
        }
        Ok(result?)
    }
}

/// Packets of the whole run; exact after all workers have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    received: u64,
    forwarded: u64,
    sent: u64,
    dropped: u64,
}

impl Totals {
    fn of(workers: &[Arc<Counters>]) -> Totals {
        let mut totals = Totals::default();
        for counters in workers {
            for port in (0..MAX_PORTS as u8).map(PortIndex) {
                totals.received += counters.port(port).rx.packets.get();
                totals.sent += counters.port(port).tx.packets.get();
                let drops = DropReason::ALL.iter().map(|&reason| counters.drops(port, reason));
                totals.dropped += drops.sum::<u64>();
            }
            for service in counters.services() {
                totals.forwarded += service.up.packets.get() + service.down.packets.get();
            }
        }
        totals
    }
}

/// The maximum interval of the control loop.
const TICK: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// How often links are looked at.
const LINKS_INTERVAL: Duration = Duration::from_millis(200);
