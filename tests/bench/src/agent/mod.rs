//! Measures `anyrelay-agent` beside phantun: datagrams per CPU-second of the two processes that a
//! tunnel has, on the same kind of hosts, in turn.
//!
//! A run is void unless all that was sent arrived; it is made again, three times at most.

mod load;
mod report;
mod world;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use load::{Load, Plan};
use report::{Case, Figures, Round};
use world::{Contender, World};

/// Measures the agent beside phantun.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with phantun's programs, `client` and `server`.
    #[arg(long)]
    phantun: PathBuf,
    /// Datagrams of each run, in each direction.
    #[arg(long, default_value_t = 50_000)]
    count: u64,
}

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not start, or loses datagrams each time.
pub fn measure(arguments: &Arguments, rounds: u32) -> anyhow::Result<Value> {
    let world = World::build(&arguments.phantun)?;
    let mut loads = [world.load(Contender::Ours)?, world.load(Contender::Phantun)?];
    let mut cases: Vec<Case> = CASES.map(|(bytes, two_way)| Case::new(bytes, two_way)).into();
    for number in 1..=rounds {
        for case in &mut cases {
            let plan = Plan { bytes: case.bytes, two_way: case.two_way, count: arguments.count };
            let [ours, phantun] = &mut loads;
            let ours = run(&world, Contender::Ours, ours, plan)?;
            let phantun = run(&world, Contender::Phantun, phantun, plan)?;
            let round = Round { ours, phantun };
            eprintln!("{} round {number}: {round}", case.name());
            case.rounds.push(round);
        }
    }
    report::print_table(&cases);
    Ok(report::json(&cases))
}

fn run(world: &World, who: Contender, load: &mut Load, plan: Plan) -> anyhow::Result<Figures> {
    for _ in 0..TRIES {
        let mut before = None;
        let carried = load.run(plan, || {
            before = Some(world.spent(who)?);
            Ok(())
        })?;
        let after = world.spent(who)?;
        let Some(before) = before else { continue };
        if carried.arrived == carried.sent {
            return Ok(Figures::new(carried, before, after));
        }
        eprintln!("{who:?}: {} of {} arrived, once more", carried.arrived, carried.sent);
    }
    bail!("void: {who:?} lost datagrams {TRIES} times")
}

/// Bytes of a datagram, and whether both ends send.
const CASES: [(usize, bool); 4] = [(100, false), (1200, false), (100, true), (1200, true)];
const TRIES: u32 = 3;
