//! `rotate-token`: adds the next epoch of the token secret to the key file.

use std::path::PathBuf;

use anyrelay_core::keys::{EPOCH_GRACE_MS, KeyFile};
use anyrelay_core::time::{UnixTime, format_time};
use clap::Args;

use super::files::{Content, Locked};
use super::{Failure, keygen, say, time};
use crate::control::parse_keys;
use crate::worker::unix_now;

/// The arguments of `rotate-token`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct RotateArguments {
    /// The key file.
    file: PathBuf,
    /// The start of the new epoch, such as 2026-11-22T10:00:00Z: every POP must have the file by
    /// then. Without it, in 24 hours.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<UnixTime>,
}

/// Adds the next epoch to the key file, and removes the one before the last.
pub(super) fn rotate(arguments: &RotateArguments) -> Result<(), Failure> {
    let RotateArguments { file, not_before } = arguments;
    let name = file.display();
    let existing = Locked::existing(file, "`anyrelay keygen` writes one")?;
    let keys = parse_keys(&name.to_string(), existing.text())?;
    let now = unix_now(0);
    let not_before = not_before.unwrap_or_else(|| whole_seconds(now.plus_millis(LEAD_MS)));
    let tokens = keys
        .tokens
        .rotated(keygen::new_secret()?, not_before, now)
        .map_err(|error| anyhow::anyhow!("{name}: token: {error}"))?;
    let keys = KeyFile { tokens, ..keys };
    existing.replace(Content::Secret, &keys.serialize())?;

    let numbers: Vec<u8> = keys.tokens.iter().map(|epoch| epoch.number).collect();
    let (last, new) = match numbers[..] {
        [last, new] => (last, new),
        // A rotation results in two epochs.
        _ => return Ok(()),
    };
    let (from, until) =
        (format_time(not_before), format_time(not_before.plus_millis(EPOCH_GRACE_MS)));
    say(format_args!("{name}: epoch {new} added, current from {from} on"))?;
    say(format_args!("{name}: tokens of epoch {last} are accepted until {until}"))?;
    if not_before <= now {
        say("the new epoch is current already: a POP without it refuses its tokens, so be quick")?;
    }
    say("now put this same file on every POP and reload each, before the new epoch is current")
}

fn whole_seconds(time: UnixTime) -> UnixTime {
    UnixTime::from_millis(time.as_millis().next_multiple_of(1000))
}

/// Enough for a rollout by hand, or by a tool that runs once a day.
const LEAD_MS: u64 = 24 * 3600 * 1000;
