use std::net::SocketAddr;

use super::*;
use crate::config::Target;
use crate::keys::Secret;
use crate::net::Endpoint;
use cpu_vector::Isa;
use proptest::prelude::*;

const MEMORY_MS: u64 = 1_000_000;
const SKEW_MS: u64 = 3000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_millis(seconds * 1000)
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 80))
}

const VIP: IpEndpoint = IpEndpoint::V4(Endpoint { ip: 0xcb00_710a, port: 443 });

fn keys() -> RelayKeys {
    RelayKeys::new(&Secret::new([7; 32]), Isa::best()).unwrap()
}

fn targets(entries: Vec<Target>, kept: &[config::Epoch]) -> Targets {
    let list = TargetList { serial: 0, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries };
    Targets::new(&keys(), VIP, &list, kept, None)
}

fn clients() -> impl Iterator<Item = IpEndpoint> {
    (0..400u32).map(|n| Endpoint { ip: 0x0102_0300 + n, port: 5000 }.into())
}

fn names(targets: &Targets, candidates: Candidates) -> Vec<SocketAddr> {
    candidates.iter().map(|index| SocketAddr::from(*targets.at(index).unwrap())).collect()
}

#[test]
fn without_dates_a_client_has_one_candidate_at_all_times() {
    for count in 1..5 {
        let targets = targets((1..=count).map(|n| Target::always(address(n), 1)).collect(), &[]);
        for client in clients() {
            let first = targets.choose(&client, at(0));
            assert_eq!(first, targets.choose(&client, at(9_000_000)));
            assert_eq!(names(&targets, first.candidates).len(), 1);
            assert_eq!(first.new, first.candidates.first());
        }
    }
}

#[test]
fn winners_of_before_and_of_soon_are_asked() {
    let new = Target { since: at(5000), ..Target::always(address(2), 1) };
    let targets = targets(vec![Target::always(address(1), 1), new], &[]);
    let old = TargetIndex(0);
    let mut moved = 0;
    for client in clients() {
        let chosen = |seconds, ms| targets.choose(&client, at(seconds).plus_millis(ms)).candidates;
        let after = targets.choose(&client, at(9_000_000)).new.unwrap();
        moved += u32::from(after != old);
        let both = Candidates::only(old).and(Candidates::only(after));
        assert_eq!(targets.choose(&client, at(4999).plus_millis(999)).new, Some(old));
        assert_eq!(targets.choose(&client, at(5000)).new, Some(after));
        assert_eq!(chosen(4996, 999), Candidates::only(old));
        assert_eq!(chosen(4997, 0), both);
        assert_eq!(chosen(5000 + MEMORY_MS / 1000 - 1, 999), both);
        assert_eq!(chosen(5000 + MEMORY_MS / 1000, 0), Candidates::only(after));
    }
    assert!((150..250).contains(&moved), "{moved}");
}

#[test]
fn a_target_that_is_gone_is_not_asked() {
    let dying = Target { until: at(5000), gone: at(5006), ..Target::always(address(1), 1) };
    let targets = targets(vec![dying, Target::always(address(2), 1)], &[]);
    for client in clients() {
        let candidates = |seconds| names(&targets, targets.choose(&client, at(seconds)).candidates);
        let was_its = candidates(0) == [address(1)];
        let during = if was_its { vec![address(1), address(2)] } else { vec![address(2)] };
        assert_eq!(candidates(5005), during);
        assert_eq!(candidates(5006), [address(2)]);
    }
}

#[test]
fn epochs_of_a_list_before_are_asked_until_they_are_over() {
    let kept = config::Epoch {
        from: UnixTime::default(),
        until: at(5000),
        members: vec![Target::always(address(9), 1)],
    };
    let targets = targets(vec![Target::always(address(1), 1)], &[kept]);
    for client in clients() {
        let candidates = |seconds| names(&targets, targets.choose(&client, at(seconds)).candidates);
        assert_eq!(candidates(5000), [address(1), address(9)]);
        assert_eq!(targets.choose(&client, at(5000)).new, targets.index_of(&address(1).into()));
        assert_eq!(candidates(5000 + MEMORY_MS / 1000), [address(1)]);
    }
}

