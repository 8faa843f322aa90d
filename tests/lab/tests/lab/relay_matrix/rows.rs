//! The rows: what sockets see of refusals, resets, silence and full buffers. Each says it in words
//! that are the same for every run.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyrelay_lab::body::{Body, CHUNK, hash_of};
use anyrelay_lab::firewall::Firewall;
use rustix::net::sockopt::set_socket_linger;
use socket2::SockRef;

use super::world::{Pair, Paths, World};
use super::{closes, paths};
use crate::common::refusals::{AT_ONCE, attempt, refusal};
use crate::common::sockets::keep_alive;
use crate::common::{LIMIT, full, milliseconds, netstat};

/// One thing that applications see.
pub struct Row {
    pub name: &'static str,
    pub paths: Paths,
    pub run: fn(&World<'_>) -> Vec<String>,
    /// What is seen without POPs.
    pub expected: &'static [&'static str],
}

/// In the order in which they run: senders remember the MTUs that they learn.
pub const ROWS: [Row; 9] = [
    Row {
        name: "closed port",
        paths: Paths::Whole,
        run: closed_port,
        expected: &["ConnectionRefused at once"],
    },
    Row {
        name: "reset",
        paths: Paths::Whole,
        run: reset,
        expected: &[
            "client: ConnectionReset at once",
            "server: ConnectionReset at once",
            "client with unread data at the server: ConnectionReset at once",
            "gone and gone",
        ],
    },
    Row {
        name: "keepalive",
        paths: Paths::Whole,
        run: keepalive,
        expected: &[
            "client that hears nothing: TimedOut in time",
            "its server: ConnectionReset in time",
            "server that hears nothing: TimedOut in time",
            "idle: lives",
        ],
    },
    Row {
        name: "half-close",
        paths: Paths::Whole,
        run: closes::half_close,
        expected: &[
            "client first: FIN-WAIT-2 and CLOSE-WAIT",
            "then 200000 bytes to the client",
            "then TIME-WAIT and gone",
            "server first: CLOSE-WAIT and FIN-WAIT-2",
            "then 200000 bytes to the server",
            "then gone and TIME-WAIT",
        ],
    },
    Row {
        name: "zero window",
        paths: Paths::Whole,
        run: zero_window,
        expected: &["up: waits, probes, all bytes", "down: waits, probes, all bytes"],
    },
    Row {
        name: "port reuse",
        paths: Paths::Whole,
        run: closes::port_reuse,
        expected: &[
            "server in TIME-WAIT: connected soon, most at once",
            "after a RST: connected soon, most at once",
            "client in TIME-WAIT: connected soon, most at once",
        ],
    },
    Row {
        name: "ECN",
        paths: Paths::Whole,
        run: paths::ecn,
        expected: &["up: marks are echoed", "down: marks are echoed"],
    },
    Row {
        name: "path MTU",
        paths: Paths::Whole,
        run: paths::path_mtu,
        expected: &[
            "up: all bytes soon, smaller segments",
            "down: all bytes soon, smaller segments",
        ],
    },
    Row {
        name: "fragments",
        paths: Paths::Cutting,
        run: paths::fragments,
        expected: &["up: all bytes soon, in fragments", "down: all bytes soon, in fragments"],
    },
];

