//! What the demo prints and writes, and whether it passes.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use anyrelay_lab::Direction;
use anyrelay_lab::counters::Carried;
use anyrelay_lab::script::Script;

use crate::controls::{Control, Controlled};
use crate::record::{BUCKET, Counts, mbit_s};
use crate::run::Outcome;

/// The runs of the relay between IPv4 and IPv4, and of what is used today.
#[derive(Debug)]
pub struct Demo {
    /// What the relay and the controls went through.
    pub script: Script,
    /// The relay.
    pub relay: Outcome,
    /// What it is compared with.
    pub controls: Vec<Controlled>,
}

impl Demo {
    /// The figures, as JSON: `control` is HAProxy.
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        all.insert("relay".to_owned(), Value::Object(figures(&self.relay)));
        for Controlled { control, calm, weak, moved } in &self.controls {
            let mut of_it = figures(moved);
            of_it.insert("calm_broken".to_owned(), json!(failures(calm)));
            let (name, name_of_weak) = match control {
                Control::Haproxy => ("control", ""),
                Control::Nftables => ("nftables", "apart"),
                Control::Stateless => ("stateless", "grown"),
            };
            if let Some(weak) = weak {
                of_it.insert(name_of_weak.to_owned(), Value::Object(figures(weak)));
            }
            all.insert(name.to_owned(), Value::Object(of_it));
        }
        Value::Object(all)
    }

    /// The conditions under which the demo passes, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let mut conditions = relay_conditions(&self.relay, &self.script);
        for Controlled { control, calm, weak, moved } in &self.controls {
            conditions.push(zero(&format!("{}: failures", calm.name), failures(calm)));
            let broken = match control {
                Control::Haproxy => moved,
                Control::Nftables => weak.as_ref().unwrap_or(moved),
                // Which of the few connections at the change have another target then is chance.
                Control::Stateless => continue,
            };
            let count = broken.counts.broken;
            let text = format!("{}: broken is {count}, must not be 0", broken.name);
            conditions.push((text, count > 0));
        }
        conditions
    }

    /// The runs beside each other.
    pub fn table(&self) -> String {
        let controls = self.controls.iter().flat_map(Controlled::runs);
        table(&std::iter::once(&self.relay).chain(controls).collect::<Vec<_>>())
    }

    /// What the plot is drawn from.
    pub fn plot_data(&self) -> Value {
        let controls = self.controls.iter().map(|control| &control.moved);
        let runs: Vec<&Outcome> = std::iter::once(&self.relay).chain(controls).collect();
        plot_data(&self.script, &runs)
    }
}

/// The runs of the relay in several modes.
#[derive(Debug)]
pub struct Modes {
    /// What each went through.
    pub script: Script,
    /// One for each mode.
    pub runs: Vec<Outcome>,
    /// A mode in which nothing works, with resting routes: the control.
    pub fails: Option<Outcome>,
}

impl Modes {
    /// The figures, as JSON, by the modes' names.
    pub fn json(&self) -> Value {
        let runs = self.all().into_iter();
        runs.map(|run| (run.name.to_owned(), Value::Object(figures(run)))).collect()
    }

    /// The conditions under which the demo passes, and whether each is met.
    pub fn conditions(&self) -> Vec<(String, bool)> {
        let of_run = |run| relay_conditions(run, &self.script);
        let mut conditions: Vec<_> = self.runs.iter().flat_map(of_run).collect();
        if let Some(Outcome { name, counts, .. }) = &self.fails {
            let (broken, of) = (counts.broken + counts.short_broken, connections(counts));
            let text = format!("{name}: {broken} of {of} connections broken, must be all");
            conditions.push((text, broken == of));
        }
        conditions
    }

    /// The runs beside each other.
    pub fn table(&self) -> String {
        table(&self.all())
    }

    fn all(&self) -> Vec<&Outcome> {
        self.runs.iter().chain(&self.fails).collect()
    }

    /// What the plot is drawn from.
    pub fn plot_data(&self) -> Value {
        plot_data(&self.script, &self.runs.iter().collect::<Vec<_>>())
    }
}

fn connections(counts: &Counts) -> u64 {
    counts.transfers + counts.short_connections
}

fn zero(what: &str, got: u64) -> (String, bool) {
    (format!("{what} is {got}, must be 0"), got == 0)
}

