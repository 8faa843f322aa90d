//! Reload, drain, and what a POP's kernel may not do.

use std::time::{Duration, Instant};

use crate::common::{Busy, connect, eventually, full, milliseconds, restart, serve, socket_info};
use anyrelay_lab::config::METRICS;
use anyrelay_lab::counters::{InterfaceCounters, PopCounters};
use anyrelay_lab::{Lab, Pop, http};

const SOON: Duration = Duration::from_secs(30);

fn digest(pop: &Pop) -> String {
    pop.metrics().unwrap().label("anyrelay_config_info", "digest").unwrap().to_owned()
}

fn rewrite(pop: &Pop, change: impl FnOnce(String) -> String) {
    let text = change(std::fs::read_to_string(&pop.config).unwrap());
    std::fs::write(&pop.config, text).unwrap();
}

#[test]
fn reload_changes_new_connections_and_leaves_running_ones() {
    let mut lab = Lab::builder().pops(1).build().unwrap();
    let server = serve(&lab);
    let before = connect(&lab);
    let mss = |lab: &Lab| socket_info(&lab.topology.client, "203.0.113.10", "mss");
    assert_eq!(mss(&lab), 1448);
    drop(before);
    let wait_until_closed = || {
        eventually("what there was is closed", SOON, || {
            let mut ss = lab.topology.client.command("ss");
            let text = anyrelay_lab::command::run(ss.args(["-tinH", "dst", "203.0.113.10"]));
            text.unwrap().is_empty()
        });
    };
    wait_until_closed();

    let busy = Busy::start(&lab);
    std::thread::sleep(milliseconds(500));
    let old = digest(&lab.pops[0]);
    rewrite(&lab.pops[0], |text| text.replace("[[relay]]\n", "[[relay]]\nmss = 1000\n"));
    lab.pops[0].sighup().unwrap();
    eventually("the digest changes", SOON, || digest(&lab.pops[0]) != old);
    std::thread::sleep(milliseconds(500));
    busy.finish();
    assert_eq!(server.accepted(), 3);
    wait_until_closed();

    let mut after = connect(&lab);
    assert_eq!(mss(&lab), 1000 - 12, "the clamp applies to what connects now");
    after.download(1, 100_000).unwrap();
}

#[test]
fn refused_reload_leaves_the_running_config() {
    let mut lab = Lab::builder().pops(1).build().unwrap();
    let _server = serve(&lab);
    let old = digest(&lab.pops[0]);
    let good = std::fs::read_to_string(&lab.pops[0].config).unwrap();
    let mut connection = connect(&lab);
    // Each with a word that the log must hold.
    let cases = [
        (good.replace("[[relay]]\n", "[[relay]]\nfrobnicate = 1\n"), "frobnicate"),
        (good.replace("framecnt=4096", "framecnt=2048"), "device"),
        (good.replace("198.51.100.10:8080", "198.51.100.11:8080"), "targets"),
    ];
    for (text, word) in cases {
        assert_ne!(text, good);
        let logged = lab.pops[0].log().len();
        rewrite(&lab.pops[0], |_| text);
        lab.pops[0].sighup().unwrap();
        eventually(word, SOON, || lab.pops[0].log()[logged..].contains(word));
        assert_eq!(digest(&lab.pops[0]), old, "{word}");
        connection.download(1, 100_000).unwrap();
        connect(&lab).download(2, 100_000).unwrap();
    }
}

/// Every frame that leaves a POP is one that the relay counted: its kernel adds nothing.
#[test]
fn kernel_of_a_pop_sends_nothing() {
    let mut lab = Lab::builder().pops(2).build().unwrap();
    let _server = serve(&lab);
    let busy = Busy::start(&lab);
    for n in 0..10 {
        for direction in anyrelay_lab::Direction::BOTH {
            lab.routes.to(direction, n % 2).unwrap();
        }
        std::thread::sleep(milliseconds(200));
    }
    busy.finish();
    for pop in &lab.pops {
        let mut counters = InterfaceCounters::open(pop.namespace()).unwrap();
        // ARP may fall between the two readings.
        eventually("the interfaces sent what the relay counted", SOON, || {
            let interfaces = counters.read().unwrap();
            let metrics = pop.metrics().unwrap();
            ["wan", "lan"].iter().all(|port| {
                let labels = [("port", *port), ("direction", "tx")];
                let relay = metrics.sum("anyrelay_port_packets_total", &labels);
                relay > 100.0 && relay == interfaces[*port].tx_packets as f64
            })
        });
    }
    // And without the relay, nothing at all.
    lab.pops[0].bury();
    for direction in anyrelay_lab::Direction::BOTH {
        lab.routes.to(direction, 0).unwrap();
    }
    let mut counters = InterfaceCounters::open(lab.pops[0].namespace()).unwrap();
    let before = counters.read().unwrap();
    let attempt = anyrelay_lab::traffic::Connection::open(
        &lab.topology.client,
        crate::common::VIP,
        Duration::from_secs(4),
    );
    assert!(attempt.unwrap().is_err(), "nothing answers");
    let after = counters.read().unwrap();
    assert!(after["wan"].rx_packets > before["wan"].rx_packets, "the SYNs arrived");
    for port in ["wan", "lan"] {
        assert_eq!(after[port].tx_packets, before[port].tx_packets, "{port}");
    }
}

#[test]
fn sigterm_drains_and_exits_with_zero() {
    let mut lab = Lab::builder().pops(2).overlay("[pop]\ndrain_seconds = 6").build().unwrap();
    let _server = serve(&lab);
    let busy = Busy::start(&lab);
    std::thread::sleep(milliseconds(300));
    let start = Instant::now();
    lab.pops[0].drain().unwrap();
    let mut counters = PopCounters::open(&lab.topology).unwrap();
    eventually("it says that it is going", Duration::from_secs(3), || {
        let answer = http::get(&lab.topology.pops[0], METRICS, "/readyz").unwrap();
        answer == (503, "draining\n".to_owned())
    });
    let before = counters.carried().unwrap();
    eventually("it still forwards", Duration::from_secs(3), || {
        let carried = counters.carried().unwrap().since(&before);
        carried.up[0] > 100 && carried.down[0] > 100
    });
    assert!(lab.pops[0].is_running(), "{}", lab.pops[0].log());
    // Routes move away before the drain is over, as an announcer would do it.
    for direction in anyrelay_lab::Direction::BOTH {
        lab.routes.to(direction, 1).unwrap();
    }
    let code = lab.pops[0].wait_end(SOON).unwrap();
    let took = start.elapsed();
    busy.finish();
    assert_eq!(code, Some(0), "{}", lab.pops[0].log());
    assert!(took >= Duration::from_secs(6), "it drained for {took:?}");
    assert!(!lab.pops[0].is_ready());
}

/// As an upgrade is rolled out.
#[test]
fn pops_are_restarted_one_by_one_under_load() {
    let mut lab = Lab::builder().overlay("[pop]\ndrain_seconds = 1").build().unwrap();
    let server = serve(&lab);
    let busy = Busy::start(&lab);
    let rounds = if full() { 10 } else { 1 };
    restart::roll(&mut lab.pops, rounds, |pop| {
        for direction in anyrelay_lab::Direction::BOTH {
            lab.routes.to(direction, pop).unwrap();
        }
    });
    let stall = busy.finish();
    println!("{} restarts, longest stall {stall:?}", rounds * lab.pops.len());
    assert_eq!(server.accepted(), 2, "one connection each");
}
