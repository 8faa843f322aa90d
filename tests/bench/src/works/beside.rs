//! The relay beside testpmd on one capture.

use std::path::Path;

use anyhow::Context;

use super::Capture;
use crate::config::Services;
use crate::packets::{Arguments, Setting};
use crate::report::{Round, Rounds};
use crate::{relay, testpmd};

/// Makes all rounds on a capture.
///
/// # Errors
/// When something does not run, or a run is void.
pub fn measure(
    arguments: &Arguments,
    capture: &Capture,
    folder: &Path,
    rounds: u32,
) -> anyhow::Result<Rounds> {
    let input = arguments.capture(capture.key, "in");
    let base = arguments.setting(&input, folder)?;
    let setting = Setting { services: capture.services, mbufs: capture.mbufs(), ..base };
    relay::check_replay(&setting, &arguments.capture(capture.key, "out")).context(capture.key)?;
    let one_input = arguments.capture(ONE, "in");
    let mut measured = Rounds::default();
    for number in 1..=rounds {
        let context = |program| format!("{}: {program}", capture.key);
        let relay = relay::run(&setting).with_context(|| context("relay"))?;
        let swap = testpmd::run(&setting, "5tswap").with_context(|| context("testpmd 5tswap"))?;
        let io = testpmd::run(&setting, "io").with_context(|| context("testpmd io"))?;
        let one = match capture.services {
            Services::Many => {
                let one = Setting { input: &one_input, ..base };
                Some(relay::run(&one).with_context(|| context("one service"))?.mpps)
            }
            _ => None,
        };
        let round = Round { relay, swap, io, one };
        eprintln!("{} round {number}: {round}", capture.key);
        measured.0.push(round);
    }
    Ok(measured)
}

/// The capture for a relay with one service, beside that for many.
const ONE: &str = "min_512";
