//! Agents, strict firewalls with NAT, boxes that rewrite or lose, and POPs: all in simulated time,
//! all from one seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyrelay_core::keys::{AgentEntry, AgentKey, AgentKeys, KeyFile, Secret, Tenant, Tenants};
use anyrelay_core::predict::Constants;
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::tunnel::agent::{
    Agent, AgentSetup, Conversation, FlowState, HEADROOM, OutgoingSegment, Received, SendError,
};
use anyrelay_core::tunnel::{PublicToken, TunnelService};
use anyrelay_core::verdict::DropReason;
use anyrelay_kit::nat::{Boxes, Packet, Site};
use anyrelay_kit::rng::Rng;
use anyrelay_kit::tunnel::{self, VIP4, VIP6};

/// What the ways are like.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Lost, doubled, in a thousand, on each of both ways between NAT and POP.
    pub lost: u64,
    pub doubled: u64,
    /// One way takes this many microseconds, and at random up to so many more: that reorders.
    pub delay_us: u64,
    pub jitter_us: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Weather { lost: 0, doubled: 0, delay_us: 10_000, jitter_us: 0 }
    }
}

/// A POP: what differs from the others.
#[derive(Clone, Copy, Debug)]
pub struct Pop {
    pub id: u8,
    pub ahead_ms: i64,
    pub alive: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// To a POP, with the site that it came from.
    Up(usize, usize),
    /// To a site's NAT from outside.
    Down(usize),
}

pub struct World {
    pub rng: Rng,
    pub now_us: u64,
    pub unix_ms: u64,
    pub service: Arc<TunnelService>,
    pub keys: KeyFile,
    pub tenants: Tenants,
    pub pops: Vec<Pop>,
    pub sites: Vec<Site>,
    pub weather: Weather,
    /// Every packet goes to a POP chosen anew; else all go to `route`.
    pub spray: bool,
    pub route: usize,
    pub drops: HashMap<&'static str, u64>,
    pub forwarded: u64,
    /// Packets of agents that left the tunnel.
    pub outside: Vec<Vec<u8>>,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    packets: HashMap<usize, (Event, Packet)>,
    pub count: u64,
}

const CONVERSATION: Conversation = Conversation { session: 7, channel: 9 };

impl World {
    pub fn new(seed: u64, constants: Constants) -> Self {
        let mut rng = Rng(seed);
        let keys = KeyFile::from_random([rng.bytes(), rng.bytes(), rng.bytes()]);
        let agent = |id| AgentEntry { id, name: format!("agent-{id}"), revoked: false };
        let tenants = Tenants {
            tenants: vec![Tenant {
                id: 1,
                name: "acme".into(),
                key: Secret::new(rng.bytes()),
                agents: (0..16).map(agent).collect(),
            }],
        };
        let unix_ms = 1_700_000_000_000 + rng.below(10_000_000_000);
        let mut world = World {
            rng,
            now_us: 1_000_000,
            unix_ms,
            service: Arc::new(tunnel::service(&keys, &tenants, constants)),
            keys,
            tenants,
            pops: vec![Pop { id: 1, ahead_ms: 0, alive: true }],
            sites: Vec::new(),
            weather: Weather::default(),
            spray: false,
            route: 0,
            drops: HashMap::new(),
            forwarded: 0,
            outside: Vec::new(),
            queue: BinaryHeap::new(),
            packets: HashMap::new(),
            count: 0,
        };
        world.rng.next();
        world
    }

    /// POPs whose clocks are ahead of the true one by these milliseconds; each packet goes to any.
    pub fn with_pops(mut self, ahead_ms: &[i64]) -> Self {
        let pop = |(id, ahead_ms): (usize, &i64)| Pop {
            id: id as u8 + 1,
            ahead_ms: *ahead_ms,
            alive: true,
        };
        self.pops = ahead_ms.iter().enumerate().map(pop).collect();
        self.spray = true;
        self
    }

    pub fn agent_key(&self, id: u32) -> AgentKey {
        let tenant = &self.tenants.tenants[0];
        let keys = AgentKeys::new(&self.tenants).unwrap();
        AgentKey { tenant: tenant.id, agent: id, key: keys.get(tenant.id, id).unwrap().clone() }
    }

    pub fn config(&mut self, v6: bool) -> AgentSetup {
        let vip = if v6 { VIP6 } else { VIP4 }.parse().unwrap();
        let key = self.agent_key(self.sites.len() as u32);
        AgentSetup::new(vip, key, self.rng.bytes())
    }

