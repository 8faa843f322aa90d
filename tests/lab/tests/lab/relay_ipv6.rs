//! Relays with IPv6 on a side: IPv4 clients of a target over IPv6 (prefix), and IPv6 clients of a
//! target over IPv6 (transparent, and by a pool), with the kernels' own TCP, neighbour discovery
//! and path MTU.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::common::flaps::{flip, kill_pops};
use crate::common::{
    Busy, LIMIT, connect_to, drops, eventually, full, metric, milliseconds, narrow_ports, netstat,
    socket_info,
};
use anyrelay_lab::config::{TARGET_PORT, VIP_PORT};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Direction, Egress, Lab, Namespace, Service, command, topology};

const BYTES: usize = 3_000_000;

/// A mode, by the service that has it.
fn modes() -> [Service; 3] {
    [Service::prefix(), Service::transparent6(), Service::pool6()]
}

fn lab_of(service: &Service) -> LabBuilder {
    Lab::builder().service(service.clone())
}

fn serve(lab: &Lab) -> Server {
    Server::start(&lab.topology.target, (topology::TARGET6, TARGET_PORT)).unwrap()
}

/// Whether a target may see this as the address of the lab's client.
fn is_client(service: &Service, peer: SocketAddr) -> bool {
    let IpAddr::V6(peer) = peer.ip() else { return false };
    if matches!(service.egress, Egress::Pool6(_)) {
        return peer.to_bits() >> 116 == 0xfd4;
    }
    if service.vip.is_ipv6() {
        return peer == topology::CLIENT6;
    }
    // Prefix, zeros, the client's address, check.
    let prefix: Ipv6Addr = topology::PREFIX.split('/').next().unwrap().parse().unwrap();
    peer.segments()[..4] == prefix.segments()[..4]
        && (peer.to_bits() >> 32) as u32 == topology::CLIENT.to_bits()
}

#[test]
fn flips_and_killed_pops_break_nothing() {
    for service in modes() {
        let mut lab = lab_of(&service).build().unwrap();
        let server = serve(&lab);
        let busy = Busy::start_to(&lab, service.vip);
        flip(&mut lab, if full() { 300 } else { 40 });
        kill_pops(&mut lab, if full() { 12 } else { 3 });
        busy.finish();
        assert_eq!(server.accepted(), 2, "one connection each");
        assert!(server.peers().iter().all(|peer| is_client(&service, *peer)), "{server:?}");
        assert_eq!(drops(&lab, "bad_tag") + drops(&lab, "tcp_checksum"), 0.0);
    }
}

/// Clients without timestamps, into whose segments the POPs put them.
#[test]
fn clients_without_timestamps_live_through_flips_behind_a_pool() {
    let service = Service::pool6();
    let mut lab = lab_of(&service).client_timestamps(false).build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start_to(&lab, service.vip);
    flip(&mut lab, if full() { 300 } else { 40 });
    kill_pops(&mut lab, if full() { 12 } else { 3 });
    busy.finish();
    assert_eq!(server.accepted(), 2, "one connection each");
    assert_eq!(drops(&lab, "bad_tag") + drops(&lab, "tcp_checksum") + drops(&lab, "too_big"), 0.0);
}

#[test]
fn spraying_breaks_nothing() {
    for service in modes() {
        let mut lab = lab_of(&service).build().unwrap();
        let server = serve(&lab);
        let busy = Busy::start_to(&lab, service.vip);
        for direction in Direction::BOTH {
            lab.routes.spray(direction, &[0, 1, 2]).unwrap();
        }
        std::thread::sleep(milliseconds(if full() { 30_000 } else { 2_000 }));
        busy.finish();
        assert_eq!(server.accepted(), 2, "one connection each");
    }
}

/// No two clients share an address and a port, so that none is slow.
#[test]
fn short_connections_are_all_fast() {
    for service in modes() {
        let mut lab = lab_of(&service).build().unwrap();
        let server = serve(&lab);
        let vip = service.vip;
        let per_thread = if full() { 1000 } else { 100 };
        let work = move || -> std::io::Result<Duration> {
            let mut slowest = Duration::ZERO;
            for n in 0..per_thread {
                let start = Instant::now();
                let mut connection = Connection::open_here(vip, LIMIT)?;
                slowest = slowest.max(start.elapsed());
                connection.download(n, 1000)?;
            }
            Ok(slowest)
        };
        let threads: Vec<_> = (0..10).map(|_| lab.topology.client.thread(work).unwrap()).collect();
        for n in 0..10 {
            lab.routes.to(Direction::Up, n % 3).unwrap();
            lab.routes.to(Direction::Down, (n + 1) % 3).unwrap();
            std::thread::sleep(milliseconds(100));
        }
        for thread in threads {
            let slowest = thread.join().unwrap().unwrap().unwrap();
            assert!(slowest < milliseconds(1000), "{}: {slowest:?}", service.vip);
        }
        assert_eq!(server.accepted(), per_thread * 10);
    }
}

