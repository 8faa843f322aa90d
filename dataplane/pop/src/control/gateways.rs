//! Watches the gateways: which answer, and where they are.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyrelay_core::config::PortConfig;
use anyrelay_core::link::GatewayStatus;
use anyrelay_core::net::PortIndex;

use crate::metrics::GatewaySample;

/// What was seen of all gateways.
#[derive(Debug, Default)]
pub struct GatewayWatch {
    seen: Vec<Seen>,
}

/// What was seen of one.
#[derive(Clone, Copy, Debug)]
struct Seen {
    status: GatewayStatus,
    losses: u64,
    /// When it was last logged that it moved.
    moved_at: Option<Instant>,
}

/// What became of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Answers,
    Silent,
    Moved,
}

impl GatewayWatch {
    /// Looks at all gateways, of which `cut_off` have no other that stands in for them, and logs
    /// what changed. Call it several times a second. Returns whether anything changed.
    pub fn observe(
        &mut self,
        now: Instant,
        ports: &[PortConfig],
        gateways: &[GatewayStatus],
        cut_off: &[(PortIndex, IpAddr)],
    ) -> bool {
        let mut has_changed = false;
        for status in gateways {
            let Some(change) = self.note(now, status) else { continue };
            has_changed = true;
            let port = ports.get(status.port.index()).map_or("?", |port| port.name.as_str());
            change.log(port, status, !cut_off.contains(&(status.port, status.ip)));
        }
        has_changed
    }

    /// For metrics.
    pub fn samples(&self) -> Vec<GatewaySample> {
        let sample = |seen: &Seen| {
            let GatewayStatus { port, ip, is_used, .. } = seen.status;
            GatewaySample { port, ip, is_used, losses: seen.losses }
        };
        self.seen.iter().map(sample).collect()
    }

    /// Keeps the state of now; what changed, if anything.
    fn note(&mut self, now: Instant, status: &GatewayStatus) -> Option<Change> {
        let is_it =
            |seen: &&mut Seen| seen.status.port == status.port && seen.status.ip == status.ip;
        let Some(seen) = self.seen.iter_mut().find(is_it) else {
            self.seen.push(Seen { status: *status, losses: 0, moved_at: None });
            return (status.is_used && status.mac.is_some()).then_some(Change::Answers);
        };
        let before = std::mem::replace(&mut seen.status, *status);
        match (before.is_used, status.is_used) {
            (true, false) => {
                seen.losses += 1;
                Some(Change::Silent)
            }
            (false, true) => Some(Change::Answers),
            // Whoever is on the link can make it move as often as it likes.
            (true, true)
                if before.mac != status.mac
                    && seen.moved_at.is_none_or(|at| now.duration_since(at) >= REPEAT) =>
            {
                seen.moved_at = Some(now);
                Some(Change::Moved)
            }
            _ => None,
        }
    }
}

impl Change {
    fn log(self, port: &str, status: &GatewayStatus, others: bool) {
        let gateway = status.ip;
        let mac = status.mac.map(|mac| mac.to_string()).unwrap_or_default();
        match self {
            Change::Answers => tracing::info!(port, %gateway, mac, "a gateway is used"),
            Change::Moved => tracing::info!(port, %gateway, mac, "a gateway has another MAC"),
            Change::Silent if others => tracing::warn!(
                port,
                %gateway,
                "a gateway does not answer: its share goes to the others of its side"
            ),
            Change::Silent => tracing::warn!(
                port,
                %gateway,
                "a gateway does not answer, and no other does: check the router and the cable"
            ),
        }
    }
}

/// The least time between two log lines about moves of a gateway.
const REPEAT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use anyrelay_core::wire::MacAddr;

    #[test]
    fn changes_are_told_once_and_losses_are_counted() {
        let ip = "192.0.2.1".parse().unwrap();
        let state = |mac: Option<u64>, is_used| GatewayStatus {
            port: PortIndex(0),
            ip,
            mac: mac.map(MacAddr::from_u64),
            is_used,
        };
        let (mut watch, start) = (GatewayWatch::default(), Instant::now());
        let steps = [
            (state(None, false), None),
            (state(Some(2), true), Some(Change::Answers)),
            (state(Some(2), true), None),
            (state(Some(3), true), Some(Change::Moved)),
            (state(Some(4), true), None),
            (state(Some(3), true), None),
            (state(Some(3), false), Some(Change::Silent)),
            (state(None, false), None),
            (state(Some(3), true), Some(Change::Answers)),
            (state(None, false), Some(Change::Silent)),
        ];
        for (number, (status, change)) in steps.into_iter().enumerate() {
            assert_eq!(watch.note(start, &status), change, "{number}");
        }
        let port = PortIndex(0);
        assert_eq!(watch.samples(), [GatewaySample { port, ip, is_used: false, losses: 2 }]);
        // Another one is another.
        let other = GatewayStatus { port: PortIndex(1), ..state(Some(2), true) };
        assert_eq!(watch.note(start, &other), Some(Change::Answers));
        let moved = GatewayStatus { mac: Some(MacAddr::from_u64(9)), ..other };
        assert_eq!(watch.note(start, &moved), Some(Change::Moved));
        assert_eq!(watch.note(start + REPEAT, &other), Some(Change::Moved));
        assert_eq!(watch.samples().len(), 2);
    }
}
