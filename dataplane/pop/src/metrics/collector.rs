//! The POP's counters as Prometheus metrics, computed for each scrape.
//!
//! Drops of ports exist for every reason from the start, zeros included, so that rates include the
//! first one; drops of services exist only when there are any.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyrelay_core::counters::{Counters, Traffic};
use anyrelay_core::net::{PortIndex, Towards};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::token::Lifetime;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::families::*;
use super::{Build, Sample, Telemetry, targets};
use crate::worker::unix_now;

/// The metrics of `/metrics`.
pub struct PopCollector {
    telemetry: Arc<Telemetry>,
    descs: Vec<Desc>,
}

impl PopCollector {
    /// A collector over `telemetry`.
    ///
    /// # Errors
    /// When a family's name or help is not valid for Prometheus.
    pub fn new(telemetry: Arc<Telemetry>) -> Result<Self, prometheus::Error> {
        let desc = |family: &MetricInfo| {
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
        targets::add(&mut page, &snapshot, &self.telemetry);
        page.probes(&self.telemetry);
        page.queues(&snapshot, &self.telemetry);
        page.hints(&self.telemetry);
        page.ports(&snapshot, &sample);
        page.links(&snapshot, &sample);
        page.pop(&snapshot, &self.telemetry, &sample);
        page.token_epochs(&snapshot);
        page.families()
    }
}

/// The families of one scrape.
#[derive(Default)]
pub(super) struct Page {
    samples: Vec<(&'static MetricInfo, Metric)>,
}

impl Page {
    fn add(&mut self, family: &'static MetricInfo, values: &[&str], value: f64) {
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
    pub(super) fn count(&mut self, family: &'static MetricInfo, values: &[&str], value: u64) {
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
            self.count(&GATEWAY_SYNS, &[name, worker], port.gateway_syns.get());
        }
    }

    fn services_of_worker(&mut self, snapshot: &Snapshot, worker: &str, counters: &Counters) {
        for (name, slot) in snapshot.names() {
            let counts = counters.service(slot);
            for (direction, traffic) in [("up", &counts.up), ("down", &counts.down)] {
                let families = [&SERVICE_PACKETS, &SERVICE_BYTES];
                self.traffic(families, &[name, worker, direction], traffic);
            }
            self.count(&SERVICE_COPIES, &[name, worker], counts.copies.packets.get());
            let silent = counts.syns_without_address.get();
            self.count(&SYNS_WITHOUT_ADDRESS, &[name, worker], silent);
            for (direction, side) in [("up", Towards::Targets), ("down", Towards::Clients)] {
                let raised = counts.raised_mtus(side).get();
                self.count(&RAISED_MTUS, &[name, worker, direction], raised);
            }
            for &reason in DropReason::ALL {
                let drops = counters.service_drops(slot, reason);
                if drops > 0 {
                    self.count(&SERVICE_DROPS, &[reason.label(), name, worker], drops);
                }
            }
        }
    }

