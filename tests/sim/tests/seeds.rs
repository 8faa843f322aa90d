//! Runs the simulation's seeds, and shows that it can fail.
//!
//! 1,024 seeds, 10,000 with `ANYRELAY_FULL` set, in parts that run beside each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyrelay_sim::{
    Counts, MovedCounts, Options, Outcome, Paths, Refused, Rule, Sabotage, Told, run,
};

const PARTS: u64 = 4;

fn part(number: u64) {
    let full = std::env::var_os("ANYRELAY_FULL").is_some();
    let count = if full { 10_000 } else { 1_024 } / PARTS;
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
    if let Err(text) = heard(&counts.refusals, count / 50) {
        panic!("{text}");
    }
    let MovedCounts([without, with]) = counts.moved;
    // A simulation that does nothing fails nothing.
    let happened = [
        ("connections", counts.connections, 10 * count),
        ("frames", counts.frames, 1000 * count),
        ("frames in bursts", counts.in_bursts, 100 * count),
        ("frames the fast way", counts.fast, counts.handled / 10),
        ("datagrams to targets in tunnels", counts.carried, 20 * count),
        ("connections from a port used before", counts.reused, count),
        ("segments made bare", counts.made_bare, 20 * count),
        ("keepalive probes", counts.probes, count),
        ("keepalives sent by others", counts.stolen, count / 4),
        ("connections over open addresses", counts.talks[0], count / 2),
        ("those over one of the second epoch", counts.talks[1], count / 4),
        ("ICMP errors", counts.errors_seen, count / 10),
        ("extension headers", counts.extended, 5 * count),
        ("headers and quotes refused", counts.refused, count / 4),
        ("SYNs limited", counts.limited, 0),
        ("RSTs hinted", counts.hints.hinted, count / 4),
        ("datagrams of hints accepted", counts.hints.accepted, count / 4),
        ("datagrams of hints rejected", counts.hints.rejected, count / 4),
        ("clients told by a hint", counts.hints.told, 0),
        ("POPs killed with a RST", counts.hints.killed, 0),
        ("connections moved without hints", without.connections, count / 20),
        ("connections moved with hints", with.connections, count / 20),
        ("copies without hints", without.copies, count / 20),
        ("copies with hints", with.copies, 0),
    ];
    assert!(counts.talks[2] < counts.talks[0] / 10, "{:?}", counts.talks);
    for (what, times, least) in happened {
        assert!(times > least, "{what}: {times} in {count} seeds");
    }
}

/// Clients hear of refusals where one POP knows of both directions, or hints bring them together.
/// Without hints nothing is required of POPs of which each knows one direction.
fn heard(refusals: &Refused, least: u64) -> Result<(), String> {
    let mut vanished = Told::default();
    for paths in [Paths::Same, Paths::ApartHinted, Paths::ChangingHinted] {
        let closed = refusals.closed(paths);
        if closed.due < least.max(1) || closed.told * 10 < closed.due * 9 {
            return Err(format!("closed ports, {paths:?}: {closed:?}"));
        }
        let Told { due, told } = refusals.vanished(paths);
        vanished = Told { due: vanished.due + due, told: vanished.told + told };
    }
    if vanished.due < least.max(1) || vanished.told * 10 < vanished.due * 9 {
        return Err(format!("vanished sockets: {vanished:?}"));
    }
    match refusals.closed(Paths::Apart).due {
        0 => Err("no closed port behind POPs of one direction each, without hints".into()),
        _ => Ok(()),
    }
}

/// What the first seeds count, and how they fail.
fn counted(sabotage: Option<Sabotage>) -> (Counts, Vec<String>) {
    let options = Options { sabotage, ..Options::default() };
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    for seed in 1..=120 {
        let outcome = run(seed, &options);
        counts.add(&outcome.counts);
        failures.extend(outcome.failure);
    }
    (counts, failures)
}

#[test]
fn pops_that_ignore_hints_are_noticed() {
    let (counts, failures) = counted(None);
    println!("with hints: {}", counts.refusals);
    assert_eq!((heard(&counts.refusals, 1), failures), (Ok(()), Vec::new()));
    let ignored = Sabotage::Without(Rule::HintTaken);
    let (counts, failures) = counted(Some(ignored));
    println!("hints ignored: {}; {failures:#?}", counts.refusals);
    let untold = heard(&counts.refusals, 1).expect_err("clients hear of all that they must");
    assert!(untold.contains("ApartHinted"), "{untold}");
    // A late copy of a SYN may yet come to the POP where the RST waits.
    let Told { due, told } = counts.refusals.closed(Paths::ApartHinted);
    assert!(told * 2 < due, "{told} of {due}");
    let stuck = failures.iter().filter(|failure| failure.contains("is not over"));
    assert!(stuck.count() >= 2, "{failures:?}");
}

