//! A list of targets in JSON.

use anyrelay_core::config::{Epoch, Target, TargetList, most_candidates, moved_share};
use anyrelay_core::time::{UnixTime, format_time};
use serde::Serialize;

use crate::targets::{Dates, State, state};

/// A list at a time.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    time: String,
    serial: u64,
    memory_ms: u64,
    skew_ms: u64,
    most_candidates: usize,
    targets: Vec<Listed>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Listed {
    address: String,
    state: &'static str,
    /// The date of its state: since when it is new or gone, until when it is asked while it drains,
    /// or when it comes.
    state_date: Option<String>,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    weight: u16,
    since: Option<String>,
    until: Option<String>,
    gone: Option<String>,
}

/// A date at which the choice among targets changes.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) date: String,
    pub(super) moved_share: f64,
    /// How many targets take new connections from then on.
    pub(super) targets: usize,
    pub(super) begin: Vec<String>,
    pub(super) end: Vec<String>,
    pub(super) weight: Vec<Weight>,
}

#[derive(Debug, Serialize)]
pub(super) struct Weight {
    pub(super) address: String,
    pub(super) weight: u16,
}

/// What a command did.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    file: String,
    /// Whether the list is another.
    changed: bool,
    /// Whether the file was written.
    written: bool,
    /// The date of the change; none where all is as it was, or the file is new.
    at: Option<String>,
    /// By when every POP must have the file.
    distribute_by: Option<String>,
    list: Listing,
}

impl Listing {
    /// `list` at `time`.
    pub(super) fn new(list: &TargetList, time: UnixTime) -> Self {
        let targets = list.addresses().map(|address| {
            let own = list.entries.iter().filter(|target| target.address == address);
            let state = state(list, address, time);
            let entries = own.map(|target| Entry {
                weight: target.weight,
                since: date(target.since),
                until: date(target.until),
                gone: date(target.gone),
            });
            Listed {
                address: address.to_string(),
                state: state.map_or("gone", State::name),
                state_date: state.and_then(State::date).and_then(date),
                entries: entries.collect(),
            }
        });
        Listing {
            time: format_time(time),
            serial: list.serial,
            memory_ms: list.memory_ms,
            skew_ms: list.skew_ms,
            most_candidates: most_candidates(list).0,
            targets: targets.collect(),
            events: events(list, time).into_iter().map(|(_, event)| event).collect(),
        }
    }
}

impl Changed {
    /// `list` at `now` after a command, which made it of `old` for these dates if there was one.
    pub(super) fn new(
        file: &str,
        old: Option<(&TargetList, Dates)>,
        list: &TargetList,
        dry_run: bool,
        now: UnixTime,
    ) -> Self {
        let changed = old.is_none_or(|(old, _)| old != list);
        let at = old.filter(|_| changed).map(|(_, dates)| dates.at);
        Changed {
            file: file.to_owned(),
            changed,
            written: changed && !dry_run,
            at: at.map(format_time),
            distribute_by: at.map(|at| format_time(at.minus_millis(list.skew_ms))),
            list: Listing::new(list, now),
        }
    }
}

/// The dates later than `time` at which the choice changes, ascending.
pub(super) fn events(list: &TargetList, time: UnixTime) -> Vec<(UnixTime, Event)> {
    let epochs = list.epochs();
    let pairs = epochs.windows(2).filter_map(|pair| match pair {
        [before, after] if after.from > time => Some((after.from, event(before, after))),
        _ => None,
    });
    pairs.collect()
}

fn event(before: &Epoch, after: &Epoch) -> Event {
    let missing = |from: &Epoch, other: &Epoch| -> Vec<String> {
        let has = |address| other.members.iter().any(|member| member.address == address);
        let missing = from.members.iter().filter(|member| !has(member.address));
        missing.map(|member| member.address.to_string()).collect()
    };
    let weight_before = |address| {
        before.members.iter().find(|member| member.address == address).map(|member| member.weight)
    };
    let changed = after.members.iter().filter(|member| {
        weight_before(member.address).is_some_and(|weight| weight != member.weight)
    });
    let weight =
        |member: &Target| Weight { address: member.address.to_string(), weight: member.weight };
    Event {
        date: format_time(after.from),
        moved_share: moved_share(&before.members, &after.members),
        targets: after.members.len(),
        begin: missing(after, before),
        end: missing(before, after),
        weight: changed.map(weight).collect(),
    }
}

fn date(time: UnixTime) -> Option<String> {
    (time != UnixTime::default() && time != UnixTime::NEVER).then(|| format_time(time))
}
