//! What the tests of open tunnels share: agents with open addresses, and kernels' TCP in all
//! directions between them and a host that knows nothing of tunnels.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyrelay_kit::rng::Rng;
use anyrelay_lab::traffic::{Connection, Server};
use anyrelay_lab::tunnel::topology::THIRD;
use anyrelay_lab::tunnel::{Agent, TunnelLab};
use anyrelay_lab::{Namespace, command, link};

use super::tunnel::READY;
use super::{LIMIT, eventually, milliseconds};

/// The port of all servers.
const PORT: u16 = 8080;
/// Of each body.
const BYTES: usize = 300_000;

/// `[open]` of an agent, whose host reaches all of IPv6 by it.
pub const OPEN: &str = "[open]\ndevice = \"open0\"\nroutes = [\"::/0\"]\n";

/// A lab whose agents have open addresses.
pub struct Opened {
    pub agents: Vec<Agent>,
    /// Servers on all agents' hosts, and at the third party last.
    pub servers: Vec<Server>,
    pub lab: TunnelLab,
}

impl Opened {
    /// Agents in all places, ready.
    pub fn start(lab: TunnelLab) -> Self {
        Self::start_with(lab, |_, name| format!("{OPEN}publish = [\"file:{name}.open\"]\n"))
    }

    /// The same, with `[open]` by an agent's number and name.
    pub fn start_with(mut lab: TunnelLab, open: impl Fn(usize, &str) -> String) -> Self {
        let builders: Vec<_> = (0..lab.topology.sites.len())
            .map(|site| {
                let builder = lab.agent(site).unwrap();
                let open = open(site, builder.name());
                builder.run(&open).unwrap()
            })
            .collect();
        lab.reload().unwrap();
        let agents = builders.into_iter().map(|builder| builder.start().unwrap()).collect();
        let hosts = lab.topology.sites.iter().map(|site| &site.host).chain(&lab.topology.third);
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
        let servers = hosts.map(|host| Server::start(host, any).unwrap()).collect();
        let mut opened = Opened { agents, servers, lab };
        opened.wait_ready();
        opened
    }

    pub fn wait_ready(&mut self) {
        for agent in &mut self.agents {
            agent.wait_until("open", READY, |status| status["open"]["state"] == "up").unwrap();
        }
    }

    pub fn address(&self, agent: usize) -> Ipv6Addr {
        self.agents[agent].open_address().unwrap()
    }

    pub fn host(&self, agent: usize) -> &Arc<Namespace> {
        &self.lab.site(agent).host
    }

    pub fn third(&self) -> &Arc<Namespace> {
        self.lab.topology.third.as_ref().unwrap()
    }

    /// The output of `ping` from a host, whether or not it was answered.
    pub fn ping(&self, from: &Namespace, options: &[&str], to: Ipv6Addr) -> String {
        let to = to.to_string();
        let ping = from.command("ping").arg("-6").args(options).arg(to).output().unwrap();
        String::from_utf8_lossy(&[ping.stdout, ping.stderr].concat()).into_owned()
    }

    /// A connection from a host to the server at `to`.
    pub fn connect(&self, from: &Namespace, to: impl Into<IpAddr>) -> Connection {
        self.try_connect(from, to, LIMIT).unwrap()
    }

    /// The same, giving up after `limit`.
    pub fn try_connect(
        &self,
        from: &Namespace,
        to: impl Into<IpAddr>,
        limit: Duration,
    ) -> std::io::Result<Connection> {
        Connection::open(from, SocketAddr::new(to.into(), PORT), limit).unwrap()
    }

    /// Everything that knows of losses, for messages.
    pub fn account(&self) -> String {
        let status = |agent: &Agent| match agent.status() {
            Ok(status) => format!("{}: {status:#}\n{}\n", agent.name(), agent.log()),
            Err(error) => format!("{}: {error}\n", agent.name()),
        };
        let logs = self.lab.topology.sites.iter().map(|site| site.nat.log_text());
        format!(
            "drops of POPs:\n{}agents: {}\nconntrack: {:?}\n{}",
            self.lab.drops_text(),
            self.agents.iter().map(status).collect::<String>(),
            self.lab.invalid(),
            logs.collect::<String>(),
        )
    }

    pub fn assert_nothing_invalid(&self) {
        let invalid = self.lab.invalid().unwrap();
        assert!(invalid.iter().all(|found| *found == (0, 0)), "{invalid:?}\n{}", self.account());
    }
}

/// How many bodies a connection moved, and its longest stall.
type Moved = std::io::Result<(u64, Duration)>;

/// Connections that move body after body until told to stop, one way each.
pub struct Moving {
    stop: Arc<AtomicBool>,
    workers: Vec<(String, JoinHandle<Moved>)>,
}

