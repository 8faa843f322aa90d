//! `probe`: checks what targets allow, and recommends an egress mode for each.
//!
//! Exit code 0 if a mode fits each target, or the named one does; 1 if not.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyrelay_core::config::{EgressConfig, Encapsulate, RelayConfig, WayBack};
use anyrelay_core::net::Family;
use anyrelay_core::wire::tcp;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Failure, print_json, say};
use crate::control::load_offline;
use crate::probe::{
    Check, Findings, Fit, Mode, Patience, Plan, TRIES_MAX, Verdict, explain, judge, probe,
    recommended,
};

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
    json: bool,
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
struct Wanted {
    mode: &'static str,
    way_back: Option<WayBack>,
}

/// A target to probe.
#[derive(Debug)]
struct Job {
    service: Option<String>,
    target: SocketAddr,
    plan: Plan,
    /// The families of clients that matter.
    clients: Vec<Family>,
    wanted: Option<Wanted>,
}

/// What was found at a target, and what follows.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    findings: Findings,
    checks: Vec<Check>,
    modes: Vec<Verdict>,
    recommended: Recommended,
    /// Whether a mode fits, or the one that must.
    fits: bool,
    #[serde(skip)]
    wanted: Option<Wanted>,
}

/// The mode for clients of each family; none where that family does not matter.
#[derive(Debug, Default, Serialize)]
struct Recommended {
    ipv4: Option<Mode>,
    ipv6: Option<Mode>,
}

#[derive(Serialize)]
struct Reports {
    targets: Vec<Report>,
}

