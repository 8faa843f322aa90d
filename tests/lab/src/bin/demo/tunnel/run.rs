//! One run over tunnels: the lab, its traffic, and a script.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyrelay_lab::body::Body;
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::quic::{Identity, serve as serve_quic};
use anyrelay_lab::script::Script;
use anyrelay_lab::tunnel::stream::{Flow, Plan, Report, UdpServer};
use anyrelay_lab::{Direction, LabError, Nginx, Result};

use super::arrivals::{Arrivals, Sent};
use super::drive::{DeadTimes, Driver};
use super::idle::Idle;
use super::iperf::Iperf;
use super::net::{self, CONNECTING, INNER_SERVER, Net, SERVING};
use super::{idle, iperf, quic};
use crate::record::{BUCKET, Counts, Record};
use crate::run::show_progress;
use crate::transfer::Transfers;

/// Kinds of traffic in the record.
pub const STREAM: usize = 0;
pub const QUIC: usize = 1;
pub const IPERF: usize = 2;
pub const HTTP: usize = 3;
const KINDS: usize = 4;

/// Numbered datagrams each way in a second, and bytes of each. With all else some 6000 datagrams a
/// second pass the tunnels: two shared cores carry several times that, so what is lost is not the
/// machine's doing.
const STREAM_PER_SECOND: u32 = 1500;
pub const STREAM_BYTES: usize = 400;
/// Of one HTTP transfer; one goes in each direction at a time.
const HTTP_BYTES: usize = 2_000_000;
/// The idle flow is used again so long before the end: later than a kill can be.
const WAKE_BEFORE_END: Duration = Duration::from_millis(1500);
/// For what is on its way at the end.
const TAIL: Duration = Duration::from_millis(500);

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Flips, kills, the HTTP transfers, and notes.
    pub counts: Counts,
    /// The numbered stream, up and down.
    pub stream: [Report; 2],
    /// Of it, lost though not sent in the dead times of the driver; up and down.
    pub lost_outside_kill: [u64; 2],
    pub quic: quic::Outcome,
    pub iperf: iperf::Outcome,
    pub idle: idle::Outcome,
    /// Segments that NATs called invalid: the more of those counted and those logged, for each.
    pub conntrack_invalid: u64,
    pub conntrack_log: String,
    /// Agents' counters, summed.
    pub handshakes: u64,
    pub re_syns: u64,
    pub agents: usize,
    /// Datagrams at POPs whose sender last spoke to another POP.
    pub issued_elsewhere: u64,
    /// What the router sent from each place to each POP.
    pub carried: Sent,
    /// Bytes per bucket, by kind.
    pub series: [Vec<u64>; KINDS],
    /// Numbered datagrams per bucket that never arrived, by when they were sent.
    pub lost_series: Vec<u64>,
    /// While which times of the run a dead POP held a route.
    pub dead_times: Vec<(f64, f64)>,
    pub drops: String,
}

impl Outcome {
    /// Payload per second of a kind while the script ran.
    pub fn mbit_s(&self, kind: usize, length: Duration) -> f64 {
        let within = usize::try_from(length.as_millis() / BUCKET.as_millis()).unwrap_or(usize::MAX);
        let bytes: u64 = self.series[kind].iter().take(within).sum();
        bytes as f64 * 8.0 / 1e6 / length.as_secs_f64()
    }
}

