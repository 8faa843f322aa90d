//! The demo of open tunnels: agents behind strict NATs have IPv6 addresses, by which a host that
//! knows nothing of tunnels reaches them, and they it, through three POPs without state, while
//! routes flip, packets are sprayed and POPs are killed.

mod drive;
pub mod report;
mod run;
mod ssh;

use std::time::Duration;

use anyrelay_lab::Result;
use anyrelay_lab::script::Script;

use report::Demo;

/// Between two flips of a route.
const FLIP_INTERVAL: Duration = Duration::from_millis(200);
const POPS: usize = 3;

/// Runs it.
///
/// # Errors
/// If the lab fails.
pub fn run(seed: u64, length: Duration) -> Result<Demo> {
    let script = Script::with_interval(seed, length, POPS, FLIP_INTERVAL);
    let run = run::run(&script)?;
    Ok(Demo { script, run })
}

/// Everything that a failed run has to say.
pub fn notes(demo: &Demo) -> Vec<String> {
    let run = &demo.run;
    let mut notes = run.counts.notes.clone();
    notes.extend(run.conntrack_log.lines().take(10).map(|line| format!("conntrack: {line}")));
    notes.push(format!("drops of POPs:\n{}{}", run.drops, run.refused));
    notes
}
