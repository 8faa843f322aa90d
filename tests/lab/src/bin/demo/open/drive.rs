//! Carries out the script of a run on the lab of open tunnels. [`Direction::Up`] is the route of
//! each agent's place to the VIP, [`Direction::Down`] that of the third party to open addresses.

use std::time::Duration;

use anyrelay_lab::script::{Action, Script};
use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::{Direction, Result};

use crate::dead::Dead;
use crate::record::{Record, index};
use crate::tunnel::arrivals::Arrivals;

/// Fewer packets than this between two flips show nothing.
const ARRIVALS_MIN: u64 = 5;
const RESTART_LIMIT: Duration = Duration::from_secs(20);

/// A move whose packets are still to come.
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
    /// By [`Direction::BOTH`].
    flips: [Option<Flip>; 2],
    dead: Dead,
}

impl<'a> Driver<'a> {
    pub fn new(lab: &'a mut TunnelLab, record: &'a Record, arrivals: &'a Arrivals) -> Self {
        let dead = Dead::none(lab.pops.len());
        Self { lab, record, arrivals, flips: [None, None], dead }
    }

    /// Does everything in the script at its time, then waits for the end of the run.
    pub fn follow(&mut self, script: &Script) -> Result<()> {
        for (time, action) in &script.events {
            self.record.sleep_until(*time);
            match action {
                Action::Move(direction, pop) => self.move_routes(*direction, *pop)?,
                Action::Spray => self.spray()?,
                Action::Kill(pop) => self.kill(*pop),
                Action::Restart(pop) => self.lab.pops[*pop].start()?,
            }
        }
        self.record.sleep_until(script.length);
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        self.lab.pops.iter_mut().try_for_each(|pop| pop.wait_ready(RESTART_LIMIT))
    }

    fn sites(&self) -> usize {
        self.lab.topology.sites.len()
    }

    fn move_routes(&mut self, direction: Direction, pop: usize) -> Result<()> {
        self.settle(direction)?;
        let alive = self.dead.alive(pop, &self.lab.pops, self.record);
        let Some(pop) = alive else { return Ok(()) };
        let before = self.arrived(direction, pop)?;
        let time = self.record.now();
        match direction {
            Direction::Up => {
                let mut sites = 0..self.sites();
                sites.try_for_each(|site| self.lab.routes.to(site, pop))?;
            }
            Direction::Down => self.lab.routes.open_to(pop)?,
        }
        self.flips[index(direction)] = Some(Flip { time, pop, before });
        Ok(())
    }

    /// Packets to a POP so far, of all agents' places or of the third party.
    fn arrived(&self, direction: Direction, pop: usize) -> Result<u64> {
        let sent = self.arrivals.read()?;
        let (sites, third) = sent.split_at(self.sites());
        let of = if direction == Direction::Up { sites } else { third };
        Ok(of.iter().map(|place| place[pop]).sum())
    }

    fn kill(&mut self, pop: usize) {
        let now = self.record.now();
        self.lab.pops[pop].kill9();
        self.dead.add(pop);
        self.record.count(|counts| counts.kills.push((now, pop)));
    }

    fn spray(&mut self) -> Result<()> {
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        let all: Vec<usize> = (0..self.lab.pops.len()).collect();
        let mut sites = 0..self.sites();
        sites.try_for_each(|site| self.lab.routes.spray(site, &all))?;
        self.lab.routes.spray_open(&all)
    }

    /// Counts the last flip of a direction if packets came.
    fn settle(&mut self, direction: Direction) -> Result<()> {
        let Some(flip) = self.flips[index(direction)].take() else { return Ok(()) };
        if self.arrived(direction, flip.pop)? - flip.before >= ARRIVALS_MIN {
            self.record.count(|counts| counts.flips.push((flip.time, direction)));
        }
        Ok(())
    }
}
