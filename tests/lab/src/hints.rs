//! The network between the POPs that their hints pass, and what goes wrong on it.
//!
//! ```text
//! POP 1 `hints` 10.5.1.2 --- 10.5.1.1 `pop1` \
//! POP 2 `hints` 10.5.2.2 --- 10.5.2.1 `pop2`  a thread with one socket for each POP
//! POP 3 `hints` 10.5.3.2 --- 10.5.3.1 `pop3` /
//! ```
//!
//! The peers of a POP are sockets of the namespace in the middle, one for each other POP, and a
//! thread carries each datagram on to the POP whose socket it came to. It can lose, double, damage
//! and delay them, from a seed. All that it does is counted, and it keeps what came. (A kernel need
//! not have netem.) What is sent to a POP's own address passes the thread by.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_kit::rng::Rng;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{LabError, Namespace, Result, link};

/// Datagrams that are kept of those that came, and that are delayed at once, at most.
pub const KEPT_MAX: usize = 4096;

/// What is done to datagrams of hints. Shares are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What all of it is made from.
    pub seed: u64,
    /// Share that is lost.
    pub loss: u64,
    /// Share that is sent twice.
    pub double: u64,
    /// Share in which one bit is turned over.
    pub damage: u64,
    /// How long each one is held.
    pub delay: Duration,
}

impl Trouble {
    /// Nothing but carrying.
    pub const NONE: Self = Self { seed: 1, loss: 0, double: 0, damage: 0, delay: Duration::ZERO };
    /// No datagram comes through.
    pub const LOST: Self = Self { loss: 1000, ..Self::NONE };
}

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Datagrams that came.
    pub came: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent twice.
    pub doubled: u64,
    /// Damaged.
    pub damaged: u64,
    /// Sent on to a POP that may have been dead: doubled ones count twice.
    pub sent: u64,
}

/// The middle of the network between the POPs; it stops to carry when dropped.
#[derive(Debug)]
pub struct HintNetwork {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    // Gone after the thread, which has its sockets there.
    _space: Namespace,
}

/// Where the POP with this index, counted from 0, listens.
#[must_use]
pub fn listens(pop: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 5, number(pop), 2), PORT)
}

/// Where the POP `from` sends what is for the POP `to`.
#[must_use]
pub fn peer(from: usize, to: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 5, number(from), 1), entry(to))
}

impl HintNetwork {
    /// Links the POPs to a new namespace of this name, and starts to carry between them.
    ///
    /// # Errors
    /// If a tool refuses.
    pub fn build(name: &str, pops: &[Arc<Namespace>]) -> Result<Self> {
        let space = Namespace::create(name)?;
        for (pop, namespace) in pops.iter().enumerate() {
            let interface = format!("pop{}", pop + 1);
            link::connect((namespace, "hints"), (&space, &interface), 1500)?;
            let [own, middle] = [listens(pop), peer(pop, pop)].map(|at| *at.ip());
            space.ip(&[format!("addr add {middle}/24 dev {interface}")])?;
            namespace.ip(&[
                format!("addr add {own}/24 dev hints"),
                format!("route add 10.5.0.0/16 via {middle}"),
            ])?;
        }
        space.sysctl("net.ipv4.ip_forward", "1")?;
        let count = pops.len();
        let open = move || (0..count).map(|pop| bind(entry(pop))).collect::<std::io::Result<_>>();
        let sockets: Vec<UdpSocket> =
            space.run(open)?.map_err(LabError::io("open the sockets for hints"))?;
        let shared = Arc::new(Shared::default());
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("hints".to_owned())
            .spawn(move || Carrier::new(&worker, sockets).run())
            .map_err(LabError::io("start to carry hints"))?;
        Ok(Self { shared, thread: Some(thread), _space: space })
    }

    /// Does something else from now on. What is delayed stays so until its time.
    pub fn set(&self, trouble: Trouble) {
        let mut orders = self.shared.orders.lock();
        orders.trouble = trouble;
        orders.rng = Rng(trouble.seed);
    }

