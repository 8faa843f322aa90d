//! Links that fail under a running POP: interfaces that go down, lose their carrier, shrink or
//! vanish.

use std::time::{Duration, Instant};

use crate::common::{connect, eventually, serve};
use anyrelay_lab::config::METRICS;
use anyrelay_lab::{Device, Direction, Lab, http, link};

const SOON: Duration = Duration::from_secs(10);
/// Within this time a fault is noticed.
const NOTICED: Duration = Duration::from_secs(1);

fn readiness(lab: &Lab) -> (u16, String) {
    http::get(&lab.topology.pops[0], METRICS, "/readyz").unwrap()
}

fn port_up(lab: &Lab) -> f64 {
    lab.pops[0].metric("anyrelay_port_up", &[("port", "wan")]).unwrap()
}

fn losses(lab: &Lab) -> f64 {
    lab.pops[0].metric("anyrelay_port_link_losses_total", &[("port", "wan")]).unwrap()
}

/// Does something to the link towards clients, and asserts that the POP says so in these words
/// before long, on its page, in its log and in its metrics.
fn fails(lab: &Lab, what: &str, words: &str, break_it: impl FnOnce()) {
    let (logged, lost) = (lab.pops[0].log().len(), losses(lab));
    assert_eq!((readiness(lab), port_up(lab)), ((200, "ready\n".to_owned()), 1.0), "{what}");
    let start = Instant::now();
    break_it();
    eventually(what, NOTICED, || {
        let (status, text) = readiness(lab);
        status == 503 && text.contains("port wan: ") && text.contains(words)
    });
    println!("{what}: noticed after {:?}", start.elapsed());
    assert_eq!((port_up(lab), losses(lab)), (0.0, lost + 1.0), "{what}");
    assert!(lab.pops[0].log()[logged..].contains(words), "{what}");
}

/// Waits until the POP is ready, and forwards.
fn recovers(lab: &mut Lab, what: &str) {
    let start = Instant::now();
    lab.pops[0].wait_ready(SOON).unwrap();
    println!("{what}: ready again after {:?}", start.elapsed());
    assert_eq!(port_up(lab), 1.0, "{what}");
    // An interface that is down has no routes.
    for direction in Direction::BOTH {
        lab.routes.to(direction, 0).unwrap();
    }
    connect(lab).download(1, 100_000).unwrap();
}

fn faults_are_noticed(device: Device) {
    let mut lab = Lab::builder().pops(1).device(device).build().unwrap();
    let _server = serve(&lab);
    connect(&lab).download(1, 100_000).unwrap();
    let topology = lab.topology.clone();
    let (pop, router) = (&topology.pops[0], &topology.client_router);

    fails(&lab, "set down", "the interface wan is down", || {
        pop.ip(&["link set wan down"]).unwrap();
    });
    pop.ip(&["link set wan up"]).unwrap();
    recovers(&mut lab, "set down");

    fails(&lab, "peer down", "the interface wan has no carrier", || {
        router.ip(&["link set pop1 down"]).unwrap();
    });
    router.ip(&["link set pop1 up"]).unwrap();
    recovers(&mut lab, "peer down");

    fails(&lab, "MTU", "the interface wan has an MTU of 1400, but port.mtu is 1500", || {
        pop.ip(&["link set wan mtu 1400"]).unwrap();
    });
    pop.ip(&["link set wan mtu 1500"]).unwrap();
    recovers(&mut lab, "MTU");

    fails(&lab, "deleted", "the interface wan is gone", || {
        pop.ip(&["link del wan"]).unwrap();
    });
    // Another one of the same name is not the one that the port is on.
    link::connect((pop, "wan"), (router, "pop1"), 1500).unwrap();
    router.ip(&["addr add 10.1.1.1/24 dev pop1"]).unwrap();
    std::thread::sleep(NOTICED);
    assert!(readiness(&lab).1.contains("restart the POP"), "{:?}", readiness(&lab));
    assert!(lab.pops[0].is_running(), "{}", lab.pops[0].log());
    lab.pops[0].restart().unwrap();
    recovers(&mut lab, "deleted");
}

#[test]
fn faults_of_the_interface_of_a_packet_socket_are_noticed() {
    faults_are_noticed(Device::AfPacket);
}

#[test]
fn faults_of_the_interface_of_an_xdp_socket_are_noticed() {
    faults_are_noticed(Device::AfXdp);
}
