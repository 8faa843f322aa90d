//! Counters as one JSON document, the format of `--counters` and of the fixtures.
//!
//! It has all ports and services, by name; drops, raised MTUs, answers, suppressed answers and
//! absorbed frames only if there were any. Bytes are those of frames at ports, and from the IP
//! header on at services, as in the metrics.

use std::collections::BTreeMap;

use anyrelay_core::counters::{Counters, Traffic};
use anyrelay_core::net::{PortIndex, Towards};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind};
use serde::Serialize;

type ByLabel = BTreeMap<&'static str, u64>;

/// All counts of a run.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Counts<'a> {
    ports: BTreeMap<&'a str, PortCounts>,
    services: BTreeMap<&'a str, ServiceCounts>,
    replies: ByLabel,
    withheld: ByLabel,
    absorbed: ByLabel,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct PortCounts {
    rx: TrafficCounts,
    tx: TrafficCounts,
    drops: ByLabel,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ServiceCounts {
    up: TrafficCounts,
    down: TrafficCounts,
    raised_mtus: ByLabel,
    drops: ByLabel,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct TrafficCounts {
    packets: u64,
    bytes: u64,
}

impl<'a> Counts<'a> {
    /// The values of `counters` for the ports and services of `snapshot`.
    pub fn new(snapshot: &'a Snapshot, counters: &Counters) -> Self {
        let ports = (0..).map(PortIndex).zip(&snapshot.config.ports).map(|(index, port)| {
            let counts = counters.port(index);
            let drops = drops(|reason| counters.drops(index, reason));
            (
                port.name.as_str(),
                PortCounts { rx: (&counts.rx).into(), tx: (&counts.tx).into(), drops },
            )
        });
        let services = snapshot.names().map(|(name, slot)| {
            let counts = counters.service(slot);
            let drops = drops(|reason| counters.service_drops(slot, reason));
            let raised = [("up", Towards::Targets), ("down", Towards::Clients)];
            let raised = raised.map(|(to, side)| (to, counts.raised_mtus(side).get()));
            let counts = ServiceCounts {
                up: (&counts.up).into(),
                down: (&counts.down).into(),
                raised_mtus: non_zero(raised.into_iter()),
                drops,
            };
            (name, counts)
        });
        let replies = ReplyKind::ALL.iter().map(|&kind| (kind.label(), counters.replies(kind)));
        let withheld =
            ReplyKind::LIMITED.iter().map(|&kind| (kind.label(), counters.withheld(kind)));
        let absorbed = AbsorbKind::ALL.iter().map(|&kind| (kind.label(), counters.absorbed(kind)));
        Counts {
            ports: ports.collect(),
            services: services.collect(),
            replies: non_zero(replies),
            withheld: non_zero(withheld),
            absorbed: non_zero(absorbed),
        }
    }

    /// The counts as text, one per line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, port) in &self.ports {
            lines.push(format!(
                "port {name}: in {}, out {}",
                described(&port.rx),
                described(&port.tx)
            ));
            lines.extend(port.drops.iter().map(|(why, count)| format!("  dropped {count} {why}")));
        }
        for (name, service) in &self.services {
            let (up, down) = (described(&service.up), described(&service.down));
            lines.push(format!("service {name}: up {up}, down {down}"));
            let drops = service.drops.iter();
            lines.extend(drops.map(|(why, count)| format!("  dropped {count} {why}")));
            let raised = service.raised_mtus.iter();
            lines.extend(
                raised.map(|(to, count)| format!("  raised the MTU of {count} errors {to}")),
            );
        }
        lines.extend(self.replies.iter().map(|(kind, count)| format!("answered {count} {kind}")));
        let withheld = self.withheld.iter();
        lines.extend(withheld.map(|(kind, count)| format!("held back {count} {kind}")));
        lines.extend(self.absorbed.iter().map(|(kind, count)| format!("kept {count} {kind}")));
        lines
    }
}

impl From<&Traffic> for TrafficCounts {
    fn from(traffic: &Traffic) -> Self {
        TrafficCounts { packets: traffic.packets.get(), bytes: traffic.bytes.get() }
    }
}

fn described(traffic: &TrafficCounts) -> String {
    format!("{} packets ({} bytes)", traffic.packets, traffic.bytes)
}

fn drops(count: impl Fn(DropReason) -> u64) -> ByLabel {
    non_zero(DropReason::ALL.iter().map(|&reason| (reason.label(), count(reason))))
}

fn non_zero(counts: impl Iterator<Item = (&'static str, u64)>) -> ByLabel {
    counts.filter(|(_, count)| *count > 0).collect()
}
