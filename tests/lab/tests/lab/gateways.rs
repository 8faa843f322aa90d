//! Gateways that die silently, and targets on the link that move, with the kernels' own ARP.

use std::time::{Duration, Instant};

use crate::common::{VIP, connect, drops, eventually, milliseconds, serve};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Lab, Service, link};

/// The address of a target on the POP's own link, which the router has beside its own.
const ON_LINK: &str = "10.2.1.50:8080";

fn rewrite(lab: &Lab, change: impl FnOnce(&mut toml::Table)) {
    let path = &lab.pops[0].config;
    let mut config: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    change(&mut config);
    std::fs::write(path, toml::to_string(&config).unwrap()).unwrap();
}

/// A lab whose POP has a second port towards targets, with a gateway of its own.
fn two_gateways(neighbours: &str) -> Lab {
    let mut lab = Lab::builder().pops(1).overlay(neighbours).build().unwrap();
    let (pop, router) = (&lab.topology.pops[0], &lab.topology.target_router);
    link::connect((pop, "lan2"), (router, "pop1b"), 1500).unwrap();
    router.ip(&["addr add 10.5.1.1/24 dev pop1b"]).unwrap();
    rewrite(&lab, |config| {
        let ports = config["port"].as_array_mut().unwrap();
        let mut port = ports[1].as_table().unwrap().clone();
        let device = port["device"].as_str().unwrap();
        let device = device.replace("iface=lan", "iface=lan2").replace("packet1", "packet2");
        port.insert("name".to_owned(), "lan2".into());
        port.insert("device".to_owned(), device.into());
        port.insert("addresses".to_owned(), vec!["10.5.1.2/24"].into());
        port.insert("gateways".to_owned(), vec!["10.5.1.1"].into());
        ports.push(port.into());
        let worker = config["worker"][0].as_table_mut().unwrap();
        worker.insert("rx".to_owned(), vec!["wan:0", "lan:0", "lan2:0"].into());
    });
    lab.pops[0].restart().unwrap();
    let both = || {
        let metrics = lab.pops[0].metrics().unwrap();
        metrics.sum("anyrelay_gateway_up", &[]) == 3.0
    };
    eventually("all gateways are used", Duration::from_secs(10), both);
    lab
}

/// How long it takes until a connection can be made.
fn time_to_connect(lab: &Lab, limit: Duration) -> Duration {
    let start = Instant::now();
    loop {
        let attempt = Connection::open(&lab.topology.client, VIP, milliseconds(100)).unwrap();
        if let Ok(mut connection) = attempt {
            let took = start.elapsed();
            connection.download(1, 100_000).unwrap();
            return took;
        }
        assert!(start.elapsed() < limit, "no connection within {limit:?}");
    }
}

/// Kills the gateway that the target is reached through, silently: its link stays up. Returns how
/// long nothing gets through.
fn outage(lab: &Lab, limit: Duration) -> Duration {
    let _server = serve(lab);
    connect(lab).download(1, 100_000).unwrap();
    let sent = |port| {
        let labels = [("port", port), ("direction", "tx")];
        lab.pops[0].metric("anyrelay_port_packets_total", &labels).unwrap()
    };
    let (port, interface, gateway) = match sent("lan") > sent("lan2") {
        true => ("lan", "pop1", "10.2.1.1"),
        false => ("lan2", "pop1b", "10.5.1.1"),
    };
    let router = &lab.topology.target_router;
    let firewall = Firewall::new(router).unwrap();
    firewall.rule("prerouting", &format!("iifname {interface} drop")).unwrap();
    router.ip(&[format!("link set {interface} arp off")]).unwrap();
    let took = time_to_connect(lab, limit);
    // The POP goes on, and says whom it misses.
    assert!(lab.pops[0].is_ready());
    let labels = [("port", port), ("gateway", gateway)];
    let metric = |name| lab.pops[0].metric(name, &labels).unwrap();
    eventually("it is told", Duration::from_secs(2), || metric("anyrelay_gateway_up") == 0.0);
    assert_eq!(metric("anyrelay_gateway_losses_total"), 1.0);
    assert!(lab.pops[0].log().contains("its share goes to the others"), "{}", lab.pops[0].log());
    // It comes back.
    firewall.flush("prerouting").unwrap();
    router.ip(&[format!("link set {interface} arp on")]).unwrap();
    eventually("it answers", Duration::from_secs(5), || metric("anyrelay_gateway_up") == 1.0);
    connect(lab).download(1, 100_000).unwrap();
    took
}

