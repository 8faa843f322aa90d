//! The tunnels' half: numbered, hashed datagrams both ways between agents behind strict NATs.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyrelay_lab::script::Script;
use anyrelay_lab::tunnel::stream::{Flow, Plan, UdpServer};
use anyrelay_lab::tunnel::{Agent, TunnelLab};
use anyrelay_lab::{Direction, Pop, Result};
use serde_json::{Value, json};

use crate::drive::{self, Done};
use crate::{POPS, SPARED};

const SERVING: usize = 0;
const CONNECTING: usize = 1;
/// Numbered datagrams a second, each way.
const PER_SECOND: u32 = 500;
const TICK_MS: u32 = 2000;
const READY: Duration = Duration::from_secs(30);
/// For what is on its way at the end of a round.
const TAIL: Duration = Duration::from_millis(500);
/// Of what was sent, by the machine's full queues: one in so many.
const LOST_ONE_IN: u64 = 1000;

/// The lab, its agents and their server.
pub struct Tunnels {
    serving: Agent,
    connecting: Agent,
    server: UdpServer,
    lab: TunnelLab,
    invalid_before: u64,
    outcome: Outcome,
}

impl Tunnels {
    pub fn build() -> Result<Self> {
        let mut lab = TunnelLab::builder()
            .pops(POPS)
            .tick_ms(TICK_MS)
            .clock_offsets_ms(&[0, TICK_MS.into(), 0])
            .build()?;
        let server = UdpServer::start(&lab.site(SERVING).host, target())?;
        let serving = lab.agent(SERVING)?.serve(target());
        let token = serving.token_file();
        let connecting = lab.agent(CONNECTING)?.connect(listen(), &token);
        lab.reload()?;
        let (mut serving, mut connecting) = (serving.start()?, connecting.start()?);
        serving.wait_ready(READY)?;
        connecting.wait_until("ready, with a peer", READY, |status| {
            status["state"] == "ready" && !status["peers"][0]["token"].is_null()
        })?;
        let invalid_before = invalid(&lab)?;
        Ok(Self { serving, connecting, server, lab, invalid_before, outcome: Outcome::default() })
    }

    /// The POP that is never killed.
    pub fn spared(&self) -> &Pop {
        &self.lab.pops[SPARED]
    }

    pub fn agents(&self) -> [&Agent; 2] {
        [&self.serving, &self.connecting]
    }

    /// One script, with a flow of its own.
    pub fn round(&mut self, script: &Script) -> Result<()> {
        let host = self.lab.site(CONNECTING).host.clone();
        let flow = Flow::start(&self.server, &host, listen(), Plan::both(PER_SECOND))?;
        let TunnelLab { pops, routes, .. } = &mut self.lab;
        let lead = |direction, pops: &[usize]| {
            // A datagram's way to a POP is its sender's route.
            let site = if direction == Direction::BOTH[0] { CONNECTING } else { SERVING };
            match pops {
                [pop] => routes.to(site, *pop),
                pops => routes.spray(site, pops),
            }
        };
        let dead_times = drive::follow(script, pops, lead, &mut self.outcome.done)?;
        let started = flow.started();
        let (up, down) = flow.finish(TAIL);
        for (report, dead) in [up, down].iter().zip(&dead_times) {
            let since = |at: &Instant| at.saturating_duration_since(started);
            let dead: Vec<Range<Duration>> =
                dead.iter().map(|range| since(&range.start)..since(&range.end)).collect();
            self.outcome.sent += report.sent;
            self.outcome.lost += report.lost.len() as u64;
            self.outcome.lost_outside_kill += report.lost_outside(&dead);
            self.outcome.corrupted += report.corrupted;
        }
        Ok(())
    }

    pub fn line(&self) -> String {
        let Outcome { sent, lost_outside_kill, .. } = self.outcome;
        format!("{sent} datagrams, {lost_outside_kill} lost outside of kills")
    }

    pub fn finish(self) -> Result<Outcome> {
        let mut outcome = self.outcome;
        outcome.conntrack_invalid = invalid(&self.lab)? - self.invalid_before;
        for agent in [&self.serving, &self.connecting] {
            outcome.handshakes += agent.counter("handshakes")?;
            outcome.re_syns += agent.counter("re_syns")?;
        }
        outcome.notes.push(self.lab.drops_text());
        Ok(outcome)
    }
}

fn invalid(lab: &TunnelLab) -> Result<u64> {
    Ok(lab.invalid()?.iter().map(|(counted, logged)| counted.max(logged)).sum())
}

fn target() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000))
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6000))
}

/// What the tunnels carried.
#[derive(Debug, Default)]
pub struct Outcome {
    sent: u64,
    lost: u64,
    lost_outside_kill: u64,
    corrupted: u64,
    conntrack_invalid: u64,
    handshakes: u64,
    re_syns: u64,
    done: Done,
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn table(&self) -> String {
        format!(
            "tunnel: {} datagrams, {} lost, {} of them outside of kills, {} damaged; {} invalid to \
             conntrack\n        {} handshakes, {} of them again; {} flips, {} kills, {} reloads\n",
            self.sent,
            self.lost,
            self.lost_outside_kill,
            self.corrupted,
            self.conntrack_invalid,
            self.handshakes,
            self.re_syns,
            self.done.flips,
            self.done.kills,
            self.done.reloads
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent,
            "lost": self.lost,
            "lost_outside_kill": self.lost_outside_kill,
            "corrupted": self.corrupted,
            "conntrack_invalid": self.conntrack_invalid,
            "handshakes": self.handshakes,
            "re_syns": self.re_syns,
            "flips": self.done.flips,
            "kills": self.done.kills,
            "reloads": self.done.reloads,
        })
    }

    pub fn conditions(&self) -> Vec<(String, bool)> {
        let lost_max = self.sent / LOST_ONE_IN;
        vec![
            (
                format!(
                    "lost though no dead POP held the route: {}, at most {lost_max}",
                    self.lost_outside_kill
                ),
                self.sent > 10_000 && self.lost_outside_kill <= lost_max,
            ),
            (format!("damaged: {}, must be 0", self.corrupted), self.corrupted == 0),
            (
                format!("invalid to conntrack: {}, must be 0", self.conntrack_invalid),
                self.conntrack_invalid == 0,
            ),
        ]
    }
}
