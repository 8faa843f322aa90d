//! The control of the demo, by itself: HAProxy in the POPs serves while routes rest, and a moved
//! route breaks what runs. If this were not so, the demo's comparison would show nothing.

use std::io::Read;
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::common::eventually;
use anyrelay_lab::config::{TARGET_PORT, VIP_PORT};
use anyrelay_lab::topology::{TARGET, VIP};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Direction, Forwarder, Lab, Namespace, Nginx, Pop, command};

#[test]
fn haproxy_serves_calm_routes_and_breaks_when_they_move() {
    let mut lab = Lab::builder().forwarder(Forwarder::HaProxy).build().unwrap();
    let mut nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
    std::fs::write(nginx.files().join("body"), vec![7; 300_000_000]).unwrap();
    let url = format!("http://{}/files/body", VIP);
    let curl = |extra: &[&str]| {
        let mut curl = lab.topology.client.command("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{size_download}"]);
        curl.args(extra).arg(&url);
        curl
    };
    let accepted = nginx.accepts().unwrap();
    assert_eq!(command::run(&mut curl(&["--max-time", "100"])).unwrap(), "300000000");
    assert_eq!(nginx.accepts().unwrap(), accepted + 1, "one connection, one accept");

    let mut slow = curl(&["--max-time", "20", "--limit-rate", "20M"]);
    let transfer = std::thread::spawn(move || command::run(&mut slow));
    eventually("it has begun", Duration::from_secs(10), || nginx.accepts().unwrap() > accepted + 1);
    std::thread::sleep(Duration::from_millis(500));
    lab.routes.to(Direction::Up, 1).unwrap();
    let outcome = transfer.join().unwrap();
    assert!(outcome.is_err(), "the other POP does not know the connection: {outcome:?}");
}

#[test]
fn killed_pop_is_gone_and_comes_back() {
    let mut lab = Lab::builder().pops(2).forwarder(Forwarder::HaProxy).build().unwrap();
    let pop = &mut lab.pops[1];
    assert!(pop.is_ready() && pop.is_running());
    pop.bury();
    assert!(!pop.is_ready() && !pop.is_running());
    pop.restart().unwrap();
    assert!(pop.is_ready());
}

#[test]
fn nginx_passes_connections_on() {
    let lab = Lab::builder().pops(1).forwarder(Forwarder::NginxStream).build().unwrap();
    transfer(&lab);
}

#[test]
fn relay_works_where_the_kernel_drops_its_copies() {
    let lab = Lab::builder().pops(1).build().unwrap();
    transfer(&lab);
    assert!(refused(&lab.pops[0]) > 0, "without rules the kernel looks for routes");
    let lab = Lab::builder().pops(1).drop_copies().build().unwrap();
    transfer(&lab);
    assert_eq!(refused(&lab.pops[0]), 0);
}

/// A body down and another up, over one connection through the POP.
fn transfer(lab: &Lab) {
    let net = &lab.topology;
    let server = Server::start(&net.target, SocketAddrV4::new(TARGET, TARGET_PORT)).unwrap();
    let vip = SocketAddrV4::new(VIP, VIP_PORT);
    let opened = Connection::open(&net.client, vip, Duration::from_secs(5)).unwrap();
    let mut connection = opened.unwrap();
    connection.download(1, 3_000_000).unwrap();
    connection.upload(2, 3_000_000).unwrap();
    assert_eq!(server.accepted(), 1);
}

/// How many packets the kernel of a POP has refused, as they are not for it.
fn refused(pop: &Pop) -> u64 {
    let read = |pop: &Namespace, file: &str| {
        let mut text = String::new();
        pop.open(file).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    let text = read(pop.namespace(), "/proc/thread-self/net/snmp")
        + &read(pop.namespace(), "/proc/thread-self/net/netstat");
    let lines: Vec<&str> = text.lines().collect();
    let of_pair = |pair: &[&str]| {
        let pairs = pair[0].split_whitespace().zip(pair[1].split_whitespace());
        let found = pairs.filter(|(name, _)| ["InAddrErrors", "InNoRoutes"].contains(name));
        found.map(|(_, count)| count.parse::<u64>().unwrap()).sum::<u64>()
    };
    lines.chunks_exact(2).map(of_pair).sum()
}
