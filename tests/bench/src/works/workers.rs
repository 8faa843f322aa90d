//! Two workers beside one, each with a queue and a CPU of its own, and a copy of the same capture:
//! what workers cost each other by what they share.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Map, Value};

use crate::packets::{Arguments, Setting};
use crate::relay;
use crate::stats::{Spread, rounded};

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not run, a run is void, or there is one CPU.
pub fn measure(arguments: &Arguments, folder: &Path, rounds: u32) -> anyhow::Result<Value> {
    let input = arguments.capture(CAPTURE, "in");
    let one = arguments.setting(&input, folder)?;
    ensure!(one.core > 0, "workers: this machine gives one CPU to the bench, it needs two");
    let two = Setting { workers: 2, ..one };
    let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        of_one.push(relay::run(&one).context("workers: one")?.mpps);
        of_two.push(relay::run(&two).context("workers: two")?.mpps);
        if let (Some(one), Some(two)) = (of_one.last(), of_two.last()) {
            eprintln!("workers round {number}: one {one:.2}, two {two:.2} Mpps per CPU-second");
        }
    }
    let ratio = Spread::of(of_two.iter().zip(&of_one).map(|(two, one)| two / one));
    let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
    let (one, two) = (median(&of_one), median(&of_two));
    let Spread { min, median, max, .. } = ratio;
    println!(
        "workers: two {two:.2}, one {one:.2} Mpps per CPU-second, two / one {median:.3} \
         ({min:.3}, {max:.3}), rounds agree within 5%: {}",
        ratio.agreement()
    );
    let mut result = Map::new();
    result.insert("packets_in_file".to_owned(), 512.into());
    result.insert("one_mpps_per_cpu_s".to_owned(), rounded(one).into());
    result.insert("two_mpps_per_cpu_s".to_owned(), rounded(two).into());
    result.insert("agrees".to_owned(), ratio.agrees().into());
    ratio.add_to(&mut result, "ratio");
    Ok(result.into())
}

const CAPTURE: &str = "min_512";
