//! Runs seeds of the simulation on all cores. `scripts/sim` builds it and starts it.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use anyrelay_sim::{Counts, Options, Outcome, run};
use clap::Parser;

/// Simulates clients, targets, agents, POPs and a network that fails, each run from one seed.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 2000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "seed")]
    from: u64,
    /// Run this seed alone, and tell of it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Write all frames of that run to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    pcap: Option<PathBuf>,
    /// How many threads; as many as there are cores if not given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Stop after so many failures.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures: u64,
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Sums {
    seeds: AtomicU64,
    failures: AtomicU64,
    counts: Mutex<Counts>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match go(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn go(arguments: &Arguments) -> anyhow::Result<bool> {
    let sums = Sums::default();
    match arguments.seed {
        Some(seed) => one(seed, arguments, &sums)?,
        None => many(arguments, &sums),
    }
    let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let failures = get(&sums.failures);
    let counts = sums.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("sim: {counts}");
    println!(
        "sim: {} seeds, {} connections, {failures} failures",
        get(&sums.seeds),
        counts.connections,
    );
    Ok(failures == 0)
}

fn one(seed: u64, arguments: &Arguments, sums: &Sums) -> anyhow::Result<()> {
    let options = Options { record: arguments.pcap.is_some(), ..Options::default() };
    let outcome = run(seed, &options);
    sums.add(seed, &outcome);
    println!(
        "sim: seed {seed}: {} POPs, {:.3} s simulated, digest {:016x}",
        outcome.pops,
        outcome.counts.simulated_us as f64 / 1e6,
        outcome.record.digest()
    );
    if let Some(path) = &arguments.pcap {
        let name = || format!("cannot write {}", path.display());
        let file = File::create(path).with_context(name)?;
        outcome.record.write_pcap(&mut BufWriter::new(file)).with_context(name)?;
    }
    Ok(())
}

fn many(arguments: &Arguments, sums: &Sums) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let end = arguments.from.saturating_add(arguments.seeds);
    let next = AtomicU64::new(arguments.from);
    let (done, telling) = (AtomicBool::new(false), Mutex::new(Instant::now()));
    let options = Options::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    sums.add(seed, &run(seed, &options));
                    let failures = sums.failures.load(Ordering::Relaxed);
                    done.fetch_or(failures >= arguments.failures, Ordering::Relaxed);
                    if let Ok(mut told) = telling.try_lock()
                        && told.elapsed() > TELL_EVERY
                    {
                        *told = Instant::now();
                        let seeds = sums.seeds.load(Ordering::Relaxed);
                        eprintln!("sim: {seeds} seeds so far, {failures} failures");
                    }
                }
            });
        }
    });
}

impl Sums {
    fn add(&self, seed: u64, outcome: &Outcome) {
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome.counts);
        if let Some(failure) = &outcome.failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
            println!("sim: seed {seed} failed {failure}\n  again: scripts/sim --seed {seed}");
        }
    }
}

const TELL_EVERY: Duration = Duration::from_secs(60);
