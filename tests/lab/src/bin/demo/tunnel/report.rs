//! What the tunnels' demo prints and writes, and whether it passes.

use std::fmt::Write;
use std::time::Duration;

use anyrelay_lab::Direction;
use anyrelay_lab::script::Script;
use serde_json::{Value, json};

use super::run::{HTTP, IPERF, Outcome, QUIC, STREAM};
use crate::record::{BUCKET, mbit_s};

/// What must have happened, and how much may be lost.
const SENT_MIN: u64 = 10_000;
const FLIPS_MIN: usize = 50;
const KILLS_MIN: usize = 1;
const LOST_SHARE_MAX: f64 = 0.001;

/// The run of a demo.
#[derive(Debug)]
pub struct Demo {
    pub script: Script,
    pub run: Outcome,
}

impl Demo {
    /// Numbered datagrams sent, received, lost outside of kills; both ways.
    fn stream(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&anyrelay_lab::tunnel::stream::Report) -> u64| {
            self.run.stream.iter().map(of).sum::<u64>()
        };
        let outside = self.run.lost_outside_kill.iter().sum();
        (sum(|report| report.sent), sum(|report| report.received), outside)
    }

    fn longest_gap(&self) -> Duration {
        self.run.stream.iter().map(|report| report.longest_gap).max().unwrap_or_default()
    }

    /// The figures, as JSON.
    pub fn json(&self) -> Value {
        let run = &self.run;
        let (sent, received, lost_outside_kill) = self.stream();
        let mbit_s = |kind| tenths(run.mbit_s(kind, self.script.length));
        let dead_route_seconds: Vec<_> =
            run.dead_times.iter().map(|(from, to)| [hundredths(*from), hundredths(*to)]).collect();
        json!({ "tunnel": {
            "sent": sent,
            "received": received,
            "lost_outside_kill": lost_outside_kill,
            "lost_in_kill": sent - received - lost_outside_kill,
            "corrupted": run.stream.iter().map(|report| report.corrupted).sum::<u64>(),
            "duplicates": run.stream.iter().map(|report| report.duplicates).sum::<u64>(),
            "longest_gap_ms": milliseconds(self.longest_gap()),
            "mbit_s": mbit_s(STREAM),
            "conntrack_invalid": run.conntrack_invalid,
            "dead_route_seconds": dead_route_seconds,
            "flips": run.counts.flips.len(),
            "kills": run.counts.kills.len(),
            "idle_survived": run.idle.survived,
            "idle": {
                "seconds": tenths(run.idle.rested.as_secs_f64()),
                "asked": run.idle.asked,
                "answered": run.idle.answered,
                "plain_tcp_forgotten": run.idle.plain_forgotten,
            },
            "re_syns": run.re_syns,
            "handshakes": run.handshakes,
            "agents": run.agents,
            "issued_elsewhere": run.issued_elsewhere,
            "quic": {
                "transfers": run.quic.transfers,
                "broken": run.quic.broken,
                "corrupt": run.quic.corrupt,
                "longest_stall_ms": milliseconds(run.quic.longest_stall),
                "packets_sent": run.quic.sent_packets,
                "packets_lost": run.quic.lost_packets,
                "round_trip_ms": tenths(run.quic.round_trip.as_secs_f64() * 1000.0),
                "mbit_s": mbit_s(QUIC),
            },
            "iperf3": {
                "complete": run.iperf.complete,
                "sent": run.iperf.sent,
                "lost": run.iperf.lost,
                "out_of_order": run.iperf.out_of_order,
                "mbit_s": mbit_s(IPERF),
            },
            "http": {
                "transfers": run.counts.transfers,
                "broken": run.counts.broken,
                "corrupt": run.counts.corrupt,
                "longest_stall_ms": milliseconds(run.counts.longest_stall),
                "mbit_s": mbit_s(HTTP),
            },
            "segments_to_pops": { "serving": run.carried[0], "connecting": run.carried[1] },
        }})
    }

    /// The conditions under which the demo passes, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let run = &self.run;
        let (sent, _, lost) = self.stream();
        let share = lost as f64 / sent.max(1) as f64;
        let corrupted: u64 = run.stream.iter().map(|report| report.corrupted).sum();
        let zero = |what: &str, got: u64| (format!("{what}: {got}, must be 0"), got == 0);
        let at_least = |what: &str, got: usize, need: usize| {
            (format!("{what}: {got}, at least {need}"), got >= need)
        };
        vec![
            (
                format!("lost though no dead POP held the route: {lost} of {sent}, at most 0.1%"),
                share <= LOST_SHARE_MAX,
            ),
            zero("invalid to the NATs' conntrack", run.conntrack_invalid),
            (format!("datagrams sent: {sent}, at least {SENT_MIN}"), sent >= SENT_MIN),
            at_least("flips that moved segments", run.counts.flips.len(), FLIPS_MIN),
            at_least("kills", run.counts.kills.len(), KILLS_MIN),
            zero("numbered datagrams with a wrong hash", corrupted),
            zero("QUIC: broken or corrupt", run.quic.broken + run.quic.corrupt),
            zero("HTTP in the TUN: broken or corrupt", run.counts.broken + run.counts.corrupt),
            ("iperf3 came to its end".to_owned(), run.iperf.complete),
            (
                format!(
                    "the idle tunnel carries data again after {:.0} s, by the same flow",
                    run.idle.rested.as_secs_f64()
                ),
                run.idle.survived,
            ),
            (
                "the NAT has forgotten a plain TCP connection that was idle as long".to_owned(),
                run.idle.plain_forgotten,
            ),
        ]
    }

    /// The kinds of traffic beside each other, and what else was counted.
    pub fn table(&self) -> String {
        let run = &self.run;
        let (sent, received, outside) = self.stream();
        let mut text = String::new();
        let mut row = |name: &str, cells: [String; 4]| {
            let [a, b, c, d] = cells;
            let _ = writeln!(text, "{name:<28}{a:>14}{b:>14}{c:>14}{d:>14}");
        };
        let words = |cells: [&str; 4]| cells.map(str::to_owned);
        row("", words(["UDP stream", "QUIC", "iperf3 -u", "HTTP"]));
        row("through the agents'", words(["UDP side", "UDP side", "TUN", "TUN"]));
        let mbit = |kind| format!("{:.1}", run.mbit_s(kind, self.script.length));
        row("throughput, Mbit/s", [STREAM, QUIC, IPERF, HTTP].map(mbit));
        let (quic, iperf, http) = (&run.quic, &run.iperf, &run.counts);
        let none = String::new;
        let packets = [sent, quic.sent_packets, iperf.sent].map(|n| n.to_string());
        let [a, b, c] = packets;
        row("datagrams sent", [a, b, c, none()]);
        let lost = [sent - received, quic.lost_packets, iperf.lost].map(|n| n.to_string());
        let [a, b, c] = lost;
        row("  lost", [a, b, c, none()]);
        row("  lost outside of kills", [outside.to_string(), none(), none(), none()]);
        row("transfers", [none(), quic.transfers.to_string(), none(), http.transfers.to_string()]);
        row("  broken", [none(), quic.broken.to_string(), none(), http.broken.to_string()]);
        row("  corrupt", [none(), quic.corrupt.to_string(), none(), http.corrupt.to_string()]);
        let stall = |time: Duration| milliseconds(time).to_string();
        let gap = stall(self.longest_gap());
        row("longest gap, ms", [gap, stall(quic.longest_stall), none(), stall(http.longest_stall)]);
        text.push('\n');
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<42}{value}");
        };
        line("flips that moved segments", http.flips.len().to_string());
        line("kills of POPs", http.kills.len().to_string());
        line("invalid to the NATs' conntrack", run.conntrack_invalid.to_string());
        let idle = &run.idle;
        let answered = format!("{} of {} answered", idle.answered, idle.asked);
        line(&format!("tunnel idle for {:.0} s", idle.rested.as_secs_f64()), answered);
        let plain = if idle.plain_forgotten { "forgotten by its NAT" } else { "still known" };
        line("plain TCP idle as long", plain.to_owned());
        line(&format!("handshakes of {} agents", run.agents), run.handshakes.to_string());
        line("  of them again (re-SYNs)", run.re_syns.to_string());
        line(
            "datagrams after a moved route (issued elsewhere)",
            format!("  {}", run.issued_elsewhere),
        );
        for (place, carried) in ["serving", "connecting"].iter().zip(&run.carried) {
            let carried: Vec<String> = carried.iter().map(u64::to_string).collect();
            line(&format!("segments to POPs, {place} place"), carried.join("  "));
        }
        text
    }

    /// What the plot is drawn from.
    pub fn plot_data(&self) -> Value {
        let run = &self.run;
        let (sent, _, outside) = self.stream();
        let spray = [self.script.spray.start.as_secs_f64(), self.script.spray.end.as_secs_f64()];
        json!({
            "seconds": self.script.length.as_secs_f64(),
            "bucket_seconds": BUCKET.as_secs_f64(),
            "spray": spray,
            "tunnel": {
                "series": run.series.iter().map(|series| mbit_s(series)).collect::<Vec<_>>(),
                "datagrams_lost": run.lost_series,
                "datagram_bytes": super::run::STREAM_BYTES,
                "dead_times": run.dead_times,
                "flips_up": run.counts.flip_times(Direction::Up),
                "flips_down": run.counts.flip_times(Direction::Down),
                "kills": run.counts.kill_times(),
                "sent": sent,
                "lost_outside_kill": outside,
                "broken": run.quic.broken + run.counts.broken,
                "transfers": run.quic.transfers + run.counts.transfers,
                "conntrack_invalid": run.conntrack_invalid,
            },
        })
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