    fn traffic(&mut self, families: [&'static MetricInfo; 2], labels: &[&str], traffic: &Traffic) {
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
        let hints = &counters.hints;
        for (result, count) in [
            ("sent", &hints.sent),
            ("withheld", &hints.withheld),
            ("taken", &hints.taken),
            ("foreign", &hints.foreign),
        ] {
            self.count(&HINTS, &[result, worker], count.get());
        }
        let fragments = &counters.fragments;
        self.count(&REASSEMBLED, &[worker], fragments.datagrams.get());
        self.count(&REASSEMBLED_FRAGMENTS, &[worker], fragments.fragments.get());
        self.count(&FRAGMENTS_HANDED_OVER, &[worker], fragments.handed_over.get());
        self.count(&FRAGMENTS_WAITING, &[worker], fragments.waiting.get());
        self.count(&FAST_FRAMES, &[worker], counters.fast_frames.get());
        self.count(&POLLS, &[worker, "busy"], counters.busy_polls.get());
        self.count(&POLLS, &[worker, "idle"], counters.idle_polls.get());
    }

    fn probes(&mut self, telemetry: &Telemetry) {
        for (worker, counts) in telemetry.probes.iter().enumerate() {
            let worker = worker.to_string();
            for (result, count) in [
                ("forwarded", &counts.forwarded),
                ("failed", &counts.failed),
                ("excused", &counts.excused),
            ] {
                self.count(&PROBES, &[result, &worker], count.load(Ordering::Relaxed));
            }
        }
    }

    fn queues(&mut self, snapshot: &Snapshot, telemetry: &Telemetry) {
        for (index, port) in (0..).map(PortIndex).zip(&snapshot.config.ports) {
            let queues = telemetry.queues.iter().filter(|queue| queue.port() == index);
            let depth: usize = queues.map(|queue| queue.depth()).sum();
            self.count(&QUEUE_DEPTH, &[&port.name], depth as u64);
        }
    }

    fn hints(&mut self, telemetry: &Telemetry) {
        let (syns, answers) = telemetry.soft.memo.len();
        self.count(&MEMO_ENTRIES, &["syn"], syns.into());
        self.count(&MEMO_ENTRIES, &["target"], answers.into());
        let traffic = &telemetry.hints;
        for (result, count) in [
            ("sent", &traffic.sent),
            ("unsent", &traffic.unsent),
            ("accepted", &traffic.accepted),
            ("malformed", &traffic.malformed),
            ("wrong_mac", &traffic.wrong_mac),
            ("wrong_time", &traffic.wrong_time),
        ] {
            self.count(&HINT_DATAGRAMS, &[result], count.load(Ordering::Relaxed));
        }
        self.count(&HINT_OVERFLOW, &[], traffic.overflow.load(Ordering::Relaxed));
    }

    fn ports(&mut self, snapshot: &Snapshot, sample: &Sample) {
        for (port, sample) in snapshot.config.ports.iter().zip(&sample.ports) {
            let name = [port.name.as_str()];
            self.count(&PORT_RX_MISSED, &name, sample.rx_missed);
            self.count(&PORT_RX_ERRORS, &name, sample.rx_errors);
            self.count(&PORT_RX_NO_BUFFER, &name, sample.rx_no_buffer);
            self.count(&PORT_TX_ERRORS, &name, sample.tx_errors);
            for (queue, &frames) in sample.rx_queues.iter().enumerate() {
                self.count(&PORT_QUEUE_PACKETS, &[&port.name, &queue.to_string()], frames);
            }
        }
    }

    fn links(&mut self, snapshot: &Snapshot, sample: &Sample) {
        for (port, link) in snapshot.config.ports.iter().zip(&sample.links) {
            let name = [port.name.as_str()];
            self.count(&PORT_UP, &name, link.is_up.into());
            self.count(&PORT_LINK_LOSSES, &name, link.losses);
        }
        for gateway in &sample.gateways {
            let Some(port) = snapshot.config.ports.get(gateway.port.index()) else { continue };
            let labels = [port.name.as_str(), &gateway.ip.to_string()];
            self.count(&GATEWAY_UP, &labels, gateway.is_used.into());
            self.count(&GATEWAY_LOSSES, &labels, gateway.losses);
        }
    }

    fn pop(&mut self, snapshot: &Snapshot, telemetry: &Telemetry, sample: &Sample) {
        let readiness = telemetry.readiness();
        self.count(&READY, &[], readiness.reasons().next().is_none().into());
        self.count(&READY_RELAY, &[], readiness.of_relays().next().is_none().into());
        self.count(&READY_TUNNEL, &[], readiness.of_tunnels().next().is_none().into());
        self.count(&CONFIG_INFO, &[snapshot.digest()], 1);
        let version = env!("CARGO_PKG_VERSION");
        let Build { dpdk, isa } = &telemetry.build;
        self.count(&BUILD_INFO, &[version, dpdk, isa.name()], 1);
        let reloads = [("done", &telemetry.reloads_done), ("refused", &telemetry.reloads_refused)];
        for (result, count) in reloads {
            self.count(&RELOADS, &[result], count.load(Ordering::Relaxed));
        }
        let used = sample.buffers.saturating_sub(sample.buffers_free);
        self.count(&BUFFERS, &["free"], sample.buffers_free.into());
        self.count(&BUFFERS, &["used"], used.into());
        if let Some(clock) = *telemetry.clock.lock() {
            self.count(&CLOCK_SYNCHRONISED, &[], clock.is_synchronised.into());
            self.add(&CLOCK_ERROR, &[], clock.error.as_secs_f64());
            self.add(&CLOCK_ERROR_MAX, &[], clock.error_max.as_secs_f64());
        }
        if let Some(bytes) = resident_bytes() {
            self.count(&RESIDENT, &[], bytes);
        }
    }

    /// The epochs of token keys, by the POP's clock.
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

    /// The samples, grouped by family.
    fn families(self) -> Vec<MetricFamily> {
        let mut families: Vec<MetricFamily> = FAMILIES.iter().map(|family| empty(family)).collect();
        let mut metrics: Vec<Vec<Metric>> = FAMILIES.iter().map(|_| Vec::new()).collect();
        for (family, metric) in self.samples {
            let index = FAMILIES.iter().position(|other| other.name == family.name);
            if let Some(metrics) = index.and_then(|index| metrics.get_mut(index)) {
                metrics.push(metric);
            }
        }
        for (family, metrics) in families.iter_mut().zip(metrics) {
            family.set_metric(metrics);
        }
        families
    }
}

fn empty(family: &MetricInfo) -> MetricFamily {
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
