//! Rows about what routers on the way do: narrow links, fragments, congestion marks.

use std::time::{Duration, Instant};

use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::Connection;

use super::world::{SOON, Side, World};
use crate::common::{full, netstat, snmp, socket_info};

fn bytes(short: usize) -> usize {
    if full() { 10 * short } else { short }
}

fn soon() -> Duration {
    if full() { 10 * SOON } else { SOON }
}

/// Moves a body up or down, whole, and says how.
fn moved(connection: &mut Connection, is_up: bool, bytes: usize, limit: Duration) -> String {
    let start = Instant::now();
    let outcome = match is_up {
        true => connection.upload(1, bytes),
        false => connection.download(2, bytes),
    };
    match outcome {
        Ok(()) if start.elapsed() < limit => "all bytes soon".to_owned(),
        Ok(()) => format!("all bytes after {:.1?}", start.elapsed()),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn way(is_up: bool) -> &'static str {
    if is_up { "up" } else { "down" }
}

/// Routers mark some segments before they reach a POP, or the tunnel that they are in. Their
/// receiver echoes it to the sender. Marks between a POP and the end of its tunnel are that end's.
pub fn ecn(world: &World<'_>) -> Vec<String> {
    let hosts = [world.client, world.server];
    for host in hosts {
        host.sysctl("net.ipv4.tcp_ecn", "1").unwrap();
    }
    let marking = world.sides.map(|side| {
        let ip = if side.is_ipv6_from { "ip6" } else { "ip" };
        let firewall = Firewall::new(side.router).unwrap();
        let rule = format!(
            "iifname \"{}\" {ip} ecn ect0 meta length > 1000 limit rate 200/second {ip} ecn set ce",
            side.marked_at
        );
        firewall.rule("prerouting", &rule).unwrap();
        firewall
    });
    let _server = world.serve();
    let mut connection = world.connect();
    let mut all = Vec::new();
    for (is_up, sender) in [(true, world.client), (false, world.server)] {
        let before = netstat(sender, "TCPDeliveredCE");
        let moved = moved(&mut connection, is_up, bytes(1_000_000), Duration::MAX);
        assert_eq!(moved, "all bytes soon");
        let is_echoed = netstat(sender, "TCPDeliveredCE") > before;
        let echoed = if is_echoed { "are echoed" } else { "are lost" };
        all.push(format!("{}: marks {echoed}", way(is_up)));
    }
    marking.iter().for_each(|firewall| firewall.flush("prerouting").unwrap());
    for host in hosts {
        host.sysctl("net.ipv4.tcp_ecn", "2").unwrap();
    }
    all
}

/// The link beyond the POPs becomes narrow under a live connection, on each side.
pub fn path_mtu(world: &World<'_>) -> Vec<String> {
    let server = world.serve();
    let mut connection = world.connect();
    // The server has accepted it, and senders have sent full segments.
    for is_up in [true, false] {
        assert_eq!(moved(&mut connection, is_up, 100_000, Duration::MAX), "all bytes soon");
    }
    let at_client = connection.stream().peer_addr().unwrap().to_string();
    let at_server = server.peers()[0].to_string();
    let mut all = Vec::new();
    for is_up in [true, false] {
        let mss = || match is_up {
            true => socket_info(world.client, &at_client, "mss"),
            false => socket_info(world.server, &at_server, "mss"),
        };
        let before = mss();
        world.sides[usize::from(is_up)].narrow();
        let moved = moved(&mut connection, is_up, bytes(2_000_000), soon());
        let segments = if mss() < before { "smaller" } else { "the same" };
        all.push(format!("{}: {moved}, {segments} segments", way(is_up)));
    }
    all
}

/// Routers of IPv4, and boxes over IPv6, cut what both hosts send, or the tunnel that it is in.
pub fn fragments(world: &World<'_>) -> Vec<String> {
    let made = |side: usize| {
        let Side { router, cutter, .. } = world.sides[side];
        let by_box = cutter.map_or(0, |cutter| cutter.done().fragments);
        snmp(router, "FragCreates") + by_box
    };
    let _server = world.serve();
    let mut connection = world.connect();
    let mut all = Vec::new();
    for (is_up, side) in [(true, 0), (false, 1)] {
        let size = bytes(500_000);
        let before = made(side);
        let moved = moved(&mut connection, is_up, size, soon());
        // Two for nearly every segment.
        let made = made(side) - before;
        let are_many = made as usize > size / 1448;
        let cut = if are_many { "in fragments".to_owned() } else { format!("{made} fragments") };
        all.push(format!("{}: {moved}, {cut}", way(is_up)));
    }
    all
}
