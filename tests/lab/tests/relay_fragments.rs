//! Paths that fragment, and POPs that put datagrams together again or do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use anyrelay_lab::config::Layout;
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::{Lab, command};
use common::{connect, drops, metric, serve};

const BYTES: usize = 3_000_000;
const REASSEMBLE: &str = "[pop]\nfragments = \"reassemble\"\n";
const FRAGMENT: &str = "ip frag-off & 0x3fff != 0";

/// A lab whose hosts clear DF.
fn lab(builder: LabBuilder) -> Lab {
    let lab = builder.build().unwrap();
    for host in [&lab.topology.client, &lab.topology.target] {
        host.sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
    }
    lab
}

/// Makes both routers' ways to the first POP narrow: they fragment what is longer.
fn narrow(lab: &Lab) {
    let up = "route replace 203.0.113.0/24 via 10.1.1.2 mtu 1000";
    lab.topology.client_router.ip(&[up]).unwrap();
    let down = "route replace 100.64.8.0/24 via 10.2.1.2 mtu 1000";
    lab.topology.target_router.ip(&[down]).unwrap();
}

fn reassembled(lab: &Lab) -> f64 {
    metric(lab, "anyrelay_reassembled_datagrams_total", &[])
}

/// Long segments reach the POP in pieces from both sides, and leave it whole.
fn transfers_pass(layout: Layout, client_timestamps: bool) {
    let builder = Lab::builder().pops(1).layout(layout).client_timestamps(client_timestamps);
    let lab = lab(builder.overlay(REASSEMBLE));
    narrow(&lab);
    let _server = serve(&lab);
    let beyond = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
        let firewall = Firewall::new(router).unwrap();
        firewall.count("pieces", FRAGMENT).unwrap();
        firewall
    });
    let mut connection = connect(&lab);
    connection.upload(1, BYTES).unwrap();
    let up = reassembled(&lab);
    // Segments hold 1,448 bytes at most.
    assert!(up > (BYTES / 1448) as f64 * 0.9, "{up} datagrams on the way up");
    connection.download(2, BYTES).unwrap();
    let down = reassembled(&lab) - up;
    assert!(down > (BYTES / 1448) as f64 * 0.9, "{down} datagrams on the way down");
    for router in beyond {
        assert_eq!(router.packets("pieces").unwrap(), 0, "what leaves the POP is whole");
    }
    for reason in ["fragment", "fragment_conflict", "fragment_table_full", "fragment_tiny"] {
        assert_eq!(drops(&lab, reason), 0.0, "{reason}");
    }
}

#[test]
fn transfers_pass_a_path_that_fragments() {
    transfers_pass(Layout::RunToCompletion, true);
}

/// Two workers: half of the datagrams are put together by the one that did not receive them.
#[test]
fn transfers_pass_a_path_that_fragments_through_a_pipeline() {
    transfers_pass(Layout::Pipeline, false);
}

/// Now and then the second piece of a datagram goes to another POP than the first: both discard what
/// they have, and the sender sends it again.
#[test]
fn what_is_split_over_two_pops_is_sent_again() {
    let lab = lab(Lab::builder().pops(2).overlay(REASSEMBLE));
    narrow(&lab);
    let _server = serve(&lab);
    let mut ip = lab.topology.pops[1].command("ip");
    let text = command::run(ip.args(["-o", "link", "show", "wan"])).unwrap();
    let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let rules = format!(
        "add table netdev spray\n\
         add chain netdev spray out {{ type filter hook egress device pop1 priority 0; }}\n\
         add rule netdev spray out ip frag-off & 0x1fff != 0 numgen random mod 20 == 0 \
         ether daddr set {mac} fwd to pop2\n"
    );
    let mut nft = lab.topology.client_router.command("nft");
    command::run_with_input(nft.args(["-f", "-"]), &rules).unwrap();
    let mut connection = connect(&lab);
    connection.upload(1, 1_000_000).unwrap();
    let pieces = |pop: usize, reason: &str| {
        let labels = [("reason", reason)];
        lab.pops[pop].metric("anyrelay_drops_total", &labels).unwrap()
    };
    // The clock that gives up a datagram runs on without traffic.
    std::thread::sleep(Duration::from_millis(1500));
    let (first, second) = (pieces(0, "fragment_timeout"), pieces(1, "fragment_timeout"));
    assert!(first > 5.0 && second > 5.0, "{first} and {second} pieces were given up");
    assert!(reassembled(&lab) > 500.0);
    connection.download(2, BYTES).unwrap();
    assert_eq!(metric(&lab, "anyrelay_fragments_waiting", &[]), 0.0);
}

/// A long echo request comes in two pieces.
fn long_ping(lab: &Lab) -> bool {
    let mut ping = lab.topology.client.command("ping");
    let words = ["-c", "1", "-W", "2", "-M", "dont", "-s", "1400", "203.0.113.10"];
    command::run(ping.args(words)).is_ok()
}

#[test]
fn the_policy_decides() {
    let dropping = lab(Lab::builder().pops(1));
    narrow(&dropping);
    assert!(!long_ping(&dropping));
    assert_eq!(drops(&dropping, "fragment"), 2.0);
    drop(dropping);
    let keeping = lab(Lab::builder().pops(1).overlay(REASSEMBLE));
    narrow(&keeping);
    assert!(long_ping(&keeping));
    assert_eq!(reassembled(&keeping), 1.0);
}

/// The way out becomes narrow under a live connection: the POP itself sends fragments.
#[test]
fn a_pop_fragments_what_no_longer_fits() {
    let mut lab = lab(Lab::builder().pops(1));
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, 100_000).unwrap();
    let pop = &mut lab.pops[0];
    let text = std::fs::read_to_string(&pop.config).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let ports = config["port"].as_array_mut().unwrap();
    let narrow =
        |port: &mut toml::Value| port.as_table_mut().unwrap().insert("mtu".to_owned(), 1000.into());
    assert!(ports.iter_mut().map(narrow).all(|before| before.is_none()));
    std::fs::write(&pop.config, toml::to_string(&config).unwrap()).unwrap();
    pop.restart().unwrap();
    let routers = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
        let firewall = Firewall::new(router).unwrap();
        firewall.count("pieces", &format!("iifname pop1 {FRAGMENT}")).unwrap();
        firewall.count("long", "iifname pop1 meta length > 1000").unwrap();
        firewall
    });
    connection.download(2, BYTES).unwrap();
    connection.upload(3, BYTES).unwrap();
    for router in routers {
        let pieces = router.packets("pieces").unwrap();
        assert!(pieces > (BYTES / 1448) as u64, "{pieces} pieces");
        assert_eq!(router.packets("long").unwrap(), 0, "none is too long");
    }
    assert_eq!(drops(&lab, "too_big"), 0.0);
}
