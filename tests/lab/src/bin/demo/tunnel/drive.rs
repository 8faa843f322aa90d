//! Carries out the script of a run on the tunnels' lab, and notes while which times a dead POP held
//! a route.
//!
//! A datagram's way from the router to a POP is its sender's route; how it goes on from there is no
//! matter of routes that move. So [`Direction::Up`] is the route of the place that sends up, the
//! connecting one, and [`Direction::Down`] that of the serving one.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyrelay_lab::script::{Action, Script};
use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::tunnel::stream::Flow;
use anyrelay_lab::{Carriers, Direction, Result};

use super::arrivals::{Arrivals, Sent};
use super::net::{CONNECTING, SERVING};
use crate::dead::Dead;
use crate::record::{Record, index};

/// Fewer segments than this between two flips show nothing.
const ARRIVALS_MIN: u64 = 5;
const RESTART_LIMIT: Duration = Duration::from_secs(20);
/// What was on its way when a POP was killed may have been in its queue. More than this cannot have
/// been: if nothing came for longer, something else was wrong.
const ON_THE_WAY_MAX: Duration = Duration::from_millis(250);
/// How long the router may take to move a route.
const MOVE_LIMIT: Duration = Duration::from_secs(2);

/// The times in which datagrams of a direction were sent to a POP that was dead, or died before
/// they could have passed it.
pub type DeadTimes = Vec<Range<Instant>>;

/// A move whose segments are still to come.
struct Flip {
    time: Duration,
    pop: usize,
    before: u64,
}

/// The state of a run being driven.
pub struct Driver<'a> {
    lab: &'a mut TunnelLab,
    record: &'a Record,
    arrivals: &'a Arrivals,
    flow: &'a Flow,
    /// By [`Direction::BOTH`], as all arrays here.
    flips: [Option<Flip>; 2],
    /// Since when what was sent went to a POP that is dead and holds the route.
    stuck: [Option<Instant>; 2],
    /// While which times a dead POP held the route.
    pub dead_times: [DeadTimes; 2],
    dead: Dead,
    /// What POPs that were killed had counted of datagrams whose sender last spoke to another POP.
    issued_elsewhere_before: f64,
}

impl<'a> Driver<'a> {
    pub fn new(
        lab: &'a mut TunnelLab,
        record: &'a Record,
        arrivals: &'a Arrivals,
        flow: &'a Flow,
    ) -> Self {
        let dead = Dead::none(lab.pops.len());
        Self {
            lab,
            record,
            arrivals,
            flow,
            flips: [None, None],
            stuck: [None, None],
            dead_times: [Vec::new(), Vec::new()],
            dead,
            issued_elsewhere_before: 0.0,
        }
    }

    /// Does everything in the script at its time, then waits for the end of the run.
    pub fn follow(&mut self, script: &Script) -> Result<()> {
        for (time, action) in &script.events {
            self.record.sleep_until(*time);
            match action {
                Action::Move(direction, pop) => self.move_route(*direction, *pop)?,
                Action::Spray => self.spray()?,
                Action::Kill(pop) => self.kill(*pop),
                Action::Restart(pop) => self.lab.pops[*pop].start()?,
            }
        }
        self.record.sleep_until(script.length);
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        self.lab.pops.iter_mut().try_for_each(|pop| pop.wait_ready(RESTART_LIMIT))
    }

    /// How many datagrams POPs saw of agents that last spoke to another POP.
    pub fn issued_elsewhere(&self) -> f64 {
        self.issued_elsewhere_before + self.lab.metric(ISSUED_ELSEWHERE, &[])
    }

    fn move_route(&mut self, direction: Direction, pop: usize) -> Result<()> {
        self.settle(direction)?;
        let alive = self.dead.alive(pop, &self.lab.pops, self.record);
        let Some(pop) = alive else { return Ok(()) };
        let before = self.arrivals.read()?;
        let time = self.record.now();
        let n = index(direction);
        self.lab.routes.to(site_of(direction), pop)?;
        if let Some(since) = self.stuck[n].take() {
            let moved = self.wait_for_move(direction, pop, &before)?;
            self.dead_times[n].push(since..moved);
        }
        self.flips[n] = Some(Flip { time, pop, before: before[site_of(direction)][pop] });
        Ok(())
    }

    /// Waits until the router sends a place's segments to a POP, and gives the time of that.
    fn wait_for_move(&self, direction: Direction, pop: usize, before: &Sent) -> Result<Instant> {
        let site = site_of(direction);
        let start = Instant::now();
        while self.arrivals.read()?[site][pop] == before[site][pop] {
            if start.elapsed() > MOVE_LIMIT {
                self.record.note(format!("no segments at pop{} after the move", pop + 1));
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Instant::now())
    }

    fn kill(&mut self, pop: usize) {
        let issued_elsewhere = self.lab.pops[pop].metric(ISSUED_ELSEWHERE, &[]);
        self.issued_elsewhere_before += issued_elsewhere.unwrap_or(0.0);
        // All that was sent later than the newest that has arrived is on its way.
        let newest = self.flow.newest_arrived();
        let (now, killed) = (self.record.now(), Instant::now());
        self.lab.pops[pop].kill9();
        self.dead.add(pop);
        for (direction, newest) in Direction::BOTH.into_iter().zip([newest.0, newest.1]) {
            if self.lab.routes.current(site_of(direction)) == Some(&Carriers::One(pop)) {
                let begin = killed.checked_sub(ON_THE_WAY_MAX).unwrap_or(killed);
                self.stuck[index(direction)] = Some(begin.max(self.flow.started() + newest));
            }
        }
        self.record.count(|counts| counts.kills.push((now, pop)));
    }

    fn spray(&mut self) -> Result<()> {
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        let all: Vec<usize> = (0..self.lab.pops.len()).collect();
        let mut sites = Direction::BOTH.map(site_of).into_iter();
        sites.try_for_each(|site| self.lab.routes.spray(site, &all))
    }

    /// Counts the last flip of a direction if segments came.
    fn settle(&mut self, direction: Direction) -> Result<()> {
        let Some(flip) = self.flips[index(direction)].take() else { return Ok(()) };
        let now = self.arrivals.read()?[site_of(direction)][flip.pop];
        if now - flip.before >= ARRIVALS_MIN {
            self.record.count(|counts| counts.flips.push((flip.time, direction)));
        }
        Ok(())
    }
}

fn site_of(direction: Direction) -> usize {
    match direction {
        Direction::Up => CONNECTING,
        Direction::Down => SERVING,
    }
}

const ISSUED_ELSEWHERE: &str = "anyrelay_tunnel_issued_elsewhere_packets_total";
