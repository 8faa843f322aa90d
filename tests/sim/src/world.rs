//! A run: what happens, in the order of simulated time, until all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyrelay_core::keys::Secret;
use anyrelay_core::time::UnixTime;
use anyrelay_kit::pop::Recorder;
use anyrelay_kit::rng::Rng;

use crate::app::{Ending, Gone, Plan, Progress};
use crate::checks::Memory;
use crate::hints::{HintDatagram, HintNet};
use crate::host::Stack;
use crate::limits::Syns;
use crate::middlebox::Middlebox;
use crate::mutants::{Mutant, Teller};
use crate::network::{Packet, Weather};
use crate::open::{End, OpenTalks};
use crate::pops::SimPop;
use crate::report::{Counts, Record};
use crate::scenario::{Deed, Routing, Scenario, Twins};
use crate::setup::{Port, Revision, Setup};
use crate::stamps::Stamps;
use crate::strays::Strays;
use crate::told::Paths;
use crate::tunnel::Tunnels;
use crate::{Options, Sabotage};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram comes to a port of a POP.
    ToPop(usize, Port, Packet),
    /// A frame of the router's own does.
    Frame(usize, Port, Vec<u8>),
    /// A worker looks at a port of a POP.
    Burst(usize, Port),
    /// A datagram comes to a host.
    ToHost(Packet),
    /// A timer of a stack is due.
    Stack(usize),
    /// A timer of an agent is.
    Agent(usize),
    /// An agent sends something.
    Exchange,
    /// A connection begins.
    Start(usize),
    /// One over an open address does.
    Talk,
    /// A timer of an end of such a one is due.
    TalkEnd(usize, End),
    /// What a POP does without a frame.
    Poll(usize),
    Deed(usize, Deed),
    /// Routes change.
    Flip,
    /// Somebody sends what he must not.
    Forge,
    /// A POP tells the others of refusals.
    SendHints(usize),
    /// A datagram of hints comes to a POP.
    Hints(usize, HintDatagram),
    /// Somebody without the key sends one.
    ForgeHints,
    /// Faults end.
    Calm,
}