/// How a read ends that has nothing to read.
pub fn outcome(read: io::Result<usize>) -> String {
    match read {
        Ok(0) => "end".to_owned(),
        Ok(n) => format!("{n} bytes"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn at_once(took: Duration) -> String {
    if took < AT_ONCE { "at once".to_owned() } else { format!("after {took:.1?}") }
}

fn closed_port(world: &World<'_>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..if full() { 100 } else { 10 } {
        let (error, took) = refusal(attempt(world.client, world.to, LIMIT));
        seen.push(format!("{error:?} {}", at_once(took)));
        // Fewer than are remembered each second.
        std::thread::sleep(milliseconds(20));
    }
    once(seen)
}

/// Without repetitions.
fn once(all: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

fn reset(world: &World<'_>) -> Vec<String> {
    let listener = world.listen();
    let mut all = Vec::new();
    let told = |mut stream: &TcpStream, start: Instant| {
        let outcome = outcome(stream.read(&mut [0]));
        format!("{outcome} {}", at_once(start.elapsed()))
    };
    let abort = |stream: TcpStream| {
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        Instant::now()
    };
    for _ in 0..if full() { 20 } else { 3 } {
        let Pair { client, server } = world.pair(&listener);
        let start = abort(server);
        all.push(format!("client: {}", told(&client, start)));
    }
    for _ in 0..if full() { 20 } else { 3 } {
        let Pair { client, server } = world.pair(&listener);
        let start = abort(client);
        all.push(format!("server: {}", told(&server, start)));
    }
    let pair = world.pair(&listener);
    let ends = pair.ends();
    let Pair { mut client, server } = pair;
    client.write_all(b"unread").unwrap();
    server.peek(&mut [0]).unwrap();
    let start = Instant::now();
    drop(server);
    all.push(format!("client with unread data at the server: {}", told(&client, start)));
    all.push(world.states(ends, ["gone", "gone"]));
    once(all)
}

/// Probes after a second, each second, and the end when three are unanswered.
fn keepalive(world: &World<'_>) -> Vec<String> {
    let listener = world.listen();
    let pairs = [(); 3].map(|()| world.pair(&listener));
    let [idle, deaf_client, deaf_server] = &pairs;
    for stream in [&idle.client, &idle.server, &deaf_client.client, &deaf_server.server] {
        keep_alive(stream);
    }
    // A client whose host hears nothing more, and a server whose client's host does not.
    let firewall = Firewall::new(world.client).unwrap();
    for pair in [deaf_client, deaf_server] {
        let port = pair.client.local_addr().unwrap().port();
        firewall.rule("prerouting", &format!("tcp dport {port} drop")).unwrap();
    }
    let in_time = |mut stream: &TcpStream, start: Instant| {
        let outcome = outcome(stream.read(&mut [0]));
        let took = start.elapsed().as_secs_f64();
        let in_time = if (2.5..7.0).contains(&took) { "in time" } else { "at another time" };
        format!("{outcome} {in_time}")
    };
    let start = Instant::now();
    let wait = |stream| move || in_time(stream, start);
    let [client, its_server, server] = std::thread::scope(|scope| {
        let streams = [&deaf_client.client, &deaf_client.server, &deaf_server.server];
        let waiting = streams.map(|stream| scope.spawn(wait(stream)));
        waiting.map(|thread| thread.join().unwrap())
    });
    std::thread::sleep(Duration::from_secs(if full() { 30 } else { 1 }));
    idle.talk();
    firewall.flush("prerouting").unwrap();
    vec![
        format!("client that hears nothing: {client}"),
        format!("its server: {its_server}"),
        format!("server that hears nothing: {server}"),
        "idle: lives".to_owned(),
    ]
}

/// A receiver that reads nothing for a while, and then all.
fn zero_window(world: &World<'_>) -> Vec<String> {
    const BYTES: usize = 1_000_000;
    const BUFFER: usize = 64 << 10;
    let listener = world.listen();
    SockRef::from(&listener).set_recv_buffer_size(BUFFER).unwrap();
    let mut all = Vec::new();
    for is_up in [true, false] {
        // Set before they connect: a window that was promised needs its room.
        let pair = world.pair_with_buffer(&listener, BUFFER);
        let (sender, mut receiver, way) = match is_up {
            true => (pair.client, pair.server, "up"),
            false => (pair.server, pair.client, "down"),
        };
        SockRef::from(&sender).set_send_buffer_size(BUFFER).unwrap();
        let host = if is_up { world.client } else { world.server };
        let probes = netstat(host, "TCPWinProbe");
        let sending = std::thread::spawn(move || send(sender, BYTES));
        std::thread::sleep(milliseconds(if full() { 10_000 } else { 2_000 }));
        let waits = if sending.is_finished() { "goes on" } else { "waits" };
        let probes = netstat(host, "TCPWinProbe") - probes;
        let probes = if probes >= 2 { "probes".to_owned() } else { format!("{probes} probes") };
        let (arrived, length) = hash_of(&mut receiver, |_| {}).unwrap();
        let (sent, end) = sending.join().unwrap();
        let is_whole = arrived == sent && length == BYTES as u64;
        let bytes =
            if is_whole { "all bytes".to_owned() } else { format!("{length} bytes, {end:?}") };
        all.push(format!("{way}: {waits}, {probes}, {bytes}"));
    }
    all
}

/// Sends a body and closes; gives its hash, and the error that there was.
fn send(mut stream: TcpStream, bytes: usize) -> ([u8; 32], Option<io::Error>) {
    let mut body = Body::new(bytes as u64, bytes);
    let mut buffer = [0; CHUNK];
    stream.set_write_timeout(None).unwrap();
    loop {
        let chunk = body.next(&mut buffer);
        if chunk.is_empty() {
            return (body.hash(), stream.shutdown(Shutdown::Write).err());
        }
        if let Err(error) = stream.write_all(chunk) {
            return (body.hash(), Some(error));
        }
    }
}
