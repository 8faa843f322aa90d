//! What a new list of targets does to the connections that began under the list before.

use std::net::SocketAddr;

use super::list::{Epoch, Target, TargetList, choice};
use crate::time::UnixTime;

/// Why a new list breaks connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A target that may have connections is no longer in the list.
    Forgotten {
        /// The target.
        address: SocketAddr,
        /// Until when it may be asked by the list before; [`UnixTime::NEVER`] where it takes new
        /// connections without an end.
        asked_until: UnixTime,
    },
    /// The lists differ from this time on, which is past or too soon: other POPs may have gone by
    /// the one, and this one by the other.
    Late {
        /// The time.
        from: UnixTime,
        /// The first time at which they may differ.
        earliest: UnixTime,
    },
    /// Changes are forgotten that are within the memory of the list before.
    ShortMemory {
        /// The first such change.
        from: UnixTime,
    },
}

/// The first reason why connections break when `new` takes the place of `old` at `now`. `None` when
/// the lists differ only in what begins later than `now` and the skew, and in what no connection
/// depends on.
pub fn harm(old: &TargetList, new: &TargetList, now: UnixTime) -> Option<Harm> {
    let (from, until) = old.window(now);
    let until = until.max(new.window(now).1);
    let (before, after) = (old.epochs(), new.epochs());
    let starts = before.iter().chain(&after).map(|epoch| epoch.from);
    let mut times: Vec<_> = starts.filter(|start| *start > from && *start <= until).collect();
    times.push(from);
    times.sort_unstable();
    for time in times {
        let (old_members, new_members) = (at(&before, time, now), at(&after, time, now));
        if choice(&old_members) == choice(&new_members) {
            continue;
        }
        let is_kept = |target: &&Target| new.addresses().any(|address| address == target.address);
        if let Some(lost) = old_members.iter().find(|target| !is_kept(target)) {
            let asked_until = match lost.until {
                UnixTime::NEVER => UnixTime::NEVER,
                until => lost.gone.min(until.plus_millis(old.memory_ms)),
            };
            return Some(Harm::Forgotten { address: lost.address, asked_until });
        }
        let earliest = until.plus_millis(1);
        return Some(Harm::Late { from: time, earliest });
    }
    let (forgotten_until, _) = new.window(now);
    let changes = before.iter().map(|epoch| epoch.from);
    let lost = changes.filter(|change| *change > from && *change <= forgotten_until).min();
    lost.map(|from| Harm::ShortMemory { from })
}

/// The epochs in which connections began that a segment at `now` may belong to, by a list that
/// others follow: those of `old`, and those that were kept of lists before it.
pub fn kept_epochs(
    old: &TargetList,
    kept: &[Epoch],
    new: &TargetList,
    now: UnixTime,
) -> Vec<Epoch> {
    let (from, until) = old.window(now);
    let mut epochs: Vec<_> = kept.iter().filter(|epoch| epoch.until > from).cloned().collect();
    if harm(old, new, now).is_some() {
        let of_old = old.epochs().into_iter();
        let within = of_old.filter(|epoch| epoch.until > from && epoch.from <= until);
        // Of the future of the list that was, nothing comes.
        epochs.extend(within.map(|epoch| Epoch { until: epoch.until.min(until), ..epoch }));
    }
    epochs
}

