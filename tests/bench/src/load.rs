//! Bulk transfers over connections of the kernels' TCP, as fast as they go.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use anyrelay_lab::Namespace;

/// The hosts of the transfers.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// It opens all connections.
    pub client: &'a Namespace,
    /// It accepts them.
    pub target: &'a Namespace,
    /// Where it listens, at all its addresses.
    pub port: u16,
}

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The target.
    Download,
    /// The client.
    Upload,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Download, Direction::Upload];

    /// Its key in the result.
    pub fn key(self) -> &'static str {
        match self {
            Direction::Download => "download",
            Direction::Upload => "upload",
        }
    }
}

/// Transfers for as long as `measure` takes, which is called after a second. It returns what it
/// measured and is given the count of bytes of payload that the receivers have read.
///
/// # Errors
/// When a connection fails, or what arrived is not, byte for byte and in all, what was sent.
pub fn run<T>(
    ends: Ends<'_>,
    to: SocketAddrV4,
    direction: Direction,
    measure: impl FnOnce(&AtomicU64) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (near, far) = connect(ends, to)?;
    let (senders, receivers) = match direction {
        Direction::Download => (far, near),
        Direction::Upload => (near, far),
    };
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let receivers: Vec<_> =
            receivers.iter().map(|stream| scope.spawn(|| receive(stream, &received))).collect();
        let senders: Vec<_> =
            senders.iter().map(|stream| scope.spawn(|| send(stream, &stop))).collect();
        thread::sleep(WARM_UP);
        let measured = measure(&received);
        stop.store(true, Ordering::Relaxed);
        let mut sent = 0;
        for sender in senders {
            sent += sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        for receiver in receivers {
            receiver.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))??;
        }
        let received = received.load(Ordering::Relaxed);
        ensure!(received == sent, "void: of {sent} bytes {received} arrived");
        measured
    })
}

/// The client's ends and the target's ends of all connections, each in any order.
fn connect(ends: Ends<'_>, to: SocketAddrV4) -> anyhow::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, ends.port);
    let listener = ends.target.run(move || TcpListener::bind(at))??;
    listener.set_nonblocking(true)?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        near.push(open(ends.client, to)?);
        far.push(accept(&listener).context("nothing comes to the target")?);
    }
    for stream in near.iter().chain(&far) {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(STALL))?;
    }
    Ok((near, far))
}

fn open(client: &Namespace, to: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let open = move || TcpStream::connect_timeout(&SocketAddr::V4(to), STALL);
    client.run(open)?.with_context(|| format!("connect to {to}"))
}

fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    for _ in 0..STALL.as_millis() {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => bail!(error),
        }
    }
    bail!("no connection within {STALL:?}")
}

/// Sends the pattern again and again until told to stop; how many bytes that were.
fn send(mut stream: &TcpStream, stop: &AtomicBool) -> anyhow::Result<u64> {
    let pattern: Vec<u8> = (0..PERIOD * 1024).map(expected).collect();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&pattern).context("void: a transfer failed")?;
        sent += pattern.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

/// Reads to the end, all that there is once in a while. Who waits for each segment would be woken
/// for each segment that comes alone, so the hosts would cost more where less is sent at once.
///
/// Of each piece that is read the first and the last byte are looked at: to look at all would be
/// much of the CPU time.
fn receive(mut stream: &TcpStream, received: &AtomicU64) -> anyhow::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut place, mut last) = (0, Instant::now());
    stream.set_nonblocking(true)?;
    loop {
        let size = match stream.read(&mut buffer) {
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock && last.elapsed() < STALL => {
                thread::sleep(READ_INTERVAL);
                continue;
            }
            Err(error) => return Err(error).context("void: a transfer failed"),
        };
        let (Some(first), Some(end)) = (buffer.first(), buffer[..size].last()) else {
            return Ok(());
        };
        let next = place + size as u64;
        let right = *first == expected(place) && *end == expected(next - 1);
        ensure!(right, "void: wrong bytes between {place} and {next}");
        (place, last) = (next, Instant::now());
        received.fetch_add(size as u64, Ordering::Relaxed);
    }
}

/// The byte at a place of a stream.
fn expected(place: u64) -> u8 {
    (place % PERIOD) as u8
}

/// How many connections at a time.
pub const CONNECTIONS: usize = 8;
/// Bytes until the pattern repeats: prime, so that nothing that is lost or doubled fits.
const PERIOD: u64 = 251;
/// Between two looks of a receiver.
const READ_INTERVAL: Duration = Duration::from_millis(1);
const WARM_UP: Duration = Duration::from_secs(1);
/// A transfer without progress for this long has failed.
const STALL: Duration = Duration::from_secs(10);
