//! Hints that are lost, late, doubled, damaged, forged and replayed: what clients of a closed port
//! learn then, and that no live connection is told a RST.
//!
//! Through all of it connections live at the very port that refuses others: with data and idle,
//! with timestamps and without. Routes flip, closed ports are tried, and ports of the client's, and
//! egress endpoints, are used again by connections that must live too.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::flaps::while_flipping;
use crate::common::forger::Forger;
use crate::common::live::{Live, move_both_ways, open, stop_listening};
use crate::common::refusals::{Ways, attempt, refusal, refused_at_once};
use crate::common::rivals::{Rivals, rivals};
use crate::common::{LIMIT, TARGET, VIP, connect, eventually, full, milliseconds, netstat, serve};
use anyrelay_core::net::IpEndpoint;
use anyrelay_core::relay::hints::{Hint, Shows};
use anyrelay_core::relay::memo::Rst;
use anyrelay_core::seq::SeqNum;
use anyrelay_kit::frames::Segment;
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::hints::Trouble;
use anyrelay_lab::packet::{MAX_FRAME_BYTES, PacketSocket};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Lab, Topology};
use rustix::net::sockopt::set_socket_linger;

/// Longer than the wait for the first SYN that is sent again, and not for the second.
const NOT_TOLD: Duration = Duration::from_millis(1800);
/// Hints that are this late are not accepted.
const LATE: Duration = Duration::from_secs(10);

/// Few egress endpoints, so that ports of the client share them.
fn lab() -> Lab {
    let builder = Lab::builder().hints().pool("100.64.8.0/30");
    builder.overlay("[limits]\nremembered_syns = 262144").build().unwrap()
}

#[test]
fn faulty_hints_tell_no_live_connection_a_rst() {
    let lab = lab();
    let net = lab.topology.clone();
    let mut trial = Trial::start(lab, &net);
    trial.late();
    trial.storm(Trouble { delay: LATE, ..Trouble::NONE });
    trial.lost_and_forged();
    trial.storm(Trouble::LOST);
    trial.half_lost();
    trial.storm(Trouble { loss: 500, ..Trouble::NONE });
    trial.doubled();
    trial.storm(Trouble { double: 1000, damage: 250, ..Trouble::NONE });
    trial.mortal = true;
    trial.storm(Trouble { loss: 250, double: 250, damage: 500, ..Trouble::NONE });
    trial.finish();
}

/// The lab, the connections that must live, and the ports of those that come and go.
struct Trial<'a> {
    lab: Lab,
    net: &'a Topology,
    router: Firewall<'a>,
    live: Live,
    forger: Forger,
    /// Ports that come and go.
    pairs: Vec<Rivals>,
    /// Ports that share their egress endpoints with live connections.
    shadows: Vec<u16>,
    /// Whether a POP is killed in storms.
    mortal: bool,
    storms: Storms,
}

/// What came of connects in storms.
#[derive(Debug, Default)]
struct Storms {
    refused: usize,
    unheard: usize,
    /// Connections that lived.
    lived: usize,
}

impl<'a> Trial<'a> {
    fn start(lab: Lab, net: &'a Topology) -> Self {
        let router = Firewall::new(&net.client_router).unwrap();
        router.count("resets", &format!("ip saddr {} tcp flags & rst != 0", VIP.ip())).unwrap();
        let mut pairs = rivals(&lab);
        pairs.truncate(16);
        let living = pairs.split_off(8);
        let ports: Vec<u16> = living.iter().map(|pair| pair.new).collect();
        let shadows = living.iter().map(|pair| pair.old).collect();
        let (forger, live) = (Forger::new(&lab), Live::start(net, &router, &ports));
        let storms = Storms::default();
        Self { lab, net, router, live, forger, pairs, shadows, mortal: false, storms }
    }

    fn set(&self, trouble: Trouble) {
        self.lab.hints().unwrap().set(trouble);
    }

    /// Datagrams of hints at the client's POP.
    fn datagrams(&self, result: &str) -> f64 {
        let labels = [("result", result)];
        self.lab.pops[0].metric("anyrelay_hint_datagrams_total", &labels).unwrap()
    }

    /// As without hints, until the client gives up; then they are counted.
    fn late(&mut self) {
        Ways::DIFFERENT.take(&mut self.lab);
        self.set(Trouble { delay: LATE, ..Trouble::NONE });
        let accepted = self.datagrams("accepted");
        let outcome = refusal(attempt(&self.lab.topology.client, VIP.into(), NOT_TOLD));
        assert_eq!(outcome.0, ErrorKind::TimedOut);
        assert_eq!(self.datagrams("accepted"), accepted);
        println!("late by {LATE:?}: not told for {:?}", outcome.1);
    }

