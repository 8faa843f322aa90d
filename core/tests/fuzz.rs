//! The fuzz targets of `tests/fuzz` without libFuzzer: each gets its corpus, every input as it is
//! and with some bytes changed. `scripts/fuzz` runs them for long.
//!
//! `ANYRELAY_FULL=1` changes each input more often; `ANYRELAY_SEED=N` begins with another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use anyrelay_fuzz_cases::TARGETS;
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
