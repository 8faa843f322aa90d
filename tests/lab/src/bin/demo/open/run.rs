//! One run over open tunnels: the lab, its traffic, and a script.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyrelay_lab::body::Body;
use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::quic::{Identity, serve};
use anyrelay_lab::script::Script;
use anyrelay_lab::ssh::SshServer;
use anyrelay_lab::tunnel::topology::THIRD;
use anyrelay_lab::tunnel::{Agent, Nat64, Site, TunnelLab, nat64};
use anyrelay_lab::{Direction, LabError, Namespace, Nginx, Result, link};

use super::drive::Driver;
use super::ssh;
use crate::record::{BUCKET, Counts, Record};
use crate::run::show_progress;
use crate::transfer::Transfers;
use crate::tunnel::arrivals::{Arrivals, Sent};
use crate::tunnel::quic;

/// Kinds of traffic in the record, with what each is: which host is the client of which.
pub const KINDS: [&str; 9] = [
    "out, down",
    "out, up",
    "in, down",
    "in, up",
    "agent to agent",
    "QUIC, in",
    "out by NAT64, down",
    "out by NAT64, up",
    "in by NAT64, down",
];
const OUT: [usize; 2] = [1, 0];
const IN: [usize; 2] = [3, 2];
const ACROSS: usize = 4;
const QUIC: usize = 5;
const OUT4: [usize; 2] = [7, 6];
const IN4: usize = 8;

/// Short, so that a run sees many ticks.
const TICK_MS: u32 = 2000;
/// How long a NAT remembers a connection that is silent.
const NAT_FORGETS_SECONDS: u32 = 5;
/// What each host sends, so that the machine has room for all of it.
const HOST_MBIT_S: u32 = 20;
const HTTP_BYTES: usize = 1_000_000;
const QUIC_PORT: u16 = 4433;
const READY: Duration = Duration::from_secs(30);

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// Flips, kills, the HTTP transfers, and notes.
    pub counts: Counts,
    pub quic: quic::Outcome,
    pub ssh: ssh::Outcome,
    /// Segments that NATs called invalid: the more of those counted and those logged, for each.
    pub conntrack_invalid: u64,
    pub conntrack_log: String,
    /// Agents' counters, summed.
    pub handshakes: u64,
    pub re_syns: u64,
    pub packets_sent: u64,
    pub packets_received: u64,
    pub agents: usize,
    /// Whether every agent has the open address that it began with.
    pub addresses_kept: bool,
    /// What the router sent from each place, and from the third party last, to each POP.
    pub carried: Sent,
    /// Bytes per bucket, by kind.
    pub series: [Vec<u64>; KINDS.len()],
    pub drops: String,
    /// What agents refused and lost.
    pub refused: String,
}

impl Outcome {
    /// Payload per second of a kind while the script ran.
    pub fn mbit_s(&self, kind: usize, length: Duration) -> f64 {
        let within = usize::try_from(length.as_millis() / BUCKET.as_millis()).unwrap_or(usize::MAX);
        let bytes: u64 = self.series[kind].iter().take(within).sum();
        bytes as f64 * 8.0 / 1e6 / length.as_secs_f64()
    }
}

/// The lab with its agents, all ready. (Agents stop before their lab.)
struct Net {
    agents: Vec<Agent>,
    addresses: Vec<Ipv6Addr>,
    lab: TunnelLab,
}

impl Net {
    fn build() -> Result<Self> {
        let timeouts =
            vec![("established", NAT_FORGETS_SECONDS), ("unacknowledged", NAT_FORGETS_SECONDS)];
        let site = Site { timeouts, ..Site::default() };
        let mut lab = TunnelLab::builder()
            .open()
            .pops(super::POPS)
            .sites(vec![site; 2])
            .tick_ms(TICK_MS)
            .clock_offsets_ms(&[0, TICK_MS.into(), 0])
            .build()?;
        let open = "[open]\ndevice = \"open0\"\nroutes = [\"::/0\"]\n";
        let builders = [lab.agent(0)?.run(open)?, lab.agent(1)?.run(open)?];
        // The POPs learn of the new agents.
        lab.reload()?;
        let mut agents = Vec::new();
        for builder in builders {
            agents.push(builder.start()?);
        }
        for agent in &mut agents {
            agent.wait_until("open", READY, |status| status["open"]["state"] == "up")?;
        }
        let addresses = agents.iter().map(Agent::open_address).collect::<Result<_>>()?;
        let net = Self { agents, addresses, lab };
        for host in [&net.host(0), &net.host(1), &net.third()?] {
            link::limit_rate((host, "net0"), HOST_MBIT_S)?;
            // An application that sends is told at once when nothing goes out, as it is a stall's
            // measure.
            host.sysctl("net.ipv4.tcp_notsent_lowat", "65536")?;
        }
        Ok(net)
    }

    fn host(&self, agent: usize) -> Arc<Namespace> {
        self.lab.site(agent).host.clone()
    }

    fn third(&self) -> Result<Arc<Namespace>> {
        let missing = || LabError::Unexpected("the lab has no third party".into());
        self.lab.topology.third.clone().ok_or_else(missing)
    }

