//! The command line: `run`, `check`, `keygen`, `rotate-token`, `tenant`, `agent`, `targets`,
//! `map`, `health`, `probe`, `replay`.
//!
//! Exit codes: 0 success, 1 failure at run time, 2 wrong usage or an invalid config. Results go to
//! stdout; errors, warnings and the log go to stderr.

mod check;
mod check_targets;
mod files;
mod health;
mod keygen;
mod map;
mod map_relay;
mod map_tunnel;
mod probe;
mod probe_jobs;
mod replay;
mod rotate;
mod targets;
mod tenants;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyrelay_core::time::{UnixTime, parse_time};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::control::{self, RunError, RunOptions};

/// A POP of an anycast TCP relay that keeps no state per connection.
#[derive(Debug, Parser)]
#[command(name = "anyrelay", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a POP. SIGTERM drains and stops it, SIGHUP reads the config again.
    Run {
        /// The POP's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Let a reload break established connections.
        #[arg(long)]
        breaks_connections: bool,
    },
    /// Check a config and its keys; all problems are printed as FILE: KEY: REASON.
    Check {
        /// The POP's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The time at which to say what the targets are; without it, now.
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<UnixTime>,
    },
    /// Write a new key file, readable by its owner alone. Never overwrites one.
    Keygen {
        /// The key file.
        file: PathBuf,
    },
    /// Add the next epoch of the token secret to a key file.
    RotateToken(rotate::RotateArguments),
    /// Add and list tenants, whose agents may communicate through tunnels.
    #[command(subcommand)]
    Tenant(tenants::TenantCommand),
    /// Issue and revoke the keys of tenants' agents.
    #[command(subcommand)]
    Agent(tenants::AgentCommand),
    /// List and change the targets of a targets file, so that no live connection breaks.
    Targets(targets::TargetsArguments),
    /// Show the egress endpoint of a client or the client of one, the contents of a token, or an
    /// agent's sequence numbers.
    Map(map::MapArguments),
    /// Check the targets of targets files, and take out those that are down.
    Health(health::HealthArguments),
    /// Check what targets allow, and recommend an egress mode for each: timestamps, echo of tags,
    /// path MTU, tunnels. Exit code 1 if none fits, or the named one does not.
    ///
    /// Needs no POP and no config. Without CAP_NET_RAW it looks at less, and says so.
    Probe(probe::ProbeArguments),
    /// Run the POP over a capture, offline, and write the frames that it sends.
    Replay(replay::ReplayArguments),
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// At run time: exit code 1.
    RunTime(anyhow::Error),
    /// Usage or config: exit code 2. The text is printed as it is.
    Config(String),
    /// At run time, and already printed to stdout: exit code 1.
    Printed,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::RunTime(error)
    }
}

impl From<anyrelay_core::problem::Problems> for Failure {
    fn from(problems: anyrelay_core::problem::Problems) -> Self {
        Failure::Config(problems.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Config(problems) => problems.into(),
            other => Failure::RunTime(other.into()),
        }
    }
}

/// Runs the command in the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; clap knows the stream of each.
            let code = if error.use_stderr() { USAGE_OR_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match dispatch(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::RunTime(error)) => {
            eprintln!("anyrelay: {error}");
            ExitCode::from(RUN_TIME)
        }
        Err(Failure::Config(text)) => {
            eprintln!("{text}");
            ExitCode::from(USAGE_OR_CONFIG)
        }
        Err(Failure::Printed) => ExitCode::from(RUN_TIME),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { config, breaks_connections } => {
            start_log();
            control::run(RunOptions { config, breaks_connections }).map_err(Failure::from)
        }
        Command::Check { config, at } => check::check(&config, at),
        Command::Keygen { file } => keygen::keygen(&file),
        Command::RotateToken(arguments) => rotate::rotate(&arguments),
        Command::Tenant(command) => tenants::tenant(&command),
        Command::Agent(command) => tenants::agent(&command),
        Command::Targets(arguments) => targets::targets(&arguments),
        Command::Map(arguments) => map::map(&arguments),
        Command::Health(arguments) => health::health(arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
    }
}

/// Writes `value` to stdout as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    say(text)
}

/// Writes a line to stdout. A reader that has ended, such as `head`, is not an error.
fn say(line: impl std::fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::RunTime(anyhow::anyhow!("stdout cannot be written to: {error}")))
        }
        _ => Ok(()),
    }
}

/// A time on the command line.
fn time(text: &str) -> Result<UnixTime, String> {
    parse_time(text).ok_or_else(|| {
        "no moment in time; write it as 2026-11-22T10:00:00Z, or with an offset such as +01:00"
            .to_owned()
    })
}

/// Starts the log on stderr; `RUST_LOG` sets its level.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

const RUN_TIME: u8 = 1;
const USAGE_OR_CONFIG: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
