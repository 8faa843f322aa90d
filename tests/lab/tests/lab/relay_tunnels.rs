//! Relays whose clients' datagrams go whole to the target in a tunnel, between both families, with
//! the kernels' own TCP at both ends.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::common::flaps::{flip, kill_pops};
use crate::common::{Busy, LIMIT, connect_to, drops, full, milliseconds, netstat};
use anyrelay_lab::config::tunnel_from;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Decapsulator, Direction, Encapsulation, Lab, Service, topology};

/// Every protocol between all families of clients and targets, or each family once.
fn tunnels() -> Vec<(Encapsulation, Service)> {
    let mut all = Vec::new();
    for encapsulation in [Encapsulation::Ipip, Encapsulation::Gue] {
        for [vip, target] in [[false, false], [true, false], [false, true], [true, true]] {
            let is_short = (encapsulation == Encapsulation::Gue) == (vip != target);
            if full() || is_short {
                all.push((encapsulation, Service::tunnel(encapsulation, [vip, target])));
            }
        }
    }
    all
}

/// A lab, with its target's end of the tunnel.
fn tunnelled(encapsulation: Encapsulation, service: &Service, pops: usize) -> (Lab, Decapsulator) {
    let lab = Lab::builder().service(service.clone()).pops(pops).build().unwrap();
    let (target, host) = (service.targets[0], &lab.topology.target);
    let ends = (target.ip(), tunnel_from(target.is_ipv6()));
    let end = Decapsulator::start(host, encapsulation, ends, service.vip.ip()).unwrap();
    (lab, end)
}

fn serve(lab: &Lab, service: &Service) -> Server {
    Server::start(&lab.topology.target, (service.vip.ip(), service.vip.port())).unwrap()
}

fn is_client(service: &Service, peer: SocketAddr) -> bool {
    match service.vip.is_ipv6() {
        true => peer.ip() == topology::CLIENT6,
        false => peer.ip() == topology::CLIENT,
    }
}

#[test]
fn flips_and_killed_pops_break_nothing_in_tunnels() {
    for (encapsulation, service) in tunnels() {
        let (mut lab, end) = tunnelled(encapsulation, &service, 3);
        let server = serve(&lab, &service);
        let busy = Busy::start_to(&lab, service.vip);
        flip(&mut lab, if full() { 300 } else { 10 });
        kill_pops(&mut lab, if full() { 6 } else { 1 });
        for direction in Direction::BOTH {
            lab.routes.spray(direction, &[0, 1, 2]).unwrap();
        }
        std::thread::sleep(milliseconds(if full() { 10_000 } else { 500 }));
        busy.finish();
        assert_eq!(server.accepted(), 2, "one connection each");
        // The server sees the clients themselves.
        assert!(server.peers().iter().all(|peer| is_client(&service, *peer)), "{server:?}");
        assert!(end.taken() > 1000, "{}", end.taken());
        for reason in ["unknown_target", "tcp_checksum", "too_big", "no_room"] {
            assert_eq!(drops(&lab, reason), 0.0, "{reason}: {service:?}");
        }
    }
}

#[test]
fn closed_ports_are_refused_at_once_in_tunnels() {
    for (encapsulation, service) in tunnels() {
        let (lab, _end) = tunnelled(encapsulation, &service, 1);
        let outcome = Connection::open(&lab.topology.client, service.vip, LIMIT).unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{service:?}");
        let again = netstat(&lab.topology.client, "TCPSynRetrans");
        assert_eq!(again, 0, "{service:?}: the first SYN was answered");
    }
}

/// The links to the target are narrower than clients believe: they learn it of the POP.
#[test]
fn clients_learn_the_mtu_of_the_tunnel() {
    for (encapsulation, service) in tunnels() {
        let (lab, _end) = tunnelled(encapsulation, &service, 1);
        let _server = serve(&lab, &service);
        let mut connection = connect_to(&lab, service.vip);
        connection.upload(1, 100_000).unwrap();
        let target =
            if service.targets[0].is_ipv6() { "2001:db8:2::/64" } else { "198.51.100.0/24" };
        let narrow = format!("route replace {target} dev target mtu lock 1400");
        lab.topology.target_router.ip(&[narrow]).unwrap();
        connection.upload(2, 3_000_000).unwrap();
    }
}
