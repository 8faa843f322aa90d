//! Relays whose clients' datagrams go whole to the target in a tunnel, between both families, with
//! the kernels' own TCP at both ends.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::common::flaps::{flip_only, kill_carriers};
use crate::common::{
    Busy, LIMIT, connect_to, drops, full, metric, milliseconds, netstat, socket_info,
};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Decapsulator, Direction, Encapsulation, Lab, Service, topology};

/// Every protocol between all families of clients and targets with both ways back, or some of each.
fn tunnels() -> Vec<Service> {
    let mut all = Vec::new();
    for encapsulation in [Encapsulation::Ipip, Encapsulation::Gue] {
        for [vip, target] in [[false, false], [true, false], [false, true], [true, true]] {
            let service = Service::tunnel(encapsulation, [vip, target]);
            let is_gue = encapsulation == Encapsulation::Gue;
            if full() || is_gue == (vip != target) {
                all.push(service.clone());
            }
            if full() || is_gue == vip && !target {
                all.push(service.direct());
            }
        }
    }
    all
}

/// A lab, with its target's end of the tunnel.
fn tunnelled(service: &Service, pops: usize) -> (Lab, Decapsulator) {
    let builder = Lab::builder().service(service.clone()).pops(pops);
    let builder = if service.is_direct() { builder.direct() } else { builder };
    let lab = builder.build().unwrap();
    let end = Decapsulator::of(&lab.topology.target, service).unwrap().unwrap();
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

/// The directions that go through POPs.
fn directions(service: &Service) -> &'static [Direction] {
    if service.is_direct() { &[Direction::Up] } else { &Direction::BOTH }
}

/// Has the target offer an MSS, as no POP does for it.
fn offer_mss(lab: &Lab, service: &Service, mss: u16) {
    let gateway = if service.vip.is_ipv6() { "2001:db8:2::1" } else { "198.51.100.1" };
    let route = format!("route replace default via {gateway} advmss {mss}");
    lab.topology.target.ip(&[route]).unwrap();
}

#[test]
fn flips_and_killed_pops_break_nothing_in_tunnels() {
    for service in tunnels() {
        let (mut lab, end) = tunnelled(&service, 3);
        let server = serve(&lab, &service);
        let moved = directions(&service);
        if service.is_direct() {
            offer_mss(&lab, &service, service.mss());
        }
        let busy = Busy::start_to(&lab, service.vip);
        flip_only(&mut lab, moved, if full() { 300 } else { 10 });
        kill_carriers(&mut lab, moved, if full() { 6 } else { 1 });
        for &direction in moved {
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
        let labels = [("service", "web"), ("direction", "down")];
        let down = metric(&lab, "anyrelay_service_packets_total", &labels);
        assert_eq!(down == 0.0, service.is_direct(), "{down} answers passed POPs: {service:?}");
    }
}

#[test]
fn closed_ports_are_refused_at_once_in_tunnels() {
    for service in tunnels() {
        let (lab, _end) = tunnelled(&service, 1);
        let outcome = Connection::open(&lab.topology.client, service.vip, LIMIT).unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{service:?}");
        let again = netstat(&lab.topology.client, "TCPSynRetrans");
        assert_eq!(again, 0, "{service:?}: the first SYN was answered");
    }
}

/// The links to the target are narrower than clients believe: they learn it of the POP, also where
/// that does not see what the target offers.
#[test]
fn clients_learn_the_mtu_of_the_tunnel() {
    for service in tunnels() {
        let (lab, _end) = tunnelled(&service, 1);
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

/// A target that offers an MSS that fits the tunnel has no client told of an MTU.
#[test]
fn nobody_is_told_an_mtu_where_targets_offer_an_mss_that_fits() {
    for service in tunnels().into_iter().filter(Service::is_direct) {
        let (lab, _end) = tunnelled(&service, 1);
        let _server = serve(&lab, &service);
        let kind = match service.vip.is_ipv6() {
            true => "icmp_packet_too_big",
            false => "icmp_fragmentation_needed",
        };
        let told = || metric(&lab, "anyrelay_replies_total", &[("kind", kind)]);
        let upload = || {
            let mut connection = connect_to(&lab, service.vip);
            connection.upload(1, 100_000).unwrap();
            connection
        };
        offer_mss(&lab, &service, service.mss());
        let connection = upload();
        let peer = service.vip.to_string();
        let of_client = socket_info(&lab.topology.client, &peer, "mss");
        // Timestamps take 12 bytes of each.
        assert_eq!(of_client, u64::from(service.mss()) - 12, "{service:?}");
        assert_eq!(told(), 0.0, "{service:?}");
        drop(connection);
        offer_mss(&lab, &service, 1460);
        upload();
        assert_ne!(told(), 0.0, "{service:?}");
    }
}
