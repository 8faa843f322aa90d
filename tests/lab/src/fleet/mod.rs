//! Connections to nginx that last, at a steady and slow rate, so that many of them live at a time:
//! uploads, downloads, and idle ones that are used again at their end. Each says what became of it.
//! And short ones, one request each.
//!
//! Nothing is tried again: what a connection of the kernel's does is what is counted.

mod http;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_core::time::UnixTime;
use rustix::net::sockopt::set_socket_recv_buffer_size;

use self::http::{Http, Pace, Slow};
use crate::body::{Body, CHUNK, Hash, hash_of};
use crate::targets::{Choice, unix_now};
use crate::{Direction, LabError, Namespace, Nginx, Result};

/// What a connection of a fleet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A body goes up, piece by piece.
    Upload,
    /// A body comes down, as slowly as the client reads.
    Download,
    /// Nothing, and then a few requests and a body up.
    Idle,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Upload, Self::Download, Self::Idle];
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every byte is right.
    Whole,
    /// A body is not what was sent.
    Corrupt,
    /// It came to no end, for this reason.
    Broken(String),
}

/// A connection that was.
#[derive(Debug, Clone)]
pub struct Life {
    /// What it did.
    pub kind: Kind,
    /// The client's end.
    pub client: Option<SocketAddr>,
    /// The target that had it, by its own words; none if it never answered.
    pub target: Option<SocketAddr>,
    /// When it began to connect.
    pub began: UnixTime,
    /// When it ended.
    pub ended: UnixTime,
    /// How it ended.
    pub end: End,
    /// The longest time without progress.
    pub longest_stall: Duration,
}

impl Life {
    /// Whether at one of these dates within its life its client had another target than the one
    /// that has the connection.
    #[must_use]
    pub fn has_moved(&self, choice: &Choice, dates: &[UnixTime]) -> bool {
        let (Some(client), Some(target)) = (self.client, self.target) else { return false };
        let mut within = dates.iter().filter(|date| (self.began..self.ended).contains(*date));
        within.any(|date| choice.target(client, *date) != Some(target))
    }
}

/// What a fleet is and where it sails.
#[derive(Debug, Clone)]
pub struct Fleet {
    client: Arc<Namespace>,
    vip: SocketAddr,
    uploads: PathBuf,
    large: Hash,
    small: Arc<[u8]>,
    /// How long each connection lasts.
    pub lasts: Duration,
    /// Over how long the beginnings of the first ones are spread.
    pub spread: Duration,
    number: Arc<AtomicU64>,
}

/// Who is told what a fleet does while it does it.
#[derive(Clone)]
pub struct Watch {
    /// Of payload bytes that moved.
    pub moved: Arc<dyn Fn(Direction, usize) + Send + Sync>,
    /// Of a connection that ended.
    pub ended: Arc<dyn Fn(&Life) + Send + Sync>,
}

impl Watch {
    /// Nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self { moved: Arc::new(|_, _| {}), ended: Arc::new(|_| {}) }
    }
}

