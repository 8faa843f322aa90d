//! A client whose egress endpoint is in TIME_WAIT at the target, left by another client: how long
//! it takes to connect, beside what docs/limits.md says.
//!
//! It depends on the two clients' tags, and on whether the old client answers the target, which
//! answers a SYN that is too old with an ACK of the old connection.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddrV4, TcpListener};
use std::time::{Duration, Instant};

use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Lab, topology};

use crate::common::rivals::rivals;
use crate::common::{TARGET, VIP, full};

/// Accepts and closes at once: the target's end is the one in TIME_WAIT.
fn close_all(lab: &Lab) {
    let listener = lab.topology.target.run(|| TcpListener::bind(TARGET)).unwrap().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

/// Connects from a port of the client, and is closed by the target. How long the connect took.
fn connect_from(lab: &Lab, port: u16) -> std::io::Result<Duration> {
    let connect = move || {
        let start = Instant::now();
        let connection = Connection::open_from(SocketAddrV4::new(topology::CLIENT, port), VIP);
        let took = start.elapsed();
        let closed = connection?.stream().read(&mut [0])?;
        assert_eq!(closed, 0, "the target has something to say");
        Ok(took)
    };
    lab.topology.client.thread(connect).unwrap().join().unwrap().unwrap()
}

#[test]
fn an_older_tag_waits_for_the_old_client_or_fails() {
    let lab = Lab::builder().pool("100.64.8.0/30").build().unwrap();
    close_all(&lab);
    // It gives up within 15 s; with the kernel's default, after some 130 s.
    if !full() {
        lab.topology.client.sysctl("net.ipv4.tcp_syn_retries", "3").unwrap();
    }
    let firewall = Firewall::new(&lab.topology.client).unwrap();
    let rivals = rivals(&lab);
    let mut older_pairs = rivals.iter().filter(|pair| pair.is_older);
    let mut newer_pairs = rivals.iter().filter(|pair| !pair.is_older);
    for (older, is_gone) in [(false, false), (false, true), (true, false), (true, true)] {
        let pair = if older { older_pairs.next() } else { newer_pairs.next() }.unwrap();
        connect_from(&lab, pair.old).unwrap();
        // Its last ACK arrives.
        std::thread::sleep(Duration::from_millis(200));
        if is_gone {
            firewall.rule("prerouting", &format!("tcp dport {} drop", pair.old)).unwrap();
        }
        let start = Instant::now();
        let outcome = connect_from(&lab, pair.new);
        let tag = if older { "older" } else { "newer" };
        let client = if is_gone { "is gone" } else { "answers" };
        match &outcome {
            Ok(took) => println!("{tag} tag, the old client {client}: connected after {took:?}"),
            Err(error) => {
                println!("{tag} tag, the old client {client}: {error} after {:?}", start.elapsed());
            }
        }
        match (older, is_gone) {
            (false, _) => assert!(outcome.unwrap() < Duration::from_millis(900)),
            (true, false) => {
                let took = outcome.unwrap();
                assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3));
            }
            (true, true) => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut),
        }
        if older && is_gone && full() {
            // The last SYN began TIME_WAIT anew: 60 s after it the place is free.
            std::thread::sleep(Duration::from_secs(62));
            let took = connect_from(&lab, pair.new).unwrap();
            println!("62 s after the last try: connected after {took:?}");
            assert!(took < Duration::from_millis(900));
        }
    }
}