impl Moving {
    /// Each agent's host downloads and uploads with the third party, both as client and as server,
    /// and with the next agent's host.
    pub fn start(opened: &Opened) -> Self {
        let agents = opened.agents.len();
        let hosts = (0..agents).map(|agent| opened.host(agent)).chain([opened.third()]);
        // Less than the machine carries, so that what is measured is the network.
        hosts.for_each(|host| link::limit_rate((host, "net0"), 30).unwrap());
        let mut moving = Moving { stop: Arc::default(), workers: Vec::new() };
        for agent in 0..agents {
            let (host, own) = (opened.host(agent), opened.address(agent));
            let next = (agent + 1) % agents;
            for is_down in [true, false] {
                let mut add = |name: &str, from: &Namespace, to| {
                    let way = if is_down { "downloads" } else { "uploads" };
                    let name = format!("{name} {way}, agent {agent}");
                    moving.add(name, opened.connect(from, to), is_down);
                };
                add("its host", host, THIRD);
                add("the third party", opened.third(), own);
                if next != agent {
                    add("to the next one", host, opened.address(next));
                }
            }
        }
        moving
    }

    fn add(&mut self, name: String, mut connection: Connection, is_down: bool) {
        let stop = self.stop.clone();
        let work = move || {
            let mut bodies = 0;
            while !stop.load(Ordering::Relaxed) {
                bodies += 1;
                match is_down {
                    true => connection.download(bodies, BYTES)?,
                    false => connection.upload(bodies, BYTES)?,
                }
            }
            Ok((bodies, connection.longest_stall))
        };
        self.workers.push((name, std::thread::spawn(work)));
    }

    /// Waits for all to come to the end of their last body: none broke. Gives how many bodies were
    /// moved, and the longest stall.
    pub fn finish(self, opened: &Opened) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut longest, mut broken) = (0, Duration::ZERO, Vec::new());
        for (name, worker) in self.workers {
            match worker.join().unwrap() {
                Ok((bodies, stall)) => {
                    assert!(bodies > 0, "{name}: nothing was moved");
                    (all, longest) = (all + bodies, longest.max(stall));
                }
                Err(error) => broken.push(format!("{name}: {error}")),
            }
        }
        assert!(broken.is_empty(), "{broken:?}\n{}", opened.account());
        println!("{all} bodies of {BYTES} bytes, longest stall {longest:?}, none broken");
        (all, longest)
    }
}

/// Routes that flip, and POPs that are killed, while connections live.
pub struct Trouble {
    rng: Rng,
    pub flips: u64,
    pub kills: u64,
}

impl Trouble {
    pub fn new(seed: u64) -> Self {
        Trouble { rng: Rng(seed), flips: 0, kills: 0 }
    }

    /// Goes on for `length`. Each route moves to any of the POPs that live every `interval`; with
    /// `kills`, a POP dies every 3 s, and routes lead to it for 300 ms more.
    pub fn run(&mut self, lab: &mut TunnelLab, length: Duration, interval: Duration, kills: bool) {
        let start = Instant::now();
        let mut kill_at = milliseconds(1000);
        while start.elapsed() < length {
            if kills && start.elapsed() >= kill_at && Self::alive(lab).len() == lab.pops.len() {
                kill_at = start.elapsed() + Duration::from_secs(3);
                self.kill(lab);
            }
            self.flip(lab);
            std::thread::sleep(interval);
        }
    }

    fn alive(lab: &mut TunnelLab) -> Vec<usize> {
        (0..lab.pops.len()).filter(|pop| lab.pops[*pop].is_ready()).collect()
    }

    fn flip(&mut self, lab: &mut TunnelLab) {
        let alive = Self::alive(lab);
        for agent in 0..lab.topology.sites.len() {
            lab.routes.to(agent, self.rng.pick(&alive)).unwrap();
        }
        lab.routes.open_to(self.rng.pick(&alive)).unwrap();
        self.flips += 1 + lab.topology.sites.len() as u64;
    }

    fn kill(&mut self, lab: &mut TunnelLab) {
        let victim = self.rng.below(lab.pops.len() as u64) as usize;
        lab.routes.all_to(victim).unwrap();
        std::thread::sleep(milliseconds(200));
        lab.pops[victim].kill9();
        self.kills += 1;
        std::thread::sleep(milliseconds(300));
        self.flip(lab);
        lab.pops[victim].start().unwrap();
    }
}

/// Waits until a file has this text.
pub fn wait_for_text(path: &std::path::Path, text: &str) {
    eventually(&format!("{} has {text:?}", path.display()), READY, || {
        std::fs::read_to_string(path).is_ok_and(|found| found == text)
    });
}

/// The MTU of a host's path between two addresses, as its kernel knows it.
pub fn path_mtu(host: &Namespace, from: Ipv6Addr, to: Ipv6Addr) -> Option<u32> {
    let (from, to) = (from.to_string(), to.to_string());
    let mut ip = host.command("ip");
    let text = command::run(ip.args(["-6", "route", "get", &to, "from", &from])).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).and_then(|word| word.parse().ok())
}
