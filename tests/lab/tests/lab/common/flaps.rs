//! Routes that flip and POPs that are killed while something is moved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyrelay_kit::rng::Rng;
use anyrelay_lab::counters::PopCounters;
use anyrelay_lab::tunnel::AgentRoutes;
use anyrelay_lab::{Direction, Lab, Routes};

use super::{eventually, milliseconds};

/// Flips both directions every 100 ms, or a little later, and asserts that most flips brought
/// packets to their POP: a few may fall into the wait for a retransmission.
pub fn flip(lab: &mut Lab, times: usize) {
    flip_only(lab, &Direction::BOTH, times);
}

/// As [`flip`], of these directions.
pub fn flip_only(lab: &mut Lab, directions: &[Direction], times: usize) {
    let mut moved = 0;
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    let mut rng = Rng(1);
    let mut at = [0, 0];
    for _ in 0..times {
        let mut before = [0, 0];
        for (i, &direction) in directions.iter().enumerate() {
            let others: Vec<usize> = (0..lab.pops.len()).filter(|pop| *pop != at[i]).collect();
            at[i] = rng.pick(&others);
            before[i] = counters.arrived(direction, at[i]).unwrap();
            lab.routes.to(direction, at[i]).unwrap();
        }
        std::thread::sleep(milliseconds(100));
        for (i, &direction) in directions.iter().enumerate() {
            // Who sends may have to wait for a processor, too.
            let start = Instant::now();
            let mut has_moved = || counters.arrived(direction, at[i]).unwrap() >= before[i] + 5;
            let mut is_moved = has_moved();
            while !is_moved && start.elapsed() < milliseconds(300) {
                std::thread::sleep(milliseconds(10));
                is_moved = has_moved();
            }
            moved += usize::from(is_moved);
        }
    }
    let times = times * directions.len();
    assert!(moved * 10 >= times * 8, "{moved} of {times} flips moved packets");
}

/// Kills one POP after the other while both directions go through it, lets the routes lead to the
/// dead one for as long as BGP takes to notice, and starts it again.
pub fn kill_pops(lab: &mut Lab, rounds: usize) {
    kill_carriers(lab, &Direction::BOTH, rounds);
}

/// As [`kill_pops`], where only these directions go through POPs.
pub fn kill_carriers(lab: &mut Lab, directions: &[Direction], rounds: usize) {
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    for round in 0..rounds {
        let (victim, other) = (round % 3, (round + 1) % 3);
        for &direction in directions {
            lab.routes.to(direction, victim).unwrap();
        }
        let before = counters.carried().unwrap();
        std::thread::sleep(milliseconds(500));
        // After a kill a sender may still wait for its timer, no longer than a stall may last.
        eventually("busy", Duration::from_secs(20), || {
            let carried = counters.carried().unwrap().since(&before);
            directions.iter().all(|direction| match direction {
                Direction::Up => carried.up[victim] > 100,
                Direction::Down => carried.down[victim] > 100,
            })
        });
        let mut passed = || {
            let carried = counters.carried().unwrap();
            let arrived = Direction::BOTH.map(|way| counters.arrived(way, victim).unwrap());
            (arrived.iter().sum::<u64>(), carried.up[victim] + carried.down[victim])
        };
        let before = passed();
        // Nobody waits for the end of its process: routes move when BGP notices.
        lab.pops[victim].kill9();
        std::thread::sleep(milliseconds(300));
        let after = passed();
        let (arrived, carried) = (after.0 - before.0, after.1 - before.1);
        assert!(arrived > carried, "the kill was felt: {arrived} arrived, {carried} carried");
        for &direction in directions {
            lab.routes.to(direction, other).unwrap();
        }
        std::thread::sleep(milliseconds(700));
        lab.pops[victim].restart().unwrap();
    }
}

/// Moves the route of each direction to a random one of the POPs every 200 ms while something is
/// done; one direction 100 ms after the other.
pub fn while_flipping<T>(routes: &mut Routes, work: impl FnOnce() -> T) -> T {
    let pops = routes.pops();
    while_moving(pops, |way, pop| routes.to(Direction::BOTH[way], pop).unwrap(), work)
}

/// The same for the route of the first agent to the VIP, and that of hosts outside to open
/// addresses.
pub fn while_open_flips<T>(routes: &mut AgentRoutes, pops: usize, work: impl FnOnce() -> T) -> T {
    let to = |way, pop| match way {
        0 => routes.to(0, pop).unwrap(),
        _ => routes.open_to(pop).unwrap(),
    };
    while_moving(pops, to, work)
}

fn while_moving<T>(
    pops: usize,
    mut to: impl FnMut(usize, usize) + Send,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng(2);
            while !done.load(Ordering::Relaxed) {
                for way in 0..2 {
                    to(way, rng.index(pops));
                    std::thread::sleep(milliseconds(100));
                }
            }
        });
        // Also when it panics, or the scope would wait for ever.
        let _end = Ending(&done);
        work()
    })
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
