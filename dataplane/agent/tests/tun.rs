//! Two TUN sides, each in a network namespace, joined by a channel in locator of the tunnel: real
//! kernels, ping and TCP over the devices. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyrelay_agent::inner::device::TunDeviceConfig;
use anyrelay_agent::inner::keys::PrivateKey;
use anyrelay_agent::inner::routes::PeerIndex;
use anyrelay_agent::inner::{PeerConfig, TunPeers, TunSide};
use anyrelay_agent::local::{
    self, LocalSide, PublicToken, SendError, TunnelAccess, TunnelDatagram,
};
use anyrelay_agent::poller::{Poller, Waker};
use anyrelay_core::time;
use anyrelay_core::tunnel::token::Token;
use serde_json::Value;

/// A datagram between the two, with the sender's token.
type Datagram = (PublicToken, u16, Vec<u8>);

/// Shared by both sides.
struct World {
    start: Instant,
    body_max: AtomicUsize,
    stop: AtomicBool,
}

/// One side's end of the channel.
struct End {
    world: Arc<World>,
    own: PublicToken,
    peer: PublicToken,
    out: Sender<Datagram>,
    wake_peer: Arc<Waker>,
}

impl TunnelAccess for End {
    fn send(
        &mut self,
        to: &PublicToken,
        _session: u64,
        channel: u16,
        body: &[u8],
    ) -> Result<(), SendError> {
        let max = self.world.body_max.load(Ordering::Relaxed);
        if body.len() > max {
            return Err(SendError::TooBig { max });
        }
        if to.token == self.peer.token && to.epoch % 2 == self.peer.epoch % 2 {
            // A datagram carries only the parity of its sender's epoch.
            let from = PublicToken { epoch: self.own.epoch & 1, ..self.own };
            let _ = self.out.send((from, channel, body.to_vec()));
            self.wake_peer.wake();
        }
        Ok(())
    }

    fn body_max(&self, _to: &PublicToken) -> Option<usize> {
        Some(self.world.body_max.load(Ordering::Relaxed))
    }

    fn own_token(&self) -> Option<PublicToken> {
        Some(self.own)
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_nanos(self.world.start.elapsed().as_nanos() as u64)
    }

    fn locate(&mut self, _peer: local::SourceIndex) {}
}

fn token(side: u8) -> PublicToken {
    PublicToken { epoch: 7, token: Token::V4([side; 16]) }
}

fn private(side: u8) -> PrivateKey {
    PrivateKey::new([side; 32])
}

/// The device of side 1 or 2: 10.9.0.1 or 10.9.0.2.
fn open(side: u8, v6: bool) -> TunSide {
    let peer = 3 - side;
    let mut addresses = vec![([10, 9, 0, side].into(), 24)];
    let mut allowed = vec![format!("10.9.0.{peer}/32").parse().unwrap()];
    if v6 {
        addresses.push((format!("fd00:9::{side}").parse().unwrap(), 64));
        allowed.push(format!("fd00:9::{peer}/128").parse().unwrap());
    }
    let routes = allowed.clone();
    let device = TunDeviceConfig { name: "inner0".to_owned(), addresses, mtu: None, routes };
    let peer = PeerConfig {
        name: "peer".to_owned(),
        public_key: private(peer).public().unwrap(),
        preshared_key: None,
        locator: None,
        allowed,
        keepalive_seconds: 0,
    };
    let peers = TunPeers { all: vec![peer], source_peers: vec![PeerIndex(0)] };
    let random = Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).is_ok());
    TunSide::open(&device, private(side), peers, random).unwrap()
}

/// The event loop of an agent, as a local side sees it. Returns the status at its end.
fn serve(
    mut side: TunSide,
    mut end: End,
    poller: Poller,
    own: Arc<Waker>,
    inbox: Receiver<Datagram>,
) -> Value {
    side.start(&poller).unwrap();
    if end.own == token(1) {
        // Side 2 learns side 1's locator from its packets.
        side.located(local::SourceIndex(0), token(2), &mut end);
    }
    let mut ready = Vec::new();
    while !end.world.stop.load(Ordering::Relaxed) {
        poller.wait(Duration::from_millis(20), &mut ready).unwrap();
        for &key in &ready {
            if key != WAKER {
                side.readable(key, &poller, &mut end);
                continue;
            }
            own.clear();
            while let Ok((from, channel, body)) = inbox.try_recv() {
                let datagram = TunnelDatagram { session: 5, channel, from, body: &body };
                side.received(&datagram, &poller, &mut end);
            }
            side.flush(&mut end);
        }
        if side.next_timer().is_some_and(|at| at <= end.now()) {
            side.timers(&mut end);
        }
    }
    side.status(end.now())
}

