//! Numbered, hashed UDP datagrams through a tunnel, both ways: what was sent, what arrived, and
//! when that which did not arrive had been sent.
//!
//! ```text
//! Flow: up sender, down receiver -- agent ~~~ agent -- UdpServer: up receiver, down sender
//! ```
//!
//! A datagram is `id 4 | direction 1 | number 8 | filling | hash 8`; the hash is over all before
//! it. Senders are paced loops that wake every millisecond; at 10,000 a second each costs a few
//! percent of a core. All ends are in this process, so that there is one clock.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{LabError, Namespace, Result};

/// How much a flow sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Datagrams a second towards the server.
    pub up_per_second: u32,
    /// Datagrams a second from it, as soon as it has heard of the flow.
    pub down_per_second: u32,
    /// Bytes of each, at least [`MIN_BYTES`].
    pub bytes: usize,
}

impl Plan {
    /// The same rate both ways, 200 bytes each.
    #[must_use]
    pub fn both(per_second: u32) -> Self {
        Self { up_per_second: per_second, down_per_second: per_second, bytes: 200 }
    }
}

/// The smallest datagram.
pub const MIN_BYTES: usize = HEADER_BYTES + HASH_BYTES;

/// What became of one direction's datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Sent.
    pub sent: u64,
    /// Arrived at least once.
    pub received: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived with a wrong hash, or were never sent.
    pub corrupted: u64,
    /// When those were sent that never arrived, since the flow was started, in order.
    pub lost: Vec<Duration>,
    /// The longest time from one arrival to the next, while something was sent.
    pub longest_gap: Duration,
}

impl Report {
    /// How many were lost that were not sent within any of these times since the flow was started.
    #[must_use]
    pub fn lost_outside(&self, windows: &[Range<Duration>]) -> u64 {
        let inside = |sent: &Duration| windows.iter().any(|window| window.contains(sent));
        self.lost.iter().filter(|sent| !inside(sent)).count() as u64
    }
}

