//! `targets`: lists a targets file, and changes it so that no live connection breaks.
//!
//! A change gets a date that is later than the time at which the last POP has the file. The file is
//! replaced as a whole, and two commands that change it wait for each other.

mod listing;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use anyrelay_core::config::{MAX_WEIGHT, TargetList};
use anyrelay_core::time::{UnixTime, format_time, parse_duration};
use clap::{Args, Subcommand};

use self::listing::{Changed, Listing};
use super::files::{self, Content, Existing, Locked};
use super::{Failure, print_json, say, time};
use crate::targets::{self, Dates, Leave, Refusal};
use crate::worker::unix_now;

/// The arguments of `targets`.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct TargetsArguments {
    /// The targets file, which `relay.targets_file` names.
    file: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the targets, what each gets, and what changes next.
    List {
        /// The time to look at, such as 2026-11-22T10:00:00Z. Without it, now.
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<UnixTime>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a target take new connections. Makes the file if it does not exist.
    Add {
        /// The target, or several, which change together.
        #[arg(value_name = "ADDRESS:PORT", required = true)]
        addresses: Vec<SocketAddr>,
        /// How many clients it gets in proportion to the others. Without it, as last, else 1.
        #[arg(long, value_name = "N", value_parser = weight())]
        weight: Option<u16>,
        #[command(flatten)]
        how: How,
    },
    /// Let a target take no new connections; those that it has go on.
    Drain {
        /// The target, or several, which change together.
        #[arg(value_name = "ADDRESS:PORT", required = true)]
        addresses: Vec<SocketAddr>,
        /// Permit that no target takes connections.
        #[arg(long)]
        last: bool,
        #[command(flatten)]
        how: How,
    },
    /// Drain a target, or take one that is drained out of the file.
    Remove {
        /// The target, or several, which change together.
        #[arg(value_name = "ADDRESS:PORT", required = true)]
        addresses: Vec<SocketAddr>,
        /// Give up the connections that it has, as when it is dead: they end.
        #[arg(long)]
        gone: bool,
        /// Permit that no target takes connections.
        #[arg(long)]
        last: bool,
        #[command(flatten)]
        how: How,
    },
    /// Change how many clients a target gets in proportion to the others.
    Weight {
        /// The target.
        #[arg(value_name = "ADDRESS:PORT")]
        address: SocketAddr,
        /// The weight.
        #[arg(value_name = "N", value_parser = weight())]
        weight: u16,
        #[command(flatten)]
        how: How,
    },
}

/// When a change comes into force, and what becomes of it.
#[derive(Debug, Args)]
struct How {
    /// How long it takes until the last POP has the new file, as 90s, 10m or 2h.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    lead: u64,
    /// When the change comes into force. Without it, after the lead.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<UnixTime>,
    /// Print what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn targets(arguments: &TargetsArguments) -> Result<(), Failure> {
    let TargetsArguments { file, verb } = arguments;
    match verb {
        Verb::List { at, json } => list(file, at.unwrap_or_else(|| unix_now(0)), *json),
        Verb::Add { addresses, weight, how } => add(file, addresses, *weight, how),
        Verb::Drain { addresses, last, how } => {
            let leave = Leave { gone: false, last: *last };
            change(file, addresses, how, |list, address, dates| {
                targets::drain(list, address, leave, dates)
            })
        }
        Verb::Remove { addresses, gone, last, how } => {
            let leave = Leave { gone: *gone, last: *last };
            change(file, addresses, how, |list, address, dates| {
                targets::remove(list, address, leave, dates)
            })
        }
        Verb::Weight { address, weight, how } => {
            change(file, &[*address], how, |list, address, dates| {
                targets::weight(list, address, *weight, dates)
            })
        }
    }
}

fn list(file: &Path, time: UnixTime, json: bool) -> Result<(), Failure> {
    let name = file.display().to_string();
    if !file.exists() {
        return Err(anyhow!("{name}: there is no such file; {ADD_FIRST}").into());
    }
    let list = TargetList::parse(&name, &files::read(file)?)?;
    if json {
        return print_json(&Listing::new(&list, time));
    }
    words::list(&name, &list, time).into_iter().try_for_each(say)
}