#[test]
fn a_silent_gateways_share_moves_by_default() {
    let took = outage(&two_gateways(""), Duration::from_secs(30));
    println!("default: {took:?}");
    assert!(took < Duration::from_secs(25), "{took:?}");
}

#[test]
fn a_silent_gateways_share_moves_within_a_second_if_asked_to() {
    let fast = "[neighbours]\nrefresh_ms = 100\nprobe_interval_ms = 100";
    // A machine that is busy with other work may take a second for anything: once must do.
    let outages = (0..3).map(|_| outage(&two_gateways(fast), Duration::from_secs(10)));
    let measured = outages.inspect(|took| println!("fast: {took:?}"));
    assert!(measured.into_iter().any(|took| took < Duration::from_secs(1)));
}

/// With no other gateway the POP is not ready, and is again once the gateway answers.
#[test]
fn a_lone_gateway_that_dies_is_told_of() {
    let fast = "[neighbours]\nrefresh_ms = 100\nprobe_interval_ms = 100";
    let mut lab = Lab::builder().pops(1).overlay(fast).build().unwrap();
    let router = lab.topology.clone();
    router.target_router.ip(&["link set pop1 arp off"]).unwrap();
    eventually("not ready", Duration::from_secs(1), || !lab.pops[0].is_ready());
    let log = lab.pops[0].log();
    assert!(log.contains("gateway 10.2.1.1 does not answer ARP"), "{log}");
    router.target_router.ip(&["link set pop1 arp on"]).unwrap();
    lab.pops[0].wait_ready(Duration::from_secs(2)).unwrap();
}

/// A target on the link gets another MAC, as one that moves to another machine, and tells all.
#[test]
fn a_target_on_the_link_may_change_its_mac() {
    let targets = vec![ON_LINK.parse().unwrap()];
    let service = Service { targets, ..Service::default() };
    let lab = Lab::builder().pops(1).service(service).build().unwrap();
    let router = &lab.topology.target_router;
    router.ip(&["addr add 10.2.1.50/24 dev pop1"]).unwrap();
    let _server = Server::start(router, ON_LINK.parse::<std::net::SocketAddr>().unwrap()).unwrap();
    time_to_connect(&lab, Duration::from_secs(10));
    router.sysctl("net.ipv4.conf.pop1.arp_notify", "1").unwrap();
    router.ip(&["link set pop1 address 02:00:00:00:77:02"]).unwrap();
    let took = time_to_connect(&lab, Duration::from_secs(30));
    println!("moved: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A reload brings a target on the link: its first client need not send its SYN again.
#[test]
fn a_target_that_a_reload_brings_is_known_before_its_first_client() {
    let mut lab = Lab::builder().pops(1).build().unwrap();
    let router = lab.topology.clone();
    router.target_router.ip(&["addr add 10.2.1.50/24 dev pop1"]).unwrap();
    let target: std::net::SocketAddr = ON_LINK.parse().unwrap();
    let _server = Server::start(&router.target_router, target).unwrap();
    rewrite(&lab, |config| {
        let relays = config["relay"].as_array_mut().unwrap();
        let mut relay = relays[0].as_table().unwrap().clone();
        relay.insert("name".to_owned(), "near".into());
        relay.insert("vip".to_owned(), "203.0.113.10:81".into());
        relay.insert("targets".to_owned(), vec![ON_LINK].into());
        relays.push(relay.into());
    });
    let before = drops(&lab, "neighbour_unresolved");
    lab.pops[0].sighup().unwrap();
    eventually("the target is known", Duration::from_secs(5), || {
        let labels = [("kind", "neighbour")];
        lab.pops[0].metric("anyrelay_absorbed_total", &labels).unwrap() == 3.0
    });
    let vip = std::net::SocketAddr::new((*VIP.ip()).into(), 81);
    let start = Instant::now();
    let limit = Duration::from_secs(10);
    let mut connection = Connection::open(&router.client, vip, limit).unwrap().unwrap();
    let took = start.elapsed();
    println!("first connect: {took:?}");
    assert_eq!(drops(&lab, "neighbour_unresolved"), before, "its SYN was not dropped");
    connection.download(1, 100_000).unwrap();
}
