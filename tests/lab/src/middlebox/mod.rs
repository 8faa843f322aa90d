//! A bump in the wire: a thread that carries frames between two interfaces of a namespace and does
//! to TCP segments what networks and middleboxes do, from a seed.
//!
//! ```text
//! from A -- timestamps -- ISN rewriting -- damage -- loss -- duplication -- delay and holding
//! back -- cutting -- to B, and so back, but without the first and the last
//! ```
//!
//! What it promises: what is not TCP (ARP, neighbour discovery, ICMP) passes as it is; the same
//! seed and the same frames give the same fate; at most [`HELD_MAX`] segments are held, for a
//! bounded time; all that it does is counted. (This kernel has no netem, and no Linux firewall
//! rewrites initial sequence numbers, as firewalls of other makers do.)

mod bare;
mod cut;
mod isn;
mod segment;

pub use bare::{Bare, Kind};

use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_kit::rng::Rng;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::counters::InterfaceCounters;
use crate::packet::{MAX_FRAME_BYTES, PacketSocket};
use crate::{LabError, Namespace, Result};

/// How many segments are held back at most; one more is sent at once and counted.
pub const HELD_MAX: usize = 4096;

/// What is done to TCP segments, in both directions if not said. Shares are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    /// What all of it is made from.
    pub seed: u64,
    /// Share that is lost.
    pub loss: f64,
    /// Share that is sent twice.
    pub duplicate: f64,
    /// How long each is on its way, in order.
    pub delay: Duration,
    /// Share in which one bit beyond the Ethernet header is turned over.
    pub corrupt: f64,
    /// Share that is held back for a random time, so that later ones overtake it.
    pub reorder: f64,
    /// The longest time that one is held back.
    pub hold_max: Duration,
    /// Whether sequence numbers of each end are shifted by a number of the flow's own.
    pub rewrite_isn: bool,
    /// From the first side only: segments over IPv6 in datagrams longer than this go on in
    /// fragments, half of them with the last one first.
    pub cut_ipv6: Option<usize>,
    /// From the first side only: which segments lose their timestamps.
    pub bare: Bare,
}

impl Trouble {
    /// Nothing but carrying.
    pub const NONE: Self = Self {
        seed: 1,
        loss: 0.0,
        duplicate: 0.0,
        delay: Duration::ZERO,
        corrupt: 0.0,
        reorder: 0.0,
        hold_max: Duration::from_millis(10),
        rewrite_isn: false,
        cut_ipv6: None,
        bare: Bare::NONE,
    };

    /// A bad path: 2% lost, 2% held back by up to 10 ms, 1% duplicated.
    pub const BAD_PATH: Self = Self { loss: 0.02, reorder: 0.02, duplicate: 0.01, ..Self::NONE };

    /// A firewall that rewrites initial sequence numbers.
    pub const ISN: Self = Self { rewrite_isn: true, ..Self::NONE };
}

/// What has been done so far, in both directions together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// TCP segments that came in.
    pub segments: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Damaged.
    pub corrupted: u64,
    /// Held back, or delayed.
    pub held: u64,
    /// Sent at once because [`HELD_MAX`] were held.
    pub not_held: u64,
    /// Frames, TCP or not, that the interface did not take.
    pub refused: u64,
    /// Segments that went on in fragments.
    pub cut: u64,
    /// Fragments of them that the interface took.
    pub fragments: u64,
    /// Segments that lost their timestamps.
    pub bare: u64,
    /// Probes that got a byte.
    pub garbage: u64,
}

/// A running middlebox; it stops to carry when dropped.
#[derive(Debug)]
pub struct Middlebox {
    shared: Arc<Shared>,
    counters: Mutex<InterfaceCounters>,
    sides: [String; 2],
    thread: Option<JoinHandle<()>>,
}

