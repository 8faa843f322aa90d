//! `replay`: the POP over a capture.

use std::io::{BufWriter, stdout};
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::control::load_offline;
use crate::replay::{self, ReplayError, ReplayOptions};

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// The POP's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The capture to read: classic pcap, Ethernet.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The capture to write: every frame that the POP sends, with the time of the frame that caused
    /// it.
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
    /// The port of all input frames; without it, the one with their destination MAC address.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Print each frame, the decision on it, and the reason.
    #[arg(long)]
    explain: bool,
    /// Write the counters as JSON.
    #[arg(long, value_name = "FILE")]
    counters: Option<PathBuf>,
}

/// Replays by `arguments`.
pub(super) fn replay(arguments: &ReplayArguments) -> Result<(), Failure> {
    let snapshot = load_offline(&arguments.config)?;
    let options = ReplayOptions {
        input: arguments.input.clone(),
        output: arguments.output.clone(),
        port: arguments.port.clone(),
        explain: arguments.explain,
        counters: arguments.counters.clone(),
    };
    let mut explanation = BufWriter::new(stdout().lock());
    replay::replay(&snapshot, &options, &mut explanation).map_err(|error| match error {
        ReplayError::NoPort { .. } | ReplayError::NoMac { .. } | ReplayError::SameFile { .. } => {
            Failure::Config(error.to_string())
        }
        error => Failure::RunTime(error.into()),
    })
}
