//! Targets without sockets: connects that they refuse, and connections that they forget.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_lab::firewall::Firewall;
use anyrelay_lab::traffic::Connection;
use anyrelay_lab::{Direction, Lab, Namespace, Result, Topology};
use rustix::net::sockopt::set_socket_linger;

use super::sockets::Ends;
use super::{LIMIT, TARGET, VIP, milliseconds};

/// What is told at once is told before a host would send again what it sent, which is 1 s for a
/// SYN.
pub const AT_ONCE: Duration = Duration::from_millis(500);

/// Which POPs the routes lead to, from clients and from targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    pub up: usize,
    pub down: usize,
}

impl Ways {
    pub const SAME: Self = Self { up: 0, down: 0 };
    pub const DIFFERENT: Self = Self { up: 0, down: 1 };

    pub fn take(self, lab: &mut Lab) {
        lab.routes.to(Direction::Up, self.up).unwrap();
        lab.routes.to(Direction::Down, self.down).unwrap();
    }
}

/// How a connect ended, and after how long.
pub type Outcome = (std::io::Result<TcpStream>, Duration);

/// Connects on a thread of the client's, giving up after `limit`.
pub fn attempt(client: &Namespace, to: SocketAddr, limit: Duration) -> JoinHandle<Result<Outcome>> {
    let connect = move || {
        let start = Instant::now();
        (TcpStream::connect_timeout(&to, limit), start.elapsed())
    };
    client.thread(connect).unwrap()
}

/// How the connect of a thread ended; nothing may have accepted it.
pub fn refusal(attempt: JoinHandle<Result<Outcome>>) -> (ErrorKind, Duration) {
    let (outcome, took) = attempt.join().unwrap().unwrap();
    (outcome.expect_err("nobody listens").kind(), took)
}

/// Asserts that so many connects are each refused at once; gives the median and the longest time.
pub fn refused_at_once(lab: &Lab, to: SocketAddr, count: usize) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..count).map(|_| refused(lab, to)).collect();
    times.sort_unstable();
    let (median, longest) = (times[count / 2], times[count - 1]);
    assert!(longest < AT_ONCE, "{times:?}");
    (median, longest)
}

fn refused(lab: &Lab, to: SocketAddr) -> Duration {
    let (error, took) = refusal(attempt(&lab.topology.client, to, LIMIT));
    assert_eq!(error, ErrorKind::ConnectionRefused);
    // Fewer than are remembered each second.
    std::thread::sleep(milliseconds(20));
    took
}

/// A target that can lose its sockets, as a crash or a power failure does it: nobody hears of it.
pub struct Target<'a> {
    net: &'a Topology,
    firewall: Firewall<'a>,
    listener: Option<TcpListener>,
}

impl<'a> Target<'a> {
    pub fn start(net: &'a Topology) -> Self {
        let firewall = Firewall::new(&net.target).unwrap();
        let mut target = Self { net, firewall, listener: None };
        target.listen();
        target
    }

    pub fn listen(&mut self) {
        let bind = || TcpListener::bind(TARGET);
        self.listener = Some(self.net.target.run(bind).unwrap().unwrap());
    }

    pub fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// A new connection by both of its sockets.
    pub fn accept(&self) -> (TcpStream, TcpStream) {
        let connection = Connection::open(&self.net.client, VIP, LIMIT).unwrap().unwrap();
        let (socket, _) = self.listener.as_ref().unwrap().accept().unwrap();
        (connection.stream().try_clone().unwrap(), socket)
    }

    /// All of these, and the listener, are gone.
    pub fn lose(&mut self, sockets: Vec<TcpStream>) {
        self.firewall.rule("output", "tcp flags & rst != 0 drop").unwrap();
        for socket in sockets {
            set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        self.listener = None;
        self.firewall.flush("output").unwrap();
    }
}

/// Counts the segments of a client's socket from now on, in its router, by a name that begins so.
pub fn count_segments(router: &Firewall<'_>, stream: &TcpStream, name: &str) -> String {
    let port = stream.local_addr().unwrap().port();
    let name = format!("{name}_{port}");
    router.count(&name, &format!("ip daddr {} tcp sport {port}", VIP.ip())).unwrap();
    name
}

/// Waits until a connection is reset; how long that took. Nothing may arrive before.
pub fn reset_within(mut stream: &TcpStream, limit: Duration) -> Duration {
    let start = Instant::now();
    stream.set_read_timeout(Some(limit)).unwrap();
    let error = stream.read(&mut [0]).expect_err("there is nothing to read");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {:?}", start.elapsed());
    start.elapsed()
}

/// Whether a connection is up, as far as its client knows.
pub fn is_up(net: &Topology, stream: &TcpStream) -> bool {
    Ends::of(stream).state(&net.client) == "ESTAB"
}

/// How many RSTs have come to a POP so far that no SYN explains, from targets and by hints.
pub fn known_rsts(lab: &Lab, pop: usize) -> f64 {
    let metrics = lab.pops[pop].metrics().unwrap();
    metrics.sum("anyrelay_absorbed_total", &[("kind", "pending_rst")])
        + metrics.sum("anyrelay_hints_total", &[("result", "taken")])
}