    /// The sum of a counter over all agents.
    fn counter(&self, name: &str) -> Result<u64> {
        self.agents.iter().map(|agent| agent.counter(name)).sum()
    }

    fn addresses_now(&self) -> Result<Vec<Ipv6Addr>> {
        self.agents.iter().map(Agent::open_address).collect()
    }
}

/// Builds the lab, runs the script on it, and takes it down.
///
/// # Errors
/// If the lab fails; broken traffic is no error but part of the outcome.
pub fn run(script: &Script) -> Result<Outcome> {
    eprintln!("open: starting");
    let mut net = Net::build()?;
    let (third, hosts) = (net.third()?, [net.host(0), net.host(1)]);
    let arrivals = Arrivals::count(&net.lab.topology)?;
    let nginx = Nginx::start(&third, net.lab.work())?;
    // The same files, and the same place for uploads.
    let _twin = nginx.twin(&hosts[0])?;
    let _nat64 = Nat64::start(&net.lab, &net.addresses)?;
    let sshd = SshServer::start(&hosts[0], net.lab.work())?;
    let large = Body::new(1, HTTP_BYTES).write_to(&nginx.files().join("large"))?;
    let identity = Identity::make()?;
    let record = Arc::new(Record::start(script.length, KINDS.len()));
    let at = |ip: Ipv6Addr| format!("[{ip}]:{TARGET_PORT}");
    let transfers = |client: &Arc<Namespace>, server: String, kinds| Transfers {
        client: client.clone(),
        server,
        record: record.clone(),
        kinds,
        uploads: nginx.uploads(),
        logs: net.lab.work().to_owned(),
        large,
        bytes: HTTP_BYTES,
    };
    let out = transfers(&hosts[0], at(THIRD), OUT);
    let inward = transfers(&third, at(net.addresses[0]), IN);
    let across = transfers(&hosts[1], at(net.addresses[0]), [ACROSS; 2]);
    let out4 = transfers(&hosts[1], at(nat64::third_by_nat64()), OUT4);
    let in4 = transfers(&third, format!("{}:{TARGET_PORT}", nat64::inward(0)), [IN4; 2]);
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), QUIC_PORT);
    let quic_server = serve(&hosts[1], any, &identity, {
        let record = record.clone();
        move || record.time_left().is_zero()
    })?;
    let quic_client = third.thread({
        let (record, at) = (record.clone(), SocketAddr::new(net.addresses[1].into(), QUIC_PORT));
        move || quic::move_bodies(at, &identity, &record, QUIC)
    })?;

    let mut driver = Driver::new(&mut net.lab, &record, &arrivals);
    let shell = net.addresses[0].to_string();
    let (followed, moved, talked) = std::thread::scope(|scope| {
        let (down, up) = (Direction::Down, Direction::Up);
        let all = [
            (&out, down),
            (&out, up),
            (&inward, down),
            (&inward, up),
            (&across, down),
            (&out4, down),
            (&out4, up),
            (&in4, down),
        ];
        let talking = scope.spawn(|| ssh::talk(&sshd, &third, &shell, &record));
        let threads: Vec<_> = (0..)
            .zip(all)
            .map(|(worker, (transfers, direction))| {
                scope.spawn(move || transfers.keep_moving(direction, worker))
            })
            .collect();
        scope.spawn(|| show_progress("open", &record, script.length));
        let followed = driver.follow(script);
        let moved: Result<()> =
            threads.into_iter().try_for_each(|thread| thread.join().map_err(died)?);
        (followed, moved, talking.join().map_err(died))
    });
    followed.and(moved)?;
    let ssh = talked??;
    let quic = quic_client.join().map_err(died)???;
    quic_server.join().map_err(died)???;
    let invalid = net.lab.invalid()?;
    Ok(Outcome {
        quic,
        ssh,
        conntrack_invalid: invalid.iter().map(|(counted, logged)| counted.max(logged)).sum(),
        conntrack_log: net.lab.topology.sites.iter().map(|site| site.nat.log_text()).collect(),
        handshakes: net.counter("handshakes")?,
        re_syns: net.counter("re_syns")?,
        packets_sent: net.counter("open_packets_sent")?,
        packets_received: net.counter("open_packets_received")?,
        agents: net.agents.len(),
        addresses_kept: net.addresses_now()? == net.addresses,
        carried: arrivals.read()?,
        series: std::array::from_fn(|kind| record.series(kind)),
        drops: net.lab.drops_text(),
        refused: net.agents.iter().map(refused).collect::<Result<_>>()?,
        counts: record.counts(),
    })
}

/// What the agent refused and lost, by name.
fn refused(agent: &Agent) -> Result<String> {
    let status = agent.status()?;
    let counters = status["counters"].as_object().into_iter().flatten();
    let counters = counters.filter(|(name, _)| name.starts_with("refused_"));
    let others = [&status["outer"], &status["open"]["lost"]];
    let others = others.into_iter().flat_map(|group| group.as_object().into_iter().flatten());
    let counts = counters.chain(others).filter(|(_, count)| count.as_u64() > Some(0));
    let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    Ok(format!("{}: {}\n", agent.name(), counts.join(", ")))
}

fn died<T>(_: T) -> LabError {
    LabError::Unexpected("a traffic thread died".into())
}
