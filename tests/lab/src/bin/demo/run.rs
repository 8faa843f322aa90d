//! One run: a lab with one kind of forwarder, its traffic, and a script.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_lab::counters::Carried;
use anyrelay_lab::script::Script;
use anyrelay_lab::{
    Decapsulator, Direction, Forwarder, Lab, LabError, Nginx, Result, Service, link,
};

use crate::drive::Driver;
use crate::record::{Counts, Record, index};
use crate::short::{idle_then_active, short_connections};
use crate::transfer::Transfers;
use anyrelay_lab::body::Body;

/// Payload of a download or upload.
const LARGE_BYTES: usize = 24_000_000;
const SMALL_BYTES: usize = 2_000;
/// At a time, in each direction.
const TRANSFERS: u64 = 2;
/// What the client and the target can send each: below what two cores carry, so that a stall is the
/// network's and not the machine's.
const LINK_MBIT: u32 = 100;

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Its name for people.
    pub name: &'static str,
    /// Its counts.
    pub counts: Counts,
    /// Payload bytes of both directions.
    pub bytes: u64,
    /// Payload per second while the script ran.
    pub throughput_mbit_s: f64,
    /// What each POP carried.
    pub carried: Carried,
    /// What each POP carried while packets were sprayed.
    pub sprayed: Option<Carried>,
    /// Bytes per bucket, down and up.
    pub series: [Vec<u64>; 2],
}

/// What a run is of: a lab with one service, and what forwards in its POPs.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name for people.
    pub name: &'static str,
    pub forwarder: Forwarder,
    pub service: Service,
    /// Whether the server's kernel accepts TCP timestamps.
    pub server_timestamps: bool,
    /// Whether the clients' kernel offers them.
    pub client_timestamps: bool,
    /// nftables in the POPs has another service from a time on, after the script's events.
    pub change: Option<(Duration, Service)>,
}

impl Run {
    pub fn new(name: &'static str, forwarder: Forwarder, service: Service) -> Self {
        Self {
            name,
            forwarder,
            service,
            server_timestamps: true,
            client_timestamps: true,
            change: None,
        }
    }

    /// Of the relay.
    pub fn relay(name: &'static str, service: Service) -> Self {
        Self::new(name, Forwarder::Relay, service)
    }

    /// Builds the lab, runs the script on it, and takes it down.
    ///
    /// # Errors
    /// If the lab fails; broken traffic is no error but part of the outcome.
    pub fn follow(self, script: &Script) -> Result<Outcome> {
        follow(self, script)
    }
}

fn follow(run: Run, script: &Script) -> Result<Outcome> {
    let Run { name, forwarder, service, server_timestamps, client_timestamps, change } = run;
    eprintln!("{name}: starting");
    let vip = service.vip;
    let builder = Lab::builder().forwarder(forwarder).service(service.clone());
    let builder = builder.target_timestamps(server_timestamps);
    let mut lab = builder.client_timestamps(client_timestamps).build()?;
    let _tunnel = Decapsulator::of(&lab.topology.target, &service)?;
    for host in [&lab.topology.client, &lab.topology.target] {
        link::limit_rate((host, "net0"), LINK_MBIT)?;
    }
    // An application that sends is told at once when nothing goes out, as it is a stall's measure.
    lab.topology.client.sysctl("net.ipv4.tcp_notsent_lowat", "65536")?;
    let mut nginx = Nginx::start(&lab.topology.target, lab.work())?;
    let large = Body::new(1, LARGE_BYTES).write_to(&nginx.files().join("large"))?;
    Body::new(2, SMALL_BYTES).write_to(&nginx.files().join("small"))?;
    let small: Arc<[u8]> = std::fs::read(nginx.files().join("small"))
        .map_err(LabError::io("read the small body"))?
        .into();
    let accepted_before = nginx.accepts()?;

    let record = Arc::new(Record::start(script.length, Direction::BOTH.len()));
    let transfers = Transfers {
        client: lab.topology.client.clone(),
        server: vip.to_string(),
        record: record.clone(),
        kinds: Direction::BOTH.map(index),
        uploads: nginx.uploads(),
        logs: lab.work().to_owned(),
        large,
        bytes: LARGE_BYTES,
    };
    let mut driver = Driver::new(&mut lab, &record, forwarder)?;
    driver.change = change;
    let before = driver.carried()?;
    let traffic = std::thread::spawn({
        let record = record.clone();
        let length = script.length;
        move || all_traffic(&transfers, vip, &record, length, &small)
    });
    let progress = std::thread::spawn({
        let record = record.clone();
        let length = script.length;
        move || show_progress(name, &record, length)
    });
    let followed = driver.follow(script);
    let _ = progress.join();
    let moved = traffic.join().map_err(|_| LabError::Unexpected("a traffic thread died".into()))?;
    followed.and(moved)?;
    let carried = driver.carried()?.since(&before);
    let sprayed = driver.sprayed.take();
    let accepted = nginx.accepts()? - accepted_before;
    check_connections(&record, accepted, &nginx.access_log());
    Ok(outcome(name, script, &record, carried, sprayed))
}

