//! What the sender of an upload retransmits while routes flip, and what of it was needless.
//!
//! docs/limits.md explains the figures. They are counted by the sender's kernel, and the receiver's
//! tells it by DSACK (RFC 2883) which retransmissions were of segments that had arrived.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::flaps::while_flipping;
use crate::common::{TARGET, VIP, connect_to, full, netstat, serve, snmp};
use anyrelay_lab::middlebox::Trouble;
use anyrelay_lab::{Lab, Namespace, command, link};

const BYTES: usize = 30_000_000;
/// Of [`BYTES`], with timestamps.
const SEGMENTS: u64 = (BYTES as u64).div_ceil(1448);

/// Under what uploads are measured.
#[derive(Clone, Copy)]
struct Path {
    name: &'static str,
    to: SocketAddr,
    /// What the path adds to the round-trip time.
    rtt: Duration,
    /// What the hosts send at most.
    mbit: Option<u32>,
    /// Frames of one flow stay in order on the lab's links, as on a wire.
    steered: bool,
    flips: bool,
}

const FAST: Path = Path {
    name: "no flips",
    to: SocketAddr::V4(VIP),
    rtt: Duration::ZERO,
    mbit: None,
    steered: true,
    flips: false,
};

const WIDE: Path = Path { rtt: Duration::from_millis(20), mbit: Some(100), ..FAST };

/// One upload, as the client's kernel counts.
struct Upload {
    took: Duration,
    retransmitted: u64,
    needless: u64,
    timeouts: u64,
}

/// A veth pair has a backlog per processor that sends, and empties them in any order. Steering by
/// flow (RPS) puts all frames of a flow into one.
fn steer(namespace: &Namespace) {
    let processors = std::thread::available_parallelism().unwrap().get().min(32);
    let mask = u32::MAX >> (32 - processors);
    let every = "for queue in /sys/class/net/*/queues/rx-0/rps_cpus; do";
    let mut shell = namespace.command("sh");
    command::run(shell.args(["-c", &format!("{every} echo {mask:x} > $queue; done")])).unwrap();
}

fn lab(path: &Path) -> Lab {
    let mut builder = Lab::builder();
    if path.to == SocketAddr::V4(TARGET) {
        builder = builder.direct();
    }
    if !path.rtt.is_zero() {
        builder = builder.client_box(Trouble { delay: path.rtt / 2, ..Trouble::NONE });
    }
    let lab = builder.build().unwrap();
    let topology = &lab.topology;
    if let Some(mbit) = path.mbit {
        for host in [&topology.client, &topology.target] {
            link::limit_rate((host, "net0"), mbit).unwrap();
        }
    }
    if path.steered {
        let fixed: [&Namespace; 4] =
            [&topology.client, &topology.client_router, &topology.target_router, &topology.target];
        let pops = topology.pops.iter().map(|pop| &**pop);
        fixed.into_iter().chain(pops).for_each(steer);
    }
    lab
}

fn measure(path: &Path, uploads: u64) -> Vec<Upload> {
    let mut lab = lab(path);
    let _server = serve(&lab);
    let client = lab.topology.client.clone();
    let count = || {
        let spurious = netstat(&client, "TCPDSACKRecv");
        [snmp(&client, "RetransSegs"), spurious, netstat(&client, "TCPTimeouts")]
    };
    let one = |seed| {
        let mut connection = connect_to(&lab, path.to);
        let (before, start) = (count(), Instant::now());
        if path.flips {
            while_flipping(&mut lab.routes, || connection.upload(seed, BYTES)).unwrap();
        } else {
            connection.upload(seed, BYTES).unwrap();
        }
        let (took, after) = (start.elapsed(), count());
        let [retransmitted, needless, timeouts] = [0, 1, 2].map(|i| after[i] - before[i]);
        Upload { took, retransmitted, needless, timeouts }
    };
    (1..=uploads).map(one).collect()
}

/// Prints a row of the table in docs/limits.md, and gives the median of retransmitted segments.
fn report(path: &Path) -> u64 {
    let mut uploads = measure(path, if full() { 40 } else { 3 });
    uploads.sort_by_key(|upload| upload.retransmitted);
    let median = uploads[uploads.len() / 2].retransmitted;
    let most = uploads.last().unwrap().retransmitted;
    let sum = |of: fn(&Upload) -> u64| uploads.iter().map(of).sum::<u64>();
    let needless = sum(|upload| upload.needless) * 100 / sum(|upload| upload.retransmitted).max(1);
    let timeouts = sum(|upload| upload.timeouts);
    let mut took: Vec<Duration> = uploads.iter().map(|upload| upload.took).collect();
    took.sort();
    println!(
        "{}: of {SEGMENTS} segments {median} retransmitted, at most {most}, {needless}% needless; \
         {timeouts} timeouts in {} uploads; {:.2?}",
        path.name,
        uploads.len(),
        took[took.len() / 2]
    );
    median
}

#[test]
fn resting_routes_cost_nothing() {
    if full() {
        let unordered = Path { name: "no flips, links in any order", steered: false, ..FAST };
        report(&Path { name: "no POP, links in any order", to: TARGET.into(), ..unordered });
        report(&unordered);
    }
    let median = report(&FAST);
    assert!(median <= SEGMENTS / 200, "{median} of {SEGMENTS} segments, and no route moved");
}

#[test]
fn flips_cost_what_the_path_before_still_held() {
    report(&Path { name: "flips", flips: true, ..FAST });
    let median = report(&Path { name: "flips, 20 ms, 100 Mbit/s", flips: true, ..WIDE });
    assert!(median <= SEGMENTS / 20, "{median} of {SEGMENTS} segments");
}
