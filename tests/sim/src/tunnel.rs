//! The agents' part of a run: each behind the kit's model of a NAT with a strict firewall.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::keys::{AgentKey, AgentKeys};
use anyrelay_core::predict::{self, Constants, Predictor};
use anyrelay_core::seq::SeqNum;
use anyrelay_core::time::{Instant, Now, UnixTime};
use anyrelay_core::tunnel::PublicToken;
use anyrelay_core::tunnel::agent::{
    Agent, AgentSetup, Conversation, HEADROOM, OutgoingSegment, Received,
};
use anyrelay_kit::frames::{ACK, PSH, Segment, TCP, datagram};
use anyrelay_kit::nat::{self, Boxes, Rules, Site, summary};

use crate::network::Packet;
use crate::setup::{Port, TUNNEL4, TUNNEL6};
use crate::stamps::Origin;
use crate::wire::SegmentView;
use crate::world::{Event, World};

/// All agents, and the datagrams that they send each other.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    pub sites: Vec<Site>,
    /// When the last datagram has arrived or been lost.
    pub until_us: u64,
    pub sent_until_us: u64,
    due_us: Vec<u64>,
    bodies: Vec<Body>,
}

/// A datagram of one agent to another.
#[derive(Debug)]
struct Body {
    to: usize,
    len: usize,
    arrived: u32,
    /// The network lost one of its copies.
    excused: bool,
}

impl Tunnels {
    pub fn excuse(&mut self, body: u32) {
        self.bodies[body as usize].excused = true;
    }

    pub fn sent(&self) -> u64 {
        self.bodies.len() as u64
    }
}

impl World {
    pub(crate) fn add_sites(&mut self, sites: &[bool]) -> Result<(), String> {
        if sites.is_empty() {
            return Ok(());
        }
        let keys = AgentKeys::new(&self.setup.tenants).map_err(|error| error.to_string())?;
        for (number, v6) in sites.iter().enumerate() {
            let agent = number as u32;
            let key = keys.get(1, agent).ok_or("an agent without a key")?.clone();
            let site = self.site(number, *v6, AgentKey { tenant: 1, agent, key });
            self.tunnels.sites.push(site);
            self.tunnels.due_us.push(u64::MAX);
            let start_us = 200_000 + self.rng.below(3_000_000);
            self.queue.push(start_us, Event::Agent(number));
            self.tunnels.due_us[number] = start_us;
        }
        self.tunnels.sent_until_us = self.calm_us + 20_000_000 + self.rng.below(20_000_000);
        self.tunnels.until_us = self.tunnels.sent_until_us + 2_000_000;
        self.queue.push(4_000_000, Event::Exchange);
        Ok(())
    }

