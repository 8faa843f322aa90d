//! Connections that must live, whatever happens beside them: some with data, some idle with
//! keepalives of a second, half of them without timestamps.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Topology, topology};

use super::sockets::{Path, keep_alive};
use super::{LIMIT, TARGET, VIP, eventually, milliseconds};

/// The running connections.
pub struct Live {
    stop: Arc<AtomicBool>,
    busy: Vec<JoinHandle<(u64, Duration)>>,
    idle: Vec<Connection>,
}

impl Live {
    /// Opens one from each of these ports of the client's, by a server that accepts nothing
    /// afterwards: the port that they are connected to refuses others. Of four that follow each
    /// other, one is of each kind. From here on RSTs to them are counted.
    pub fn start(net: &Topology, router: &Firewall<'_>, ports: &[u16]) -> Self {
        let server = Server::start(&net.target, TARGET).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut busy, mut idle) = (Vec::new(), Vec::new());
        for (port, number) in ports.iter().zip(0..) {
            let timestamps = if number % 4 < 2 { "1" } else { "0" };
            net.client.sysctl("net.ipv4.tcp_timestamps", timestamps).unwrap();
            let mut connection = open(net, *port, LIMIT).unwrap();
            move_both_ways(&mut connection, 1).unwrap();
            if number % 2 == 0 {
                let stop = stop.clone();
                busy.push(std::thread::spawn(move || move_until(&stop, connection)));
            } else {
                keep_alive(connection.stream());
                idle.push(connection);
            }
        }
        net.client.sysctl("net.ipv4.tcp_timestamps", "1").unwrap();
        assert_eq!(server.accepted(), ports.len() as u64, "one connection each");
        stop_listening(net, server);
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let to = format!("ip saddr {} tcp dport {{ {} }}", VIP.ip(), ports.join(", "));
        router.count("live_segments", &to).unwrap();
        router.count("live_resets", &format!("{to} tcp flags & rst != 0")).unwrap();
        Self { stop, busy, idle }
    }

    /// Asserts that all of them live: every byte is right, and nobody sent them a RST. Gives the
    /// bodies that were moved and the longest stall.
    pub fn finish(self, router: &Firewall<'_>) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut bodies, mut stall) = (0, Duration::ZERO);
        for busy in self.busy {
            let (moved, longest) = busy.join().expect("a busy connection broke");
            assert!(moved > 10, "only {moved} bodies were moved");
            bodies += moved;
            stall = stall.max(longest);
        }
        for mut connection in self.idle {
            move_both_ways(&mut connection, 2).expect("an idle connection broke");
            bodies += 2;
        }
        assert!(router.packets("live_segments").unwrap() > bodies, "counted where they pass");
        assert_eq!(router.packets("live_resets").unwrap(), 0, "RSTs to live connections");
        (bodies, stall)
    }
}

/// Waits until nobody listens where the default service leads.
pub fn stop_listening(net: &Topology, server: Server) {
    drop(server);
    eventually("nobody listens", LIMIT, || Path::Pops.at_target(net, "LISTEN") == 0);
}

/// Connects from a port of the client's.
pub fn open(net: &Topology, port: u16, limit: Duration) -> std::io::Result<Connection> {
    let from = SocketAddrV4::new(topology::CLIENT, port);
    let connect = move || Connection::open_from_within(from, VIP, Some(limit));
    net.client.thread(connect).unwrap().join().unwrap().unwrap()
}

/// A body down and a body up, each checked.
pub fn move_both_ways(connection: &mut Connection, seed: u64) -> std::io::Result<()> {
    const BYTES: usize = 20_000;
    connection.download(seed, BYTES)?;
    connection.upload(seed, BYTES)
}

fn move_until(stop: &AtomicBool, mut connection: Connection) -> (u64, Duration) {
    let mut bodies = 0;
    while !stop.load(Ordering::Relaxed) {
        move_both_ways(&mut connection, bodies).unwrap();
        bodies += 2;
        std::thread::sleep(milliseconds(10));
    }
    (bodies, connection.longest_stall)
}
