//! `health`: checks the targets of targets files, and changes the files by what it finds.

use std::path::{Path, PathBuf};

use clap::Args;

use super::files::{Content, Locked};
use super::{Failure, print_json, say, start_log};
use crate::health::{self, Change, CheckStatus, HealthError, HealthOptions, How};

/// The arguments of `health`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct HealthArguments {
    /// The config of health, which is not that of a POP.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check each target once, print a table, and change nothing. Exit code 1 if one is down.
    #[arg(long)]
    once: bool,
    /// With --once: print JSON.
    #[arg(long, requires = "once")]
    json: bool,
    /// Check and log as ever, and never write a file.
    #[arg(long, conflicts_with = "once")]
    dry_run: bool,
}

impl From<HealthError> for Failure {
    fn from(error: HealthError) -> Self {
        match error {
            HealthError::Config(problems) => problems.into(),
            other => Failure::RunTime(other.into()),
        }
    }
}

/// Runs health until it is stopped, or checks once.
pub(super) fn health(arguments: HealthArguments) -> Result<(), Failure> {
    let HealthArguments { config, once, json, dry_run } = arguments;
    if once {
        return check_once(&config, json);
    }
    start_log();
    let how = How { edit, dry_run };
    health::run(&HealthOptions { config, how }).map_err(Failure::from)
}

fn check_once(config: &Path, json: bool) -> Result<(), Failure> {
    let statuses = health::once(&health::load(config)?)?;
    if json {
        print_json(&statuses)?;
    } else {
        let text: String = statuses.iter().map(CheckStatus::text).collect();
        say(text.trim_end())?;
    }
    let mut targets = statuses.iter().flat_map(|status| &status.targets);
    let is_down = targets.any(|target| target.is_up == Some(false));
    if is_down { Err(Failure::Printed) } else { Ok(()) }
}

/// Changes a file under the lock of its folder. It keeps its mode: a targets file has no secrets,
/// and a POP, or what distributes the file, may be another user.
fn edit(path: &Path, change: &mut Change<'_>) -> Result<(), String> {
    let in_words = |error: anyhow::Error| format!("{error:#}");
    let existing = Locked::existing(path, "`anyrelay targets` makes one").map_err(in_words)?;
    let Some(text) = change(existing.text())? else { return Ok(()) };
    existing.replace(Content::Public, &text).map_err(in_words)
}
