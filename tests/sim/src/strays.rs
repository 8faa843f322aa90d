//! What makes refusals hard: RSTs of a target that nobody asked, copies that come late, and POPs
//! that are killed when they have just learnt of a RST.

use anyrelay_kit::frames::{RST, TCP};
use anyrelay_kit::rng::Rng;

use crate::network::{Packet, damage};
use crate::scenario::Deed;
use crate::setup::{Port, Targets};
use crate::stamps::Origin;
use crate::wire::{self, Datagram, SegmentView};
use crate::world::{Event, World};

/// How often, in a thousand, and how many more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strays {
    /// Segments to a target that another target of the service refuses too.
    pub refused_by_other: u64,
    /// SYNs to closed ports, and RSTs, of which a copy comes late.
    pub late: u64,
    pub late_left: u32,
    /// RSTs that wait at a POP when it is killed.
    pub killed: u64,
    pub kills_left: u32,
    /// When the last late copy comes.
    pub until_us: u64,
}

impl Strays {
    pub fn random(rng: &mut Rng) -> Self {
        let mut grade = |share: u64, most: u64| match rng.happens(share) {
            true => rng.below(most + 1),
            false => 0,
        };
        Strays {
            refused_by_other: grade(300, 100),
            late: grade(150, 900),
            late_left: LATE_MAX,
            killed: 3 * grade(300, 300),
            kills_left: KILLS_MAX,
            until_us: 0,
        }
    }
}

impl World {
    /// Another target of the service refuses what has come to a target.
    pub(crate) fn refuse_by_other(&mut self, segment: &SegmentView<'_>) {
        let Some(service) = self.setup.service_of(segment.dst, segment.src.ip()) else { return };
        let service = &self.setup.services[service];
        let others = service.targets.iter().filter(|target| **target != segment.dst);
        let is_plain = service.is_pool() && service.changes.is_none();
        let other = others.copied().next().filter(|_| is_plain);
        let Some(other) = other.filter(|_| self.now_us < self.calm_us) else { return };
        if !self.rng.happens(self.strays.refused_by_other) {
            return;
        }
        let Some(bytes) = wire::refusal(&SegmentView { dst: other, ..*segment }) else { return };
        let origin = Origin { stamps: None, sent_us: self.now_us };
        self.depart(Packet::new(bytes, origin), Port::Lan);
    }

    /// A copy of a segment may come late, of a SYN to a closed port, or of a RST without timestamps
    /// or from a client; maybe damaged.
    pub(crate) fn copy_late(&mut self, packet: &Packet, port: Port) {
        if self.strays.late_left == 0 || !self.rng.happens(self.strays.late) {
            return;
        }
        let Some(ip) = Datagram::read(&packet.bytes).filter(|ip| ip.protocol == TCP) else {
            return;
        };
        let Some(segment) = ip.segment() else { return };
        let is_one = match port {
            Port::Wan => {
                let service = self.setup.service_at(segment.dst);
                let service = service.map(|at| &self.setup.services[at]);
                service.is_some_and(|of| match segment.opens() {
                    true => of.targets_are == Targets::Shut,
                    false => of.is_pool() && segment.has(RST),
                })
            }
            Port::Lan => crate::refusals::Refusal::of(&segment).is_some(),
        };
        if !is_one {
            return;
        }
        self.strays.late_left -= 1;
        let after_us = match self.rng.happens(500) {
            true => self.rng.below(10_000_000),
            // Longer than a POP remembers.
            false => 118_000_000 + self.rng.below(20_000_000),
        };
        // By any way.
        let pop = self.rng.index(self.pops.len());
        self.strays.until_us = self.strays.until_us.max(self.now_us + after_us);
        let mut packet = packet.clone();
        if self.rng.happens(400) {
            damage(&mut self.rng, &mut packet.bytes);
            packet.damaged = true;
        }
        self.queue.push(self.now_us + after_us, Event::ToPop(pop, port, packet));
    }

    /// A POP has learnt of a RST: it may be killed before any client is told.
    pub(crate) fn kill_with_rst(&mut self, pop: usize) {
        let may = self.strays.kills_left > 0 && self.now_us < self.calm_us;
        if may && self.rng.happens(self.strays.killed) {
            self.strays.kills_left -= 1;
            self.counts.hints.killed += 1;
            let after_us = self.rng.below(20_000);
            let down_us = self.rng.below(300_000);
            self.queue.push(self.now_us + after_us, Event::Deed(pop, Deed::Restart(down_us)));
        }
    }
}

const LATE_MAX: u32 = 20;
const KILLS_MAX: u32 = 3;
