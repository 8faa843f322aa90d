//! What a client learns when there is no service, no listener, no socket, or no timestamp.

use std::io::ErrorKind;
use std::net::{SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use crate::common::refusals::AT_ONCE;
use crate::common::{LIMIT, TARGET, VIP, connect, drops, eventually, milliseconds, netstat, serve};
use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Lab, topology};
use rustix::net::sockopt::set_socket_linger;

fn listen(lab: &Lab) -> TcpListener {
    lab.topology.target.run(|| TcpListener::bind(TARGET)).unwrap().unwrap()
}

#[test]
fn closed_port_at_the_target_is_refused() {
    // Once with timestamps and once without, as the RST comes back by the table in both cases.
    for timestamps in [true, false] {
        let lab = Lab::builder().pops(1).client_timestamps(timestamps).build().unwrap();
        let start = Instant::now();
        let outcome = Connection::open(&lab.topology.client, VIP, LIMIT).unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    }
}

#[test]
fn port_of_the_vip_without_service_is_refused_at_once() {
    let lab = Lab::builder().pops(1).build().unwrap();
    let unserved = SocketAddrV4::new(topology::VIP, 81);
    let outcome = Connection::open(&lab.topology.client, unserved, LIMIT).unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(netstat(&lab.topology.client, "TCPSynRetrans"), 0, "the first SYN was answered");
}

/// A target that has lost its socket, as after a crash, answers with a RST without timestamps.
#[test]
fn vanished_socket_resets_the_client() {
    let lab = Lab::builder().pops(1).build().unwrap();
    let listener = listen(&lab);
    let mut connection = connect(&lab);
    let (socket, _) = listener.accept().unwrap();

    let target = Firewall::new(&lab.topology.target).unwrap();
    target.rule("output", "tcp flags & rst != 0 drop").unwrap();
    set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
    target.flush("output").unwrap();

    let start = Instant::now();
    let outcome = connection.download(1, 1000);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn aborted_socket_resets_the_client() {
    let lab = Lab::builder().pops(1).build().unwrap();
    let listener = listen(&lab);
    let mut connection = connect(&lab);
    let (socket, _) = listener.accept().unwrap();
    set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
    std::thread::sleep(milliseconds(100));
    let outcome = connection.download(1, 1000);
    assert!(matches!(
        outcome.unwrap_err().kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
}

#[test]
fn target_without_timestamps_is_reported() {
    let lab = Lab::builder().pops(1).target_timestamps(false).build().unwrap();
    let _server = serve(&lab);
    let router = Firewall::new(&lab.topology.target_router).unwrap();
    router.count("resets", "ip saddr 100.64.8.0/24 tcp flags & rst != 0").unwrap();
    let outcome = Connection::open(&lab.topology.client, VIP, Duration::from_secs(4)).unwrap();
    assert!(outcome.is_err(), "the connection cannot be mapped");
    assert!(router.packets("resets").unwrap() >= 1, "the target gets a RST");
    assert!(drops(&lab, "target_without_timestamps") >= 1.0);
    eventually("a log line", Duration::from_secs(30), || {
        let log = lab.pops[0].log().to_lowercase();
        log.contains("timestamp") && log.contains("web")
    });
}

/// Transparent mode needs no timestamps.
#[test]
fn transparent_service_does_without_timestamps() {
    let builder = Lab::builder().pops(1).transparent();
    let lab = builder.target_timestamps(false).build().unwrap();
    let server = serve(&lab);
    connect(&lab).download(1, 1_000_000).unwrap();
    assert_eq!(server.peers()[0].ip(), topology::CLIENT, "the source stays the client's");
}
