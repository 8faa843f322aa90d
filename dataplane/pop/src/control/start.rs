//! Starts a POP step by step, and stops its workers.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_core::config::{Config, Fragments, Isa};
use anyrelay_core::counters::Counters;
use anyrelay_core::pop::{Pop, SoftState};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::wire::MacAddr;

use super::clock::ClockWatch;
use super::error::{RunError, START_MAX};
use super::gateways::GatewayWatch;
use super::links::LinkWatch;
use super::probes::Probes;
use super::progress::Progress;
use super::queues::QueueWatch;
use super::reload::Published;
use super::watch::DropWatch;
use super::{Loaded, RunOptions, Running, load, signals};
use crate::egress::{self, Ownership, WorkerEgress};
use crate::hints::{self, HintExchange, HintQueues};
use crate::metrics::{self, Build, Telemetry};
use crate::ports::{self, FramePool, OpenedPorts, RxQueue};
use crate::worker::{
    self, Clock, FragmentQueue, Worker, WorkerError, WorkerHandle, WorkerReassembly,
};

/// Runs all steps before the control loop.
pub(super) fn start(options: RunOptions) -> Result<Running, RunError> {
    let Loaded { files, snapshot, targets } = load(&options.config, None)?;
    let snapshot = Arc::new(snapshot);
    for warning in &snapshot.config.warnings {
        tracing::warn!("{warning}");
    }
    check_instructions(snapshot.config.instructions)?;
    let listener = listen(&snapshot.config)?;
    let hint_socket = listen_for_hints(&snapshot.config)?;
    // Before DPDK creates threads, so that they inherit the signal mask.
    let events =
        signals::listen().map_err(|source| RunError::Thread { what: "signal handlers", source })?;
    log_start(&snapshot);

    let config = &snapshot.config;
    let rings = egress::rings_wanted(config.layout, config.workers.len());
    let opened = ports::open(config, rings)?;
    let in_ports = opened.buffers_wanted(config.workers.len());
    let OpenedPorts { pool, ports, rx, tx } = opened;
    for port in &ports {
        tracing::info!(port = port.name, "open: {}", port.describe());
        if let Some(warning) = port.spreading_doubt() {
            tracing::warn!(port = port.name, "{warning}");
        }
    }
    let counters_for_all = || -> Vec<Arc<Counters>> {
        let counters = || Arc::new(Counters::new(snapshot.slots()));
        config.workers.iter().map(|_| counters()).collect()
    };
    let (counters, probe_counters) = (counters_for_all(), counters_for_all());
    let ring_counts: Vec<_> = tx.iter().map(Vec::len).collect();
    let ownerships = egress::plan(config.layout, &ring_counts, &receives(config));
    log_ownership(config, &ownerships);
    let hint_queues = HintQueues::default();
    let (egresses, queues) =
        egress::assign(tx, &ownerships, &pool, &counters, &hint_queues.outgoing);

    let macs: Vec<MacAddr> = ports.iter().map(|port| port.mac).collect();
    let soft = Arc::new(SoftState::new(&snapshot, &macs));
    let clock = Clock::start(snapshot.config.pop.clock_offset_ms);
    let parts = Parts {
        snapshot: &snapshot,
        soft: &soft,
        counters: &counters,
        probe_counters: &probe_counters,
        pool: &pool,
        hints: &hint_queues,
        clock,
    };
    let (reassemblies, fragment_queues) = worker::assign_fragments(&snapshot, &pool, &counters)?;
    let in_queues = queues.iter().map(|queue| queue.capacity()).sum::<usize>();
    warn_of_few_buffers(config, in_ports + in_queues, &fragment_queues);
    let ways = egresses.into_iter().zip(reassemblies).collect();
    let workers = parts.start_workers(rx, ways)?;

    let build = Build { dpdk: ports::dpdk_version(), isa: snapshot.isa() };
    let telemetry =
        Telemetry::new(Arc::clone(&snapshot), Arc::clone(&soft), counters, queues, build);
    let telemetry = Arc::new(telemetry);
    let hints = match exchange_hints(hint_socket, &snapshot, &hint_queues, &telemetry) {
        Ok(hints) => hints,
        Err(error) => {
            stop_workers(workers)?;
            return Err(error);
        }
    };
    let links = LinkWatch::new(&snapshot.config.ports);
    let published = Published::new(snapshot);
    let running = Running {
        options,
        files,
        targets,
        events,
        published,
        soft,
        clock,
        telemetry,
        watch: DropWatch::default(),
        queue_watch: QueueWatch::default(),
        links,
        gateways: GatewayWatch::default(),
        wall_clock: ClockWatch::default(),
        progress: Progress::default(),
        probes: Probes::new(&probe_counters),
        workers,
        hints,
        fragment_queues,
        drain_until: None,
        ports,
        pool,
    };
    running.serve_http(listener)
}

