//! The hosts' part of a run: connections begin, datagrams come to stacks and leave them.

use std::net::SocketAddr;

use anyrelay_kit::frames::TCP;

use crate::app::{Ending, Gone, NUMBER_LEN, Plan};
use crate::host::Stack;
use crate::middlebox::Middlebox;
use crate::network::Packet;
use crate::scenario::SPREAD_MS;
use crate::setup::{Port, Rollout, Targets};
use crate::stamps::{Origin, Receiver};
use crate::traits::Traits;
use crate::wire::{self, Datagram, SegmentView};
use crate::world::{Event, World};

impl World {
    /// A connection begins.
    pub(crate) fn start(&mut self, number: usize) {
        let plan = self.plans[number];
        let vip = self.setup.services[plan.service].vip;
        self.progress[number].started = true;
        self.progress[number].forgotten_us = self.forgotten_us(plan.service);
        self.progress[number].excused = self.may_break(&plan);
        self.open += usize::from(!self.is_awaited(number));
        self.boxes.insert(plan.client, Middlebox::new(plan.habits));
        match Stack::client(number, (plan.client, vip), plan.traits, self.now_us) {
            Ok(stack) => {
                let index = self.add_stack(stack);
                self.run_stack(index);
            }
            Err(error) => self.fail(error),
        }
    }

    /// When POPs may no longer look for a connection that begins now where it began.
    fn forgotten_us(&self, service: usize) -> Option<u64> {
        let changes = self.setup.services[service].changes.as_ref()?;
        Some(self.now_us + changes.list(0).memory_ms.saturating_sub(SPREAD_MS) * 1000)
    }

    /// Whether a change of targets may break a connection.
    fn may_break(&self, plan: &Plan) -> bool {
        let service = &self.setup.services[plan.service];
        let Some(changes) = &service.changes else { return false };
        if self.twins.is_some_and(|twins| twins.clients.contains(&plan.client)) {
            return true;
        }
        let all = changes.list(changes.dates_ms.len());
        self.setup.rollout == Rollout::Late || all.may_give_up(&service.hashes, plan.client)
    }

    /// Whether the run waits for a connection also while it has not begun.
    pub(crate) fn is_awaited(&self, number: usize) -> bool {
        let before = self.plans[number].after;
        before.is_none_or(|before| self.is_awaited(before) && self.plans[before].ends())
    }

    fn add_stack(&mut self, stack: Stack) -> usize {
        let index = self.stacks.len();
        self.by_ends.insert((stack.local, stack.remote), index);
        self.stacks.push(Some(stack));
        index
    }

    /// A stack's timer is due, unless the event is out of date.
    pub(crate) fn stack_due(&mut self, index: usize) {
        let due_us = self.stacks[index].as_ref().and_then(|stack| stack.due_us);
        if due_us.is_some_and(|at| at <= self.now_us) {
            self.run_stack(index);
        }
    }

    fn run_stack(&mut self, index: usize) {
        let Some(mut stack) = self.stacks[index].take() else { return };
        let due_before = stack.due_us;
        let mut out = Vec::new();
        let ran = stack.run(self.now_us, &self.plans, &mut self.progress, &mut out);
        let over = stack.is_over();
        let mut vanished = false;
        if let Some(number) = stack.number {
            let (plan, progress) = (&self.plans[number], &mut self.progress[number]);
            let gone = stack.gone(progress);
            let place = match stack.is_client {
                true => &mut progress.client_gone,
                false => &mut progress.target_gone,
            };
            if place.is_none() {
                *place = gone;
            }
            if !stack.is_client {
                progress.target = Some(stack.local);
            }
            if let (Ending::TargetVanishes(at), false) = (plan.ending, stack.is_client)
                && progress.down_sent >= at
            {
                progress.target_gone = progress.target_gone.or(Some(Gone::Aborted));
                vanished = true;
            }
            self.judge(number);
        }
        if let Err(error) = ran {
            self.fail(error);
        }
        let is_client = stack.is_client;
        let mut packets = Vec::with_capacity(out.len());
        for mut bytes in out {
            self.pass_out(&stack, &mut bytes);
            let stamps = Datagram::read(&bytes).and_then(|ip| {
                let segment = ip.segment()?;
                stack.stamps.note_sent(&segment);
                segment.timestamps()
            });
            packets.push(Packet::new(bytes, Origin { stamps, sent_us: self.now_us }));
        }
        if over || vanished {
            if let Some(number) = stack.number.filter(|_| is_client) {
                self.start_after(number);
            }
            self.forget(index, stack);
        } else {
            if let Some(due_us) = stack.due_us.filter(|due| Some(*due) != due_before) {
                self.queue.push(due_us, Event::Stack(index));
            }
            self.stacks[index] = Some(stack);
        }
        for packet in packets {
            self.depart(packet, if is_client { Port::Wan } else { Port::Lan });
        }
    }

