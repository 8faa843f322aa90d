//! The main jobs, shown, while routes flip, packets are sprayed and POPs are killed. Relay: stock
//! clients reach a stock server through three POPs without state; then the same with HAProxy or
//! nftables in the POPs. Relay with IPv6: the same for clients over IPv4 and a server over IPv6,
//! and for both over IPv6. Pool6: the same by pools over IPv6. Encap: the same where the server has
//! no TCP timestamps, in tunnels to it, between both families. Targets: servers are added, weighed,
//! drained and removed, and die, while connections live; beside HAProxy. Tunnel: agents behind
//! strict NATs reach each other. Open: such agents reach a host that knows nothing of tunnels, and
//! it them.
//!
//! Exit codes: 0 all conditions are met, 1 one is not or the lab failed, 2 usage.

mod controls;
mod dead;
mod drive;
mod open;
mod record;
mod report;
mod run;
mod short;
mod targets;
mod transfer;
mod tunnel;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyrelay_lab::script::Script;
use anyrelay_lab::{Encapsulation, LabError, Result, Service, command};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use serde_json::Value;

use crate::controls::Control;
use crate::report::{Demo, Modes};
use crate::run::{Outcome, Run};

const POPS: usize = 3;

/// Shows that no connection breaks when routes move and POPs are killed.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Mode::Relay)]
    mode: Mode,
    /// What the relay is compared with, separated by commas [default: haproxy]; only with --mode
    /// relay.
    #[arg(long, value_enum, value_delimiter = ',')]
    controls: Vec<Control>,
    /// How long a run lasts; of the relay, and of its control, or of each of several modes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=3600))]
    seconds: u32,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw throughput over time into this file [default: demo.png beside the built programs].
    #[arg(long, value_name = "FILE.png")]
    plot: Option<PathBuf>,
    /// What flips and kills are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Stock clients and a stock server over IPv4.
    Relay,
    /// The same with IPv6: of the server (prefix), and of both (transparent).
    Relay6,
    /// The same over IPv6 by pools: wide and narrow, clients without timestamps, with TOA.
    Pool6,
    /// A server without TCP timestamps, at the end of a tunnel, over both families.
    Encap,
    /// Targets that change and die.
    Targets,
    /// Agents behind NATs.
    Tunnel,
    /// Agents behind NATs, and a host that knows nothing of tunnels.
    Open,
}

/// What a run of any mode has to say.
struct Findings {
    table: String,
    json: Value,
    plot_data: Value,
    conditions: Vec<(String, bool)>,
    /// Printed if a condition is not met.
    notes: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.mode != Mode::Relay && !arguments.controls.is_empty() {
        let message = "--controls goes with --mode relay only: leave one of them out";
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    match show(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(arguments: &Arguments) -> Result<bool> {
    let length = Duration::from_secs(arguments.seconds.into());
    let findings = match arguments.mode {
        Mode::Relay => relay(arguments, length)?,
        Mode::Relay6 => relay6(arguments.seed, length)?,
        Mode::Pool6 => pool6(arguments.seed, length)?,
        Mode::Encap => encap(arguments.seed, length)?,
        Mode::Targets => {
            let demo = targets::run(arguments.seed, length, POPS)?;
            Findings {
                table: demo.table(),
                json: demo.json(),
                plot_data: demo.plot_data(),
                conditions: demo.conditions(),
                notes: demo.notes(),
            }
        }
        Mode::Tunnel => {
            let demo = tunnel::run(arguments.seed, length)?;
            Findings {
                table: demo.table(),
                json: demo.json(),
                plot_data: demo.plot_data(),
                conditions: demo.conditions(),
                notes: tunnel::notes(&demo),
            }
        }
        Mode::Open => {
            let demo = open::run(arguments.seed, length)?;
            Findings {
                table: demo.table(),
                json: demo.json(),
                plot_data: demo.plot_data(),
                conditions: demo.conditions(),
                notes: open::notes(&demo),
            }
        }
    };
    println!("\n{}", findings.table);
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", findings.json);
        std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))?;
        println!("figures: {}", path.display());
    }
    let plot = arguments.plot.clone().unwrap_or_else(default_plot);
    draw(&findings.plot_data, &plot)?;
    println!("throughput over time: {}\n", plot.display());
    Ok(judge(&findings))
}