impl Middlebox {
    /// Starts to carry between two interfaces of a namespace that have no addresses.
    ///
    /// # Errors
    /// If there are no such interfaces.
    pub fn start(namespace: &Namespace, sides: [&str; 2], trouble: Trouble) -> Result<Self> {
        let [a, b] = sides;
        let sockets = [PacketSocket::open(namespace, a)?, PacketSocket::open(namespace, b)?];
        let shared = Arc::new(Shared::default());
        *shared.trouble.lock() = Some(trouble);
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("middlebox".to_owned())
            .spawn(move || Carrier::new(&worker, sockets, trouble).run())
            .map_err(LabError::io("start a middlebox"))?;
        let counters = Mutex::new(InterfaceCounters::open(namespace)?);
        let sides = sides.map(str::to_owned);
        Ok(Self { shared, counters, sides, thread: Some(thread) })
    }

    /// Does something else from now on. What is held back stays so until its time.
    pub fn set(&self, trouble: Trouble) {
        *self.shared.trouble.lock() = Some(trouble);
    }

    /// How many frames came to its interfaces that it did not take, as its socket's queue was full.
    /// A few that came before it was started are in it.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn lost_in_ring(&self) -> Result<u64> {
        let taken = self.shared.frames.load(Ordering::Relaxed);
        let counters = self.counters.lock().read()?;
        let came = self.sides.iter().filter_map(|side| counters.get(side));
        Ok(came.map(|traffic| traffic.rx_packets).sum::<u64>().saturating_sub(taken))
    }

    /// What has been done so far.
    #[must_use]
    pub fn done(&self) -> Done {
        let of = |what: usize| self.shared.counts[what].load(Ordering::Relaxed);
        Done {
            segments: of(SEGMENTS),
            lost: of(LOST),
            duplicated: of(DUPLICATED),
            corrupted: of(CORRUPTED),
            held: of(HELD),
            not_held: of(NOT_HELD),
            refused: of(REFUSED),
            cut: of(CUT),
            fragments: of(FRAGMENTS),
            bare: of(BARE),
            garbage: of(GARBAGE),
        }
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// A change, until the thread has taken it.
    trouble: Mutex<Option<Trouble>>,
    /// In the order of the fields of [`Done`].
    counts: [AtomicU64; 11],
    /// All that were taken, TCP or not.
    frames: AtomicU64,
}

const SEGMENTS: usize = 0;
const LOST: usize = 1;
const DUPLICATED: usize = 2;
const CORRUPTED: usize = 3;
const HELD: usize = 4;
const NOT_HELD: usize = 5;
const REFUSED: usize = 6;
const CUT: usize = 7;
const FRAGMENTS: usize = 8;
const BARE: usize = 9;
const GARBAGE: usize = 10;

/// A frame that waits until it is due; the order is the reverse, for a heap of earliest first.
struct Held {
    due: Instant,
    /// Breaks ties in the order of coming.
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Held {}

struct Carrier<'a> {
    shared: &'a Shared,
    sockets: [PacketSocket; 2],
    trouble: Trouble,
    /// One stream of chances for each direction, so that neither depends on the other's timing.
    rng: [Rng; 2],
    held: BinaryHeap<Held>,
    number: u64,
    /// Of the last segment that was cut.
    fragment_id: u32,
    stripper: bare::Stripper,
}

impl<'a> Carrier<'a> {
    fn new(shared: &'a Shared, sockets: [PacketSocket; 2], trouble: Trouble) -> Self {
        let rng = [Rng(trouble.seed), Rng(!trouble.seed)];
        let (held, stripper) = (BinaryHeap::new(), bare::Stripper::default());
        Self { shared, sockets, trouble, rng, held, number: 0, fragment_id: 0, stripper }
    }

    fn run(mut self) {
        let mut buffer = [0; MAX_FRAME_BYTES];
        while !self.shared.stop.load(Ordering::Relaxed) {
            if let Some(trouble) = self.shared.trouble.lock().take() {
                self.trouble = trouble;
            }
            self.wait();
            for from in 0..2 {
                for _ in 0..BURST {
                    let Some(frame) = self.sockets[from].receive(&mut buffer) else { break };
                    let size = frame.len();
                    self.carry(from, &mut buffer[..size]);
                }
            }
            self.release(Instant::now());
        }
    }

