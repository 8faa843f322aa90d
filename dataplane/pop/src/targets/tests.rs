//! Tests of the changes.

use anyrelay_core::config::{MAX_EVENTS, MEMORY_MS, SKEW_MS, Target, harm, most_candidates};

use super::*;

const NOW: UnixTime = UnixTime::from_millis(1_800_000_000_000);
const NEVER: UnixTime = UnixTime::NEVER;
const DRAIN: Leave = Leave { gone: false, last: false };
const GONE: Leave = Leave { gone: true, last: false };

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 80))
}

fn always(n: u8) -> Target {
    Target::always(address(n), 1)
}

fn list(entries: &[Target]) -> TargetList {
    TargetList { serial: 7, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries: entries.to_vec() }
}

/// The time that many seconds after [`NOW`].
fn after(seconds: i64) -> UnixTime {
    UnixTime::from_millis(NOW.as_millis().saturating_add_signed(seconds * 1000))
}

/// A change made at a time, with a date a minute later.
fn dates(seconds: i64) -> Dates {
    Dates { now: after(seconds), at: after(seconds + 60) }
}

#[test]
fn a_change_comes_into_force_when_all_have_it() {
    let list = list(&[always(1)]);
    let dates = Dates::after(&list, NOW.plus_millis(1), 60_000);
    assert_eq!(dates.at, after(67));
    assert_eq!(Dates::earliest(&list, NOW), after(4));
    let too_early = Refusal::TooEarly { at: after(3), earliest: after(4), skew_ms: SKEW_MS };
    let at = |seconds| Dates { now: NOW, at: after(seconds) };
    assert_eq!(add(&list, address(2), None, at(3)), Err(too_early.clone()));
    assert_eq!(weight(&list, address(1), 2, at(3)), Err(too_early.clone()));
    assert_eq!(drain(&list, address(1), DRAIN, at(3)), Err(too_early));
    assert!(add(&list, address(2), None, at(4)).is_ok());
}

#[test]
fn a_target_is_added_drained_and_removed() {
    let old = list(&[always(1)]);
    let added = add(&old, address(2), Some(3), dates(0)).unwrap();
    let new = Target { since: after(60), weight: 3, ..always(2) };
    assert_eq!(added, TargetList { serial: 8, entries: vec![always(1), new], ..old });
    for seconds in [0, 10, 1000] {
        let again = add(&added, address(2), None, dates(seconds));
        assert_eq!(again, Err(Refusal::Takes(address(2))));
    }

    let drained = drain(&added, address(2), DRAIN, dates(1000)).unwrap().unwrap();
    let ended = Target { until: after(1060), ..new };
    assert_eq!(drained.entries, [always(1), ended]);
    assert_eq!(drain(&drained, address(2), DRAIN, dates(2000)), Ok(None));
    assert_eq!(drain(&drained, address(3), DRAIN, dates(2000)), Err(Refusal::Unknown(address(3))));

    // Back with its weight, before its connections are forgotten.
    let back = add(&drained, address(2), None, dates(2000)).unwrap();
    assert_eq!(back.entries, [always(1), ended, Target { since: after(2060), ..new }]);

    let day = 86_400;
    assert_eq!(remove(&drained, address(2), DRAIN, dates(1000 + day)), Ok(None));
    let removed = remove(&drained, address(2), DRAIN, dates(1064 + day)).unwrap().unwrap();
    assert_eq!((removed.serial, removed.entries), (10, vec![always(1)]));
}

