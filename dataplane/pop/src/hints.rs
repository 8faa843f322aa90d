//! Hints between POPs: one thread with a UDP socket sends what workers found out, in batches, and
//! passes on to a worker what other POPs tell.
//!
//! Workers and thread share two bounded lock-free queues. A full one loses hints, and counts them:
//! a lost hint costs a client a wait.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyrelay_core::config::HintsConfig;
use anyrelay_core::relay::hints::{DATAGRAM_MAX, HINTS_MAX, Hint, HintError};
use anyrelay_core::snapshot::Snapshot;
use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;
use parking_lot::RwLock;

use crate::worker::unix_now;

/// The queues between workers and the thread.
#[derive(Clone, Debug)]
pub struct HintQueues {
    /// Hints for other POPs, from all workers.
    pub outgoing: Arc<ArrayQueue<Hint>>,
    /// Hints of other POPs, for one worker.
    pub incoming: Arc<ArrayQueue<Hint>>,
}

impl Default for HintQueues {
    fn default() -> Self {
        let queue = || Arc::new(ArrayQueue::new(QUEUE_HINTS));
        HintQueues { outgoing: queue(), incoming: queue() }
    }
}

/// Counts of datagrams and of hints that were lost between the threads.
#[derive(Debug, Default)]
pub struct HintTraffic {
    /// Datagrams sent, one for each peer.
    pub sent: AtomicU64,
    /// Datagrams that the system did not take.
    pub unsent: AtomicU64,
    /// Datagrams accepted.
    pub accepted: AtomicU64,
    /// Datagrams that are no hints of this version.
    pub malformed: AtomicU64,
    /// Datagrams with a wrong MAC.
    pub wrong_mac: AtomicU64,
    /// Datagrams that are too old or too new.
    pub wrong_time: AtomicU64,
    /// Hints of other POPs that the worker had no room for.
    pub overflow: AtomicU64,
}

/// The running thread.
#[derive(Debug)]
pub struct HintExchange {
    stop: Arc<AtomicBool>,
    snapshot: Arc<RwLock<Arc<Snapshot>>>,
    thread: JoinHandle<()>,
}

/// The thread's own parts.
struct Exchange {
    socket: UdpSocket,
    config: HintsConfig,
    queues: HintQueues,
    traffic: Arc<HintTraffic>,
    snapshot: Arc<RwLock<Arc<Snapshot>>>,
    clock_offset_ms: i64,
}

/// Opens the socket of `config`.
///
/// # Errors
/// When the system refuses the address, or the time limit of receiving.
pub fn bind(config: &HintsConfig) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(config.listen)?;
    socket.set_read_timeout(Some(TURN))?;
    Ok(socket)
}

impl HintExchange {
    /// Starts the thread, which exchanges hints under the key of the newest snapshot.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(
        socket: UdpSocket,
        config: &HintsConfig,
        queues: &HintQueues,
        traffic: &Arc<HintTraffic>,
        snapshot: &Arc<Snapshot>,
    ) -> io::Result<HintExchange> {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(RwLock::new(Arc::clone(snapshot)));
        let exchange = Exchange {
            socket,
            config: config.clone(),
            queues: queues.clone(),
            traffic: Arc::clone(traffic),
            snapshot: Arc::clone(&shared),
            clock_offset_ms: snapshot.config.pop.clock_offset_ms,
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("hints".to_owned())
            .spawn(move || exchange.run_until(&stopped))?;
        Ok(HintExchange { stop, snapshot: shared, thread })
    }

    /// Gives the thread a new snapshot.
    pub fn post(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.write() = snapshot;
    }

    /// Stops the thread and waits for it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // It does not panic; if it did, there would be nothing to clean up.
        let _ = self.thread.join();
    }
}

impl Exchange {
    fn run_until(&self, stop: &AtomicBool) {
        let mut bytes = [0; DATAGRAM_MAX + 1];
        while !stop.load(Ordering::Acquire) {
            self.send_waiting();
            // Until the time limit, or until something arrives.
            if let Ok((len, _)) = self.socket.recv_from(&mut bytes) {
                self.take(bytes.get(..len).unwrap_or_default());
            }
        }
    }

