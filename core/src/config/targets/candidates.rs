//! How many targets a client's segment may have to go to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::list::{Epoch, TargetList};
use crate::time::UnixTime;

/// The most targets that any client's segment may have to go to under `list` at any time, and the
/// first time at which it is so many. Of a client nothing is known, so that its hashes may rank the
/// targets in any order; two weights of one target are taken as if they were ranked apart, so that
/// the number may be too high where weights change, and never too low.
///
/// Targets that are given up within twice the skew do not count: whatever is full, one that is dead
/// must be able to leave, and it is asked for seconds.
pub fn most_candidates(list: &TargetList) -> (usize, UnixTime) {
    let epochs = list.epochs();
    let mut most = (0, UnixTime::default());
    // The window changes as its end enters an epoch.
    for last in &epochs {
        let (first, _) = list.window(last.from.minus_millis(list.skew_ms));
        let within: Vec<_> =
            epochs.iter().filter(|epoch| epoch.until > first && epoch.from <= last.from).collect();
        let count = most_winners(&within, last.from.plus_millis(list.skew_ms.saturating_mul(2)));
        if count > most.0 {
            most = (count, last.from);
        }
    }
    most
}

/// The most different targets, of those that are not gone by `time`, that can win the given epochs
/// under one ranking of all entries.
///
/// The first in the ranking wins all epochs that it is in; the next one those of the others that it
/// is in, and so on. So the way is searched on which most targets have at least one epoch that
/// those before them are not in.
fn most_winners(epochs: &[&Epoch], time: UnixTime) -> usize {
    // Of each target, for each of its weights, the epochs that it is in.
    let mut targets: BTreeMap<SocketAddr, BTreeMap<u16, Wins>> = BTreeMap::new();
    for (epoch, bit) in epochs.iter().zip((0..u64::BITS).map(|bit| 1 << bit)) {
        for target in &epoch.members {
            let weights = targets.entry(target.address).or_default();
            let wins = weights.entry(target.weight).or_default();
            wins.epochs |= bit;
            if target.gone > time {
                wins.counted |= bit;
            }
        }
    }
    let (mut once, mut changing) = (BTreeSet::new(), Vec::new());
    for weights in targets.into_values() {
        let wins: Vec<_> = weights.into_values().collect();
        match wins[..] {
            // Of those in the same epochs one wins.
            [wins] => _ = once.insert(wins),
            _ => changing.push(wins),
        }
    }
    let search = Search { once: once.into_iter().collect(), changing };
    let all = (0..u64::BITS).zip(epochs).fold(0, |all, (bit, _)| all | 1 << bit);
    search.most(State { left: all, counted: 0 }, &mut HashMap::new())
}

/// The epochs, as bits, that an entry wins if all others have less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wins {
    epochs: u64,
    /// Those whose connections are not given up.
    counted: u64,
}

/// The search for the way on which most targets win.
struct Search {
    /// Of targets whose weight does not change.
    once: Vec<Wins>,
    /// Of each of the other targets, whose entries count as one.
    changing: Vec<Vec<Wins>>,
}

/// Where a way is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// The epochs without a winner.
    left: u64,
    /// Which of the changing targets were counted.
    counted: u64,
}

impl Search {
    fn most(&self, at: State, known: &mut HashMap<State, usize>) -> usize {
        if let Some(found) = known.get(&at) {
            return *found;
        }
        let mut most = 0;
        for wins in self.once.iter().filter(|wins| wins.epochs & at.left != 0) {
            let next = State { left: at.left & !wins.epochs, ..at };
            let counts = usize::from(wins.counted & at.left != 0);
            most = most.max(counts + self.most(next, known));
        }
        for (bit, entries) in (0..u64::BITS).map(|bit| 1 << bit).zip(&self.changing) {
            for wins in entries.iter().filter(|wins| wins.epochs & at.left != 0) {
                let counts = wins.counted & at.left != 0;
                let counted = if counts { at.counted | bit } else { at.counted };
                let next = State { left: at.left & !wins.epochs, counted };
                let is_new = usize::from(counted != at.counted);
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
    fn what_is_given_up_does_not_count() {
        // Three drained ones are all that fit beside the rest.
        let drained = (1..=3).map(|n| (n, 1, 0, 100 + u64::from(n)));
        let mut entries: Vec<_> = drained.chain([(4, 1, 0, 105), (9, 1, 0, 0)]).collect();
        assert_eq!(most(&entries), 5);
        let mut dead = list(&entries);
        let give_up = |dead: &mut TargetList, after_ms: u64| {
            dead.entries[3].gone = dead.entries[3].until.plus_millis(after_ms);
            most_candidates(dead).0
        };
        assert_eq!(give_up(&mut dead, 2 * SKEW_MS), 4);
        assert_eq!(give_up(&mut dead, 2 * SKEW_MS + 1), 5);
        // Without the dead one, its clients' connections of that time are at others.
        entries.remove(3);
        assert_eq!(most(&entries), 4);
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
