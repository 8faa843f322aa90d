//! What `probe` is to look at: the targets of its command line, or of a config.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyrelay_core::config::{EgressConfig, Encapsulate, RelayConfig, WayBack};
use anyrelay_core::net::Family;
use anyrelay_core::wire::tcp;
use clap::{Args, ValueEnum};

use super::Failure;
use crate::control::load_offline;
use crate::probe::{Mode, Patience, Plan, TRIES_MAX};

/// The arguments of `probe`: targets, or a config that has them.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct ProbeArguments {
    /// The targets; of a name, all its addresses.
    #[arg(value_name = "TARGET:PORT", required_unless_present = "config")]
    targets: Vec<String>,
    /// A POP's config: check each target of its relays for the relay's mode.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["targets", "mode", "vip", "from"])]
    config: Option<PathBuf>,
    /// The one relay of the config whose targets to check.
    #[arg(long, value_name = "NAME", requires = "config", conflicts_with = "targets")]
    service: Option<String>,
    /// The mode that must fit; without it, any.
    #[arg(long)]
    mode: Option<NamedMode>,
    /// The way of answers that must fit, of ipip and gue; without it, any.
    #[arg(long = "return", value_name = "WAY", requires = "mode")]
    way_back: Option<NamedWay>,
    /// The VIP and port: also try tunnels (ipip and gue) to the targets.
    #[arg(long, value_name = "IP:PORT")]
    vip: Option<SocketAddr>,
    /// The outer source of tunnels, as relay.egress has it; without it, this host's address.
    #[arg(long, value_name = "IP", requires = "vip")]
    from: Option<IpAddr>,
    /// How long to wait for each answer, in milliseconds.
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout_ms: u64,
    /// How often to send what is not answered.
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(TRIES_MAX)))]
    tries: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A mode on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NamedMode {
    Pool,
    Prefix,
    Transparent,
    Ipip,
    Gue,
}

impl NamedMode {
    fn name(self) -> &'static str {
        match self {
            NamedMode::Pool => "pool",
            NamedMode::Prefix => "prefix",
            NamedMode::Transparent => "transparent",
            NamedMode::Ipip => "ipip",
            NamedMode::Gue => "gue",
        }
    }

    fn protocols(self) -> &'static [Encapsulate] {
        match self {
            NamedMode::Ipip => &[Encapsulate::IpIp],
            NamedMode::Gue => &[Encapsulate::Gue],
            _ => &[],
        }
    }
}

/// A way of answers on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NamedWay {
    Through,
    Direct,
}

/// What must fit.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub mode: &'static str,
    pub way_back: Option<WayBack>,
}

/// A target to probe.
#[derive(Debug)]
pub(super) struct Job {
    pub service: Option<String>,
    pub target: SocketAddr,
    pub plan: Plan,
    /// The families of clients that matter.
    pub clients: Vec<Family>,
    pub wanted: Option<Wanted>,
}

impl Wanted {
    /// Whether it is this mode.
    pub fn is(&self, mode: Mode) -> bool {
        let is_way = self.way_back.is_none() || self.way_back == mode.way_back();
        self.mode == mode.name() && is_way
    }
}

/// The targets to probe.
pub(super) fn jobs(arguments: &ProbeArguments) -> Result<Vec<Job>, Failure> {
    match &arguments.config {
        Some(config) => of_config(config, arguments),
        None => of_targets(arguments),
    }
}

fn of_targets(arguments: &ProbeArguments) -> Result<Vec<Job>, Failure> {
    let usage = |text: String| Failure::Config(text);
    let mode = arguments.mode;
    let protocols = mode.map_or(&ALL[..], NamedMode::protocols);
    if mode.is_some() && !protocols.is_empty() && arguments.vip.is_none() {
        return Err(usage("give the --vip of the tunnel".into()));
    }
    if protocols.is_empty() && arguments.way_back.is_some() {
        return Err(usage("--return is of ipip and gue: remove it, or name such a --mode".into()));
    }
    let mut jobs: Vec<Job> = Vec::new();
    for text in &arguments.targets {
        let found = text.to_socket_addrs().map_err(|error| {
            usage(format!("{text}: no target, write ADDRESS:PORT or NAME:PORT: {error}"))
        })?;
        for target in of_family(text, found.collect(), arguments.from).map_err(usage)? {
            if let Some(vip) = arguments.vip
                && !protocols.is_empty()
                && vip.port() != target.port()
            {
                return Err(usage(format!(
                    "{target} has another port than the VIP {vip}, to which clients' segments go \
                     as they are; give one port for both, or another --mode"
                )));
            }
            if jobs.iter().any(|job| job.target == target) {
                continue;
            }
            let way_back = arguments.way_back.map(|way| match way {
                NamedWay::Through => WayBack::Through,
                NamedWay::Direct => WayBack::Direct,
            });
            let (vip, from, patience) = (arguments.vip, arguments.from, patience(arguments));
            let protocols = protocols.to_vec();
            jobs.push(Job {
                service: None,
                target,
                plan: Plan { patience, longest: None, vip, from, protocols },
                clients: vip.map_or(vec![Family::V4, Family::V6], |vip| vec![Family::of(vip.ip())]),
                wanted: mode.map(|mode| Wanted { mode: mode.name(), way_back }),
            });
        }
    }
    Ok(jobs)
}