/// Runs `at_1` and `at_2` in the two namespaces, each beside its side's loop; returns both status.
fn with_sides<T: Send>(
    v6: bool,
    at_1: impl FnOnce(&World) -> T + Send,
    at_2: impl FnOnce(&World) -> T + Send,
) -> ([T; 2], [Value; 2]) {
    let world = Arc::new(World {
        start: Instant::now(),
        body_max: AtomicUsize::new(1316),
        stop: AtomicBool::new(false),
    });
    let (to_1, inbox_1) = channel();
    let (to_2, inbox_2) = channel();
    let poller = || {
        let poller = Poller::new().unwrap();
        let waker = Arc::new(Waker::new(&poller, WAKER).unwrap());
        (poller, waker)
    };
    let ((poller_1, waker_1), (poller_2, waker_2)) = (poller(), poller());
    let end = |own, peer, out, wake_peer: &Arc<Waker>| End {
        world: Arc::clone(&world),
        own: token(own),
        peer: token(peer),
        out,
        wake_peer: Arc::clone(wake_peer),
    };
    let (end_1, end_2) = (end(1, 2, to_2, &waker_2), end(2, 1, to_1, &waker_1));
    let open_sides = AtomicUsize::new(0);
    // A new thread inherits the namespace.
    let start = |number, end, poller, waker, inbox| -> JoinHandle<Value> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let side = open(number, v6);
        let serving = thread::spawn(move || serve(side, end, poller, waker, inbox));
        // A handshake with a side that is not open yet would be repeated.
        open_sides.fetch_add(1, Ordering::Relaxed);
        wait_for(|| open_sides.load(Ordering::Relaxed) == 2);
        serving
    };
    let world = &world;
    let (loops, results) = thread::scope(|scope| {
        let one = scope.spawn(move || {
            let serving = start(1, end_1, poller_1, waker_1, inbox_1);
            (serving, at_1(world))
        });
        let two = scope.spawn(move || {
            let serving = start(2, end_2, poller_2, waker_2, inbox_2);
            (serving, at_2(world))
        });
        let (one, two) = (one.join(), two.join());
        world.stop.store(true, Ordering::Relaxed);
        let ((loop_1, result_1), (loop_2, result_2)) = (one.unwrap(), two.unwrap());
        ([loop_1, loop_2], [result_1, result_2])
    });
    (results, loops.map(|serving| serving.join().unwrap()))
}

