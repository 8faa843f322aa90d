//! What relays cannot do, measured beside the formulas of docs/limits.md.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyrelay_lab::Lab;
use anyrelay_lab::traffic::Connection;
use rustix::process::{Resource, Rlimit};

use crate::common::{TARGET, VIP, connect, full, serve};

const ADDRESSES: usize = 8;
/// At a time, for each client address.
const THREADS: usize = 5;
/// A /30 pool and one target.
const PLACES: f64 = 64_512.0 * 4.0;

/// Accepts at the target and keeps all connections, until told to stop. Gives those that nobody has
/// closed or reset.
fn keep_all(lab: &Lab, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    let listener = lab.topology.target.run(|| TcpListener::bind(TARGET)).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        loop {
            match listener.accept() {
                Ok((stream, _)) => kept.push(stream),
                // What waits to be accepted is accepted first.
                Err(_) if stop.load(Ordering::Relaxed) => break,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        let open = |stream: &&TcpStream| {
            let waits = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            stream.set_nonblocking(true).is_ok() && stream.peek(&mut [0]).is_err_and(waits)
        };
        kept.iter().filter(open).count()
    })
}

/// Connections that all stay open: each newcomer fails with the share of places that are taken. Who
/// has a place keeps it.
#[test]
fn live_connections_keep_newcomers_from_their_places() {
    let connections = if full() { 8_000 } else { 4_000 };
    // Both ends of all of them are this process's.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(Resource::Nofile, most).unwrap();
    let lab = Lab::builder().pool("100.64.8.0/30").build().unwrap();
    // Who meets no answer gives up after 3 s.
    lab.topology.client.sysctl("net.ipv4.tcp_syn_retries", "1").unwrap();
    lab.topology.target.sysctl("net.core.somaxconn", "4096").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let server = keep_all(&lab, &stop);

    let per_thread = connections / ADDRESSES / THREADS;
    let threads: Vec<_> = (0..ADDRESSES * THREADS)
        .map(|n| {
            let ip = Ipv4Addr::new(192, 0, 2, 10 + u8::try_from(n % ADDRESSES).unwrap());
            let first = 20_000 + n / ADDRESSES * per_thread;
            let work = move || -> Vec<std::io::Result<Connection>> {
                let ports = (first..first + per_thread).map(|port| u16::try_from(port).unwrap());
                ports.map(|port| Connection::open_from(SocketAddrV4::new(ip, port), VIP)).collect()
            };
            lab.topology.client.thread(work).unwrap()
        })
        .collect();
    let opened: Vec<_> = threads.into_iter().flat_map(|it| it.join().unwrap().unwrap()).collect();
    let failed: Vec<_> = opened.iter().filter_map(|one| one.as_ref().err()).collect();
    // Each finds as many places taken as there are connections before it: half of all, on average.
    let formula = (connections * connections) as f64 / 2.0 / PLACES;
    println!("{} of {connections} could not be made, the formula says {formula:.1}", failed.len());
    assert!(failed.iter().all(|error| error.kind() == std::io::ErrorKind::TimedOut), "{failed:?}");
    let count = failed.len() as f64;
    assert!(count <= 2.0 * formula && count >= formula / 4.0, "the formula says {formula:.1}");
    std::thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    // Nobody who has a place has lost it.
    assert_eq!(server.join().unwrap(), opened.len() - failed.len());
}

/// How long a connection takes to fetch a body, with the target sending SYN cookies or not: what
/// else the machine does makes some take longer, and none shorter.
fn fetch(timestamps: bool, cookies: bool, bytes: usize) -> Duration {
    let lab = Lab::builder().client_timestamps(timestamps).build().unwrap();
    let value = if cookies { "2" } else { "0" };
    lab.topology.target.sysctl("net.ipv4.tcp_syncookies", value).unwrap();
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    // Both caches are warm, and windows have opened.
    connection.download(1, 100_000).unwrap();
    let once = |n| {
        let start = Instant::now();
        connection.download(n, bytes).unwrap();
        start.elapsed()
    };
    (2..7).map(once).min().unwrap()
}

/// A target that sends SYN cookies forgets the window scale of clients without timestamps: it
/// works, slowly. Those with timestamps are not touched.
#[test]
fn syn_cookies_slow_down_clients_without_timestamps() {
    let bytes = if full() { 2_000_000 } else { 500_000 };
    let rate = |took: Duration| bytes as f64 * 8e-6 / took.as_secs_f64();
    let mut rates = Vec::new();
    for (timestamps, cookies) in [(false, false), (false, true), (true, false), (true, true)] {
        let rate = rate(fetch(timestamps, cookies, bytes));
        println!("timestamps {timestamps}, SYN cookies {cookies}: {rate:.2} Mbit/s");
        rates.push(rate);
    }
    let [plain, slow, with, with_cookies] = rates[..] else { unreachable!() };
    assert!(slow < plain / 4.0, "{slow} beside {plain}: no cookie was sent, or this limit is gone");
    assert!(with_cookies > with / 4.0, "{with_cookies} beside {with}");
}
