//! What ends and begins again under a tunnel: POPs, agents, addresses.

use std::time::Duration;

use crate::common::tunnel::{TAIL, Tunnels, address};
use crate::common::{LIMIT, eventually, full, milliseconds, restart};
use anyrelay_lab::command;
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::tunnel::stream::Plan;
use anyrelay_lab::tunnel::{Site, TunnelLab};

fn lab() -> TunnelLab {
    TunnelLab::builder().tick_ms(1000).build().unwrap()
}

/// Only what is sent while a dead POP holds the route is lost.
#[test]
fn pops_are_killed_and_restarted_under_load() {
    let mut tunnels = Tunnels::start(lab());
    let flow = tunnels.flow(Plan::both(2_000));
    let mut windows = Vec::new();
    for round in 0..if full() { 10 } else { 2 } {
        let (victim, other) = (round % 2, (round + 1) % 2);
        tunnels.lab.routes.all_to(victim).unwrap();
        std::thread::sleep(milliseconds(500));
        // What was sent after this may still be on its way.
        let newest = flow.newest_arrived();
        let begin = newest.0.min(newest.1).saturating_sub(milliseconds(20));
        tunnels.lab.pops[victim].kill9();
        // As long as BGP takes to notice.
        std::thread::sleep(milliseconds(300));
        tunnels.lab.routes.all_to(other).unwrap();
        std::thread::sleep(milliseconds(20));
        windows.push(begin..flow.elapsed() + milliseconds(50));
        tunnels.wait_for_arrivals(&flow, Duration::from_secs(10));
        tunnels.lab.pops[victim].restart().unwrap();
    }
    let (up, down) = flow.finish(TAIL);
    assert!(up.lost.len() + down.lost.len() > 100, "the kills were felt");
    tunnels.assert_arrived(&[(up, down)], &windows);
    tunnels.assert_nothing_invalid();
    assert_eq!(tunnels.connecting[0].counter("handshakes").unwrap(), 1);
}

/// As an upgrade is rolled out: nothing is lost at all.
#[test]
fn pops_are_restarted_one_by_one_under_load() {
    let builder = TunnelLab::builder().tick_ms(1000).overlay("[pop]\ndrain_seconds = 1");
    let mut tunnels = Tunnels::start(builder.build().unwrap());
    let flow = tunnels.flow(Plan::both(2_000));
    let rounds = if full() { 15 } else { 2 };
    restart::roll(&mut tunnels.lab.pops, rounds, |pop| tunnels.lab.routes.all_to(pop).unwrap());
    println!("{} restarts", rounds * tunnels.lab.pops.len());
    let reports = flow.finish(TAIL);
    tunnels.assert_arrived(&[reports], &[]);
    tunnels.assert_nothing_invalid();
    assert_eq!(tunnels.connecting[0].counter("handshakes").unwrap(), 1);
}

#[test]
fn agents_come_back_after_all_pops_were_away() {
    let mut tunnels = Tunnels::start(TunnelLab::builder().tick_ms(250).build().unwrap());
    let flow = tunnels.flow(Plan::both(200));
    let token = tunnels.serving.token().unwrap();
    tunnels.lab.pops.iter_mut().for_each(anyrelay_lab::Pop::bury);
    let gone = |status: &serde_json::Value| status["state"] != "ready";
    tunnels.connecting[0].wait_until("notices", Duration::from_secs(20), gone).unwrap();
    std::thread::sleep(Duration::from_secs(if full() { 30 } else { 1 }));
    for pop in &mut tunnels.lab.pops {
        pop.restart().unwrap();
    }
    tunnels.wait_for_arrivals(&flow, Duration::from_secs(30));
    tunnels.wait_ready();
    assert_eq!(tunnels.serving.token().unwrap(), token, "still reached by the same token");
}

/// The one that others have the token of: they follow to the new one.
#[test]
fn address_of_the_serving_agent_changes() {
    let mut tunnels = Tunnels::start(lab());
    let flow = tunnels.flow(Plan::both(200));
    tunnels.lab.site(0).change_address(2, 3).unwrap();
    let moved = |status: &serde_json::Value| {
        status["local"].as_str().is_some_and(|local| local.starts_with("10.101.0.3:"))
    };
    tunnels.serving.wait_until("moves", Duration::from_secs(30), moved).unwrap();
    tunnels.wait_for_arrivals(&flow, Duration::from_secs(30));
    assert_eq!(flow.peers().len(), 1, "the same socket at the target's side");
}

/// An interface that merges segments merges none of ours, as each has PSH set.
#[test]
fn gro_does_not_merge_datagrams() {
    let sites = vec![Site { gro: true, ..Site::default() }; 2];
    let tunnels = Tunnels::start(TunnelLab::builder().pops(1).sites(sites).build().unwrap());
    let host = &tunnels.lab.site(0).host;
    // Packets wait for others of their kind.
    let wait = "cd /sys/class/net/net0 && \
                echo 1000000 >gro_flush_timeout && echo 10 >napi_defer_hard_irqs";
    command::run(host.command("sh").args(["-c", wait])).unwrap();
    let firewall = Firewall::new(host).unwrap();
    firewall.count("merged", "ip saddr 203.0.113.20 meta length > 450").unwrap();
    firewall.count("single", "ip saddr 203.0.113.20 meta length 200-450").unwrap();
    firewall.count("control", "tcp sport 9000 meta length > 1500").unwrap();
    let flow = tunnels.flow(Plan::both(5_000));
    std::thread::sleep(Duration::from_secs(if full() { 20 } else { 2 }));
    eventually("enough of them", Duration::from_secs(30), || flow.received().1 > 5_000);
    let reports = flow.finish(TAIL);
    assert!(firewall.packets("single").unwrap() > 5_000, "{}", tunnels.account());
    assert_eq!(firewall.packets("merged").unwrap(), 0);
    tunnels.assert_arrived(&[reports], &[]);
    // What it does to others, or the above would show nothing.
    let at = address("198.18.99.2:9000");
    let _server = Server::start(&tunnels.lab.topology.outsider, at).unwrap();
    let mut connection = Connection::open(host, at, LIMIT).unwrap().unwrap();
    connection.download(1, 10_000_000).unwrap();
    assert!(firewall.packets("control").unwrap() > 100, "this interface does merge");
}
