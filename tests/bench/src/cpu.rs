//! CPU time of threads, as the kernel counts it, and which CPU to measure on.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

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

/// The threads of the kernel that do what interrupted work left over, one for each CPU.
pub fn softirq_threads() -> anyhow::Result<Vec<Thread>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // What is no process, or has ended meanwhile, has none.
        let Ok(comm) = fs::read_to_string(folder.join("comm")) else { continue };
        if comm.starts_with("ksoftirqd/") {
            found.push(Thread { schedstat: format!("{}/schedstat", folder.display()) });
        }
    }
    ensure!(!found.is_empty(), "the kernel has no ksoftirqd");
    Ok(found)
}

/// Which part of the machine's CPU time others have, since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    start: Instant,
    idle: Duration,
}

impl Others {
    /// From now on.
    pub fn from_now() -> anyhow::Result<Others> {
        Ok(Others { start: Instant::now(), idle: idle()?.0 })
    }

    /// The share of all CPUs that was neither idle nor `own`: other processes', and what the
    /// hypervisor gave to other machines.
    pub fn share(&self, own: Duration) -> anyhow::Result<f64> {
        let (idle, cpus) = idle()?;
        let all = self.start.elapsed().as_secs_f64() * f64::from(cpus);
        let known = idle.saturating_sub(self.idle) + own;
        Ok((1.0 - known.as_secs_f64() / all).max(0.0))
    }
}

/// For how long CPUs had nothing to do, all together, and how many there are.
fn idle() -> anyhow::Result<(Duration, u32)> {
    parse_idle(&fs::read_to_string("/proc/stat")?)
}

fn parse_idle(stat: &str) -> anyhow::Result<(Duration, u32)> {
    let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    let all = lines.next().context("an empty /proc/stat")?;
    // Idle, and idle with a disk at work.
    let fields: Vec<&str> = all.split_ascii_whitespace().skip(4).take(2).collect();
    let ticks = fields.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
    Ok((Duration::from_millis(ticks * MS_PER_TICK), u32::try_from(lines.count())?))
}

/// The unit of `/proc/stat`, `USER_HZ`, is a hundredth of a second.
const MS_PER_TICK: u64 = 10;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_that_of_all_cpus() {
        let stat = "cpu  9 1 2 100 20 3 4 5 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 7\n";
        assert_eq!(parse_idle(stat).unwrap(), (Duration::from_millis(1200), 2));
        assert!(parse_idle("").is_err());
    }
}
