//! The POPs' part of a run: frames come in, what comes out is checked, and sent on.

use anyrelay_core::net::PortIndex;
use anyrelay_core::pop::BURST;
use anyrelay_core::verdict::{AbsorbKind, DropReason, ReplyKind, Verdict};
use anyrelay_kit::frames::{ETHERTYPE_ARP, ICMPV6, framed, repair, word};
use anyrelay_kit::pop::Recorder;

use crate::Sabotage;
use crate::checks::Input;
use crate::errors::check_error;
use crate::network::Packet;
use crate::open::{is_open, is_to_agent};
use crate::pops::WORKERS;
use crate::scenario::Deed;
use crate::setup::{self, Port, Revision, Targets};
use crate::stamps::Origin;
use crate::wire::{self, Datagram, ETHERNET_LEN};
use crate::world::{Event, World};

impl World {
    /// A datagram comes to a port of a POP, and waits there until a worker looks.
    pub(crate) fn enter_pop(&mut self, pop: usize, port: Port, packet: Packet) {
        if self.pops[pop].down_until_us > self.now_us {
            return self.excuse(&packet);
        }
        let waiting = &mut self.waiting[pop][port as usize];
        if waiting.is_empty() {
            self.queue.push(self.now_us + self.poll_us, Event::Burst(pop, port));
        }
        waiting.push(packet);
    }

    /// A worker takes what waits at a port, in one call as the data plane does.
    pub(crate) fn burst(&mut self, pop: usize, port: Port) {
        let mut packets = std::mem::take(&mut self.waiting[pop][port as usize]);
        if packets.len() > BURST {
            self.waiting[pop][port as usize] = packets.split_off(BURST);
            self.queue.push(self.now_us, Event::Burst(pop, port));
        }
        let (to, from) = (setup::mac(pop, port), setup::router_mac(port));
        let frames: Vec<_> =
            packets.iter().map(|packet| framed(to, from, None, &packet.bytes)).collect();
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        let worker = self.rng.below(WORKERS as u64) as usize;
        let mut sinks = std::mem::take(&mut self.sinks);
        if let Err(text) = self.pops[pop].handle(now, (worker, port), &frames, &mut sinks) {
            let frames: Vec<_> = frames.iter().map(|frame| describe(frame)).collect();
            self.fail(format!("POP {pop}, {port:?}: {text}\n  in  {}", frames.join("\n      ")));
        }
        self.counts.burst(packets.len() as u64);
        for ((packet, frame), sink) in packets.into_iter().zip(&frames).zip(&mut sinks) {
            self.leave_pop((pop, worker, port), packet, frame, sink);
        }
        self.sinks = sinks;
    }

    /// What came of a datagram at a POP is checked, and sent on.
    fn leave_pop(
        &mut self,
        (pop, worker, port): (usize, usize, Port),
        packet: Packet,
        frame: &[u8],
        out: &mut Recorder,
    ) {
        self.record.frame(self.now_us, pop, frame);
        let input = Input { port, frame, damaged: packet.damaged };
        let at = self.pops[pop].at(self.now_us, self.unix_ms);
        if let Some(teller) = &mut self.teller {
            teller.revise(&self.setup, at, &input, out);
        }
        if let Err(text) = self.check_outcome((pop, worker), &packet, &input, out) {
            let verdicts: Vec<_> = out.verdicts().collect();
            self.fail(format!(
                "POP {pop}, {port:?}: {text}; {verdicts:?}\n  in  {}\n  out {}",
                describe(frame),
                out.sent.iter().map(|sent| describe(&sent.1)).collect::<Vec<_>>().join("\n      "),
            ));
        }
        if out.drops().next().is_some() {
            self.excuse(&packet);
        }
        self.queue_hints(pop, &out.hints);
        if out.verdicts().any(|one| one == Verdict::Absorb(AbsorbKind::PendingRst)) {
            self.kill_with_rst(pop);
        }
        let answered = out.replies().any(|kind| kind == ReplyKind::PendingRst);
        for (out, bytes) in out.sent.drain(..) {
            let out = if out.0 == 0 { Port::Wan } else { Port::Lan };
            self.record.frame(self.now_us, pop, &bytes);
            if self.answer_query(pop, out, &bytes) {
                continue;
            }
            let mut onward = packet.became(bytes[ETHERNET_LEN..].to_vec());
            trim_padding(&mut onward.bytes);
            // What is around a packet that was damaged before is new.
            onward.damaged &= !is_to_agent(&packet.bytes);
            self.readdress(&mut onward);
            if answered || out == port && packet.body.is_none() {
                onward.origin = Origin { stamps: None, sent_us: self.now_us };
            }
            if out != port && self.reports(&onward) {
                let sent = Datagram::read(&packet.bytes).and_then(|ip| ip.segment());
                if let Some(sent) = sent {
                    self.report(out, &onward, &sent);
                    continue;
                }
            }
            self.spoil(out, &mut onward);
            self.send(onward, Event::ToHost);
        }
    }

