//! What happens to routes and POPs during a run, and when: made from a seed, so that two runs with
//! different forwarders go through the same.
//!
//! 45% of the time routes flip in each direction, every 100 ms if not said; 20% of it every packet
//! goes to a POP at random; for the rest routes flip again and POPs are killed. A kill hits the POP
//! that both routes lead to; the routes stay there for 300 ms, as if BGP had to notice, and then
//! move.

use std::ops::Range;
use std::time::Duration;

use anyrelay_kit::rng::Rng;

use crate::Direction;

/// Time between two flips of one direction, if not said.
pub const FLIP_INTERVAL: Duration = Duration::from_millis(100);
/// How long routes stay on a POP that was killed.
pub const DEAD_ROUTE: Duration = Duration::from_millis(300);

const KILL_INTERVAL: Duration = Duration::from_millis(2800);
/// How long routes flip before both lead to the victim, and how soon they flip again.
const BEFORE_KILL: Duration = Duration::from_millis(500);
const AFTER_KILL: Duration = Duration::from_millis(40);
/// Between the move of both routes to a POP and its end, so that it carries traffic by then.
const LEAD: Duration = Duration::from_millis(60);
/// How long a killed POP gets no routes, counted from its restart.
const RECOVERY: Duration = Duration::from_millis(2000);

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The route of a direction moves to a POP.
    Move(Direction, usize),
    /// Both directions are sprayed over all POPs.
    Spray,
    /// A POP is killed.
    Kill(usize),
    /// A killed POP is started again.
    Restart(usize),
}

/// Everything that happens in one run, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// How long the run lasts.
    pub length: Duration,
    /// While packets are sprayed.
    pub spray: Range<Duration>,
    /// What happens, by the time since the start.
    pub events: Vec<(Duration, Action)>,
}

impl Script {
    /// A run in which nothing happens.
    #[must_use]
    pub fn calm(length: Duration) -> Self {
        Self { length, spray: length..length, events: Vec::new() }
    }

    /// The run of this seed over `pops` POPs, at least two.
    #[must_use]
    pub fn new(seed: u64, length: Duration, pops: usize) -> Self {
        Self::with_interval(seed, length, pops, FLIP_INTERVAL)
    }

    /// As [`Self::new`], with another time between two flips of one direction.
    #[must_use]
    pub fn with_interval(seed: u64, length: Duration, pops: usize, interval: Duration) -> Self {
        Self::among(seed, length, pops, interval, 0..pops)
    }

    /// As [`Self::with_interval`], where only the POPs `mortal` are killed.
    #[must_use]
    pub fn among(
        seed: u64,
        length: Duration,
        pops: usize,
        interval: Duration,
        mortal: Range<usize>,
    ) -> Self {
        let on_tick = |time: Duration| {
            let ticks = time.as_millis() / interval.as_millis().max(1);
            interval * u32::try_from(ticks).unwrap_or(u32::MAX)
        };
        let spray = on_tick(length.mul_f64(0.45))..on_tick(length.mul_f64(0.65));
        let mut writer = Writer {
            rng: Rng(seed),
            interval,
            events: Vec::new(),
            at: [0, 0],
            resting_until: vec![Duration::ZERO; pops],
        };
        writer.flip_between(interval, spray.start);
        writer.events.push((spray.start, Action::Spray));
        let mut now = spray.end;
        let mut victims: Vec<usize> = Vec::new();
        // The last kill leaves time to recover before the end.
        while now + KILL_INTERVAL + DEAD_ROUTE < length {
            writer.flip_between(now, now + BEFORE_KILL);
            if victims.is_empty() {
                victims = writer.shuffled(mortal.clone());
            }
            if let Some(victim) = victims.pop() {
                writer.kill(now + BEFORE_KILL, victim);
            }
            let resume = now + BEFORE_KILL + LEAD + DEAD_ROUTE + AFTER_KILL;
            now += KILL_INTERVAL;
            writer.flip_between(resume, now);
        }
        writer.flip_between(now, length);
        writer.events.sort_by_key(|(time, _)| *time);
        Self { length, spray, events: writer.events }
    }
}

struct Writer {
    rng: Rng,
    interval: Duration,
    events: Vec<(Duration, Action)>,
    /// Where each direction's route is, by [`Direction::BOTH`].
    at: [usize; 2],
    resting_until: Vec<Duration>,
}