/// A run.
pub(crate) struct World {
    pub rng: Rng,
    pub now_us: u64,
    pub unix_ms: u64,
    pub queue: crate::queue::Queue<Event>,
    pub setup: Setup,
    pub weather: Weather,
    pub routing: Routing,
    pub flip_us: u64,
    pub calm_us: u64,
    pub exotic: u64,
    /// What routes depend on: the POP of each direction, or the key of a hash.
    pub routes: [u64; 2],
    pub pops: Vec<SimPop>,
    /// Datagrams that came to each POP's ports since a worker looked.
    pub waiting: Vec<[Vec<Packet>; 2]>,
    /// How long they wait.
    pub poll_us: u64,
    pub sink: Recorder,
    pub sinks: Vec<Recorder>,
    pub judged: Recorder,
    pub syns: Syns,
    pub hints: HintNet,
    pub strays: Strays,
    pub teller: Option<Teller>,
    /// Egress endpoint and number of SYNs that late targets have refused.
    pub refused_once: BTreeSet<(SocketAddr, u32)>,
    pub memory: Memory,
    pub plans: Vec<Plan>,
    pub twins: Option<Twins>,
    pub progress: Vec<Progress>,
    /// Connections that are not over.
    pub open: usize,
    pub stacks: Vec<Option<Stack>>,
    pub by_ends: BTreeMap<(SocketAddr, SocketAddr), usize>,
    /// What stacks that are gone saw of timestamps.
    pub old_stamps: BTreeMap<(SocketAddr, SocketAddr), Stamps>,
    /// What is in front of each client.
    pub boxes: BTreeMap<SocketAddr, Middlebox>,
    pub tunnels: Tunnels,
    pub talks: OpenTalks,
    pub record: Record,
    pub sabotage: Option<Sabotage>,
    pub only_hosts_judge: bool,
    pub failure: Option<String>,
    pub paws_rejects: u64,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64, options: &Options) -> Result<Self, String> {
        let (scenario, mut rng) = Scenario::new(seed)?;
        let (mut setup, unix_ms) = (scenario.setup, scenario.unix_ms);
        let current_ms = unix_ms + scenario.calm_us / 1000 + 3000 + rng.below(5000);
        let (secret, now) = (Secret::new(rng.bytes()), UnixTime::from_millis(unix_ms));
        let rotated = setup.keys.tokens.rotated(secret, UnixTime::from_millis(current_ms), now);
        setup.rotated = Some(rotated.map_err(|error| error.to_string())?);
        let mut other = setup.keys.clone();
        if options.sabotage == Some(Sabotage::DifferentKeys) {
            other.relay = Secret::new(rng.bytes());
        }
        let mutant = options.sabotage.and_then(Mutant::new);
        let mut pops = Vec::new();
        for (index, ahead_ms) in scenario.ahead_ms.iter().enumerate() {
            let keys = if index == 0 { &setup.keys } else { &other };
            let revision = Revision { version: 0, known: scenario.known[index] };
            let mut pop = SimPop::new(&setup, index, revision, (keys, mutant.clone()))?;
            (pop.ahead_ms, pop.up_since_us) = (*ahead_ms, up_since_us(&mut rng));
            pops.push(pop);
        }
        let count = scenario.plans.len();
        let is_forgetful = setup.memo.is_some();
        let mut world = World {
            now_us: 0,
            unix_ms,
            queue: crate::queue::Queue::new(),
            weather: scenario.weather,
            routing: scenario.routing,
            flip_us: scenario.flip_us,
            calm_us: scenario.calm_us,
            exotic: scenario.exotic,
            routes: [rng.next(), rng.next()],
            pops,
            waiting: scenario.ahead_ms.iter().map(|_| Default::default()).collect(),
            poll_us: scenario.poll_us,
            sink: Recorder::default(),
            sinks: Vec::new(),
            judged: Recorder::default(),
            syns: Syns::default(),
            hints: HintNet::new(scenario.hint_weather, scenario.ahead_ms.len(), &mut rng)?,
            strays: scenario.strays,
            refused_once: BTreeSet::new(),
            teller: options.sabotage.and_then(Teller::new),
            memory: Memory::new(is_forgetful),
            plans: scenario.plans,
            twins: scenario.twins,
            progress: vec![Progress::default(); count],
            open: count,
            stacks: Vec::new(),
            by_ends: BTreeMap::new(),
            old_stamps: BTreeMap::new(),
            boxes: BTreeMap::new(),
            tunnels: Tunnels::default(),
            talks: OpenTalks::default(),
            record: Record::new(options.record),
            sabotage: options.sabotage,
            only_hosts_judge: options.only_hosts_judge,
            failure: None,
            paws_rejects: 0,
            counts: Counts::default(),
            rng,
            setup,
        };
        for pop in 0..world.pops.len() {
            let at_us = world.rng.below(100_000);
            world.queue.push(at_us, Event::Poll(pop));
        }
        for (number, plan) in world.plans.iter().enumerate() {
            match plan.after {
                None => world.queue.push(plan.start_us, Event::Start(number)),
                // It may never begin.
                Some(_) => world.open -= usize::from(!world.is_awaited(number)),
            }
        }
        for (at_us, pop, deed) in scenario.deeds {
            world.queue.push(at_us, Event::Deed(pop, deed));
        }
        for _ in 0..scenario.forged {
            let at_us = world.rng.below(world.calm_us);
            world.queue.push(at_us, Event::Forge);
        }
        for _ in 0..scenario.forged_hints {
            let at_us = world.rng.below(world.calm_us);
            world.queue.push(at_us, Event::ForgeHints);
        }
        world.queue.push(world.flip_us, Event::Flip);
        world.queue.push(world.calm_us, Event::Calm);
        world.add_sites(&scenario.sites)?;
        world.add_talks(scenario.talks);
        Ok(world)
    }

    /// Runs until all is over, or something failed.
    pub fn run(&mut self) {
        let deadline_us = self.calm_us + PATIENCE_US;
        let mut over_us = None;
        while let Some((at_us, event)) = self.queue.pop() {
            self.now_us = at_us;
            self.handle(event);
            let until_us = self.tunnels.until_us.max(self.strays.until_us);
            let done = self.open == 0 && self.talks.are_over();
            let over = done && at_us > self.calm_us && at_us > until_us;
            if self.failure.is_some() {
                return;
            }
            // What is still on its way may yet come to the wrong place.
            let since_us = *over_us.get_or_insert(at_us);
            if !over {
                over_us = None;
            } else if at_us > since_us + LINGER_US {
                break;
            }
            if at_us > deadline_us {
                break;
            }
        }
        self.judge_end();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToPop(pop, port, packet) => self.enter_pop(pop, port, packet),
            Event::Burst(pop, port) => self.burst(pop, port),
            Event::Frame(pop, port, frame) => self.answer_pop(pop, port, &frame),
            Event::ToHost(packet) => self.arrive(packet),
            Event::Stack(index) => self.stack_due(index),
            Event::Agent(site) => self.agent_due(site),
            Event::Exchange => self.exchange(),
            Event::Start(number) => self.start(number),
            Event::Talk => self.begin_talk(),
            Event::TalkEnd(talk, end) => self.talk_due(talk, end),
            Event::Poll(pop) => self.poll_pop(pop),
            Event::Deed(pop, deed) => self.do_to_pop(pop, deed),
            Event::Flip if self.routing == Routing::Steady => {}
            Event::Flip => {
                self.routes[self.rng.below(2) as usize] = self.rng.next();
                let next_us = self.now_us + 1 + self.rng.below(2 * self.flip_us);
                self.queue.push(next_us, Event::Flip);
            }
            Event::Forge => self.forge(),
            Event::SendHints(pop) => self.send_hints(pop),
            Event::Hints(pop, datagram) => self.take_hints(pop, &datagram),
            Event::ForgeHints => self.forge_hints(),
            Event::Calm => {
                self.weather = self.weather.calm();
                self.hints.calm();
                // A rollout comes to its end.
                let newest =
                    self.pops.iter().map(|pop| pop.revision.version).max().unwrap_or(0).max(1);
                for pop in 0..self.pops.len() {
                    self.do_to_pop(pop, Deed::Reload(newest));
                }
            }
        }
    }

    /// Sends a datagram through the network; what arrives becomes an event.
    pub fn send(&mut self, packet: Packet, event: impl Fn(Packet) -> Event) {
        let (now_us, body) = (self.now_us, packet.body);
        let mut arrived = 0;
        let queue = &mut self.queue;
        self.weather.pass(&mut self.rng, packet, &mut |after_us, packet| {
            arrived += 1;
            queue.push(now_us + after_us, event(packet));
        });
        if arrived == 0
            && let Some(body) = body
        {
            self.tunnels.excuse(body);
        }
    }

    /// A datagram was lost by the network, or is about to be.
    pub fn excuse(&mut self, packet: &Packet) {
        if let Some(body) = packet.body {
            self.tunnels.excuse(body);
        }
    }

    /// The POP that a datagram meets.
    pub fn route(&mut self, port: Port, bytes: &[u8]) -> usize {
        let count = self.pops.len() as u64;
        let key = self.routes[port as usize];
        let number = match self.routing {
            Routing::Spray => self.rng.below(count),
            Routing::Flips | Routing::Steady => key % count,
            Routing::Hashed => {
                let ends = bytes.iter().skip(12).take(12);
                let hash = ends.fold(key, |hash, byte| {
                    (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
                });
                (hash >> 32) % count
            }
        };
        number as usize
    }

    /// Something is wrong; the first time counts.
    pub fn fail(&mut self, text: String) {
        self.failure.get_or_insert_with(|| format!("at {:.6} s: {text}", self.now_us as f64 / 1e6));
    }

    pub fn site_at(&self, ip: IpAddr) -> Option<usize> {
        self.tunnels.sites.iter().position(|site| site.public_ip == ip)
    }

    /// Nothing may be left undone.
    fn judge_end(&mut self) {
        let clients = std::mem::take(&mut self.memory.collided);
        for number in 0..self.plans.len() {
            let (plan, mut progress) = (self.plans[number], self.progress[number]);
            progress.excused |= progress.forgotten_us.is_some_and(|at_us| self.now_us > at_us);
            let told = progress.client_gone == Some(Gone::Reset);
            let excused = progress.collided || progress.excused || clients.contains(&plan.client);
            // Without hints a RST may wait at another POP than the client meets; a limit may stop
            // SYNs until they are further apart than a RST waits; and a small memo forgets.
            let apart = matches!(self.paths(), Paths::Apart | Paths::Changing);
            let bounded = self.setup.syn_limit.is_some() || self.setup.memo.is_some();
            let elsewhere = apart || bounded;
            let may_wait = match plan.ending {
                Ending::Refused => elsewhere || told,
                Ending::TargetVanishes(_) => elsewhere && progress.target_gone.is_some(),
                _ => false,
            } && self.setup.services[plan.service].has_refusals();
            let began = progress.started || plan.after.is_none();
            if progress.finished_us.is_none() && began && !excused && !may_wait {
                self.fail(format!("connection {number} is not over: {plan:?} {progress:?}"));
            }
        }
        self.judge_tunnels();
        self.judge_talks();
        for pop in 0..self.pops.len() {
            if let Err(text) = self.pops[pop].judge_counters() {
                self.fail(text);
            }
        }
    }
}

/// How long a POP's machine is up: in half of the cases so long that within seconds its monotonic
/// clock, in some unit, needs another bit than 31, 32, or 63.
fn up_since_us(rng: &mut Rng) -> u64 {
    let soon = match rng.below(10) {
        0 => 1 << 31,
        1 => 1 << 32,
        2 => 1000 << 31,
        3 => 1000 << 32,
        4 => (1 << 63) / 1000,
        _ => return rng.below(1 << 40),
    };
    soon - rng.below(20_000_000)
}

/// How long after the last fault everything must be over, in microseconds: a few of the longest
/// time-outs of smoltcp.
const PATIENCE_US: u64 = 400_000_000;
const LINGER_US: u64 = 700_000;