    /// A site with an IPv4 agent; returns its number.
    pub fn add_site(&mut self, boxes: Boxes) -> usize {
        let config = self.config(false);
        self.add_agent(config, boxes)
    }

    pub fn add_agent(&mut self, config: AgentSetup, boxes: Boxes) -> usize {
        let number = self.sites.len();
        let v6 = config.vip.is_ipv6();
        let address = |v4: &str, v6_text: &str| -> IpAddr {
            let text = if v6 { format!("{v6_text}{number:x}") } else { format!("{v4}{number}") };
            text.parse().unwrap()
        };
        let vip = config.vip;
        // The agent's own wall clock is wrong by up to two minutes.
        let wrong = self.rng.below(240_000);
        let now = Now {
            instant: self.instant(),
            unix: UnixTime::from_millis(self.unix_ms + self.now_us / 1000 - 120_000 + wrong),
        };
        let next_port = 20_000 + self.rng.below(20_000) as u16;
        let addresses = [address("10.0.0.1", "fd00::1"), address("192.0.2.1", "2001:db8:1::1")];
        let agent = Agent::new(config, now);
        self.sites.push(Site::new(agent, boxes, addresses, vip, next_port));
        number
    }

    pub fn instant(&self) -> Instant {
        Instant::from_nanos(self.now_us * 1000)
    }

    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    pub fn pop_time(&self, pop: usize) -> UnixTime {
        let ahead_ms = self.pops[pop].ahead_ms;
        UnixTime::from_millis((self.unix_ms + self.now_ms()).wrapping_add_signed(ahead_ms))
    }

    /// Goes on for `ms` milliseconds.
    pub fn run(&mut self, ms: u64) {
        let until_us = self.now_us + ms * 1000;
        loop {
            let timer = (0..self.sites.len()).map(|site| (self.timer_us(site), site)).min();
            let packet_us = self.queue.peek().map(|Reverse((at, ..))| *at);
            match (timer, packet_us) {
                (timer, Some(at))
                    if at <= until_us && timer.is_none_or(|(other, _)| at <= other) =>
                {
                    self.now_us = self.now_us.max(at);
                    let Some(Reverse((_, _, key))) = self.queue.pop() else { break };
                    if let Some((event, packet)) = self.packets.remove(&key) {
                        self.handle(event, packet);
                    }
                }
                (Some((at, site)), _) if at <= until_us => {
                    self.now_us = self.now_us.max(at);
                    self.poll(site);
                }
                _ => break,
            }
        }
        self.now_us = until_us;
    }

    fn timer_us(&self, site: usize) -> u64 {
        let site = &self.sites[site];
        // Rounded up: a timer that is due within this microsecond is polled after it.
        let timer_us = site.agent.next_timer().as_nanos().div_ceil(1000);
        timer_us.max(self.now_us).max(site.asleep_until_ms * 1000)
    }

    pub fn poll(&mut self, site: usize) {
        let now = self.instant();
        let mut out = Vec::new();
        self.sites[site].agent.poll(now, &mut collect(&mut out));
        self.leave(site, out);
    }

    /// Runs until the agent is ready; panics after a simulated minute.
    pub fn run_until_ready(&mut self, site: usize) {
        for _ in 0..6000 {
            if self.sites[site].agent.status(self.instant()).state == FlowState::Ready {
                return;
            }
            self.run(10);
        }
        let status = self.sites[site].agent.status(self.instant());
        panic!("site {site} not ready: {status:#?}, drops {:?}", self.drops);
    }

    /// Sends a body from one site to another's token.
    pub fn send(&mut self, from: usize, to: &PublicToken, body: &[u8]) -> Result<(), SendError> {
        let now = self.instant();
        let mut buffer = vec![0xee; HEADROOM];
        buffer.extend_from_slice(body);
        let mut out = Vec::new();
        let sent = self.sites[from]
            .agent
            .send(now, to, CONVERSATION, &mut buffer, HEADROOM, &mut collect(&mut out))
            .map(|outgoing| (outgoing.port, outgoing.segment.to_vec()));
        out.extend(sent.as_ref().ok().cloned());
        self.leave(from, out);
        sent.map(|_| ())
    }

    pub fn token(&self, site: usize) -> PublicToken {
        self.sites[site].agent.token().expect("has a token")
    }