fn relay(arguments: &Arguments, length: Duration) -> Result<Findings> {
    let script = Script::new(arguments.seed, length, POPS);
    let mut chosen = arguments.controls.clone();
    if chosen.is_empty() {
        chosen.push(Control::Haproxy);
    }
    chosen.sort_unstable();
    chosen.dedup();
    let demo = Demo {
        relay: Run::relay("relay", Service::default()).follow(&script)?,
        controls: chosen.iter().map(|control| control.run(&script)).collect::<Result<_>>()?,
        script,
    };
    let calm = demo.controls.iter().map(|control| &control.calm);
    let must_work: Vec<&Outcome> = std::iter::once(&demo.relay).chain(calm).collect();
    Ok(Findings {
        table: demo.table(),
        json: demo.json(),
        plot_data: demo.plot_data(),
        conditions: demo.conditions(),
        // What went wrong in the controls when routes moved is what they are there for.
        notes: notes(&must_work),
    })
}

fn relay6(seed: u64, length: Duration) -> Result<Findings> {
    let script = Script::new(seed, length, POPS);
    let modes = [("prefix", Service::prefix()), ("transparent6", Service::transparent6())];
    in_turn(script, modes.map(|(name, service)| Run::relay(name, service)))
}

fn pool6(seed: u64, length: Duration) -> Result<Findings> {
    let (widest, narrowest) = (Service::pool6(), Service::pool6_of(28));
    let without_timestamps =
        Run { client_timestamps: false, ..Run::relay("pool6-bare", narrowest.clone()) };
    let runs = [
        Run::relay("pool6-12", widest.clone()),
        Run::relay("pool6-28", narrowest),
        without_timestamps,
        Run::relay("pool6-toa", widest.telling()),
    ];
    in_turn(Script::new(seed, length, POPS), runs)
}

/// Runs without a control.
fn in_turn<const N: usize>(script: Script, runs: [Run; N]) -> Result<Findings> {
    let runs = runs.into_iter().map(|run| run.follow(&script)).collect::<Result<_>>()?;
    Ok(findings(&Modes { runs, script, fails: None }))
}

fn encap(seed: u64, length: Duration) -> Result<Findings> {
    use Encapsulation::{Gue, Ipip};
    let script = Script::new(seed, length, POPS);
    let without_timestamps = |name, service| {
        let run = Run::relay(name, service);
        Run { server_timestamps: false, ..run }
    };
    // By whether the clients and the server are of IPv6.
    let tunnels = [
        ("ipip-4in4", Ipip, [false, false]),
        ("ipip-6in4", Ipip, [true, false]),
        ("gue-4in6", Gue, [false, true]),
        ("gue-6in6", Gue, [true, true]),
    ];
    let run = |(name, encapsulation, over_ipv6)| {
        let service = Service::tunnel(encapsulation, over_ipv6);
        without_timestamps(name, service).follow(&script)
    };
    let runs = tunnels.into_iter().map(run).collect::<Result<_>>()?;
    let fails = without_timestamps("pool", Service::default()).follow(&controls::calm(&script))?;
    Ok(findings(&Modes { script, runs, fails: Some(fails) }))
}

fn findings(demo: &Modes) -> Findings {
    Findings {
        table: demo.table(),
        json: demo.json(),
        plot_data: demo.plot_data(),
        conditions: demo.conditions(),
        notes: notes(&demo.runs.iter().collect::<Vec<_>>()),
    }
}

/// The first failures of these runs, in words.
fn notes(runs: &[&Outcome]) -> Vec<String> {
    let of_run = |run: &&Outcome| {
        let name = run.name;
        run.counts.notes.iter().map(|note| format!("{name}: {note}")).collect::<Vec<_>>()
    };
    runs.iter().flat_map(of_run).collect()
}

/// Prints each condition; if one is not met, also what went wrong.
fn judge(findings: &Findings) -> bool {
    for (condition, met) in &findings.conditions {
        println!("{}  {condition}", if *met { "ok    " } else { "FAILED" });
    }
    let passed = findings.conditions.iter().all(|(_, met)| *met);
    if !passed {
        findings.notes.iter().for_each(|note| println!("{note}"));
    }
    passed
}

fn draw(data: &Value, path: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("plot.py");
    let mut python = Command::new(script);
    command::run_with_input(python.arg(path), &data.to_string()).map(drop)
}

fn default_plot() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("demo.png")
}
