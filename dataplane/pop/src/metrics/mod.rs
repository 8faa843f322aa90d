//! Metrics, health and readiness over HTTP.
//!
//! `/metrics` is computed from the workers' counters for each request, or for several at once;
//! `/healthz` is 200 while the control loop turns; `/readyz` is 200 while the POP is ready for all
//! traffic, `/readyz/relay` and `/readyz/tunnel` for that of one kind, else 503 with a reason per
//! line.

mod collector;
mod families;
pub mod http;
mod links;
mod targets;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyrelay_core::config::Isa;
use anyrelay_core::counters::Counters;
use anyrelay_core::pop::SoftState;
use anyrelay_core::snapshot::Snapshot;
use parking_lot::{Mutex, RwLock};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};

use crate::egress::EgressQueue;
use crate::hints::HintTraffic;
use crate::ports::PortSample;
use collector::PopCollector;
use http::{Limits, Page, Response, Site};

pub use links::{GatewaySample, LinkSample};

/// What the program is made of.
#[derive(Debug)]
pub struct Build {
    /// DPDK's version.
    pub dpdk: String,
    /// The vector instructions that workers compute with.
    pub isa: Isa,
}

/// The state that control publishes and HTTP shows.
#[derive(Debug)]
pub struct Telemetry {
    /// The counters of each worker.
    pub counters: Vec<Arc<Counters>>,
    /// What became of each worker's probes.
    pub probes: Vec<ProbeCounts>,
    /// What the workers share.
    pub soft: Arc<SoftState>,
    /// The queues between workers.
    pub queues: Vec<Arc<EgressQueue>>,
    /// The exchange of hints with other POPs.
    pub hints: Arc<HintTraffic>,
    /// What the program is made of.
    pub build: Build,
    /// Successful reloads.
    pub reloads_done: AtomicU64,
    /// Refused reloads.
    pub reloads_refused: AtomicU64,
    /// Targets files that changed too late.
    pub late_targets: AtomicU64,
    snapshot: RwLock<Arc<Snapshot>>,
    sample: Mutex<Sample>,
    clock: Mutex<Option<ClockState>>,
    readiness: Mutex<Readiness>,
    started: Instant,
    alive_ms: AtomicU64,
}

/// The probes of one worker, counted by what became of them.
#[derive(Debug, Default)]
pub struct ProbeCounts {
    /// Forwarded or answered.
    pub forwarded: AtomicU64,
    /// Dropped, or not made for want of a frame buffer.
    pub failed: AtomicU64,
    /// Dropped for a reason that is not the POP's.
    pub excused: AtomicU64,
}

/// The wall clock, as the POP judges it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockState {
    /// Whether the kernel reports it as synchronised.
    pub is_synchronised: bool,
    /// Its estimated error.
    pub error: Duration,
    /// The most that tunnels bear.
    pub error_max: Duration,
}

/// The reasons why the POP is not ready; without any, it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why for no service.
    pub all: Vec<String>,
    /// Why not for relays.
    pub relay: Vec<String>,
    /// Why not for tunnels.
    pub tunnel: Vec<String>,
    /// Whether there are relays.
    pub has_relays: bool,
    /// Whether there are tunnels.
    pub has_tunnels: bool,
}

impl Readiness {
    /// Not ready for any service, because of this.
    pub fn none(reason: &str) -> Self {
        Readiness { all: vec![reason.to_owned()], ..Readiness::default() }
    }

    /// The reasons against any of the services that there are.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        let relay = self.relay.iter().filter(|_| self.has_relays);
        let tunnel = self.tunnel.iter().filter(|_| self.has_tunnels);
        self.all.iter().chain(relay).chain(tunnel).map(String::as_str)
    }

    /// The reasons against relays.
    pub fn of_relays(&self) -> impl Iterator<Item = &str> {
        of_kind(&self.all, &self.relay, self.has_relays, "there is no [[relay]]")
    }

    /// The reasons against tunnels.
    pub fn of_tunnels(&self) -> impl Iterator<Item = &str> {
        of_kind(&self.all, &self.tunnel, self.has_tunnels, "there is no [[tunnel]]")
    }
}

