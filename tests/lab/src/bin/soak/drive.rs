//! Carries out a script on the POPs and routes of either lab.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyrelay_lab::script::{Action, Script};
use anyrelay_lab::{Direction, Pop, Result};

const READY: Duration = Duration::from_secs(20);
/// What was on its way when a POP was killed may have been in its queue.
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// Until segments come at the POP that a route has moved to.
const AFTER_MOVE: Duration = Duration::from_millis(100);

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Done {
    pub flips: u64,
    pub kills: u64,
    pub reloads: u64,
}

/// While which times a dead POP held the route of each direction, by [`Direction::BOTH`].
pub type DeadTimes = [Vec<Range<Instant>>; 2];

/// Does everything in the script at its time, then waits until all POPs are ready, and has each
/// read its config again. `lead` leads a direction to some POPs.
pub fn follow(
    script: &Script,
    pops: &mut [Pop],
    mut lead: impl FnMut(Direction, &[usize]) -> Result<()>,
    done: &mut Done,
) -> Result<DeadTimes> {
    let start = Instant::now();
    let mut dead = vec![false; pops.len()];
    let mut stuck: [Option<Instant>; 2] = [None, None];
    let mut dead_times = DeadTimes::default();
    for (time, action) in &script.events {
        std::thread::sleep(time.saturating_sub(start.elapsed()));
        match action {
            Action::Move(direction, pop) => {
                let alive = alive(pops, &mut dead);
                let Some(pop) = alive.iter().find(|n| *n == pop).or(alive.first()) else {
                    continue;
                };
                lead(*direction, &[*pop])?;
                done.flips += 1;
                end_of_stuck(*direction, &mut stuck, &mut dead_times);
            }
            Action::Spray => {
                let alive = alive(pops, &mut dead);
                for direction in Direction::BOTH {
                    lead(direction, &alive)?;
                    end_of_stuck(direction, &mut stuck, &mut dead_times);
                }
            }
            Action::Kill(pop) => {
                let now = Instant::now();
                stuck = [now.checked_sub(ON_THE_WAY); 2];
                pops[*pop].kill9();
                dead[*pop] = true;
                done.kills += 1;
            }
            Action::Restart(pop) => pops[*pop].start()?,
        }
    }
    std::thread::sleep(script.length.saturating_sub(start.elapsed()));
    pops.iter_mut().try_for_each(|pop| pop.wait_ready(READY))?;
    for pop in pops {
        pop.reload()?;
        done.reloads += 1;
    }
    Ok(dead_times)
}

/// Those that were not killed or are ready again.
fn alive(pops: &[Pop], dead: &mut [bool]) -> Vec<usize> {
    for (pop, dead) in pops.iter().zip(dead.iter_mut()) {
        *dead = *dead && !pop.is_ready();
    }
    (0..pops.len()).filter(|pop| !dead[*pop]).collect()
}

/// From now on a direction is not led to a POP that is dead.
fn end_of_stuck(direction: Direction, stuck: &mut [Option<Instant>; 2], times: &mut DeadTimes) {
    let n = usize::from(direction == Direction::BOTH[1]);
    if let Some(since) = stuck[n].take() {
        times[n].push(since..Instant::now() + AFTER_MOVE);
    }
}