/// All traffic of a run; returns when all of it has ended.
fn all_traffic(
    transfers: &Transfers,
    vip: SocketAddr,
    record: &Arc<Record>,
    length: Duration,
    small: &Arc<[u8]>,
) -> Result<()> {
    let client = &transfers.client;
    let active = [length.mul_f64(0.55), length.mul_f64(0.93)];
    let (idle_record, idle_body) = (record.clone(), small.clone());
    let idle = client.thread(move || idle_then_active(vip, &idle_record, &active, &idle_body))?;
    let mut workers = Vec::new();
    for (direction, first) in [(Direction::Down, 0), (Direction::Up, TRANSFERS)] {
        for worker in first..first + TRANSFERS {
            let transfers = transfers.clone();
            workers.push(std::thread::spawn(move || transfers.keep_moving(direction, worker)));
        }
    }
    short_connections(client, vip, record, small)?;
    let died = |_| LabError::Unexpected("a traffic thread died".into());
    for worker in workers {
        worker.join().map_err(died)??;
    }
    idle.join().map_err(died)?
}

/// One connection per transfer, as the server saw it: nothing was retried behind our back.
fn check_connections(record: &Record, accepted: u64, access_log: &str) {
    let counts = record.counts();
    let begun = counts.transfers + counts.short_connections;
    let failed = counts.broken + counts.short_broken;
    // A connection that failed may or may not have reached the server.
    if !(begun.saturating_sub(failed)..=begun).contains(&accepted) {
        let difference = accepted.abs_diff(begun);
        record.count(|counts| counts.broken += difference);
        record.note(format!("{begun} connections begun, but the server accepted {accepted}"));
    }
    let mut requests: HashMap<&str, u64> = HashMap::new();
    for uri in access_log.lines().filter_map(|line| line.split(' ').nth(3)) {
        if uri.starts_with("/files/large?") || uri.starts_with("/uploads/") {
            *requests.entry(uri).or_default() += 1;
        }
    }
    for (uri, count) in requests.into_iter().filter(|(_, count)| *count != 1) {
        record.count(|counts| counts.broken += 1);
        record.note(format!("{uri} was requested {count} times"));
    }
}

fn outcome(
    name: &'static str,
    script: &Script,
    record: &Record,
    carried: Carried,
    sprayed: Option<Carried>,
) -> Outcome {
    let series = [Direction::Down, Direction::Up].map(|direction| record.series(index(direction)));
    let seconds = script.length.as_secs_f64();
    let within = script.length.as_millis() / crate::record::BUCKET.as_millis();
    let within = usize::try_from(within).unwrap_or(usize::MAX);
    let in_time: u64 = series.iter().flat_map(|one| one.iter().take(within)).sum();
    Outcome {
        name,
        counts: record.counts(),
        bytes: record.bytes(),
        throughput_mbit_s: in_time as f64 * 8.0 / 1e6 / seconds,
        carried,
        sprayed,
        series,
    }
}

/// A line that is rewritten on a terminal, and printed every two seconds elsewhere.
pub fn show_progress(name: &str, record: &Record, length: Duration) {
    let terminal = std::io::stderr().is_terminal();
    let interval = Duration::from_millis(if terminal { 200 } else { 2000 });
    let mut bytes_before = 0;
    while !record.is_over() {
        std::thread::sleep(interval.min(length.saturating_sub(record.now())));
        let counts = record.counts();
        let bytes = record.bytes();
        let rate = (bytes - bytes_before) as f64 * 8.0 / 1e6 / interval.as_secs_f64();
        bytes_before = bytes;
        let short = match counts.short_connections {
            0 => String::new(),
            begun => format!("  short {begun} ({} broken)", counts.short_broken),
        };
        let line = format!(
            "{name}: {:4.1}/{:.0} s  {rate:4.0} Mbit/s  transfers {} ({} broken){short}  flips {}  \
             kills {}",
            record.now().as_secs_f64(),
            length.as_secs_f64(),
            counts.transfers,
            counts.broken,
            counts.flips.len(),
            counts.kills.len()
        );
        let _ = if terminal {
            write!(std::io::stderr(), "\r{line}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }
    if terminal {
        eprintln!();
    }
}
