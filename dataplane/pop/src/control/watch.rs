//! Warnings for the operator, derived from the counters of workers, which log nothing themselves.
//!
//! A warning is logged when its counter first rises, and mostly repeated while it keeps rising, at
//! most every [`REPEAT`] for each service or port.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_core::counters::Counters;
use anyrelay_core::net::PortIndex;
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::verdict::DropReason;

/// The subject of a warning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A service, by name.
    Service(String),
    /// A port, by name.
    Port(String),
}

/// The counter of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Drops.
    Drop(DropReason),
    /// SYNs from a gateway.
    GatewaySyns,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Reason::Drop(reason) => reason.label(),
            Reason::GatewaySyns => "gateway_syns",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Reason::Drop(reason) => reason.text(),
            Reason::GatewaySyns => "A gateway of a port connects as a client.",
        }
    }

    /// Whether the warning is repeated. A gateway that does NAT for clients is no fault.
    fn repeats(self) -> bool {
        self != Reason::GatewaySyns
    }
}

/// A counter that rose, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its subject.
    pub subject: Subject,
    /// The counter.
    pub reason: Reason,
    /// The increase since the last warning.
    pub count: u64,
    /// The remedy.
    pub advice: &'static str,
}

impl Warning {
    /// Writes the warning to the log.
    pub fn log(&self) {
        let Warning { subject, reason, count, advice } = self;
        let (reason, text) = (reason.label(), reason.text());
        match subject {
            Subject::Service(service) => {
                tracing::warn!(service, reason, count, "{text} {advice}");
            }
            Subject::Port(port) => tracing::warn!(port, reason, count, "{text} {advice}"),
        }
    }
}

/// The state of past warnings.
#[derive(Debug, Default)]
pub struct DropWatch {
    seen: HashMap<(Subject, Reason), Warned>,
}

#[derive(Debug, Default)]
struct Warned {
    warned_of: u64,
    warned_at: Option<Instant>,
}

impl DropWatch {
    /// The warnings that are due. Call it about once a second.
    pub fn due(
        &mut self,
        now: Instant,
        snapshot: &Snapshot,
        workers: &[Arc<Counters>],
    ) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (name, slot) in snapshot.names() {
            for alarm in SERVICE_ALARMS {
                let count = |counters: &Arc<Counters>| match alarm.reason {
                    Reason::Drop(reason) => counters.service_drops(slot, reason),
                    Reason::GatewaySyns => 0,
                };
                let subject = Subject::Service(name.to_owned());
                let total = workers.iter().map(count).sum();
                warnings.extend(self.check(now, subject, alarm, total));
            }
        }
        for (index, port) in (0..).map(PortIndex).zip(&snapshot.config.ports) {
            for alarm in PORT_ALARMS {
                let count = |counters: &Arc<Counters>| match alarm.reason {
                    Reason::Drop(reason) => counters.drops(index, reason),
                    Reason::GatewaySyns => counters.port(index).gateway_syns.get(),
                };
                let subject = Subject::Port(port.name.clone());
                let total = workers.iter().map(count).sum();
                warnings.extend(self.check(now, subject, alarm, total));
            }
        }
        warnings
    }

    fn check(
        &mut self,
        now: Instant,
        subject: Subject,
        alarm: &Alarm,
        total: u64,
    ) -> Option<Warning> {
        if total == 0 {
            return None;
        }
        let Alarm { reason, at_least, advice } = *alarm;
        let seen = self.seen.entry((subject.clone(), reason)).or_default();
        let count = total.saturating_sub(seen.warned_of);
        let again = |at| reason.repeats() && now.duration_since(at) >= REPEAT;
        let is_early = seen.warned_at.is_some_and(|at| !again(at));
        if count < at_least || is_early {
            return None;
        }
        *seen = Warned { warned_of: total, warned_at: Some(now) };
        Some(Warning { subject, reason, count, advice })
    }
}

/// A counter that causes warnings.
struct Alarm {
    reason: Reason,
    /// The least increase.
    at_least: u64,
    advice: &'static str,
}

const SERVICE_ALARMS: &[Alarm] = &[
    Alarm {
        reason: Reason::Drop(DropReason::TargetWithoutTimestamps),
        at_least: 1,
        advice: "Connections to it cannot be relayed through a pool: turn TCP timestamps on at the \
                 service's targets (Linux: sysctl net.ipv4.tcp_timestamps=1), or use transparent \
                 egress.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::UnknownAgent),
        // An agent without an answer repeats its requests.
        at_least: 10,
        advice: "Is the tenants file of this POP the newest one? `anyrelay tenant list` shows who \
                 is in it; a revoked agent that still runs is no fault.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::KeepaliveMac),
        at_least: 10,
        advice: "An agent has a wrong key, or somebody guesses: compare the tenants files of all \
                 POPs, or issue the agent a new key.",
    },
];

const PORT_ALARMS: &[Alarm] = &[
    Alarm {
        reason: Reason::GatewaySyns,
        at_least: 1,
        advice: "Nothing is wrong if the gateway does NAT for clients. Otherwise somebody uses its \
                 address: refuse it with pop.gateway_clients = false.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::NoBuffer),
        at_least: 1,
        advice: "Raise dpdk.mbufs (and dpdk.memory_mb with it).",
    },
    Alarm {
        reason: Reason::Drop(DropReason::EgressQueueFull),
        at_least: 1,
        advice: "The worker that sends on this port does not keep up: give the port a TX queue for \
                 each worker (net_af_packet: qpairs), or that worker less to receive.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::TxFull),
        at_least: 1,
        advice: "The link, or the peer behind it, is slower than what is sent to it.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::NeighbourUnresolved),
        // The first segments to a host are dropped during its resolution, which is normal.
        at_least: 20,
        advice: "Check cabling and addresses: the next hop does not answer ARP.",
    },
    Alarm {
        reason: Reason::Drop(DropReason::NotContiguous),
        at_least: 1,
        advice: "Frames are longer than the port's MTU: turn receive offloads (GRO, LRO) of the \
                 device off.",
    },
];

/// The minimum interval between repetitions of a warning.
pub const REPEAT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_at_once_and_is_repeated_with_all_that_came_since() {
        let mut watch = DropWatch::default();
        let subject = Subject::Port("wan".to_owned());
        let start = Instant::now();
        let alarm = PORT_ALARMS.iter().find(|alarm| alarm.reason.repeats()).unwrap();
        let mut check = |seconds, total| {
            let now = start + Duration::from_secs(seconds);
            watch.check(now, subject.clone(), alarm, total).map(|warning| warning.count)
        };
        assert_eq!(check(0, 0), None);
        assert_eq!(check(1, 3), Some(3));
        assert_eq!(check(2, 5), None);
        assert_eq!(check(3, 5), None);
        assert_eq!(check(11, 9), Some(6));
        assert_eq!(check(60, 9), None);
    }

    #[test]
    fn gateways_as_clients_are_warned_of_once() {
        let mut watch = DropWatch::default();
        let start = Instant::now();
        let alarm = PORT_ALARMS.iter().find(|alarm| alarm.reason == Reason::GatewaySyns).unwrap();
        let mut check = |seconds, port: &str, total| {
            let (now, subject) = (start + Duration::from_secs(seconds), Subject::Port(port.into()));
            watch.check(now, subject, alarm, total).map(|warning| warning.count)
        };
        assert_eq!(check(0, "wan", 0), None);
        assert_eq!(check(1, "wan", 2), Some(2));
        assert_eq!(check(100, "wan", 200), None);
        assert_eq!(check(100, "lan", 1), Some(1));
    }
}