    /// All are lost, and nobody believes what does not come from a POP; a copy of what does is as
    /// good as it.
    fn lost_and_forged(&mut self) {
        Ways::DIFFERENT.take(&mut self.lab);
        self.set(Trouble::LOST);
        let before = ["malformed", "wrong_mac", "accepted"].map(|result| self.datagrams(result));
        let came = self.lab.hints().unwrap().came_for(0).len();
        let connecting = attempt(&self.lab.topology.client, VIP.into(), 2 * NOT_TOLD);
        eventually("a hint", LIMIT, || self.lab.hints().unwrap().came_for(0).len() > came);
        let genuine = self.lab.hints().unwrap().came_for(0).swap_remove(came);
        let forged = self.forger.forge(&genuine, 40);
        forged.iter().for_each(|datagram| self.forger.send(0, datagram));
        std::thread::sleep(NOT_TOLD);
        assert!(!connecting.is_finished(), "{:?}", refusal(connecting));
        let now = ["malformed", "wrong_mac", "accepted"].map(|result| self.datagrams(result));
        let [malformed, wrong_mac, accepted] = [0, 1, 2].map(|i| now[i] - before[i]);
        assert_eq!((malformed + wrong_mac, accepted), (forged.len() as f64, 0.0));
        assert!(malformed > 0.0 && wrong_mac > 0.0);
        println!("lost, {} forged: not told for {NOT_TOLD:?}", forged.len());

        let start = Instant::now();
        self.forger.send(0, &genuine);
        assert_eq!(refusal(connecting).0, ErrorKind::ConnectionRefused);
        println!("then replayed: told after {:?}", start.elapsed());
    }

    /// Each SYN that is sent again is another chance.
    fn half_lost(&mut self) {
        Ways::DIFFERENT.take(&mut self.lab);
        self.set(Trouble { loss: 500, ..Trouble::NONE });
        let again = netstat(&self.lab.topology.client, "TCPSynRetrans");
        let lost = self.lab.hints().unwrap().done().lost;
        let connecting: Vec<_> = (0..if full() { 12 } else { 4 })
            .map(|_| {
                std::thread::sleep(milliseconds(50));
                attempt(&self.lab.topology.client, VIP.into(), Duration::from_secs(120))
            })
            .collect();
        let mut outcomes: Vec<_> = connecting.into_iter().map(refusal).collect();
        outcomes.sort_unstable_by_key(|outcome| outcome.1);
        assert!(outcomes.iter().all(|outcome| outcome.0 == ErrorKind::ConnectionRefused));
        let again = netstat(&self.lab.topology.client, "TCPSynRetrans") - again;
        assert!(self.lab.hints().unwrap().done().lost > lost);
        assert!(again >= 1, "told at once, although hints were lost: {outcomes:?}");
        println!("half lost: told after {:?}, {again} SYNs sent again", outcomes);
    }

    /// One RST each.
    fn doubled(&mut self) {
        const CONNECTS: usize = 10;
        Ways::DIFFERENT.take(&mut self.lab);
        self.set(Trouble { double: 1000, ..Trouble::NONE });
        let [accepted, resets] = [self.datagrams("accepted"), self.resets()];
        let times = refused_at_once(&self.lab, VIP.into(), CONNECTS);
        eventually("both of each", LIMIT, || {
            self.datagrams("accepted") - accepted >= 2.0 * CONNECTS as f64
        });
        assert_eq!(self.resets() - resets, CONNECTS as f64);
        println!("doubled: one RST for each connect, median and longest: {times:?}");
    }

    fn resets(&self) -> f64 {
        self.router.packets("resets").unwrap() as f64
    }

    /// While routes flip: connects that are refused, and forged and replayed hints; then, as the
    /// target listens, connections from the same ports and egress endpoints, which must live.
    fn storm(&mut self, trouble: Trouble) {
        self.set(trouble);
        let Self { lab: Lab { routes, pops, .. }, net, router, forger, storms, pairs, .. } = self;
        let ports: Vec<u16> =
            pairs.iter().map(|pair| pair.old).chain(self.shadows.clone()).collect();
        // The port that was refused, or the other one that has its egress endpoint.
        let one_of = |(number, pair): (usize, &Rivals)| [pair.old, pair.new][number % 2];
        let reused: Vec<u16> = pairs.iter().enumerate().map(one_of).collect();
        let hints = net.hints.as_ref().unwrap();
        for _ in 0..if full() { 10 } else { 1 } {
            while_flipping(routes, || {
                if self.mortal {
                    pops[2].kill9();
                }
                for round in 0..5 {
                    if self.mortal && round == 2 {
                        pops[2].restart().unwrap();
                    }
                    let told = try_all(net, &ports);
                    storms.refused += told;
                    storms.unheard += ports.len() - told;
                    for pop in [0, 1] {
                        let came = hints.came_for(pop);
                        let forged = came.last().map(|last| forger.forge(last, 8));
                        forged.iter().flatten().for_each(|it| forger.send(pop, it));
                    }
                    let came = hints.came_for(1);
                    came.iter().rev().take(8).for_each(|it| forger.send(1, it));
                }
                let server = Server::start(&net.target, TARGET).unwrap();
                // What is on its way to those that were refused arrives.
                std::thread::sleep(milliseconds(100));
                let before = router.packets("resets").unwrap();
                let lived = live_all(net, &reused);
                assert_eq!(router.packets("resets").unwrap(), before, "RSTs to live connections");
                storms.lived += lived.len();
                for connection in lived {
                    // So that nothing is left of it at the target.
                    set_socket_linger(connection.stream(), Some(Duration::ZERO)).unwrap();
                }
                stop_listening(net, server);
            });
        }
    }

