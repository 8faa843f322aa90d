//! Clients whose segments have no timestamps, all of them or only some.
//!
//! Some stacks agree on timestamps and then send keepalive probes or RSTs without them, and some
//! boxes on a path remove them. Here a box in front of the client does both, to the kernel's own
//! segments. Every case also runs on a path without POPs, at the same time and through the same
//! box, and ends the same there.

use std::time::Duration;

use crate::common::flaps::{flip, while_flipping};
use crate::common::sockets::{Path, keep_alive};
use crate::common::{Busy, connect_to, drops, full, netstat, serve};
use anyrelay_lab::Lab;
use anyrelay_lab::lab::LabBuilder;
use anyrelay_lab::middlebox::{Bare, Kind, Trouble};
use anyrelay_lab::traffic::Connection;

/// A box that does this to the client's segments.
fn boxed(bare: Bare) -> LabBuilder {
    Lab::builder().direct().client_box(Trouble { bare, ..Trouble::NONE })
}

fn bare_segments(lab: &Lab) -> u64 {
    lab.topology.boxes.iter().map(|middlebox| middlebox.done().bare).sum()
}

/// Idle connections live through probe after probe while routes flip, and carry data afterwards.
fn idle_connections_live(builder: LabBuilder) {
    const EACH: usize = 4;
    let idle = Duration::from_secs(if full() { 60 } else { 6 });
    let mut lab = builder.build().unwrap();
    let server = serve(&lab);
    let mut connections: Vec<(Path, Connection)> = Vec::new();
    for path in Path::BOTH.into_iter().cycle().take(EACH * 2) {
        let mut connection = connect_to(&lab, path.address().into());
        connection.download(1, 10_000).unwrap();
        connection.upload(2, 10_000).unwrap();
        keep_alive(connection.stream());
        connections.push((path, connection));
    }
    let (bare, probes) = (bare_segments(&lab), netstat(&lab.topology.client, "TCPKeepAlive"));
    while_flipping(&mut lab.routes, || std::thread::sleep(idle));
    let bare = bare_segments(&lab) - bare;
    let probes = netstat(&lab.topology.client, "TCPKeepAlive") - probes;
    for (path, connection) in &mut connections {
        for moved in [connection.download(3, 100_000), connection.upload(4, 100_000)] {
            moved.unwrap_or_else(|error| panic!("after silence, {path:?}: {error}"));
        }
    }
    println!("{probes} probes, {bare} bare segments");
    assert!(probes >= EACH as u64 * 2 * (idle.as_secs() - 2), "{probes} probes");
    for middlebox in &lab.topology.boxes {
        assert!(bare >= probes, "{bare} bare segments for {probes} probes");
        println!("{:?}", middlebox.done());
    }
    assert_eq!(server.accepted(), EACH as u64 * 2, "one connection each");
    assert_eq!(drops(&lab, "bad_tag"), 0.0);
}

#[test]
fn idle_connections_live_on_bare_probes() {
    idle_connections_live(boxed(Bare { kinds: &[Kind::Ack], ..Bare::NONE }));
}

#[test]
fn idle_connections_live_on_bare_probes_with_a_byte() {
    idle_connections_live(boxed(Bare::PROBES));
}

#[test]
fn idle_connections_live_with_timestamps_in_the_syn_alone() {
    idle_connections_live(boxed(Bare::ALL));
}

#[test]
fn idle_connections_live_without_timestamps() {
    idle_connections_live(Lab::builder().direct().client_timestamps(false));
}

/// Transfers in both directions go on while routes flip.
fn transfers_survive_flips(builder: LabBuilder) {
    let mut lab = builder.build().unwrap();
    let server = serve(&lab);
    let busy = Path::BOTH.map(|path| (path, Busy::start_to(&lab, path.address().into())));
    flip(&mut lab, if full() { 300 } else { 50 });
    for (path, busy) in busy {
        println!("{path:?}: longest stall {:?}", busy.finish());
    }
    println!("{} bare segments", bare_segments(&lab));
    assert_eq!(server.accepted(), 4, "one connection each");
    assert_eq!(drops(&lab, "bad_tag"), 0.0);
}

#[test]
fn transfers_survive_flips_with_bare_acks() {
    transfers_survive_flips(boxed(Bare::PROBES));
}

/// Full segments with NOPs in place of the option have no room for the POP's: their sender learns a
/// smaller MTU.
#[test]
fn transfers_survive_flips_with_timestamps_in_the_syn_alone() {
    transfers_survive_flips(boxed(Bare::ALL));
}

#[test]
fn transfers_survive_flips_without_timestamps() {
    transfers_survive_flips(Lab::builder().direct().client_timestamps(false));
}
