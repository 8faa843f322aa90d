//! What the tests share.

pub mod flaps;
pub mod forger;
pub mod live;
pub mod open;
pub mod probing;
pub mod refusals;
pub mod restart;
pub mod rivals;
pub mod sockets;
pub mod targets;
pub mod tunnel;
pub mod wrap;

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyrelay_lab::config::{TARGET_PORT, VIP_PORT};
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::{Lab, Namespace, command, link, topology};

/// Where clients of the default service connect.
pub const VIP: SocketAddrV4 = SocketAddrV4::new(topology::VIP, VIP_PORT);
/// Where the default service leads.
pub const TARGET: SocketAddrV4 = SocketAddrV4::new(topology::TARGET, TARGET_PORT);
/// How long a connect may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Whether the stated lengths are run, and not shortened ones.
pub fn full() -> bool {
    std::env::var_os("ANYRELAY_FULL").is_some()
}

pub fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A server where the default service leads.
pub fn serve(lab: &Lab) -> Server {
    Server::start(&lab.topology.target, TARGET).unwrap()
}

/// A new connection to the default service.
pub fn connect(lab: &Lab) -> Connection {
    connect_to(lab, VIP.into())
}

/// A new connection to a service.
pub fn connect_to(lab: &Lab, vip: SocketAddr) -> Connection {
    Connection::open(&lab.topology.client, vip, LIMIT).unwrap().unwrap()
}

/// One connection that downloads and one that uploads, body after body, until told to stop.
pub struct Busy {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<(u64, Duration)>>,
}

impl Busy {
    pub fn start(lab: &Lab) -> Self {
        Self::start_to(lab, VIP.into())
    }

    pub fn start_to(lab: &Lab, vip: SocketAddr) -> Self {
        const BYTES: usize = 2_000_000;
        // Less than the machine carries, so that what is measured is the network.
        for host in [&lab.topology.client, &lab.topology.target] {
            link::limit_rate((host, "net0"), 100).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let work = |down: bool| {
            let (mut connection, stop) = (connect_to(lab, vip), stop.clone());
            std::thread::spawn(move || {
                let mut bodies = 0;
                while !stop.load(Ordering::Relaxed) {
                    bodies += 1;
                    match down {
                        true => connection.download(bodies, BYTES).unwrap(),
                        false => connection.upload(bodies, BYTES).unwrap(),
                    }
                }
                (bodies, connection.longest_stall)
            })
        };
        let workers = vec![work(true), work(false)];
        Self { stop, workers }
    }

    /// Waits for both to come to the end of their last body, and asserts that both moved some and
    /// neither was ever still for 3 s; gives the longest time that one was.
    pub fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for worker in self.workers {
            let (bodies, stall) = worker.join().expect("the connection broke");
            assert!(bodies > 1, "only {bodies} bodies were moved");
            assert!(stall < Duration::from_secs(3), "no progress for {stall:?}");
            longest = longest.max(stall);
        }
        longest
    }
}

/// A number of `ss -ti` about the namespace's connections to an address, such as `mss`.
pub fn socket_info(namespace: &Namespace, peer: &str, key: &str) -> u64 {
    let mut ss = namespace.command("ss");
    let text = command::run(ss.args(["-tinH", "dst", peer])).unwrap();
    let prefix = format!("{key}:");
    let value = text.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
    value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {key} in: {text}"))
}

/// A counter of `/proc/net/netstat` of a namespace, such as `InCEPkts`.
pub fn netstat(namespace: &Namespace, key: &str) -> u64 {
    kernel_counter(namespace, "netstat", key)
}

/// A counter of `/proc/net/snmp` of a namespace, such as `FragCreates`.
pub fn snmp(namespace: &Namespace, key: &str) -> u64 {
    kernel_counter(namespace, "snmp", key)
}

fn kernel_counter(namespace: &Namespace, file: &str, key: &str) -> u64 {
    use std::io::Read;
    let mut text = String::new();
    let path = format!("/proc/thread-self/net/{file}");
    namespace.open(&path).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let pairs = lines.chunks(2).flat_map(|pair| pair[0].iter().zip(&pair[1]));
    let value = pairs.into_iter().find(|(name, _)| **name == key).map(|(_, value)| *value);
    value.unwrap_or_else(|| panic!("no {key}")).parse().unwrap()
}

/// The sum of a metric over all POPs of a lab.
pub fn metric(lab: &Lab, name: &str, labels: &[(&str, &str)]) -> f64 {
    lab.pops.iter().map(|pop| pop.metric(name, labels).unwrap()).sum()
}

/// Drops of a reason over all POPs, wherever they are counted.
pub fn drops(lab: &Lab, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    metric(lab, "anyrelay_drops_total", &labels)
        + metric(lab, "anyrelay_service_drops_total", &labels)
}

/// Starts the first POP again, with ports of this MTU: live connections do not know of it.
pub fn narrow_ports(lab: &mut Lab, mtu: u32) {
    let pop = &mut lab.pops[0];
    let text = std::fs::read_to_string(&pop.config).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    for port in config["port"].as_array_mut().unwrap() {
        let before = port.as_table_mut().unwrap().insert("mtu".to_owned(), mtu.into());
        assert_eq!(before, None);
    }
    std::fs::write(&pop.config, toml::to_string(&config).unwrap()).unwrap();
    pop.restart().unwrap();
}

/// Waits until something holds.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(milliseconds(10));
    }
}