    fn finish(self) {
        // Nothing else is: the forger's are of now, or for another POP.
        eventually("late hints are refused", 2 * LATE, || self.datagrams("wrong_time") > 0.0);
        let (bodies, stall) = self.live.finish(&self.router);
        println!("{bodies} bodies of live connections, longest stall {stall:?}");
        println!("connects while routes flipped: {:?}", self.storms);
        let done = self.lab.hints().unwrap().done();
        println!("{done:?}\n{}", hint_metrics(&self.lab));
        assert!(self.storms.refused > 0);
        assert!(done.lost > 0 && done.doubled > 0 && done.damaged > 0, "{done:?}");
    }
}

fn hint_metrics(lab: &Lab) -> String {
    let metrics = lab.pops[0].metrics().unwrap();
    ["anyrelay_hint_datagrams_total", "anyrelay_hints_total"]
        .map(|name| metrics.nonzero(name))
        .concat()
}

/// Connects from all of these ports, one soon after the other; how many were refused. The others
/// gave up soon.
fn try_all(net: &Topology, ports: &[u16]) -> usize {
    std::thread::scope(|scope| {
        let connect = |port: &u16| {
            std::thread::sleep(milliseconds(5));
            let port = *port;
            scope.spawn(move || open(net, port, milliseconds(100)))
        };
        let tries: Vec<_> = ports.iter().map(connect).collect();
        let outcomes = tries.into_iter().map(|it| it.join().unwrap());
        let kinds = outcomes.map(|it| it.expect_err("nobody listens").kind());
        let kinds: Vec<ErrorKind> = kinds.collect();
        let refused = kinds.iter().filter(|kind| **kind == ErrorKind::ConnectionRefused).count();
        let unheard = kinds.iter().filter(|kind| **kind == ErrorKind::TimedOut).count();
        assert_eq!(refused + unheard, ports.len(), "{kinds:?}");
        refused
    })
}

/// From each of these ports a connection that carries data while routes flip.
fn live_all(net: &Topology, ports: &[u16]) -> Vec<Connection> {
    let live = |port: u16| {
        let mut connection = open(net, port, LIMIT).unwrap();
        for seed in 0..10 {
            move_both_ways(&mut connection, seed).unwrap();
            std::thread::sleep(milliseconds(50));
        }
        connection
    };
    std::thread::scope(|scope| {
        let lives: Vec<_> = ports.iter().map(|port| scope.spawn(move || live(*port))).collect();
        lives.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

/// A hint that has the very numbers of a live connection: without the POPs' key it is nothing, and
/// with it, other numbers are nothing. This is what the trial above would notice.
#[test]
fn a_hint_resets_by_the_right_key_and_numbers_alone() {
    let mut lab = lab();
    Ways::DIFFERENT.take(&mut lab);
    let forger = Forger::new(&lab);
    let (server, mut connection) = (serve(&lab), connect(&lab));
    let seen = PacketSocket::open(&lab.topology.client, "net0").unwrap();
    let from = connection.stream().local_addr().unwrap();
    move_both_ways(&mut connection, 1).unwrap();
    for (key, ahead, lives) in
        [(&forger.strange, 0, true), (&forger.own, 1, true), (&forger.own, 0, false)]
    {
        // Its last ACK, too.
        std::thread::sleep(milliseconds(200));
        let ack = last_ack(&seen, from);
        let endpoint = |at: SocketAddr| IpEndpoint::from(at);
        let (vip, target) = (endpoint(VIP.into()), endpoint(TARGET.into()));
        let shows = Shows::Refusal(Rst::Bare { seq: SeqNum(ack.wrapping_add(ahead)) });
        forger.tell(0, key, Hint { vip, egress: endpoint(server.peers()[0]), target, shows });
        std::thread::sleep(milliseconds(200));
        let outcome = move_both_ways(&mut connection, 2);
        match lives {
            true => outcome.unwrap(),
            false => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// The acknowledgment number of the last segment that came from there.
fn last_ack(seen: &PacketSocket, from: SocketAddr) -> u32 {
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut last = None;
    while let Some(frame) = seen.receive(&mut buffer) {
        let segment = frame.get(14..).and_then(Segment::read);
        last = segment.filter(|it| it.src == from).map(|it| it.ack).or(last);
    }
    last.expect("a segment of the client")
}
