//! What was measured, as a table and as JSON.

use std::fmt;
use std::fs;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::relay::Measured;
use crate::stats::{Spread, rounded};
use crate::works::Capture;

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
    /// The relay with one service and one target, where it is compared with that.
    pub one: Option<f64>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relay, swap, io) = (self.relay.mpps, self.swap, self.io);
        let one = self.one.map(|one| format!(", one service {one:.2}")).unwrap_or_default();
        write!(f, "relay {relay:.2}, 5tswap {swap:.2}, io {io:.2}{one} Mpps per CPU-second")
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

/// To the relay with one service; `None` where that was not measured.
fn to_one(rounds: &Rounds) -> Option<Spread> {
    let ratios = rounds.0.iter().map(|round| Some(round.relay.mpps / round.one?));
    Some(Spread::of(ratios.collect::<Option<Vec<_>>>()?.into_iter()))
}

/// What the relay did with a capture.
pub fn of_relay(capture: &Capture, rounds: &Rounds) -> Value {
    let share = rounds.sum(|run| run.sent) as f64 / rounds.sum(|run| run.received) as f64;
    let to_swap = rounds.spread(to_swap);
    let mut result = Map::new();
    let mut add = |key: &str, value: Value| result.insert(key.to_owned(), value);
    add("frame_bytes", capture.frame_bytes.into());
    add("packets_in_file", capture.packets.into());
    add("mpps_per_cpu_s", rounded(rounds.median(|round| round.relay.mpps)).into());
    add("drops", rounds.sum(|run| run.dropped).into());
    add("forwarded_share", share.into());
    add("ratio_io", rounded(rounds.median(to_io)).into());
    add("agrees", to_swap.agrees().into());
    to_swap.add_to(&mut result, "ratio_5tswap");
    if let Some(to_one) = to_one(rounds) {
        to_one.add_to(&mut result, "ratio_one_service");
        let one = rounds.median(|round| round.one.unwrap_or_default());
        result.insert("one_service_mpps_per_cpu_s".to_owned(), rounded(one).into());
    }
    result.into()
}

/// What testpmd did with a capture.
pub fn of_testpmd(rounds: &Rounds) -> Value {
    json!({
        "5tswap_mpps_per_cpu_s": rounded(rounds.median(|round| round.swap)),
        "io_mpps_per_cpu_s": rounded(rounds.median(|round| round.io)),
    })
}

/// The result for people, on stdout.
pub fn print_table(results: &[(Capture, Rounds)]) {
    if results.is_empty() {
        return;
    }
    println!("millions of packets per CPU-second of the forwarding thread, medians");
    println!(
        "{:<12} {:>8} {:>8} {:>8}  relay / 5tswap (min, max)  rounds agree within 5%",
        "", "relay", "5tswap", "io"
    );
    for (capture, rounds) in results {
        let spread = rounds.spread(to_swap);
        println!(
            "{:<12} {:>8.2} {:>8.2} {:>8.2}  {:<25}  {}",
            capture.key,
            rounds.median(|round| round.relay.mpps),
            rounds.median(|round| round.swap),
            rounds.median(|round| round.io),
            format!("{:.3} ({:.3}, {:.3})", spread.median, spread.min, spread.max),
            spread.agreement(),
        );
    }
    for (capture, rounds) in results {
        if let Some(Spread { min, median, max, .. }) = to_one(rounds) {
            println!("{} / one service: {median:.3} ({min:.3}, {max:.3})", capture.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Services;

    fn round_of(mpps: f64, swap: f64) -> Round {
        let dpdk = String::new();
        let relay = Measured { mpps, received: 10, sent: 10, dropped: 0, dpdk };
        Round { relay, swap, io: 40.0, one: None }
    }

    fn capture() -> Capture {
        Capture { key: "min_512", frame_bytes: 66, packets: 512, services: Services::Pool }
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
        let rounds = Rounds(vec![round_of(10.0, 20.0), round_of(10.0, 20.0)]);
        let relay = of_relay(&capture(), &rounds);
        assert_eq!(relay["ratio_5tswap"], 0.5);
        assert_eq!(relay["ratio_5tswap_min"], 0.5);
        assert_eq!(relay["ratio_io"], 0.25);
        assert_eq!(relay["forwarded_share"], 1.0);
        assert_eq!(relay["agrees"], true);
        assert_eq!(relay["packets_in_file"], 512);
        assert_eq!(relay.get("ratio_one_service"), None);
        assert_eq!(of_testpmd(&rounds)["5tswap_mpps_per_cpu_s"], 20.0);
    }

    #[test]
    fn many_services_are_compared_with_one() {
        let rounds = Rounds(vec![Round { one: Some(16.0), ..round_of(10.0, 20.0) }]);
        let relay = of_relay(&capture(), &rounds);
        assert_eq!(relay["ratio_one_service"], 0.625);
        assert_eq!(relay["one_service_mpps_per_cpu_s"], 16.0);
        assert_eq!(relay["agrees"], Value::Null);
    }
}
