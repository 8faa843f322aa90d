//! The CPU time that transfers take, wherever it is spent.
//!
//! A packet that is sent over a veth is received by the same thread: it runs all of the kernel's
//! work up to the socket or the process that takes it, as a softirq, before its own system call
//! returns. What is left over, ksoftirqd does. So the threads of the hosts, those of the POP and
//! ksoftirqd have all of it, and none of what else the machine does.

use std::time::{Duration, Instant};

use crate::cpu::{self, Others, Thread};

/// What was spent in a time.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// How long it was.
    pub elapsed: Duration,
    /// CPU time of hosts, routers and POP.
    pub cpu: Duration,
    /// What others had, as a share of all CPUs.
    pub others_share: f64,
}

/// Measures from its start to its stop.
#[derive(Debug)]
pub struct Meter {
    pop: Option<u32>,
    softirqs: Vec<Thread>,
    start: Instant,
    cpu_ns: u64,
    others: Others,
}

impl Meter {
    /// Starts. The hosts are threads of this process; `pop` is the POP's, if it has one.
    ///
    /// # Errors
    /// When it does not run.
    pub fn start(pop: Option<u32>) -> anyhow::Result<Meter> {
        let softirqs = cpu::softirq_threads()?;
        let cpu_ns = cpu_ns(pop, &softirqs)?;
        let (start, others) = (Instant::now(), Others::from_now()?);
        Ok(Meter { pop, softirqs, start, cpu_ns, others })
    }

    /// What was spent since its start.
    ///
    /// # Errors
    /// When the POP's process has ended.
    pub fn stop(&self) -> anyhow::Result<Spent> {
        let elapsed = self.start.elapsed();
        let ns = cpu_ns(self.pop, &self.softirqs)?.saturating_sub(self.cpu_ns);
        let cpu = Duration::from_nanos(ns);
        Ok(Spent { elapsed, cpu, others_share: self.others.share(cpu)? })
    }
}

fn cpu_ns(pop: Option<u32>, softirqs: &[Thread]) -> anyhow::Result<u64> {
    let pop = pop.map_or(Ok(0), cpu::of_process)?;
    let softirqs = softirqs.iter().map(Thread::cpu_ns).sum::<anyhow::Result<u64>>()?;
    Ok(cpu::of_process(std::process::id())? + pop + softirqs)
}
