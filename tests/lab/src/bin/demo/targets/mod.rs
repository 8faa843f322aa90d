//! Targets that are added, weighed, drained, removed and that die while connections live: through
//! POPs without state, and through HAProxy whose servers are changed by its runtime API.

mod change;
mod judge;
mod plan;
mod report;
mod run;

use std::time::Duration;

use anyrelay_lab::script::Script;
use anyrelay_lab::{Forwarder, Result};

pub use report::Demo;

/// Runs the relay, and HAProxy beside it: without flips and kills, and with those of the relay.
///
/// # Errors
/// If a lab fails.
pub fn run(seed: u64, length: Duration, pops: usize) -> Result<Demo> {
    let script = Script::new(seed, length, pops);
    Ok(Demo {
        relay: run::run("relay", Forwarder::Relay, &script)?,
        calm: run::run("control, calm", Forwarder::HaProxy, &Script::calm(length))?,
        control: run::run("control", Forwarder::HaProxy, &script)?,
        script,
    })
}