#[test]
fn a_target_that_is_given_up_is_gone_soon() {
    let old = list(&[always(1), always(2)]);
    let removed = remove(&old, address(2), GONE, dates(0)).unwrap().unwrap();
    let gone = Target { until: after(60), gone: after(66), ..always(2) };
    assert_eq!(removed.entries, [always(1), gone]);
    // It stays in the file while POPs may send it something.
    assert_eq!(remove(&removed, address(2), GONE, dates(72)), Ok(None));
    let dropped = remove(&removed, address(2), GONE, dates(73)).unwrap().unwrap();
    assert_eq!(dropped.entries, [always(1)]);
    // One that drains is given up later.
    let drained = drain(&old, address(2), DRAIN, dates(0)).unwrap().unwrap();
    let removed = remove(&drained, address(2), GONE, dates(1000)).unwrap().unwrap();
    assert_eq!(removed.entries[1], Target { gone: after(1066), ..gone });
    // And taken back before it is.
    let back = add(&removed, address(2), None, dates(1004)).unwrap();
    assert_eq!(back.entries[1], Target { gone: NEVER, ..gone });
}

#[test]
fn what_has_not_come_into_force_is_taken_back() {
    let old = list(&[always(1), always(2)]);
    let drained = drain(&old, address(2), GONE, Dates { now: NOW, at: after(500) });
    let drained = drained.unwrap().unwrap();
    assert_eq!(add(&drained, address(2), None, dates(100)).unwrap().entries, old.entries);
    // An end before the date is one that some POPs will have gone by.
    let back = add(&drained, address(2), None, dates(450)).unwrap();
    assert_eq!(back.entries.len(), 3);
    assert_eq!(back.entries[2], Target { since: after(510), ..always(2) });
    // An earlier end takes the place of a later one.
    let sooner = drain(&drained, address(2), DRAIN, dates(100)).unwrap().unwrap();
    assert_eq!(sooner.entries[1].until, after(160));
    // One that was to come comes sooner, or does not.
    let added = add(&old, address(3), None, Dates { now: NOW, at: after(500) }).unwrap();
    let sooner = add(&added, address(3), Some(2), dates(0)).unwrap();
    assert_eq!(sooner.entries[2], Target { since: after(60), weight: 2, ..always(3) });
    assert_eq!(drain(&added, address(3), DRAIN, dates(0)).unwrap().unwrap().entries, old.entries);
}

#[test]
fn a_weight_changes_at_the_date_and_keeps_later_ends() {
    let old = list(&[always(1), always(2)]);
    let heavy = weight(&old, address(2), 5, dates(0)).unwrap().unwrap();
    let (ended, begun) = (
        Target { until: after(60), ..always(2) },
        Target { since: after(60), weight: 5, ..always(2) },
    );
    assert_eq!(heavy.entries, [always(1), ended, begun]);
    assert_eq!(weight(&heavy, address(2), 5, dates(100)), Ok(None));
    assert_eq!(weight(&heavy, address(2), 1, dates(0)).unwrap().unwrap().entries, old.entries);
    let drained = drain(&heavy, address(2), DRAIN, Dates { now: NOW, at: after(900) });
    let drained = drained.unwrap().unwrap();
    let light = weight(&drained, address(2), 2, dates(500)).unwrap().unwrap();
    assert_eq!(
        light.entries[3],
        Target { since: after(560), until: after(900), weight: 2, ..always(2) }
    );
    assert_eq!(weight(&drained, address(2), 2, dates(900)), Err(Refusal::TakesNone(address(2))));
    assert_eq!(weight(&old, address(3), 2, dates(0)), Err(Refusal::Unknown(address(3))));
    for bad in [0, MAX_WEIGHT + 1] {
        assert_eq!(weight(&old, address(2), bad, dates(0)), Err(Refusal::Weight(bad)));
        assert_eq!(add(&old, address(3), Some(bad), dates(0)), Err(Refusal::Weight(bad)));
    }
}

