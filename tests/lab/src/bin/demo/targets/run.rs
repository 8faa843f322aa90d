//! One run with targets that change: a lab, its traffic, route flips and kills of POPs, and what
//! became of every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyrelay_lab::counters::PopCounters;
use anyrelay_lab::fleet::{End, Fleet, Life, Short, Watch};
use anyrelay_lab::haproxy::Admin;
use anyrelay_lab::script::Script;
use anyrelay_lab::targets::Choice;
use anyrelay_lab::{Direction, Forwarder, Lab, LabError, Nginx, Result, Service, Topology, link};

use super::change::{Given, Mortal, Told, first_list, give_all};
use super::judge::{Judged, Seen};
use super::plan::{HOSTS, Number, orders};
use crate::drive::Driver;
use crate::record::{Counts, Record, index};
use crate::run::show_progress;

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Its name for people.
    pub name: &'static str,
    /// Flips and kills, and the first failures.
    pub counts: Counts,
    /// What became of the connections.
    pub judged: Judged,
    /// The orders.
    pub given: Vec<Given>,
    /// Segments that POPs sent to targets besides those of clients, in percent of these.
    pub copies_percent: f64,
    /// Payload bytes of long connections.
    pub bytes: u64,
    /// Bytes per bucket, down and up.
    pub series: [Vec<u64>; 2],
}

/// Builds a lab, runs the script on it while its targets change, and takes it down.
///
/// # Errors
/// If the lab fails; broken traffic is no error but part of the outcome.
pub fn run(name: &'static str, forwarder: Forwarder, script: &Script) -> Result<Outcome> {
    eprintln!("{name}: starting");
    let targets = Number::at_first().map(Number::address).collect();
    let service = Service { targets, ..Service::default() };
    let vip = service.vip;
    // So large that hardly two clients of a run have the same egress endpoint.
    let builder = Lab::builder().forwarder(forwarder).service(service).pool("100.64.0.0/16");
    let builder = builder.target_hosts(HOSTS.into());
    let mut lab = match forwarder {
        Forwarder::Relay => builder.targets(first_list()).build()?,
        _ => builder.build()?,
    };
    let net = lab.topology.clone();
    for host in [&net.client, &net.target] {
        link::limit_rate((host, "net0"), LINK_MBIT)?;
    }
    let nginx = Nginx::start(&net.target, lab.work())?;
    let twins = net.target_hosts.iter().map(|host| nginx.twin(host)).collect::<Result<_>>()?;
    let mut mortal = Mortal { topology: &net, servers: twins };
    let lasts = (script.length / 4).clamp(LASTS_MIN, LASTS_MAX);
    let fleet = Fleet::new(&net.client, vip, &nginx, lasts)?;
    let told = match forwarder {
        Forwarder::Relay => Told::Relay(lab.targets_file()),
        Forwarder::HaProxy => Told::HaProxy(lab.pops.iter().map(Admin::of).collect()),
        Forwarder::NginxStream | Forwarder::Nftables | Forwarder::Stateless => {
            let what = "these POPs of the lab cannot be told to change their targets";
            return Err(LabError::Unexpected(what.into()));
        }
    };
    let config = lab.pops.first().map(|pop| pop.config.clone()).unwrap_or_default();

    let record = Arc::new(Record::start(script.length, Direction::BOTH.len()));
    let count = if script.length < MANY_FROM { FEW } else { MANY };
    let sailing = fleet.sail(count, script.length, &watch(&record))?;
    let shorts = start_shorts(&net, &fleet, &record)?;
    let mut counters = PopCounters::open(&net)?;
    let before = packets_up(&mut counters, lab.pops.len())?;
    let (followed, given) = std::thread::scope(|scope| {
        let orders = orders(script.length);
        let (told, mortal, record) = (&told, &mut mortal, &record);
        let changing = scope.spawn(move || give_all(&orders, told, mortal, record));
        scope.spawn(|| show_progress(name, record, script.length));
        let followed =
            Driver::new(&mut lab, record, forwarder).and_then(|mut driver| driver.follow(script));
        (followed, changing.join())
    });
    let given = given.map_err(died)?;
    let lives = join_all(sailing)?;
    let shorts: Vec<Short> = shorts.join().map_err(died)?;
    followed?;
    let given = given?;
    let after = packets_up(&mut counters, lab.pops.len())?;
    let choice = match forwarder {
        Forwarder::Relay => Some((Choice::of(&config)?, lab.targets_file().read()?.events())),
        _ => None,
    };
    let counts = record.counts();
    let seen = Seen { lives, shorts, given: &given, kills: kill_times(&counts, &record), choice };
    let judged = seen.judge();
    let [arrived, left] = [0, 1].map(|i| (after[i] - before[i]) as f64);
    let series = [Direction::Down, Direction::Up].map(|way| record.series(index(way)));
    Ok(Outcome {
        name,
        counts: record.counts(),
        judged,
        given,
        copies_percent: (left / arrived.max(1.0) - 1.0) * 100.0,
        bytes: record.bytes(),
        series,
    })
}