#[test]
fn closed_ports_are_refused_at_once() {
    for service in modes() {
        let lab = lab_of(&service).pops(1).build().unwrap();
        // At the target, whose RST is mapped; and at the VIP, where there is no service.
        for port in [VIP_PORT, 81] {
            let to = SocketAddr::new(service.vip.ip(), port);
            let outcome = Connection::open(&lab.topology.client, to, LIMIT).unwrap();
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to}");
            let again = netstat(&lab.topology.client, "TCPSynRetrans");
            assert_eq!(again, 0, "{to}: the first SYN was answered");
        }
    }
}

/// What `ip route get` says of a destination.
fn route(namespace: &Namespace, destination: IpAddr) -> String {
    command::run(namespace.command("ip").args(["route", "get", &destination.to_string()])).unwrap()
}

/// A router on the way to the client has a smaller MTU than its links: the target must learn it.
#[test]
fn targets_learn_the_mtu_towards_clients() {
    for (service, narrow, learned) in [
        // The target's datagrams are 20 bytes longer than what is left of them there.
        (Service::prefix(), "route replace 192.0.2.0/24 dev client mtu 1300", "mtu 1320"),
        (
            Service::transparent6(),
            "route replace 2001:db8:1::/64 dev client metric 256 mtu lock 1300",
            "mtu 1300",
        ),
        (
            Service::pool6(),
            "route replace 2001:db8:1::/64 dev client metric 256 mtu lock 1300",
            "mtu 1300",
        ),
    ] {
        let lab = lab_of(&service).pops(1).build().unwrap();
        let server = serve(&lab);
        let mut connection = connect_to(&lab, service.vip);
        connection.download(1, 100_000).unwrap();
        lab.topology.client_router.ip(&[narrow]).unwrap();
        connection.download(2, BYTES).unwrap();
        let route = route(&lab.topology.target, server.peers()[0].ip());
        assert!(route.contains(learned), "{route}");
    }
}

/// A router on the way to the target has a smaller MTU: the client must learn it.
#[test]
fn clients_learn_the_mtu_towards_targets() {
    let narrow = "route replace 2001:db8:2::/64 dev target metric 256 mtu lock 1300";
    for (service, learned) in [
        (Service::prefix(), "mtu 1280"),
        (Service::transparent6(), "mtu 1300"),
        (Service::pool6(), "mtu 1300"),
    ] {
        let lab = lab_of(&service).pops(1).build().unwrap();
        let _server = serve(&lab);
        let mut connection = connect_to(&lab, service.vip);
        connection.upload(1, 100_000).unwrap();
        lab.topology.target_router.ip(&[narrow]).unwrap();
        connection.upload(2, BYTES).unwrap();
        let route = route(&lab.topology.client, service.vip.ip());
        assert!(route.contains(learned), "{route}");
    }
}

/// The ports of the POP itself become narrow under a live connection: the POP tells each sender, in
/// the family that it sends in, how much fits.
#[test]
fn senders_learn_the_mtu_of_a_pop_from_itself() {
    const NEEDED: &str = "icmp_fragmentation_needed";
    const TOO_BIG: &str = "icmp_packet_too_big";
    for (service, (client_learns, answer), target_learns) in [
        // Between IPv4 and IPv6, a datagram is 20 bytes longer on the way up and shorter down.
        (Service::prefix(), ("mtu 1280", NEEDED), "mtu 1320"),
        (Service::transparent6(), ("mtu 1300", TOO_BIG), "mtu 1300"),
        (Service::pool6(), ("mtu 1300", TOO_BIG), "mtu 1300"),
    ] {
        let mut lab = lab_of(&service).pops(1).build().unwrap();
        let server = serve(&lab);
        let mut connection = connect_to(&lab, service.vip);
        connection.download(1, 100_000).unwrap();
        connection.upload(2, 100_000).unwrap();
        narrow_ports(&mut lab, 1300);
        let routers = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
            let firewall = Firewall::new(router).unwrap();
            firewall.count("long", "iifname pop1 meta length > 1300").unwrap();
            firewall
        });
        let sent = |kind| metric(&lab, "anyrelay_replies_total", &[("kind", kind)]);
        let routes = || {
            let client = route(&lab.topology.client, service.vip.ip());
            (client, route(&lab.topology.target, server.peers()[0].ip()))
        };
        let (client, target) = routes();
        assert!(!client.contains(client_learns) && !target.contains(target_learns));
        assert_eq!(sent(NEEDED) + sent(TOO_BIG), 0.0);

        connection.upload(3, BYTES).unwrap();
        let client = routes().0;
        assert!(client.contains(client_learns), "{client}");
        let told = sent(answer);
        assert!(told > 0.0, "{}", service.vip);

        connection.download(4, BYTES).unwrap();
        let target = routes().1;
        assert!(target.contains(target_learns), "{target}");
        let all = sent(NEEDED) + sent(TOO_BIG);
        assert!(all > told && sent(TOO_BIG) > 0.0, "{}", service.vip);
        assert!(drops(&lab, "too_big") >= all);
        for router in routers {
            assert_eq!(router.packets("long").unwrap(), 0, "{}: none is too long", service.vip);
        }
    }
}