#[test]
fn the_last_target_stays() {
    let old = list(&[always(1), always(2)]);
    let one = drain(&old, address(2), DRAIN, dates(0)).unwrap().unwrap();
    assert_eq!(drain(&one, address(1), DRAIN, dates(0)), Err(Refusal::Last(after(60))));
    // Until another one comes is also too long.
    let coming = add(&one, address(3), None, Dates { now: NOW, at: after(900) }).unwrap();
    assert_eq!(drain(&coming, address(1), DRAIN, dates(0)), Err(Refusal::Last(after(60))));
    assert!(drain(&coming, address(1), DRAIN, Dates { now: NOW, at: after(900) }).is_ok());
    let last = Leave { last: true, ..DRAIN };
    let none = drain(&one, address(1), last, dates(0)).unwrap().unwrap();
    // Where there is none already, the rest may go on changing.
    assert!(drain(&none, address(2), GONE, dates(100)).is_ok());
    assert!(add(&none, address(1), None, dates(100)).is_ok());
}

#[test]
fn a_list_with_too_many_changes_says_when_it_has_room() {
    let mut many = list(&[always(100)]);
    for n in 0..3 {
        let dates = dates(i64::from(n) * 100);
        many = add(&many, address(n), None, dates).unwrap();
    }
    // Three additions are four candidates.
    let Err(Refusal::Limits { reason, later }) = add(&many, address(9), None, dates(300)) else {
        panic!("the fourth addition is accepted");
    };
    assert!(reason.contains("5 targets"), "{reason}");
    // The first of them is forgotten then.
    let later = later.unwrap();
    assert_eq!(later, after(60 + 86_400 + 4));
    assert!(add(&many, address(9), None, Dates { now: after(300), at: later }).is_ok());
    // Together with one that has not come yet, it is no more.
    let Err(Refusal::Limits { later, .. }) = add(&many, address(9), None, dates(190)) else {
        panic!("the fourth addition is accepted");
    };
    assert_eq!(later, Some(after(260)));
}

#[test]
fn weights_stay_in_the_numbers_of_the_file() {
    let mut old = list(&[always(1), always(2)]);
    old.entries.iter_mut().for_each(|target| target.weight = 10);
    let text = old.to_text();
    assert_eq!(TargetList::parse("t", &text).unwrap(), old);
    assert_eq!(TargetList::parse("t", "targets = 1").unwrap_err().0.len(), 1);
}

#[test]
fn a_date_beyond_the_memory_is_forgotten() {
    let begin = -86_400 - 3;
    let (old, young) = (
        Target { since: after(begin), ..always(1) },
        Target { since: after(begin + 1), ..always(2) },
    );
    assert_eq!(prune(&list(&[old, young]), NOW).entries, [always(1), young]);
    let ended = Target { until: after(begin), ..always(1) };
    assert_eq!(prune(&list(&[ended, old, young]), NOW).entries, [always(1), young]);
}

#[test]
fn states_are_told_apart() {
    let entry = |since, until, gone, weight| Target {
        since: if since == 0 { UnixTime::default() } else { after(since) },
        until: if until == 0 { NEVER } else { after(until) },
        gone: if gone == 0 { NEVER } else { after(gone) },
        ..Target::always(address(1), weight)
    };
    let day = 86_400;
    for (entries, expected) in [
        (vec![entry(0, 0, 0, 1)], State::Takes),
        (vec![entry(-day, 0, 0, 1)], State::Takes),
        (vec![entry(1 - day, 0, 0, 1)], State::New { since: after(1 - day) }),
        (vec![entry(0, -5, 0, 1), entry(-5, 0, 0, 2)], State::Takes),
        (vec![entry(0, -5, 0, 1)], State::Draining { until: after(day - 5) }),
        (vec![entry(0, -5, 1, 1)], State::Draining { until: after(1) }),
        (vec![entry(0, -5, -1, 1)], State::Gone { since: after(-1) }),
        (vec![entry(0, -5, -1, 1), entry(9, 0, 0, 1)], State::Gone { since: after(-1) }),
        (vec![entry(9, 10, 0, 1), entry(20, 0, 0, 1)], State::Coming { since: after(9) }),
    ] {
        assert_eq!(state(&list(&entries), address(1), NOW), Some(expected), "{entries:?}");
    }
    assert_eq!(state(&list(&[always(1)]), address(2), NOW), None);
}