/// What a run of the relay must show.
fn relay_conditions(run: &Outcome, script: &Script) -> Vec<(String, bool)> {
    let (name, counts) = (run.name, &run.counts);
    let stall = counts.longest_stall.as_millis();
    // How much must happen is stated for 30 seconds.
    let scale = script.length.as_secs_f64() / 30.0;
    let at_least = |what: &str, got: usize, in_30_s: f64| {
        let need = (in_30_s * scale).floor() as usize;
        (format!("{name}: {got} {what}, at least {need}"), got >= need)
    };
    let none = |what: &str, got: u64| zero(&format!("{name}: {what}"), got);
    let share = run.sprayed.as_ref().map_or(0.0, Carried::smallest_share) * 100.0;
    let shorts = usize::try_from(counts.short_connections).unwrap_or(usize::MAX);
    vec![
        none("broken", counts.broken),
        none("corrupt", counts.corrupt),
        none("short_broken", counts.short_broken),
        (format!("{name}: longest stall {stall} ms, below 3000 ms"), stall < 3000),
        at_least("flips that moved packets", counts.flips.len(), 200.0),
        at_least("kills", counts.kills.len(), 2.0),
        at_least("short connections", shorts, 500.0),
        (
            format!("{name}: each POP carried {share:.1}% or more of the spray, at least 10%"),
            share >= 10.0,
        ),
    ]
}

fn table(runs: &[&Outcome]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let cells: String = runs.iter().map(|run| format!("{:>17}", cell(run))).collect();
        let _ = writeln!(text, "{name:<28}{cells}");
    };
    row("", &|run| run.name.to_owned());
    row("transfers", &|run| run.counts.transfers.to_string());
    row("  broken", &|run| run.counts.broken.to_string());
    row("bodies corrupt", &|run| run.counts.corrupt.to_string());
    row("short connections", &|run| run.counts.short_connections.to_string());
    row("  broken", &|run| run.counts.short_broken.to_string());
    row("  slow (1 s or more)", &|run| run.counts.short_slow.to_string());
    row("longest stall, ms", &|run| run.counts.longest_stall.as_millis().to_string());
    row("payload, MB", &|run| format!("{:.0}", run.bytes as f64 / 1e6));
    row("throughput, Mbit/s", &|run| format!("{:.0}", run.throughput_mbit_s));
    row("flips that moved packets", &|run| run.counts.flips.len().to_string());
    row("kills", &|run| run.counts.kills.len().to_string());
    let pops = runs.iter().map(|run| run.carried.up.len()).min().unwrap_or(0);
    for pop in 0..pops {
        row(&format!("pop{} packets up", pop + 1), &|run| run.carried.up[pop].to_string());
        row(&format!("pop{} packets down", pop + 1), &|run| run.carried.down[pop].to_string());
    }
    text
}

fn plot_data(script: &Script, runs: &[&Outcome]) -> Value {
    let runs: Vec<Value> = runs.iter().map(|run| plot_run(run)).collect();
    json!({
        "seconds": script.length.as_secs_f64(),
        "bucket_seconds": BUCKET.as_secs_f64(),
        "spray": [script.spray.start.as_secs_f64(), script.spray.end.as_secs_f64()],
        "runs": runs,
    })
}

fn figures(run: &Outcome) -> Map<String, Value> {
    let counts = &run.counts;
    let pops: Map<String, Value> = (0..run.carried.up.len())
        .map(|pop| {
            let (up, down) = (run.carried.up[pop], run.carried.down[pop]);
            (format!("pop{}", pop + 1), json!({ "packets_up": up, "packets_down": down }))
        })
        .collect();
    let fields = json!({
        "transfers": counts.transfers,
        "bytes": run.bytes,
        "broken": counts.broken,
        "corrupt": counts.corrupt,
        "longest_stall_ms": u64::try_from(counts.longest_stall.as_millis()).unwrap_or(u64::MAX),
        "flips": counts.flips.len(),
        "kills": counts.kills.len(),
        "short_connections": counts.short_connections,
        "short_broken": counts.short_broken,
        "short_slow": counts.short_slow,
        "throughput_mbit_s": (run.throughput_mbit_s * 10.0).round() / 10.0,
        "pops": pops,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Everything that went wrong in a run in which nothing may.
fn failures(run: &Outcome) -> u64 {
    run.counts.broken + run.counts.short_broken + run.counts.corrupt
}

fn plot_run(run: &Outcome) -> Value {
    json!({
        "name": run.name,
        "down": mbit_s(&run.series[0]),
        "up": mbit_s(&run.series[1]),
        "flips_up": run.counts.flip_times(Direction::Up),
        "flips_down": run.counts.flip_times(Direction::Down),
        "kills": run.counts.kill_times(),
        "transfers": run.counts.transfers,
        "broken": run.counts.broken,
        "short_connections": run.counts.short_connections,
        "short_broken": run.counts.short_broken,
    })
}
