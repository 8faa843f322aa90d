//! Services: transparent, several targets, several services on one pool.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::common::{Busy, LIMIT, VIP, connect, milliseconds, serve};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Direction, Lab, Service, topology};

fn flip_a_while(lab: &mut Lab) {
    for n in 0..20 {
        lab.routes.to(Direction::Up, n % 3).unwrap();
        lab.routes.to(Direction::Down, (n / 2 + 1) % 3).unwrap();
        std::thread::sleep(milliseconds(100));
    }
}

#[test]
fn transparent_service_shows_the_client_and_survives_flips() {
    let mut lab = Lab::builder().transparent().build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start(&lab);
    flip_a_while(&mut lab);
    busy.finish();
    assert_eq!(server.accepted(), 2);
    assert!(server.peers().iter().all(|peer| peer.ip() == topology::CLIENT));
}

#[test]
fn several_targets_share_clients_and_keep_them() {
    let targets: Vec<SocketAddrV4> =
        (10..14).map(|last| SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, last), 8080)).collect();
    let service = Service {
        targets: targets.iter().map(|target| (*target).into()).collect(),
        ..Service::default()
    };
    let mut lab = Lab::builder().service(service).build().unwrap();
    let start = |address: &SocketAddrV4| Server::start(&lab.topology.target, *address).unwrap();
    let servers: Vec<Server> = targets.iter().map(start).collect();
    let mut idle: Vec<Connection> = (0..200).map(|_| connect(&lab)).collect();
    for connection in &mut idle {
        connection.download(1, 1000).unwrap();
    }
    let busy = Busy::start(&lab);
    flip_a_while(&mut lab);
    busy.finish();
    // Every other POP chooses the same target for each.
    for pop in 0..3 {
        lab.routes.to(Direction::Up, pop).unwrap();
        std::thread::sleep(milliseconds(50));
        for connection in &mut idle {
            connection.download(2, 1000).unwrap();
        }
    }
    let accepted: Vec<u64> = servers.iter().map(Server::accepted).collect();
    assert_eq!(accepted.iter().sum::<u64>(), 202);
    // 50 each on average, with a deviation of 6.
    assert!(accepted.iter().all(|n| (25..80).contains(n)), "{accepted:?}");
}

#[test]
fn services_on_one_pool_lead_to_their_own_targets() {
    let lab = Lab::builder()
        .service(Service::new("web", 80, 8080))
        .service(Service::new("mail", 25, 8025))
        .build()
        .unwrap();
    let web = serve(&lab);
    let mail =
        Server::start(&lab.topology.target, SocketAddrV4::new(topology::TARGET, 8025)).unwrap();
    connect(&lab).upload(1, 100_000).unwrap();
    let to_mail = SocketAddrV4::new(*VIP.ip(), 25);
    for n in 0..3 {
        let connection = Connection::open(&lab.topology.client, to_mail, LIMIT).unwrap();
        connection.unwrap().download(n, 100_000).unwrap();
    }
    assert_eq!((web.accepted(), mail.accepted()), (1, 3));
    let up = |service| {
        let labels = [("service", service), ("direction", "up")];
        lab.pops[0].metric("anyrelay_service_packets_total", &labels).unwrap()
    };
    assert!(up("web") > 0.0 && up("mail") > 0.0);
}
