//! Many short connections: none fails, and as few are slow as docs/limits.md says.
//!
//! The target closes first, so that each connection leaves its egress place in TIME_WAIT. Keys,
//! addresses and ports are fixed, so that the same places collide in each run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::common::VIP;
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Lab, Nginx};

const CONNECTIONS: usize = 20_000;
const ADDRESSES: usize = 8;
/// At a time, for each client address.
const THREADS: usize = 10;
const TIME_WAIT: Duration = Duration::from_secs(60);

const KEYS: &str = "\
relay = \"1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100\"
sequence = \"2f2e2d2c2b2a292827262524232221202f2e2d2c2b2a29282726252423222120\"
token = \"3f3e3d3c3b3a393837363534333231303f3e3d3c3b3a39383736353433323130\"
";

/// All clients are of one network, and open more connections in a second than one usually may.
const LIMITS: &str = "[limits]\nsyn_per_prefix_per_second = 1000000";

fn one(from: SocketAddrV4) -> std::io::Result<Duration> {
    let start = Instant::now();
    let connection = Connection::open_from(from, VIP)?;
    let connected = start.elapsed();
    let mut stream = connection.stream();
    stream.write_all(b"GET /files/small HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.starts_with("HTTP/1.1 200") && answer.ends_with("small body") {
        true => Ok(connected),
        false => Err(std::io::Error::other(answer)),
    }
}

/// Opens all connections and gives how long each took to connect, or why it failed.
fn all(lab: &Lab) -> Vec<std::io::Result<Duration>> {
    let per_thread = CONNECTIONS / ADDRESSES / THREADS;
    let threads: Vec<_> = (0..ADDRESSES * THREADS)
        .map(|n| {
            let last = 10 + u8::try_from(n % ADDRESSES).unwrap();
            let first_port = 20_000 + n / ADDRESSES * per_thread;
            let work = move || -> Vec<std::io::Result<Duration>> {
                (first_port..first_port + per_thread)
                    .map(|port| (Ipv4Addr::new(192, 0, 2, last), u16::try_from(port).unwrap()))
                    .map(|(ip, port)| one(SocketAddrV4::new(ip, port)))
                    .collect()
            };
            lab.topology.client.thread(work).unwrap()
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap().unwrap()).collect()
}

/// Runs all connections through a pool and compares with the formula, for its number of places.
fn slow_connects(pool: &str, places: f64) {
    let lab = Lab::builder().pool(pool).keys(KEYS).overlay(LIMITS).build().unwrap();
    lab.topology.target.sysctl("net.ipv4.tcp_max_tw_buckets", "262144").unwrap();
    let mut nginx = Nginx::start(&lab.topology.target, lab.work()).unwrap();
    std::fs::write(nginx.files().join("small"), "small body").unwrap();
    let before = nginx.accepts().unwrap();
    let start = Instant::now();
    let outcomes = all(&lab);
    let took = start.elapsed();

    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} failed, such as {:?}", failed.len(), failed[0]);
    assert_eq!(outcomes.len(), CONNECTIONS);
    assert_eq!(nginx.accepts().unwrap() - before, CONNECTIONS as u64, "one accept each");
    let is_slow = |took: &&Duration| **took >= Duration::from_secs(1);
    let slow = outcomes.iter().flatten().filter(is_slow).count() as f64;
    // On average half of the connections of the last 60 s are in TIME_WAIT, and half of what meets
    // one of them is slow.
    let waiting = if took < TIME_WAIT {
        CONNECTIONS as f64 / 2.0
    } else {
        CONNECTIONS as f64 * TIME_WAIT.as_secs_f64() / took.as_secs_f64()
    };
    let formula = CONNECTIONS as f64 * waiting / places / 2.0;
    println!("{pool}: {slow} of {CONNECTIONS} slow in {took:?}, the formula says {formula:.1}");
    // The formula gives the mean of a Poisson distribution: four standard deviations of it.
    let far = 4.0 * formula.sqrt();
    assert!(slow <= formula + far, "{slow} slow, the formula says {formula:.1}");
    assert!(slow >= formula - far, "{slow} slow, the formula says {formula:.1}: not measured");
}

#[test]
fn pool_of_256_addresses() {
    slow_connects("100.64.8.0/24", 256.0 * 64_512.0);
}

/// So small that the effect is seen: the other test could not fail otherwise.
#[test]
fn pool_of_4_addresses() {
    slow_connects("100.64.8.0/30", 4.0 * 64_512.0);
}