impl Running {
    fn serve_http(self, listener: Option<TcpListener>) -> Result<Self, RunError> {
        let Some(listener) = listener else { return Ok(self) };
        match metrics::serve(listener, &self.telemetry) {
            Ok(()) => Ok(self),
            Err(source) => {
                self.shut_down()?;
                Err(RunError::Thread { what: "HTTP threads", source })
            }
        }
    }
}

fn listen(config: &Config) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = config.metrics_listen else { return Ok(None) };
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(RunError::Listen { address, source }),
    }
}

/// Opens the socket for hints, if the config has peers.
fn listen_for_hints(config: &Config) -> Result<Option<UdpSocket>, RunError> {
    let Some(hints) = &config.hints else { return Ok(None) };
    match hints::bind(hints) {
        Ok(socket) => Ok(Some(socket)),
        Err(source) => Err(RunError::Hints { address: hints.listen, source }),
    }
}

/// Starts the exchange of hints at `socket`, if there is one.
fn exchange_hints(
    socket: Option<UdpSocket>,
    snapshot: &Arc<Snapshot>,
    queues: &HintQueues,
    telemetry: &Telemetry,
) -> Result<Option<HintExchange>, RunError> {
    let (Some(socket), Some(config)) = (socket, &snapshot.config.hints) else { return Ok(None) };
    let traffic = &telemetry.hints;
    let exchange = HintExchange::start(socket, config, queues, traffic, snapshot);
    exchange.map(Some).map_err(|source| RunError::Thread { what: "thread for hints", source })
}

/// For each worker and port, whether the worker receives from the port.
fn receives(config: &Config) -> Vec<Vec<bool>> {
    let ports = 0..config.ports.len();
    let worker = |worker: &anyrelay_core::config::WorkerConfig| {
        let polls = |port| worker.rx.iter().any(|queue| usize::from(queue.port.0) == port);
        ports.clone().map(polls).collect()
    };
    config.workers.iter().map(worker).collect()
}

/// The parts shared by all workers.
struct Parts<'a> {
    snapshot: &'a Arc<Snapshot>,
    soft: &'a Arc<SoftState>,
    counters: &'a [Arc<Counters>],
    probe_counters: &'a [Arc<Counters>],
    pool: &'a FramePool,
    hints: &'a HintQueues,
    clock: Clock,
}

impl Parts<'_> {
    /// Starts every worker and waits until all are in their loops.
    fn start_workers(
        &self,
        rx: Vec<Vec<RxQueue>>,
        ways: Vec<(WorkerEgress, Option<WorkerReassembly>)>,
    ) -> Result<Vec<WorkerHandle>, RunError> {
        let mut handles = Vec::new();
        let assigned = assign_queues(&self.snapshot.config, rx);
        for (number, (rx, (egress, reassembly))) in assigned.into_iter().zip(ways).enumerate() {
            match self.worker(number, rx, egress, reassembly).spawn() {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    stop_workers(handles)?;
                    return Err(error.into());
                }
            }
        }
        match wait_for_workers(&handles) {
            Ok(()) => Ok(handles),
            Err(error) => {
                stop_workers(handles)?;
                Err(error)
            }
        }
    }

    fn worker(
        &self,
        number: usize,
        rx: Vec<RxQueue>,
        egress: WorkerEgress,
        reassembly: Option<WorkerReassembly>,
    ) -> Worker {
        let config = &self.snapshot.config;
        let of_worker = |counters: &[Arc<Counters>]| {
            let none = || Arc::new(Counters::new(self.snapshot.slots()));
            counters.get(number).cloned().unwrap_or_else(none)
        };
        let counters = of_worker(self.counters);
        Worker {
            number,
            core: config.workers.get(number).map_or(0, |worker| worker.core),
            rx,
            egress,
            pop: Pop::new(Arc::clone(self.soft), Arc::clone(&counters)),
            snapshot: Arc::clone(self.snapshot),
            reassembly,
            counters,
            probe_counters: of_worker(self.probe_counters),
            idle: config.idle,
            has_timers: number == 0,
            hints: (number == 0 && config.hints.is_some())
                .then(|| Arc::clone(&self.hints.incoming)),
            clock: self.clock,
            pool: self.pool.clone(),
        }
    }
}