fn of_kind<'a>(
    all: &'a [String],
    of_kind: &'a [String],
    is_present: bool,
    absent: &'static str,
) -> impl Iterator<Item = &'a str> {
    let reasons = all.iter().chain(of_kind).map(String::as_str);
    reasons.chain((!is_present).then_some(absent))
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
        build: Build,
    ) -> Self {
        Telemetry {
            probes: counters.iter().map(|_| ProbeCounts::default()).collect(),
            counters,
            soft,
            queues,
            hints: Arc::default(),
            build,
            reloads_done: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            late_targets: AtomicU64::new(0),
            snapshot: RwLock::new(snapshot),
            sample: Mutex::new(Sample::default()),
            clock: Mutex::new(None),
            readiness: Mutex::new(Readiness::none("starting")),
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

    /// Stores the state of the wall clock, if it was asked for.
    pub fn set_clock(&self, clock: Option<ClockState>) {
        *self.clock.lock() = clock;
    }

    /// Sets the reasons why the POP is not ready. Returns whether they changed.
    pub fn set_readiness(&self, readiness: Readiness) -> bool {
        let mut current = self.readiness.lock();
        let has_changed = *current != readiness;
        *current = readiness;
        has_changed
    }

    /// The reasons why the POP is not ready.
    pub fn readiness(&self) -> Readiness {
        self.readiness.lock().clone()
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
pub fn serve(listener: TcpListener, telemetry: &Arc<Telemetry>) -> io::Result<()> {
    let registry = Registry::new();
    let collector = PopCollector::new(Arc::clone(telemetry)).map_err(io::Error::other)?;
    registry.register(Box::new(collector)).map_err(io::Error::other)?;
    let pages = Pages { telemetry: Arc::clone(telemetry), registry };
    http::serve(listener, Limits::default(), pages)
}

/// The pages of a POP.
struct Pages {
    telemetry: Arc<Telemetry>,
    registry: Registry,
}

impl Site for Pages {
    fn page(&self, path: &str) -> Page {
        let response = match path {
            "/metrics" => return Page::Computed,
            "/healthz" if self.telemetry.is_alive() => Response::text(200, "alive\n"),
            "/healthz" => Response::text(503, "the control thread is stuck\n"),
            "/readyz" => readiness(self.telemetry.readiness().reasons()),
            "/readyz/relay" => readiness(self.telemetry.readiness().of_relays()),
            "/readyz/tunnel" => readiness(self.telemetry.readiness().of_tunnels()),
            _ => {
                let pages = "/metrics /healthz /readyz /readyz/relay /readyz/tunnel";
                Response::text(404, format!("pages: {pages}\n"))
            }
        };
        Page::Ready(response)
    }

    fn compute(&self) -> Response {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(body) => Response { status: 200, content_type: TEXT_FORMAT, body },
            Err(error) => Response::text(500, format!("{error}\n")),
        }
    }
}

fn readiness<'a>(reasons: impl Iterator<Item = &'a str>) -> Response {
    let lines: String = reasons.flat_map(|reason| [reason, "\n"]).collect();
    if lines.is_empty() { Response::text(200, "ready\n") } else { Response::text(503, lines) }
}

/// The maximum age of the control loop's last turn.
const BEAT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_service_has_its_own_reasons() {
        let doubt = || vec!["clock".to_owned()];
        let both = Readiness { has_relays: true, has_tunnels: true, ..Readiness::default() };
        let texts = |readiness: &Readiness| {
            let text = |reasons: Vec<&str>| reasons.join(";");
            [
                text(readiness.reasons().collect()),
                text(readiness.of_relays().collect()),
                text(readiness.of_tunnels().collect()),
            ]
        };
        assert_eq!(texts(&both), ["", "", ""]);
        let doubted = Readiness { tunnel: doubt(), ..both.clone() };
        assert_eq!(texts(&doubted), ["clock", "", "clock"]);
        let down = Readiness { all: vec!["link".to_owned()], ..doubted };
        assert_eq!(texts(&down), ["link;clock", "link", "link;clock"]);
        // What there is not, is not ready, and does not keep the rest from being ready.
        let relays = Readiness { has_relays: true, tunnel: doubt(), ..Readiness::default() };
        assert_eq!(texts(&relays), ["", "", "clock;there is no [[tunnel]]"]);
        let tunnels = Readiness { has_tunnels: true, ..Readiness::default() };
        assert_eq!(texts(&tunnels), ["", "there is no [[relay]]", ""]);
    }
}