/// Follows target 1 of 3: the list after, unless it stays as it is.
fn follow_one(list: &TargetList, is_alive: bool, dates: Dates) -> Followed {
    follow(list, address(1), is_alive, None, dates, 300_000).unwrap()
}

#[test]
fn a_target_that_flaps_uses_two_dates() {
    let mut list = list(&[Target { weight: 4, ..always(1) }, always(2), always(3)]);
    let (mut now, mut changes) = (0, 0);
    for _ in 0..40 {
        let dead = dates(now);
        let Followed::Changed(out) = follow_one(&list, false, dead) else { panic!("at {now}") };
        assert_eq!(harm(&list, &out, dead.now), None);
        assert_eq!(follow_one(&out, false, dates(now + 1)), Followed::Unchanged);
        // It is alive again a little later, and has to wait.
        let Followed::Later(later) = follow_one(&out, true, dates(now + 80)) else {
            panic!("at {now}");
        };
        assert_eq!(later, after(now + 300));
        let alive = dates(now + 300);
        let Followed::Changed(back) = follow_one(&out, true, alive) else { panic!("at {now}") };
        assert_eq!(harm(&out, &back, alive.now), None);
        assert_eq!(follow_one(&back, true, dates(now + 301 + 60)), Followed::Unchanged);
        assert!(back.events().len() <= 2, "{}", back.to_text());
        assert_eq!(most_candidates(&back).0, 2);
        assert_eq!(state(&back, address(1), after(now + 360)).unwrap().name(), "new");
        assert_eq!(back.entries.last().unwrap().weight, 1);
        assert_eq!(back.entries.first().unwrap().weight, 4);
        (list, now, changes) = (back, now + 500, changes + 2);
    }
    assert_eq!(list.serial, 7 + changes);
}

#[test]
fn a_death_that_was_none_leaves_no_trace() {
    let old = list(&[always(1), always(2)]);
    let Followed::Changed(out) = follow_one(&old, false, dates(0)) else { panic!() };
    let taken_back = Dates { now: after(1), at: after(50) };
    let Followed::Changed(back) = follow_one(&out, true, taken_back) else { panic!() };
    assert_eq!(back.entries, old.entries);
    // The last one stays in, dead or not.
    let other = follow(&out, address(2), false, None, dates(0), 0);
    assert_eq!(other, Err(Refusal::Last(after(60))));
    // One that the list does not have comes with the weight that it is given.
    let third = follow(&old, address(3), true, Some(6), dates(0), 300_000).unwrap();
    let Followed::Changed(third) = third else { panic!() };
    assert_eq!(third.entries[2], Target { since: after(60), weight: 6, ..always(3) });
}

#[test]
fn dead_targets_leave_also_where_no_other_change_fits() {
    let mut list = list(&[1, 2, 3, 4, 5, 6].map(always));
    for (n, now) in [(4, 0), (5, 100), (6, 200)] {
        list = drain(&list, address(n), DRAIN, dates(now)).unwrap().unwrap();
    }
    let refused = drain(&list, address(1), DRAIN, dates(300));
    assert!(matches!(refused, Err(Refusal::Limits { .. })), "{refused:?}");
    for (n, now) in [(1, 300), (2, 400)] {
        let followed = follow(&list, address(n), false, None, dates(now), 300_000);
        let Ok(Followed::Changed(next)) = followed else { panic!("{n}: {followed:?}") };
        assert_eq!(harm(&list, &next, after(now)), None);
        list = next;
    }
    assert_eq!(most_candidates(&list).0, 4);
}

