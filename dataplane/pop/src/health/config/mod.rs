//! The config of `anyrelay health`: a listener, and a check for each targets file.
//!
//! [`HealthConfig::parse`] is pure; [`load`] also reads the files that the config names. All
//! problems are reported at once, each with file, key and reason. docs/config.md describes every
//! key.

mod check;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyrelay_core::config::{TargetList, parse_toml};
use anyrelay_core::problem::{Problem, Problems};

use super::outs::Outs;
use crate::control::read;

/// Most `[[check]]` tables.
pub const MAX_CHECKS: usize = 16;

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Address and port of the HTTP listener, if there is one.
    pub listen: Option<SocketAddr>,
    /// The checks, in the order of the file: 1..=[`MAX_CHECKS`], each of another file.
    pub checks: Vec<CheckConfig>,
}

/// `[[check]]`: how the targets of one file are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// The targets file as the config names it: in the log, in metrics and in the status.
    pub file: String,
    /// The path of the targets file.
    pub path: PathBuf,
    /// What a check does.
    pub probe: Probe,
    /// The time from the start of a check of a target to that of the next.
    pub interval: Duration,
    /// The time that a check may take, at most the interval.
    pub timeout: Duration,
    /// The successes in a row that make a target healthy.
    pub rise: u32,
    /// The failures in a row that make it unhealthy.
    pub fall: u32,
    /// How many targets take connections at least, whatever their health.
    pub floor: Floor,
    /// How long the file takes to reach all POPs, in milliseconds.
    pub lead_ms: u64,
    /// How long a target stays out at least, in milliseconds.
    pub hold_ms: u64,
    /// What is run when the file was written.
    pub after: Option<After>,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It opens a TCP connection, and closes it.
    Tcp,
    /// It asks for a page by HTTP/1.1, without TLS.
    Http(HttpProbe),
    /// It runs a command: the program and its arguments, in which `{address}` and `{port}` stand
    /// for those of the target. Exit code 0 is a success.
    Command(Vec<String>),
}

impl Probe {
    /// The word for it in the config.
    pub fn kind(&self) -> &'static str {
        match self {
            Probe::Tcp => "tcp",
            Probe::Http(_) => "http",
            Probe::Command(_) => "command",
        }
    }
}

/// A request by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The path, with a query if there is one.
    pub path: String,
    /// The value of the header `Host`; without one, the target's address and port.
    pub host: Option<String>,
    /// The lowest and the highest status code that are successes.
    pub status: (u16, u16),
}

/// The number of targets that take connections at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// So many: 1 or more.
    Targets(usize),
    /// This share of those that no operator has drained, in percent, rounded up: 1..=100.
    Percent(u8),
}

impl Floor {
    /// The number for a file with `all` targets that no operator has drained; 1 or more.
    pub fn of(self, all: usize) -> usize {
        match self {
            Floor::Targets(number) => number.max(1),
            Floor::Percent(percent) => (all * usize::from(percent)).div_ceil(100).max(1),
        }
    }
}

/// What is run when the file was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// The command, for `sh -c`.
    pub command: String,
    /// The time that it may take.
    pub timeout: Duration,
}

impl HealthConfig {
    /// Reads and checks the text of the config called `file`. Paths are relative to its folder.
    ///
    /// # Errors
    /// All mistakes or, where the text is not TOML of the right form, the first.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        check::check(file, &parse_toml(file, text)?)
    }
}

/// Reads and checks the config at `path`, and the targets files that it names with what health
/// keeps beside them.
///
/// # Errors
/// All problems of the config, or all of the other files.
pub fn load(path: &Path) -> Result<HealthConfig, Problems> {
    let file = path.display().to_string();
    let problem = |file: &str, key: String, reason: String| {
        let file = file.to_owned();
        Problems(vec![Problem { file, key, reason }])
    };
    let text = read(path).map_err(|reason| problem(&file, String::new(), reason))?;
    let config = HealthConfig::parse(&file, &text)?;
    let mut problems = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (place, check) in config.checks.iter().enumerate() {
        let key = || format!("check[{place}].targets_file");
        let name = check.path.display().to_string();
        let list = match read(&check.path) {
            Ok(text) => TargetList::parse(&name, &text).map(drop),
            Err(reason) => {
                let advice = "it is the file that relay.targets_file of the POPs names";
                Err(problem(&file, key(), format!("{name}: {reason}; {advice}")))
            }
        };
        let outs = Outs::read(&check.path).map(drop).map_err(|reason| {
            problem(&Outs::path(&check.path).display().to_string(), String::new(), reason)
        });
        let found = [list, outs].into_iter().filter_map(Result::err);
        problems.extend(found.flat_map(|problems| problems.0));
        let whole = check.path.canonicalize().unwrap_or_else(|_| check.path.clone());
        if let Some(first) = seen.iter().position(|other| *other == whole) {
            let reason = format!("the same file as that of check[{first}]; a file has one check");
            problems.extend(problem(&file, key(), reason).0);
        }
        seen.push(whole);
    }
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}
