//! Checks a config file, and reports every mistake with its key, reason and remedy.
//!
//! A wrong value is replaced by a harmless one and the checks go on, so that one run reports all
//! mistakes. Nothing that is derived from a replaced value leaves this module.

mod clients;
mod egress;
mod files;
mod fragments;
mod hints;
mod neighbours;
mod open;
mod overlaps;
mod ports;
mod relays;
mod report;
mod targets;
mod tunnels;
mod workers;

use std::net::SocketAddr;

use self::report::{Report, repeated};
use super::parse;
use super::raw::{RawClock, RawConfig, RawIdle, RawInstructions, RawLayoutKind};
use super::{ClockTrust, Config, DpdkConfig, Idle, Isa, Layout, LimitsConfig, PopConfig};
use crate::net::MAX_SERVICES;
use crate::problem::Problems;

pub use files::{NamedFile, TargetsFiles};

impl Config {
    /// Reads and checks the text of the file called `file`, which names no targets files.
    ///
    /// # Errors
    /// All mistakes or, where the text is not TOML of the right form, the first.
    pub fn parse(file: &str, text: &str) -> Result<Config, Problems> {
        let none = |_: &str| Err("targets files are not read here; use relay.targets".to_owned());
        Config::parse_with(file, text, &none)
    }

    /// Reads and checks the text of the file called `file`, and of the targets files that it names.
    ///
    /// # Errors
    /// All mistakes or, where a text is not TOML of the right form, the first in it.
    pub fn parse_with(
        file: &str,
        text: &str,
        files: &TargetsFiles<'_>,
    ) -> Result<Config, Problems> {
        let raw = parse::parse(file, text)?;
        let mut report = Report { file, problems: Vec::new(), warnings: Vec::new() };
        let mut config = check(&mut report, &raw, files);
        config.warnings = report.warnings;
        if report.problems.is_empty() { Ok(config) } else { Err(Problems(report.problems)) }
    }
}

fn check(report: &mut Report, raw: &RawConfig, files: &TargetsFiles<'_>) -> Config {
    let ports = ports::ports(report, raw);
    let workers = workers::workers(report, raw, &ports);
    let relays = relays::relays(report, raw, &ports, files);
    let tunnels = tunnels::tunnels(report, raw, &ports);
    names(report, raw);
    if !ports.is_empty() {
        ports::gateway_families(report, &ports, &relays, &tunnels);
        ports::widths(report, &ports, &relays);
    }
    overlaps::check(report, &ports, &relays, &tunnels);
    open::overlaps(report, &ports, &relays, &tunnels);
    let layout = match raw.layout.kind {
        RawLayoutKind::RunToCompletion => Layout::RunToCompletion,
        RawLayoutKind::Pipeline => Layout::Pipeline,
    };
    if layout == Layout::Pipeline && workers.len() == 1 {
        report.warn(
            "layout.kind",
            "a pipeline with one worker is run to completion with a queue more; add a worker or \
             use \"run-to-completion\"",
        );
    }
    Config {
        file: report.file.to_owned(),
        pop: pop(report, raw),
        dpdk: dpdk(report, raw),
        ports,
        workers,
        layout,
        idle: match raw.layout.idle {
            RawIdle::Spin => Idle::Spin,
            RawIdle::Backoff => Idle::Backoff,
        },
        instructions: match raw.layout.instructions {
            RawInstructions::Auto => None,
            RawInstructions::Baseline => Some(Isa::Baseline),
            RawInstructions::Avx2 => Some(Isa::Avx2),
            RawInstructions::Avx2Vaes => Some(Isa::Avx2Vaes),
            RawInstructions::Avx512 => Some(Isa::Avx512),
        },
        limits: limits(report, raw),
        neighbours: neighbours::neighbours(report, &raw.neighbours),
        relays,
        tunnels,
        metrics_listen: metrics_listen(report, raw),
        hints: hints::hints(report, raw.hints.as_ref()),
        warnings: Vec::new(),
    }
}

/// Relays and tunnels are counted together and have different names.
fn names(report: &mut Report, raw: &RawConfig) {
    let relays =
        raw.relay.iter().enumerate().map(|(i, relay)| (format!("relay[{i}]"), &relay.name));
    let tunnels =
        raw.tunnel.iter().enumerate().map(|(i, tunnel)| (format!("tunnel[{i}]"), &tunnel.name));
    let (keys, names): (Vec<_>, Vec<_>) = relays.chain(tunnels).unzip();
    for (first, second) in repeated(&names) {
        if let (Some(first), Some(second)) = (keys.get(first), keys.get(second)) {
            report.error(
                format!("{second}.name"),
                format!("{first} has this name too; give each service its own"),
            );
        }
    }
    let key = if raw.tunnel.is_empty() { "relay" } else { "tunnel" };
    report.at_most(key, "services", names.len(), MAX_SERVICES);
    if names.is_empty() {
        report.warn(
            "relay",
            "there is no service, neither [[relay]] nor [[tunnel]]; nothing will be forwarded",
        );
    }
}