/// Builds the lab, runs the script on it, and takes it down.
///
/// # Errors
/// If the lab fails; broken traffic is no error but part of the outcome.
pub fn run(script: &Script) -> Result<Outcome> {
    eprintln!("tunnel: starting");
    let mut net = Net::build()?;
    let arrivals = Arrivals::count(&net.lab.topology)?;
    let host = |site: usize| net.lab.site(site).host.clone();
    let nginx = Nginx::start(&host(SERVING), net.lab.work())?;
    let server = UdpServer::start(&host(SERVING), net::STREAM.target())?;
    let identity = Identity::make()?;

    let plan = Plan {
        up_per_second: STREAM_PER_SECOND,
        down_per_second: STREAM_PER_SECOND,
        bytes: STREAM_BYTES,
    };
    let mut idle = Idle::start(&net.lab.topology, &net.idle)?;
    let flow = Flow::start(&server, &host(CONNECTING), net::STREAM.listen(), plan)?;
    let record = Arc::new(Record::start(script.length, KINDS));
    let iperf = Iperf::start(&net.lab, script.length, &record)?;
    let transfers = Transfers {
        client: host(CONNECTING),
        server: format!("{INNER_SERVER}:{TARGET_PORT}"),
        record: record.clone(),
        kinds: [HTTP; 2],
        uploads: nginx.uploads(),
        logs: net.lab.work().to_owned(),
        large: Body::new(1, HTTP_BYTES).write_to(&nginx.files().join("large"))?,
        bytes: HTTP_BYTES,
    };
    let is_over = {
        let record = record.clone();
        move || record.time_left().is_zero()
    };
    let quic_server = serve_quic(&host(SERVING), net::QUIC.target(), &identity, is_over)?;
    let quic_client = host(CONNECTING).thread({
        let record = record.clone();
        move || quic::move_bodies(net::QUIC.listen(), &identity, &record, QUIC)
    })?;

    let topology = net.lab.topology.clone();
    let (idle_pair, idle_flow) = (&net.idle, &mut idle);
    let mut driver = Driver::new(&mut net.lab, &record, &arrivals, &flow);
    let (followed, moved, idle_outcome) = std::thread::scope(|scope| {
        let http: Vec<_> = [(Direction::Down, 0), (Direction::Up, 1)]
            .map(|(direction, worker)| {
                let transfers = &transfers;
                scope.spawn(move || transfers.keep_moving(direction, worker))
            })
            .into_iter()
            .collect();
        scope.spawn(|| show_progress("tunnel", &record, script.length));
        scope.spawn(|| sample(&flow, &record));
        let wake = scope.spawn(|| {
            record.sleep_until(script.length.saturating_sub(WAKE_BEFORE_END));
            idle_flow.wake(&topology, idle_pair)
        });
        let followed = driver.follow(script);
        let moved: Result<()> =
            http.into_iter().try_for_each(|thread| thread.join().map_err(died)?);
        (followed, moved, wake.join().map_err(died))
    });
    followed.and(moved)?;
    let (dead_times, issued_elsewhere) = (driver.dead_times.clone(), driver.issued_elsewhere());
    let idle_outcome = idle_outcome??;
    let started = flow.started();
    let (up, down) = flow.finish(TAIL);
    let quic = quic_client.join().map_err(died)???;
    let iperf = iperf.finish(&record, IPERF)?;
    quic_server.join().map_err(died)???;
    let stream = [up, down];
    let outside = |n: usize| stream[n].lost_outside(&since(started, &dead_times[n]));
    // (The plain connection of the idle flow is still open: its end would be invalid to its NAT.)
    Ok(Outcome {
        lost_outside_kill: [outside(0), outside(1)],
        lost_series: lost_series(&record, started, &stream),
        dead_times: dead_times.iter().flatten().map(|time| seconds_of(&record, time)).collect(),
        stream,
        quic,
        iperf,
        idle: idle_outcome,
        conntrack_invalid: net
            .lab
            .invalid()?
            .iter()
            .map(|(counted, logged)| counted.max(logged))
            .sum(),
        conntrack_log: net.lab.topology.sites.iter().map(|site| site.nat.log_text()).collect(),
        handshakes: net.counter("handshakes")?,
        re_syns: net.counter("re_syns")?,
        agents: net.agents().count(),
        issued_elsewhere: issued_elsewhere as u64,
        carried: arrivals.read()?,
        series: std::array::from_fn(|kind| record.series(kind)),
        drops: net.lab.drops_text(),
        counts: record.counts(),
    })
}

/// Notes what has arrived of the numbered stream, bucket by bucket.
fn sample(flow: &Flow, record: &Record) {
    let mut before = flow.received();
    while !record.is_over() {
        std::thread::sleep(BUCKET);
        let now = flow.received();
        let datagrams = now.0 + now.1 - before.0 - before.1;
        record.moved(STREAM, usize::try_from(datagrams).unwrap_or(0) * STREAM_BYTES);
        before = now;
    }
}

/// Times as the flow counts them.
fn since(started: Instant, times: &DeadTimes) -> Vec<std::ops::Range<Duration>> {
    let of = |time: &Instant| time.saturating_duration_since(started);
    times.iter().map(|range| of(&range.start)..of(&range.end)).collect()
}

fn lost_series(record: &Record, started: Instant, stream: &[Report; 2]) -> Vec<u64> {
    let mut series = vec![0; record.series(STREAM).len()];
    for sent in stream.iter().flat_map(|report| &report.lost) {
        let time = (started + *sent).saturating_duration_since(record.started());
        let bucket = usize::try_from(time.as_millis() / BUCKET.as_millis()).unwrap_or(usize::MAX);
        if let Some(lost) = series.get_mut(bucket) {
            *lost += 1;
        }
    }
    series
}

fn seconds_of(record: &Record, time: &std::ops::Range<Instant>) -> (f64, f64) {
    let of = |at: &Instant| at.saturating_duration_since(record.started()).as_secs_f64();
    (of(&time.start), of(&time.end))
}

fn died<T>(_: T) -> LabError {
    LabError::Unexpected("a traffic thread died".into())
}