/// The addresses of the target in `text` that datagrams from `from` can go to.
fn of_family(
    text: &str,
    mut found: Vec<SocketAddr>,
    from: Option<IpAddr>,
) -> Result<Vec<SocketAddr>, String> {
    if let Some(from) = from {
        found.retain(|target| target.is_ipv4() == from.is_ipv4());
        if found.is_empty() {
            return Err(format!("{text} has no address of the family of --from {from}"));
        }
    }
    Ok(found)
}

fn of_config(path: &Path, arguments: &ProbeArguments) -> Result<Vec<Job>, Failure> {
    let snapshot = load_offline(path)?;
    let relays = &snapshot.config.relays;
    let is_wanted =
        |relay: &&RelayConfig| arguments.service.as_ref().is_none_or(|name| relay.name == *name);
    let jobs: Vec<_> = relays
        .iter()
        .filter(is_wanted)
        .flat_map(|relay| relay.target_addresses().map(move |target| (relay, target)))
        .map(|(relay, target)| of_relay(relay, target, patience(arguments)))
        .collect();
    if jobs.is_empty() {
        let names: Vec<_> = relays.iter().map(|relay| relay.name.as_str()).collect();
        let (file, names) = (&snapshot.config.file, names.join(", "));
        return Err(Failure::Config(format!("{file}: relay: no such service; there are: {names}")));
    }
    Ok(jobs)
}

fn of_relay(relay: &RelayConfig, target: SocketAddr, patience: Patience) -> Job {
    let tunnel = match relay.egress {
        EgressConfig::Encapsulated(tunnel) => Some(tunnel),
        _ => None,
    };
    let way_back = tunnel.map(|tunnel| tunnel.way_back);
    Job {
        service: Some(relay.name.clone()),
        target,
        plan: Plan {
            patience,
            longest: Some(longest(relay, target)),
            vip: tunnel.map(|_| relay.vip),
            from: tunnel.map(|tunnel| tunnel.from),
            protocols: tunnel.map(|tunnel| tunnel.protocol).into_iter().collect(),
        },
        clients: vec![Family::of(relay.vip.ip())],
        wanted: Some(Wanted { mode: relay.egress.kind(), way_back }),
    }
}

/// The longest datagram to `target` that carries a segment of the relay's MSS. What a tunnel's
/// target announces by itself (`direct`) no POP sees.
fn longest(relay: &RelayConfig, target: SocketAddr) -> u16 {
    let (inside, around) = match relay.egress.encapsulation() {
        Some(tunnel) if !tunnel.is_through() => return u16::MAX,
        Some(tunnel) => (relay.vip, tunnel.overhead()),
        None => (target, 0),
    };
    let headers = Family::of(inside.ip()).ip_header_len() + tcp::HEADER_LEN + around;
    relay.mss.saturating_add(headers as u16)
}

fn patience(arguments: &ProbeArguments) -> Patience {
    let timeout = Duration::from_millis(arguments.timeout_ms);
    Patience { timeout, tries: arguments.tries }
}

/// The tunnels that are tried where no mode is named.
const ALL: [Encapsulate; 2] = [Encapsulate::IpIp, Encapsulate::Gue];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_another_family_than_the_source_are_left_out() {
        let [v4, v6] = ["192.0.2.1:443", "[2001:db8::1]:443"].map(|text| text.parse().unwrap());
        let of = |found: &[SocketAddr], from: Option<&str>| {
            let from = from.map(|from| from.parse().unwrap());
            of_family("name:443", found.to_vec(), from)
        };
        assert_eq!(of(&[v4, v6], None), Ok(vec![v4, v6]));
        assert_eq!(of(&[v4, v6], Some("100.64.9.1")), Ok(vec![v4]));
        assert_eq!(of(&[v4, v6], Some("2001:db8::9")), Ok(vec![v6]));
        let none = of(&[v6], Some("100.64.9.1")).unwrap_err();
        assert_eq!(none, "name:443 has no address of the family of --from 100.64.9.1");
    }
}
