//! CPU time of one thread, as the kernel counts it, and which CPU to measure on.

use std::fs;

use anyhow::{Context, bail};

/// A thread of another process.
#[derive(Clone, Debug)]
pub struct Thread {
    schedstat: String,
}

impl Thread {
    /// The thread of `pid` that is called `name`.
    pub fn find(pid: u32, name: &str) -> anyhow::Result<Thread> {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = entry?.path();
            if fs::read_to_string(folder.join("comm"))?.trim_end() == name {
                return Ok(Thread { schedstat: format!("{}/schedstat", folder.display()) });
            }
        }
        bail!("process {pid} has no thread {name}")
    }

    /// How long it has been on a CPU, in nanoseconds.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(&self.schedstat)?;
        let first = text.split_ascii_whitespace().next().context("an empty schedstat")?;
        first.parse().with_context(|| text.clone())
    }
}

/// The last CPU of this machine that this process may use.
pub fn last() -> anyhow::Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = list.and_then(|list| list.trim().rsplit([',', '-']).next());
    last.context("no Cpus_allowed_list")?.parse().context("Cpus_allowed_list")
}

/// Packets per microsecond of CPU time: millions per CPU-second.
pub fn rate(packets: u64, cpu_ns: u64) -> f64 {
    packets as f64 * 1e3 / cpu_ns.max(1) as f64
}