    /// Whether the network drops what a POP has sent on, and says so.
    fn reports(&mut self, packet: &Packet) -> bool {
        let plain = !packet.damaged && packet.reported.is_none() && packet.body.is_none();
        plain && self.rng.happens(self.weather.reported)
    }

    /// Whether a POP did with a frame what it must, and another would have done the same.
    fn check_outcome(
        &mut self,
        (pop, worker): (usize, usize),
        packet: &Packet,
        input: &Input<'_>,
        out: &Recorder,
    ) -> Result<(), String> {
        let at = self.pops[pop].at(self.now_us, self.unix_ms);
        let replies: Vec<_> = out.replies().collect();
        let to_lan = |port: &PortIndex| input.port == Port::Wan && port.0 == Port::Lan as u8;
        let beyond = out.sent.iter().filter(|(port, bytes)| {
            let one_of_several = to_lan(port) && !self.only_hosts_judge;
            !is_address_query(bytes) && !one_of_several
        });
        if beyond.count() > 1 && !self.only_hosts_judge {
            return Err("one datagram became several".into());
        }
        for (port, bytes) in &out.sent {
            let port = if port.0 == 0 { Port::Wan } else { Port::Lan };
            let input = (!is_address_query(bytes)).then_some(input);
            if self.only_hosts_judge {
                continue;
            }
            let sent = Datagram::read(&bytes[ETHERNET_LEN..]).map(|ip| ip.bytes);
            if let (Some(_), Some(sent)) = (input, sent)
                && let Some(checked) = self.check_open(&packet.bytes, sent)
            {
                checked?;
                continue;
            }
            self.memory.check(&self.setup, at, (port, bytes), input, &replies)?;
        }
        if !self.only_hosts_judge {
            self.memory.check_refusals(&self.setup, at, input, out)?;
        }
        let whole = !packet.damaged && !packet.doomed && packet.refused.is_none();
        if let Some(reported) = packet.reported.as_ref().filter(|_| whole) {
            check_error(&self.setup, &mut self.memory, at, (input, reported), out)?;
        }
        self.count_moved(pop, input, out);
        for client in self.memory.collided.iter() {
            for (plan, progress) in self.plans.iter().zip(&mut self.progress) {
                progress.collided |= plan.client == *client;
            }
        }
        let mut limited = false;
        if input.port == Port::Wan {
            let came = (pop, worker, packet.bytes.as_slice());
            limited = self.syns.check(&self.setup, self.now_us, came, out)?;
            self.counts.limited += u64::from(limited);
        }
        if let Some(reason) = packet.refused {
            self.counts.refused += 1;
            let refused = out.verdicts().eq([Verdict::Drop(reason)]) && out.sent.is_empty();
            return if refused { Ok(()) } else { Err(format!("not dropped as {reason}")) };
        }
        let forwarded = out.verdicts().any(|verdict| matches!(verdict, Verdict::Forward(_)));
        if forwarded && wire::has_extensions(&packet.bytes) {
            self.counts.extended += 1;
        }
        let whole = !packet.damaged && !packet.doomed;
        // The hops around an open packet end at the POP, which does not look behind its header.
        if (packet.doomed && !is_open(&packet.bytes) || packet.forged) && forwarded {
            return Err("sent on what must end here".into());
        }
        if out.verdicts().next().is_none() {
            return Err("no verdict".into());
        }
        if whole && !packet.forged {
            for verdict in out.verdicts() {
                if let Verdict::Drop(reason) = verdict
                    && reason != DropReason::NeighbourUnresolved
                    && !(limited && reason == DropReason::RateSynService)
                    && !(reason == DropReason::TargetWithoutTimestamps && self.is_old(packet))
                    && !(packet.reported.is_some()
                        && [DropReason::IcmpQuote, DropReason::NotOurs].contains(&reason))
                    && !(reason == DropReason::TooBig && self.grows_too_long(packet))
                    && !(self.is_of_stranger(pop, packet)
                        && [DropReason::UnknownTarget, DropReason::NotOurs].contains(&reason))
                {
                    return Err(format!("dropped for nothing: {reason}"));
                }
                if let Verdict::Absorb(AbsorbKind::Neighbour) = verdict {
                    return Err("taken for a neighbour".into());
                }
            }
        }
        if limited { Ok(()) } else { self.compare(pop, packet, input.port, out) }
    }

