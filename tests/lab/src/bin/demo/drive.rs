//! Carries out the script of a run on a lab, and counts what the routes then carried.

use std::time::Duration;

use anyrelay_lab::counters::{Carried, PopCounters};
use anyrelay_lab::script::{Action, Script};
use anyrelay_lab::{Direction, Forwarder, Lab, Result, Service};

use crate::dead::Dead;
use crate::record::{Record, index};

/// Fewer packets than this between two flips may be ARP, and show nothing.
const ARRIVALS_MIN: u64 = 5;
const RESTART_LIMIT: Duration = Duration::from_secs(20);

/// A move whose packets are still to come.
struct Flip {
    time: Duration,
    pop: usize,
    arrived_before: u64,
}

/// The state of a run being driven.
pub struct Driver<'a> {
    lab: &'a mut Lab,
    record: &'a Record,
    counters: PopCounters,
    forwarder: Forwarder,
    /// By [`Direction::BOTH`].
    flips: [Option<Flip>; 2],
    dead: Dead,
    before_spray: Option<Carried>,
    /// Which service all POPs have from then on, after all else that the script says.
    pub change: Option<(Duration, Service)>,
    /// What was carried while packets were sprayed.
    pub sprayed: Option<Carried>,
}

impl<'a> Driver<'a> {
    pub fn new(lab: &'a mut Lab, record: &'a Record, forwarder: Forwarder) -> Result<Self> {
        let counters = PopCounters::open(&lab.topology)?;
        let dead = Dead::none(lab.pops.len());
        Ok(Self {
            lab,
            record,
            counters,
            forwarder,
            flips: [None, None],
            dead,
            before_spray: None,
            change: None,
            sprayed: None,
        })
    }

    /// Does everything in the script at its time, then waits for the end of the run.
    pub fn follow(&mut self, script: &Script) -> Result<()> {
        for (time, action) in &script.events {
            self.record.sleep_until(*time);
            match action {
                Action::Move(direction, pop) => self.move_route(*direction, *pop)?,
                Action::Spray => self.spray()?,
                Action::Kill(pop) => {
                    let now = self.record.now();
                    self.lab.pops[*pop].kill9();
                    self.dead.add(*pop);
                    self.record.count(|counts| counts.kills.push((now, *pop)));
                }
                Action::Restart(pop) => self.lab.pops[*pop].start()?,
            }
        }
        if let Some((time, service)) = self.change.take() {
            self.record.sleep_until(time);
            let services = [service];
            self.lab.pops.iter_mut().try_for_each(|pop| pop.lead(&services))?;
        }
        self.record.sleep_until(script.length);
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        self.lab.pops.iter_mut().try_for_each(|pop| pop.wait_ready(RESTART_LIMIT))
    }

    /// What each POP has carried since the lab was built.
    pub fn carried(&mut self) -> Result<Carried> {
        self.counters.carried()
    }

    fn move_route(&mut self, direction: Direction, pop: usize) -> Result<()> {
        self.settle(direction)?;
        let alive = self.dead.alive(pop, &self.lab.pops, self.record);
        let Some(pop) = alive else { return Ok(()) };
        let flip = Flip {
            time: self.record.now(),
            pop,
            arrived_before: self.counters.arrived(direction, pop)?,
        };
        self.lab.routes.to(direction, pop)?;
        self.flips[index(direction)] = Some(flip);
        Ok(())
    }

    fn spray(&mut self) -> Result<()> {
        Direction::BOTH.into_iter().try_for_each(|direction| self.settle(direction))?;
        let all: Vec<usize> = (0..self.lab.pops.len()).collect();
        for direction in Direction::BOTH {
            self.lab.routes.spray(direction, &all)?;
        }
        self.before_spray = Some(self.carried()?);
        Ok(())
    }

    /// Counts the last flip of a direction if packets came, and closes the spray phase.
    fn settle(&mut self, direction: Direction) -> Result<()> {
        if let Some(before) = self.before_spray.take() {
            self.sprayed = Some(self.carried()?.since(&before));
        }
        let Some(flip) = self.flips[index(direction)].take() else { return Ok(()) };
        // A proxy answers the target from its own address: the route to the pool moves nothing.
        let is_proxy = matches!(self.forwarder, Forwarder::HaProxy | Forwarder::NginxStream);
        let moves = !is_proxy || direction == Direction::Up;
        let arrived = self.counters.arrived(direction, flip.pop)? - flip.arrived_before;
        if moves && arrived >= ARRIVALS_MIN {
            self.record.count(|counts| counts.flips.push((flip.time, direction)));
        }
        Ok(())
    }
}
