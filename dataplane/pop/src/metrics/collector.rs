//! The POP's counters as Prometheus metrics, computed when they are scraped.
//!
//! Drops at ports are there for every reason from the start, zeros included, so that rates see the
//! first one; drops of services only once there are any.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyrelay_core::counters::{Counters, Traffic};
use anyrelay_core::net::PortIndex;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::token::Lifetime;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::{Sample, Telemetry};
use crate::worker::unix_now;

/// Everything under `/metrics`.
pub struct PopCollector {
    telemetry: Arc<Telemetry>,
    descs: Vec<Desc>,
}

impl PopCollector {
    /// A collector over `telemetry`.
    ///
    /// # Errors
    /// When a family's name or help is not fit for Prometheus.
    pub fn new(telemetry: Arc<Telemetry>) -> Result<Self, prometheus::Error> {
        let desc = |family: &Family| {
            let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
        };
        let descs = FAMILIES.iter().map(|family| desc(family)).collect::<Result<_, _>>()?;
        Ok(PopCollector { telemetry, descs })
    }
}

impl Collector for PopCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.telemetry.snapshot();
        let sample = self.telemetry.sample.lock().clone();
        let mut page = Page::default();
        for (worker, counters) in self.telemetry.counters.iter().enumerate() {
            let worker = worker.to_string();
            page.ports_of_worker(&snapshot, &worker, counters);
            page.services_of_worker(&snapshot, &worker, counters);
            page.worker(&worker, counters);
        }
        page.queues(&snapshot, &self.telemetry);
        page.ports(&snapshot, &sample);
        page.pop(&snapshot, &self.telemetry, &sample);
        page.token_epochs(&snapshot);
        page.families()
    }
}

/// A metric family: its name, its labels in the order in which values are given, and its help.
struct Family {
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
}

impl Family {
    const fn new(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Family { name, labels, help }
    }

    /// By the convention of names.
    fn kind(&self) -> MetricType {
        if self.name.ends_with("_total") { MetricType::COUNTER } else { MetricType::GAUGE }
    }
}

