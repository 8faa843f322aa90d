//! How a client learns that its target refuses it, with kernels at both ends: the table of
//! docs/limits.md, "Refusals, and routes that differ".
//!
//! A closed port, and a socket that vanished at the target; where the routes of clients and of
//! targets lead to one POP, and where they lead to different ones, with hints and without.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::refusals::{
    AT_ONCE, Target, Ways, attempt, count_segments, is_up, known_rsts, refusal, refused_at_once,
    reset_within,
};
use crate::common::sockets::keep_alive;
use crate::common::{LIMIT, VIP, eventually, full, metric, milliseconds, netstat};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::hints::Trouble;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::{Direction, Lab, Service};
use rustix::net::sockopt::set_tcp_keepcnt;

/// How often POPs answered a segment, or a hint, with a RST of a target's.
fn answered(lab: &Lab) -> [f64; 2] {
    let count = |kind| metric(lab, "anyrelay_replies_total", &[("kind", kind)]);
    ["rst_pending", "rst_hinted"].map(count)
}

/// Where the client is told at its next segment, and a closed port is refused at once.
fn telling_labs() -> [(&'static str, LabBuilder, Ways); 2] {
    [
        ("one POP", Lab::builder().pops(2), Ways::SAME),
        ("two POPs, hints", Lab::builder().pops(2).hints(), Ways::DIFFERENT),
    ]
}

#[test]
fn closed_ports_are_refused_at_once() {
    let count = if full() { 200 } else { 20 };
    for (name, builder, ways) in telling_labs() {
        let mut lab = builder.build().unwrap();
        ways.take(&mut lab);
        for timestamps in ["1", "0"] {
            lab.topology.client.sysctl("net.ipv4.tcp_timestamps", timestamps).unwrap();
            let (median, longest) = refused_at_once(&lab, VIP.into(), count);
            println!("{name}: {count} refused, median {median:?}, longest {longest:?}");
        }
        let hinted = if ways == Ways::DIFFERENT { 2 * count } else { 0 };
        assert_eq!(answered(&lab), [0.0, hinted as f64], "{name}");
    }
    // RSTs from targets over IPv6, and to clients' own addresses, are mapped by any POP.
    for service in [Service::prefix(), Service::transparent6()] {
        let (egress, vip) = (service.egress, service.vip);
        let mut lab = Lab::builder().pops(2).service(service).build().unwrap();
        Ways::DIFFERENT.take(&mut lab);
        let (median, longest) = refused_at_once(&lab, vip, count);
        println!("{egress:?}, two POPs: {count} refused, median {median:?}, longest {longest:?}");
        assert_eq!(answered(&lab), [0.0, 0.0], "{egress:?}");
    }
}

/// Clients that have one connection each, to a target that has lost its sockets.
struct Orphans {
    /// Sends data now and then.
    writing: TcpStream,
    /// Sends once, and then only what its kernel sends again.
    repeating: TcpStream,
    /// Sends nothing, but for probes when it is told to.
    idle: TcpStream,
}

impl Orphans {
    /// With `is_back`, the target listens again.
    fn new(target: &mut Target<'_>, is_back: bool) -> Self {
        let (clients, sockets) = [(); 3].map(|()| target.accept()).into_iter().unzip();
        target.lose(sockets);
        if is_back {
            target.listen();
        }
        let clients: Vec<TcpStream> = clients;
        let [writing, repeating, idle] = clients.try_into().unwrap();
        Self { writing, repeating, idle }
    }

    fn all(&self) -> [&TcpStream; 3] {
        [&self.writing, &self.repeating, &self.idle]
    }
}

/// The client is told at the segment after the first that the target refuses: more data, the same
/// data again, or a probe.
#[test]
fn clients_of_vanished_sockets_are_told_at_their_next_segment() {
    for (name, builder, ways) in telling_labs() {
        let mut lab = builder.build().unwrap();
        ways.take(&mut lab);
        let net = lab.topology.clone();
        // A kernel repeats what is not acknowledged after 200 ms, or 8 ms as a loss probe. A RST
        // may take longer on a busy machine, and then more than one segment would be on its way.
        net.client.sysctl("net.ipv4.tcp_early_retrans", "0").unwrap();
        let slow = "route replace default via 192.0.2.1 congctl cubic rto_min 1s";
        net.client.ip(&[slow]).unwrap();
        let mut target = Target::start(&net);
        let router = Firewall::new(&net.client_router).unwrap();
        let rounds = if full() { 0..20 } else { ways.down..ways.down + 1 };
        for round in rounds {
            // A target that was restarted listens again.
            let orphans = Orphans::new(&mut target, round % 2 == 1);
            let counters =
                orphans.all().map(|stream| count_segments(&router, stream, &format!("r{round}")));
            let segments = |i: usize| router.packets(&counters[i]).unwrap();

            let mut stream = &orphans.writing;
            let before = known_rsts(&lab, ways.up);
            stream.write_all(b"refused").unwrap();
            eventually("its RST is known", LIMIT, || known_rsts(&lab, ways.up) > before);
            stream.write_all(b"told").unwrap();
            let written = reset_within(stream, AT_ONCE);

            // From here on: the first probe's RST is not taken for the one above.
            keep_alive(&orphans.idle);
            stream = &orphans.repeating;
            stream.write_all(b"once").unwrap();
            let repeated = reset_within(stream, LIMIT);

            reset_within(&orphans.idle, LIMIT);
            assert_eq!([0, 1, 2].map(segments), [2; 3], "{name}");
            println!("{name}: told {written:?} after more data; again after {repeated:?}");
            if target.is_listening() {
                target.accept();
            } else {
                target.listen();
            }
        }
        assert_eq!(answered(&lab)[1], 0.0, "nobody is told of a vanished socket by a hint alone");
    }
}

/// As docs/limits.md says. When the routes meet, the next segment is told.
#[test]
fn without_hints_clients_behind_another_pop_are_not_told() {
    let wait = if full() { milliseconds(6500) } else { milliseconds(2500) };
    let mut lab = Lab::builder().pops(2).build().unwrap();
    Ways::DIFFERENT.take(&mut lab);
    let net = lab.topology.clone();
    let mut target = Target::start(&net);
    let orphans = Orphans::new(&mut target, false);
    keep_alive(&orphans.idle);
    set_tcp_keepcnt(&orphans.idle, 20).unwrap();
    for mut stream in [&orphans.writing, &orphans.repeating] {
        stream.write_all(b"once").unwrap();
    }
    let limit = Duration::from_secs(20);
    let connecting = attempt(&net.client, VIP.into(), limit);
    std::thread::sleep(wait);
    assert!(!connecting.is_finished(), "{:?}", refusal(connecting));
    assert!(netstat(&net.client, "TCPSynRetrans") >= 1);
    assert!(netstat(&net.client, "TCPKeepAlive") >= 2);
    assert!(orphans.all().iter().all(|stream| is_up(&net, stream)));
    assert_eq!(answered(&lab), [0.0, 0.0]);

    lab.routes.to(Direction::Up, Ways::DIFFERENT.down).unwrap();
    let met = Instant::now();
    for stream in orphans.all() {
        reset_within(stream, limit);
    }
    let (error, took) = refusal(connecting);
    assert_eq!(error, ErrorKind::ConnectionRefused);
    println!("not told for {wait:?}; when the routes met: within {:?}", met.elapsed());
    assert!(took > wait);
    assert_eq!(answered(&lab), [4.0, 0.0]);
}

/// The POP that knew of a RST is killed before the client's next segment: that one is refused too,
/// and the one after it is told.
#[test]
fn a_killed_pop_delays_what_clients_are_told() {
    // The second one is refused again. Some may find no POP.
    const PROBES: std::ops::RangeInclusive<u64> = 3..=6;
    let mut lab = Lab::builder().hints().build().unwrap();
    let net = lab.topology.clone();
    let mut target = Target::start(&net);
    // Alone, as its peers' hints are lost; and as the one that others' hints lead to.
    for (name, ways, hints) in [
        ("one POP, replaced by another", Ways::SAME, Trouble::LOST),
        ("two POPs, hints, restarted", Ways { up: 1, down: 2 }, Trouble::NONE),
    ] {
        lab.hints().unwrap().set(hints);
        ways.take(&mut lab);
        let (client, socket) = target.accept();
        target.lose(vec![socket]);
        let known = known_rsts(&lab, ways.up);
        let before = netstat(&net.client, "TCPKeepAlive");
        keep_alive(&client);
        set_tcp_keepcnt(&client, 20).unwrap();
        eventually("its RST is known", LIMIT, || known_rsts(&lab, ways.up) > known);
        lab.pops[ways.up].kill9();
        if ways == Ways::SAME {
            Ways { up: 2, down: 2 }.take(&mut lab);
        } else {
            lab.pops[ways.up].restart().unwrap();
        }
        let start = Instant::now();
        reset_within(&client, LIMIT);
        let probes = netstat(&net.client, "TCPKeepAlive") - before;
        println!("{name}: told at probe {probes}, {:?} after the kill", start.elapsed());
        assert!(PROBES.contains(&probes), "{name}: {probes} probes");
        target.listen();
    }
}