fn watch(record: &Arc<Record>) -> Watch {
    let (bytes, ends) = (record.clone(), record.clone());
    let ended = move |life: &Life| {
        ends.count(|counts| {
            counts.transfers += 1;
            counts.broken += u64::from(life.end != End::Whole);
            counts.longest_stall = counts.longest_stall.max(life.longest_stall);
        });
    };
    Watch {
        moved: Arc::new(move |way, size| bytes.moved(index(way), size)),
        ended: Arc::new(ended),
    }
}

/// Begins short connections at a steady rate until the run is over, and waits for all of them.
fn start_shorts(
    net: &Topology,
    fleet: &Fleet,
    record: &Arc<Record>,
) -> Result<JoinHandle<Vec<Short>>> {
    let (fleet, record, client) = (fleet.clone(), record.clone(), net.client.clone());
    let work = move || {
        let begun = AtomicU64::new(0);
        let one = || {
            let mut shorts = Vec::new();
            while !record.is_over() {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                record.sleep_until(SHORT_INTERVAL.mul_f64(number as f64));
                if record.is_over() {
                    break;
                }
                let short = fleet.short(None);
                record.count(|counts| {
                    counts.short_connections += 1;
                    counts.short_broken += u64::from(short.end != End::Whole);
                });
                shorts.push(short);
            }
            shorts
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..SHORT_WORKERS).map(|_| scope.spawn(one)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        })
    };
    // Threads that it starts are in its namespace, too.
    let inside = client.thread(work)?;
    Ok(std::thread::spawn(move || inside.join().ok().and_then(Result::ok).unwrap_or_default()))
}

fn join_all(sailing: Vec<JoinHandle<Result<Vec<Life>>>>) -> Result<Vec<Life>> {
    let mut lives = Vec::new();
    for worker in sailing {
        lives.extend(worker.join().map_err(died)??);
    }
    Ok(lives)
}

/// Packets up that came to the POPs, and that came out of them.
fn packets_up(counters: &mut PopCounters, pops: usize) -> Result<[u64; 2]> {
    let arrived = (0..pops).map(|pop| counters.arrived(Direction::Up, pop)).sum::<Result<u64>>()?;
    Ok([arrived, counters.carried()?.up.iter().sum()])
}

/// By the wall clock.
fn kill_times(counts: &Counts, record: &Record) -> Vec<anyrelay_core::time::UnixTime> {
    let now = anyrelay_lab::targets::unix_now();
    let start = now.minus_millis(millis(record.now()));
    counts.kills.iter().map(|(time, _)| start.plus_millis(millis(*time))).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn died<T>(_: T) -> LabError {
    LabError::Unexpected("a traffic thread died".into())
}

/// What the client and the target can send each.
const LINK_MBIT: u32 = 100;
/// Long connections at a time; more of them in runs of this length.
const FEW: usize = 90;
const MANY: usize = 640;
const MANY_FROM: Duration = Duration::from_secs(120);
const LASTS_MIN: Duration = Duration::from_secs(6);
const LASTS_MAX: Duration = Duration::from_secs(20);
/// Short connections begin at this distance: 100 per second.
const SHORT_INTERVAL: Duration = Duration::from_millis(10);
/// At a time at most; one to a target that is dead takes up to 15 s.
const SHORT_WORKERS: usize = 400;
