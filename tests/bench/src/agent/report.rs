//! What was measured, as a table and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

use super::load::Carried;
use super::world::Spent;
use crate::stats::{Spread, rounded};

/// What one run of a contender gave: microseconds of CPU time for each datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// The connecting process, which sends.
    pub connect_us: f64,
    /// The serving process, which receives.
    pub serve_us: f64,
    /// Both processes and the wires of their hosts.
    pub hosts_us: f64,
    /// Datagrams per second of the clock.
    pub per_second: f64,
    /// Datagrams that were sent; as many arrived.
    pub carried: u64,
}

impl Figures {
    /// Of a run that lost nothing.
    pub fn new(carried: Carried, before: Spent, after: Spent) -> Self {
        let us = |after: u64, before: u64| (after - before) as f64 / 1e3 / carried.arrived as f64;
        let connect_us = us(after.process[0], before.process[0]);
        let serve_us = us(after.process[1], before.process[1]);
        let wires_us = us(after.wire[0], before.wire[0]) + us(after.wire[1], before.wire[1]);
        Figures {
            connect_us,
            serve_us,
            hosts_us: connect_us + serve_us + wires_us,
            per_second: carried.arrived as f64 / carried.elapsed.as_secs_f64(),
            carried: carried.arrived,
        }
    }
}

/// One round: each contender once, right after the other.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// `anyrelay-agent`.
    pub ours: Figures,
    /// phantun.
    pub phantun: Figures,
}

impl Round {
    /// How many times as many datagrams a CPU-second of ours carries.
    fn ratio(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        of(&self.phantun) / of(&self.ours)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round { ours, phantun } = self;
        write!(
            f,
            "us per datagram: connect {:.2} and {:.2}, serve {:.2} and {:.2}; \
             ratios {:.2} and {:.2}",
            ours.connect_us,
            phantun.connect_us,
            ours.serve_us,
            phantun.serve_us,
            self.ratio(|figures| figures.connect_us),
            self.ratio(|figures| figures.serve_us),
        )
    }
}

/// One kind of traffic.
#[derive(Clone, Debug)]
pub struct Case {
    /// Bytes of a datagram.
    pub bytes: usize,
    /// Whether both ends send.
    pub two_way: bool,
    /// What was measured.
    pub rounds: Vec<Round>,
}

type Part = (&'static str, fn(&Figures) -> f64);

/// What is compared: the connecting process, the serving one, both, and both with the wires.
const PARTS: [Part; 4] = [
    ("connect", |figures| figures.connect_us),
    ("serve", |figures| figures.serve_us),
    ("both", |figures| figures.connect_us + figures.serve_us),
    ("hosts", |figures| figures.hosts_us),
];

impl Case {
    /// Without rounds.
    pub fn new(bytes: usize, two_way: bool) -> Self {
        Case { bytes, two_way, rounds: Vec::new() }
    }

    /// Its key in the result.
    pub fn name(&self) -> String {
        format!("{}_{}", if self.two_way { "two_way" } else { "one_way" }, self.bytes)
    }

    fn spread(&self, of: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of))
    }
}

/// The result of all cases.
pub fn json(cases: &[Case]) -> Value {
    let mut result = Map::new();
    for case in cases {
        let mut of_case = Map::new();
        for (name, of) in PARTS {
            let ratio = case.spread(|round| round.ratio(of));
            // Thousands per CPU-second.
            let rate = |pick: fn(&Round) -> &Figures| {
                rounded(case.spread(|round| 1e3 / of(pick(round))).median)
            };
            let part = json!({
                "ratio": rounded(ratio.median),
                "ratio_min": rounded(ratio.min),
                "ratio_max": rounded(ratio.max),
                "agent_kdps_per_cpu_s": rate(|round| &round.ours),
                "phantun_kdps_per_cpu_s": rate(|round| &round.phantun),
            });
            of_case.insert(name.to_owned(), part);
        }
        let sum = |of: fn(&Round) -> u64| case.rounds.iter().map(of).sum::<u64>();
        let speed = |of: fn(&Round) -> f64| case.spread(of).median.round();
        of_case.insert("agent_carried".to_owned(), sum(|round| round.ours.carried).into());
        of_case.insert("phantun_carried".to_owned(), sum(|round| round.phantun.carried).into());
        of_case.insert("agent_per_s".to_owned(), speed(|round| round.ours.per_second).into());
        of_case.insert("phantun_per_s".to_owned(), speed(|round| round.phantun.per_second).into());
        result.insert(case.name(), of_case.into());
    }
    result.into()
}

/// The result for people, on stdout.
pub fn print_table(cases: &[Case]) {
    println!("thousands of datagrams per CPU-second, medians; nothing was lost");
    println!("{:<14}{:<9}{:>8} {:>8}  ratio (min, max)", "", "", "agent", "phantun");
    for case in cases {
        for (name, of) in PARTS {
            let ratio = case.spread(|round| round.ratio(of));
            println!(
                "{:<14}{name:<9}{:>8.0} {:>8.0}  {:.2} ({:.2}, {:.2})",
                case.name(),
                case.spread(|round| 1e3 / of(&round.ours)).median,
                case.spread(|round| 1e3 / of(&round.phantun)).median,
                ratio.median,
                ratio.min,
                ratio.max,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_what_a_cpu_second_carries() {
        let figures = |connect_us, serve_us| Figures {
            connect_us,
            serve_us,
            hosts_us: 10.0,
            per_second: 5.0,
            carried: 7,
        };
        let mut case = Case::new(100, true);
        case.rounds = vec![Round { ours: figures(2.0, 2.0), phantun: figures(3.0, 5.0) }];
        let json = json(&[case]);
        let case = &json["two_way_100"];
        assert_eq!(case["connect"]["ratio"], 1.5);
        assert_eq!(case["serve"]["ratio"], 2.5);
        assert_eq!(case["both"]["ratio"], 2.0);
        assert_eq!(case["connect"]["agent_kdps_per_cpu_s"], 500.0);
        assert_eq!(case["agent_carried"], 7);
    }
}
