//! Sockets of our own in a lab: a server that gives and takes bodies, and a client that checks
//! them.
//!
//! A request is a kind, a seed and a length, 17 bytes. To [`GIVE`] the server answers with the body
//! of that seed and length; to [`TAKE`] it reads that many bytes and answers with their hash. One
//! connection carries any number of requests, one after another.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::body::{Body, CHUNK, hash_of};
use crate::{LabError, Namespace, Result};

const GIVE: u8 = 0;
const TAKE: u8 = 1;
/// A transfer without any progress for this long has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server on one address of a namespace; it stops to accept when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Server {
    /// Starts it; each connection has a thread.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(namespace: &Namespace, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let listener = namespace
            .run(move || {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })?
            .map_err(LabError::io(format!("listen on {address}")))?;
        let server = Self {
            stop: Arc::new(AtomicBool::new(false)),
            accepted: Arc::new(AtomicU64::new(0)),
            peers: Arc::new(Mutex::new(Vec::new())),
        };
        let (stop, accepted) = (server.stop.clone(), server.accepted.clone());
        let peers = server.peers.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, peer)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                accepted.fetch_add(1, Ordering::Relaxed);
                peers.lock().push(peer);
                std::thread::spawn(move || serve(stream));
            }
        });
        Ok(server)
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Where its connections came from, as it saw them, oldest first.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Answers until the client has closed or the connection has failed; the client sees which.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut request = [0; 17];
    loop {
        stream.read_exact(&mut request)?;
        let number = |at: usize| {
            request[at..at + 8].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let (seed, length) = (number(1), number(9));
        if request[0] == GIVE {
            let mut body = Body::new(seed, usize::try_from(length).unwrap_or(0));
            let mut buffer = [0; CHUNK];
            loop {
                let chunk = body.next(&mut buffer);
                if chunk.is_empty() {
                    break;
                }
                stream.write_all(chunk)?;
            }
        } else {
            let (hash, _) = hash_of((&mut stream).take(length), |_| {})?;
            stream.write_all(&hash)?;
        }
    }
}

/// A client's end of a connection to a [`Server`].
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The longest time without progress of a body so far.
    pub longest_stall: Duration,
    last: Instant,
}

impl Connection {
    /// Connects from inside a namespace, giving up after `limit`.
    ///
    /// # Errors
    /// The outer one of the lab, the inner one of the connection.
    pub fn open(
        namespace: &Namespace,
        to: impl Into<SocketAddr>,
        limit: Duration,
    ) -> Result<io::Result<Self>> {
        let to = to.into();
        namespace.run(move || Self::open_here(to, limit))
    }

    /// Connects on a thread that is in the right namespace, giving up after `limit`.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn open_here(to: SocketAddr, limit: Duration) -> io::Result<Self> {
        Self::from_stream(TcpStream::connect_timeout(&to, limit)?)
    }

    /// Connects from a certain address and port, on a thread that is in the right namespace.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn open_from(from: SocketAddrV4, to: SocketAddrV4) -> io::Result<Self> {
        Self::open_from_within(from, to, None)
    }

    /// As [`Self::open_from`], giving up after `limit`.
    ///
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::TimedOut`] also after `limit`.
    pub fn open_from_within(
        from: SocketAddrV4,
        to: SocketAddrV4,
        limit: Option<Duration>,
    ) -> io::Result<Self> {
        Self::from_stream(connect_to(bind_from(from, limit)?, to)?)
    }

    fn from_stream(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, longest_stall: Duration::ZERO, last: Instant::now() })
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Fetches a body and checks it.
    ///
    /// # Errors
    /// Those of the connection; [`io::ErrorKind::InvalidData`] if the body is not what was asked
    /// for.
    pub fn download(&mut self, seed: u64, bytes: usize) -> io::Result<()> {
        self.ask(GIVE, seed, bytes)?;
        let mut body = Body::new(seed, bytes);
        let mut buffer = [0; CHUNK];
        while !body.next(&mut buffer).is_empty() {}
        let mut stream = self.stream.try_clone()?;
        let (hash, length) = hash_of((&mut stream).take(bytes as u64), |_| self.progress())?;
        if length != bytes as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        same(hash == body.hash())
    }

    /// Sends a body and checks that it is what arrived.
    ///
    /// # Errors
    /// As [`Self::download`].
    pub fn upload(&mut self, seed: u64, bytes: usize) -> io::Result<()> {
        self.ask(TAKE, seed, bytes)?;
        let mut body = Body::new(seed, bytes);
        let mut buffer = [0; CHUNK];
        loop {
            let chunk = body.next(&mut buffer);
            if chunk.is_empty() {
                break;
            }
            self.stream.write_all(chunk)?;
            self.progress();
        }
        let mut arrived = [0; 32];
        self.stream.read_exact(&mut arrived)?;
        self.progress();
        same(arrived == body.hash())
    }

    fn ask(&mut self, kind: u8, seed: u64, bytes: usize) -> io::Result<()> {
        let mut request = [kind; 17];
        request[1..9].copy_from_slice(&seed.to_be_bytes());
        request[9..].copy_from_slice(&(bytes as u64).to_be_bytes());
        self.last = Instant::now();
        self.stream.write_all(&request)
    }

    fn progress(&mut self) {
        self.longest_stall = self.longest_stall.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

/// A socket at a certain address, on a thread that is in the right namespace; at a free port if
/// that is 0. What it sends, and its connect, fail after `limit`.
///
/// # Errors
/// If the place is taken or unknown.
pub fn bind_from(from: impl Into<SocketAddr>, limit: Option<Duration>) -> io::Result<OwnedFd> {
    let from = from.into();
    let family = if from.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit)?;
    rustix::net::bind(&socket, &from)?;
    Ok(socket)
}

/// Connects such a socket.
///
/// # Errors
/// Those of the connection; [`io::ErrorKind::TimedOut`] also after its limit.
pub fn connect_to(socket: OwnedFd, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
    rustix::net::connect(&socket, &to.into()).map_err(|errno| match errno {
        Errno::INPROGRESS => io::ErrorKind::TimedOut.into(),
        other => io::Error::from(other),
    })?;
    Ok(TcpStream::from(socket))
}

fn same(same: bool) -> io::Result<()> {
    if same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "wrong body")) }
}
