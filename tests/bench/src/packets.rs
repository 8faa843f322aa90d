//! Measures packets per CPU-second of the relay's worker, beside DPDK's `testpmd` on the same
//! capture: `net_pcap` in an endless loop in, `net_null` out, one forwarding thread.
//!
//! Runs alternate, so that what else the machine does falls on all of them; the figure is the
//! median of the ratios within each round. CPU time is that of the forwarding thread alone
//! (`/proc/PID/task/TID/schedstat`). A run is void unless nothing was dropped, all that was
//! received was forwarded, and `anyrelay replay` makes of the capture exactly what it must.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::config::Services;
use crate::cpu;

/// What is measured, and with what.
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
    /// The vector instructions of the relay, as `layout.instructions` names them.
    #[arg(long, default_value = "auto")]
    pub instructions: String,
}

impl Arguments {
    /// The path of a capture, of what comes in (`in`) or goes out (`out`).
    pub fn capture(&self, name: &str, direction: &str) -> PathBuf {
        self.captures.join(format!("{name}.{direction}.pcap"))
    }

    /// Runs of a relay with one service and one worker on a capture.
    ///
    /// # Errors
    /// When it is not known which CPUs there are.
    pub fn setting<'a>(&'a self, input: &'a Path, folder: &'a Path) -> anyhow::Result<Setting<'a>> {
        Ok(Setting {
            anyrelay: &self.anyrelay,
            input,
            folder,
            core: cpu::last()?,
            window: Duration::from_secs(self.seconds),
            services: Services::Pool,
            workers: 1,
            mbufs: MBUFS,
            instructions: &self.instructions,
        })
    }
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
    /// What the relay serves.
    pub services: Services,
    /// Its forwarding threads, each on a CPU of its own.
    pub workers: usize,
    /// Frame buffers of every program.
    pub mbufs: u32,
    /// The vector instructions of the relay.
    pub instructions: &'a str,
}

impl Setting<'_> {
    /// MiB of hugepages that a program with these buffers takes.
    pub fn memory_mb(&self) -> u32 {
        512.max(self.mbufs / 1024 * BUFFER_BYTES / 1024 + OTHER_MB)
    }
}

/// Packets of each capture that the bench makes itself: one for each of as many connections.
pub const PACKETS: u32 = 65_536;

/// Frame buffers of every program. The endless loop keeps one for each packet of the capture.
pub const MBUFS: u32 = 131_072;

/// The same where the capture has [`MILLION`] packets.
pub const MBUFS_MILLION: u32 = MILLION + 65_536;

/// Packets of the largest capture.
pub const MILLION: u32 = 1_000_000;

/// Frames that every program takes at once.
pub const BURST: u32 = 64;

/// How long a program runs before it is measured.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// A frame buffer with its headers, and room for the pool that it is in.
const BUFFER_BYTES: u32 = 2560;
/// MiB for all else than frame buffers.
const OTHER_MB: u32 = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_buffers() {
        let path = Path::new("");
        let arguments = Arguments {
            captures: path.into(),
            anyrelay: path.into(),
            seconds: 1,
            instructions: "auto".into(),
        };
        let setting = arguments.setting(path, path).unwrap();
        assert_eq!(setting.memory_mb(), 512);
        let mib = Setting { mbufs: MBUFS_MILLION, ..setting }.memory_mb();
        // What scripts/bench reserves for it.
        assert!((2600..=3072).contains(&mib), "{mib}");
    }
}