impl Writer {
    /// Up flips on the tick, down half an interval later.
    fn flip_between(&mut self, from: Duration, to: Duration) {
        let mut tick = from;
        while tick < to {
            self.flip(0, tick);
            let between = tick + self.interval / 2;
            if between < to {
                self.flip(1, between);
            }
            tick += self.interval;
        }
    }

    fn flip(&mut self, direction: usize, time: Duration) {
        let others: Vec<usize> = (0..self.resting_until.len())
            .filter(|pop| *pop != self.at[direction] && self.resting_until[*pop] <= time)
            .collect();
        if !others.is_empty() {
            let pop = self.rng.pick(&others);
            self.at[direction] = pop;
            self.events.push((time, Action::Move(Direction::BOTH[direction], pop)));
        }
    }

    fn kill(&mut self, time: Duration, victim: usize) {
        let killed = time + LEAD;
        let restarted = killed + DEAD_ROUTE;
        for (direction, at) in Direction::BOTH.into_iter().zip(&mut self.at) {
            *at = victim;
            self.events.push((time, Action::Move(direction, victim)));
        }
        self.resting_until[victim] = restarted + RECOVERY;
        self.events.push((killed, Action::Kill(victim)));
        self.flip(0, restarted);
        self.flip(1, restarted);
        self.events.push((restarted, Action::Restart(victim)));
    }

    fn shuffled(&mut self, pops: Range<usize>) -> Vec<usize> {
        let mut keyed: Vec<(u64, usize)> = pops.map(|p| (self.rng.next(), p)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, pop)| pop).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    #[test]
    fn depends_on_the_seed_only() {
        assert_eq!(Script::new(7, LENGTH, 3), Script::new(7, LENGTH, 3));
        assert_ne!(Script::new(7, LENGTH, 3), Script::new(8, LENGTH, 3));
    }

    #[test]
    fn has_the_flips_and_kills_of_the_demo() {
        for seed in 0..50 {
            let script = Script::new(seed, LENGTH, 3);
            let count = |f: fn(&Action) -> bool| script.events.iter().filter(|e| f(&e.1)).count();
            assert!(count(|a| matches!(a, Action::Move(..))) >= 400);
            assert!(count(|a| matches!(a, Action::Kill(_))) >= 3);
            assert!(script.events.iter().all(|(time, _)| *time < LENGTH));
            assert!(script.events.is_sorted_by_key(|(time, _)| *time));
        }
    }

    #[test]
    fn flips_as_often_as_is_said() {
        let script = Script::with_interval(1, LENGTH, 3, FLIP_INTERVAL * 2);
        let moves = |script: &Script| {
            script.events.iter().filter(|event| matches!(event.1, Action::Move(..))).count()
        };
        let (slow, fast) = (moves(&script), moves(&Script::new(1, LENGTH, 3)));
        assert!(slow > 200 && slow < fast * 6 / 10, "{slow} {fast}");
        a_kill_is_felt(&script);
    }

    #[test]
    fn spared_pops_live() {
        let script = Script::among(1, LENGTH, 3, FLIP_INTERVAL, 1..3);
        let killed = |pop| script.events.iter().any(|event| event.1 == Action::Kill(pop));
        assert_eq!([killed(0), killed(1), killed(2)], [false, true, true]);
    }

    #[test]
    fn a_kill_hits_the_pop_that_carries_and_routes_stay_on_it() {
        a_kill_is_felt(&Script::new(3, LENGTH, 3));
    }

    fn a_kill_is_felt(script: &Script) {
        let mut at = [0, 0];
        let mut dead: Option<(usize, Duration)> = None;
        for (time, action) in &script.events {
            match action {
                Action::Move(direction, pop) => {
                    if let Some((victim, killed)) = dead {
                        assert!(*time >= killed + DEAD_ROUTE, "routes stay on the dead POP");
                        assert_ne!(*pop, victim, "no route to a POP that is not back");
                    }
                    at[usize::from(*direction == Direction::Down)] = *pop;
                }
                Action::Kill(pop) => {
                    assert_eq!(at, [*pop, *pop], "both directions lead to the victim");
                    dead = Some((*pop, *time));
                }
                Action::Restart(pop) => {
                    assert_eq!(dead.map(|d| d.0), Some(*pop));
                    dead = None;
                }
                Action::Spray => assert_eq!(*time, script.spray.start),
            }
        }
    }
}
