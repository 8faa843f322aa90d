//! How many refusals clients were told of, by the paths between them and their targets.

use std::fmt;

use crate::app::{Ending, Gone, Plan, Progress};
use crate::scenario::Routing;
use crate::world::World;

/// The paths of a run: whether clients and targets meet the same POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// One POP for both directions.
    Same,
    /// One POP for each direction, which tell each other of refusals.
    ApartHinted,
    /// One POP for each direction, without hints.
    Apart,
    /// Several POPs for each direction, with hints.
    ChangingHinted,
    /// Several POPs for each direction, without hints.
    Changing,
}

impl Paths {
    /// All of them, in the order of their numbers.
    pub const ALL: [Paths; 5] =
        [Paths::Same, Paths::ApartHinted, Paths::Apart, Paths::ChangingHinted, Paths::Changing];
}

/// Refusals of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Connections that a target refused.
    pub due: u64,
    /// Those whose client was told.
    pub told: u64,
}

/// Refusals by the paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused([[Told; 2]; Paths::ALL.len()]);

/// What happened to hints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintCounts {
    /// RSTs that POPs told the others of.
    pub hinted: u64,
    /// Datagrams that POPs accepted.
    pub accepted: u64,
    /// Datagrams that they did not.
    pub rejected: u64,
    /// Datagrams of somebody without the key.
    pub forged: u64,
    /// Clients that were told as soon as a hint arrived.
    pub told: u64,
    /// POPs that were killed when a RST had come to them.
    pub killed: u64,
}

impl Refused {
    /// Closed ports.
    pub fn closed(&self, paths: Paths) -> Told {
        self.0[paths as usize][0]
    }

    /// Sockets that vanished, of clients that probe their peer.
    pub fn vanished(&self, paths: Paths) -> Told {
        self.0[paths as usize][1]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Refused) {
        for (own, other) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            own.due += other.due;
            own.told += other.told;
        }
    }
}

impl HintCounts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &HintCounts) {
        self.hinted += other.hinted;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.forged += other.forged;
        self.told += other.told;
        self.killed += other.killed;
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (paths, name) in Paths::ALL.into_iter().zip(NAMES) {
            let (closed, vanished) = (self.closed(paths), self.vanished(paths));
            let separator = if paths == Paths::Same { "" } else { ", " };
            write!(
                f,
                "{separator}{name} {} of {} closed ports and {} of {} vanished sockets",
                closed.told, closed.due, vanished.told, vanished.due,
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for HintCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} RSTs hinted, {} datagrams of hints accepted and {} rejected, {} of them forged, \
             {} clients told by a hint; {} POPs killed with a RST",
            self.hinted, self.accepted, self.rejected, self.forged, self.told, self.killed,
        )
    }
}

impl World {
    /// The paths of this run.
    pub fn paths(&self) -> Paths {
        let count = self.pops.len() as u64;
        let [up, down] = self.routes.map(|key| key % count);
        match (self.routing, self.setup.hints) {
            _ if count == 1 => Paths::Same,
            (Routing::Steady, _) if up == down => Paths::Same,
            (Routing::Steady, Some(_)) => Paths::ApartHinted,
            (Routing::Steady, None) => Paths::Apart,
            (_, Some(_)) => Paths::ChangingHinted,
            (_, None) => Paths::Changing,
        }
    }

    /// Whether a connection has come to a refusal that its client is never told of.
    pub fn is_untold(&self, plan: &Plan, progress: &Progress) -> bool {
        let may_wait = self.setup.services[plan.service].has_refusals();
        self.paths() == Paths::Apart && may_wait && self.refusal(plan, progress).is_some()
    }

    /// Whether a closed port (0) or a vanished socket (1) refuses a connection.
    fn refusal(&self, plan: &Plan, progress: &Progress) -> Option<usize> {
        if progress.collided || progress.excused {
            return None;
        }
        let probes = plan.traits.keepalive_us.is_some();
        match plan.ending {
            Ending::Refused => progress.started.then_some(0),
            Ending::TargetVanishes(_) => (progress.target_gone.is_some() && probes).then_some(1),
            _ => None,
        }
    }

    /// The refusals of this run.
    pub fn refused(&self) -> Refused {
        let mut refused = Refused::default();
        for (plan, progress) in self.plans.iter().zip(&self.progress) {
            let told = progress.client_gone == Some(Gone::Reset);
            let Some(kind) = self.refusal(plan, progress) else { continue };
            if !self.setup.services[plan.service].is_pool() {
                continue;
            }
            if told || progress.client_gone.is_none() {
                let place = &mut refused.0[self.paths() as usize][kind];
                place.due += 1;
                place.told += u64::from(told);
            }
        }
        refused
    }
}

const NAMES: [&str; Paths::ALL.len()] = [
    "by one POP",
    "by two with hints",
    "by two without",
    "by changing ones with hints",
    "by changing ones without",
];