/// A UDP server that takes part in any number of flows.
#[derive(Debug)]
pub struct UdpServer {
    socket: UdpSocket,
    flows: Arc<Mutex<HashMap<u32, Arc<Shared>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Starts it on an address of a namespace.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(move || open(address))?
            .map_err(LabError::io(format!("bind {address} in {}", namespace.name())))?;
        let flows: Arc<Mutex<HashMap<u32, Arc<Shared>>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let receiver = clone(&socket)?;
        let (known, stopped) = (flows.clone(), stop.clone());
        let thread = spawn("udp server", move || {
            receive(&receiver, &stopped, |datagram, from| {
                let Some(header) = Header::read(datagram) else { return };
                let Some(flow) = known.lock().get(&header.id).cloned() else { return };
                flow.up.lock().take(flow.start, UP, datagram);
                let mut peers = flow.peers.lock();
                if peers.last() != Some(&from) {
                    peers.push(from);
                }
            });
        })?;
        Ok(Self { socket, flows, stop, thread: Some(thread) })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A running flow; it stops to send when dropped.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    sending: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flow {
    /// Starts to send from a namespace to an address there, behind which the server is.
    ///
    /// # Errors
    /// If no socket is to be had.
    pub fn start(
        server: &UdpServer,
        namespace: &Namespace,
        to: SocketAddr,
        plan: Plan,
    ) -> Result<Self> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let any = SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() }, 0);
        let socket = namespace
            .run(move || {
                let socket = open(any)?;
                socket.connect(to)?;
                Ok(socket)
            })?
            .map_err(LabError::io(format!("connect to {to} in {}", namespace.name())))?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            start: Instant::now(),
            up: Mutex::default(),
            down: Mutex::default(),
            peers: Mutex::default(),
        });
        server.flows.lock().insert(id, shared.clone());
        let mut flow = Self {
            shared: shared.clone(),
            sending: Arc::new(AtomicBool::new(true)),
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };

        let (up, flow_up, sending) = (clone(&socket)?, shared.clone(), flow.sending.clone());
        flow.threads.push(spawn("flow up", move || {
            let pace =
                Pace { id, direction: UP, per_second: plan.up_per_second, bytes: plan.bytes };
            pace.run(flow_up.start, &sending, &flow_up.up, |datagram| up.send(datagram).is_ok());
        })?);
        let (down, flow_down, sending) =
            (clone(&server.socket)?, shared.clone(), flow.sending.clone());
        flow.threads.push(spawn("flow down", move || {
            let per_second = plan.down_per_second;
            let pace = Pace { id, direction: DOWN, per_second, bytes: plan.bytes };
            while flow_down.peers.lock().is_empty() && sending.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            pace.run(flow_down.start, &sending, &flow_down.down, |datagram| {
                let peer = flow_down.peers.lock().last().copied();
                peer.is_some_and(|peer| down.send_to(datagram, peer).is_ok())
            });
        })?);
        let stop = flow.stop.clone();
        flow.threads.push(spawn("flow receiver", move || {
            receive(&socket, &stop, |datagram, _| {
                let known = Header::read(datagram).is_some_and(|header| header.id == id);
                let mut down = shared.down.lock();
                match known {
                    true => down.take(shared.start, DOWN, datagram),
                    false => down.corrupted += 1,
                }
            });
        })?);
        Ok(flow)
    }

    /// When it was started: what times in reports count from.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.shared.start
    }

    /// The time since it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// How many datagrams arrived so far, up and down.
    #[must_use]
    pub fn received(&self) -> (u64, u64) {
        (self.shared.up.lock().received, self.shared.down.lock().received)
    }

    /// How many copies arrived so far of what had arrived before, up and down.
    #[must_use]
    pub fn duplicates(&self) -> (u64, u64) {
        (self.shared.up.lock().duplicates, self.shared.down.lock().duplicates)
    }

    /// When the newest datagram of each direction, up and down, was sent that has arrived so far:
    /// what was sent later is still on its way, or lost.
    #[must_use]
    pub fn newest_arrived(&self) -> (Duration, Duration) {
        let of = |ledger: &Ledger| {
            let newest = ledger.arrived.len().checked_sub(1).and_then(|n| ledger.sent.get(n));
            newest.copied().unwrap_or_default()
        };
        (of(&self.shared.up.lock()), of(&self.shared.down.lock()))
    }

    /// From where the server saw the flow come, each time it changed.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.shared.peers.lock().clone()
    }

    /// Stops sending, waits for what is on its way, until nothing has come for this time, and says
    /// what became of all, up and down.
    #[must_use]
    pub fn finish(mut self, wait: Duration) -> (Report, Report) {
        self.sending.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        let (mut last, mut came) = (begun, (self.received(), self.duplicates()));
        while last.elapsed() < wait && begun.elapsed() < FINISH_MAX {
            std::thread::sleep(Duration::from_millis(10));
            let now = (self.received(), self.duplicates());
            if now != came {
                (last, came) = (Instant::now(), now);
            }
        }
        self.end();
        (self.shared.up.lock().report(), self.shared.down.lock().report())
    }

    fn end(&mut self) {
        self.sending.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    up: Mutex<Ledger>,
    down: Mutex<Ledger>,
    /// Where the server sees the flow come from; the newest last.
    peers: Mutex<Vec<SocketAddr>>,
}

/// One direction's datagrams, by number.
#[derive(Debug, Default)]
struct Ledger {
    sent: Vec<Duration>,
    arrived: Vec<bool>,
    received: u64,
    duplicates: u64,
    corrupted: u64,
    last: Option<Duration>,
    longest_gap: Duration,
}

impl Ledger {
    fn take(&mut self, start: Instant, direction: u8, datagram: &[u8]) {
        let number = Header::read(datagram)
            .filter(|header| header.direction == direction && hash_holds(datagram))
            .and_then(|header| usize::try_from(header.number).ok())
            .filter(|number| *number < self.sent.len());
        let Some(number) = number else {
            self.corrupted += 1;
            return;
        };
        if self.arrived.len() <= number {
            self.arrived.resize(number + 1, false);
        }
        let first = !std::mem::replace(&mut self.arrived[number], true);
        self.received += u64::from(first);
        self.duplicates += u64::from(!first);
        let now = start.elapsed();
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now.saturating_sub(last));
        }
        self.last = Some(now);
    }

    fn report(&self) -> Report {
        let arrived = |number: usize| self.arrived.get(number).copied().unwrap_or(false);
        let lost = (0..self.sent.len()).filter(|number| !arrived(*number));
        Report {
            sent: self.sent.len() as u64,
            received: self.received,
            duplicates: self.duplicates,
            corrupted: self.corrupted,
            lost: lost.map(|number| self.sent[number]).collect(),
            longest_gap: self.longest_gap,
        }
    }
}