    /// Whether it is so long with extension headers that what its service adds has no room.
    fn grows_too_long(&self, packet: &Packet) -> bool {
        let segment = Datagram::read(&packet.bytes).and_then(|ip| ip.segment());
        let service = segment.and_then(|from| self.setup.service_at(from.dst));
        let growth = service.map_or(0, |at| self.setup.services[at].mode.growth());
        wire::has_extensions(&packet.bytes)
            && packet.bytes.len() + usize::from(growth) > usize::from(setup::MTU)
    }

    /// Whether it is from a target that the POP does not know of yet.
    fn is_of_stranger(&self, pop: usize, packet: &Packet) -> bool {
        let segment = Datagram::read(&packet.bytes).and_then(|ip| ip.segment());
        segment.is_some_and(|from| {
            let service = self.setup.service_of(from.src, from.dst.ip());
            service.is_some_and(|at| !self.pops[pop].targets[at].names(from.src))
        })
    }

    /// Whether it is from a target without timestamps.
    fn is_old(&self, packet: &Packet) -> bool {
        let segment = Datagram::read(&packet.bytes).and_then(|ip| ip.segment());
        let service = segment.and_then(|from| self.setup.service_of(from.src, from.dst.ip()));
        service.is_some_and(|at| self.setup.services[at].targets_are == Targets::Old)
    }

    /// What a POP does without a frame.
    pub(crate) fn poll_pop(&mut self, pop: usize) {
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        let mut sink = std::mem::take(&mut self.sink);
        if let Err(text) = self.pops[pop].poll(now, &mut sink) {
            self.fail(format!("POP {pop}: {text}"));
        }
        for (out, bytes) in sink.sent.drain(..) {
            let out = if out.0 == 0 { Port::Wan } else { Port::Lan };
            self.record.frame(self.now_us, pop, &bytes);
            let at = self.pops[pop].at(self.now_us, self.unix_ms);
            if let Err(text) = self.memory.check(&self.setup, at, (out, &bytes), None, &[]) {
                self.fail(format!("POP {pop}, {out:?}: {text}: {}", describe(&bytes)));
            }
            self.answer_query(pop, out, &bytes);
        }
        self.sink = sink;
        // Nothing is left but late copies.
        let idle = self.open == 0 && self.now_us > self.calm_us + 1_000_000;
        let next_us = if idle { 1_000_000 } else { 100_000 };
        self.queue.push(self.now_us + next_us, Event::Poll(pop));
    }

    /// A frame of the router's own comes to a POP.
    pub(crate) fn answer_pop(&mut self, pop: usize, port: Port, frame: &[u8]) {
        if self.pops[pop].down_until_us > self.now_us {
            return;
        }
        self.record.frame(self.now_us, pop, frame);
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        let mut sinks = std::mem::take(&mut self.sinks);
        if let Err(text) = self.pops[pop].handle(now, (0, port), &[frame.to_vec()], &mut sinks) {
            self.fail(format!("POP {pop}, {port:?}: {text}"));
        }
        if sinks.iter().any(|sink| !sink.sent.is_empty()) {
            self.fail(format!("POP {pop}, {port:?}: an answer is answered: {}", describe(frame)));
        }
        self.sinks = sinks;
    }