impl Fleet {
    /// From a client to a VIP whose targets are at this nginx, whose files are made.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn new(
        client: &Arc<Namespace>,
        vip: SocketAddr,
        nginx: &Nginx,
        lasts: Duration,
    ) -> Result<Self> {
        let large = Body::new(1, LARGE_BYTES).write_to(&nginx.files().join("steady"))?;
        let path = nginx.files().join("little");
        Body::new(2, SMALL_BYTES).write_to(&path)?;
        let small = std::fs::read(path).map_err(LabError::io("read the small body"))?.into();
        let (client, uploads) = (client.clone(), nginx.uploads());
        Ok(Self {
            client,
            vip,
            uploads,
            large,
            small,
            lasts,
            spread: lasts,
            number: Arc::default(),
        })
    }

    /// Keeps `count` connections alive, a third of each kind, until so long from now: whatever
    /// begins before comes to its end.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn sail(
        &self,
        count: usize,
        time: Duration,
        watch: &Watch,
    ) -> Result<Vec<JoinHandle<Result<Vec<Life>>>>> {
        let end = Instant::now() + time;
        let start = |worker: usize| {
            let (fleet, watch) = (self.clone(), watch.clone());
            let wait = self.spread.mul_f64(worker as f64 / count.max(1) as f64);
            self.client.thread(move || {
                std::thread::sleep(wait);
                let mut lives = Vec::new();
                while Instant::now() < end {
                    let kind = Kind::ALL[(worker + lives.len()) % Kind::ALL.len()];
                    let life = fleet.live(None, kind, &watch);
                    (watch.ended)(&life);
                    if let End::Broken(_) = life.end {
                        std::thread::sleep(AFTER_BROKEN);
                    }
                    lives.push(life);
                }
                lives
            })
        };
        (0..count).map(start).collect()
    }

    /// One connection, from this place if it is said, on a thread that is in the client's
    /// namespace.
    #[must_use]
    pub fn live(&self, from: Option<SocketAddrV4>, kind: Kind, watch: &Watch) -> Life {
        let mut life = Life {
            kind,
            client: None,
            target: None,
            began: unix_now(),
            ended: UnixTime::default(),
            end: End::Whole,
            longest_stall: Duration::ZERO,
        };
        let outcome = Http::open(from, self.vip, &mut life.client).and_then(|mut http| {
            let outcome = self.use_it(kind, &mut http, &mut life.target, watch);
            life.longest_stall = http.longest_stall;
            outcome
        });
        life.end = match outcome {
            Ok(true) => End::Whole,
            Ok(false) => End::Corrupt,
            Err(error) => End::Broken(error.to_string()),
        };
        life.ended = unix_now();
        life
    }

    /// Whether all bodies were right.
    fn use_it(
        &self,
        kind: Kind,
        http: &mut Http,
        target: &mut Option<SocketAddr>,
        watch: &Watch,
    ) -> io::Result<bool> {
        let start = Instant::now();
        let first = http.get("little")?;
        *target = first.target;
        let mut is_right = http.body_of(&first)? == *self.small;
        match kind {
            Kind::Upload => is_right &= self.upload(http, LARGE_BYTES, self.lasts, watch)?,
            Kind::Download => {
                set_socket_recv_buffer_size(http.stream.get_ref(), PIECE)?;
                let answer = http.get("steady")?;
                let pace = Pace::of(self.lasts, LARGE_BYTES);
                http.progress = Instant::now();
                let (hash, length) =
                    hash_of(Slow { http, left: answer.length, pace: &pace }, |size| {
                        (watch.moved)(Direction::Down, size);
                    })?;
                is_right &= hash == self.large && length == answer.length as u64;
            }
            Kind::Idle => {
                std::thread::sleep((self.lasts.mul_f64(0.9)).saturating_sub(start.elapsed()));
                for _ in 0..3 {
                    let answer = http.get("little")?;
                    is_right &= http.body_of(&answer)? == *self.small;
                }
                is_right &= self.upload(http, 5 * PIECE, Duration::from_millis(500), watch)?;
            }
        }
        Ok(is_right)
    }

    fn upload(
        &self,
        http: &mut Http,
        bytes: usize,
        lasts: Duration,
        watch: &Watch,
    ) -> io::Result<bool> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (name, mut body) = (format!("fleet-{number}"), Body::new(number, bytes));
        http.ask(&format!("PUT /uploads/{name}"), &format!("Content-Length: {bytes}\r\n"))?;
        let pace = Pace::of(lasts, bytes);
        let (mut buffer, mut sent) = ([0; CHUNK], 0);
        loop {
            let chunk = body.next(&mut buffer);
            if chunk.is_empty() {
                break;
            }
            for piece in chunk.chunks(PIECE) {
                pace.wait(sent);
                http.send(piece)?;
                sent += piece.len();
                (watch.moved)(Direction::Up, piece.len());
            }
        }
        let answer = http.answer()?;
        http.body_of(&answer)?;
        let path = self.uploads.join(name);
        let (hash, _) = hash_of(std::fs::File::open(&path)?, |_| {})?;
        let _ = std::fs::remove_file(&path);
        Ok(hash == body.hash())
    }

    /// One short connection, from this place if it is said: one small answer, and the server
    /// closes. On a thread that is in the client's namespace.
    #[must_use]
    pub fn short(&self, from: Option<SocketAddrV4>) -> Short {
        let (began, start) = (unix_now(), Instant::now());
        let mut short =
            Short { client: None, target: None, began, took: Duration::ZERO, end: End::Whole };
        let outcome = Http::open(from, self.vip, &mut short.client).and_then(|mut http| {
            http.ask("GET /files/little", "Connection: close\r\n")?;
            let answer = http.answer()?;
            short.target = answer.target;
            Ok(http.body_of(&answer)? == *self.small)
        });
        short.took = start.elapsed();
        short.end = match outcome {
            Ok(true) => End::Whole,
            Ok(false) => End::Corrupt,
            Err(error) => End::Broken(error.to_string()),
        };
        short
    }
}

/// A short connection that was.
#[derive(Debug, Clone)]
pub struct Short {
    /// The client's end.
    pub client: Option<SocketAddr>,
    /// The target that had it, by its own words; none if it never answered.
    pub target: Option<SocketAddr>,
    /// When it began to connect.
    pub began: UnixTime,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: End,
}

/// Payload of an upload or download.
const LARGE_BYTES: usize = 300_000;
const SMALL_BYTES: usize = 2_000;
const PIECE: usize = 4096;
/// So that connections to nobody do not spin.
const AFTER_BROKEN: Duration = Duration::from_millis(100);