fn run(command: &str) -> Output {
    let mut words = command.split(' ');
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// Runs a command that must succeed.
fn must(command: &str) {
    let output = run(command);
    assert!(output.status.success(), "{command}: {output:?}");
}

fn mtu() -> String {
    let output = run("ip -o link show inner0");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap().to_owned()
}

/// The peer's kernel may not be ready yet.
fn wait_for(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited for too long");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ping_of_both_families_and_path_mtu() {
    let (_, [status, _]) = with_sides(
        true,
        |world| {
            wait_for(|| run("ping -c 1 -W 1 10.9.0.2").status.success());
            must("ping -c 5 -i 0.05 -W 20 10.9.0.2");
            must("ping -6 -c 5 -i 0.05 -W 20 fd00:9::2");
            // The kernel reports packets that are too big; fragmented ones arrive whole.
            let output = run("ping -c 1 -W 2 -M do -s 1261 10.9.0.2");
            assert!(
                !output.status.success() && format!("{output:?}").contains("1288"),
                "{output:?}"
            );
            must("ping -c 1 -W 20 -M do -s 1260 10.9.0.2");
            must("ping -c 1 -W 20 -s 8000 10.9.0.2");
            world.stop.store(true, Ordering::Relaxed);
        },
        |world| wait_for(|| world.stop.load(Ordering::Relaxed)),
    );
    assert_eq!(status["mtu"], 1288, "{status:#}");
    assert_eq!(status["peers"][0]["sessions"], 1, "{status:#}");
    assert!(status["drops"]["too_big_for_tunnel"].is_null(), "{status:#}");
}

#[test]
fn the_mtu_follows_what_the_tunnel_carries() {
    with_sides(
        false,
        |world| {
            wait_for(|| run("ping -c 1 -W 1 10.9.0.2").status.success());
            assert_eq!(mtu(), "1288");
            world.body_max.store(1300, Ordering::Relaxed);
            wait_for(|| {
                let _ = run("ping -c 1 -W 1 10.9.0.2");
                mtu() == "1272"
            });
            // The other side notices it with the first packet that does not fit.
            wait_for(|| run("ping -c 1 -W 1 -s 4000 10.9.0.2").status.success());
            world.stop.store(true, Ordering::Relaxed);
        },
        |world| wait_for(|| world.stop.load(Ordering::Relaxed)),
    );
}

#[test]
fn a_tcp_stream_arrives_complete() {
    let ([sent, received], [one, two]) = with_sides(
        false,
        |_| {
            let address: SocketAddr = "10.9.0.2:7000".parse().unwrap();
            let mut stream = None;
            wait_for(|| {
                stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok();
                stream.is_some()
            });
            let mut stream = stream.unwrap();
            let mut sum = Sum::default();
            let mut block = vec![0; 1 << 16];
            for number in 0..BLOCKS {
                block.iter_mut().zip(number..).for_each(|(byte, at)| *byte = ((at * 7) >> 3) as u8);
                sum.add(&block);
                stream.write_all(&block).unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // The other side closes when it has received everything.
            assert_eq!(stream.read(&mut block).unwrap(), 0);
            sum
        },
        |_| {
            let listener = TcpListener::bind("10.9.0.2:7000").unwrap();
            listener.set_nonblocking(true).unwrap();
            let mut accepted = None;
            wait_for(|| {
                accepted = listener.accept().ok();
                accepted.is_some()
            });
            let (mut stream, _) = accepted.unwrap();
            stream.set_nonblocking(false).unwrap();
            let (mut sum, mut block) = (Sum::default(), vec![0; 1 << 16]);
            loop {
                match stream.read(&mut block).unwrap() {
                    0 => return sum,
                    len => sum.add(&block[..len]),
                }
            }
        },
    );
    assert_eq!(sent, received);
    assert_eq!(received.len, u64::from(BLOCKS) << 16);
    for status in [one, two] {
        let drops = status["drops"].as_object().unwrap();
        // The first SYN may wait too long for the peer's locator; no other packet is dropped.
        assert!(drops.keys().all(|reason| reason == "no_locator"), "{status:#}");
    }
}

#[test]
fn the_hosts_routes_stay_and_a_removed_device_is_an_error() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    must("ip link set dev lo up");
    must("ip route add 10.9.0.2/32 dev lo");
    let mut side = open(1, false);
    let output = run("ip route show exact 10.9.0.2/32");
    assert!(String::from_utf8_lossy(&output.stdout).contains("dev lo"), "{output:?}");

    let (out, _inbox) = channel();
    let poller = Poller::new().unwrap();
    let wake_peer = Arc::new(Waker::new(&poller, WAKER).unwrap());
    let (body_max, stop) = (AtomicUsize::new(1316), AtomicBool::new(false));
    let world = Arc::new(World { start: Instant::now(), body_max, stop });
    let mut end = End { world, own: token(1), peer: token(2), out, wake_peer };
    side.start(&poller).unwrap();
    let mut ready = Vec::new();
    let mut turn = |side: &mut TunSide| {
        poller.wait(Duration::from_millis(20), &mut ready).unwrap();
        ready.iter().for_each(|key| side.readable(*key, &poller, &mut end));
        side.failure().map(|error| error.to_string())
    };
    must("ip link set dev inner0 down");
    for _ in 0..10 {
        assert_eq!(turn(&mut side), None, "it may be brought up again");
    }
    must("ip link delete dev inner0");
    wait_for(|| turn(&mut side).is_some_and(|text| text.contains("inner0 was removed")));
}

/// Length of a byte string, and a hash of it.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    len: u64,
    hash: u64,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        for byte in bytes {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

const WAKER: u64 = u64::MAX;
const BLOCKS: u32 = 320;