    /// What has been done so far.
    #[must_use]
    pub fn done(&self) -> Done {
        self.shared.orders.lock().done
    }

    /// What came for a POP so far, the last [`KEPT_MAX`] of all, whatever became of it.
    #[must_use]
    pub fn came_for(&self, pop: usize) -> Vec<Vec<u8>> {
        let orders = self.shared.orders.lock();
        let for_it = orders.kept.iter().filter(|(to, _)| *to == pop);
        for_it.map(|(_, datagram)| datagram.clone()).collect()
    }
}

impl Drop for HintNetwork {
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
    orders: Mutex<Orders>,
}

#[derive(Debug)]
struct Orders {
    trouble: Trouble,
    rng: Rng,
    done: Done,
    kept: VecDeque<(usize, Vec<u8>)>,
}

impl Default for Orders {
    fn default() -> Self {
        let trouble = Trouble::NONE;
        let (rng, kept) = (Rng(trouble.seed), VecDeque::new());
        Self { trouble, rng, done: Done::default(), kept }
    }
}

struct Carrier<'a> {
    shared: &'a Shared,
    sockets: Vec<UdpSocket>,
    delayed: Vec<(Instant, usize, Vec<u8>)>,
}

impl<'a> Carrier<'a> {
    fn new(shared: &'a Shared, sockets: Vec<UdpSocket>) -> Self {
        Self { shared, sockets, delayed: Vec::new() }
    }

    fn run(mut self) {
        let mut buffer = [0; 2048];
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.wait();
            for to in 0..self.sockets.len() {
                while let Ok((len, _)) = self.sockets[to].recv_from(&mut buffer) {
                    self.carry(to, &buffer[..len]);
                }
            }
            let now = Instant::now();
            let due: Vec<_> = self.delayed.extract_if(.., |(due, ..)| *due <= now).collect();
            due.iter().for_each(|(_, to, datagram)| self.send(*to, datagram));
        }
    }

    /// Until a datagram comes, or it is time to look at the clock and the orders.
    fn wait(&self) {
        let poll_in = |socket| PollFd::from_borrowed_fd(socket, PollFlags::IN);
        let mut fds: Vec<_> = self.sockets.iter().map(|socket| poll_in(socket.as_fd())).collect();
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
    }

    fn carry(&mut self, to: usize, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        let (delay, copies) = {
            let mut orders = self.shared.orders.lock();
            let Orders { trouble, rng, done, kept } = &mut *orders;
            done.came += 1;
            if kept.len() == KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back((to, datagram.clone()));
            // Draws also for a share of 0, so that the other fates do not depend on it.
            let [is_lost, is_doubled, is_damaged] =
                [trouble.loss, trouble.double, trouble.damage].map(|share| rng.happens(share));
            let bit = rng.index((8 * datagram.len()).max(1));
            if is_lost {
                done.lost += 1;
                return;
            }
            if is_damaged && let Some(byte) = datagram.get_mut(bit / 8) {
                done.damaged += 1;
                *byte ^= 1 << (bit % 8);
            }
            done.doubled += u64::from(is_doubled);
            (trouble.delay, 1 + usize::from(is_doubled))
        };
        for _ in 0..copies {
            if delay.is_zero() || self.delayed.len() == KEPT_MAX {
                self.send(to, &datagram);
            } else {
                self.delayed.push((Instant::now() + delay, to, datagram.clone()));
            }
        }
    }

    fn send(&self, to: usize, datagram: &[u8]) {
        // A dead POP's kernel refuses it, which the next call would report.
        let _ = self.sockets[to].send_to(datagram, listens(to));
        self.shared.orders.lock().done.sent += 1;
    }
}

fn bind(port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn number(pop: usize) -> u8 {
    pop as u8 + 1
}

/// The port of the socket in the middle that takes what is for a POP.
fn entry(to: usize) -> u16 {
    PORT + u16::from(number(to))
}

const PORT: u16 = 4791;
