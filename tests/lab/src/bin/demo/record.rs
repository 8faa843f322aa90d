//! What a run has seen so far; written by all its threads, read by the progress line and the
//! report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyrelay_lab::Direction;
use parking_lot::Mutex;

/// Width of a bucket of the throughput record.
pub const BUCKET: Duration = Duration::from_millis(100);
/// A short connection that takes so long has lost its SYN, or the answer to it.
pub const SLOW: Duration = Duration::from_secs(1);
const NOTES_MAX: usize = 12;

/// Counts of one run.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Transfers begun: downloads, uploads, and the relay's idle-then-active connection.
    pub transfers: u64,
    /// Of them, those that did not come to their end over their one connection.
    pub broken: u64,
    /// Bodies, of any kind of connection, that came complete but were not what was sent.
    pub corrupt: u64,
    /// Short connections begun.
    pub short_connections: u64,
    /// Of them, those that failed.
    pub short_broken: u64,
    /// Of those that did not fail, those that took [`SLOW`] or more.
    pub short_slow: u64,
    /// The longest time without progress of a transfer.
    pub longest_stall: Duration,
    /// When each flip that moved packets happened, and which direction it moved.
    pub flips: Vec<(Duration, Direction)>,
    /// When which POP was killed.
    pub kills: Vec<(Duration, usize)>,
    /// The first few failures, in words.
    pub notes: Vec<String>,
}

impl Counts {
    /// Seconds since the start of the flips of one direction, for the plot.
    pub fn flip_times(&self, direction: Direction) -> Vec<f64> {
        let of_it = self.flips.iter().filter(|flip| flip.1 == direction);
        of_it.map(|flip| flip.0.as_secs_f64()).collect()
    }

    /// Seconds since the start of the kills, and the POPs' names, for the plot.
    pub fn kill_times(&self) -> Vec<(f64, String)> {
        let kills = self.kills.iter();
        kills.map(|(time, pop)| (time.as_secs_f64(), format!("pop{}", pop + 1))).collect()
    }
}

/// Mbit/s in each bucket of a series of bytes.
pub fn mbit_s(series: &[u64]) -> Vec<f64> {
    series.iter().map(|bytes| *bytes as f64 * 8.0 / 1e6 / BUCKET.as_secs_f64()).collect()
}

/// The record of one run.
#[derive(Debug)]
pub struct Record {
    start: Instant,
    end: Duration,
    /// Bytes per bucket, for each kind of traffic.
    series: Vec<Vec<AtomicU64>>,
    counts: Mutex<Counts>,
}

impl Record {
    /// Starts the clock of a run of this length with so many kinds of traffic, which may run out
    /// for a while after it.
    pub fn start(length: Duration, kinds: usize) -> Self {
        let buckets = usize::try_from((length + GRACE).as_millis() / BUCKET.as_millis());
        let empty = |_| (0..=buckets.unwrap_or(0)).map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            end: length,
            series: (0..kinds).map(empty).collect(),
            counts: Mutex::new(Counts::default()),
        }
    }

    /// When it started.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether the run is over, so that nothing new may begin.
    pub fn is_over(&self) -> bool {
        self.now() >= self.end
    }

    /// Time until what still runs is given up.
    pub fn time_left(&self) -> Duration {
        (self.end + GRACE).saturating_sub(self.now())
    }

    /// Sleeps until a time of the run.
    pub fn sleep_until(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.now()));
    }

    /// Notes payload bytes that an application got or gave away now.
    pub fn moved(&self, kind: usize, bytes: usize) {
        self.moved_at(self.now(), kind, bytes as u64);
    }

    /// As [`Self::moved`], for another time of the run.
    pub fn moved_at(&self, time: Duration, kind: usize, bytes: u64) {
        let bucket = usize::try_from(time.as_millis() / BUCKET.as_millis()).ok();
        let series = self.series.get(kind);
        if let Some(bucket) = series.and_then(|series| series.get(bucket?)) {
            bucket.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes per [`BUCKET`] of a kind of traffic since the start.
    pub fn series(&self, kind: usize) -> Vec<u64> {
        let series = self.series.get(kind).map(Vec::as_slice).unwrap_or_default();
        series.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }

    /// Payload bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.series.iter().flatten().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
    }

    /// Keeps a failure in words.
    pub fn note(&self, text: String) {
        let line = format!("{:6.2} s  {text}", self.now().as_secs_f64());
        self.count(|counts| {
            if counts.notes.len() < NOTES_MAX {
                counts.notes.push(line);
            }
        });
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}

/// Measures the longest time without progress of one transfer.
#[derive(Debug)]
pub struct Progress {
    last: Instant,
    longest: Duration,
}

impl Progress {
    /// The transfer begins now.
    pub fn start() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    /// The application got, or gave away, something now.
    pub fn made(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }

    /// The application wanted nothing since the last progress, and begins to want again now.
    pub fn resume(&mut self) {
        self.last = Instant::now();
    }

    /// The longest stall so far.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The transfer ends now; keeps its longest stall.
    pub fn finish(mut self, record: &Record) {
        self.made();
        record.count(|counts| counts.longest_stall = counts.longest_stall.max(self.longest));
    }
}

/// The kinds of the relay's traffic, by direction; also where things are kept for each direction.
pub fn index(direction: Direction) -> usize {
    match direction {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

/// How long transfers that run at the end of a run may take to come to theirs.
const GRACE: Duration = Duration::from_secs(20);
