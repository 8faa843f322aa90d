//! Reload: all checks precede any change.

use std::path::Path;
use std::sync::Arc;

use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::snapshot::{ConflictKind, Snapshot, reload_conflicts};

use super::load::{Files, Loaded, Previous, load};
use crate::worker::unix_now;

/// Why the running config stays.
#[derive(Debug)]
pub enum ReloadRefusal {
    /// The files have problems.
    Mistakes(Problems),
    /// A change is impossible while the POP runs, or would break connections.
    Conflicts(Vec<Problem>),
}

impl ReloadRefusal {
    /// Each reason with its file and key.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ReloadRefusal::Mistakes(problems) => &problems.0,
            ReloadRefusal::Conflicts(problems) => problems,
        }
    }
}

/// Reads all files again and builds the next snapshot. `may_break` allows changes that break
/// established connections.
///
/// # Errors
/// All reasons against the reload.
pub fn prepare(path: &Path, running: &Snapshot, may_break: bool) -> Result<Loaded, ReloadRefusal> {
    let now = unix_now(running.config.pop.clock_offset_ms);
    let previous = Previous { snapshot: running, now };
    let next = load(path, Some(previous)).map_err(ReloadRefusal::Mistakes)?;
    let conflicts = reload_conflicts(running, &next.snapshot, now);
    let refused: Vec<Problem> = conflicts
        .into_iter()
        .filter(|conflict| !may_break || conflict.kind == ConflictKind::NeedsRestart)
        .map(|conflict| {
            let mut problem = conflict.problem;
            if conflict.kind == ConflictKind::BreaksConnections {
                problem.reason.push_str("; or restart with --breaks-connections");
            }
            problem
        })
        .collect();
    if refused.is_empty() { Ok(next) } else { Err(ReloadRefusal::Conflicts(refused)) }
}

/// Reads the targets files again and builds the next snapshot, with all else as it runs. What is
/// late is taken at once, as waiting makes nothing better, and told with it: connections of before
/// go on being asked for.
///
/// # Errors
/// The problems of the files.
pub fn prepare_targets(
    files: &Files,
    running: &Snapshot,
) -> Result<(Snapshot, Vec<Problem>), Problems> {
    let now = unix_now(running.config.pop.clock_offset_ms);
    let next = files.build(Some(Previous { snapshot: running, now }))?;
    let late = reload_conflicts(running, &next, now);
    Ok((next, late.into_iter().map(|conflict| conflict.problem).collect()))
}

/// The snapshots that workers may still read: the newest and previous ones.
///
/// Workers never free a snapshot: it stays here until no worker holds it.
#[derive(Debug)]
pub struct Published {
    newest: Arc<Snapshot>,
    retired: Vec<Arc<Snapshot>>,
}

impl Published {
    /// The first snapshot.
    pub fn new(first: Arc<Snapshot>) -> Self {
        Published { newest: first, retired: Vec::new() }
    }

    /// The newest one.
    pub fn newest(&self) -> &Arc<Snapshot> {
        &self.newest
    }

    /// Replaces the newest one by `next`.
    pub fn replace(&mut self, next: Arc<Snapshot>) {
        self.retired.push(std::mem::replace(&mut self.newest, next));
    }

    /// Frees previous snapshots that no worker holds. Returns the number of the others.
    pub fn free_retired(&mut self) -> usize {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired.len()
    }
}