/// Each worker's RX queues, by the config.
fn assign_queues(config: &Config, rx: Vec<Vec<RxQueue>>) -> Vec<Vec<RxQueue>> {
    let mut rx: Vec<Vec<Option<RxQueue>>> =
        rx.into_iter().map(|queues| queues.into_iter().map(Some).collect()).collect();
    let mut take = |wanted: &anyrelay_core::config::PortQueue| {
        let queues = rx.get_mut(usize::from(wanted.port.0))?;
        queues.get_mut(usize::from(wanted.queue))?.take()
    };
    let mut assigned = Vec::new();
    for worker in &config.workers {
        assigned.push(worker.rx.iter().filter_map(&mut take).collect());
    }
    assigned
}

fn wait_for_workers(workers: &[WorkerHandle]) -> Result<(), RunError> {
    let deadline = Instant::now() + START_MAX;
    loop {
        let Some(worker) = workers.iter().position(|worker| !worker.is_running()) else {
            return Ok(());
        };
        if workers.iter().any(WorkerHandle::is_finished) {
            return Err(RunError::Ended { worker });
        }
        if Instant::now() >= deadline {
            return Err(RunError::Slow { worker });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Stops all workers and waits for them. Returns the first error.
pub(super) fn stop_workers(workers: Vec<WorkerHandle>) -> Result<(), WorkerError> {
    workers.iter().for_each(WorkerHandle::stop);
    let results: Vec<_> = workers.into_iter().map(WorkerHandle::join).collect();
    results.into_iter().collect()
}

/// Workers compute with the instructions of the config, or the largest set that the CPU has and
/// computes right with: an error where it cannot be those, a warning where it is not the largest.
fn check_instructions(wanted: Option<Isa>) -> Result<(), RunError> {
    let has = Isa::largest();
    let best = wanted.unwrap_or(has).or_less();
    match wanted {
        Some(wanted) if wanted > has => Err(RunError::Instructions { wanted, has }),
        Some(wanted) if wanted != best => Err(RunError::Miscomputes { isa: wanted, best }),
        None if best != has => {
            tracing::warn!("this CPU computes wrongly with {has}: taking {best}");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn log_start(snapshot: &Snapshot) {
    let config = &snapshot.config;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pop = config.pop.name,
        ports = config.ports.len(),
        workers = config.workers.len(),
        services = config.relays.len(),
        tunnels = snapshot.config.tunnels.len(),
        digest = snapshot.digest(),
        instructions = snapshot.isa().name(),
        "starting"
    );
}

/// Warns if the pool has fewer frame buffers than their holders' capacity: `elsewhere`, and the
/// queues and tables of fragments.
fn warn_of_few_buffers(config: &Config, elsewhere: usize, handed_over: &[Arc<FragmentQueue>]) {
    let tables = match config.pop.fragments {
        Fragments::Drop => 0,
        // A queue for each worker that has a table.
        Fragments::Reassemble(limits) => limits.buffers as usize * handed_over.len(),
    };
    let queues: usize = match handed_over {
        // A single worker hands no fragment over.
        [_] => 0,
        queues => queues.iter().map(|queue| queue.capacity()).sum(),
    };
    let wanted = elsewhere + tables + queues;
    let has = config.dpdk.mbufs as usize;
    if has < wanted {
        tracing::warn!(
            has,
            wanted,
            "dpdk.mbufs: rings, caches, queues and fragments can hold more: raise it"
        );
    }
}

fn log_ownership(config: &Config, ownerships: &[Ownership]) {
    for (port, ownership) in config.ports.iter().zip(ownerships) {
        match ownership {
            Ownership::Each => tracing::info!(port = port.name, "each worker has a TX ring"),
            Ownership::One(worker) => {
                tracing::info!(port = port.name, worker, "sent by one worker")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_computes_with_instructions_that_it_has() {
        assert!(check_instructions(None).is_ok());
        for isa in Isa::ALL {
            match check_instructions(Some(isa)) {
                Ok(()) => assert!(isa.is_available() && isa.computes_right()),
                Err(error) => {
                    assert!(!isa.is_available() || !isa.computes_right());
                    assert!(error.to_string().contains(Isa::largest().name()), "{error}");
                }
            }
        }
    }
}
