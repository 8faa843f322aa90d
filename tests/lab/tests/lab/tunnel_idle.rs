//! Silence: keepalives hold a NAT's entry, without them it dies, and an agent that slept comes
//! back.

use std::time::Duration;

use crate::common::tunnel::{TAIL, Tunnels};
use crate::common::{eventually, full, milliseconds};
use anyrelay_lab::tunnel::nat::Entry;
use anyrelay_lab::tunnel::stream::Plan;
use anyrelay_lab::tunnel::{Site, TunnelLab};

/// Seconds after which the NATs forget, and the length of a tick.
fn times() -> (u32, u32) {
    if full() { (15, 5000) } else { (5, 1000) }
}

fn lab() -> TunnelLab {
    let (timeout, tick_ms) = times();
    let timeouts = vec![("established", timeout), ("unacknowledged", timeout)];
    let site = Site { timeouts, ..Site::default() };
    TunnelLab::builder().sites(vec![site; 2]).tick_ms(tick_ms).build().unwrap()
}

fn entry(tunnels: &Tunnels, site: usize) -> Option<Entry> {
    tunnels.lab.site(site).nat.entries().unwrap().pop()
}

/// A few datagrams, both ways.
fn exchange(tunnels: &Tunnels) {
    let flow = tunnels.flow(Plan::both(100));
    tunnels.wait_for_arrivals(&flow, Duration::from_secs(20));
}

#[test]
fn keepalives_hold_the_entry_through_silence() {
    let mut tunnels = Tunnels::start(lab());
    exchange(&tunnels);
    let before = [entry(&tunnels, 0).unwrap(), entry(&tunnels, 1).unwrap()];
    // Several times what the NATs remember.
    let length = Duration::from_secs(if full() { 180 } else { 15 });
    let start = std::time::Instant::now();
    while start.elapsed() < length {
        std::thread::sleep(milliseconds(500));
        for (site, before) in before.iter().enumerate() {
            let now = entry(&tunnels, site).expect("the entry is there all the time");
            assert_eq!((now.state.as_str(), now.public_port), ("ESTABLISHED", before.public_port));
        }
        // What holds it is not one POP.
        tunnels.lab.flip(0).unwrap();
        tunnels.lab.flip(1).unwrap();
    }
    exchange(&tunnels);
    for agent in [&tunnels.serving, &tunnels.connecting[0]] {
        assert_eq!(agent.counter("handshakes").unwrap(), 1, "{}", agent.name());
    }
    tunnels.assert_nothing_invalid();
}

/// The test above could not fail otherwise. Then the agent comes back from the same port, and the
/// token that its peer has still leads to it.
#[test]
fn without_keepalives_the_entry_dies_and_a_sleeper_comes_back() {
    let mut tunnels = Tunnels::start(lab());
    exchange(&tunnels);
    let (token, port) = (tunnels.serving.token().unwrap(), entry(&tunnels, 0).unwrap().public_port);
    let published = std::fs::read_to_string(tunnels.serving.token_file()).unwrap();
    tunnels.serving.freeze(true);
    let slept = std::time::Instant::now();
    let (timeout, tick_ms) = times();
    let limit = Duration::from_secs(u64::from(timeout) + 6);
    eventually("the entry dies", limit, || entry(&tunnels, 0).is_none());
    assert!(
        slept.elapsed() + milliseconds(u64::from(tick_ms)) > Duration::from_secs(timeout.into())
    );

    // Towards a sleeper nothing passes the NAT any more.
    let refused = || {
        let nat = &tunnels.lab.site(0).nat;
        nat.invalid().unwrap() + nat.unsolicited().unwrap()
    };
    let (before, host) = (refused(), &tunnels.lab.site(1).host);
    let listen = crate::common::tunnel::address(crate::common::tunnel::LISTEN);
    let flow = anyrelay_lab::tunnel::stream::Flow::start(
        &tunnels.server,
        host,
        listen,
        Plan { up_per_second: 100, down_per_second: 0, bytes: 100 },
    )
    .unwrap();
    eventually("the NAT refuses", Duration::from_secs(30), || refused() > before + 10);
    assert_eq!(flow.received().0, 0);

    // 20 ticks in all.
    let sleep = milliseconds(20 * u64::from(tick_ms));
    std::thread::sleep(sleep.saturating_sub(slept.elapsed()));
    tunnels.serving.freeze(false);
    eventually("data arrives again", Duration::from_secs(30), || flow.received().0 > 0);
    let (up, _) = flow.finish(TAIL);
    assert!(up.received > 0);
    assert_eq!(tunnels.serving.token().unwrap(), token, "the token is the same");
    assert_eq!(std::fs::read_to_string(tunnels.serving.token_file()).unwrap(), published);
    assert_eq!(entry(&tunnels, 0).unwrap().public_port, port, "from the same port");
    let counters = tunnels.serving.status().unwrap()["counters"].clone();
    assert!(counters["re_syns"].as_u64() >= Some(1), "{counters}");
    assert_eq!(counters["new_ports"], 0, "{counters}");
}