fn add(
    file: &Path,
    addresses: &[SocketAddr],
    weight: Option<u16>,
    how: &How,
) -> Result<(), Failure> {
    let missing = match Locked::open(file)? {
        Locked::Missing(missing) => missing,
        Locked::Present(existing) => {
            return change_existing(file, existing, addresses, how, |list, address, dates| {
                targets::add(list, address, weight, dates).map(Some)
            });
        }
    };
    let name = file.display().to_string();
    let list = targets::first(addresses, weight.unwrap_or(1))
        .map_err(|refusal| refused(&name, addresses, &refusal))?;
    if how.at.is_some() {
        eprintln!("anyrelay: warning: {name}: --at is not used: a new file has no dates");
    }
    if !how.dry_run {
        missing.create(Content::Public, &list.to_text())?;
    }
    if how.json {
        return print_json(&Changed::new(&name, None, &list, how.dry_run, unix_now(0)));
    }
    words::made(&name, &list, how.dry_run).into_iter().try_for_each(say)
}

/// Applies `edit` to the list in `file` for each address, and says what changes.
fn change(
    file: &Path,
    addresses: &[SocketAddr],
    how: &How,
    edit: impl Fn(&TargetList, SocketAddr, Dates) -> Result<Option<TargetList>, Refusal>,
) -> Result<(), Failure> {
    let existing = Locked::existing(file, ADD_FIRST)?;
    change_existing(file, existing, addresses, how, edit)
}

fn change_existing(
    file: &Path,
    existing: Existing,
    addresses: &[SocketAddr],
    how: &How,
    edit: impl Fn(&TargetList, SocketAddr, Dates) -> Result<Option<TargetList>, Refusal>,
) -> Result<(), Failure> {
    let name = file.display().to_string();
    let old = TargetList::parse(&name, existing.text())?;
    let now = unix_now(0);
    let dates = match how.at {
        Some(at) => Dates { now, at },
        None => Dates::after(&old, now, how.lead),
    };
    let mut new = old.clone();
    for address in addresses {
        let changed =
            edit(&new, *address, dates).map_err(|refusal| refused(&name, &[*address], &refusal))?;
        if let Some(changed) = changed {
            new = TargetList { serial: old.serial.saturating_add(1), ..changed };
        }
    }
    let is_changed = new != old;
    if is_changed && !how.dry_run {
        existing.replace(Content::Public, &new.to_text())?;
    }
    let distributed = now.plus_millis(how.lead).plus_millis(old.skew_ms);
    if is_changed && dates.at < distributed {
        eprintln!(
            "anyrelay: warning: {name}: the date {} is sooner than the lead permits, {}: a POP \
             that has the file later moves live connections",
            format_time(dates.at),
            format_time(distributed)
        );
    }
    if how.json {
        return print_json(&Changed::new(&name, Some((&old, dates)), &new, how.dry_run, now));
    }
    words::change(&name, (&old, &new), addresses, dates, how.dry_run).into_iter().try_for_each(say)
}

fn refused(name: &str, addresses: &[SocketAddr], refusal: &Refusal) -> Failure {
    let advice = match refusal {
        Refusal::Unknown(_) => format!("; `anyrelay targets {name} list` shows them"),
        Refusal::TooEarly { earliest, .. } => {
            format!("; write --at {} or later, or a --lead", format_time(*earliest))
        }
        Refusal::Last(_) => ", or permit it by --last".to_owned(),
        Refusal::Limits { later: Some(later), .. } => {
            format!("; the first date that is possible is --at {}", format_time(*later))
        }
        _ => String::new(),
    };
    // Some name the target themselves.
    let whom = match refusal {
        Refusal::Unknown(_) | Refusal::Family(_) | Refusal::Takes(_) | Refusal::TakesNone(_) => {
            String::new()
        }
        _ => format!("{}: ", words::names(addresses)),
    };
    let text = format!("{name}: {whom}{refusal}{advice}");
    match refusal {
        Refusal::TooEarly { .. } | Refusal::Weight(_) => Failure::Config(text),
        _ => Failure::RunTime(anyhow!(text)),
    }
}

fn weight() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::from(MAX_WEIGHT))
}

/// A length of time on the command line, in milliseconds.
fn duration(text: &str) -> Result<u64, String> {
    let ms = parse_duration(text).filter(|ms| *ms <= LEAD_MS_MAX);
    ms.ok_or_else(|| "no length of time up to 30d; write it as 90s, 10m or 2h".to_owned())
}

const ADD_FIRST: &str = "`anyrelay targets FILE add ADDRESS:PORT` makes it";
const LEAD_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
