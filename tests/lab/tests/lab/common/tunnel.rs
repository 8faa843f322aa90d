//! What the tunnels' tests share: one agent that serves, and others that connect to it.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use anyrelay_core::time::{UnixTime, format_time};
use anyrelay_kit::frames::Segment;
use anyrelay_lab::packet::{MAX_FRAME_BYTES, PacketSocket};
use anyrelay_lab::tunnel::stream::{Flow, Plan, Report, UdpServer};
use anyrelay_lab::tunnel::{Agent, AgentBuilder, AgentSite, TunnelLab};

use super::milliseconds;

/// Where the serving agent forwards to, and the others listen, each in its own namespace.
pub const TARGET: &str = "127.0.0.1:7000";
pub const LISTEN: &str = "127.0.0.1:6000";
/// How long an agent may take until it is ready: handshake, alignment, token.
pub const READY: Duration = Duration::from_secs(60);
/// For what is on its way at the end.
pub const TAIL: Duration = Duration::from_millis(500);

/// The first place serves; each other connects to it.
pub struct Tunnels {
    pub serving: Agent,
    pub connecting: Vec<Agent>,
    pub server: UdpServer,
    pub lab: TunnelLab,
    invalid_when_ready: Vec<(u64, u64)>,
}

impl Tunnels {
    pub fn start(lab: TunnelLab) -> Self {
        let mut tunnels = Self::start_unready(lab);
        tunnels.wait_ready();
        tunnels
    }

    /// `prepare` is called for each connecting agent before it is started.
    pub fn start_with(lab: TunnelLab, prepare: impl Fn(&AgentBuilder)) -> Self {
        let mut tunnels = Self::make(lab, prepare);
        tunnels.wait_ready();
        tunnels
    }

    pub fn start_unready(lab: TunnelLab) -> Self {
        Self::make(lab, |_| {})
    }

    fn make(mut lab: TunnelLab, prepare: impl Fn(&AgentBuilder)) -> Self {
        let server = UdpServer::start(&lab.site(0).host, address(TARGET)).unwrap();
        let serving = lab.agent(0).unwrap().serve(address(TARGET));
        let token = serving.token_file();
        let connecting: Vec<_> = (1..lab.topology.sites.len())
            .map(|n| lab.agent(n).unwrap().connect(address(LISTEN), &token))
            .collect();
        lab.reload().unwrap();
        let serving = serving.start().unwrap();
        connecting.iter().for_each(prepare);
        let connecting = connecting.into_iter().map(|agent| agent.start().unwrap()).collect();
        Self { serving, connecting, server, lab, invalid_when_ready: Vec::new() }
    }

    pub fn wait_ready(&mut self) {
        let knows = |status: &serde_json::Value| {
            status["state"] == "ready" && !status["peers"][0]["token"].is_null()
        };
        let mut outcome = self.serving.wait_ready(READY);
        for agent in &mut self.connecting {
            outcome = outcome.and_then(|()| agent.wait_until("ready, with a peer", READY, knows));
        }
        if let Err(error) = outcome {
            panic!("{error}\n{}", self.account());
        }
        if self.invalid_when_ready.is_empty() {
            self.invalid_when_ready = self.lab.invalid().unwrap();
        }
    }

    /// Starts a flow from the first connecting agent's place, and waits until it comes through.
    pub fn flow(&self, plan: Plan) -> Flow {
        self.flow_of(0, plan)
    }

    pub fn flow_of(&self, connecting: usize, plan: Plan) -> Flow {
        let host = &self.lab.site(connecting + 1).host;
        let flow = Flow::start(&self.server, host, address(LISTEN), plan).unwrap();
        self.wait_for_arrivals(&flow, Duration::from_secs(20));
        flow
    }

    /// Asserts that a flow still moves, both ways.
    pub fn wait_for_arrivals(&self, flow: &Flow, limit: Duration) {
        let before = flow.received();
        let start = std::time::Instant::now();
        loop {
            let now = flow.received();
            if now.0 > before.0 && now.1 > before.1 {
                return;
            }
            let waited = start.elapsed();
            assert!(
                waited < limit,
                "no data for {waited:?}: {before:?} {now:?}\n{}",
                self.account()
            );
            std::thread::sleep(milliseconds(5));
        }
    }

    pub fn agents(&self) -> Vec<&Agent> {
        std::iter::once(&self.serving).chain(&self.connecting).collect()
    }