/// SYNs in both directions say what the other side's headers leave room for.
#[test]
fn segments_fit_without_asking() {
    for service in modes() {
        let lab = lab_of(&service).build().unwrap();
        let server = serve(&lab);
        let too_long = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
            let firewall = Firewall::new(router).unwrap();
            firewall.count("long", "meta length > 1500").unwrap();
            firewall.count("needed", "icmp type destination-unreachable").unwrap();
            firewall.count("big", "icmpv6 type packet-too-big").unwrap();
            firewall
        });
        let mut connection = connect_to(&lab, service.vip);
        connection.download(1, BYTES).unwrap();
        connection.upload(2, BYTES).unwrap();
        for router in too_long {
            for counter in ["long", "needed", "big"] {
                assert_eq!(router.packets(counter).unwrap(), 0, "{}: {counter}", service.vip);
            }
        }
        // With timestamps, 1500 - 40 - 20 - 12 over IPv6.
        let (vip, client) = (service.vip.to_string(), server.peers()[0].to_string());
        assert_eq!(socket_info(&lab.topology.client, &vip, "mss"), 1428);
        assert_eq!(socket_info(&lab.topology.target, &client, "mss"), 1428);
    }
}

#[test]
fn a_gateway_that_is_not_found_is_asked_for_until_it_is() {
    let service = Service::prefix();
    let mut lab = lab_of(&service).pops(1).build().unwrap();
    let _server = serve(&lab);
    lab.pops[0].bury();
    let router = lab.topology.clone();
    let silence = Firewall::new(&router.target_router).unwrap();
    silence.rule("output", "oifname pop1 icmpv6 type nd-neighbor-advert drop").unwrap();
    lab.pops[0].start().unwrap();
    eventually("a question unanswered", Duration::from_secs(40), || {
        let metrics = lab.pops[0].metrics();
        metrics.is_ok_and(|metrics| metrics.sum("anyrelay_ports", &[]) >= 0.0)
            && !lab.pops[0].is_ready()
            && lab.pops[0].log().contains("2001:db8:4:1::1")
    });
    let refused = Connection::open(&lab.topology.client, service.vip, Duration::from_secs(3));
    assert_eq!(refused.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(drops(&lab, "neighbour_unresolved") >= 2.0, "each SYN");
    silence.flush("output").unwrap();
    lab.pops[0].wait_ready(Duration::from_secs(30)).unwrap();
    connect_to(&lab, service.vip).download(1, 100_000).unwrap();
}

/// A router that gets another MAC tells everybody, as it does when another takes its place.
#[test]
fn a_gateway_may_change_its_mac() {
    let service = Service::transparent6();
    let lab = lab_of(&service).pops(1).build().unwrap();
    let _server = serve(&lab);
    let mut connection = connect_to(&lab, service.vip);
    connection.upload(1, 100_000).unwrap();
    for router in [&lab.topology.client_router, &lab.topology.target_router] {
        router.sysctl("net.ipv6.conf.pop1.ndisc_notify", "1").unwrap();
        router.ip(&["link set pop1 address 02:00:00:00:77:01"]).unwrap();
    }
    let start = Instant::now();
    connection.upload(2, 100_000).unwrap();
    connection.download(3, 100_000).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A router that is gone is not sent to for ever, and the POP says so.
#[test]
fn a_gateway_that_falls_silent_is_missed() {
    if !full() {
        return;
    }
    let service = Service::transparent6();
    let lab = lab_of(&service).pops(1).build().unwrap();
    let _server = Server::start(&lab.topology.target, service.targets[0]).unwrap();
    let silence = Firewall::new(&lab.topology.target_router).unwrap();
    silence.rule("output", "oifname pop1 icmpv6 type nd-neighbor-advert drop").unwrap();
    eventually("not ready", Duration::from_secs(90), || !lab.pops[0].is_ready());
    // The address that it had is used until 60 s after its last answer.
    let connect = || Connection::open(&lab.topology.client, service.vip, Duration::from_secs(3));
    connect().unwrap().unwrap();
    eventually("cut off", Duration::from_secs(90), || connect().unwrap().is_err());
    assert!(drops(&lab, "neighbour_unresolved") >= 1.0);
    silence.flush("output").unwrap();
    eventually("ready again", Duration::from_secs(30), || lab.pops[0].is_ready());
}
