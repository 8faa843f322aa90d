//! Hosts outside of the tunnel, and what is behind agents: connections between a host of the IPv6
//! Internet and the open address of an agent (`docs/protocol-tunnel.md`, sections 17 to 19). Both
//! ends are stock TCP stacks, and either may begin.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyrelay_core::tunnel::agent::{OPEN_HEADROOM, OpenSendError};
use anyrelay_kit::frames::addresses;
use anyrelay_kit::rng::Rng;
use anyrelay_kit::tunnel::open::{OpenSegment, check_down, check_error, check_onward};

use crate::app::{Ending, NUMBER_LEN, Plan, Progress};
use crate::host::Stack;
use crate::middlebox::Habits;
use crate::network::Packet;
use crate::scenario::Scenario;
use crate::setup::{OPEN_PREFIX, OPEN_SOURCE, Port, TUNNEL4};
use crate::stamps::Origin;
use crate::traits::Traits;
use crate::tunnel::collect;
use crate::wire::{Datagram, SegmentView};
use crate::world::{Event, World};

/// All connections over open addresses.
#[derive(Default)]
pub(crate) struct OpenTalks {
    talks: Vec<Talk>,
    plans: Vec<Plan>,
    progress: Vec<Progress>,
    /// Those that are to begin yet.
    waiting: u64,
}

/// A connection.
struct Talk {
    /// The agent's site.
    site: usize,
    /// The host behind the agent, and the one outside; `None` once it has nothing left to do.
    ends: [Option<Stack>; 2],
    own: SocketAddr,
    /// The agent has another address by now, as its NAT may have given it another port.
    is_lost: bool,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Agent = 0,
    Outside = 1,
}

impl OpenTalks {
    /// Whether all have begun and come to their end.
    pub fn are_over(&self) -> bool {
        let done =
            |(talk, progress): (&Talk, &Progress)| talk.is_lost || progress.finished_us.is_some();
        self.waiting == 0 && self.talks.iter().zip(&self.progress).all(done)
    }

    /// How many there were, and how many of them over an address of the second epoch, and over one
    /// that its agent lost.
    pub fn counts(&self) -> [u64; 3] {
        let is_second = |talk: &Talk| match talk.own.ip() {
            IpAddr::V6(ip) => ip.to_bits() >> PARITY_AT & 1 == 1,
            IpAddr::V4(_) => false,
        };
        let count = |is: &dyn Fn(&Talk) -> bool| self.talks.iter().filter(|talk| is(talk)).count();
        [count(&|_| true), count(&is_second), count(&|talk| talk.is_lost)].map(|n| n as u64)
    }

    /// The connection that a segment is of, where it comes to that end.
    fn of(&self, end: End, segment: &SegmentView<'_>) -> Option<usize> {
        self.talks.iter().zip(&self.plans).position(|(talk, plan)| {
            let (agent, outside) = (talk.own, plan.client);
            let ends = match end {
                End::Agent => (agent, outside),
                End::Outside => (outside, agent),
            };
            ends == (segment.dst, segment.src)
        })
    }
}

impl Scenario {
    /// Makes it a run with connections over open addresses, and with agents for them.
    pub(crate) fn open(&mut self, rng: &mut Rng) {
        self.sites = vec![false];
        self.sites.extend((0..1 + rng.below(2)).map(|_| rng.happens(300)));
        self.talks = 4 + rng.below(12);
    }
}

impl World {
    /// Draws when connections over open addresses begin: some of them after the second epoch has.
    pub(crate) fn add_talks(&mut self, count: u64) {
        self.talks.waiting = count;
        for _ in 0..count {
            let at_us = self.rng.below(self.tunnels.sent_until_us);
            self.queue.push(at_us, Event::Talk);
        }
    }

    /// A connection begins, if an agent has an open address already.
    pub(crate) fn begin_talk(&mut self) {
        let sites = self.tunnels.sites.len() as u64;
        let site = self.rng.below(sites) as usize;
        let address = self.tunnels.sites[site].agent.open_addresses().current;
        let Some(address) = address else {
            self.queue.push(self.now_us + 300_000, Event::Talk);
            return;
        };
        let number = self.talks.talks.len();
        let own = SocketAddr::new(address.into(), 1 + self.rng.below(65_535) as u16);
        let host = Ipv6Addr::new(0x2600, 5, 0, 0, 0, 0, 0, number as u16 + 1);
        let outside = SocketAddr::new(host.into(), 1 + self.rng.below(65_535) as u16);
        let plan = self.talk_plan(outside);
        // The host outside is the client, or else that of the agent.
        let agent_begins = self.rng.happens(500);
        let target = Traits { mtu: plan.traits.mtu, ..Traits::random(&mut self.rng, host.into()) };
        let ends = [(own, outside), (outside, own)];
        let (client, target_ends) =
            if agent_begins { (ends[0], ends[1]) } else { (ends[1], ends[0]) };
        let stacks = Stack::client(number, client, plan.traits, self.now_us)
            .and_then(|client| Ok((client, Stack::target(target_ends, target, self.now_us)?)));
        let (client, target) = match stacks {
            Ok(stacks) => stacks,
            Err(error) => return self.fail(error),
        };
        let stacks = if agent_begins { [client, target] } else { [target, client] };
        self.talks.waiting -= 1;
        self.talks.talks.push(Talk { site, ends: stacks.map(Some), own, is_lost: false });
        self.talks.plans.push(plan);
        self.talks.progress.push(Progress { started: true, ..Progress::default() });
        self.run_talk(number, if agent_begins { End::Agent } else { End::Outside });
    }

