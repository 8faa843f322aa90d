//! `replay`: what the POP would have done with a capture.

use std::io::{BufWriter, stdout};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::control::load;
use crate::replay::{self, Options, ReplayError};

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// The POP's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The capture to read: classic pcap, Ethernet.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The capture to write: every frame that the POP sends, with the time of what caused it.
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
    /// The port that all frames come in through; without it, the one whose mac they are sent to.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Tell of every frame what it is, what became of it, and why.
    #[arg(long)]
    explain: bool,
    /// Write the counters as JSON.
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,
}

/// Replays as `arguments` say.
pub(super) fn replay(arguments: &ReplayArguments) -> Result<(), Failure> {
    let snapshot = load(&arguments.config, None)?;
    let options = Options {
        input: arguments.input.clone(),
        output: arguments.output.clone(),
        port: arguments.port.clone(),
        explain: arguments.explain,
        counters: arguments.counters.clone(),
    };
    let mut told = BufWriter::new(stdout().lock());
    replay::replay(&snapshot, &options, &mut told).map_err(|error| match error {
        ReplayError::NoPort { .. } | ReplayError::NoMac { .. } | ReplayError::SameFile { .. } => {
            Failure::Config(error.to_string())
        }
        error => Failure::RunTime(error.into()),
    })
}