struct Header {
    id: u32,
    direction: u8,
    number: u64,
}

impl Header {
    fn read(datagram: &[u8]) -> Option<Self> {
        let (id, rest) = datagram.split_first_chunk()?;
        let (direction, rest) = rest.split_first()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            id: u32::from_be_bytes(*id),
            direction: *direction,
            number: u64::from_be_bytes(*number),
        })
    }
}

/// A sender of one direction.
struct Pace {
    id: u32,
    direction: u8,
    per_second: u32,
    bytes: usize,
}

impl Pace {
    /// Until told to stop. What the socket refuses counts as sent: it is lost.
    fn run(
        &self,
        start: Instant,
        sending: &AtomicBool,
        ledger: &Mutex<Ledger>,
        mut send: impl FnMut(&[u8]) -> bool,
    ) {
        let mut datagram = vec![0x5a; self.bytes.max(MIN_BYTES)];
        datagram[..4].copy_from_slice(&self.id.to_be_bytes());
        datagram[4] = self.direction;
        let began = Instant::now();
        // What could not be sent in time is left out, so that no pause is followed by a flood.
        let mut skipped = 0;
        let mut number = 0_u64;
        while sending.load(Ordering::Relaxed) {
            let due = (began.elapsed().as_secs_f64() * f64::from(self.per_second)) as u64;
            let behind = due.saturating_sub(number + skipped);
            let burst = behind.min(u64::from(self.per_second / 50).max(1));
            skipped += behind - burst;
            for _ in 0..burst {
                datagram[5..13].copy_from_slice(&number.to_be_bytes());
                seal(&mut datagram);
                // In the ledger first: it must not arrive before it was sent.
                ledger.lock().sent.push(start.elapsed());
                send(&datagram);
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn seal(datagram: &mut [u8]) {
    let at = datagram.len() - HASH_BYTES;
    let hash = Sha256::digest(&datagram[..at]);
    datagram[at..].copy_from_slice(&hash[..HASH_BYTES]);
}

fn hash_holds(datagram: &[u8]) -> bool {
    let Some(at) = datagram.len().checked_sub(HASH_BYTES) else { return false };
    Sha256::digest(&datagram[..at])[..HASH_BYTES] == datagram[at..]
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::sockopt;
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // Half a second at 20,000 datagrams a second.
    sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, mut take: impl FnMut(&[u8], SocketAddr)) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // An error is the timeout, or an ICMP error of something sent before.
        if let Ok((size, from)) = socket.recv_from(&mut buffer) {
            take(&buffer[..size], from);
        }
    }
}

fn clone(socket: &UdpSocket) -> Result<UdpSocket> {
    socket.try_clone().map_err(LabError::io("clone a socket"))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(LabError::io("start a thread"))
}

/// How long what is on its way may take at most.
const FINISH_MAX: Duration = Duration::from_secs(20);
const UP: u8 = 0;
const DOWN: u8 = 1;
const HEADER_BYTES: usize = 13;
const HASH_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_tells_lost_duplicated_and_damaged_apart() {
        let start = Instant::now();
        let mut ledger =
            Ledger { sent: (0..5).map(Duration::from_secs).collect(), ..Ledger::default() };
        let datagram = |number: u64| {
            let mut datagram = vec![7; MIN_BYTES + 3];
            datagram[4] = UP;
            datagram[5..13].copy_from_slice(&number.to_be_bytes());
            seal(&mut datagram);
            datagram
        };
        for number in [0, 2, 2, 4, 5] {
            ledger.take(start, UP, &datagram(number));
        }
        let mut damaged = datagram(1);
        damaged[14] ^= 1;
        ledger.take(start, UP, &damaged);
        ledger.take(start, DOWN, &datagram(1));
        let report = ledger.report();
        assert_eq!((report.sent, report.received, report.duplicates), (5, 3, 1));
        assert_eq!(report.corrupted, 3, "number 5 was never sent, one damaged, one mirrored");
        assert_eq!(report.lost, [1, 3].map(Duration::from_secs));
        let window = Duration::from_secs(3)..Duration::from_secs(4);
        assert_eq!(report.lost_outside(std::slice::from_ref(&window)), 1);
    }
}
