//! Targets that change while connections last.

use std::net::SocketAddr;

use anyrelay_kit::rng::Rng;

use super::choice::{Entry, NEVER, TargetList};

/// The lists of a service's targets, one for each change that a POP knows of.
#[derive(Clone, Debug)]
pub struct Changes {
    pub lists: Vec<TargetList>,
    /// When each change is in force, in milliseconds since 1970.
    pub dates_ms: Vec<u64>,
}

impl Changes {
    /// The list of a POP that knows of so many changes.
    pub fn list(&self, known: usize) -> &TargetList {
        &self.lists[known.min(self.dates_ms.len())]
    }
}

/// Draws up to three changes among these addresses, the first of them after `first_ms`.
pub fn draw(rng: &mut Rng, first_ms: u64, addresses: &[SocketAddr]) -> Changes {
    let active = 1 + rng.index(3);
    let mut entries: Vec<_> = addresses[..active]
        .iter()
        .map(|address| Entry::always(*address, 1 + rng.below(3) as u16))
        .collect();
    let memory_ms = rng.pick(&[60_000, 120_000, 300_000]);
    let list = |entries: &Vec<Entry>| {
        let entries = entries.clone();
        TargetList { memory_ms, skew_ms: 3000, entries, kept: Vec::new() }
    };
    let (mut lists, mut dates_ms) = (vec![list(&entries)], Vec::new());
    let mut date_ms = first_ms;
    for _ in 0..1 + rng.below(CHANGES_MAX) {
        date_ms += 200 + rng.below(5000);
        change(rng, &mut entries, addresses, date_ms);
        dates_ms.push(date_ms);
        lists.push(list(&entries));
    }
    Changes { lists, dates_ms }
}

/// One change: a target comes, one goes, one takes the place of another, or a weight changes.
fn change(rng: &mut Rng, entries: &mut Vec<Entry>, addresses: &[SocketAddr], date_ms: u64) {
    let active: Vec<_> = (0..entries.len()).filter(|at| entries[*at].until_ms == NEVER).collect();
    let takes = |address: &SocketAddr| active.iter().any(|at| entries[*at].address == *address);
    let idle: Vec<_> = addresses.iter().filter(|address| !takes(address)).copied().collect();
    let first = active[rng.index(active.len())];
    let came = Entry { since_ms: date_ms, ..Entry::always(rng.pick(&idle), 1) };
    let kind = rng.below(10);
    match kind {
        0..2 if active.len() > 1 => {
            let before = entries[first];
            entries[first].until_ms = date_ms;
            let weight = before.weight + 1 + rng.below(3) as u16;
            entries.push(Entry { since_ms: date_ms, weight, ..before });
        }
        2..5 if active.len() > 1 => leave(rng, &mut entries[first], date_ms),
        5..8 => {
            leave(rng, &mut entries[first], date_ms);
            entries.push(came);
        }
        _ => entries.push(Entry { weight: 1 + rng.below(4) as u16, ..came }),
    }
}

/// A target takes no more connections; it may be given up soon after.
fn leave(rng: &mut Rng, entry: &mut Entry, date_ms: u64) {
    entry.until_ms = date_ms;
    if rng.happens(200) {
        entry.gone_ms = date_ms + rng.below(10_000);
    }
}

const CHANGES_MAX: u64 = 3;
