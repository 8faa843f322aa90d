//! The fuzz targets of `tests/fuzz` without libFuzzer: each gets its corpus, every input as it is
//! and with some bytes changed. `scripts/fuzz` runs them for long.
//!
//! `ANYRELAY_FULL=1` changes each input more often; `ANYRELAY_SEED=N` begins with another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use anyrelay_core::relay::hints::Shows;
use anyrelay_core::relay::memo::Rst;
use anyrelay_core::verdict::{DropReason, ReplyKind};
use anyrelay_fuzz_cases::pop_handle::outcome::{self, Outcomes};
use anyrelay_fuzz_cases::{TARGETS, hints};
use anyrelay_kit::hex::hex;

/// Prints the input when a target panics.
struct Place<'a> {
    file: &'a Path,
    seed: u64,
    input: &'a [u8],
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (file, input) = (self.file.display(), hex(self.input));
            eprintln!("{file}, seed {}: {input}", self.seed);
        }
    }
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn inputs(target: &str) -> impl Iterator<Item = Vec<u8>> {
    corpus(target).into_iter().map(|file| std::fs::read(file).unwrap())
}

fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

fn change(input: &mut Vec<u8>, state: &mut u64) {
    for _ in 0..1 + next(state) % 4 {
        let at = next(state) % (input.len() + 1);
        match next(state) % 5 {
            0 => input.truncate(at),
            1 => input.insert(at, next(state) as u8),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= next(state) as u8;
                }
            }
        }
    }
}

fn run(target: &str) {
    let &(_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let first = std::env::var("ANYRELAY_SEED").map_or(1, |seed| seed.parse().unwrap());
    let times = if std::env::var_os("ANYRELAY_FULL").is_some() { 2000 } else { 200 };
    let files = corpus(target);
    assert!(!files.is_empty(), "{target} has no corpus");
    for (file, number) in files.iter().zip(0..) {
        let good = std::fs::read(file).unwrap();
        let seed = first + number;
        let mut state = (seed << 20) | 1;
        for _ in 0..=times {
            // The file itself comes last.
            let mut input = good.clone();
            change(&mut input, &mut state);
            let _place = Place { file, seed, input: &input };
            run(&input);
        }
        let _place = Place { file, seed, input: &good };
        run(&good);
    }
}

macro_rules! tests {
    ($($target:ident)+) => {
        $(#[test]
        fn $target() {
            run(stringify!($target));
        })+

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($target)),+];
            assert_eq!(TARGETS.map(|(name, _)| name), here);
            let text = include_str!("../../tests/fuzz/Cargo.toml");
            let bins = text.split("[[bin]]\nname = \"").skip(1);
            assert!(bins.map(|rest| rest.split('"').next().unwrap()).eq(here));
        }
    };
}

tests!(
    agent_packet agent_receive capture config_file fragments hints key_files pop_handle quotes
    tunnel_message tunnel_token wire
);

#[test]
fn the_corpus_reaches_every_way_through_a_pop() {
    let mut found = Outcomes::new();
    inputs("pop_handle").for_each(|input| outcome::count(&input, &mut found));
    let reasons = DropReason::ALL.iter().filter(|reason| !BEYOND.contains(reason));
    let replies = ReplyKind::ALL.iter().filter(|kind| **kind != ReplyKind::HintedRst);
    let wanted = WAYS.into_iter().map(str::to_owned);
    let wanted = wanted.chain(reasons.map(|reason| format!("drop {reason}")));
    let wanted = wanted.chain(replies.map(|kind| format!("sent {kind}")));
    let missing: Vec<_> = wanted.filter(|it| !found.contains_key(it)).collect();
    assert!(missing.is_empty(), "not reached any more: {missing:?}. {REMEDY}");
}

#[test]
fn the_corpus_has_hints_of_every_kind_with_and_without_macs() {
    for is_sealed in [true, false] {
        let inputs = inputs("hints").filter(|input| hints::is_sealed(input) == is_sealed);
        let found: Vec<_> = inputs.filter_map(|input| hints::opened(&input)).flatten().collect();
        for is_ipv6 in [true, false] {
            let of_family = || found.iter().filter(|hint| hint.vip.ip().is_ipv6() == is_ipv6);
            let has = |is: fn(&Shows) -> bool| of_family().any(|hint| is(&hint.shows));
            let has_all = has(|shows| matches!(shows, Shows::Refusal(Rst::Bare { .. })))
                && has(|shows| matches!(shows, Shows::Refusal(Rst::Acknowledging { .. })))
                && has(|shows| matches!(shows, Shows::Owner(_)));
            assert!(has_all, "sealed: {is_sealed}, IPv6: {is_ipv6}: {found:?}. {REMEDY}");
        }
    }
}

const REMEDY: &str = "Write the seeds anew: cargo run -p anyrelay-fuzz-cases";

/// How frames are sent on.
const WAYS: [&str; 39] = [
    "forward pool up",
    "forward pool up ICMP",
    "forward pool down",
    "forward pool down ICMP",
    "fast: forward pool up",
    "fast: forward pool down",
    "fast: drop bad_tag",
    "fast: drop unserved_port",
    "fast: drop rate_syn_service",
    "forward pool6 up",
    "forward pool6 up ICMP",
    "forward pool6 down",
    "forward pool6 down ICMP",
    "forward prefix up",
    "forward prefix up ICMP",
    "forward prefix down",
    "forward prefix down ICMP",
    "forward transparent up",
    "forward transparent up ICMP",
    "forward transparent down",
    "forward transparent down ICMP",
    "forward ipip up",
    "forward ipip up ICMP",
    "forward ipip down",
    "forward ipip down ICMP",
    "forward gue up",
    "forward gue up ICMP",
    "forward gue down",
    "forward gue down ICMP",
    "forward prefix up UDP",
    "forward prefix down UDP",
    "forward transparent up UDP",
    "forward transparent down UDP",
    "forward ipip up UDP",
    "forward gue up UDP",
    "forward tunnel up",
    "forward tunnel up tunnel down",
    "forward tunnel down",
    "forward tunnel down ICMP",
];

/// Reasons that no seed has a frame for: reassembly has a target of its own; keys and tokens of
/// agents are good, or spoilt before they are looked at; no table or queue is full.
const BEYOND: [DropReason; 27] = [
    DropReason::FragmentMalformed,
    DropReason::FragmentTiny,
    DropReason::FragmentTooLong,
    DropReason::FragmentConflict,
    DropReason::FragmentDuplicate,
    DropReason::FragmentTooMany,
    DropReason::FragmentTableFull,
    DropReason::FragmentShare,
    DropReason::FragmentTimeout,
    DropReason::FragmentQueueFull,
    DropReason::NoTarget,
    DropReason::NoRoute,
    DropReason::RateSynAck,
    DropReason::RateKeepalive,
    DropReason::UnknownAgent,
    DropReason::KeepaliveMac,
    DropReason::OwnToken,
    DropReason::OwnTokenEpoch,
    DropReason::UnknownTenant,
    DropReason::DestinationFamily,
    DropReason::DestinationToken,
    DropReason::DestinationTokenEpoch,
    DropReason::OtherTenant,
    DropReason::NoRoom,
    DropReason::NotContiguous,
    DropReason::EgressQueueFull,
    DropReason::TxFull,
];