    /// Until a frame comes, one is due, or it is time to look at the orders.
    fn wait(&self) {
        let idle = Duration::from_millis(50);
        let wait = self
            .held
            .peek()
            .map_or(idle, |held| held.due.saturating_duration_since(Instant::now()).min(idle));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = self
            .sockets
            .each_ref()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn carry(&mut self, from: usize, frame: &mut [u8]) {
        let to = 1 - from;
        self.shared.frames.fetch_add(1, Ordering::Relaxed);
        if !segment::is_tcp(frame) {
            self.send(to, frame);
            return;
        }
        self.count(SEGMENTS);
        let trouble = self.trouble;
        let mut changed;
        let mut frame = frame;
        if from == 0
            && let Some(bare) = self.stripper.change(&trouble.bare, frame)
        {
            self.add(BARE, u64::from(bare.is_bare));
            self.add(GARBAGE, u64::from(bare.has_garbage));
            changed = bare.frame;
            frame = &mut changed;
        }
        if trouble.rewrite_isn {
            isn::shift(trouble.seed, frame);
        }
        if self.chance(from, trouble.corrupt) {
            self.count(CORRUPTED);
            let bits = (frame.len() - segment::ETHERNET_BYTES) * 8;
            let bit = self.below(from, bits as u64) as usize + segment::ETHERNET_BYTES * 8;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        if self.chance(from, trouble.loss) {
            self.count(LOST);
            return;
        }
        if self.chance(from, trouble.duplicate) {
            self.count(DUPLICATED);
            self.send_after(trouble.delay, to, frame);
        }
        let mut hold = trouble.delay;
        if self.chance(from, trouble.reorder) {
            let micros = trouble.hold_max.as_micros() as u64;
            hold += Duration::from_micros(self.below(from, micros.max(1)));
        }
        self.send_after(hold, to, frame);
    }

    fn send_after(&mut self, hold: Duration, to: usize, frame: &[u8]) {
        if hold.is_zero() {
            self.send(to, frame);
        } else if self.held.len() >= HELD_MAX {
            self.count(NOT_HELD);
            self.send(to, frame);
        } else {
            self.count(HELD);
            let due = Instant::now() + hold;
            self.number += 1;
            self.held.push(Held { due, number: self.number, to, frame: frame.to_vec() });
        }
    }

    fn release(&mut self, now: Instant) {
        while self.held.peek().is_some_and(|held| held.due <= now) {
            if let Some(held) = self.held.pop() {
                self.send(held.to, &held.frame);
            }
        }
    }

    fn send(&mut self, to: usize, frame: &[u8]) {
        let cut = self.trouble.cut_ipv6.filter(|_| to == 1);
        if let Some(mut pieces) = cut.and_then(|mtu| cut::pieces(frame, mtu, self.fragment_id + 1))
        {
            self.fragment_id += 1;
            self.count(CUT);
            if self.chance(0, 0.5) {
                pieces.reverse();
            }
            for piece in pieces {
                let took = self.sockets[to].send(&piece);
                self.count(if took { FRAGMENTS } else { REFUSED });
            }
        } else if !self.sockets[to].send(frame) {
            self.count(REFUSED);
        }
    }

    fn count(&self, what: usize) {
        self.add(what, 1);
    }

    fn add(&self, what: usize, number: u64) {
        self.shared.counts[what].fetch_add(number, Ordering::Relaxed);
    }

    /// Draws also for a share of 0, so that the other fates do not depend on it.
    fn chance(&mut self, from: usize, share: f64) -> bool {
        ((self.rng[from].next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    fn below(&mut self, from: usize, end: u64) -> u64 {
        self.rng[from].next() % end
    }
}

/// Frames taken from one side before the other has its turn.
const BURST: usize = 64;
