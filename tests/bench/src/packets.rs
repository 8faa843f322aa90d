//! Measures packets per CPU-second of the relay's worker, beside DPDK's `testpmd` on the same
//! capture: `net_pcap` in an endless loop in, `net_null` out, one forwarding thread.
//!
//! Runs alternate, so that what else the machine does falls on all of them; the figure is the
//! median of the ratios within each round. CPU time is that of the forwarding thread alone
//! (`/proc/PID/task/TID/schedstat`). A run is void unless nothing was dropped, all that was
//! received was forwarded, and `anyrelay replay` makes of the capture exactly what it must.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::report::{self, Machine, Round, Rounds};
use crate::{cpu, relay, testpmd};

/// Measures the relay beside testpmd.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    pub captures: PathBuf,
    /// The relay's binary.
    #[arg(long)]
    pub anyrelay: PathBuf,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
}

/// A capture that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Capture {
    /// Its key in the result.
    pub key: &'static str,
    /// The start of its files' names.
    pub stem: &'static str,
    /// Its longest frame, in bytes.
    pub frame_bytes: u32,
}

/// What all runs share.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The relay's binary.
    pub anyrelay: &'a Path,
    /// The capture to loop over.
    pub input: &'a Path,
    /// A folder for configs and logs.
    pub folder: &'a Path,
    /// The CPU of the forwarding thread; everything else may run on CPU 0.
    pub core: usize,
    /// How long to measure.
    pub window: Duration,
    /// Whether there is a tunnel service beside the relay.
    pub tunnel: bool,
}

const CAPTURES: [Capture; 2] = [
    Capture { key: "min_65536", stem: "min", frame_bytes: 66 },
    Capture { key: "1514_65536", stem: "1514", frame_bytes: 1514 },
];

/// Packets of each capture: one for each of as many connections.
pub const PACKETS: u32 = 65_536;

/// Frame buffers of every program. The endless loop keeps one for each packet of the capture.
pub const MBUFS: u32 = 131_072;

/// Frames that every program takes at once.
pub const BURST: u32 = 64;

/// How long a program runs before it is measured.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not run, or a run is void.
pub fn measure(
    arguments: &Arguments,
    folder: &Path,
    rounds: u32,
    commit: &str,
) -> anyhow::Result<Value> {
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
            tunnel: false,
        };
        relay::check_replay(&setting, &output).context(capture.key)?;
        let mut measured = Rounds::default();
        for number in 1..=rounds {
            let relay = relay::run(&setting).context("relay")?;
            let swap = testpmd::run(&setting, "5tswap").context("testpmd 5tswap")?;
            let io = testpmd::run(&setting, "io").context("testpmd io")?;
            dpdk.clone_from(&relay.dpdk);
            let round = Round { relay, swap, io };
            eprintln!("{} round {number}: {round}", capture.key);
            measured.0.push(round);
        }
        results.push((capture, measured));
    }
    let machine = Machine::here(&dpdk, commit)?;
    report::print_table(&results);
    Ok(report::json(&machine, rounds, &results))
}
