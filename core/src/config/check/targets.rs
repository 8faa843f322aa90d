//! Checks the targets of a relay, of the config or of a targets file.

use std::net::SocketAddr;

use super::super::parse;
use super::super::raw::{RawRelay, RawTarget, RawTargetsFile};
use super::super::targets::{
    MAX_CANDIDATES, MAX_ENTRIES, MAX_EVENTS, MAX_TARGETS, MAX_WEIGHT, MEMORY_MS, SKEW_MS, Target,
    TargetList, most_candidates,
};
use super::files::TargetsFiles;
use super::report::{Report, endpoint};
use crate::problem::Problems;
use crate::time::{UnixTime, format_duration, format_time, from_toml, parse_duration};

/// The targets of the relay whose keys are `key`, from the config or from the file that it names.
pub(super) fn targets(
    report: &mut Report,
    key: &dyn Fn(&str) -> String,
    raw: &RawRelay,
    files: &TargetsFiles<'_>,
) -> TargetList {
    let Some(path) = &raw.targets_file else {
        let times = [(key("memory"), &raw.memory), (key("skew"), &raw.skew)];
        return list(report, &Keys::of_config(key("targets")), &raw.targets, times);
    };
    let others = [
        ("targets", !raw.targets.is_empty()),
        ("memory", raw.memory.is_some()),
        ("skew", raw.skew.is_some()),
    ];
    for (name, _) in others.iter().filter(|(_, is_given)| *is_given) {
        report.error(key(name), "the targets file has it; leave it out here, or the file");
    }
    let file = match files(path) {
        Ok(file) => file,
        Err(reason) => {
            report.error(key("targets_file"), reason);
            return empty();
        }
    };
    match TargetList::parse(&file.name, &file.text) {
        Ok(list) => list,
        Err(problems) => {
            report.problems.extend(problems.0);
            empty()
        }
    }
}

impl TargetList {
    /// Reads the text of the targets file called `file`, and checks it by itself.
    ///
    /// # Errors
    /// All mistakes or, where the text is not TOML of the right form, the first.
    pub fn parse(file: &str, text: &str) -> Result<TargetList, Problems> {
        targets_file(file, &parse::parse(file, text)?)
    }
}

fn targets_file(file: &str, raw: &RawTargetsFile) -> Result<TargetList, Problems> {
    let mut report = Report { file, problems: Vec::new(), warnings: Vec::new() };
    let times = [("memory".to_owned(), &raw.memory), ("skew".to_owned(), &raw.skew)];
    let keys = Keys { all: "target".to_owned(), has_tables: true };
    let mut list = list(&mut report, &keys, &raw.target, times);
    let serial = report.number("serial", raw.serial, 0, i64::MAX);
    list.serial = serial.unwrap_or_default();
    if report.problems.is_empty() { Ok(list) } else { Err(Problems(report.problems)) }
}

/// The names of the entries in messages.
struct Keys {
    all: String,
    has_tables: bool,
}

impl Keys {
    fn of_config(all: String) -> Self {
        Keys { all, has_tables: false }
    }

    fn entry(&self, place: usize) -> String {
        format!("{}[{place}]", self.all)
    }

    fn address(&self, place: usize) -> String {
        let key = self.entry(place);
        if self.has_tables { key + ".address" } else { key }
    }
}

fn list(
    report: &mut Report,
    keys: &Keys,
    raw: &[RawTarget],
    [memory, skew]: [(String, &Option<String>); 2],
) -> TargetList {
    let skew_key = skew.0.clone();
    let memory_ms = duration(report, memory, MEMORY_MS, (1000, 30 * MEMORY_MS));
    let skew_ms = duration(report, skew, SKEW_MS, (0, 60_000));
    if skew_ms >= memory_ms {
        report.error(skew_key, "not less than the memory; a POP would forget what it is asked");
    }
    let mut list =
        TargetList { serial: 0, memory_ms, skew_ms, entries: entries(report, keys, raw) };
    if report.problems.is_empty() {
        changes(report, &keys.all, &list);
    }
    list.entries.sort_unstable();
    list
}

