//! The relays' half: services of all egress modes, over IPv4, IPv6 and between them; clients with
//! and without timestamps, large bodies, short connections, and connections that live as long as
//! the run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_lab::script::Script;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Egress, Lab, Namespace, Pop, Result, Service, link};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::drive::{self, Done};
use crate::{POPS, SPARED};

/// Less than the machine carries beside all else, so that a stall is the network's.
const LINK_MBIT: u32 = 20;
const LARGE_BYTES: usize = 1_000_000;
const SMALL_BYTES: usize = 2_000;
const SHORT_PAUSE: Duration = Duration::from_millis(40);
/// Connections of each service that live as long as the run, half of them without timestamps, and
/// how long each rests after it was used.
const LONG: usize = 4;
const LONG_BYTES: usize = 20_000;
const LONG_PAUSE: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const AFTER_BROKEN: Duration = Duration::from_millis(200);
const NOTES_MAX: usize = 20;

/// What the traffic's threads count.
#[derive(Debug, Default)]
struct Tally {
    stop: AtomicBool,
    connections: AtomicU64,
    broken: AtomicU64,
    bytes: AtomicU64,
    longest_stall_ms: AtomicU64,
    notes: Mutex<Vec<String>>,
}

/// The lab with its traffic.
pub struct Relays {
    lab: Lab,
    tally: Arc<Tally>,
    workers: Vec<JoinHandle<Result<()>>>,
    _servers: Vec<Server>,
    done: Done,
    rounds: u64,
}

impl Relays {
    pub fn build() -> Result<Self> {
        let services = [
            ("pool", Service::default()),
            ("transparent", Service { egress: Egress::Transparent, ..Service::default() }),
            ("prefix", Service::prefix()),
            ("transparent6", Service::transparent6()),
        ];
        let port = |address: SocketAddr, n| SocketAddr::new(address.ip(), address.port() + n);
        let services: Vec<Service> = (0..)
            .zip(services)
            .map(|(n, (name, service))| Service {
                name: name.to_owned(),
                vip: port(service.vip, n),
                targets: service.targets.iter().map(|target| port(*target, n)).collect(),
                ..service
            })
            .collect();
        let builder = Lab::builder().pops(POPS);
        let lab = services.iter().cloned().fold(builder, |builder, one| builder.service(one));
        let lab = lab.build()?;
        for host in [&lab.topology.client, &lab.topology.target] {
            link::limit_rate((host, "net0"), LINK_MBIT)?;
        }
        let mut relays = Self {
            lab,
            tally: Arc::default(),
            workers: Vec::new(),
            _servers: Vec::new(),
            done: Done::default(),
            rounds: 0,
        };
        for service in &services {
            let server = Server::start(&relays.lab.topology.target, service.targets[0])?;
            relays._servers.push(server);
            relays.start_traffic(service.vip)?;
        }
        Ok(relays)
    }

    fn start_traffic(&mut self, vip: SocketAddr) -> Result<()> {
        for n in 0..LONG {
            self.timestamps(n % 2 == 0)?;
            let connection = Connection::open(&self.lab.topology.client, vip, CONNECT_LIMIT)?;
            self.tally.connections.fetch_add(1, Ordering::Relaxed);
            let tally = self.tally.clone();
            self.workers.push(std::thread::spawn(move || {
                let used = connection.and_then(|mut connection| {
                    let used = use_long(&mut connection, &tally);
                    tally.stalled(connection.longest_stall);
                    used
                });
                tally.ended("long connection", used);
                Ok(())
            }));
        }
        self.timestamps(true)?;
        let client = &self.lab.topology.client;
        for upload in [false, true] {
            let (client, tally) = (client.clone(), self.tally.clone());
            let request = move |connection: &mut Connection, seed| match upload {
                false => connection.download(seed, LARGE_BYTES),
                true => connection.upload(seed, LARGE_BYTES),
            };
            self.workers.push(std::thread::spawn(move || {
                one_after_another(&client, vip, &tally, LARGE_BYTES, Duration::ZERO, request)
            }));
        }
        let (client, tally) = (client.clone(), self.tally.clone());
        self.workers.push(std::thread::spawn(move || {
            let request =
                |connection: &mut Connection, seed| connection.download(seed, SMALL_BYTES);
            one_after_another(&client, vip, &tally, SMALL_BYTES, SHORT_PAUSE, request)
        }));
        Ok(())
    }

    /// Whether new connections have timestamps.
    fn timestamps(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.lab.topology.client.sysctl("net.ipv4.tcp_timestamps", value)
    }