    fn talk_plan(&mut self, outside: SocketAddr) -> Plan {
        let mut size = || match self.rng.below(8) {
            0 => 0,
            1..6 => self.rng.below(5_000) as u32,
            _ => self.rng.below(60_000) as u32,
        };
        let (up, down) = (size() + NUMBER_LEN, size());
        let traits = Traits::random(&mut self.rng, outside.ip());
        // What fits into the tunnel, or the least that IPv6 has.
        let mtu = self.rng.pick(&[1280, 1356]) as usize;
        Plan {
            client: outside,
            service: 0,
            start_us: self.now_us,
            after: None,
            up,
            down: down.min(40 * traits.buffer as u32),
            rounds: 1 + self.rng.below(4) as u32,
            rest_us: if self.rng.happens(300) { 1 + self.rng.below(8_000_000) } else { 0 },
            ending: self.rng.pick(&[Ending::ClientCloses, Ending::TargetCloses]),
            may_be_refused: false,
            traits: Traits { mtu, ..traits },
            habits: Habits::random(&mut self.rng, false),
        }
    }

    /// A timer of an end is due, unless the event is out of date.
    pub(crate) fn talk_due(&mut self, talk: usize, end: End) {
        let stack = self.talks.talks[talk].ends[end as usize].as_ref();
        if stack.and_then(|stack| stack.due_us).is_some_and(|at| at <= self.now_us) {
            self.run_talk(talk, end);
        }
    }

    fn run_talk(&mut self, number: usize, end: End) {
        let OpenTalks { talks, plans, progress, .. } = &mut self.talks;
        let talk = &mut talks[number];
        let Some(stack) = talk.ends[end as usize].as_mut().filter(|_| !talk.is_lost) else {
            return;
        };
        let (due_before, mut out) = (stack.due_us, Vec::new());
        let ran = stack.run(self.now_us, plans, progress, &mut out);
        let (plan, progress) = (&plans[number], &mut progress[number]);
        let gone = stack.gone(progress).filter(|_| stack.number.is_some());
        let place =
            if stack.is_client { &mut progress.client_gone } else { &mut progress.target_gone };
        *place = place.or(gone);
        if progress.finished_us.is_none() && plan.is_over(progress) {
            progress.finished_us = Some(self.now_us);
        }
        let wrong = plan.judge(progress).map(|wrong| format!("{wrong}: {plan:?} {progress:?}"));
        if stack.is_over() {
            talk.ends[end as usize] = None;
        } else if let Some(due_us) = stack.due_us.filter(|due| Some(*due) != due_before) {
            self.queue.push(due_us, Event::TalkEnd(number, end));
        }
        if let Some(text) = ran.err().or(wrong) {
            return self.fail(format!("open connection {number}: {text}"));
        }
        for bytes in out {
            match end {
                End::Agent => self.send_from_agent(number, &bytes),
                End::Outside => self.send_from_outside(bytes),
            }
        }
    }

    fn send_from_outside(&mut self, bytes: Vec<u8>) {
        let origin = Origin { stamps: None, sent_us: self.now_us };
        let pop = self.route(Port::Wan, &bytes);
        self.send(Packet::new(bytes, origin), |packet| Event::ToPop(pop, Port::Wan, packet));
    }

    /// The host behind an agent sends a packet: it goes into the tunnel.
    fn send_from_agent(&mut self, number: usize, packet: &[u8]) {
        let site = self.talks.talks[number].site;
        let mut buffer = vec![0xee; OPEN_HEADROOM];
        buffer.extend_from_slice(packet);
        let (now, mut out) = (self.instant(), Vec::new());
        let agent = &mut self.tunnels.sites[site].agent;
        let sent = agent
            .send_open(now, &mut buffer, OPEN_HEADROOM, &mut collect(&mut out))
            .map(|outgoing| (outgoing.port, outgoing.segment.to_vec()));
        match sent {
            Ok(segment) => out.push(segment),
            Err(OpenSendError::NotReady) => {}
            // It has another address now, and what was begun with the old one is over.
            Err(OpenSendError::Source) => self.talks.talks[number].is_lost = true,
            Err(error) => self.fail(format!("open connection {number}: {error}")),
        }
        self.leave(site, out, None);
    }