    fn site(&mut self, number: usize, v6: bool, key: AgentKey) -> Site {
        let vip = if v6 { TUNNEL6 } else { TUNNEL4 };
        let host = number as u8 + 1;
        let (local, public_ip): (IpAddr, IpAddr) = match v6 {
            false => {
                (Ipv4Addr::new(10, 9, host, 2).into(), Ipv4Addr::new(198, 18, 200, host).into())
            }
            true => (
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, host.into()).into(),
            ),
        };
        // The agent's own wall clock is wrong by up to two minutes.
        let wrong_ms = self.rng.below(240_000);
        let now = Now {
            instant: Instant::from_millis(0),
            unix: UnixTime::from_millis(self.unix_ms - 120_000 + wrong_ms),
        };
        let config = AgentSetup::new(vip, key, self.rng.bytes());
        let boxes = Boxes {
            rules: Rules::default(),
            strips_scale: self.rng.happens(300),
            rewrites: self.rng.happens(200),
            rewrites_before: self.rng.happens(200),
        };
        let next_port = 20_000 + self.rng.below(20_000) as u16;
        Site::new(Agent::new(config, now), boxes, [local, public_ip], vip, next_port)
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now_us * 1000)
    }

    /// An agent's timer is due, unless the event is out of date.
    pub(crate) fn agent_due(&mut self, site: usize) {
        if self.tunnels.due_us[site] != self.now_us {
            return;
        }
        let now = self.instant();
        let mut out = Vec::new();
        self.tunnels.sites[site].agent.poll(now, &mut collect(&mut out));
        self.leave(site, out, None);
    }

    /// Segments leave an agent, through its NAT.
    pub(crate) fn leave(&mut self, site: usize, segments: Vec<(u16, Vec<u8>)>, body: Option<u32>) {
        let now_ms = self.now_us / 1000;
        let last = segments.len();
        for (number, (port, tcp)) in (1..).zip(segments) {
            let here = &mut self.tunnels.sites[site];
            let src = SocketAddr::new(here.local, port);
            let segment = nat::Packet { src, dst: here.vip, tcp };
            let Some(segment) = here.outwards(now_ms, &mut self.rng, segment) else {
                self.judge_site(site);
                continue;
            };
            self.steal(&segment);
            let (src, dst) = (segment.src.ip(), segment.dst.ip());
            let bytes = datagram(src, dst, 60, TCP, &segment.tcp);
            let origin = Origin { stamps: None, sent_us: self.now_us };
            let mut packet = Packet::new(bytes, origin);
            // A keepalive may go before a datagram.
            packet.body = body.filter(|_| number == last);
            let pop = self.route(Port::Wan, &packet.bytes);
            self.send(packet, |packet| Event::ToPop(pop, Port::Wan, packet));
        }
        let timer_us = self.tunnels.sites[site].agent.next_timer().as_nanos().div_ceil(1000);
        let due_us = timer_us.max(self.now_us + 1);
        if self.tunnels.due_us[site] != due_us {
            self.tunnels.due_us[site] = due_us;
            self.queue.push(due_us, Event::Agent(site));
        }
    }

    /// Somebody behind the same NAT records a keepalive request now and then, and sends it from
    /// another port, with the POPs' numbers there, as from a handshake, and with aligned numbers.
    fn steal(&mut self, from: &nat::Packet) {
        let is_request = from.payload().first().is_some_and(|first| first >> 4 == 1);
        if !is_request || !self.rng.happens(250) {
            return;
        }
        let (vip, src) =
            (from.dst, SocketAddr::new(from.src.ip(), 1024 + self.rng.below(9000) as u16));
        let Ok(numbers) = Predictor::new(&self.setup.keys.sequence, vip) else { return };
        let Constants { tick_ms, stride, .. } = Constants::default();
        let tick = UnixTime::from_millis(self.unix_ms + self.now_us / 1000).tick(tick_ms);
        let at = |start| predict::at(start, stride, tick).plus(1).0;
        let (seq, ack) = (at(SeqNum(0x1234_8000)), at(numbers.start(src)));
        let data = from.payload().to_vec();
        let stolen = Segment { seq, ack, data, ..Segment::new(src, vip, PSH | ACK) };
        let bytes = datagram(src.ip(), vip.ip(), 60, TCP, &stolen.segment());
        let packet = Packet::new(bytes, Origin { stamps: None, sent_us: self.now_us });
        let pop = self.route(Port::Wan, &packet.bytes);
        self.counts.stolen += 1;
        self.send(packet, |packet| Event::ToPop(pop, Port::Wan, packet));
    }

    /// One agent sends another something.
    pub(crate) fn exchange(&mut self) {
        if self.now_us > self.tunnels.sent_until_us {
            return;
        }
        let count = self.tunnels.sites.len() as u64;
        let from = self.rng.below(count) as usize;
        let to = (from + 1 + self.rng.below(count - 1) as usize) % count as usize;
        if let Some(token) = self.tunnels.sites[to].agent.token() {
            self.send_body(from, to, &token);
        }
        let next_us = self.now_us + 1000 + self.rng.below(200_000);
        self.queue.push(next_us, Event::Exchange);
    }

    fn send_body(&mut self, from: usize, to: usize, token: &PublicToken) {
        let number = self.tunnels.bodies.len() as u32;
        let now = self.instant();
        let room = self.tunnels.sites[from].agent.body_max(token) as u64;
        let len = self.rng.below(room + 1).max(4) as usize;
        let mut buffer = vec![0xee; HEADROOM];
        buffer.extend_from_slice(&number.to_be_bytes());
        buffer.extend((4..len).map(|at| content(number, at)));
        let mut out = Vec::new();
        let agent = &mut self.tunnels.sites[from].agent;
        let sent = agent
            .send(now, token, CONVERSATION, &mut buffer, HEADROOM, &mut collect(&mut out))
            .map(|outgoing| (outgoing.port, outgoing.segment.to_vec()));
        let body = sent.is_ok().then_some(number);
        if body.is_some() {
            self.tunnels.bodies.push(Body { to, len, arrived: 0, excused: false });
        }
        out.extend(sent.ok());
        self.leave(from, out, body);
    }

    /// A segment comes to a site from outside.
    pub(crate) fn arrive_at_site(
        &mut self,
        site: usize,
        segment: &SegmentView<'_>,
        packet: &Packet,
    ) {
        if packet.damaged {
            return;
        }
        let now_ms = self.now_us / 1000;
        let tcp = packet.bytes[packet.bytes.len() - segment_len(segment)..].to_vec();
        let here = &mut self.tunnels.sites[site];
        let inside = here.inwards(now_ms, nat::Packet { src: segment.src, dst: segment.dst, tcp });
        self.judge_site(site);
        let Some(inside) = inside else { return self.excuse(packet) };
        let now = self.instant();
        let mut out = Vec::new();
        let agent = &mut self.tunnels.sites[site].agent;
        let received = agent.receive(now, &inside.tcp, &mut collect(&mut out));
        match received {
            Some(Received::Datagram(received)) => {
                let (conversation, body) = (received.conversation, received.body.to_vec());
                if let Err(error) = self.receive_body(site, conversation, &body) {
                    self.fail(format!("site {site}: {error}"));
                }
            }
            Some(Received::Open(packet)) => {
                let packet = packet.to_vec();
                self.arrive_behind_agent(site, &packet);
            }
            None => {}
        }
        self.leave(site, out, None);
    }

    fn receive_body(
        &mut self,
        site: usize,
        conversation: Conversation,
        bytes: &[u8],
    ) -> Result<(), String> {
        let number = bytes.first_chunk().map(|first| u32::from_be_bytes(*first));
        let number = number.ok_or("a datagram without a number")?;
        let body = self.tunnels.bodies.get_mut(number as usize).ok_or("a datagram of nobody")?;
        let whole = (4..).zip(&bytes[4..]).all(|(at, byte)| *byte == content(number, at));
        if body.to != site || body.len != bytes.len() || !whole || conversation != CONVERSATION {
            return Err(format!("datagram {number} came wrong, or to the wrong place: {body:?}"));
        }
        body.arrived += 1;
        Ok(())
    }

    fn judge_site(&mut self, site: usize) {
        let invalid = &self.tunnels.sites[site].invalid;
        if let Some(first) = invalid.first() {
            let text = format!("site {site}: INVALID: {:?}; first {first:?}", summary(invalid));
            self.fail(text);
        }
    }

    /// Datagrams may be lost only where the network lost them.
    pub(crate) fn judge_tunnels(&mut self) {
        let lost = |body: &&Body| body.arrived == 0 && !body.excused;
        if let Some((number, body)) =
            self.tunnels.bodies.iter().enumerate().find(|(_, body)| lost(body))
        {
            self.fail(format!("datagram {number} was lost for nothing: {body:?}"));
        }
        // All have been given a token of the epoch that became current meanwhile.
        let ready = |site: &Site| site.agent.token().is_some_and(|token| token.epoch == 1);
        if let Some(site) = self.tunnels.sites.iter().position(|site| !ready(site)) {
            let status = self.tunnels.sites[site].agent.status(self.instant());
            self.fail(format!("site {site} has no token of epoch 1: {status:?}"));
        }
    }
}

fn segment_len(segment: &SegmentView<'_>) -> usize {
    20 + segment.options.len() + segment.data.len()
}

fn content(number: u32, at: usize) -> u8 {
    (number.wrapping_mul(0x9e37_79b9).wrapping_add(at as u32))
        .wrapping_mul(0x85eb_ca6b)
        .to_be_bytes()[0]
}

/// Collects what an agent sends.
pub(crate) fn collect(out: &mut Vec<(u16, Vec<u8>)>) -> impl FnMut(OutgoingSegment<'_>) {
    |outgoing| out.push((outgoing.port, outgoing.segment.to_vec()))
}

const CONVERSATION: Conversation = Conversation { session: 7, channel: 9 };
