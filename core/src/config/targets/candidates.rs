//! How many targets a client's segment may have to go to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::list::{Epoch, TargetList};
use crate::time::UnixTime;

/// The most targets that any client's segment may have to go to under `list` at any time, and the
/// first time at which it is so many. Of a client nothing is known, so that its hashes may rank the
/// targets in any order; two weights of one target are taken as if they were ranked apart, so that
/// the number may be too high where weights change, and never too low.
pub fn most_candidates(list: &TargetList) -> (usize, UnixTime) {
    let epochs = list.epochs();
    let mut most = (0, UnixTime::default());
    // The window changes as its end enters an epoch.
    for last in &epochs {
        let (first, _) = list.window(last.from.minus_millis(list.skew_ms));
        let within: Vec<_> =
            epochs.iter().filter(|epoch| epoch.until > first && epoch.from <= last.from).collect();
        let count = most_winners(&within);
        if count > most.0 {
            most = (count, last.from);
        }
    }
    most
}

/// The most different targets that can win the given epochs under one ranking of all entries.
///
/// The first in the ranking wins all epochs that it is in; the next one those of the others that it
/// is in, and so on. So the way is searched on which most targets have at least one epoch that
/// those before them are not in.
fn most_winners(epochs: &[&Epoch]) -> usize {
    // Of each entry, told apart by address and weight, the epochs that it is in.
    let mut entries: BTreeMap<(SocketAddr, u16), u64> = BTreeMap::new();
    for (epoch, bit) in epochs.iter().zip((0..u64::BITS).map(|bit| 1 << bit)) {
        for target in &epoch.members {
            *entries.entry((target.address, target.weight)).or_default() |= bit;
        }
    }
    let of_address = |address| entries.keys().filter(|(other, _)| *other == address).count();
    let (mut once, mut changing) = (BTreeSet::new(), BTreeMap::<SocketAddr, Vec<u64>>::new());
    for ((address, _), epochs) in &entries {
        match of_address(*address) {
            // Of those in the same epochs one wins.
            1 => _ = once.insert(*epochs),
            _ => changing.entry(*address).or_default().push(*epochs),
        }
    }
    let search =
        Search { once: once.into_iter().collect(), changing: changing.into_values().collect() };
    let all = entries.values().fold(0, |all, epochs| all | epochs);
    search.most(State { left: all, counted: 0 }, &mut HashMap::new())
}

/// The search for the way on which most targets win.
struct Search {
    /// The epochs of entries whose weight does not change.
    once: Vec<u64>,
    /// The epochs of each entry of the other targets, whose entries count as one.
    changing: Vec<Vec<u64>>,
}

/// Where a way is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// The epochs without a winner.
    left: u64,
    /// Which of the changing targets won.
    counted: u64,
}

impl Search {
    fn most(&self, at: State, known: &mut HashMap<State, usize>) -> usize {
        if let Some(found) = known.get(&at) {
            return *found;
        }
        let mut most = 0;
        for epochs in self.once.iter().filter(|epochs| **epochs & at.left != 0) {
            let next = State { left: at.left & !epochs, ..at };
            most = most.max(1 + self.most(next, known));
        }
        for (bit, entries) in (0..u64::BITS).map(|bit| 1 << bit).zip(&self.changing) {
            for epochs in entries.iter().filter(|epochs| **epochs & at.left != 0) {
                let next = State { left: at.left & !epochs, counted: at.counted | bit };
                let is_new = usize::from(at.counted & bit == 0);
                most = most.max(is_new + self.most(next, known));
            }
        }
        known.insert(at, most);
        most
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::{MEMORY_MS, SKEW_MS, Target};
    use super::*;

    /// `(n, weight, since, until)`: target n from hour `since` to hour `until`; 0 is no date.
    fn list(entries: &[(u8, u16, u64, u64)]) -> TargetList {
        let hour = |hour| UnixTime::from_millis(hour * 3_600_000);
        let target = |&(n, weight, since, until): &(u8, u16, u64, u64)| Target {
            since: hour(since),
            until: if until == 0 { UnixTime::NEVER } else { hour(until) },
            ..Target::always(SocketAddr::from(([198, 51, 100, n], 80)), weight)
        };
        let entries = entries.iter().map(target).collect();
        TargetList { serial: 0, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries }
    }

    fn most(entries: &[(u8, u16, u64, u64)]) -> usize {
        most_candidates(&list(entries)).0
    }

    #[test]
    fn each_addition_within_the_memory_may_be_a_candidate_more() {
        assert_eq!(most(&[(1, 1, 0, 0)]), 1);
        assert_eq!(most(&[(1, 1, 0, 0), (2, 1, 0, 0), (3, 1, 0, 0)]), 1);
        assert_eq!(most(&[(1, 1, 0, 0), (2, 1, 50, 0)]), 2);
        assert_eq!(most(&[(1, 1, 0, 0), (2, 1, 50, 0), (3, 1, 50, 0)]), 2);
        assert_eq!(most(&[(1, 1, 0, 0), (2, 1, 50, 0), (3, 1, 51, 0), (4, 1, 52, 0)]), 4);
        assert_eq!(most(&[(1, 1, 0, 0), (2, 1, 50, 0), (3, 1, 75, 0), (4, 1, 100, 0)]), 2);
    }

    #[test]
    fn targets_that_restart_one_by_one_are_two_candidates() {
        let mut entries = Vec::new();
        for n in 1..=6 {
            let out = 100 + 2 * u64::from(n);
            entries.extend([(n, 1, 0, out), (n, 1, out + 1, 0)]);
        }
        assert_eq!(most(&entries), 2);
    }

    #[test]
    fn drains_one_by_one_are_a_candidate_more_each() {
        let drains: Vec<_> = (1..=4).map(|n| (n, 1, 0, 100 + u64::from(n))).collect();
        let with_rest = |rest| [drains.clone(), rest].concat();
        assert_eq!(most(&with_rest(vec![(9, 1, 0, 0)])), 5);
        let (_, when) = most_candidates(&list(&with_rest(vec![(9, 1, 0, 0)])));
        assert_eq!(when, UnixTime::from_millis(104 * 3_600_000));
        let at_once: Vec<_> = (1..=4).map(|n| (n, 1, 0, 100)).collect();
        assert_eq!(most(&[at_once, vec![(9, 1, 0, 0)]].concat()), 2);
    }

    #[test]
    fn a_weight_that_changes_step_by_step_is_one_candidate_more() {
        let mut entries: Vec<_> = (2..=9).map(|n| (n, 8, 0, 0)).collect();
        for step in 0..6u16 {
            let from = if step == 0 { 0 } else { 100 + u64::from(step) };
            let until = if step == 5 { 0 } else { 101 + u64::from(step) };
            entries.push((1, 1 << step, from, until));
        }
        assert_eq!(most(&entries), 2);
    }
}
