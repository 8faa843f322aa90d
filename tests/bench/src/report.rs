//! What was measured, as a table and as JSON.

use std::fmt;
use std::fs;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::packets::{Capture, PACKETS};
use crate::relay::Measured;
use crate::stats::{Spread, rounded};

/// Where it was measured.
#[derive(Debug)]
pub struct Machine {
    cpu: String,
    kernel: String,
    dpdk: String,
    commit: String,
}

impl Machine {
    /// This machine.
    pub fn here(dpdk: &str, commit: &str) -> anyhow::Result<Machine> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let model = info.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel")?;
        Ok(Machine {
            cpu: cpu.to_owned(),
            kernel: kernel.trim().to_owned(),
            dpdk: dpdk.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// For the result. Without DPDK where none took part.
    pub fn json(&self) -> Value {
        let Machine { cpu, kernel, dpdk, commit } = self;
        let mut json = json!({"cpu": cpu, "kernel": kernel, "commit": commit});
        if !dpdk.is_empty() {
            json["dpdk"] = dpdk.as_str().into();
        }
        json
    }
}

/// One round: each program once, right after the other. Rates in millions of packets per
/// CPU-second.
#[derive(Debug)]
pub struct Round {
    /// The relay.
    pub relay: Measured,
    /// testpmd that swaps addresses and ports.
    pub swap: f64,
    /// testpmd that looks at nothing.
    pub io: f64,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relay, swap, io) = (self.relay.mpps, self.swap, self.io);
        write!(f, "relay {relay:.2}, 5tswap {swap:.2}, io {io:.2} Mpps per CPU-second")
    }
}

/// The rounds of one capture.
#[derive(Debug, Default)]
pub struct Rounds(pub Vec<Round>);

impl Rounds {
    fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        self.spread(of).median
    }

    fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.0.iter().map(of))
    }

    fn sum(&self, of: impl Fn(&Measured) -> u64) -> u64 {
        self.0.iter().map(|round| of(&round.relay)).sum()
    }
}

fn to_swap(round: &Round) -> f64 {
    round.relay.mpps / round.swap
}

fn to_io(round: &Round) -> f64 {
    round.relay.mpps / round.io
}

/// The whole result.
pub fn json(machine: &Machine, rounds: u32, results: &[(Capture, Rounds)]) -> Value {
    let (mut relay, mut testpmd) = (Map::new(), Map::new());
    for (capture, rounds) in results {
        let share = rounds.sum(|run| run.sent) as f64 / rounds.sum(|run| run.received) as f64;
        let of_relay = json!({
            "frame_bytes": capture.frame_bytes,
            "packets_in_file": PACKETS,
            "mpps_per_cpu_s": rounded(rounds.median(|round| round.relay.mpps)),
            "drops": rounds.sum(|run| run.dropped),
            "forwarded_share": share,
            "ratio_5tswap": rounded(rounds.median(to_swap)),
            "ratio_5tswap_min": rounded(rounds.spread(to_swap).min),
            "ratio_5tswap_max": rounded(rounds.spread(to_swap).max),
            "ratio_io": rounded(rounds.median(to_io)),
        });
        relay.insert(capture.key.to_owned(), of_relay);
        let of_testpmd = json!({
            "5tswap_mpps_per_cpu_s": rounded(rounds.median(|round| round.swap)),
            "io_mpps_per_cpu_s": rounded(rounds.median(|round| round.io)),
        });
        testpmd.insert(capture.key.to_owned(), of_testpmd);
    }
    json!({
        "schema": 1,
        "machine": machine.json(),
        "rounds": rounds,
        "relay": relay,
        "testpmd": testpmd,
    })
}

/// The result for people, on stdout.
pub fn print_table(results: &[(Capture, Rounds)]) {
    println!("millions of packets per CPU-second of the forwarding thread, medians");
    println!("{:<12} {:>8} {:>8} {:>8}  relay / 5tswap (min, max)", "", "relay", "5tswap", "io");
    for (capture, rounds) in results {
        println!(
            "{:<12} {:>8.2} {:>8.2} {:>8.2}  {:.3} ({:.3}, {:.3})",
            capture.key,
            rounds.median(|round| round.relay.mpps),
            rounds.median(|round| round.swap),
            rounds.median(|round| round.io),
            rounds.median(to_swap),
            rounds.spread(to_swap).min,
            rounds.spread(to_swap).max,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_of(mpps: f64, swap: f64) -> Round {
        let dpdk = String::new();
        let relay = Measured { mpps, received: 10, sent: 10, dropped: 0, dpdk };
        Round { relay, swap, io: 40.0 }
    }

    #[test]
    fn the_figure_is_the_median_of_the_ratios() {
        let rounds = [(10.0, 20.0), (9.0, 30.0), (8.0, 10.0)].map(|(a, b)| round_of(a, b));
        let rounds = Rounds(rounds.into());
        assert_eq!(rounds.median(to_swap), 0.5);
        assert_eq!((rounds.spread(to_swap).min, rounds.spread(to_swap).max), (0.3, 0.8));
        let even = Rounds(vec![round_of(1.0, 10.0), round_of(3.0, 10.0)]);
        assert!((even.median(to_swap) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_result_has_all_fields() {
        let machine =
            Machine { cpu: "c".into(), kernel: "k".into(), dpdk: "d".into(), commit: "e".into() };
        let capture = Capture { key: "min_65536", stem: "min", frame_bytes: 66 };
        let json = json(&machine, 1, &[(capture, Rounds(vec![round_of(10.0, 20.0)]))]);
        assert_eq!(json["relay"]["min_65536"]["ratio_5tswap"], 0.5);
        assert_eq!(json["relay"]["min_65536"]["ratio_io"], 0.25);
        assert_eq!(json["relay"]["min_65536"]["forwarded_share"], 1.0);
        assert_eq!(json["testpmd"]["min_65536"]["5tswap_mpps_per_cpu_s"], 20.0);
        assert_eq!(json["machine"]["dpdk"], "d");
    }
}
