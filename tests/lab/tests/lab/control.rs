//! The control of the demo, by itself: HAProxy in the POPs serves while routes rest, and a moved
//! route breaks what runs. If this were not so, the demo's comparison would show nothing.

use std::time::Duration;

use crate::common::eventually;
use anyrelay_lab::{Direction, Forwarder, Lab, Nginx, command, topology};

#[test]
fn haproxy_serves_calm_routes_and_breaks_when_they_move() {
    let mut lab = Lab::builder().forwarder(Forwarder::HaProxy).build().unwrap();
    let mut nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
    std::fs::write(nginx.files().join("body"), vec![7; 300_000_000]).unwrap();
    let url = format!("http://{}/files/body", topology::VIP);
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
