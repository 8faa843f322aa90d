//! Segment sizes, path MTU and ECN through relays.

use crate::common::{connect, netstat, serve, socket_info};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::{Lab, command};

const BYTES: usize = 3_000_000;

/// The relay adds 12 bytes to each segment of a client without timestamps.
#[test]
fn client_without_timestamps_sends_nothing_too_long() {
    let lab = Lab::builder().client_timestamps(false).build().unwrap();
    let _server = serve(&lab);
    let too_long = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
        let firewall = Firewall::new(router).unwrap();
        firewall.count("long", "meta length > 1500").unwrap();
        firewall.count("needed", "icmp type destination-unreachable").unwrap();
        firewall
    });
    let mut connection = connect(&lab);
    assert_eq!(socket_info(&lab.topology.client, "203.0.113.10", "mss"), 1448);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
    for router in too_long {
        assert_eq!(router.packets("long").unwrap(), 0, "nothing over the MTU");
        assert_eq!(router.packets("needed").unwrap(), 0, "no segment was refused");
    }
}

#[test]
fn client_with_timestamps_has_the_whole_mss() {
    let lab = Lab::builder().pops(1).build().unwrap();
    let server = serve(&lab);
    let mut connection = connect(&lab);
    // 1460 less the option that both ends now put into each segment.
    assert_eq!(socket_info(&lab.topology.client, "203.0.113.10", "mss"), 1448);
    connection.download(1, BYTES).unwrap();
    connection.upload(2, BYTES).unwrap();
    assert_eq!(server.accepted(), 1);
}

/// A router beyond the POP has a smaller MTU towards the client: the target must learn it.
fn smaller_path_to_the_client(timestamps: bool, learned: &str) {
    let lab = Lab::builder().pops(1).client_timestamps(timestamps).build().unwrap();
    let server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, 100_000).unwrap();
    let router = &lab.topology.client_router;
    router.ip(&["route replace 192.0.2.0/24 dev client mtu 1300"]).unwrap();
    connection.download(2, BYTES).unwrap();
    let egress = server.peers()[0].ip().to_string();
    let mut ip = lab.topology.target.command("ip");
    let route = command::run(ip.args(["route", "get", &egress])).unwrap();
    assert!(route.contains(learned), "{route}");
}

#[test]
fn target_learns_the_mtu_towards_a_client() {
    smaller_path_to_the_client(true, "mtu 1300");
}

/// The target's segments keep their timestamps, and so their length, also towards such a client.
#[test]
fn target_learns_the_mtu_towards_a_client_without_timestamps() {
    smaller_path_to_the_client(false, "mtu 1300");
}

/// A router beyond the POP has a smaller MTU towards the target: the client must learn it.
fn smaller_path_to_the_target(timestamps: bool, learned: &str) {
    let lab = Lab::builder().pops(1).client_timestamps(timestamps).build().unwrap();
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.upload(1, 100_000).unwrap();
    let router = &lab.topology.target_router;
    router.ip(&["route replace 198.51.100.0/24 dev target mtu 1300"]).unwrap();
    connection.upload(2, BYTES).unwrap();
    let mut ip = lab.topology.client.command("ip");
    let route = command::run(ip.args(["route", "get", "203.0.113.10"])).unwrap();
    assert!(route.contains(learned), "{route}");
}

#[test]
fn client_learns_the_mtu_towards_the_target() {
    smaller_path_to_the_target(true, "mtu 1300");
}

#[test]
fn client_without_timestamps_learns_the_mtu_towards_the_target() {
    smaller_path_to_the_target(false, "mtu 1288");
}

#[test]
fn ecn_passes_in_both_directions() {
    let lab = Lab::builder().pops(1).build().unwrap();
    for host in [&lab.topology.client, &lab.topology.target] {
        host.sysctl("net.ipv4.tcp_ecn", "1").unwrap();
    }
    let _server = serve(&lab);
    let up = Firewall::new(&lab.topology.client_router).unwrap();
    up.count("echoed", "ip saddr 203.0.113.10 tcp flags & (syn | ecn) == ecn").unwrap();
    up.rule(
        "prerouting",
        "ip daddr 203.0.113.10 ip ecn ect0 ip length > 1000 limit rate 200/second ip ecn set ce",
    )
    .unwrap();
    let down = Firewall::new(&lab.topology.target_router).unwrap();
    down.rule(
        "prerouting",
        "ip saddr 198.51.100.10 ip ecn ect0 ip length > 1000 limit rate 200/second ip ecn set ce",
    )
    .unwrap();
    let mut connection = connect(&lab);
    connection.upload(1, BYTES).unwrap();
    assert!(netstat(&lab.topology.target, "InCEPkts") > 0, "marks up arrive");
    assert!(up.packets("echoed").unwrap() > 0, "and their echo comes back");
    connection.download(2, BYTES).unwrap();
    assert!(netstat(&lab.topology.client, "InCEPkts") > 0, "marks down arrive");
}
