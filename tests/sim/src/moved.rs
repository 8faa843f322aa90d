//! What changes of targets cost: connections whose client would get another target by now, and the
//! copies of their segments.

use std::fmt;

use anyrelay_kit::frames::{RST, SYN};
use anyrelay_kit::pop::Recorder;

use crate::checks::Input;
use crate::setup::Port;
use crate::wire::{Datagram, ETHERNET_LEN};
use crate::world::World;

/// Connections that a change of targets has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many.
    pub connections: u64,
    /// Their clients' segments since then, but SYNs and RSTs.
    pub segments: u64,
    /// What went to a target beside the first.
    pub copies: u64,
}

/// Without hints, and with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovedCounts(pub [Moved; 2]);

impl MovedCounts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &MovedCounts) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            own.connections += other.connections;
            own.segments += other.segments;
            own.copies += other.copies;
        }
    }
}

impl fmt::Display for MovedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (moved, name) in self.0.iter().zip(["without", "with"]) {
            let Moved { connections, segments, copies } = moved;
            let percent = *copies as f64 * 100.0 / (*segments).max(1) as f64;
            let comma = if name == "with" { ", " } else { "" };
            write!(
                f,
                "{comma}{connections} {name} hints, {copies} copies of {segments} segments \
                 ({percent:.1}%)"
            )?;
        }
        Ok(())
    }
}

impl World {
    /// Counts a client's segment of a connection that a change has moved.
    pub(crate) fn count_moved(&mut self, pop: usize, input: &Input<'_>, out: &Recorder) {
        let ip = input.frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        let Some(segment) = ip.and_then(|ip| ip.segment()) else { return };
        let plain = input.port == Port::Wan && !input.damaged && !segment.has(SYN);
        let Some(service) = self.setup.service_at(segment.dst).filter(|_| plain) else { return };
        if self.setup.services[service].changes.is_none() || segment.has(RST) {
            return;
        }
        let stack = self.by_ends.get(&(segment.src, segment.dst));
        let number = stack.and_then(|at| self.stacks[*at].as_ref()).and_then(|one| one.number);
        let Some(progress) = number.map(|number| &mut self.progress[number]) else { return };
        let at = self.pops[pop].at(self.now_us, self.unix_ms);
        let new = at.choose(&self.setup, service, segment.src).new;
        if progress.target.is_none() || progress.target == new {
            return;
        }
        let counts = &mut self.counts.moved.0[usize::from(self.setup.hints.is_some())];
        counts.connections += u64::from(!progress.moved);
        progress.moved = true;
        let sent = out.sent.iter().filter(|(port, _)| port.0 == Port::Lan as u8).count() as u64;
        counts.segments += u64::from(sent > 0);
        counts.copies += sent.saturating_sub(1);
    }
}
