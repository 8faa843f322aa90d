//! Lists of targets and their changes in words.

use std::net::SocketAddr;

use anyrelay_core::config::{MAX_CANDIDATES, Target, TargetList, most_candidates};
use anyrelay_core::time::{UnixTime, format_duration, format_time};

use super::listing::{Event, events};
use crate::targets::{Dates, State, state};

/// `list` at `time`, a line for each target and for each date to come.
pub(super) fn list(name: &str, list: &TargetList, time: UnixTime) -> Vec<String> {
    let (memory, skew) = (format_duration(list.memory_ms), format_duration(list.skew_ms));
    let mut lines = vec![format!(
        "{name}: serial {}, memory {memory}, skew {skew}, at {}",
        list.serial,
        format_time(time)
    )];
    lines.extend(
        list.addresses().map(|address| format!("{address}: {}", target(list, address, time))),
    );
    let events = events(list, time);
    lines.extend(events.iter().map(|(_, event)| format!("{}: {}", event.date, words_of(event))));
    lines.push(candidates(list));
    lines
}

/// What the target `address` gets at `time`, and what changes for it later.
pub(super) fn target(list: &TargetList, address: SocketAddr, time: UnixTime) -> String {
    let own = entries(list, address);
    let current = own.iter().rev().find(|target| target.since <= time).or(own.first());
    let weight = current.map_or(1, |target| target.weight);
    let now = match state(list, address, time) {
        None => return "not in the file".to_owned(),
        Some(State::Takes) => format!("takes new connections, weight {weight}"),
        Some(State::New { since }) => {
            format!("takes new connections since {}, weight {weight}", format_time(since))
        }
        Some(State::Draining { until }) => {
            format!("draining: no new connections, asked until {}", format_time(until))
        }
        Some(State::Gone { since }) => format!("gone since {}", format_time(since)),
        Some(State::Coming { .. }) => "coming".to_owned(),
    };
    [vec![now], later(&own, list, time)].concat().join("; ")
}

/// What changes for a target after `time`, by its entries.
fn later(own: &[Target], list: &TargetList, time: UnixTime) -> Vec<String> {
    let mut later: Vec<(UnixTime, String)> = Vec::new();
    for target in own {
        let follows = own.iter().any(|before| before.until == target.since);
        if target.since > time {
            let (since, weight) = (format_time(target.since), target.weight);
            later.push((
                target.since,
                match follows {
                    true => format!("weight {weight} from {since} on"),
                    false => format!("takes new connections from {since} on, weight {weight}"),
                },
            ));
        }
        let goes_on = own.iter().any(|after| after.since == target.until);
        if target.until > time && target.until != UnixTime::NEVER && !goes_on {
            let asked = target.until.plus_millis(list.memory_ms).min(target.gone);
            let end = match target.gone {
                UnixTime::NEVER => format!("those that it has go on, until {}", format_time(asked)),
                gone => format!("those that it has are given up at {}", format_time(gone)),
            };
            let until = format_time(target.until);
            later.push((target.until, format!("no new connections from {until} on; {end}")));
        }
    }
    later.sort();
    later.into_iter().map(|(_, text)| text).collect()
}

/// What a change does, which has its date in `dates`.
pub(super) fn change(
    name: &str,
    (old, new): (&TargetList, &TargetList),
    addresses: &[SocketAddr],
    dates: Dates,
    dry_run: bool,
) -> Vec<String> {
    let of_targets = |list| {
        let line =
            move |address: &SocketAddr| format!("{address}: {}", target(list, *address, dates.now));
        addresses.iter().map(line)
    };
    if old == new {
        let nothing = of_targets(old).map(|line| format!("{name}: nothing to do: {line}"));
        return nothing.collect();
    }
    let start = match dry_run {
        true => format!("{name}: not written; it would have serial {}", new.serial),
        false => format!("{name}: serial {}", new.serial),
    };
    let mut lines = vec![start];
    lines.extend(of_targets(new));
    let gone = old.addresses().filter(|old| !new.addresses().any(|new| new == *old));
    let gone = gone.filter(|other| !addresses.contains(other));
    lines.extend(
        gone.map(|other| format!("{other}: not in the file any more: POPs ask it nothing")),
    );
    let (before, after) = (events(old, dates.now), events(new, dates.now));
    let texts = |events: Vec<(UnixTime, Event)>| -> Vec<(UnixTime, String)> {
        events.iter().map(|(date, event)| (*date, words_of(event))).collect()
    };
    let (before, after) = (texts(before), texts(after));
    let changed = after.iter().filter(|event| !before.contains(event));
    lines.extend(changed.map(|(date, text)| format!("{}: {text}", format_time(*date))));
    let dropped = before.iter().filter(|(date, _)| !after.iter().any(|(other, _)| other == date));
    lines.extend(dropped.map(|(date, _)| format!("{}: no change any more", format_time(*date))));
    lines.push(candidates(new));
    if !dry_run && before != after {
        let by = format_time(dates.at.minus_millis(new.skew_ms));
        lines.push(format!("now put this same file on every POP, before {by}"));
    } else if !dry_run {
        lines.push("now put this same file on every POP".to_owned());
    }
    lines
}

/// What is said of a new file.
pub(super) fn made(name: &str, list: &TargetList, dry_run: bool) -> Vec<String> {
    let targets = names(&list.addresses().collect::<Vec<_>>());
    if dry_run {
        return vec![format!("{name}: not made; it would have {targets}")];
    }
    vec![format!(
        "{name}: made, with {targets} and no dates, as for a relay that has had them always"
    )]
}

/// The addresses, with commas.
pub(super) fn names(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn candidates(list: &TargetList) -> String {
    let (most, when) = most_candidates(list);
    if most <= 1 {
        return "each client has one target to be asked".to_owned();
    }
    format!(
        "a client has at most {most} targets to be asked, as of {}; {MAX_CANDIDATES} are possible",
        format_time(when)
    )
}

/// Who begins and ends, and how many clients that moves.
fn words_of(event: &Event) -> String {
    let mut parts = Vec::new();
    for (addresses, does) in [(&event.begin, "begins"), (&event.end, "ends")] {
        parts.extend(addresses.iter().map(|address| format!("{address} {does}")));
    }
    let weights = event.weight.iter();
    parts.extend(weights.map(|weight| format!("{} has weight {}", weight.address, weight.weight)));
    if event.targets == 0 {
        return format!("{}; no target takes connections, new ones are dropped", parts.join(", "));
    }
    let share = event.moved_share * 100.0;
    format!("{}; new connections of {share:.1}% of clients go to another target", parts.join(", "))
}

/// The entries of a target, ascending.
fn entries(list: &TargetList, address: SocketAddr) -> Vec<Target> {
    let mut own: Vec<_> =
        list.entries.iter().filter(|target| target.address == address).copied().collect();
    own.sort_unstable();
    own
}