/// Probes the targets and prints what fits.
pub(super) fn run(arguments: &ProbeArguments) -> Result<(), Failure> {
    let jobs = match &arguments.config {
        Some(config) => of_config(config, arguments)?,
        None => of_targets(arguments)?,
    };
    let mut reports = Vec::with_capacity(jobs.len());
    for jobs in jobs.chunks(AT_ONCE) {
        reports.extend(std::thread::scope(|scope| {
            let threads: Vec<_> = jobs.iter().map(|job| scope.spawn(|| report(job))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
        }));
    }
    let all_fit = reports.len() == jobs.len() && reports.iter().all(|report| report.fits);
    if arguments.json {
        print_json(&Reports { targets: reports })?;
    } else {
        reports.iter().flat_map(Report::lines).try_for_each(say)?;
    }
    if all_fit { Ok(()) } else { Err(Failure::Printed) }
}

fn of_targets(arguments: &ProbeArguments) -> Result<Vec<Job>, Failure> {
    let usage = |text: String| Failure::Config(text);
    let mode = arguments.mode;
    if mode.is_some_and(|mode| !mode.protocols().is_empty()) && arguments.vip.is_none() {
        return Err(usage("give the --vip of the tunnel".into()));
    }
    let mut jobs: Vec<Job> = Vec::new();
    for text in &arguments.targets {
        let found = text.to_socket_addrs().map_err(|error| {
            usage(format!("{text}: no target, write ADDRESS:PORT or NAME:PORT: {error}"))
        })?;
        for target in found {
            if arguments.from.is_some_and(|from| from.is_ipv4() != target.is_ipv4()) {
                return Err(usage(format!("{target}: --from must be of its family")));
            }
            if jobs.iter().any(|job| job.target == target) {
                continue;
            }
            let way_back = arguments.way_back.map(|way| match way {
                NamedWay::Through => WayBack::Through,
                NamedWay::Direct => WayBack::Direct,
            });
            let protocols = mode.map_or(&ALL[..], NamedMode::protocols).to_vec();
            let (vip, from, patience) = (arguments.vip, arguments.from, patience(arguments));
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

fn report(job: &Job) -> Report {
    let findings = probe(job.target, &job.plan);
    let modes = judge(&findings);
    let best = |clients| {
        let matters = job.clients.contains(&clients);
        let found = recommended(&modes, clients).filter(|_| matters);
        found.map(|verdict| verdict.mode)
    };
    let recommended = Recommended { ipv4: best(Family::V4), ipv6: best(Family::V6) };
    let fits = match &job.wanted {
        None => recommended.ipv4.or(recommended.ipv6).is_some(),
        Some(wanted) => modes.iter().any(|verdict| {
            wanted.is(verdict) && job.clients.contains(&verdict.clients) && verdict.fit == Fit::Fits
        }),
    };
    let (service, wanted) = (job.service.clone(), job.wanted.clone());
    let checks = explain(&findings);
    Report { service, findings, checks, modes, recommended, fits, wanted }
}

impl Wanted {
    fn is(&self, verdict: &Verdict) -> bool {
        let is_way = self.way_back.is_none() || self.way_back == verdict.mode.way_back();
        self.mode == verdict.mode.name() && is_way
    }
}

impl Report {
    /// The report for people.
    fn lines(&self) -> Vec<String> {
        let target = self.findings.target;
        let from = self.findings.from.map_or(String::new(), |from| format!(" from {from}"));
        let service =
            self.service.as_ref().map_or(String::new(), |name| format!("service {name} "));
        let mut lines = vec![format!("{service}target {target}{from}")];
        for Check { check, result, means, to_do } in &self.checks {
            lines.push(format!("  {check:<CHECK$} {result:<RESULT$} {means}"));
            lines.extend(to_do.iter().map(|text| format!("  {:<CHECK$} do: {text}", "")));
        }
        for Verdict { mode, clients, fit, reason, .. } in &self.modes {
            let mode = format!("{mode}, {} clients", name(*clients));
            lines.push(format!("  mode {mode:<MODE$} {:<FIT$} {reason}", fit.text()));
        }
        match &self.wanted {
            Some(wanted) => lines.push(self.wanted_line(wanted)),
            None => lines.extend(self.recommended_lines()),
        }
        lines.push(String::new());
        lines
    }

    fn recommended_lines(&self) -> Vec<String> {
        let best = [(Family::V4, self.recommended.ipv4), (Family::V6, self.recommended.ipv6)];
        let mut lines = Vec::new();
        for (clients, mode) in best {
            let of_clients = self.modes.iter().filter(|verdict| verdict.clients == clients);
            let is_best = |verdict: &&Verdict| Some(verdict.mode) == mode;
            let Some(verdict) = of_clients.clone().find(is_best) else { continue };
            let (mode, clients) = (verdict.mode, name(clients));
            let also = verdict.also;
            lines
                .push(format!("  recommended for {clients} clients: {mode}, if {also} (not seen)"));
            let mut before = of_clients.take_while(|before| before.mode != mode);
            if let Some(before) = before.find(|before| before.fit == Fit::Unseen) {
                let Verdict { mode, reason, .. } = before;
                lines.push(format!("  {mode} would come first, but: {reason}"));
            }
        }
        if lines.is_empty() {
            lines.push("  recommended: none, as no mode fits what was seen".to_owned());
        }
        lines
    }

    fn wanted_line(&self, wanted: &Wanted) -> String {
        let mode = match wanted.way_back {
            Some(way_back) => format!("{} {}", wanted.mode, way_back.name()),
            None => wanted.mode.to_owned(),
        };
        let named = self.modes.iter().filter(|verdict| wanted.is(verdict));
        let of = |fit| named.clone().find(|verdict| verdict.fit == fit);
        match (of(Fit::Fits).filter(|_| self.fits), of(Fit::Unseen), of(Fit::No)) {
            (Some(verdict), ..) => format!("  {mode} fits, if {} (not seen)", verdict.also),
            (None, Some(verdict), _) => format!("  {mode} was not checked: {}", verdict.reason),
            (None, None, Some(verdict)) => format!("  {mode} does not fit: {}", verdict.reason),
            (None, None, None) => format!("  {mode} does not fit this target and these clients"),
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The tunnels that are tried where no mode is named.
const ALL: [Encapsulate; 2] = [Encapsulate::IpIp, Encapsulate::Gue];
/// Targets that are probed at the same time.
const AT_ONCE: usize = 16;
// Widths of columns.
const CHECK: usize = 14;
const RESULT: usize = 36;
const MODE: usize = 27;
const FIT: usize = 14;