    /// Sends what waits, as many hints as a datagram holds in each.
    fn send_waiting(&self) {
        while !self.queues.outgoing.is_empty() {
            let waiting = std::iter::from_fn(|| self.queues.outgoing.pop());
            let hints: ArrayVec<Hint, HINTS_MAX> = waiting.take(HINTS_MAX).collect();
            let now = unix_now(self.clock_offset_ms);
            let datagram = self.snapshot.read().hint_key.seal(now, &hints);
            for peer in &self.config.peers {
                let count = match self.socket.send_to(&datagram, peer) {
                    Ok(_) => &self.traffic.sent,
                    // Also the answer of a peer that is gone to an earlier datagram.
                    Err(_) => &self.traffic.unsent,
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        let now = unix_now(self.clock_offset_ms);
        let hints = match self.snapshot.read().hint_key.open(now, bytes) {
            Ok(hints) => hints,
            Err(error) => {
                let count = match error {
                    HintError::Malformed => &self.traffic.malformed,
                    HintError::Mac => &self.traffic.wrong_mac,
                    HintError::Time => &self.traffic.wrong_time,
                };
                count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.traffic.accepted.fetch_add(1, Ordering::Relaxed);
        let lost = hints.into_iter().filter(|hint| self.queues.incoming.push(*hint).is_err());
        self.traffic.overflow.fetch_add(lost.count() as u64, Ordering::Relaxed);
    }
}

/// Hints that wait in a queue at most.
const QUEUE_HINTS: usize = 1024;

/// The maximum wait for what arrives, before what is to be sent is looked for.
const TURN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::time::Instant;

    use anyrelay_core::config::Config;
    use anyrelay_core::keys::{KeyFile, Tenants};
    use anyrelay_core::net::{Endpoint, IpEndpoint};
    use anyrelay_core::relay::hints::Shows;
    use anyrelay_core::relay::memo::Rst;
    use anyrelay_core::seq::SeqNum;
    use anyrelay_core::time::UnixTime;

    const CONFIG: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"
[[port]]
name = "all"
device = "all"
side = "both"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
[[worker]]
core = 0
rx = ["all:0"]
"#;

    fn snapshot(relay_secret: u8) -> Arc<Snapshot> {
        let config = Config::parse("pop.toml", CONFIG).unwrap();
        let keys = KeyFile::from_random([[relay_secret; 32], [2; 32], [3; 32]]);
        Arc::new(Snapshot::build(&config, &keys, &Tenants::default(), None).unwrap())
    }

    struct Pop {
        address: SocketAddr,
        queues: HintQueues,
        traffic: Arc<HintTraffic>,
        exchange: HintExchange,
    }

    /// Two POPs that tell each other, by loopback.
    fn two(secrets: [u8; 2]) -> [Pop; 2] {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let at = |listen| HintsConfig { listen, peers: vec![], per_second: 1000 };
        let sockets = [(); 2].map(|()| bind(&at(any)).unwrap());
        let [first, second] = [0, 1].map(|i: usize| sockets[i].local_addr().unwrap());
        let mut peers = [second, first].into_iter();
        let mut secrets = secrets.into_iter();
        sockets.map(|socket| {
            let (queues, traffic) = (HintQueues::default(), Arc::default());
            let address = socket.local_addr().unwrap();
            let config = HintsConfig { peers: vec![peers.next().unwrap()], ..at(address) };
            let snapshot = snapshot(secrets.next().unwrap());
            let exchange =
                HintExchange::start(socket, &config, &queues, &traffic, &snapshot).unwrap();
            Pop { address, queues, traffic, exchange }
        })
    }

    fn hint(number: u32) -> Hint {
        let at = |ip: u32| IpEndpoint::V4(Endpoint { ip, port: 443 });
        let shows = Shows::Refusal(Rst::Bare { seq: SeqNum(number) });
        Hint { vip: at(1), egress: at(2), target: at(3), shows }
    }

    fn wait(what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < end, "{what} did not happen");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_one_tells_the_other_takes_in_order() {
        let [one, other] = two([1, 1]);
        // More than fit one datagram.
        let count = HINTS_MAX as u32 * 2 + 5;
        (0..count).for_each(|number| one.queues.outgoing.push(hint(number)).unwrap());
        let incoming = &other.queues.incoming;
        wait("the hints' arrival", || incoming.len() == count as usize);
        assert!((0..count).all(|number| incoming.pop() == Some(hint(number))));
        assert!(other.traffic.accepted.load(Ordering::Relaxed) >= 3);
        assert_eq!(other.traffic.sent.load(Ordering::Relaxed), 0);
        // The other way, too.
        other.queues.outgoing.push(hint(7)).unwrap();
        wait("a hint's arrival", || one.queues.incoming.pop() == Some(hint(7)));
        [one, other].into_iter().for_each(|pop| pop.exchange.stop());
    }

    #[test]
    fn what_is_not_accepted_is_counted_by_its_reason() {
        let [one, other] = two([1, 9]);
        one.queues.outgoing.push(hint(1)).unwrap();
        wait("a wrong MAC", || other.traffic.wrong_mac.load(Ordering::Relaxed) == 1);
        // A secret that changes with a reload.
        other.exchange.post(snapshot(1));
        one.queues.outgoing.push(hint(2)).unwrap();
        wait("a good one", || other.queues.incoming.pop() == Some(hint(2)));
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"hello", other.address).unwrap();
        stranger.send_to(&[0; 1400], other.address).unwrap();
        wait("two malformed", || other.traffic.malformed.load(Ordering::Relaxed) == 2);
        let late = UnixTime::from_millis(unix_now(0).as_millis() - 10_000);
        let late = snapshot(1).hint_key.seal(late, &[hint(3)]);
        stranger.send_to(&late, other.address).unwrap();
        wait("a late one", || other.traffic.wrong_time.load(Ordering::Relaxed) == 1);
        // A full queue loses the rest.
        let many: Vec<_> = (0..HINTS_MAX as u32).map(hint).collect();
        let datagram = snapshot(1).hint_key.seal(unix_now(0), &many);
        for sent in 1..=100 {
            stranger.send_to(&datagram, other.address).unwrap();
            let accepted = &other.traffic.accepted;
            wait("a datagram's arrival", || accepted.load(Ordering::Relaxed) == 1 + sent);
        }
        let overflow = (100 * HINTS_MAX - QUEUE_HINTS) as u64;
        wait("losses", || other.traffic.overflow.load(Ordering::Relaxed) == overflow);
        [one, other].into_iter().for_each(|pop| pop.exchange.stop());
    }
}