    /// Segments leave an agent: over its NAT and on.
    pub fn leave(&mut self, site: usize, segments: Vec<(u16, Vec<u8>)>) {
        let now_ms = self.now_ms();
        for (port, tcp) in segments {
            let here = &mut self.sites[site];
            let src = SocketAddr::new(here.local, port);
            let mut packet = Packet { src, dst: here.vip, tcp };
            if here.spoil_up.is_some_and(|spoil| !spoil(&mut self.rng, &mut packet)) {
                continue;
            }
            match packet.payload().first().map(|first| first >> 4) {
                Some(1) => here.last_keepalive = Some(packet.clone()),
                Some(3 | 5) => here.last_data = Some(packet.clone()),
                _ => {}
            }
            if here.cut[0] {
                continue;
            }
            if let Some(packet) = self.sites[site].outwards(now_ms, &mut self.rng, packet) {
                let pop = self.sites[site].route.unwrap_or_else(|| self.choose_pop());
                self.travel(Event::Up(pop, site), packet);
            }
        }
    }

    fn choose_pop(&mut self) -> usize {
        if !self.spray {
            return self.route;
        }
        self.rng.below(self.pops.len() as u64) as usize
    }

    pub fn travel(&mut self, event: Event, packet: Packet) {
        let Weather { lost, doubled, delay_us, jitter_us } = self.weather;
        if self.rng.happens(lost) {
            return;
        }
        let copies = 1 + usize::from(self.rng.happens(doubled));
        for _ in 0..copies {
            self.count += 1;
            let at = self.now_us + delay_us + self.rng.below(jitter_us + 1);
            let key = self.count as usize;
            let event = match &event {
                Event::Up(pop, site) => Event::Up(*pop, *site),
                Event::Down(site) => Event::Down(*site),
            };
            self.packets.insert(key, (event, packet.clone()));
            self.queue.push(Reverse((at, self.count, key)));
        }
    }

    fn handle(&mut self, event: Event, packet: Packet) {
        match event {
            Event::Up(pop, site) => {
                let alive = self.pops[pop].alive;
                let now = self.pop_time(pop);
                let id = self.pops[pop].id;
                let answer = match alive {
                    true => tunnel::answer(&self.service, now, id, &packet),
                    false => return,
                };
                match answer {
                    Ok(Some(answer)) => {
                        self.forwarded += u64::from(answer.is_data());
                        let to = self.sites.iter().position(|s| s.public_ip == answer.dst.ip());
                        self.travel(Event::Down(to.unwrap_or(site)), answer);
                    }
                    Ok(None) => {}
                    // The POP of the kit knows no hosts outside. All else was checked before.
                    Err(DropReason::OpenDestination) => {
                        self.outside.push(packet.payload()[4..].to_vec());
                    }
                    Err(reason) => *self.drops.entry(reason.label()).or_default() += 1,
                }
            }
            Event::Down(site) => self.arrive(site, packet),
        }
    }

    /// A segment comes to a site from outside.
    pub fn arrive(&mut self, site: usize, mut packet: Packet) {
        let spoil = self.sites[site].spoil_down;
        if spoil.is_some_and(|spoil| !spoil(&mut self.rng, &mut packet)) {
            return;
        }
        if self.sites[site].cut[1] {
            return;
        }
        let now_ms = self.now_ms();
        let Some(packet) = self.sites[site].inwards(now_ms, packet) else { return };
        let here = &mut self.sites[site];
        match &mut here.caught {
            Some(caught) => caught.push(packet),
            None if here.deaf => {}
            None => self.deliver(site, &packet),
        }
    }

    /// A segment comes to the agent itself.
    pub fn deliver(&mut self, site: usize, packet: &Packet) {
        let now_ms = self.now_ms();
        if self.sites[site].asleep_until_ms > now_ms || packet.dst.ip() != self.sites[site].local {
            return;
        }
        let now = self.instant();
        let mut out = Vec::new();
        let here = &mut self.sites[site];
        match here.agent.receive(now, &packet.tcp, &mut collect(&mut out)) {
            Some(Received::Datagram(received)) => {
                here.strange += u64::from(received.conversation != CONVERSATION);
                here.received.push((now_ms, received.body.to_vec(), received.from));
            }
            Some(Received::Open(packet)) => here.opened.push((now_ms, packet.to_vec())),
            None => {}
        }
        self.leave(site, out);
    }
}

/// Collects what an agent sends.
pub fn collect(out: &mut Vec<(u16, Vec<u8>)>) -> impl FnMut(OutgoingSegment<'_>) {
    |outgoing| out.push((outgoing.port, outgoing.segment.to_vec()))
}
