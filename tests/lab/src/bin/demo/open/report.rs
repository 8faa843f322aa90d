//! What the demo of open tunnels prints and writes, and whether it passes.

use std::fmt::Write;
use std::time::Duration;

use anyrelay_lab::Direction;
use anyrelay_lab::script::Script;
use serde_json::{Map, Value, json};

use super::run::{KINDS, Outcome};
use crate::record::{BUCKET, mbit_s};

/// What must have happened.
const TRANSFERS_MIN: u64 = 20;
const LINES_MIN: u64 = 20;
const FLIPS_MIN: usize = 50;
const KILLS_MIN: usize = 1;

/// The run of a demo.
#[derive(Debug)]
pub struct Demo {
    pub script: Script,
    pub run: Outcome,
}

impl Demo {
    fn mbit_s(&self, kind: usize) -> f64 {
        (self.run.mbit_s(kind, self.script.length) * 10.0).round() / 10.0
    }

    /// The figures, as JSON.
    pub fn json(&self) -> Value {
        let run = &self.run;
        let by_kind: Map<String, Value> =
            (0..).zip(KINDS).map(|(kind, name)| (name.into(), self.mbit_s(kind).into())).collect();
        json!({ "open": {
            "mbit_s": by_kind,
            "http": {
                "transfers": run.counts.transfers,
                "broken": run.counts.broken,
                "corrupt": run.counts.corrupt,
                "longest_stall_ms": milliseconds(run.counts.longest_stall),
            },
            "quic": {
                "transfers": run.quic.transfers,
                "broken": run.quic.broken,
                "corrupt": run.quic.corrupt,
                "longest_stall_ms": milliseconds(run.quic.longest_stall),
                "packets_sent": run.quic.sent_packets,
                "packets_lost": run.quic.lost_packets,
            },
            "ssh": {
                "lines": run.ssh.lines,
                "broken": run.ssh.broken,
                "longest_wait_ms": milliseconds(run.ssh.longest_wait),
            },
            "conntrack_invalid": run.conntrack_invalid,
            "flips": run.counts.flips.len(),
            "kills": run.counts.kills.len(),
            "addresses_kept": run.addresses_kept,
            "handshakes": run.handshakes,
            "re_syns": run.re_syns,
            "agents": run.agents,
            "open_packets_sent": run.packets_sent,
            "open_packets_received": run.packets_received,
            "packets_to_pops": run.carried,
        }})
    }

    /// The conditions under which the demo passes, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let run = &self.run;
        let zero = |what: &str, got: u64| (format!("{what}: {got}, must be 0"), got == 0);
        let at_least = |what: &str, got: usize, need: usize| {
            (format!("{what}: {got}, at least {need}"), got >= need)
        };
        let transfers = run.counts.transfers;
        let idle = (0..KINDS.len()).filter(|kind| self.mbit_s(*kind) < 0.1);
        let idle: Vec<&str> = idle.map(|kind| KINDS[kind]).collect();
        vec![
            zero("HTTP: broken", run.counts.broken),
            zero("HTTP: corrupt", run.counts.corrupt),
            zero("QUIC: broken or corrupt", run.quic.broken + run.quic.corrupt),
            zero("SSH: broken", run.ssh.broken),
            zero("invalid to the NATs' conntrack", run.conntrack_invalid),
            (
                format!("HTTP transfers: {transfers}, at least {TRANSFERS_MIN}"),
                transfers >= TRANSFERS_MIN,
            ),
            (
                format!("lines by SSH: {}, at least {LINES_MIN}", run.ssh.lines),
                run.ssh.lines >= LINES_MIN,
            ),
            (format!("kinds of traffic that moved nothing: {idle:?}"), idle.is_empty()),
            at_least("flips that moved packets", run.counts.flips.len(), FLIPS_MIN),
            at_least("kills", run.counts.kills.len(), KILLS_MIN),
            ("every agent has the open address that it began with".to_owned(), run.addresses_kept),
        ]
    }

    /// The kinds of traffic beside each other, and what else was counted.
    pub fn table(&self) -> String {
        let run = &self.run;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<44}{value}");
        };
        for (kind, name) in KINDS.iter().enumerate() {
            line(&format!("{name}, Mbit/s"), format!("{:.1}", self.mbit_s(kind)));
        }
        let (http, quic) = (&run.counts, &run.quic);
        let ends = |transfers, broken, corrupt| {
            format!("{transfers}, of them broken {broken}, corrupt {corrupt}")
        };
        line("HTTP transfers", ends(http.transfers, http.broken, http.corrupt));
        line("  longest stall, ms", milliseconds(http.longest_stall).to_string());
        line("QUIC transfers", ends(quic.transfers, quic.broken, quic.corrupt));
        line("  longest stall, ms", milliseconds(quic.longest_stall).to_string());
        let ssh = &run.ssh;
        line("lines by SSH in one session", format!("{}, broken {}", ssh.lines, ssh.broken));
        line("  longest until one came back, ms", milliseconds(ssh.longest_wait).to_string());
        line("flips that moved packets", http.flips.len().to_string());
        line("kills of POPs", http.kills.len().to_string());
        line("invalid to the NATs' conntrack", run.conntrack_invalid.to_string());
        line("open packets of the agents' hosts", run.packets_sent.to_string());
        line("open packets to the agents' hosts", run.packets_received.to_string());
        line(&format!("handshakes of {} agents", run.agents), run.handshakes.to_string());
        line("  of them again (re-SYNs)", run.re_syns.to_string());
        let places = ["agent 1", "agent 2", "the third party"];
        for (place, carried) in places.iter().zip(&run.carried) {
            let carried: Vec<String> = carried.iter().map(u64::to_string).collect();
            line(&format!("packets to POPs, {place}"), carried.join("  "));
        }
        text
    }

    /// What the plot is drawn from.
    pub fn plot_data(&self) -> Value {
        let run = &self.run;
        let spray = [self.script.spray.start.as_secs_f64(), self.script.spray.end.as_secs_f64()];
        json!({
            "seconds": self.script.length.as_secs_f64(),
            "bucket_seconds": BUCKET.as_secs_f64(),
            "spray": spray,
            "open": {
                "kinds": KINDS,
                "series": run.series.iter().map(|series| mbit_s(series)).collect::<Vec<_>>(),
                "flips_up": run.counts.flip_times(Direction::Up),
                "flips_down": run.counts.flip_times(Direction::Down),
                "kills": run.counts.kill_times(),
                "broken": run.counts.broken + run.quic.broken,
                "transfers": run.counts.transfers + run.quic.transfers,
                "conntrack_invalid": run.conntrack_invalid,
            },
        })
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
