//! Kernel TCP through relays while routes flip, packets are sprayed, and POPs are killed.

use crate::common::flaps::{flip, kill_pops};
use crate::common::{Busy, drops, full, milliseconds, serve};
use anyrelay_lab::counters::PopCounters;
use anyrelay_lab::{Direction, Lab, Layout};

fn survives_flips(layout: Layout) {
    let mut lab = Lab::builder().layout(layout).build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start(&lab);
    flip(&mut lab, if full() { 300 } else { 50 });
    busy.finish();
    assert_eq!(server.accepted(), 2, "one connection each");
    assert_eq!(drops(&lab, "bad_tag"), 0.0);
}

#[test]
fn run_to_completion_survives_flips() {
    survives_flips(Layout::RunToCompletion);
}

#[test]
fn pipeline_survives_flips() {
    survives_flips(Layout::Pipeline);
}

#[test]
fn spraying_uses_every_pop_and_breaks_nothing() {
    survives_spraying(true);
}

/// Reordering makes SACK blocks, which must be cut to make room for the tag.
#[test]
fn client_without_timestamps_survives_spraying() {
    survives_spraying(false);
}

fn survives_spraying(timestamps: bool) {
    let mut lab = Lab::builder().client_timestamps(timestamps).build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start(&lab);
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    for direction in Direction::BOTH {
        lab.routes.spray(direction, &[0, 1, 2]).unwrap();
    }
    std::thread::sleep(milliseconds(100));
    let before = counters.carried().unwrap();
    std::thread::sleep(milliseconds(if full() { 30_000 } else { 3_000 }));
    let carried = counters.carried().unwrap().since(&before);
    busy.finish();
    assert_eq!(server.accepted(), 2, "one connection each");
    assert!(carried.smallest_share() > 0.25, "packets at random: {carried:?}");
    assert!(carried.up.iter().sum::<u64>() > 1000, "enough packets: {carried:?}");
}

#[test]
fn killed_pops_break_nothing() {
    let mut lab = Lab::builder().build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start(&lab);
    kill_pops(&mut lab, if full() { 12 } else { 3 });
    busy.finish();
    assert_eq!(server.accepted(), 2, "one connection each");
}
