//! Memory of processes that live as long as the run, and frame buffers of POPs.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyrelay_lab::tunnel::Agent;
use anyrelay_lab::{LabError, Pop, Result};
use serde_json::{Value, json};

/// What a process may grow by from the first quarter of the run to its last: what its allocator and
/// the page cache of its stacks make of a busier minute.
const GROWTH_KIB_MAX: u64 = 1024;
/// Frame buffers that may be in use when nothing is known of the moment: rings, caches and bursts.
const BUFFERS_GROWTH_MAX: u64 = 2048;

/// One reading per minute, by process.
#[derive(Debug, Default)]
pub struct Memory {
    resident_kib: BTreeMap<String, Vec<u64>>,
    buffers: BTreeMap<String, Vec<u64>>,
}

impl Memory {
    pub fn sample(&mut self, name: &str, pop: &Pop) -> Result<()> {
        let metrics = pop.metrics()?;
        let resident = metrics.sum("process_resident_memory_bytes", &[]) as u64 / 1024;
        let used = metrics.sum("anyrelay_frame_buffers", &[("state", "used")]) as u64;
        self.resident_kib.entry(name.to_owned()).or_default().push(resident);
        self.buffers.entry(name.to_owned()).or_default().push(used);
        Ok(())
    }

    pub fn sample_agent(&mut self, agent: &Agent) -> Result<()> {
        let what = || format!("memory of agent {}", agent.name());
        let pid = agent.pid().ok_or_else(|| LabError::Unexpected(what() + ": it has ended"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.map_err(LabError::io(what()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        let kib = kib.ok_or_else(|| LabError::Unexpected(what() + ": no VmRSS"))?;
        self.resident_kib.entry(format!("agent {}", agent.name())).or_default().push(kib);
        Ok(())
    }

    /// The newest readings.
    pub fn line(&self) -> String {
        let last = |(name, samples): (&String, &Vec<u64>)| {
            format!("{name} {} KiB", samples.last().copied().unwrap_or_default())
        };
        self.resident_kib.iter().map(last).collect::<Vec<_>>().join(", ")
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<26}{:>12}{:>12}{:>12}\n",
            "resident memory, KiB", "at first", "half-way", "at the end"
        );
        let unit = |(name, samples): (&String, &Vec<u64>)| (name.clone(), samples.clone());
        let buffers = self
            .buffers
            .iter()
            .map(|(name, samples)| (format!("{name}, buffers in use"), samples.clone()));
        for (name, samples) in self.resident_kib.iter().map(unit).chain(buffers) {
            let at = |place: usize| samples.get(place).copied().unwrap_or_default();
            let (half, end) = (samples.len() / 2, samples.len().saturating_sub(1));
            let _ = writeln!(text, "{name:<26}{:>12}{:>12}{:>12}", at(0), at(half), at(end));
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({ "resident_kib": self.resident_kib, "buffers_used": self.buffers })
    }

    pub fn conditions(&self) -> Vec<(String, bool)> {
        let resident = self.resident_kib.iter().map(|(name, samples)| {
            let grown = growth(samples);
            let text = format!("memory of {name} grew by {grown} KiB, at most {GROWTH_KIB_MAX}");
            (text, grown <= GROWTH_KIB_MAX)
        });
        let buffers = self.buffers.iter().map(|(name, samples)| {
            let grown = growth(samples);
            let text = format!(
                "frame buffers of {name} in use: {grown} more, at most {BUFFERS_GROWTH_MAX}"
            );
            (text, grown <= BUFFERS_GROWTH_MAX)
        });
        resident.chain(buffers).collect()
    }
}

/// From the most of the first quarter to the least of the last.
fn growth(samples: &[u64]) -> u64 {
    let quarter = (samples.len() / 4).max(1);
    let first = samples.iter().take(quarter).max().copied().unwrap_or_default();
    let last = samples.iter().rev().take(quarter).min().copied().unwrap_or_default();
    last.saturating_sub(first)
}
