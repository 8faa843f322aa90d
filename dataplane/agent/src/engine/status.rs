//! The status as JSON: names and values as `status --json` shows them.

use serde_json::{Map, Value, json};

use super::{Engine, PeerState, nat};
use crate::local::LocalSide;
use crate::open::OpenSide;
use crate::outer::conntrack::HostNat;
use crate::outer::{FlowEndpoints, UplinkCounts};
use anyrelay_core::tunnel::agent::FlowProblem;

impl<L: LocalSide> Engine<L> {
    pub(super) fn status(&self) -> Value {
        let now = self.flow.now;
        let status = self.flow.agent.status(now);
        let counters: Map<String, Value> =
            status.counters.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let (sent, answered) =
            (status.counters.keepalives_sent, status.counters.keepalives_answered);
        let uplink = self.flow.uplink.as_ref();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "state": status.state.label(),
            "problem": self.problem(status.problem),
            "vip": status.vip.to_string(),
            "local": uplink.map(|uplink| uplink.local().to_string()),
            "public": status.public.map(|address| address.to_string()),
            "tick": status.tick.map(|tick| tick.0),
            "tick_uncertainty_ms": status.tick_uncertainty_ms,
            "pop": status.pop,
            "token": status.token.map(|token| format!("token:{token}")),
            "body_max": status.body_max,
            "round_trip_us": status.round_trip_us,
            "silent_ms": status.silent_ms,
            "keepalive_loss": loss(sent, answered),
            "numbers_rewritten": status.numbers_rewritten,
            "peers": self.peers.iter().map(peer).collect::<Vec<_>>(),
            "nat": self.nat.status(self.host_nat().as_ref()),
            "counters": counters,
            "outer": self.outer(),
            "local_side": self.local.status(now),
            "open": self.open.as_ref().map(OpenSide::status),
        })
    }

    /// The problem to show: one of this host before one beyond it.
    fn problem(&self, beyond: Option<FlowProblem>) -> Option<String> {
        match &self.flow.uplink {
            None => Some(self.flow.no_uplink.clone().unwrap_or_else(|| {
                format!("this host has no way to the VIP {}", self.flow.watch.config.vip)
            })),
            Some(_) => {
                let problem = beyond?;
                self.host_problem(problem).or_else(|| Some(problem.to_string()))
            }
        }
    }

    /// The problem of this host that explains the one beyond it.
    pub(super) fn host_problem(&self, beyond: FlowProblem) -> Option<String> {
        let (uplink, vip) = (self.flow.uplink.as_ref()?, self.flow.watch.config.vip);
        match beyond {
            FlowProblem::NoHandshake => nat::host_problem(uplink.local(), vip, &self.host_nat()?),
            _ => None,
        }
    }

    fn host_nat(&self) -> Option<HostNat> {
        let (local, vip) = (self.flow.uplink.as_ref()?.local(), self.flow.watch.config.vip);
        Some(HostNat::of(&FlowEndpoints { local, vip }))
    }

    fn outer(&self) -> Value {
        let UplinkCounts { sender: counts, damaged } = self.flow.counts();
        let uplink = self.flow.uplink.as_ref();
        let steering = &self.flow.watch.config.steering;
        let path = uplink.and_then(|uplink| uplink.sender.path_mtu(self.flow.now));
        json!({
            "device": self.flow.watch.device(),
            "sent": counts.sent,
            "too_big": counts.too_big,
            "queue_full": counts.queue_full,
            "refused": counts.refused,
            "last_error": counts.last_error.map(|error| error.desc()),
            "path_mtu": path,
            "icmp_taken": counts.icmp_taken,
            "icmp_refused": counts.icmp_refused,
            "damaged": damaged,
            "firewall_restored": self.leaks,
            "mark": steering.mark,
            "interface": steering.interface,
            "route_warning": self.flow.watch.doubt(),
        })
    }
}

fn peer(peer: &PeerState) -> Value {
    let (token, error) = match &peer.found {
        Some(Ok(token)) => (Some(format!("token:{token}")), None),
        Some(Err(error)) => (None, Some(error.clone())),
        None => (None, None),
    };
    json!({ "source": peer.source.to_string(), "token": token, "error": error })
}

/// The share of keepalives without an answer. The newest one may still be answered.
fn loss(sent: u64, answered: u64) -> f64 {
    let waited_for = sent.saturating_sub(1).max(answered);
    if waited_for == 0 { 0.0 } else { 1.0 - answered as f64 / waited_for as f64 }
}
