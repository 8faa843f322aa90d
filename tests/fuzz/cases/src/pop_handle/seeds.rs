//! Inputs to begin with: the good frames of each case as they are, and changed in ways that random
//! bytes seldom hit.

use std::collections::{BTreeMap, BTreeSet};

use super::TEMPLATES_MAX;
use super::cases::{self, Case};
use super::outcome::{self, Outcomes};

/// The inputs, each behind its name. Of the good frames of a case, and of the changed ones of cases
/// with services of the same kinds, those are left out that have no other outcomes than those
/// before.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let (mut all, mut by_kinds) = (Vec::new(), BTreeMap::<_, Outcomes>::new());
    for (name, number) in cases::names() {
        let case = cases::case(number);
        let of_kinds = by_kinds.entry(kinds(case)).or_default();
        let mut of_case = Outcomes::new();
        let mut seed = |change: &str, first: usize, frames: Vec<u8>, seen: &mut Outcomes| {
            let (input, known) = ([vec![number], frames].concat(), seen.len());
            outcome::count(&input, seen);
            if seen.len() > known {
                all.push((format!("{name}-{change}-{first}"), input));
            }
        };
        let count = case.templates.len();
        let groups = (0..count).step_by(TEMPLATES_MAX);
        let group = |first: usize| first as u16..count.min(first + TEMPLATES_MAX) as u16;
        for first in groups.clone() {
            seed("plain", first, group(first).flat_map(plain).collect(), &mut of_case);
        }
        of_kinds.append(&mut of_case);
        for (name, change) in CHANGES {
            for first in groups.clone() {
                seed(name, first, group(first).flat_map(change).collect(), of_kinds);
            }
        }
        if RUNS_OF.contains(&name) {
            for (at, runs) in RUNS.iter().enumerate() {
                all.push((format!("{name}-run-{at}"), [&[number], runs.as_flattened()].concat()));
            }
        }
    }
    all
}

/// Modes and families of the services of a case.
fn kinds(case: &Case) -> BTreeSet<(&'static str, bool)> {
    let relays = case.snapshot.relays().map(|relay| (relay.mode.name(), relay.vip().is_ipv6()));
    let tunnels = case.snapshot.tunnels().map(|tunnel| ("tunnel", tunnel.service.vip6.is_some()));
    relays.chain(tunnels).collect()
}

fn plain(template: u16) -> Vec<u8> {
    frame(template, FROM_WIRE, 0, &[])
}

/// A way to change a frame.
type Change = fn(u16) -> Vec<u8>;

const CHANGES: [(&str, Change); 7] = [
    ("starved", |template| frame(template, FROM_WIRE | NO_BUFFERS, 0, &[])),
    ("edited", |template| {
        let at = template as u8 % 8;
        let edits = [[3, 0x14 + at, 5, 0], [2, 0x28 + at, at, 0]];
        frame(template, FROM_WIRE, REPAIRED, &edits)
    }),
    ("options", |template| {
        let words = template as u8 % 8;
        let how = if words.is_multiple_of(2) { FROM_WIRE } else { FROM_WIRE | OTHER_PORT };
        frame(template, how, REPAIRED, &[[11, words, words, 1]])
    }),
    // The first fragment of a datagram, the last one, and one between.
    ("fragments", |template| {
        let (more, offset) = [(0x20, 0), (0, 3), (0x20, 3)][usize::from(template % 3)];
        frame(template, FROM_WIRE, HEADER, &[[1, 0, 0x14, more], [1, 0, 0x15, offset]])
    }),
    ("fragments6", |template| {
        let (offset, more) = [(0, 0), (0, 1), (1, 1)][usize::from(template % 3)];
        // Eight bytes behind the header.
        let bytes = [(0x14, 44), (0x36, 6), (0x37, 0), (0x38, offset), (0x39, more)];
        let edits = bytes.map(|(at, byte)| [1, 0, at, byte]);
        frame(template, FROM_WIRE, LENGTH, &[&[[7, 0, 0x36, 2]], &edits[..]].concat())
    }),
    // As long as, and longer than, MTUs of 1500 bytes, with and without what is added. IPv4 may be
    // fragmented.
    ("grown", |template| {
        let len = [0x5d7_u16, 0x5e8, 0x5ea, 0x640][usize::from(template % 4)];
        let [high, low] = len.to_be_bytes();
        let grown = [[6, 0, 0x55, 0xff]; 6];
        let edits = [&[[1, 0, 0x14, 0]], &grown[..], &[[5, high, low, 0]]].concat();
        frame(template, FROM_WIRE, REPAIRED, &edits)
    }),
    ("grown6", |template| {
        let len = [0x5dc_u16, 0x5ea, 0x5fa, 0x640][usize::from(template % 4)];
        let [high, low] = len.to_be_bytes();
        let edits = [&[[6, 0, 0x55, 0xff]; 6][..], &[[5, high, low, 0]]].concat();
        frame(template, FROM_WIRE, REPAIRED, &edits)
    }),
];

/// The cases that have runs: one service, several targets, VLAN on one side, and beside a tunnel.
const RUNS_OF: [&str; 4] = ["pool", "several-targets", "vlan-one-side", "tunnels"];

/// Of clients and of targets: with timestamps, and without.
const RUNS: [&[[u8; 4]]; 2] = [
    &[[0x80 | 63, 0, FROM_WIRE, 0], [0xc0 | 63, 0, FROM_WIRE, 0]],
    &[[0x80 | 8, 0x80, FROM_WIRE, 0], [0xc0 | 3, 0x80, FROM_WIRE, 0]],
];

fn frame(template: u16, how: u8, repair: u8, edits: &[[u8; 4]]) -> Vec<u8> {
    let [high, low] = template.to_be_bytes();
    let head = [high, low, how, repair << 4 | edits.len() as u8];
    [&head[..], edits.as_flattened()].concat()
}

/// The NIC says nothing about the checksum.
const FROM_WIRE: u8 = 2 << 2;
/// The frame comes to another port.
const OTHER_PORT: u8 = 3;
/// The POP has no buffers for frames of its own.
const NO_BUFFERS: u8 = 7 << 5;
/// What is repaired: the length, the header's checksum, the payload's.
const LENGTH: u8 = 1;
const HEADER: u8 = 1 | 2;
const REPAIRED: u8 = 1 | 2 | 4;