/// Who takes new connections at `time`, without those that are gone at `now`.
fn at(epochs: &[Epoch], time: UnixTime, now: UnixTime) -> Vec<Target> {
    let epoch = epochs.iter().rev().find(|epoch| epoch.from <= time);
    let members = epoch.map_or(&[][..], |epoch| &epoch.members);
    members.iter().filter(|target| now < target.gone).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::list::{MEMORY_MS, SKEW_MS};
    use super::*;

    const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, n], 80))
    }

    fn always(n: u8) -> Target {
        Target::always(address(n), 1)
    }

    fn list(entries: &[Target]) -> TargetList {
        let entries = entries.to_vec();
        TargetList { serial: 0, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries }
    }

    fn seconds(seconds: i64) -> UnixTime {
        UnixTime::from_millis(NOW.as_millis().saturating_add_signed(seconds * 1000))
    }

    fn change(old: &[Target], new: &[Target]) -> Option<Harm> {
        harm(&list(old), &list(new), NOW)
    }

    #[test]
    fn what_begins_later_than_the_skew_harms_nothing() {
        let old = [always(1), always(2)];
        let soon = seconds(4);
        let drained = Target { until: soon, ..always(2) };
        for new in [
            vec![always(1), always(2), Target { since: soon, ..always(3) }],
            vec![always(1), drained],
            vec![always(1), drained, Target { since: soon, weight: 7, ..always(2) }],
            // All weights are in proportion.
            old.iter().map(|target| Target { weight: 5, ..*target }).collect(),
        ] {
            assert_eq!(change(&old, &new), None, "{new:?}");
            // And it may be called off again before.
            assert_eq!(change(&new, &old), None, "{new:?}");
        }
    }

    #[test]
    fn what_begins_sooner_is_late() {
        let old = [always(1), always(2)];
        for (at, is_late) in [(seconds(-50), true), (NOW, true), (seconds(3), true)] {
            for new in [
                vec![always(1), always(2), Target { since: at, ..always(3) }],
                vec![always(1), Target { until: at, ..always(2) }],
            ] {
                let earliest = seconds(3).plus_millis(1);
                let harm = change(&old, &new);
                assert_eq!(harm == Some(Harm::Late { from: at, earliest }), is_late, "{new:?}");
            }
        }
        // Without a date it is as if it had been there always.
        let new = [always(1), always(2), always(3)];
        let from = seconds(-24 * 3600);
        let earliest = seconds(3).plus_millis(1);
        assert_eq!(change(&old, &new), Some(Harm::Late { from, earliest }));
    }

    #[test]
    fn a_target_is_kept_for_the_memory_or_until_it_is_gone() {
        let drained = |until, gone| [always(1), Target { until, gone, ..always(2) }];
        let new = [always(1)];
        let (day, long_ago) = (seconds(-24 * 3600), seconds(-24 * 3600 + 1));
        assert_eq!(change(&drained(day, UnixTime::NEVER), &new), None);
        let asked_until = long_ago.plus_millis(MEMORY_MS);
        let forgotten = Some(Harm::Forgotten { address: address(2), asked_until });
        assert_eq!(change(&drained(long_ago, UnixTime::NEVER), &new), forgotten);
        assert_eq!(change(&drained(seconds(-60), seconds(-50)), &new), None);
        let asked_until = seconds(50);
        let forgotten = Some(Harm::Forgotten { address: address(2), asked_until });
        assert_eq!(change(&drained(seconds(-60), seconds(50)), &new), forgotten);
        let asked_until = UnixTime::NEVER;
        let forgotten = Some(Harm::Forgotten { address: address(2), asked_until });
        assert_eq!(change(&[always(1), always(2)], &new), forgotten);
    }

    #[test]
    fn a_shorter_memory_must_not_forget_a_change() {
        let old = list(&[always(1), Target { since: seconds(-7200), ..always(2) }]);
        let shorter = |memory_ms| TargetList { memory_ms, ..old.clone() };
        assert_eq!(harm(&old, &shorter(7_201_000), NOW), None);
        let from = seconds(-7200);
        assert_eq!(harm(&old, &shorter(7_200_000), NOW), Some(Harm::ShortMemory { from }));
        assert_eq!(harm(&shorter(3_600_000), &old, NOW), None);
    }

    #[test]
    fn of_a_late_change_what_was_before_is_kept() {
        let (old, new) = (list(&[always(1), always(2)]), list(&[always(1), always(3)]));
        let kept = kept_epochs(&old, &[], &new, NOW);
        let [epoch] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!((epoch.until, epoch.members.len()), (seconds(3), 2));
        // It stays as long as the memory, over changes that harm nothing.
        let later =
            |seconds_later: i64| kept_epochs(&new, &kept, &new, seconds(seconds_later)).len();
        assert_eq!((later(24 * 3600 + 2), later(24 * 3600 + 3)), (1, 0));
        assert_eq!(kept_epochs(&old, &[], &old, NOW), []);
    }
}
