//! How many instructions the core takes for a packet, counted by valgrind: the same on every
//! machine, and however busy it is. Valgrind has no AVX-512 and no VAES.

mod spin;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

pub use spin::{Arguments as Spin, run as spin};

/// Counts instructions.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the captures that captures.py made.
    #[arg(long)]
    captures: PathBuf,
    /// Fails where more instructions are taken than this file says.
    #[arg(long)]
    limits: Option<PathBuf>,
}

/// What it counts for: captures, frames that are dropped, and datagrams of tunnels.
const WORKS: [&str; 16] = [
    "min_512",
    "services",
    "prefix",
    "transparent",
    "transparent6",
    "pool6",
    "ipip",
    "gue",
    "tunnel_v4_64",
    "tunnel_v6_64",
    "tunnel_open_up_64",
    "tunnel_open_down_64",
    "fragments",
    "unknown_port",
    "syn_flood",
    "random_tags",
];

/// Counts the instructions of each work with each set that valgrind has.
///
/// # Errors
/// When something does not run, or takes more than it may.
pub fn measure(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut counted = BTreeMap::new();
    for work in WORKS {
        let none = per_frame(arguments, work, "baseline", "none")?;
        for isa in ["baseline", "avx2"] {
            let pop = per_frame(arguments, work, isa, "pop")?;
            let key = format!("{work}_{isa}");
            eprintln!("{key}: {:.0} instructions per packet", pop - none);
            counted.insert(key, (pop - none).round());
        }
    }
    if let Some(path) = &arguments.limits {
        check(&counted, path)?;
    }
    Ok(json!({ "schema": 1, "instructions": counted }))
}

fn check(counted: &BTreeMap<String, f64>, path: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let limits: BTreeMap<String, f64> = serde_json::from_str(&text)?;
    ensure!(limits.keys().eq(counted.keys()), "{} has other works", path.display());
    let beyond = counted.iter().filter(|(key, count)| **count > limits[*key]);
    let beyond: Vec<_> = beyond.map(|(key, count)| format!("{key} takes {count}")).collect();
    ensure!(
        beyond.is_empty(),
        "{}: more than {} allows; make them fewer, or say in the commit why not and raise it",
        beyond.join(", "),
        path.display()
    );
    Ok(())
}

/// The difference of two runs is the work alone, without start and end, and once the limits of what
/// floods are reached.
fn per_frame(arguments: &Arguments, work: &str, isa: &str, handler: &str) -> anyhow::Result<f64> {
    let [few, many] = [16, 24].map(|passes| counted(arguments, work, isa, handler, passes));
    let ((few, few_frames), (many, many_frames)) = (few?, many?);
    Ok((many - few) as f64 / (many_frames - few_frames) as f64)
}

/// Instructions and frames of a run.
fn counted(
    arguments: &Arguments,
    work: &str,
    isa: &str,
    handler: &str,
    passes: u32,
) -> anyhow::Result<(u64, u64)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["spin", "--work", work, "--isa", isa, "--handler", handler])
        .args(["--passes", &passes.to_string()])
        .args([Path::new("--captures"), &arguments.captures])
        .output()
        .context("valgrind; scripts/setup installs it")?;
    let (said, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "spin ended with {}: {log}", output.status);
    let instructions = log.lines().find_map(|line| line.split_once("Collected : "));
    let instructions = instructions.context("valgrind counted nothing")?.1.trim().parse()?;
    let frames = said.split_whitespace().nth(1).context("spin said nothing")?.parse()?;
    Ok((instructions, frames))
}
