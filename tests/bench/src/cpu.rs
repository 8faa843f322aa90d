//! CPU time of threads, as the kernel counts it, and which CPU to measure on.

use std::fs;

use anyhow::Context;

/// A thread of another process.
#[derive(Clone, Debug)]
pub struct Thread {
    schedstat: String,
}

impl Thread {
    /// The thread of `pid` that is called `name`.
    pub fn find(pid: u32, name: &str) -> anyhow::Result<Thread> {
        let found = Self::all(pid, Some(name))?.into_iter().next();
        found.with_context(|| format!("process {pid} has no thread {name}"))
    }

    /// The threads of `pid` that are called `name`, or all, in the order in which they were made.
    pub fn all(pid: u32, name: Option<&str>) -> anyhow::Result<Vec<Thread>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = entry?.path();
            let comm = fs::read_to_string(folder.join("comm"))?;
            if name.is_none_or(|name| comm.trim_end() == name) {
                let id = folder.file_name().and_then(|id| id.to_str()?.parse::<u32>().ok());
                let schedstat = format!("{}/schedstat", folder.display());
                found.push((id, Thread { schedstat }));
            }
        }
        found.sort_by_key(|(id, _)| *id);
        Ok(found.into_iter().map(|(_, thread)| thread).collect())
    }

    /// How long it has been on a CPU, in nanoseconds.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        self.field(0)
    }

    /// How long it could have run, but others had the CPU, in nanoseconds.
    pub fn waited_ns(&self) -> anyhow::Result<u64> {
        self.field(1)
    }

    fn field(&self, index: usize) -> anyhow::Result<u64> {
        let text = fs::read_to_string(&self.schedstat)?;
        let field = text.split_ascii_whitespace().nth(index).context("a short schedstat")?;
        field.parse().with_context(|| text.clone())
    }
}

/// How long all threads of a process have been on a CPU, in nanoseconds. Those that have ended are
/// left out.
pub fn of_process(pid: u32) -> anyhow::Result<u64> {
    Thread::all(pid, None)?.iter().map(Thread::cpu_ns).sum()
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