fn entries(report: &mut Report, keys: &Keys, raw: &[RawTarget]) -> Vec<Target> {
    if raw.is_empty() {
        report.error(&keys.all, "there is none; name at least one target as ADDRESS:PORT");
    }
    report.at_most(&keys.all, "entries", raw.len(), MAX_ENTRIES);
    let mut found: Vec<(usize, Target)> = Vec::new();
    for (place, raw) in raw.iter().enumerate() {
        let Some(target) = entry(report, keys, place, raw) else { continue };
        let same = |(_, other): &&(usize, Target)| {
            other.address == target.address
                && other.since < target.until
                && target.since < other.until
        };
        if let Some((first, other)) = found.iter().find(same) {
            let (first, is_dated) = (keys.entry(*first), *other != target || has_dates(raw));
            let reason = match is_dated {
                false => format!("the same target as {first}"),
                true => format!(
                    "the same target as {first}, at the same time; end that one with until before \
                     this one begins"
                ),
            };
            report.error(keys.entry(place), reason);
        }
        found.push((place, target));
    }
    let mut addresses: Vec<_> = found.iter().map(|(_, target)| target.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    report.at_most(&keys.all, "targets", addresses.len(), MAX_TARGETS);
    found.into_iter().map(|(_, target)| target).collect()
}

fn has_dates(raw: &RawTarget) -> bool {
    raw.since.is_some() || raw.until.is_some()
}

fn entry(report: &mut Report, keys: &Keys, place: usize, raw: &RawTarget) -> Option<Target> {
    let key = |name: &str| format!("{}.{name}", keys.entry(place));
    let weight = report.number(&key("weight"), raw.weight.unwrap_or(1), 1, MAX_WEIGHT.into());
    let address: Option<SocketAddr> =
        endpoint(report, &keys.address(place), "a target", &raw.address);
    let mut date = |name: &str, date: &Option<toml::value::Datetime>, without| {
        let Some(date) = date else { return Some(without) };
        let time = from_toml(date);
        if time.is_none() {
            let reason = format!("{date} is no time with an offset; write 2026-12-01T10:00:00Z");
            report.error(key(name), reason);
        }
        time
    };
    let since = date("since", &raw.since, UnixTime::default());
    let until = date("until", &raw.until, UnixTime::NEVER);
    let gone = date("gone", &raw.gone, UnixTime::NEVER);
    let (since, until, gone) = (since?, until?, gone?);
    if until <= since {
        report.error(key("until"), "not after since; such an entry is never used: remove it");
    }
    if raw.gone.is_some() && gone < until {
        let reason = "before until, or without one; a target that is gone takes nothing new";
        report.error(key("gone"), reason);
    }
    Some(Target { address: address?, since, until, gone, weight: weight? })
}

/// Reports dates that make segments go to too many targets, and times without a target.
fn changes(report: &mut Report, key: &str, list: &TargetList) {
    let events = list.events();
    let span = format_duration(list.memory_ms);
    for crowd in events.windows(MAX_EVENTS + 1) {
        if let [first, .., last] = crowd
            && last.as_millis() - first.as_millis() <= list.memory_ms
        {
            report.error(
                key,
                format!(
                    "more than {MAX_EVENTS} dates within the memory of {span}, from {} on; make \
                     changes together, or later",
                    format_time(*first)
                ),
            );
            return;
        }
    }
    let (most, when) = most_candidates(list);
    if most > MAX_CANDIDATES {
        report.error(
            key,
            format!(
                "at {} a client may have {most} targets to be asked, and {MAX_CANDIDATES} are \
                 supported: the changes within {span} are too many; make them together, or later",
                format_time(when)
            ),
        );
    }
    let empty = list.epochs().into_iter().find(|epoch| epoch.members.is_empty());
    if let Some(epoch) = empty {
        let reason = match epoch.until {
            UnixTime::NEVER => {
                format!("from {} on no target takes connections", format_time(epoch.from))
            }
            until => format!("until {} no target takes connections", format_time(until)),
        };
        report.warn(key, reason + "; they are dropped, and time out");
    }
}

fn duration(
    report: &mut Report,
    (key, text): (String, &Option<String>),
    default: u64,
    (low, high): (u64, u64),
) -> u64 {
    let Some(text) = text else { return default };
    match parse_duration(text) {
        Some(ms) if (low..=high).contains(&ms) => ms,
        Some(_) => {
            let (low, high) = (format_duration(low), format_duration(high));
            report.error(key, format!("{text:?} is out of range: it must be {low} to {high}"));
            default
        }
        None => {
            report.error(
                key,
                format!("{text:?} is no length of time; write it as \"24h\", \"90m\" or \"3s\""),
            );
            default
        }
    }
}

/// In the place of a list that cannot be read.
fn empty() -> TargetList {
    TargetList { serial: 0, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries: Vec::new() }
}
