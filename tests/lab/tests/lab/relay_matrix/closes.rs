//! Rows about how connections end, and what begins after that.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::rows::outcome;
use super::world::{Pair, SOON, World};
use crate::common::refusals::AT_ONCE;
use crate::common::sockets::{GONE, guard_time_wait};
use crate::common::{full, milliseconds};

/// One side has said all, and the other has not.
pub fn half_close(world: &World<'_>) -> Vec<String> {
    const BYTES: usize = 200_000;
    let listener = world.listen();
    let hosts = [world.client, world.server];
    hosts.iter().for_each(|host| guard_time_wait(host, true));
    let mut all = Vec::new();
    for is_client_first in [true, false] {
        let order = |states: [&'static str; 2]| match is_client_first {
            true => states,
            false => [states[1], states[0]],
        };
        let pair = world.pair(&listener);
        let ends = pair.ends();
        let (mut first, mut second, names) = match is_client_first {
            true => (pair.client, pair.server, ["client", "server"]),
            false => (pair.server, pair.client, ["server", "client"]),
        };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcome(second.read(&mut [0])), "end");
        let states = world.states(ends, order(["FIN-WAIT-2", "CLOSE-WAIT"]));
        all.push(format!("{} first: {states}", names[0]));
        let writing = std::thread::spawn(move || second.write_all(&[7; BYTES]));
        let mut heard = Vec::new();
        first.read_to_end(&mut heard).unwrap();
        writing.join().unwrap().unwrap();
        let right = heard.iter().filter(|byte| **byte == 7).count();
        all.push(format!("then {right} bytes to the {}", names[0]));
        drop(first);
        all.push(format!("then {}", world.states(ends, order(["TIME-WAIT", GONE]))));
    }
    hosts.iter().for_each(|host| guard_time_wait(host, false));
    all
}

/// How the first connection from a port ends.
type End = fn(&World<'_>, Pair);

/// The same port of the client connects again, as soon as it can.
pub fn port_reuse(world: &World<'_>) -> Vec<String> {
    let count = if full() { 50 } else { 7 };
    let cases: [(&str, u16, Duration, End); 3] = [
        ("server in TIME-WAIT", 20_000, Duration::ZERO, server_waits),
        ("after a RST", 22_000, Duration::ZERO, client_resets),
        // Before that, the client's kernel does not let it.
        ("client in TIME-WAIT", 24_000, milliseconds(1500), client_waits),
    ];
    let listener = world.listen();
    let mut all = Vec::new();
    for (name, first, wait, end) in cases {
        let ports = first..first + count;
        let mut times: Vec<Duration> = if wait.is_zero() {
            let again = |port| {
                end(world, world.pair_from(&listener, port).0);
                again(world, &listener, port)
            };
            ports.map(again).collect()
        } else {
            for port in ports.clone() {
                end(world, world.pair_from(&listener, port).0);
            }
            std::thread::sleep(wait);
            ports.map(|port| again(world, &listener, port)).collect()
        };
        times.sort_unstable();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        let is_good = median < AT_ONCE && longest < SOON;
        let good = if is_good { "soon, most at once".to_owned() } else { format!("{times:?}") };
        all.push(format!("{name}: connected {good}"));
    }
    all
}

/// Connects again; how long that takes. This connection leaves nothing behind.
fn again(world: &World<'_>, listener: &TcpListener, port: u16) -> Duration {
    let (pair, took) = world.pair_from(listener, port);
    set_socket_linger(&pair.client, Some(Duration::ZERO)).unwrap();
    took
}

fn server_waits(world: &World<'_>, pair: Pair) {
    guard_time_wait(world.server, true);
    closes(world, pair, true);
    guard_time_wait(world.server, false);
}

fn client_waits(world: &World<'_>, pair: Pair) {
    closes(world, pair, false);
}

fn closes(world: &World<'_>, pair: Pair, is_server_first: bool) {
    let ends = pair.ends();
    let hear = |mut stream: TcpStream| assert_eq!(outcome(stream.read(&mut [0])), "end");
    let expected = match is_server_first {
        true => {
            drop(pair.server);
            hear(pair.client);
            [GONE, "TIME-WAIT"]
        }
        false => {
            drop(pair.client);
            hear(pair.server);
            ["TIME-WAIT", GONE]
        }
    };
    assert_eq!(world.states(ends, expected), expected.join(" and "));
}

fn client_resets(world: &World<'_>, pair: Pair) {
    let ends = pair.ends();
    set_socket_linger(&pair.client, Some(Duration::ZERO)).unwrap();
    drop(pair.client);
    assert_eq!(world.states(ends, [GONE, GONE]), "gone and gone");
}