#[test]
fn the_epochs_of_several_lists_end_each_at_its_time() {
    let kept = |n, until| config::Epoch {
        from: UnixTime::default(),
        until: at(until),
        members: vec![Target::always(address(n), 1)],
    };
    for kept in [[kept(8, 6000), kept(9, 5000)], [kept(9, 5000), kept(8, 6000)]] {
        let targets = targets(vec![Target::always(address(1), 1)], &kept);
        for client in clients() {
            let candidates =
                |seconds| names(&targets, targets.choose(&client, at(seconds)).candidates);
            assert_eq!(candidates(5000 + MEMORY_MS / 1000 - 1), [1, 8, 9].map(address));
            assert_eq!(candidates(5000 + MEMORY_MS / 1000), [1, 8].map(address));
            assert_eq!(candidates(6000 + MEMORY_MS / 1000), [address(1)]);
        }
    }
}

proptest! {
    #[test]
    fn settled_periods_are_those_of_windows(
        dates in prop::collection::vec((0..6_u64, 1..6_u64), 1..6),
        kept in prop::collection::vec(0..6_u64, 0..3),
        memory_ms in 0..2500_u64,
        skew_ms in 0..2500_u64,
    ) {
        // Far from the start of time, before which there is none.
        let second = |n: u64| at(100 + 4 * n);
        let entries = dates.iter().zip(1..).map(|((since, lasts), n)| {
            let until = second(since + lasts);
            let until = if since + lasts > 6 { UnixTime::NEVER } else { until };
            let first = Target::always(address(n), u16::from(n));
            Target { since: second(*since), until, gone: until, ..first }
        });
        let kept: Vec<_> = kept
            .iter()
            .map(|until| config::Epoch {
                from: UnixTime::default(),
                until: second(*until),
                members: vec![Target::always(address(9), 1)],
            })
            .collect();
        let list = TargetList { serial: 0, memory_ms, skew_ms, entries: entries.collect() };
        let targets = Targets::new(&keys(), VIP, &list, &kept, None);
        let periods: Vec<_> = targets.settled(Some).collect();
        let all = 90_000..160_000_u64;
        for ms in all.clone().step_by(50).chain(all.step_by(1000).map(|ms| ms + 1)) {
            let now = UnixTime::from_millis(ms);
            let window = targets.window(now);
            let holds = |(from, until, _): &&(UnixTime, UnixTime, _)| *from <= now && now < *until;
            let period = periods.iter().find(holds);
            let is_settled = window.is_settled() && window.present.is_some();
            prop_assert_eq!(period.is_some(), is_settled, "{}", ms);
            for client in clients().take(if ms % 4000 == 0 { 9 } else { 0 }) {
                let mut hash = [ClientHash::default()];
                targets.hashes.clients(&[client], &mut hash);
                if let Some((_, _, choice)) = period {
                    prop_assert_eq!(choice.winner(hash[0]), targets.choose(&client, now).new);
                }
            }
        }
    }
}

#[test]
fn the_next_target_is_none_of_those_asked() {
    let targets = targets((1..=3).map(|n| Target::always(address(n), 1)).collect(), &[]);
    for client in clients() {
        let mut asked = targets.choose(&client, at(0)).candidates;
        for _ in 0..2 {
            let next = targets.next(&client, at(0), asked).unwrap();
            assert!(!asked.has(next));
            asked = asked.and(Candidates::only(next));
        }
        assert_eq!(targets.next(&client, at(0), asked), None);
    }
}

#[test]
fn slots_follow_addresses() {
    let list = |numbers: &[u8]| TargetList {
        serial: 0,
        memory_ms: MEMORY_MS,
        skew_ms: SKEW_MS,
        entries: numbers.iter().map(|n| Target::always(address(*n), 1)).collect(),
    };
    let build = |numbers: &[u8], before: Option<&Targets>| {
        Targets::new(&keys(), VIP, &list(numbers), &[], before)
    };
    let slots = |targets: &Targets| -> Vec<_> {
        targets.with_slots().map(|(at, slot)| (SocketAddr::from(*at), slot.0)).collect()
    };
    let first = build(&[2, 5], None);
    assert_eq!(slots(&first), [(address(2), 0), (address(5), 1)]);
    let second = build(&[1, 5, 7], Some(&first));
    assert_eq!(slots(&second), [(address(1), 2), (address(5), 1), (address(7), 3)]);
    assert_eq!(second.slot(TargetIndex(1)), TargetSlot(1));
}

#[test]
fn with_no_target_there_is_no_choice() {
    let later = Target { since: at(5000), ..Target::always(address(1), 1) };
    let targets = targets(vec![later], &[]);
    for client in clients() {
        assert_eq!(targets.choose(&client, at(0)), Chosen::default());
        let soon = targets.choose(&client, at(4998));
        assert_eq!((soon.new, soon.candidates.len()), (None, 1));
    }
}