    /// The POP that is never killed.
    pub fn spared(&self) -> &Pop {
        &self.lab.pops[SPARED]
    }

    /// One script; every other one with clients that have no timestamps.
    pub fn round(&mut self, script: &Script) -> Result<()> {
        self.rounds += 1;
        self.timestamps(self.rounds % 2 == 1)?;
        let Lab { pops, routes, .. } = &mut self.lab;
        let lead = |direction, pops: &[usize]| match pops {
            [pop] => routes.to(direction, *pop),
            pops => routes.spray(direction, pops),
        };
        drive::follow(script, pops, lead, &mut self.done).map(drop)
    }

    pub fn line(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} connections, {} broken, {} MB",
            count(&self.tally.connections),
            count(&self.tally.broken),
            count(&self.tally.bytes) / 1_000_000
        )
    }

    /// Lets all traffic come to its end.
    pub fn finish(self) -> Result<Outcome> {
        self.tally.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().map_err(|_| {
                anyrelay_lab::LabError::Unexpected("a traffic thread died".into())
            })??;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Outcome {
            connections: count(&self.tally.connections),
            broken: count(&self.tally.broken),
            bytes: count(&self.tally.bytes),
            longest_stall_ms: count(&self.tally.longest_stall_ms),
            done: self.done,
            notes: self.tally.notes.lock().clone(),
        })
    }
}

impl Tally {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stalled(&self, stall: Duration) {
        let stall = u64::try_from(stall.as_millis()).unwrap_or(u64::MAX);
        self.longest_stall_ms.fetch_max(stall, Ordering::Relaxed);
    }

    fn ended(&self, what: &str, result: std::io::Result<()>) {
        let Err(error) = result else { return };
        self.broken.fetch_add(1, Ordering::Relaxed);
        let mut notes = self.notes.lock();
        if notes.len() < NOTES_MAX {
            notes.push(format!("{what}: {error}"));
        }
    }
}

/// Connections one after another, each with one request, a pause between them.
fn one_after_another(
    client: &Namespace,
    vip: SocketAddr,
    tally: &Tally,
    bytes: usize,
    pause: Duration,
    request: impl Fn(&mut Connection, u64) -> std::io::Result<()>,
) -> Result<()> {
    for seed in 0.. {
        if tally.stopped() {
            break;
        }
        tally.connections.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let opened = Connection::open(client, vip, CONNECT_LIMIT)?;
        let result = opened.and_then(|mut connection| {
            let result = request(&mut connection, seed);
            tally.stalled(connection.longest_stall);
            result
        });
        match result {
            Ok(()) => {
                tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                let what = format!("{bytes} bytes of {vip} after {:?}", begun.elapsed());
                tally.ended(&what, Err(error));
                std::thread::sleep(AFTER_BROKEN);
            }
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

fn use_long(connection: &mut Connection, tally: &Tally) -> std::io::Result<()> {
    for seed in 0.. {
        connection.download(seed, LONG_BYTES)?;
        connection.upload(seed, LONG_BYTES)?;
        tally.bytes.fetch_add(2 * LONG_BYTES as u64, Ordering::Relaxed);
        if tally.stopped() {
            break;
        }
        std::thread::sleep(LONG_PAUSE);
    }
    Ok(())
}

/// What the relays carried.
#[derive(Debug)]
pub struct Outcome {
    connections: u64,
    broken: u64,
    bytes: u64,
    longest_stall_ms: u64,
    done: Done,
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn table(&self) -> String {
        format!(
            "relay: {} connections, {} broken; {} MB of hashed bodies, longest stall {} ms\n       \
             {} flips, {} kills, {} reloads\n",
            self.connections,
            self.broken,
            self.bytes / 1_000_000,
            self.longest_stall_ms,
            self.done.flips,
            self.done.kills,
            self.done.reloads
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "broken": self.broken,
            "bytes": self.bytes,
            "longest_stall_ms": self.longest_stall_ms,
            "flips": self.done.flips,
            "kills": self.done.kills,
            "reloads": self.done.reloads,
        })
    }

    pub fn conditions(&self) -> Vec<(String, bool)> {
        vec![
            (
                format!("relayed connections: {}, at least 100", self.connections),
                self.connections >= 100,
            ),
            (format!("broken or corrupt: {}, must be 0", self.broken), self.broken == 0),
            (
                format!("kills of relaying POPs: {}, at least 1", self.done.kills),
                self.done.kills > 0,
            ),
        ]
    }
}