    /// The next connection from the same port begins, if there is one.
    fn start_after(&mut self, number: usize) {
        if let Some(next) = self.plans.iter().position(|plan| plan.after == Some(number)) {
            self.queue.push(self.now_us + self.plans[next].start_us, Event::Start(next));
        }
    }

    /// A stack is gone; what it saw of timestamps is kept.
    fn forget(&mut self, index: usize, stack: Stack) {
        let ends = (stack.local, stack.remote);
        if self.by_ends.get(&ends) == Some(&index) {
            self.by_ends.remove(&ends);
        }
        self.paws_rejects += u64::from(stack.stamps.paws_rejects);
        self.old_stamps.insert(ends, stack.stamps);
    }

    /// A datagram of a host's leaves towards POPs.
    pub(crate) fn depart(&mut self, mut packet: Packet, port: Port) {
        if self.rng.happens(self.exotic) {
            self.decorate(&mut packet);
        }
        self.copy_late(&packet, port);
        let pop = self.route(port, &packet.bytes);
        self.send(packet, |packet| Event::ToPop(pop, port, packet));
    }

    /// A datagram comes to a host.
    pub(crate) fn arrive(&mut self, packet: Packet) {
        let bytes = &packet.bytes;
        let read = Datagram::read(bytes);
        let ip = match read {
            Some(ip) if !packet.doomed => ip,
            _ => return self.excuse(&packet),
        };
        let Some(segment) = ip.segment() else {
            if packet.damaged {
                // Its checksum may be the only thing that shows it.
            } else if ip.protocol == TCP {
                self.fail(format!("a malformed segment comes to {}", ip.dst));
            } else {
                self.arrive_error(&ip, packet.reported.as_ref());
            }
            return self.excuse(&packet);
        };
        if packet.damaged == segment.checksum_holds {
            let state = if packet.damaged { "damage does not show" } else { "damage was done" };
            return self.fail(format!("{} to {}: {state}", segment.src, segment.dst));
        }
        if packet.forged {
            return self
                .fail(format!("{} gets what was forged, from {}", segment.dst, segment.src));
        }
        if packet.damaged {
            self.counts.damage_seen += 1;
            self.excuse(&packet);
        }
        if self.arrive_outside(&segment, bytes) {
            return;
        }
        if let Some(site) = self.site_at(segment.dst.ip()) {
            return self.arrive_at_site(site, &segment, &packet);
        }
        if !packet.damaged {
            self.refuse_by_other(&segment);
        }
        let ends = (segment.dst, segment.src);
        let known = self.by_ends.get(&ends).copied();
        let opens = segment.opens() && !packet.damaged;
        let index = match known {
            // An old connection that only waits gives way to a new one.
            Some(index) if opens && self.is_waiting(index) => {
                if let Some(stack) = self.stacks[index].take() {
                    self.forget(index, stack);
                }
                self.accept(&segment)
            }
            Some(index) if opens && self.challenge(index, &segment) => return,
            Some(index) => Some(index),
            None if packet.damaged => None,
            None if opens => self.accept(&segment),
            None => None,
        };
        match index {
            Some(index) => self.deliver(index, &segment, &packet),
            None if packet.damaged => {}
            None => self.refuse(&segment),
        }
    }

    fn is_waiting(&self, index: usize) -> bool {
        self.stacks[index].as_ref().is_some_and(Stack::is_waiting)
    }

    /// A SYN of another connection comes to one that is not over, as far as the target knows:
    /// whoever sent it is asked (RFC 5961, section 4.2), and resets the old one if that is gone.
    /// smoltcp 0.14 says nothing to such a SYN. False if it is no such.
    fn challenge(&mut self, index: usize, syn: &SegmentView<'_>) -> bool {
        let Some(stack) = &mut self.stacks[index] else { return false };
        if stack.is_listening() {
            stack.isn = Some(syn.seq);
        }
        if stack.isn.is_none_or(|isn| isn == syn.seq) {
            return false;
        }
        let Some(bytes) = stack.challenge(self.now_us) else { return false };
        let stamps = Datagram::read(&bytes).and_then(|ip| {
            let segment = ip.segment()?;
            stack.stamps.note_sent(&segment);
            segment.timestamps()
        });
        self.counts.challenged += 1;
        self.depart(Packet::new(bytes, Origin { stamps, sent_us: self.now_us }), Port::Lan);
        true
    }

