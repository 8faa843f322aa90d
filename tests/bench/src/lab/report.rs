//! What was measured, as tables and as JSON.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::{CASES, Case, Middle, Run};
use crate::load::{CONNECTIONS, Direction};
use crate::stats::{Spread, rounded};

impl Run {
    /// Payload, in gigabits per second of elapsed time.
    fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.spent.elapsed.as_secs_f64()
    }

    /// CPU-seconds of all for a gigabyte of payload.
    fn total_cost(&self) -> f64 {
        self.spent.cpu.as_secs_f64() * 1e9 / self.bytes as f64
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gbit, cost) = (self.gbit_per_s(), self.total_cost());
        write!(f, "{gbit:.2} Gbit/s, {cost:.3} CPU-seconds per GB with the hosts")?;
        let others = self.spent.others_share;
        if others > DISTURBED { write!(f, "; others had {:.0}%", others * 100.0) } else { Ok(()) }
    }
}

/// All cases once, in both directions.
#[derive(Debug, Default)]
pub struct Round(HashMap<(&'static str, &'static str), Run>);

impl Round {
    /// Adds what was measured of a case.
    pub fn add(&mut self, case: &'static str, direction: Direction, run: Run) {
        self.0.insert((case, direction.key()), run);
    }

    fn run(&self, case: &'static str, direction: Direction) -> Option<&Run> {
        self.0.get(&(case, direction.key()))
    }

    /// CPU-seconds of the POP for a gigabyte: what was spent beyond the control.
    fn cost(&self, case: &Case, direction: Direction) -> Option<f64> {
        let all = self.run(case.key, direction)?.total_cost();
        Some(all - self.run(case.control(), direction)?.total_cost())
    }
}

/// A case of all rounds, in one direction.
struct Summary {
    gbit_per_s: Spread,
    /// CPU-seconds of hosts, routers and POP for a gigabyte.
    total: Spread,
    /// The same of the POP, and how many times as many bytes per CPU-second the relay carries; not
    /// of a control.
    pop: Option<[Spread; 2]>,
    /// The greatest share that others had.
    others_share: f64,
}

impl Summary {
    fn of(rounds: &[Round], case: &Case, direction: Direction) -> Summary {
        let own = |of: fn(&Run) -> f64| {
            Spread::of(rounds.iter().filter_map(|round| round.run(case.key, direction)).map(of))
        };
        let cost = |case| move |round: &Round| round.cost(case, direction);
        let ratio = |round: &Round| Some(cost(case)(round)? / cost(&CASES[RELAY])(round)?);
        let spreads = || {
            let ratios = Spread::of(rounds.iter().filter_map(ratio));
            [Spread::of(rounds.iter().filter_map(cost(case))), ratios]
        };
        Summary {
            gbit_per_s: own(Run::gbit_per_s),
            total: own(Run::total_cost),
            pop: (case.middle != Middle::Control).then(spreads),
            others_share: own(|run| run.spent.others_share).max,
        }
    }

    /// Gigabytes for a CPU-second of the POP; `None` if its cost is not above what can be measured.
    fn rate(&self) -> Option<f64> {
        let [cost, _] = self.pop?;
        (cost.min > 0.0).then(|| 1.0 / cost.median)
    }

    fn json(&self) -> Value {
        let mut json = Map::new();
        self.gbit_per_s.add_to(&mut json, "gbit_per_s");
        self.total.add_to(&mut json, "total_cpu_s_per_gb");
        json.insert("others_share".to_owned(), rounded(self.others_share).into());
        if let Some([cost, ratio]) = &self.pop {
            cost.add_to(&mut json, "pop_cpu_s_per_gb");
            json.insert("pop_gb_per_cpu_s".to_owned(), self.rate().map(rounded).into());
            ratio.add_to(&mut json, "ratio");
            json.insert("agrees".to_owned(), ratio.agrees().into());
        }
        json.into()
    }
}

/// The result of all rounds.
pub fn json(rounds: &[Round]) -> Value {
    let of = |direction| {
        let cases = CASES
            .iter()
            .map(|case| (case.key.to_owned(), Summary::of(rounds, case, direction).json()));
        Value::Object(cases.collect())
    };
    json!({
        "connections": CONNECTIONS,
        "download": of(Direction::Download),
        "upload": of(Direction::Upload),
    })
}

/// The result for people, on stdout.
pub fn print_tables(rounds: &[Round]) {
    println!("kernel TCP through one POP, {CONNECTIONS} connections; medians (minimum, maximum)");
    for direction in Direction::ALL {
        println!(
            "{:<24} {:>7} {:>12} {:>12} {:>23}  relay / it",
            direction.key(),
            "Gbit/s",
            "all CPU-s/GB",
            "POP GB/CPU-s",
            "POP CPU-s/GB",
        );
        for case in &CASES {
            let summary = Summary::of(rounds, case, direction);
            let text =
                |Spread { min, median, max, .. }| format!("{median:.3} ({min:.3}, {max:.3})");
            let [cost, ratio] = summary.pop.map_or_else(Default::default, |pop| pop.map(text));
            let rate = summary.rate().map_or("-".to_owned(), |rate| format!("{rate:.2}"));
            let disturbed = summary.others_share > DISTURBED;
            println!(
                "{:<24} {:>7.2} {:>12.2} {rate:>12} {cost:>23}  {ratio}{}",
                case.key,
                summary.gbit_per_s.median,
                summary.total.median,
                if disturbed { "  disturbed" } else { "" },
            );
        }
    }
}

/// Where the relay is among the cases.
pub const RELAY: usize = 1;
/// The share of the CPUs that others may have without it being said.
const DISTURBED: f64 = 0.05;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::spent::Spent;

    fn run(cpu_s: u64) -> Run {
        let (elapsed, cpu) = (Duration::from_secs(2), Duration::from_secs(cpu_s));
        Run { bytes: 1_000_000_000, spent: Spent { elapsed, cpu, others_share: 0.0 } }
    }

    #[test]
    fn a_pop_costs_what_is_beyond_its_control() {
        let mut round = Round::default();
        for (key, cpu_s) in [
            ("control", 3),
            ("relay", 5),
            ("nginx", 9),
            ("control_offloads", 1),
            ("nginx_offloads", 2),
        ] {
            round.add(key, Direction::Upload, run(cpu_s));
        }
        let json = json(&[round]);
        let upload = &json["upload"];
        assert_eq!(upload["relay"]["pop_cpu_s_per_gb"], 2.0);
        assert_eq!(upload["relay"]["pop_gb_per_cpu_s"], 0.5);
        assert_eq!(upload["relay"]["gbit_per_s"], 4.0);
        assert_eq!(upload["nginx"]["ratio"], 3.0);
        assert_eq!(upload["nginx_offloads"]["ratio"], 0.5);
        assert_eq!(upload["control"]["total_cpu_s_per_gb"], 3.0);
        assert_eq!(upload["control"].get("ratio"), None);
    }

    #[test]
    fn a_cost_below_the_noise_is_no_rate() {
        let mut round = Round::default();
        round.add("control_offloads", Direction::Download, run(2));
        round.add("nftables_offloads", Direction::Download, run(2));
        let json = json(&[round]);
        assert_eq!(json["download"]["nftables_offloads"]["pop_gb_per_cpu_s"], Value::Null);
    }
}