fn pop(report: &mut Report, raw: &RawConfig) -> PopConfig {
    let pop = &raw.pop;
    let fragments = fragments::policy(report, raw);
    let not_clients = clients::not_clients(report, &pop.not_clients);
    report.name("pop.name", &pop.name);
    if pop.keys.is_empty() {
        report.error("pop.keys", "empty; name the key file, as `anyrelay keygen` writes it");
    }
    if pop.tenants.as_ref().is_some_and(String::is_empty) {
        report.error("pop.tenants", "empty; name the tenants file, or leave the key out");
    }
    PopConfig {
        name: pop.name.clone(),
        id: report.number("pop.id", pop.id, 0, 255).unwrap_or_default(),
        keys: pop.keys.clone(),
        tenants: pop.tenants.clone(),
        clock: match pop.clock {
            RawClock::Kernel => ClockTrust::Kernel,
            RawClock::Trusted => ClockTrust::Trusted,
        },
        clock_offset_ms: report
            .number("pop.clock_offset_ms", pop.clock_offset_ms, -CLOCK_OFFSET_MAX, CLOCK_OFFSET_MAX)
            .unwrap_or_default(),
        private_clients: pop.private_clients,
        gateway_clients: pop.gateway_clients,
        not_clients,
        open_secrets: pop.open_secrets,
        drain_seconds: report
            .number("pop.drain_seconds", pop.drain_seconds, 0, 3600)
            .unwrap_or_default(),
        fragments,
    }
}

fn dpdk(report: &mut Report, raw: &RawConfig) -> DpdkConfig {
    let dpdk = &raw.dpdk;
    for (index, arg) in dpdk.args.iter().enumerate() {
        if arg.is_empty() || arg.contains('\0') {
            report.error(
                format!("dpdk.args[{index}]"),
                "an EAL argument must not be empty or hold a NUL; remove it",
            );
        }
    }
    DpdkConfig {
        hugepages: dpdk.hugepages,
        memory_mb: report.number("dpdk.memory_mb", dpdk.memory_mb, 32, 1 << 20).unwrap_or_default(),
        mbufs: report.number("dpdk.mbufs", dpdk.mbufs, 1024, 1 << 24).unwrap_or_default(),
        args: dpdk.args.clone(),
    }
}

fn limits(report: &mut Report, raw: &RawConfig) -> LimitsConfig {
    let limits = &raw.limits;
    let mut at_least = |low, key: &str, value| {
        report.number(&format!("limits.{key}"), value, low, 1_000_000_000).unwrap_or_default()
    };
    // With a rate of 0 no agent could connect.
    let syn_ack_per_second = at_least(1, "syn_ack_per_second", limits.syn_ack_per_second);
    let keepalive_mac_per_second =
        at_least(1, "keepalive_mac_per_second", limits.keepalive_mac_per_second);
    // With a rate of 0 no client could connect.
    let syn_per_prefix_per_second =
        at_least(1, "syn_per_prefix_per_second", limits.syn_per_prefix_per_second);
    let syn_per_service_per_second =
        at_least(1, "syn_per_service_per_second", limits.syn_per_service_per_second);
    // With a rate of 0 no client on a link could be reached.
    let neighbour_per_second = at_least(1, "neighbour_per_second", limits.neighbour_per_second);
    // With a rate of 0 no packet would pass.
    let open_per_agent_per_second =
        at_least(1, "open_per_agent_per_second", limits.open_per_agent_per_second);
    let open_per_service_per_second =
        at_least(1, "open_per_service_per_second", limits.open_per_service_per_second);
    let mut rate = |key: &str, value| at_least(0, key, value);
    LimitsConfig {
        rst_per_second: rate("rst_per_second", limits.rst_per_second),
        echo_per_second: rate("echo_per_second", limits.echo_per_second),
        icmp_per_second: rate("icmp_per_second", limits.icmp_per_second),
        icmp_forward_per_second: rate("icmp_forward_per_second", limits.icmp_forward_per_second),
        neighbour_per_second,
        syn_ack_per_second,
        keepalive_mac_per_second,
        syn_per_prefix_per_second,
        syn_per_service_per_second,
        open_per_agent_per_second,
        open_per_service_per_second,
        remembered_answers: report
            .number("limits.remembered_answers", limits.remembered_answers, 1, 1 << 24)
            .unwrap_or_default(),
        remembered_syns: report
            .number("limits.remembered_syns", limits.remembered_syns, 1, 1 << 24)
            .unwrap_or_default(),
    }
}

fn metrics_listen(report: &mut Report, raw: &RawConfig) -> Option<SocketAddr> {
    let text = raw.metrics.listen.as_ref()?;
    let Ok(listen) = text.parse::<SocketAddr>() else {
        report.error(
            "metrics.listen",
            format!("{text:?} is not IP:PORT; write it as \"127.0.0.1:9100\" or \"[::1]:9100\""),
        );
        return None;
    };
    if !listen.ip().to_canonical().is_loopback() {
        report.warn(
            "metrics.listen",
            format!(
                "{listen} is not local to this host, and whoever reaches it can read the metrics: \
                 use 127.0.0.1 or [::1], or see that a firewall admits nobody but the monitoring"
            ),
        );
    }
    Some(listen)
}

/// A day, in milliseconds.
const CLOCK_OFFSET_MAX: i64 = 86_400_000;
