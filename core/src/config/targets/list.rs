//! The list itself: its entries, its epochs, and its form in a file.

use std::net::SocketAddr;

use crate::counters::TARGETS;
use crate::time::{UnixTime, format_duration, format_time};

/// The largest weight of a target.
pub const MAX_WEIGHT: u16 = 1000;
/// Most addresses of the targets of one relay.
pub const MAX_TARGETS: usize = TARGETS;
/// Most entries of the targets of one relay: an address may have several, one after the other.
pub const MAX_ENTRIES: usize = 256;
/// Most targets that a segment of a client may have to go to.
pub const MAX_CANDIDATES: usize = 4;
/// Most dates of one relay within its memory.
pub const MAX_EVENTS: usize = 16;

/// The memory without a setting, in milliseconds: a day.
pub const MEMORY_MS: u64 = 86_400_000;
/// The skew without a setting, in milliseconds.
pub const SKEW_MS: u64 = 3000;

/// The targets of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetList {
    /// The number of its version.
    pub serial: u64,
    /// How long a target that gets no new connections, or fewer, is still asked, in milliseconds.
    pub memory_ms: u64,
    /// The largest difference between the clocks of two POPs, in milliseconds.
    pub skew_ms: u64,
    /// The entries, ascending: 1..=[`MAX_ENTRIES`], of 1..=[`MAX_TARGETS`] addresses.
    pub entries: Vec<Target>,
}

/// A server of a relay, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its address and port.
    pub address: SocketAddr,
    /// When new connections begin to go to it; the start of 1970 if it has had them always.
    pub since: UnixTime,
    /// When they end to; [`UnixTime::NEVER`] without an end.
    pub until: UnixTime,
    /// From when on nothing is sent to it of the connections that it got before `until`;
    /// [`UnixTime::NEVER`] where only the memory ends that.
    pub gone: UnixTime,
    /// How many clients it gets in proportion to the others: 1..=[`MAX_WEIGHT`].
    pub weight: u16,
}

impl Target {
    /// A target without dates.
    pub fn always(address: SocketAddr, weight: u16) -> Self {
        let (since, until) = (UnixTime::default(), UnixTime::NEVER);
        Target { address, since, until, gone: UnixTime::NEVER, weight }
    }

    /// Whether new connections go to it at `time`.
    pub fn takes_new(&self, time: UnixTime) -> bool {
        self.since <= time && time < self.until
    }
}

/// A time in which the targets and their weights do not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its start.
    pub from: UnixTime,
    /// Its end, which does not belong to it; [`UnixTime::NEVER`] for the last.
    pub until: UnixTime,
    /// The entries that take new connections, ascending.
    pub members: Vec<Target>,
}

impl TargetList {
    /// The addresses, ascending.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let mut last = None;
        self.entries.iter().map(|target| target.address).filter(move |address| {
            let is_new = last != Some(*address);
            last = Some(*address);
            is_new
        })
    }

    /// The dates at which new connections begin or end to go to a target, ascending.
    pub fn events(&self) -> Vec<UnixTime> {
        let dates = self.entries.iter().flat_map(|target| [target.since, target.until]);
        let is_date = |date: &UnixTime| *date != UnixTime::default() && *date != UnixTime::NEVER;
        let mut events: Vec<_> = dates.filter(is_date).collect();
        events.sort_unstable();
        events.dedup();
        events
    }

    /// The epochs from 1970 on, ascending and without a gap. Two that follow each other differ.
    pub fn epochs(&self) -> Vec<Epoch> {
        let events = self.events();
        let starts = [UnixTime::default()].into_iter().chain(events.iter().copied());
        let ends = events.iter().copied().chain([UnixTime::NEVER]);
        let mut epochs: Vec<Epoch> = Vec::new();
        for (from, until) in starts.zip(ends) {
            let members = self.entries.iter().filter(|target| target.takes_new(from));
            let members: Vec<_> = members.copied().collect();
            match epochs.last_mut() {
                Some(last) if same(&last.members, &members) => last.until = until,
                _ => epochs.push(Epoch { from, until, members }),
            }
        }
        epochs
    }

    /// The times at which connections may have begun of which a segment arrives at `now`: from the
    /// memory on, and up to what the clock of another POP may say.
    pub fn window(&self, now: UnixTime) -> (UnixTime, UnixTime) {
        (now.minus_millis(self.memory_ms), now.plus_millis(self.skew_ms))
    }

    /// The list in the form of a targets file.
    pub fn to_text(&self) -> String {
        let TargetList { serial, memory_ms, skew_ms, entries } = self;
        let mut text =
            String::from("# Targets of a relay; `anyrelay targets` changes this file.\n");
        text += &format!("serial = {serial}\n");
        text += &format!("memory = \"{}\"\n", format_duration(*memory_ms));
        text += &format!("skew = \"{}\"\n", format_duration(*skew_ms));
        for target in entries {
            text += &format!("\n[[target]]\naddress = \"{}\"\n", target.address);
            if target.weight != 1 {
                text += &format!("weight = {}\n", target.weight);
            }
            let dates = [("since", target.since), ("until", target.until), ("gone", target.gone)];
            for (name, date) in dates {
                if date != UnixTime::default() && date != UnixTime::NEVER {
                    text += &format!("{name} = {}\n", format_time(date));
                }
            }
        }
        text
    }
}

/// What the choice among `members` depends on: their addresses, and the ratio of their weights.
pub fn choice(members: &[Target]) -> Vec<(SocketAddr, u16)> {
    let common = members.iter().fold(0, |common, target| gcd(common, target.weight)).max(1);
    members.iter().map(|target| (target.address, target.weight / common)).collect()
}

/// The greatest common divisor; of 0 and n it is n.
fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether two sets of entries give each client the same target, until the same time.
fn same(one: &[Target], other: &[Target]) -> bool {
    let ends =
        |members: &[Target]| -> Vec<_> { members.iter().map(|target| target.gone).collect() };
    choice(one) == choice(other) && ends(one) == ends(other)
}
