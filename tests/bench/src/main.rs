//! Measures packets per CPU-second of the relay's worker, beside DPDK's `testpmd` on the same
//! capture: `net_pcap` in an endless loop in, `net_null` out, one forwarding thread.
//!
//! `scripts/bench` builds, makes the captures, reserves hugepages and calls this. Runs alternate, so
//! that what else the machine does falls on all of them; the figure is the median of the ratios
//! within each round. CPU time is that of the forwarding thread alone (`/proc/PID/task/TID/schedstat`).
//! A run is void, and the exit code 1, unless nothing was dropped, all that was received was
//! forwarded, and `anyrelay replay` makes of the capture exactly what it must.
#![deny(unsafe_code)]

mod cpu;
mod relay;
mod report;
mod testpmd;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use report::{Machine, Round, Rounds};

/// Measures the relay beside testpmd.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    captures: PathBuf,
    /// The relay's binary.
    #[arg(long)]
    anyrelay: PathBuf,
    /// Where to write the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// How often each program runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The commit that is measured.
    #[arg(long, default_value = "unknown")]
    commit: String,
}

/// A capture that is measured.
#[derive(Clone, Copy, Debug)]
struct Capture {
    /// Its key in the result.
    key: &'static str,
    /// The start of its files' names.
    stem: &'static str,
    /// Its longest frame, in bytes.
    frame_bytes: u32,
}

/// What all runs share.
#[derive(Clone, Copy, Debug)]
struct Setting<'a> {
    /// The relay's binary.
    anyrelay: &'a Path,
    /// The capture to loop over.
    input: &'a Path,
    /// A folder for configs and logs.
    folder: &'a Path,
    /// The CPU of the forwarding thread; everything else may run on CPU 0.
    core: usize,
    /// How long to measure.
    window: Duration,
}

const CAPTURES: [Capture; 2] = [
    Capture { key: "min_65536", stem: "min", frame_bytes: 66 },
    Capture { key: "1514_65536", stem: "1514", frame_bytes: 1514 },
];

/// Packets of each capture: one for each of as many connections.
const PACKETS: u32 = 65_536;

/// Frame buffers of every program. The endless loop keeps one for each packet of the capture.
const MBUFS: u32 = 131_072;

/// Frames that every program takes at once.
const BURST: u32 = 64;

/// How long a program runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("anyrelay-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = measure_all(arguments, &folder);
    // Configs, keys and logs of the runs; nothing of it is needed any more.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn measure_all(arguments: &Arguments, folder: &Path) -> anyhow::Result<()> {
    let core = cpu::last()?;
    let mut results = Vec::new();
    let mut dpdk = String::new();
    for capture in CAPTURES {
        let file =
            |direction| arguments.captures.join(format!("{}.{direction}.pcap", capture.stem));
        let (input, output) = (file("in"), file("out"));
        let setting = Setting {
            anyrelay: &arguments.anyrelay,
            input: &input,
            folder,
            core,
            window: Duration::from_secs(arguments.seconds),
        };
        relay::check_replay(&setting, &output).context(capture.key)?;
        let mut rounds = Rounds::default();
        for number in 1..=arguments.rounds {
            let relay = relay::run(&setting).context("relay")?;
            let swap = testpmd::run(&setting, "5tswap").context("testpmd 5tswap")?;
            let io = testpmd::run(&setting, "io").context("testpmd io")?;
            dpdk.clone_from(&relay.dpdk);
            let round = Round { relay, swap, io };
            eprintln!("{} round {number}: {round}", capture.key);
            rounds.0.push(round);
        }
        results.push((capture, rounds));
    }
    let machine = Machine::here(&dpdk, &arguments.commit)?;
    let json = report::json(&machine, arguments.rounds, &results);
    report::print_table(&results);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&json)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