    /// A target takes a SYN, if something listens there.
    fn accept(&mut self, syn: &SegmentView<'_>) -> Option<usize> {
        let service = self.setup.service_of(syn.dst, syn.src.ip())?;
        let targets_are = self.setup.services[service].targets_are;
        let refuses = match targets_are {
            Targets::Open | Targets::Old => false,
            Targets::Shut => true,
            Targets::Late => {
                self.now_us < self.setup.opens_us && self.refused_once.insert((syn.src, syn.seq))
            }
        };
        if refuses {
            return None;
        }
        let timestamps = syn.timestamps().is_some() && targets_are != Targets::Old;
        // Both of two stacks for the same connection have the host's one clock.
        let clock = self.clock_of(syn.dst, syn.src);
        let traits = Traits { timestamps, clock, ..Traits::random(&mut self.rng, syn.dst.ip()) };
        match Stack::target((syn.dst, syn.src), traits, self.now_us) {
            Ok(mut stack) => {
                // What an earlier stack sent may still be echoed.
                let ends = (stack.local, stack.remote);
                stack.stamps = self.old_stamps.remove(&ends).unwrap_or_default().renewed();
                stack.isn = Some(syn.seq);
                Some(self.add_stack(stack))
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    fn clock_of(&self, host: SocketAddr, peer: SocketAddr) -> u32 {
        let of = |hash: u64, bytes: &[u8]| {
            bytes
                .iter()
                .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        };
        let text = format!("{host} {peer}");
        (of(self.unix_ms, text.as_bytes()) >> 20) as u32
    }

    fn deliver(&mut self, index: usize, segment: &SegmentView<'_>, packet: &Packet) {
        if !packet.damaged && !self.pass_in(segment) {
            return;
        }
        let receiver = self.receiver(index);
        // A target that took an earlier SYN of the connection may talk to its client too.
        let moves = self.setup.is_of_moving(segment);
        let echoes_other = moves && self.echoes_other(segment);
        let is_shared = self.twins.is_some_and(|twins| {
            twins.egress == segment.src || twins.clients.contains(&segment.dst)
        });
        let Some(stack) = &mut self.stacks[index] else { return };
        let is_stray = moves && stack.is_foreign(segment) || echoes_other;
        if is_shared && !packet.damaged {
            stack.stamps.take(segment, &packet.origin);
        } else if !is_stray
            && !packet.damaged
            && let Err(error) = stack.stamps.check(receiver, segment, &packet.origin)
        {
            let text = format!("{} to {}: {error}", segment.src, segment.dst);
            return self.fail(text);
        }
        stack.receive(segment, wire::without_extensions(&packet.bytes));
        self.run_stack(index);
    }

    /// Whether a client's segment echoes what another target has sent: smoltcp also takes the
    /// timestamps of segments that are not acceptable.
    fn echoes_other(&self, segment: &SegmentView<'_>) -> bool {
        let Some((_, echo)) = segment.timestamps().filter(|(_, echo)| *echo != 0) else {
            return false;
        };
        let live =
            self.stacks.iter().flatten().map(|stack| (stack.local, stack.remote, &stack.stamps));
        let old = self.old_stamps.iter().map(|((local, remote), stamps)| (*local, *remote, stamps));
        live.chain(old).any(|(local, remote, stamps)| {
            remote == segment.src && local != segment.dst && stamps.has_sent(echo)
        })
    }

    fn receiver(&self, index: usize) -> Receiver {
        let Some(stack) = &self.stacks[index] else { return Receiver::Untouched };
        let service = match stack.is_client {
            true => self.setup.service_at(stack.remote),
            false => self.setup.service_of(stack.local, stack.remote.ip()),
        };
        match (service, stack.number.filter(|_| stack.is_client)) {
            (Some(at), _) if !self.setup.services[at].is_pool() => Receiver::Untouched,
            (_, Some(number)) => Receiver::PoolClient(self.plans[number].traits.timestamps),
            (Some(at), _) if self.setup.services[at].targets_are == Targets::Old => {
                Receiver::OldTarget
            }
            _ => Receiver::PoolTarget,
        }
    }

    /// A host has no such connection.
    fn refuse(&mut self, segment: &SegmentView<'_>) {
        let is_client = self.plans.iter().any(|plan| plan.client.ip() == segment.dst.ip());
        let mut services = self.setup.services.iter();
        let is_target = services
            .any(|service| service.targets.iter().any(|target| target.ip() == segment.dst.ip()));
        if !is_client && !is_target {
            return self.fail(format!("{} to {}: to nobody", segment.src, segment.dst));
        }
        let Some(bytes) = wire::refusal(segment) else { return };
        let origin = Origin { stamps: None, sent_us: self.now_us };
        self.depart(Packet::new(bytes, origin), if is_client { Port::Wan } else { Port::Lan });
    }

    /// Looks at a connection after something happened to it.
    fn judge(&mut self, number: usize) {
        let untold = self.is_untold(&self.plans[number], &self.progress[number]);
        let (plan, progress) = (&self.plans[number], &mut self.progress[number]);
        progress.excused |= progress.forgotten_us.is_some_and(|at_us| self.now_us > at_us);
        if progress.finished_us.is_none() && (untold || plan.is_over(progress)) {
            progress.finished_us = Some(self.now_us);
            self.open -= 1;
        }
        if let Some(wrong) = plan.judge(progress) {
            let text = format!("connection {number}: {wrong}: {plan:?} {progress:?}");
            self.fail(text);
        }
        debug_assert!(self.plans[number].up >= NUMBER_LEN);
    }
}