    /// Everything that knows of losses, for messages.
    pub fn account(&self) -> String {
        let agents = self.agents().into_iter();
        let status = |agent: &Agent| match agent.status() {
            Ok(status) => format!("{}: {status:#}\n", agent.name()),
            Err(error) => format!("{}: {error}\n", agent.name()),
        };
        let logs = |site: &AgentSite| site.nat.log_text();
        format!(
            "drops of POPs:\n{}full queues: {:?}\nagents: {}\nconntrack: {:?}\n{}",
            self.lab.drops_text(),
            self.lab.full_queues(&self.agents()),
            agents.map(status).collect::<String>(),
            self.lab.invalid(),
            self.lab.topology.sites.iter().map(logs).collect::<String>(),
        )
    }

    /// Asserts that no NAT found anything wrong since all were ready; before, only a synproxy may,
    /// which drops the first keepalive while it connects to the POP.
    pub fn assert_nothing_invalid(&self) {
        let invalid = self.lab.invalid().unwrap();
        assert_eq!(invalid, self.invalid_when_ready, "{}", self.account());
        for (site, found) in self.lab.topology.sites.iter().zip(&invalid) {
            assert!(site.synproxy || *found == (0, 0), "{invalid:?}\n{}", self.account());
        }
    }

    /// Asserts that no more was lost than full queues and boxes have lost, but for what was sent
    /// within some times, and that all else is as it should be.
    pub fn assert_arrived(&self, reports: &[(Report, Report)], windows: &[Range<Duration>]) {
        let boxes = self.lab.topology.sites.iter().flat_map(|site| site.boxes.iter().flatten());
        let done: Vec<_> = boxes.map(anyrelay_lab::middlebox::Middlebox::done).collect();
        let excused = self.lab.full_queues(&self.agents()).unwrap()
            + done.iter().map(|done| done.lost + done.corrupted + done.refused).sum::<u64>();
        let duplicated: u64 = done.iter().map(|done| done.duplicated).sum();
        let sides = reports.iter().flat_map(|(up, down)| [up, down]);
        let (mut lost, mut sent, mut duplicates) = (0, 0, 0);
        for report in sides {
            assert_eq!(report.corrupted, 0, "{}", self.account());
            lost += report.lost_outside(windows);
            sent += report.sent;
            duplicates += report.duplicates;
        }
        println!("sent {sent}, lost {lost}, excused {excused}, duplicates {duplicates}, {done:?}");
        assert!(duplicates <= duplicated, "{duplicates} of {duplicated}\n{}", self.account());
        assert!(lost <= excused, "{lost} of {sent} lost, {excused} excused\n{}", self.account());
    }
}

/// Has the next token epoch begin in a few seconds, known to all POPs before, as an operator would
/// do it.
pub fn rotate_soon(lab: &mut TunnelLab) {
    let soon = SystemTime::now() + Duration::from_secs(6);
    let seconds = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let soon = format_time(UnixTime::from_millis(seconds * 1000));
    let keys = lab.keys();
    lab.anyrelay(&["rotate-token", &keys.to_string_lossy(), "--not-before", &soon]).unwrap();
    lab.reload().unwrap();
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What passes between a place and the router.
pub struct Tap {
    socket: PacketSocket,
    vip: SocketAddr,
}

impl Tap {
    pub fn open(lab: &TunnelLab, site: usize) -> Self {
        let interface = format!("site{}", site + 1);
        let socket = PacketSocket::open(&lab.topology.router, &interface).unwrap();
        Self { socket, vip: lab.topology.family.vip() }
    }

    /// What came since the last call, for at least this time.
    pub fn collect(&self, time: Duration) -> Vec<Segment> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        while self.socket.receive(&mut buffer).is_some() {}
        let start = std::time::Instant::now();
        let mut segments = Vec::new();
        while start.elapsed() < time {
            match self.socket.receive(&mut buffer) {
                Some(frame) => segments.extend(frame.get(14..).and_then(Segment::read)),
                None => std::thread::sleep(milliseconds(1)),
            }
        }
        segments
    }

    /// Data towards the POPs.
    pub fn data_up(&self, time: Duration) -> Vec<Segment> {
        let up = |segment: &Segment| segment.dst == self.vip && kind(segment) == Some(3);
        self.collect(time).into_iter().filter(up).collect()
    }

    /// Data from the POPs.
    pub fn data_down(&self, time: Duration) -> Vec<Segment> {
        let down = |segment: &Segment| segment.src == self.vip && kind(segment) == Some(4);
        self.collect(time).into_iter().filter(down).collect()
    }
}

/// The message's type.
pub fn kind(segment: &Segment) -> Option<u8> {
    segment.data.first().map(|byte| byte >> 4)
}
