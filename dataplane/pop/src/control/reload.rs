//! Reload: everything is checked before anything changes.

use std::path::Path;
use std::sync::Arc;

use anyrelay_core::problem::{Problem, Problems};
use anyrelay_core::snapshot::{ConflictKind, Snapshot, reload_conflicts};

use crate::worker::unix_now;

/// Why the running config stays in place.
#[derive(Debug)]
pub enum ReloadRefusal {
    /// The files on disk do not check.
    Mistakes(Problems),
    /// Something in them cannot change while the POP runs, or breaks connections.
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

/// Reads the files again and builds the snapshot to go on with. `may_break` allows what breaks live
/// connections.
///
/// # Errors
/// Everything that speaks against it.
pub fn prepare(
    path: &Path,
    running: &Snapshot,
    may_break: bool,
) -> Result<Snapshot, ReloadRefusal> {
    let next = super::load(path, Some(running)).map_err(ReloadRefusal::Mistakes)?;
    let now = unix_now(running.config.pop.clock_offset_ms);
    let conflicts = reload_conflicts(running, &next, now);
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

/// The snapshots that workers may still read: the newest and those before it.
///
/// Workers never free one: a snapshot stays here until nobody else holds it.
#[derive(Debug)]
pub struct Published {
    newest: Arc<Snapshot>,
    retired: Vec<Arc<Snapshot>>,
}

impl Published {
    /// Starts with the first snapshot.
    pub fn new(first: Arc<Snapshot>) -> Self {
        Published { newest: first, retired: Vec::new() }
    }

    /// The newest one.
    pub fn newest(&self) -> &Arc<Snapshot> {
        &self.newest
    }

    /// Puts `next` in the place of the newest one.
    pub fn replace(&mut self, next: Arc<Snapshot>) {
        self.retired.push(std::mem::replace(&mut self.newest, next));
    }

    /// Frees those that nobody else holds any more. Returns how many are still waited for.
    pub fn free_retired(&mut self) -> usize {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired.len()
    }
}