    /// Routers answer questions for their hardware addresses, unless the network loses them. True
    /// when it was one.
    pub(crate) fn answer_query(&mut self, pop: usize, port: Port, frame: &[u8]) -> bool {
        let (gateway4, gateway6) = setup::gateways(port);
        let mac = setup::router_mac(port);
        let answer = wire::arp_reply(frame, mac, gateway4)
            .or_else(|| wire::advertisement(frame, mac, gateway6));
        let Some(answer) = answer else { return false };
        if !self.rng.happens(self.weather.lost) {
            let after_us = 20 + self.rng.below(500);
            self.queue.push(self.now_us + after_us, Event::Frame(pop, port, answer));
        }
        true
    }

    pub(crate) fn do_to_pop(&mut self, pop: usize, deed: Deed) {
        let now_us = self.now_us;
        match deed {
            Deed::Restart(down_us) => {
                let before = self.pops[pop].up_since_us;
                if let Err(text) = self.pops[pop].restart(before + 1) {
                    self.fail(text);
                }
                self.pops[pop].down_until_us = now_us + down_us;
                self.memory.forget_refusals(pop);
                self.hints.forget(pop);
                if let Some(teller) = &mut self.teller {
                    teller.forget(pop);
                }
                (0..WORKERS).for_each(|worker| self.syns.forget(pop, worker));
                for packet in std::mem::take(&mut self.waiting[pop]).into_iter().flatten() {
                    self.excuse(&packet);
                }
            }
            Deed::Worker => {
                self.syns.forget(pop, 0);
                self.pops[pop].new_worker();
            }
            Deed::Reload(version) => {
                let revision = Revision { version, ..self.pops[pop].revision };
                self.reload(pop, revision);
            }
            Deed::Targets(known) => {
                let revision = Revision { known, ..self.pops[pop].revision };
                self.reload(pop, revision);
            }
        }
    }

    fn reload(&mut self, pop: usize, revision: Revision) {
        let now = self.pops[pop].now(self.now_us, self.unix_ms);
        if let Err(text) = self.pops[pop].reload(&self.setup, revision, now) {
            self.fail(text);
        }
    }

    /// What a network does that this simulation must notice.
    fn spoil(&mut self, out: Port, packet: &mut Packet) {
        if self.sabotage != Some(Sabotage::FlipTsval) || out == Port::Wan {
            return;
        }
        let Some(ip) = Datagram::read(&packet.bytes) else { return };
        let Some(segment) = ip.segment() else { return };
        if packet.damaged || segment.timestamps().is_none() || !self.rng.happens(20) {
            return;
        }
        let options_at = ip.payload_at + 20;
        if let Some(at) = wire::timestamps_at(segment.options) {
            packet.bytes[options_at + at + 5] ^= 1;
            repair(&mut packet.bytes);
        }
    }
}

/// Address queries are sent because of frames, but are not made of them.
pub fn is_address_query(frame: &[u8]) -> bool {
    let solicits = || {
        let ip = frame.get(ETHERNET_LEN..).and_then(Datagram::read);
        ip.is_some_and(|ip| ip.protocol == ICMPV6 && ip.payload().first() == Some(&135))
    };
    word(frame, 12) == ETHERTYPE_ARP || solicits()
}

/// A short datagram was padded to the least length of a frame.
fn trim_padding(bytes: &mut Vec<u8>) {
    if let Some(len) = Datagram::read(bytes).map(|ip| ip.bytes.len()) {
        bytes.truncate(len);
    }
}

/// One line about a frame.
fn describe(frame: &[u8]) -> String {
    let ip = frame.get(ETHERNET_LEN..).and_then(Datagram::read);
    match ip.and_then(|ip| ip.segment()) {
        Some(s) => format!(
            "{} > {} flags {:#x} seq {} ack {} len {} options {:02x?}",
            s.src,
            s.dst,
            s.flags,
            s.seq,
            s.ack,
            s.data.len(),
            s.options
        ),
        None => format!("{:02x?}", &frame[..frame.len().min(100)]),
    }
}
