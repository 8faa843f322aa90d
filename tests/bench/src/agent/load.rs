//! Numbered datagrams through a tunnel, with a window, so that none is lost to a full queue.
//!
//! A sender waits until half of its window has arrived and then sends as many as fit again, one
//! call each. So whatever is measured meets bursts of the same kind, and is as busy as it can be.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use anyrelay_lab::Namespace;

/// How much one run sends.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of each datagram.
    pub bytes: usize,
    /// Whether the server sends as well.
    pub two_way: bool,
    /// Datagrams of each sender.
    pub count: u64,
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// Datagrams sent, both directions together.
    pub sent: u64,
    /// Datagrams that arrived, each counted once.
    pub arrived: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// The two ends of a tunnel, outside of it.
#[derive(Debug)]
pub struct Load {
    client: UdpSocket,
    server: UdpSocket,
    runs: u32,
}

impl Load {
    /// A client in `near` that sends to `entry`, and a server in `far` at `server`.
    ///
    /// # Errors
    /// When an address is not to be had.
    pub fn open(
        near: &Namespace,
        entry: SocketAddr,
        far: &Namespace,
        server: SocketAddr,
    ) -> anyhow::Result<Self> {
        let client = near.run(move || -> std::io::Result<UdpSocket> {
            let socket = open(([127, 0, 0, 1], 0).into())?;
            socket.connect(entry)?;
            Ok(socket)
        })??;
        let server = far.run(move || open(server))??;
        Ok(Load { client, server, runs: 0 })
    }

    /// Sends until the tunnel is up, then what the plan says.
    ///
    /// # Errors
    /// When the tunnel does not come up or the system fails. What got lost is no error.
    pub fn run(
        &mut self,
        plan: Plan,
        before: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Carried> {
        self.runs += 1;
        let peer = self.warm_up()?;
        before()?;
        let (client, server, run) = (&self.client, &self.server, self.runs);
        let (up, down) = (Way::default(), Way::default());
        let stop = AtomicBool::new(false);
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| up.receive(server, run, &stop));
            scope.spawn(|| down.receive(client, run, &stop));
            let back = plan.two_way.then(|| {
                scope.spawn(|| down.send(run, plan, |datagram| server.send_to(datagram, peer)))
            });
            up.send(run, plan, |datagram| client.send(datagram));
            let _ = back.map(thread::ScopedJoinHandle::join);
            stop.store(true, Ordering::Relaxed);
        });
        let arrived = up.arrived.into_inner() + down.arrived.into_inner();
        let sent = up.sent.into_inner() + down.sent.into_inner();
        Ok(Carried {
            sent,
            arrived,
            elapsed: start.elapsed() - RECEIVE_TIMEOUT.min(start.elapsed()),
        })
    }

    /// Where the server sees the client, as soon as something came through both ways.
    fn warm_up(&self) -> anyhow::Result<SocketAddr> {
        let mut buffer = [0; 2048];
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut peer = None;
        loop {
            ensure!(Instant::now() < deadline, "nothing comes through the tunnel");
            // Refused while nobody listens yet.
            let _ = self.client.send(&[0]);
            if let Ok((_, from)) = self.server.recv_from(&mut buffer) {
                peer = Some(from);
                self.server.send_to(&[0], from)?;
            }
            if peer.is_some() && self.client.recv(&mut buffer).is_ok() {
                break;
            }
        }
        while let Ok((_, from)) = self.server.recv_from(&mut buffer) {
            peer = Some(from);
        }
        while self.client.recv(&mut buffer).is_ok() {}
        peer.context("no peer")
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Way {
    fn send(&self, run: u32, plan: Plan, mut send: impl FnMut(&[u8]) -> std::io::Result<usize>) {
        let mut datagram = vec![0x5a; plan.bytes.max(12)];
        datagram[..4].copy_from_slice(&run.to_be_bytes());
        let (mut number, mut progress) = (0, (0, Instant::now()));
        while self.arrived.load(Ordering::Relaxed) < plan.count {
            let arrived = self.arrived.load(Ordering::Relaxed);
            if arrived != progress.0 {
                progress = (arrived, Instant::now());
            } else if progress.1.elapsed() > STALL {
                // Something got lost; who called sees it in the counts.
                return;
            }
            if number - arrived > WINDOW / 2 || number == plan.count {
                thread::sleep(Duration::from_micros(20));
                continue;
            }
            for _ in 0..(WINDOW - (number - arrived)).min(plan.count - number) {
                datagram[4..12].copy_from_slice(&number.to_be_bytes());
                if send(&datagram).is_ok() {
                    number += 1;
                }
            }
            self.sent.store(number, Ordering::Relaxed);
        }
    }

    fn receive(&self, socket: &UdpSocket, run: u32, stop: &AtomicBool) {
        let mut seen = HashSet::new();
        let mut buffer = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            let Ok(len) = socket.recv(&mut buffer) else { continue };
            let datagram = &buffer[..len];
            let Some((head, rest)) = datagram.split_first_chunk() else { continue };
            let Some((number, _)) = rest.split_first_chunk() else { continue };
            if u32::from_be_bytes(*head) == run && seen.insert(u64::from_be_bytes(*number)) {
                self.arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    Ok(socket)
}

/// Datagrams on their way at most, in each direction: fewer than any queue on the way holds. A UDP
/// socket of Linux's default size holds some 90 of 1200 bytes.
const WINDOW: u64 = 64;
const STALL: Duration = Duration::from_secs(2);
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(50);
