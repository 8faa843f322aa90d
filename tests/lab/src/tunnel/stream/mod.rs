//! Numbered, hashed UDP datagrams through a tunnel, both ways: what was sent, what arrived, and
//! when the lost ones had been sent.
//!
//! ```text
//! Flow: up sender, down receiver -- agent ~~~ agent -- UdpServer: up receiver, down sender
//! ```
//!
//! A datagram is `id 4 | direction 1 | number 8 | filling | hash 8`; the hash is over all before
//! it. Senders are paced loops that wake every millisecond; at 10,000 a second each costs a few
//! percent of a core. All ends are in this process, so that there is one clock.

mod datagram;
mod pace;
mod record;
mod socket;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::{LabError, Namespace, Result};

pub use datagram::MIN_BYTES;
pub use record::Report;

use datagram::{DOWN, Header, UP};
use pace::Pace;
use record::Record;
use socket::{clone, open, receive, spawn};

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
        (self.shared.up.lock().newest_arrived(), self.shared.down.lock().newest_arrived())
    }

    /// From where the server saw the flow come, each time it changed.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.shared.peers.lock().clone()
    }

    /// Stops sending, waits until nothing has come for this time, and reports on all datagrams, up
    /// and down.
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
    up: Mutex<Record>,
    down: Mutex<Record>,
    /// Where the server sees the flow come from; the newest last.
    peers: Mutex<Vec<SocketAddr>>,
}

/// The longest time that datagrams in flight are waited for.
const FINISH_MAX: Duration = Duration::from_secs(20);