macro_rules! parts {
    ($($name:ident = $number:literal,)+) => {
        $(#[test] fn $name() { part($number); })+
    };
}

parts! {
    seeds_part_1 = 0, seeds_part_2 = 1, seeds_part_3 = 2, seeds_part_4 = 3,
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
    let options = Options { sabotage: Some(sabotage), ..Options::default() };
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

/// How many of the first 40 seeds fail under a sabotage with each of these words, judged by all
/// that there is, and by the hosts alone.
fn noticed<const N: usize>(sabotage: Sabotage, words: [&str; N]) -> [[usize; N]; 2] {
    noticed_in(1..=40, sabotage, words)
}

fn noticed_in<const N: usize>(
    seeds: impl Iterator<Item = u64> + Clone,
    sabotage: Sabotage,
    words: [&str; N],
) -> [[usize; N]; 2] {
    [false, true].map(|only_hosts_judge| {
        let options = Options { sabotage: Some(sabotage), only_hosts_judge, record: false };
        let seeds = seeds.clone();
        let failures: Vec<_> = seeds.filter_map(|seed| run(seed, &options).failure).collect();
        println!("{sabotage:?}, only hosts judge: {only_hosts_judge}: {failures:#?}");
        words.map(|word| {
            let count = failures.iter().filter(|failure| failure.contains(word)).count();
            println!("{count} of {} for {word:?}", failures.len());
            count
        })
    })
}

#[test]
fn an_inverted_low_bit_is_noticed() {
    let [[low, _], [_, paws]] =
        noticed(Sabotage::InvertedBit, ["the low bit of TSval is wrong", "PAWS rejects"]);
    assert!(low >= 18 && paws >= 16, "{low} by its value, {paws} by PAWS");
}

#[test]
fn bare_segments_with_the_older_tsval_are_noticed() {
    let [[low, _], [_, paws]] =
        noticed(Sabotage::BareIsOlder, ["the low bit of TSval is wrong", "PAWS rejects"]);
    assert!(low >= 18 && paws >= 16, "{low} by its value, {paws} by PAWS");
}

#[test]
fn bare_segments_from_another_port_are_noticed() {
    let words = ["another egress or tag than before", "was reset", "is not over"];
    let [[another, ..], [_, reset, stuck]] = noticed(Sabotage::BareIsElsewhere, words);
    assert!(another >= 16, "{another} by the mapping");
    assert!(reset + stuck >= 16 && reset >= 6, "{reset} resets, {stuck} without an end");
}

#[test]
fn segments_to_clients_without_their_timestamps_are_noticed() {
    let words = ["timestamps are lost", "TSecr None instead of", "is not over"];
    let [[lost, ..], [_, without, stuck]] = noticed(Sabotage::StripsAll, words);
    assert!(lost >= 24, "{lost} where they leave POPs");
    assert!(without >= 20 && stuck >= 1, "{without} by hosts, {stuck} dropped by strict ones");
}

#[test]
fn the_address_of_another_client_is_noticed() {
    let [[told], [by_hosts]] = noticed(Sabotage::OtherClient, ["the client's address is not told"]);
    assert!(told >= 20 && by_hosts == 0, "{told}, and {by_hosts} by hosts, who do not read it");
}

/// The first seeds with open addresses.
const OPEN: [u64; 5] = [4, 12, 20, 28, 36];

#[test]
fn packets_out_of_the_tunnel_without_a_hop_are_noticed() {
    let words = ["the packet is changed in more than hops and marks"];
    let [[hops], [by_hosts]] = noticed_in(OPEN.into_iter(), Sabotage::FreeHop, words);
    assert!(hops == 5 && by_hosts == 0, "{hops}, and {by_hosts} by hosts, who count no hops");
}

#[test]
fn another_ack_of_open_packets_is_noticed() {
    let words = ["open connection"];
    let [[all], [by_hosts]] = noticed_in(OPEN.into_iter(), Sabotage::OtherAck, words);
    assert!(all >= 4 && by_hosts >= 4, "{all}, and {by_hosts} by hosts");
}

#[test]
fn hosts_alone_find_nothing_wrong_with_a_right_pop() {
    let options = Options { only_hosts_judge: true, ..Options::default() };
    for seed in 1..=20 {
        assert_eq!(run(seed, &options).failure, None, "seed {seed}");
    }
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
