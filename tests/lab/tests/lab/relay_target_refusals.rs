//! What moved clients learn of refusals, and what is in the way of their connections at the targets
//! that their segments go to besides: TIME_WAIT, other clients' connections, firewalls, SYN
//! cookies.

use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::flaps::while_flipping;
use crate::common::refusals::{AT_ONCE, Target, Ways, known_rsts, refused_at_once, reset_within};
use crate::common::rivals::rivals;
use crate::common::sockets::{Path, keep_alive};
use crate::common::targets::{
    SMALL_SKEW_MS, address, all_whole, assert_in_time, change, join, list, replace, service,
    wait_until,
};
use crate::common::{LIMIT, VIP, eventually, full, milliseconds};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::fleet::{End, Fleet, Kind, Life, Watch};
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::targets::{Choice, unix_now};
use anyrelay_lab::traffic::Server;
use anyrelay_lab::{Egress, Lab, Nginx, Result, topology};

fn at(n: u8) -> SocketAddr {
    address(Egress::Pool, n)
}

/// A lab whose first service is led to targets of a file.
fn lab(builder: LabBuilder, egress: Egress, targets: &[SocketAddr]) -> Lab {
    let list = list(SMALL_SKEW_MS, targets);
    builder.service(service(egress)).targets(list).build().unwrap()
}

/// The new target of all clients has a closed port.
#[test]
fn closed_ports_refuse_moved_clients_at_once() {
    const SOON: Duration = Duration::from_millis(100);
    let pops = || Lab::builder().pops(2);
    let count = if full() { 200 } else { 20 };
    for (name, builder, egress, ways) in [
        ("one POP", pops(), Egress::Pool, Ways::SAME),
        ("two POPs, hints", pops().hints(), Egress::Pool, Ways::DIFFERENT),
        ("prefix, one POP", pops(), Egress::Prefix, Ways::SAME),
        ("transparent, one POP", pops(), Egress::Transparent, Ways::SAME),
    ] {
        let [old, new] = [0, 1].map(|n| address(egress, n));
        let mut lab = lab(builder, egress, &[old]);
        ways.take(&mut lab);
        replace(&lab, old, new);
        let (median, longest) = refused_at_once(&lab, VIP.into(), count);
        println!("{name}: {count} refused, median {median:?}, longest {longest:?}");
        assert!(median < SOON, "{name}: {median:?}");
    }
}

/// A moved client whose socket vanished at its target is told as one that has not moved is: at the
/// segment after the first that all refuse. Also where there is one more target that is asked.
#[test]
fn moved_clients_of_vanished_sockets_are_told_at_their_next_segment() {
    for (name, builder, ways) in [
        ("one POP", Lab::builder().pops(2), Ways::SAME),
        ("two POPs, hints", Lab::builder().pops(2).hints(), Ways::DIFFERENT),
    ] {
        for others in [&[1][..], &[1, 2]] {
            let mut lab = lab(builder.clone(), Egress::Pool, &[at(0)]);
            ways.take(&mut lab);
            let net = lab.topology.clone();
            let mut target = Target::start(&net);
            let _servers: Vec<Server> =
                others.iter().map(|n| Server::start(&net.target, at(*n)).unwrap()).collect();
            let (clients, sockets): (Vec<TcpStream>, Vec<TcpStream>) =
                (0..2).map(|_| target.accept()).unzip();
            for n in &others[1..] {
                change(&lab.targets_file(), &["add", &at(*n).to_string()]);
            }
            replace(&lab, at(0), at(1));
            target.lose(sockets);
            assert_in_time(&lab);

            let [mut writing, idle] = [&clients[0], &clients[1]];
            let before = known_rsts(&lab, ways.up);
            writing.write_all(b"refused").unwrap();
            eventually("both RSTs are known", LIMIT, || known_rsts(&lab, ways.up) >= before + 2.0);
            writing.write_all(b"told").unwrap();
            let written = reset_within(writing, AT_ONCE);
            keep_alive(idle);
            let probed = reset_within(idle, LIMIT);
            println!(
                "{name}, {} new: told {written:?} after more data, by probes after {probed:?}",
                others.len()
            );
        }
    }
}

/// One connection from a port of the client's, on a thread of its own.
fn live_from(
    net: &anyrelay_lab::Topology,
    fleet: &Fleet,
    port: u16,
    kind: Kind,
) -> JoinHandle<Result<Life>> {
    let fleet = fleet.clone();
    let from = SocketAddrV4::new(topology::CLIENT, port);
    net.client.thread(move || fleet.live(Some(from), kind, &Watch::nobody())).unwrap()
}

/// Waits for lives that must have ended well, each at its target.
fn assert_whole(lives: Vec<JoinHandle<Result<Life>>>, at: impl Fn(SocketAddr) -> SocketAddr) {
    for life in lives {
        let life = life.join().unwrap().unwrap();
        assert_eq!(life.end, End::Whole, "{life:?}");
        assert_eq!(life.target, life.client.map(&at), "{life:?}");
    }
}

