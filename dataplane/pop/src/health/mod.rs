//! Health checks of targets: one authority checks them, and changes the targets files.
//!
//! A POP judges no target: POPs that disagreed would send the segments of one connection to
//! different targets. `anyrelay health` checks the targets of its files, and writes into a file
//! when a target goes down or comes up, with a date that leaves time for the file to reach all
//! POPs. Each file has a thread, each target another one, and the command after a write one; they
//! are bounded by [`MAX_CHECKS`] and [`MAX_TARGETS`](anyrelay_core::config::MAX_TARGETS). Decisions
//! are pure ([`Rules::decide`]).

mod after;
mod board;
mod config;
mod decide;
mod keeper;
mod machine;
mod outs;
mod pages;
mod probe;
mod prober;
mod process;
mod run;

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use board::{CheckStatus, Counts, TargetStatus};
pub use config::{After, CheckConfig, Floor, HealthConfig, HttpProbe, MAX_CHECKS, Probe, load};
pub use decide::{Decision, Known, Rules, Withheld};
pub use machine::Machine;
pub use outs::{Out, Outs, Standing};
pub use probe::{Checked, Outcome};
pub use run::{HealthError, HealthOptions, once, run};

/// Changes a targets file under the lock that the commands of `anyrelay targets` take: the function
/// makes the new text from the old one, or `None` to leave the file as it is. Errors are in words.
pub type Edit = fn(&Path, &mut Change<'_>) -> Result<(), String>;

/// Makes a new text from an old one, if there is something to change.
pub type Change<'a> = dyn FnMut(&str) -> Result<Option<String>, String> + 'a;

/// How files are changed.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Changes a targets file.
    pub edit: Edit,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// Waits for the end of threads, for `limit` at most.
fn join_for(mut threads: Vec<JoinHandle<()>>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        threads.retain(|thread| !thread.is_finished());
        if threads.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