/// The families of one scrape.
#[derive(Default)]
struct Page {
    samples: Vec<(&'static Family, Metric)>,
}

impl Page {
    fn add(&mut self, family: &'static Family, values: &[&str], value: f64) {
        let pair = |(&name, &value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut labels: Vec<_> = family.labels.iter().zip(values).map(pair).collect();
        labels.sort_by(|a, b| a.name().cmp(b.name()));
        let mut metric = Metric::from_label(labels);
        if family.kind() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.samples.push((family, metric));
    }

    /// A count as a sample. Prometheus has floating point only: exact up to 2^53.
    fn count(&mut self, family: &'static Family, values: &[&str], value: u64) {
        self.add(family, values, value as f64);
    }

    fn ports_of_worker(&mut self, snapshot: &Snapshot, worker: &str, counters: &Counters) {
        for (index, port) in (0..).map(PortIndex).zip(&snapshot.config.ports) {
            let name = port.name.as_str();
            let port = counters.port(index);
            for (direction, traffic) in [("rx", &port.rx), ("tx", &port.tx)] {
                self.traffic([&PORT_PACKETS, &PORT_BYTES], &[name, worker, direction], traffic);
            }
            for &reason in DropReason::ALL {
                let labels = [reason.label(), name, worker];
                self.count(&DROPS, &labels, counters.drops(index, reason));
            }
            self.count(&QUEUE_OVERFLOW, &[name, worker], port.queue_overflow.get());
        }
    }

    fn services_of_worker(&mut self, snapshot: &Snapshot, worker: &str, counters: &Counters) {
        for (name, slot) in snapshot.names() {
            let counts = counters.service(slot);
            for (direction, traffic) in [("up", &counts.up), ("down", &counts.down)] {
                let families = [&SERVICE_PACKETS, &SERVICE_BYTES];
                self.traffic(families, &[name, worker, direction], traffic);
            }
            for &reason in DropReason::ALL {
                let drops = counters.service_drops(slot, reason);
                if drops > 0 {
                    self.count(&SERVICE_DROPS, &[reason.label(), name, worker], drops);
                }
            }
        }
    }

    fn traffic(&mut self, families: [&'static Family; 2], labels: &[&str], traffic: &Traffic) {
        let [packets, bytes] = families;
        self.count(packets, labels, traffic.packets.get());
        self.count(bytes, labels, traffic.bytes.get());
    }

    fn worker(&mut self, worker: &str, counters: &Counters) {
        for &kind in ReplyKind::ALL {
            self.count(&REPLIES, &[kind.label(), worker], counters.replies(kind));
        }
        for &kind in ReplyKind::LIMITED {
            self.count(&REPLIES_WITHHELD, &[kind.label(), worker], counters.withheld(kind));
        }
        for &kind in AbsorbKind::ALL {
            self.count(&ABSORBED, &[kind.label(), worker], counters.absorbed(kind));
        }
        for pop in 0..=u8::MAX {
            let packets = counters.issued_elsewhere(pop);
            if packets > 0 {
                self.count(&ISSUED_ELSEWHERE, &[&pop.to_string(), worker], packets);
            }
        }
        let fragments = &counters.fragments;
        self.count(&REASSEMBLED, &[worker], fragments.datagrams.get());
        self.count(&REASSEMBLED_FRAGMENTS, &[worker], fragments.fragments.get());
        self.count(&FRAGMENTS_HANDED_OVER, &[worker], fragments.handed_over.get());
        self.count(&FRAGMENTS_WAITING, &[worker], fragments.waiting.get());
        self.count(&POLLS, &[worker, "busy"], counters.busy_polls.get());
        self.count(&POLLS, &[worker, "idle"], counters.idle_polls.get());
    }

    fn queues(&mut self, snapshot: &Snapshot, telemetry: &Telemetry) {
        for (index, port) in (0..).map(PortIndex).zip(&snapshot.config.ports) {
            let queues = telemetry.queues.iter().filter(|queue| queue.port() == index);
            let depth: usize = queues.map(|queue| queue.depth()).sum();
            self.count(&QUEUE_DEPTH, &[&port.name], depth as u64);
        }
    }

    fn ports(&mut self, snapshot: &Snapshot, sample: &Sample) {
        for (port, sample) in snapshot.config.ports.iter().zip(&sample.ports) {
            let name = [port.name.as_str()];
            self.count(&PORT_UP, &name, sample.link_up.into());
            self.count(&PORT_RX_MISSED, &name, sample.rx_missed);
            self.count(&PORT_RX_ERRORS, &name, sample.rx_errors);
            self.count(&PORT_RX_NO_BUFFER, &name, sample.rx_no_buffer);
            self.count(&PORT_TX_ERRORS, &name, sample.tx_errors);
        }
    }

    fn pop(&mut self, snapshot: &Snapshot, telemetry: &Telemetry, sample: &Sample) {
        self.count(&READY, &[], telemetry.unready().is_empty().into());
        self.count(&CONFIG_INFO, &[snapshot.digest()], 1);
        let version = env!("CARGO_PKG_VERSION");
        self.count(&BUILD_INFO, &[version, &telemetry.dpdk_version], 1);
        let reloads = [("done", &telemetry.reloads_done), ("refused", &telemetry.reloads_refused)];
        for (result, count) in reloads {
            self.count(&RELOADS, &[result], count.load(Ordering::Relaxed));
        }
        let used = sample.buffers.saturating_sub(sample.buffers_free);
        self.count(&BUFFERS, &["free"], sample.buffers_free.into());
        self.count(&BUFFERS, &["used"], used.into());
        if let Some(clock) = *telemetry.kernel_clock.lock() {
            self.count(&CLOCK_SYNCHRONISED, &[], clock.is_synchronised.into());
            self.add(&CLOCK_ERROR, &[], clock.estimated_error.as_secs_f64());
        }
        if let Some(bytes) = resident_bytes() {
            self.count(&RESIDENT, &[], bytes);
        }
    }

    /// The epochs of token keys, by the clock that the POP goes by.
    fn token_epochs(&mut self, snapshot: &Snapshot) {
        let Some(keys) = snapshot.token_keys() else { return };
        let now = unix_now(snapshot.config.pop.clock_offset_ms);
        if let Some(epoch) = keys.current_epoch(now) {
            self.count(&TOKEN_EPOCH, &[], epoch.into());
        }
        let seconds = |time: UnixTime| time.as_millis() as f64 / 1000.0;
        for Lifetime { epoch, current_from, accepted_before } in keys.lifetimes() {
            let epoch = [&*epoch.to_string()];
            self.add(&TOKEN_EPOCH_START, &epoch, seconds(current_from));
            if let Some(end) = accepted_before {
                self.add(&TOKEN_EPOCH_END, &epoch, seconds(end));
            }
        }
    }

    /// The samples, family by family.
    fn families(self) -> Vec<MetricFamily> {
        let mut families: Vec<MetricFamily> = FAMILIES.iter().map(|family| empty(family)).collect();
        let mut metrics: Vec<Vec<Metric>> = FAMILIES.iter().map(|_| Vec::new()).collect();
        for (family, metric) in self.samples {
            let place = FAMILIES.iter().position(|other| other.name == family.name);
            if let Some(metrics) = place.and_then(|place| metrics.get_mut(place)) {
                metrics.push(metric);
            }
        }
        for (family, metrics) in families.iter_mut().zip(metrics) {
            family.set_metric(metrics);
        }
        families
    }
}

fn empty(family: &Family) -> MetricFamily {
    let mut empty = MetricFamily::default();
    empty.set_name(family.name.to_owned());
    empty.set_help(family.help.to_owned());
    empty.set_field_type(family.kind());
    empty
}

/// The process's resident memory, in bytes (proc(5), `VmRSS`).
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

const PORT: &[&str] = &["port"];
const PORT_TRAFFIC: &[&str] = &["port", "worker", "direction"];
const SERVICE_TRAFFIC: &[&str] = &["service", "worker", "direction"];

static PORT_PACKETS: Family =
    Family::new("anyrelay_port_packets_total", PORT_TRAFFIC, "Frames received and sent.");
static PORT_BYTES: Family = Family::new(
    "anyrelay_port_bytes_total",
    PORT_TRAFFIC,
    "Bytes of frames received and sent, Ethernet headers included.",
);
static SERVICE_PACKETS: Family = Family::new(
    "anyrelay_service_packets_total",
    SERVICE_TRAFFIC,
    "Packets forwarded: up to targets or into a tunnel, down to clients.",
);
static SERVICE_BYTES: Family = Family::new(
    "anyrelay_service_bytes_total",
    SERVICE_TRAFFIC,
    "Bytes forwarded, from the IP header on.",
);
static DROPS: Family =
    Family::new("anyrelay_drops_total", &["reason", "port", "worker"], "Frames dropped.");
static SERVICE_DROPS: Family = Family::new(
    "anyrelay_service_drops_total",
    &["reason", "service", "worker"],
    "Frames of a service dropped; part of anyrelay_drops_total.",
);
static REPLIES: Family = Family::new(
    "anyrelay_replies_total",
    &["kind", "worker"],
    "Frames that the POP answered itself.",
);
static REPLIES_WITHHELD: Family = Family::new(
    "anyrelay_replies_withheld_total",
    &["kind", "worker"],
    "Answers of the POP's own that a rate limit held back.",
);
static ABSORBED: Family = Family::new(
    "anyrelay_absorbed_total",
    &["kind", "worker"],
    "Frames that ended here as soft state.",
);
static ISSUED_ELSEWHERE: Family = Family::new(
    "anyrelay_tunnel_issued_elsewhere_packets_total",
    &["issued_by", "worker"],
    "Tunnel datagrams whose sender's token another POP issued, by its number: routes moved from there.",
);
static TOKEN_EPOCH: Family = Family::new(
    "anyrelay_token_epoch_current",
    &[],
    "The epoch that new tokens are of; there with tunnels, like the two below.",
);
static TOKEN_EPOCH_START: Family = Family::new(
    "anyrelay_token_epoch_start_timestamp_seconds",
    &["epoch"],
    "When the epoch becomes current, in seconds since 1970; 0 where that was never said.",
);
static TOKEN_EPOCH_END: Family = Family::new(
    "anyrelay_token_epoch_end_timestamp_seconds",
    &["epoch"],
    "When tokens of the epoch end to be accepted, in seconds since 1970; there once it has a successor.",
);
static QUEUE_DEPTH: Family = Family::new(
    "anyrelay_egress_queue_depth",
    PORT,
    "Frames that wait for the worker that sends on the port.",
);
static QUEUE_OVERFLOW: Family = Family::new(
    "anyrelay_egress_queue_overflow_total",
    &["port", "worker"],
    "Frames that found that queue full.",
);
static REASSEMBLED: Family = Family::new(
    "anyrelay_reassembled_datagrams_total",
    &["worker"],
    "Datagrams that were reassembled.",
);
static REASSEMBLED_FRAGMENTS: Family = Family::new(
    "anyrelay_reassembled_fragments_total",
    &["worker"],
    "Fragments of the datagrams that were reassembled.",
);
static FRAGMENTS_HANDED_OVER: Family = Family::new(
    "anyrelay_fragments_handed_over_total",
    &["worker"],
    "Fragments handed over to the worker that reassembles their datagram.",
);
static FRAGMENTS_WAITING: Family = Family::new(
    "anyrelay_fragments_waiting",
    &["worker"],
    "Frame buffers that hold fragments of incomplete datagrams.",
);
static POLLS: Family = Family::new(
    "anyrelay_polls_total",
    &["worker", "state"],
    "Turns of the worker's loop, with and without frames received.",
);
static PORT_UP: Family = Family::new("anyrelay_port_up", PORT, "Whether the port's link is up.");
static PORT_RX_MISSED: Family = Family::new(
    "anyrelay_port_rx_missed_total",
    PORT,
    "Frames that the port lost because no worker took them in time.",
);
static PORT_RX_ERRORS: Family =
    Family::new("anyrelay_port_rx_errors_total", PORT, "Frames that came in damaged.");
static PORT_RX_NO_BUFFER: Family = Family::new(
    "anyrelay_port_rx_no_buffer_total",
    PORT,
    "Times that the port found no free frame buffer.",
);
static PORT_TX_ERRORS: Family =
    Family::new("anyrelay_port_tx_errors_total", PORT, "Frames that the port failed to send.");
static READY: Family =
    Family::new("anyrelay_ready", &[], "Whether the POP should get traffic: the same as /readyz.");
static CONFIG_INFO: Family = Family::new(
    "anyrelay_config_info",
    &["digest"],
    "Digest of config and keys: the same on all POPs that answer alike.",
);
static BUILD_INFO: Family = Family::new("anyrelay_build_info", &["version", "dpdk"], "What runs.");
static RELOADS: Family =
    Family::new("anyrelay_reloads_total", &["result"], "Reloads that were done and refused.");
static BUFFERS: Family =
    Family::new("anyrelay_frame_buffers", &["state"], "Frame buffers, free and used.");
static CLOCK_SYNCHRONISED: Family = Family::new(
    "anyrelay_clock_synchronised",
    &[],
    "Whether the kernel calls its clock synchronised; there with tunnels, unless the clock is trusted.",
);
static CLOCK_ERROR: Family = Family::new(
    "anyrelay_clock_estimated_error_seconds",
    &[],
    "By how much the kernel thinks its clock to be wrong; there where anyrelay_clock_synchronised is.",
);
static RESIDENT: Family =
    Family::new("process_resident_memory_bytes", &[], "Resident memory size in bytes.");

static FAMILIES: &[&Family] = &[
    &PORT_PACKETS,
    &PORT_BYTES,
    &SERVICE_PACKETS,
    &SERVICE_BYTES,
    &DROPS,
    &SERVICE_DROPS,
    &REPLIES,
    &REPLIES_WITHHELD,
    &ABSORBED,
    &ISSUED_ELSEWHERE,
    &TOKEN_EPOCH,
    &TOKEN_EPOCH_START,
    &TOKEN_EPOCH_END,
    &QUEUE_DEPTH,
    &QUEUE_OVERFLOW,
    &REASSEMBLED,
    &REASSEMBLED_FRAGMENTS,
    &FRAGMENTS_HANDED_OVER,
    &FRAGMENTS_WAITING,
    &POLLS,
    &PORT_UP,
    &PORT_RX_MISSED,
    &PORT_RX_ERRORS,
    &PORT_RX_NO_BUFFER,
    &PORT_TX_ERRORS,
    &READY,
    &CONFIG_INFO,
    &BUILD_INFO,
    &RELOADS,
    &BUFFERS,
    &CLOCK_SYNCHRONISED,
    &CLOCK_ERROR,
    &RESIDENT,
];
