//! Metrics, health and readiness over HTTP.
//!
//! `/metrics` is computed from the workers' counters for each request; `/healthz` is 200 while the
//! control loop turns; `/readyz` is 200 while the POP is ready for traffic, else 503 with a reason
//! per line.

mod collector;
mod families;
pub mod http;
mod links;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyrelay_core::counters::Counters;
use anyrelay_core::pop::SoftState;
use anyrelay_core::snapshot::Snapshot;
use kernel_clock::KernelClock;
use parking_lot::{Mutex, RwLock};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use crate::egress::EgressQueue;
use crate::hints::HintTraffic;
use crate::ports::PortSample;
use collector::PopCollector;
use http::{Handler, Response};

pub use links::{GatewaySample, LinkSample};

/// The state that control publishes and HTTP shows.
#[derive(Debug)]
pub struct Telemetry {
    /// The counters of each worker.
    pub counters: Vec<Arc<Counters>>,
    /// What the workers share.
    pub soft: Arc<SoftState>,
    /// The queues between workers.
    pub queues: Vec<Arc<EgressQueue>>,
    /// The exchange of hints with other POPs.
    pub hints: Arc<HintTraffic>,
    /// DPDK's version.
    pub dpdk_version: String,
    /// Successful reloads.
    pub reloads_done: AtomicU64,
    /// Refused reloads.
    pub reloads_refused: AtomicU64,
    snapshot: RwLock<Arc<Snapshot>>,
    sample: Mutex<Sample>,
    kernel_clock: Mutex<Option<KernelClock>>,
    unready: Mutex<Vec<String>>,
    started: Instant,
    alive_ms: AtomicU64,
}

/// Periodic samples of DPDK's counters.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// A sample for each port.
    pub ports: Vec<PortSample>,
    /// The link of each port.
    pub links: Vec<LinkSample>,
    /// All gateways.
    pub gateways: Vec<GatewaySample>,
    /// The number of frame buffers.
    pub buffers: u32,
    /// The number of free frame buffers.
    pub buffers_free: u32,
}

impl Telemetry {
    /// For a starting POP, which is not ready yet.
    pub fn new(
        snapshot: Arc<Snapshot>,
        soft: Arc<SoftState>,
        counters: Vec<Arc<Counters>>,
        queues: Vec<Arc<EgressQueue>>,
        dpdk_version: String,
    ) -> Self {
        Telemetry {
            counters,
            soft,
            queues,
            hints: Arc::default(),
            dpdk_version,
            reloads_done: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            snapshot: RwLock::new(snapshot),
            sample: Mutex::new(Sample::default()),
            kernel_clock: Mutex::new(None),
            unready: Mutex::new(vec!["starting".to_owned()]),
            started: Instant::now(),
            alive_ms: AtomicU64::new(0),
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Replaces the current snapshot.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.write() = snapshot;
    }

    /// Stores samples of DPDK's counters.
    pub fn set_sample(&self, sample: Sample) {
        *self.sample.lock() = sample;
    }

    /// Stores the state of the kernel's clock, if it was queried.
    pub fn set_kernel_clock(&self, clock: Option<KernelClock>) {
        *self.kernel_clock.lock() = clock;
    }

    /// Sets the reasons why the POP is not ready; none means ready. Returns whether that changed.
    pub fn set_unready(&self, reasons: Vec<String>) -> bool {
        let mut unready = self.unready.lock();
        let has_changed = *unready != reasons;
        *unready = reasons;
        has_changed
    }

    /// The reasons why the POP is not ready; empty when it is.
    pub fn unready(&self) -> Vec<String> {
        self.unready.lock().clone()
    }

    /// Records a turn of the control loop.
    pub fn beat(&self) {
        self.alive_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.alive_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(beat) < BEAT_MAX
    }
}

/// Serves `telemetry` at `listener` until the process ends.
///
/// # Errors
/// When threads cannot be started, or the collector's families are not valid.
pub fn serve(listener: &TcpListener, telemetry: &Arc<Telemetry>) -> io::Result<()> {
    let registry = Registry::new();
    let collector = PopCollector::new(Arc::clone(telemetry)).map_err(io::Error::other)?;
    registry.register(Box::new(collector)).map_err(io::Error::other)?;
    let telemetry = Arc::clone(telemetry);
    let handler: Handler = Arc::new(move |path| answer(path, &telemetry, &registry));
    http::serve(listener, HTTP_THREADS, &handler)
}

fn answer(path: &str, telemetry: &Telemetry, registry: &Registry) -> Response {
    match path {
        "/metrics" => metrics(registry),
        "/healthz" if telemetry.is_alive() => Response::text(200, "alive\n"),
        "/healthz" => Response::text(503, "the control thread is stuck\n"),
        "/readyz" => {
            let reasons = telemetry.unready();
            if reasons.is_empty() {
                Response::text(200, "ready\n")
            } else {
                Response::text(503, reasons.join("\n") + "\n")
            }
        }
        _ => Response::text(404, "pages: /metrics /healthz /readyz\n"),
    }
}

fn metrics(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(body) => Response { status: 200, content_type: TEXT_FORMAT, body },
        Err(error) => Response::text(500, format!("{error}\n")),
    }
}

/// Threads for requests: slow peers must not block health checks.
const HTTP_THREADS: usize = 3;

/// The maximum age of the control loop's last turn.
const BEAT_MAX: Duration = Duration::from_secs(5);
