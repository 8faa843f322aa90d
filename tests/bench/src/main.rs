//! Figures that docs/performance.md quotes. `scripts/bench` builds, prepares and calls this.
//!
//! Machines are shared and noisy, so everything is a ratio: what is compared runs in turn, in
//! rounds, and is counted in CPU time. A run that is void ends with exit code 1.
#![deny(unsafe_code)]

mod agent;
mod config;
mod cpu;
mod flood;
mod guest;
mod instructions;
mod lab;
mod load;
mod packets;
mod plot;
mod relay;
mod report;
mod stats;
mod testpmd;
mod tunnel;
mod works;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use anyrelay_lab::registry::{self, WorkDir};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use report::Machine;

/// Measures parts of anyrelay beside others' programs.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where to write the result as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// How often each program runs.
    #[arg(long, global = true, default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The commit that is measured.
    #[arg(long, global = true, default_value = "unknown")]
    commit: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The relay's packet path beside testpmd.
    Relay(works::Arguments),
    /// A POP's path for tunnels beside that for relays, and floods of SYNs.
    Tunnel(packets::Arguments),
    /// Floods of SYNs and of made-up tags at a relay.
    Flood(packets::Arguments),
    /// The agent beside phantun.
    Agent(agent::Arguments),
    /// How many instructions the core takes for a packet.
    Instructions(instructions::Arguments),
    /// What is counted for it.
    #[command(hide = true)]
    Spin(instructions::Spin),
    /// Kernel TCP through one POP, beside proxies and nftables.
    Lab(lab::Arguments),
    /// The same on NICs of a guest, beside proxies, in instructions.
    Guest(guest::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    // Configs, keys and logs of the runs; gone with it, also after SIGINT if there is a lab.
    let folder = WorkDir::create(&registry::new_lab_id())?;
    let json = measure_in(arguments, folder.path())?;
    drop(folder);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&json)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    match &arguments.what {
        What::Relay(works::Arguments { plot: Some(path), .. })
        | What::Lab(lab::Arguments { plot: Some(path), .. }) => plot::draw(&json, path),
        _ => Ok(()),
    }
}

fn measure_in(arguments: &Arguments, folder: &Path) -> anyhow::Result<Value> {
    let Arguments { what, rounds, commit, .. } = arguments;
    match what {
        What::Relay(what) => works::measure(what, folder, *rounds, commit),
        What::Tunnel(what) => {
            let machine = Machine::here("", commit)?.json();
            let tunnel = tunnel::measure(what, folder, *rounds)?;
            Ok(json!({"schema": 1, "machine": machine, "rounds": rounds, "tunnel": tunnel}))
        }
        What::Flood(what) => {
            let machine = Machine::here("", commit)?.json();
            let flood = flood::measure(what, folder)?;
            Ok(json!({"schema": 1, "machine": machine, "flood": flood}))
        }
        What::Agent(what) => {
            let machine = Machine::here("", commit)?.json();
            let agent = agent::measure(what, *rounds)?;
            Ok(json!({"schema": 1, "machine": machine, "rounds": rounds, "agent": agent}))
        }
        What::Instructions(what) => instructions::measure(what),
        What::Spin(what) => instructions::spin(what).map(|()| Value::Null),
        What::Lab(what) => {
            let machine = Machine::here("", commit)?.json();
            let lab = lab::measure(what, *rounds)?;
            Ok(json!({"schema": 1, "machine": machine, "rounds": rounds, "lab": lab}))
        }
        What::Guest(what) => {
            let machine = Machine::here("", commit)?.json();
            let guest = guest::measure(what, *rounds)?;
            Ok(json!({"schema": 1, "machine": machine, "rounds": rounds, "guest": guest}))
        }
    }
}