    /// An agent gives its host a packet.
    pub(crate) fn arrive_behind_agent(&mut self, site: usize, packet: &[u8]) {
        let read = Datagram::read(packet);
        // Damage of the packet is the host's to find, and parts are none that it waits for.
        let Some(segment) = read.as_ref().and_then(Datagram::segment) else { return };
        match self.talks.of(End::Agent, &segment) {
            Some(talk) if self.talks.talks[talk].site == site => {
                self.deliver_to_end(talk, End::Agent, &segment, packet);
            }
            _ if !segment.checksum_holds => {}
            _ => self.fail(format!("site {site} gets a packet of {} to nobody", segment.src)),
        }
    }

    /// A segment comes to a host outside, if it is one to such a host.
    pub(crate) fn arrive_outside(&mut self, segment: &SegmentView<'_>, bytes: &[u8]) -> bool {
        let Some(talk) = self.talks.of(End::Outside, segment) else { return false };
        self.deliver_to_end(talk, End::Outside, segment, bytes);
        true
    }

    fn deliver_to_end(&mut self, talk: usize, end: End, segment: &SegmentView<'_>, bytes: &[u8]) {
        if let Some(stack) = &mut self.talks.talks[talk].ends[end as usize] {
            stack.receive(segment, bytes.to_vec());
            self.run_talk(talk, end);
        }
    }

    /// Checks a datagram that a POP sent for the open side because of the datagram `came`. `None`
    /// when neither is of it.
    pub(crate) fn check_open(&self, came: &[u8], sent: &[u8]) -> Option<Result<(), &'static str>> {
        if is_to_agent(came) {
            return Some(self.check_to_agent(came, sent));
        }
        let up = OpenSegment::read(came).filter(|up| !up.is_down && TUNNEL4 == up.dst.into())?;
        if OpenSegment::read(sent).is_some_and(|down| down.is_down) {
            // Agents do not send to each other here: it is an error about the packet.
            let (error, down) = (&sent[44..], check_down(sent));
            return Some(down.and_then(|()| check_error(error, OPEN_SOURCE.to_bits(), up.inner)));
        }
        let (src, _) = addresses(up.inner)?;
        let (from, _) = addresses(came)?;
        if !self.owns(src, from) {
            return Some(Err("an agent sends from another's open address"));
        }
        Some(check_onward(up.inner, sent, Some(up.class)))
    }

    fn check_to_agent(&self, came: &[u8], sent: &[u8]) -> Result<(), &'static str> {
        let (Some((_, own)), Some((_, to))) = (addresses(came), addresses(sent)) else {
            return Err("no datagram");
        };
        let Some(down) = OpenSegment::read(sent).filter(|down| down.is_down) else {
            return check_error(sent, OPEN_SOURCE.to_bits(), came);
        };
        check_down(sent)?;
        check_onward(came, down.inner, None)?;
        match self.owns(own, to) {
            true => Ok(()),
            false => Err("a packet goes to another agent than its address says"),
        }
    }

    /// Whether an address is one of an agent behind that NAT. Damaged ones are nobody's.
    fn owns(&self, address: IpAddr, nat: IpAddr) -> bool {
        let sites = self.talks.talks.iter().filter(|talk| talk.own.ip() == address);
        sites.map(|talk| self.tunnels.sites[talk.site].public_ip).all(|ip| ip == nat)
    }

    /// Nothing may be left undone.
    pub(crate) fn judge_talks(&mut self) {
        let both = self.talks.talks.iter().zip(&self.talks.progress);
        let undone =
            |(talk, progress): &(&Talk, &Progress)| !talk.is_lost && progress.finished_us.is_none();
        if let Some((number, (_, progress))) = both.enumerate().find(|(_, both)| undone(both)) {
            let plan = &self.talks.plans[number];
            self.fail(format!("open connection {number} is not over: {plan:?} {progress:?}"));
        } else if self.talks.waiting > 0 {
            self.fail("an open connection never began".into());
        }
    }
}

/// Whether the datagram is for an open address. Its contents may be anything.
pub fn is_to_agent(datagram: &[u8]) -> bool {
    let Some((_, IpAddr::V6(dst))) = addresses(datagram) else { return false };
    dst.to_bits() >> PREFIX_SHIFT == OPEN_PREFIX.to_bits() >> PREFIX_SHIFT
}

/// Whether the datagram is from an open address.
pub fn is_from_agent(datagram: &[u8]) -> bool {
    let Some((IpAddr::V6(src), _)) = addresses(datagram) else { return false };
    src.to_bits() >> PREFIX_SHIFT == OPEN_PREFIX.to_bits() >> PREFIX_SHIFT
}

/// Whether the datagram is of an open side: for an open address, or a segment from one.
pub fn is_open(datagram: &[u8]) -> bool {
    let is_up = |up: &OpenSegment<'_>| !up.is_down && TUNNEL4 == up.dst.into();
    is_to_agent(datagram) || OpenSegment::read(datagram).as_ref().is_some_and(is_up)
}

/// Of the /48 in [`OPEN_PREFIX`].
const PREFIX_SHIFT: u32 = 80;
/// The bit that says whether the epoch of an address is odd.
const PARITY_AT: u32 = 79;