#[test]
fn targets_that_restart_one_by_one_stay_two_candidates() {
    let mut list = list(&[1, 2, 3, 4, 5, 6, 7, 8].map(always));
    for n in 1..=8 {
        let now = i64::from(n) * 1000;
        for (is_alive, now) in [(false, now), (true, now + 400)] {
            let followed = follow(&list, address(n), is_alive, None, dates(now), 300_000);
            let Ok(Followed::Changed(next)) = followed else { panic!("{n}: {followed:?}") };
            assert_eq!(harm(&list, &next, after(now)), None);
            list = next;
        }
        assert_eq!(most_candidates(&list).0, 2);
    }
    assert_eq!(list.events().len(), MAX_EVENTS);
}

/// Numbers that look random and are always the same (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}

#[test]
fn no_sequence_of_changes_breaks_a_connection() {
    let (mut changed, mut refused) = (0, 0);
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let mut list = list(&[always(1), always(2)]);
        let mut now = NOW;
        for step in 0..40 {
            // Minutes mostly, and hours at times.
            let pause = [20_000, 600_000, 30_000_000][numbers.below(3) as usize];
            now = now.plus_millis(numbers.below(pause));
            let lead = [10_000, 3_600_000][numbers.below(2) as usize];
            let dates = Dates::after(&list, now, numbers.below(lead));
            let target = address(numbers.below(6) as u8);
            let (flag, number) = (numbers.below(2) == 0, numbers.below(3) as u16 + 1);
            let leave = Leave { gone: flag, last: numbers.below(4) == 0 };
            let next = match numbers.below(5) {
                0 => add(&list, target, flag.then_some(number), dates).map(Some),
                1 => drain(&list, target, leave, dates),
                2 => remove(&list, target, leave, dates),
                3 => weight(&list, target, number, dates),
                _ => follow(&list, target, flag, None, dates, 60_000).map(|next| match next {
                    Followed::Changed(next) => Some(next),
                    _ => None,
                }),
            };
            let Ok(Some(next)) = next else {
                refused += u32::from(next.is_err());
                continue;
            };
            changed += 1;
            let place =
                format!("seed {seed}, step {step}:\n{}\n{}", list.to_text(), next.to_text());
            assert_eq!(next.serial, list.serial + 1, "{place}");
            assert_eq!(harm(&list, &next, now), None, "{place}");
            assert_eq!(TargetList::parse("t", &next.to_text()).unwrap(), next, "{place}");
            // What POPs with the old list go by until the date is what the new one says.
            let last = dates.at.minus_millis(list.skew_ms + 1);
            assert_eq!(harm(&list, &next, last), None, "late; {place}");
            assert!(leave.last || !is_empty_from(&next, &list, dates.at), "{place}");
            list = next;
        }
    }
    assert!(changed > 2000 && refused > 200, "{changed} changed, {refused} refused");
}

/// Whether `new` has no target from `at` on at some time at which `old` has one.
fn is_empty_from(new: &TargetList, old: &TargetList, at: UnixTime) -> bool {
    let times = new.events().into_iter().chain(old.events()).chain([at]);
    let takes = |list: &TargetList, time| list.entries.iter().any(|target| target.takes_new(time));
    times.filter(|time| *time >= at).any(|time| takes(old, time) && !takes(new, time))
}

#[test]
fn a_list_full_of_dates_leaves_out_what_is_gone() {
    // Target 1 was back for short times, by changes that did not merge them.
    let mut entries = vec![always(2)];
    for n in 0..8 {
        let since = if n == 0 { UnixTime::default() } else { after(n * 100) };
        let until = after(n * 100 + 50);
        entries.push(Target { since, until, gone: until.plus_millis(6000), ..always(1) });
    }
    let full = list(&entries);
    assert_eq!(full.events().len(), MAX_EVENTS - 1);
    let once = drain(&full, address(2), Leave { last: true, ..DRAIN }, dates(2000));
    let once = once.unwrap().unwrap();
    assert_eq!(once.events().len(), MAX_EVENTS);
    let next = add(&once, address(2), None, dates(3000)).unwrap();
    assert_eq!(next.events(), [after(50), after(2060), after(3060)]);
    assert_eq!(harm(&once, &next, after(3000)), None);
}
