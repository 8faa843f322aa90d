//! Runs the simulation's seeds, and shows that it can fail.
//!
//! 2,000 seeds, 10,000 with `ANYRELAY_FULL` set, in parts that run beside each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyrelay_sim::{Counts, Options, Outcome, Sabotage, run};

const PARTS: u64 = 16;

fn part(number: u64) {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let count = if full { 10_000 } else { 2_000 } / PARTS;
    let first = 1 + number * count;
    let mut counts = Counts::default();
    for seed in first..first + count {
        let outcome = run(seed, &Options::default());
        if let Some(failure) = &outcome.failure {
            panic!("seed {seed} failed {failure}\n  again: scripts/sim --seed {seed}");
        }
        counts.add(&outcome.counts);
    }
    println!("sim: {count} seeds, {} connections, 0 failures; {counts}", counts.connections);
    // A simulation that does nothing fails nothing.
    let happened = [
        ("connections", counts.connections, 10 * count),
        ("frames", counts.frames, 1000 * count),
        ("frames in bursts", counts.in_bursts, 100 * count),
        ("connections from a port used before", counts.reused, count),
        ("ICMP errors", counts.errors_seen, count / 10),
        ("ICMP errors in both cases", counts.either_case, 0),
        ("extension headers", counts.extended, 5 * count),
        ("headers and quotes refused", counts.refused, count / 4),
        ("SYNs limited", counts.limited, 0),
    ];
    for (what, times, least) in happened {
        assert!(times > least, "{what}: {times} in {count} seeds");
    }
}

macro_rules! parts {
    ($($name:ident = $number:literal,)+) => {
        $(#[test] fn $name() { part($number); })+
    };
}

parts! {
    seeds_part_01 = 0, seeds_part_02 = 1, seeds_part_03 = 2, seeds_part_04 = 3,
    seeds_part_05 = 4, seeds_part_06 = 5, seeds_part_07 = 6, seeds_part_08 = 7,
    seeds_part_09 = 8, seeds_part_10 = 9, seeds_part_11 = 10, seeds_part_12 = 11,
    seeds_part_13 = 12, seeds_part_14 = 13, seeds_part_15 = 14, seeds_part_16 = 15,
}

#[test]
fn the_same_seed_gives_the_same_frames() {
    let digests = |seeds: std::ops::Range<u64>| -> Vec<u64> {
        seeds.map(|seed| run(seed, &Options::default()).record.digest()).collect()
    };
    let first = digests(1..30);
    // Beside another run, in a thread of its own.
    let second = std::thread::scope(|scope| {
        let other = scope.spawn(|| digests(100..130));
        let again = scope.spawn(|| digests(1..30));
        drop(other.join().unwrap());
        again.join().unwrap()
    });
    assert_eq!(first, second);
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), first.len());
}

/// Outcomes of the first seeds under a sabotage.
fn sabotaged(sabotage: Sabotage) -> Vec<Outcome> {
    let options = Options { sabotage: Some(sabotage), record: false };
    (1..=40).map(|seed| run(seed, &options)).collect()
}

#[test]
fn a_network_that_flips_tsvals_is_noticed() {
    let outcomes = sabotaged(Sabotage::FlipTsval);
    let noticed = outcomes.iter().filter_map(|outcome| outcome.failure.as_ref());
    let noticed = noticed.filter(|failure| failure.contains("TSval")).count();
    assert!(noticed >= 30, "only {noticed} of 40 seeds");
}

#[test]
fn pops_with_different_keys_are_noticed() {
    let outcomes = sabotaged(Sabotage::DifferentKeys);
    let several: Vec<_> = outcomes.iter().filter(|outcome| outcome.pops > 1).collect();
    let noticed = several.iter().filter(|outcome| outcome.failure.is_some()).count();
    assert!(several.len() >= 20 && noticed == several.len(), "{noticed} of {}", several.len());
    // One POP alone has nobody to disagree with.
    assert!(outcomes.iter().all(|outcome| outcome.pops > 1 || outcome.failure.is_none()));
}

#[test]
fn a_capture_holds_all_frames() {
    let options = Options { record: true, ..Options::default() };
    let outcome = run(4, &options);
    let mut capture = Vec::new();
    outcome.record.write_pcap(&mut capture).unwrap();
    let (mut at, mut frames) = (24, 0);
    while at < capture.len() {
        let len = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap());
        at += 16 + len as usize;
        frames += 1;
    }
    assert_eq!((at, frames), (capture.len(), outcome.record.frames()));
    // Keeping them changes nothing.
    assert_eq!(outcome.record.digest(), run(4, &Options::default()).record.digest());
}
