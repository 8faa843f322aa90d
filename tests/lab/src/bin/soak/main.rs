//! A long run of two labs side by side, with mixed traffic: relays between stock hosts, and tunnels
//! between agents. Routes flip, packets are sprayed, POPs are killed and restarted, configs are
//! reloaded; one POP of each lab is spared, and its memory must not grow.
//!
//! Exit codes: 0 nothing broke and memory is flat, 1 otherwise or the lab failed, 2 usage.

mod drive;
mod memory;
mod relay;
mod tunnel;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyrelay_lab::script::Script;
use anyrelay_lab::{LabError, Result};
use clap::Parser;
use serde_json::json;

use crate::memory::Memory;
use crate::relay::Relays;
use crate::tunnel::Tunnels;

/// What flips and kills are made for at a time; a reload ends it.
const ROUND: Duration = Duration::from_secs(60);
const POPS: usize = 3;
/// The POP of each lab that lives as long as the run.
const SPARED: usize = 0;
/// Between two flips of one direction.
const RELAY_FLIP_INTERVAL: Duration = Duration::from_millis(100);
const TUNNEL_FLIP_INTERVAL: Duration = Duration::from_millis(200);

/// Runs mixed traffic through relays and tunnels for a long time under faults.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How long it lasts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(4..=10_080))]
    minutes: u32,
    /// What flips and kills are made from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments) -> Result<bool> {
    eprintln!("soak: starting");
    let mut relays = Relays::build()?;
    let mut tunnels = Tunnels::build()?;
    let mut memory = Memory::default();
    let start = Instant::now();
    for minute in 1..=arguments.minutes {
        let script = |interval| {
            let seed = arguments.seed << 32 | u64::from(minute);
            Script::among(seed, ROUND, POPS, interval, SPARED + 1..POPS)
        };
        let (relay_script, tunnel_script) =
            (script(RELAY_FLIP_INTERVAL), script(TUNNEL_FLIP_INTERVAL));
        let (relayed, tunnelled) = std::thread::scope(|scope| {
            let relayed = scope.spawn(|| relays.round(&relay_script));
            let tunnelled = tunnels.round(&tunnel_script);
            (relayed.join(), tunnelled)
        });
        relayed.map_err(|_| LabError::Unexpected("the relays' driver died".into()))??;
        tunnelled?;
        memory.sample("relay POP", relays.spared())?;
        memory.sample("tunnel POP", tunnels.spared())?;
        for agent in tunnels.agents() {
            memory.sample_agent(agent)?;
        }
        eprintln!(
            "soak: {minute}/{} min: {}; {}; {}",
            arguments.minutes,
            relays.line(),
            tunnels.line(),
            memory.line()
        );
    }
    let took = start.elapsed();
    let relayed = relays.finish()?;
    let tunnelled = tunnels.finish()?;
    let findings = json!({
        "minutes": took.as_secs() / 60,
        "relay": relayed.json(),
        "tunnel": tunnelled.json(),
        "memory": memory.json(),
    });
    println!("\n{}\n{}\n{}", relayed.table(), tunnelled.table(), memory.table());
    if let Some(path) = &arguments.json {
        let text = format!("{findings:#}\n");
        std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))?;
    }
    let conditions = [relayed.conditions(), tunnelled.conditions(), memory.conditions()].concat();
    for (condition, met) in &conditions {
        println!("{}  {condition}", if *met { "ok    " } else { "FAILED" });
    }
    let passed = conditions.iter().all(|(_, met)| *met);
    if !passed {
        relayed.notes.iter().chain(&tunnelled.notes).for_each(|note| println!("{note}"));
    }
    Ok(passed)
}
