//! The lab of the tunnels' demo: two places behind strict NATs, three POPs, and in each place one
//! agent for each kind of traffic, so that each has a tunnel of its own.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyrelay_lab::tunnel::agent::agent_binary;
use anyrelay_lab::tunnel::{Agent, AgentBuilder, Site, TunnelLab};
use anyrelay_lab::{LabError, Result, command};
use serde_json::Value;

/// The places: where servers are, and where clients are.
pub const SERVING: usize = 0;
pub const CONNECTING: usize = 1;
/// Inner address of the server, by the TUN devices.
pub const INNER_SERVER: &str = "10.9.0.1";

const INNER_CLIENT: &str = "10.9.0.2";
/// How many POPs.
const POPS: usize = super::POPS;
/// Short, so that a run sees many ticks.
const TICK_MS: u32 = 2000;
/// How long a NAT remembers a connection that is silent.
const NAT_FORGETS_SECONDS: u32 = 5;
/// So that the machine has room for all kinds of traffic.
const INNER_TCP_MBIT_S: u32 = 5;
const READY: Duration = Duration::from_secs(30);

/// Two agents that speak to each other.
pub struct Pair {
    pub serving: Agent,
    pub connecting: Agent,
}

/// The lab with its agents, all ready. (Agents stop before their lab.)
pub struct Net {
    pub stream: Pair,
    pub quic: Pair,
    pub idle: Pair,
    pub tun: Pair,
    pub lab: TunnelLab,
}

impl Net {
    pub fn build() -> Result<Self> {
        let timeouts =
            vec![("established", NAT_FORGETS_SECONDS), ("unacknowledged", NAT_FORGETS_SECONDS)];
        let site = Site { timeouts, ..Site::default() };
        let mut lab = TunnelLab::builder()
            .pops(POPS)
            .sites(vec![site; 2])
            .tick_ms(TICK_MS)
            .clock_offsets_ms(&[0, TICK_MS.into(), 0])
            .build()?;
        let issue = |name: &str| {
            let serving = lab.issue(SERVING, &format!("{name}-serving"))?;
            Ok((serving, lab.issue(CONNECTING, &format!("{name}-connecting"))?))
        };
        let [stream, quic, idle, tun] = ["stream", "quic", "idle", "tun"].map(issue);
        let (stream, quic, idle, tun) = (stream?, quic?, idle?, tun?);
        // The POPs learn of the new agents.
        lab.reload()?;
        let mut net = Self {
            stream: start_udp(stream, STREAM)?,
            quic: start_udp(quic, QUIC)?,
            idle: start_udp(idle, IDLE)?,
            tun: start_tun(&lab, tun)?,
            lab,
        };
        net.wait_ready()?;
        for site in [SERVING, CONNECTING] {
            limit_inner_tcp(&net.lab, site)?;
        }
        // An application that sends is told at once when nothing goes out, as it is a stall's
        // measure.
        net.lab.site(CONNECTING).host.sysctl("net.ipv4.tcp_notsent_lowat", "65536")?;
        Ok(net)
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        let pairs = [&self.stream, &self.quic, &self.idle, &self.tun];
        pairs.into_iter().flat_map(|pair| [&pair.serving, &pair.connecting])
    }

    /// The sum of a counter over all agents.
    pub fn counter(&self, name: &str) -> Result<u64> {
        self.agents().map(|agent| agent.counter(name)).sum()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let knows =
            |status: &Value| status["state"] == "ready" && !status["peers"][0]["token"].is_null();
        for pair in [&mut self.stream, &mut self.quic, &mut self.idle, &mut self.tun] {
            pair.serving.wait_ready(READY)?;
            pair.connecting.wait_until("ready, with a peer", READY, knows)?;
        }
        let start = Instant::now();
        let host = &self.lab.site(CONNECTING).host;
        while command::run(host.command("ping").args(["-c1", "-W1", INNER_SERVER])).is_err() {
            if start.elapsed() > READY {
                return Err(LabError::NotReady {
                    what: "a ping through the TUN devices".to_owned(),
                    waited: start.elapsed(),
                    detail: format!(
                        "{:#}\n{}",
                        self.tun.connecting.status()?,
                        self.lab.drops_text()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Limits the TCP that a place sends into its TUN device, with a queue of about 80 ms; other
/// datagrams there do not wait behind it.
fn limit_inner_tcp(lab: &TunnelLab, site: usize) -> Result<()> {
    let rate = format!("{INNER_TCP_MBIT_S}mbit");
    let lines = [
        "qdisc add dev tunnel0 root handle 1: htb default 2".to_owned(),
        format!("class add dev tunnel0 parent 1: classid 1:1 htb rate {rate} burst 16kb"),
        "class add dev tunnel0 parent 1: classid 1:2 htb rate 1gbit".to_owned(),
        "qdisc add dev tunnel0 parent 1:1 pfifo limit 40".to_owned(),
        "filter add dev tunnel0 parent 1: protocol ip u32 match ip protocol 6 0xff flowid 1:1"
            .to_owned(),
    ];
    let mut tc = lab.site(site).host.command("tc");
    command::run_with_input(tc.args(["-batch", "-"]), &(lines.join("\n") + "\n")).map(drop)
}

/// Ports of a pair that forwards UDP, on the loopback of each place.
#[derive(Clone, Copy)]
pub struct Ports {
    listen: u16,
    target: u16,
}

impl Ports {
    /// Where clients send to, in the connecting place.
    pub fn listen(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listen))
    }

    /// Where the server is, in the serving place.
    pub fn target(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.target))
    }
}

/// The pairs that forward UDP.
pub const STREAM: Ports = Ports { listen: 6000, target: 7000 };
pub const QUIC: Ports = Ports { listen: 6001, target: 7001 };
pub const IDLE: Ports = Ports { listen: 6002, target: 7002 };

fn start_udp((serving, connecting): (AgentBuilder, AgentBuilder), ports: Ports) -> Result<Pair> {
    let token = serving.token_file();
    let serving = serving.serve(ports.target()).start()?;
    Ok(Pair { serving, connecting: connecting.connect(ports.listen(), &token).start()? })
}

/// The client knows where the server is; the server learns from it where the client is.
fn start_tun(lab: &TunnelLab, pair: (AgentBuilder, AgentBuilder)) -> Result<Pair> {
    let (serving, connecting) = pair;
    let keys = [&serving, &connecting].map(|agent| -> Result<_> {
        let path = lab.work().join(format!("{}.tun.key", agent.name()));
        let public = command::run(Command::new(agent_binary()?).arg("keygen").arg(&path))?;
        Ok((path, public.trim().to_owned()))
    });
    let [server, client] = keys;
    let ((server_key, server_public), (client_key, client_public)) = (server?, client?);
    let at = format!("at = \"file:{}\"\n", serving.token_file().display());
    let sections = |address, key, public, peer, at: &str| {
        format!(
            "[tun]\nname = \"tunnel0\"\naddresses = [\"{address}/24\"]\nprivate_key = {key:?}\n\
             [[peer]]\nname = \"peer\"\npublic_key = \"{public}\"\nallowed = [\"{peer}/32\"]\n{at}"
        )
    };
    let of_server = sections(INNER_SERVER, server_key, client_public, INNER_CLIENT, "");
    let of_client = sections(INNER_CLIENT, client_key, server_public, INNER_SERVER, &at);
    Ok(Pair {
        serving: serving.run(&of_server)?.start()?,
        connecting: connecting.run(&of_client)?.start()?,
    })
}