/// Ports of the client that are used again right after a change, while their connections before are
/// in TIME_WAIT at the old target, which is sent their segments too.
#[test]
fn reused_ports_live_beside_time_wait_at_the_old_target() {
    let ports = 30_000..if full() { 30_200 } else { 30_030 };
    let mut lab = lab(Lab::builder(), Egress::Pool, &[at(0)]);
    let net = lab.topology.clone();
    let nginx = Nginx::start(&net.target, lab.work()).unwrap();
    let fleet = Fleet::new(&net.client, VIP.into(), &nginx, Duration::from_secs(6)).unwrap();
    let file = lab.targets_file();
    change(&file, &["add", &at(1).to_string(), "--weight", "1000"]);
    let date = change(&file, &["drain", &at(0).to_string()]);
    let (before, used) = (fleet.clone(), ports.clone());
    let shorts = net.client.thread(move || -> Vec<_> {
        let from = |port| Some(SocketAddrV4::new(topology::CLIENT, port));
        used.map(|port| before.short(from(port))).collect()
    });
    let shorts = shorts.unwrap().join().unwrap().unwrap();
    assert!(unix_now() < date, "the change came too soon");
    assert!(shorts.iter().all(|short| short.end == End::Whole), "{shorts:?}");
    wait_until(date);
    let waiting = Path::Pops.at_target(&net, "TIME-WAIT");
    while_flipping(&mut lab.routes, || {
        let lives = ports.clone().map(|port| {
            let kind = Kind::ALL[usize::from(port) % 3];
            live_from(&net, &fleet, port, kind)
        });
        assert_whole(lives.collect(), |_| at(1));
    });
    println!("{waiting} of {} in TIME_WAIT at the old target", ports.len());
    assert!(waiting * 2 > ports.len(), "{waiting} of {}", ports.len());
    assert_in_time(&lab);
}

/// Moved clients whose segments go also to a target where another client has a live connection with
/// the same egress endpoint.
#[test]
fn clients_that_share_an_egress_endpoint_live_beside_each_other() {
    let mut lab = lab(Lab::builder().pool("100.64.8.0/30"), Egress::Pool, &[at(0), at(1)]);
    let net = lab.topology.clone();
    let nginx = Nginx::start(&net.target, lab.work()).unwrap();
    let lasts = Duration::from_secs(if full() { 30 } else { 9 });
    let fleet = Fleet::new(&net.client, VIP.into(), &nginx, lasts).unwrap();
    let choice = Choice::of(&lab.pops[0].config).unwrap();
    let target_of = |port: u16| {
        choice.target(SocketAddrV4::new(topology::CLIENT, port).into(), unix_now()).unwrap()
    };
    // The one stays at the second target, and the other one comes from the first.
    let pairs = rivals(&lab).into_iter().map(|pair| [pair.old, pair.new]);
    let pairs = pairs.filter(|pair| pair.map(target_of) == [at(1), at(0)]);
    let pairs: Vec<[u16; 2]> = pairs.take(if full() { 60 } else { 15 }).collect();
    assert!(pairs.len() >= 15, "{}", pairs.len());
    let lives: Vec<_> = pairs
        .iter()
        .flatten()
        .enumerate()
        .map(|(n, port)| live_from(&net, &fleet, *port, Kind::ALL[n % 3]))
        .collect();
    let date = change(&lab.targets_file(), &["drain", &at(0).to_string()]);
    while_flipping(&mut lab.routes, || {
        wait_until(date);
        let now = Choice::of(&lab.pops[0].config).unwrap();
        for port in pairs.iter().flatten() {
            let client = SocketAddrV4::new(topology::CLIENT, *port).into();
            assert_eq!(now.target(client, unix_now()), Some(at(1)));
        }
        assert_whole(lives, |client| target_of(client.port()));
    });
    assert_in_time(&lab);
}

#[test]
fn a_target_that_drops_strays_breaks_nothing() {
    beside_a_new_target_that(Some("drop"), false);
}

#[test]
fn a_target_that_rejects_strays_by_icmp_breaks_nothing() {
    beside_a_new_target_that(Some("reject with icmp type host-prohibited"), false);
    beside_a_new_target_that(Some("reject with icmp type port-unreachable"), false);
}

#[test]
fn a_target_with_syn_cookies_breaks_nothing() {
    beside_a_new_target_that(None, true);
}

