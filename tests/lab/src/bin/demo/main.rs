//! The main job, shown: stock clients reach a stock server through three POPs without state, while
//! routes flip, packets are sprayed and POPs are killed; then the same with HAProxy in the POPs.
//!
//! Exit codes: 0 all conditions are met, 1 one is not or the lab failed, 2 usage.

mod drive;
mod record;
mod report;
mod run;
mod short;
mod transfer;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyrelay_lab::script::Script;
use anyrelay_lab::{Forwarder, LabError, Result, command};
use clap::Parser;

use crate::report::Demo;

/// How much of the length of a run the calm control lasts.
const CALM_SHARE: f64 = 0.25;
const POPS: usize = 3;

/// Shows that no connection breaks when routes move and POPs are killed.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// How long the relay's run lasts, and the control's.
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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    let script = Script::new(arguments.seed, length, POPS);
    let calm = Script::calm(length.mul_f64(CALM_SHARE));
    let demo = Demo {
        relay: run::run("relay", Forwarder::Relay, &script)?,
        calm: run::run("control, calm", Forwarder::HaProxy, &calm)?,
        control: run::run("control", Forwarder::HaProxy, &script)?,
        script,
    };
    println!("\n{}", demo.table());
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", demo.json());
        std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))?;
        println!("figures: {}", path.display());
    }
    let plot = arguments.plot.clone().unwrap_or_else(default_plot);
    draw(&demo, &plot)?;
    println!("throughput over time: {}\n", plot.display());
    Ok(judge(&demo))
}

/// Prints each condition; for those of the relay that are not met, also what went wrong.
fn judge(demo: &Demo) -> bool {
    let conditions = demo.conditions();
    for (condition, met) in &conditions {
        println!("{}  {condition}", if *met { "ok    " } else { "FAILED" });
    }
    let passed = conditions.iter().all(|(_, met)| *met);
    if !passed {
        for run in [&demo.relay, &demo.calm] {
            run.counts.notes.iter().for_each(|note| println!("{}: {note}", run.name));
        }
    }
    passed
}

fn draw(demo: &Demo, path: &Path) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("plot.py");
    let mut python = Command::new(script);
    command::run_with_input(python.arg(path), &demo.plot_data().to_string()).map(drop)
}

fn default_plot() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("demo.png")
}
