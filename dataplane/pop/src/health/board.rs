//! What health knows, for the status, metrics and tests.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

use super::config::CheckConfig;
use super::outs::Standing;
use super::probe::Checked;

/// The state of one check, which its keeper changes and others read.
#[derive(Debug)]
pub struct Board {
    status: Mutex<CheckStatus>,
    beat: Mutex<Instant>,
}

/// The state of the targets of one file.
#[derive(Clone, Debug, Serialize)]
pub struct CheckStatus {
    /// The targets file as the config names it.
    pub file: String,
    /// `tcp`, `http` or `command`.
    pub kind: &'static str,
    /// Whether nothing is written.
    pub dry_run: bool,
    /// The serial of the file.
    pub serial: Option<u64>,
    /// Why the file, or the one beside it, cannot be used as it is.
    pub problem: Option<String>,
    /// The targets, ascending.
    pub targets: Vec<TargetStatus>,
    /// What happened since the start.
    #[serde(flatten)]
    pub counts: Counts,
}

/// What happened to a file since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Targets that were taken out.
    pub downs: u64,
    /// Targets that were brought back.
    pub ups: u64,
    /// Times that a target was to go out, and the floor kept it.
    pub withheld_floor: u64,
    /// Times that a change was refused, because the list would not pass the checks.
    pub withheld_limits: u64,
    /// Times that the file could not be written.
    pub write_failures: u64,
    /// When the file was written last, in milliseconds since 1970.
    pub last_write_ms: Option<u64>,
    /// Times that the command after a write was done within the lead.
    pub after_done: u64,
    /// Times that it was done, and took longer than the lead.
    pub after_late: u64,
    /// Times that it failed, or was killed at its time limit.
    pub after_failed: u64,
}

/// The state of one target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetStatus {
    /// The target.
    pub address: SocketAddr,
    /// Whether its checks say that it is up; `None` if it is not checked.
    pub is_up: Option<bool>,
    /// What the file says: `takes`, `coming`, `out` or `drained`.
    pub connections: &'static str,
    /// The successful checks.
    pub successes: u64,
    /// The failed checks.
    pub failures: u64,
    /// How long the last check took, in seconds.
    pub last_seconds: Option<f64>,
    /// Why the last check failed.
    pub last_failure: Option<String>,
    /// Why the file does not follow its health.
    pub withheld: Option<String>,
}

impl Board {
    /// The board of a check that has read nothing yet.
    pub fn new(config: &CheckConfig, dry_run: bool) -> Self {
        let status = CheckStatus {
            file: config.file.clone(),
            kind: config.probe.kind(),
            dry_run,
            serial: None,
            problem: None,
            targets: Vec::new(),
            counts: Counts::default(),
        };
        Board { status: Mutex::new(status), beat: Mutex::new(Instant::now()) }
    }

    /// The state, locked: for a short time.
    pub(super) fn lock(&self) -> MutexGuard<'_, CheckStatus> {
        self.status.lock()
    }

    /// A copy of the state.
    pub fn status(&self) -> CheckStatus {
        self.status.lock().clone()
    }

    /// Records a turn of the keeper.
    pub(super) fn beat(&self) {
        *self.beat.lock() = Instant::now();
    }

    /// Whether the keeper turns.
    pub fn is_alive(&self) -> bool {
        self.beat.lock().elapsed() < BEAT_MAX
    }
}

impl CheckStatus {
    /// The state of a target.
    pub(super) fn target(&mut self, address: SocketAddr) -> Option<&mut TargetStatus> {
        self.targets.iter_mut().find(|target| target.address == address)
    }

    /// Sets the targets; what is known of those that stay is kept.
    pub(super) fn set_targets(&mut self, standings: &[(SocketAddr, Standing)]) {
        let old = std::mem::take(&mut self.targets);
        let new = |&(address, standing): &(SocketAddr, Standing)| {
            let known = old.iter().find(|target| target.address == address).cloned();
            let connections = word(standing);
            TargetStatus { connections, ..known.unwrap_or_else(|| TargetStatus::new(address)) }
        };
        self.targets = standings.iter().map(new).collect();
    }

    /// The state as a table, and below it what happened, if anything did.
    pub fn text(&self) -> String {
        let CheckStatus { file, kind, serial, problem, targets, counts, .. } = self;
        let serial = serial.map_or_else(|| "-".to_owned(), |serial| serial.to_string());
        let dry_run = if self.dry_run { ", dry run" } else { "" };
        let mut text = format!("{file}: serial {serial}, {kind}{dry_run}\n");
        // Nothing can fail that is written to a string.
        let _ = problem.iter().try_for_each(|problem| writeln!(text, "  problem: {problem}"));
        let width = targets.iter().map(|target| target.address.to_string().len()).max();
        let width = width.unwrap_or_default().max(7);
        let _ = writeln!(text, "  {:width$}  HEALTH  CONNECTIONS  LAST CHECK", "TARGET");
        for target in targets {
            let _ = writeln!(text, "  {}", target.line(width));
        }
        if *counts == Counts::default() {
            return text;
        }
        let Counts { downs, ups, withheld_floor, withheld_limits, write_failures, .. } = counts;
        let _ = writeln!(
            text,
            "  taken out {downs}, brought back {ups}, withheld by the floor {withheld_floor}, by \
             limits {withheld_limits}, write failures {write_failures}"
        );
        text
    }
}

impl TargetStatus {
    fn new(address: SocketAddr) -> Self {
        TargetStatus {
            address,
            is_up: None,
            connections: "",
            successes: 0,
            failures: 0,
            last_seconds: None,
            last_failure: None,
            withheld: None,
        }
    }

    /// Takes the result of a check.
    pub(super) fn take(&mut self, checked: &Checked) {
        match &checked.outcome {
            Ok(()) => self.successes += 1,
            Err(_) => self.failures += 1,
        }
        self.last_seconds = Some(checked.took.as_secs_f64());
        self.last_failure = checked.outcome.as_ref().err().cloned();
    }

    fn line(&self, width: usize) -> String {
        let health = match self.is_up {
            Some(true) => "up",
            Some(false) => "down",
            None => "-",
        };
        let last = match (self.last_seconds, &self.last_failure) {
            (None, _) => "-".to_owned(),
            (Some(seconds), None) => format!("ok, {:.1} ms", seconds * 1000.0),
            (Some(seconds), Some(reason)) => format!("{reason}, {:.1} ms", seconds * 1000.0),
        };
        let withheld = self.withheld.as_ref().map(|why| format!("; withheld: {why}"));
        // A formatter pads texts alone.
        let (address, connections) = (self.address.to_string(), self.connections);
        format!("{address:width$}  {health:6}  {connections:11}  {last}")
            + &withheld.unwrap_or_default()
    }
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Takes => "takes",
        Standing::Coming => "coming",
        Standing::Out(_) => "out",
        Standing::Drained => "drained",
    }
}

/// The maximum age of a keeper's last turn: it may wait for the lock, and for the disk.
const BEAT_MAX: Duration = Duration::from_secs(30);