/// All clients move to a target whose firewall does this to segments that begin in the middle of a
/// connection, or that answers SYNs with cookies.
fn beside_a_new_target_that(strays: Option<&str>, cookies: bool) {
    let mut lab = lab(Lab::builder(), Egress::Pool, &[at(0)]);
    let net = lab.topology.clone();
    let firewall = Firewall::new(&net.target).unwrap();
    if let Some(strays_are) = strays {
        let stray = format!("ip daddr {} tcp flags & syn == 0 ct state new", at(1).ip());
        firewall.count("strays", &stray).unwrap();
        firewall.rule("prerouting", &format!("{stray} {strays_are}")).unwrap();
    }
    if cookies {
        net.target.sysctl("net.ipv4.tcp_syncookies", "2").unwrap();
    }
    let nginx = Nginx::start(&net.target, lab.work()).unwrap();
    let lasts = Duration::from_secs(if full() { 60 } else { 6 });
    let mut fleet = Fleet::new(&net.client, VIP.into(), &nginx, lasts).unwrap();
    fleet.spread = Duration::from_secs(1);
    let sailing = fleet.sail(36, lasts, &Watch::nobody()).unwrap();
    let file = lab.targets_file();
    std::thread::sleep(milliseconds(1500));
    change(&file, &["add", &at(1).to_string(), "--weight", "1000"]);
    change(&file, &["drain", &at(0).to_string()]);
    while_flipping(&mut lab.routes, || {
        while sailing.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(milliseconds(50));
        }
    });
    let tally = all_whole(&lab, sailing, SMALL_SKEW_MS);
    assert_in_time(&lab);
    assert!(tally.moved >= 12, "{tally:?}");
    if strays.is_some() {
        let strays = firewall.packets("strays").unwrap();
        println!("{strays} strays");
        assert!(strays > 50, "{strays} strays");
    }
}

/// How a target dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// Its server is killed: its kernel answers with RSTs.
    Process,
    /// Its link goes down: its router says so, after a while.
    Link,
    /// It says nothing any more, and nobody says why.
    Silence,
}

/// A target that has died is written out of the list with its connections: new ones go to another
/// target from the date on, those of others live on, and clients of the dead one that send are
/// told.
#[test]
fn a_dead_target_is_left_at_the_date() {
    for death in [Death::Process, Death::Link, Death::Silence] {
        let dead = SocketAddr::new(topology::target_host(0).into(), at(0).port());
        // Routes flip, so that POPs must tell each other of RSTs.
        let mut lab = lab(Lab::builder().target_hosts(1).hints(), Egress::Pool, &[at(0), dead]);
        let net = lab.topology.clone();
        let nginx = Nginx::start(&net.target, lab.work()).unwrap();
        let mut twin = nginx.twin(&net.target_hosts[0]).unwrap();
        let lasts = Duration::from_secs(if full() { 30 } else { 12 });
        let mut fleet = Fleet::new(&net.client, VIP.into(), &nginx, lasts).unwrap();
        fleet.spread = Duration::from_secs(1);
        let sailing = fleet.sail(36, fleet.spread, &Watch::nobody()).unwrap();
        std::thread::sleep(milliseconds(1500));
        match death {
            Death::Process => twin.kill9(),
            Death::Link => net.target_router.ip(&["link set host0 down"]).unwrap(),
            Death::Silence => {
                let firewall = Firewall::new(&net.target_hosts[0]).unwrap();
                firewall.rule("prerouting", "drop").unwrap();
            }
        }
        let date = change(&lab.targets_file(), &["remove", &dead.to_string(), "--gone"]);
        let gone = date.plus_millis(2 * SMALL_SKEW_MS);
        while_flipping(&mut lab.routes, || {
            wait_until(date);
            let again = fleet.clone();
            let shorts = net
                .client
                .thread(move || -> Vec<_> { (0..40).map(|_| again.short(None)).collect() });
            for short in shorts.unwrap().join().unwrap().unwrap() {
                assert_eq!((&short.end, short.target), (&End::Whole, Some(at(0))), "{short:?}");
                assert!(short.took < Duration::from_secs(5), "{short:?}");
            }
            while sailing.iter().any(|worker| !worker.is_finished()) {
                std::thread::sleep(milliseconds(50));
            }
        });
        assert_in_time(&lab);
        // Those that found it dead have none.
        let (live, died): (Vec<Life>, Vec<Life>) =
            join(sailing).into_iter().partition(|life| life.target == Some(at(0)));
        assert!(live.iter().all(|life| life.end == End::Whole), "{live:?}");
        assert!(live.len() >= 6 && died.len() >= 6, "{} {}", live.len(), died.len());
        let uploads = died.iter().filter(|life| life.kind == Kind::Upload && life.target.is_some());
        let told: Vec<u64> = uploads
            .map(|life| {
                assert!(matches!(&life.end, End::Broken(_)), "{life:?}");
                life.ended.as_millis().saturating_sub(gone.as_millis())
            })
            .collect();
        println!(
            "{death:?}: {} live, {} died; uploads told {told:?} ms after",
            live.len(),
            died.len()
        );
        // At the second time that they send again, of which the waits double since the death: 12.6
        // and 25.4 s after it where one was just before the target was gone, some 6 s after it.
        assert!(told.iter().all(|ms| *ms < 21_000), "{told:?}");
    }
}
