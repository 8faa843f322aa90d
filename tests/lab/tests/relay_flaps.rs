//! Kernel TCP through relays while routes flip, packets are sprayed, and POPs are killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anyrelay_lab::counters::PopCounters;
use anyrelay_lab::rng::Rng;
use anyrelay_lab::{Direction, Lab, Layout};
use common::{Busy, drops, full, milliseconds, serve};

/// Flips both directions every 100 ms, and asserts that most flips brought packets to their POP: a
/// few may fall into the wait for a retransmission.
fn flip(lab: &mut Lab, times: usize) {
    let mut moved = 0;
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    let mut rng = Rng::new(1);
    let mut at = [0, 0];
    for _ in 0..times {
        let mut before = [0, 0];
        for (i, direction) in Direction::BOTH.into_iter().enumerate() {
            let others: Vec<usize> = (0..lab.pops.len()).filter(|pop| *pop != at[i]).collect();
            at[i] = *rng.pick(&others).unwrap();
            before[i] = counters.arrived(direction, at[i]).unwrap();
            lab.routes.to(direction, at[i]).unwrap();
        }
        std::thread::sleep(milliseconds(100));
        for (i, direction) in Direction::BOTH.into_iter().enumerate() {
            let arrived = counters.arrived(direction, at[i]).unwrap() - before[i];
            moved += usize::from(arrived >= 5);
        }
    }
    assert!(moved * 10 >= times * 2 * 8, "{moved} of {} flips moved packets", times * 2);
}

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
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    for round in 0..if full() { 12 } else { 3 } {
        let (victim, other) = (round % 3, (round + 1) % 3);
        for direction in Direction::BOTH {
            lab.routes.to(direction, victim).unwrap();
        }
        let before = counters.carried().unwrap();
        std::thread::sleep(milliseconds(500));
        let carried = counters.carried().unwrap().since(&before);
        assert!(carried.up[victim] > 100 && carried.down[victim] > 100, "busy: {carried:?}");
        lab.pops[victim].bury();
        let before = counters.carried().unwrap();
        // As long as BGP takes to notice.
        std::thread::sleep(milliseconds(300));
        let carried = counters.carried().unwrap().since(&before);
        assert_eq!((carried.up[victim], carried.down[victim]), (0, 0), "a dead POP is silent");
        for direction in Direction::BOTH {
            lab.routes.to(direction, other).unwrap();
        }
        std::thread::sleep(milliseconds(700));
        lab.pops[victim].restart().unwrap();
    }
    busy.finish();
    assert_eq!(server.accepted(), 2, "one connection each");
}
