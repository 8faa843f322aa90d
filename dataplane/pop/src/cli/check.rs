//! `check`: prints all problems and warnings of a config and its keys, one per line; without a
//! problem, the services of the POP.

use std::path::Path;

use anyrelay_core::config::{Config, EgressConfig, Fragments, RelayConfig, WayBack};
use anyrelay_core::fragment::ReassemblyTable;
use anyrelay_core::snapshot::{Snapshot, Tunnel};
use anyrelay_core::time::{UnixTime, format_time};
use anyrelay_core::tunnel::token::Lifetime;

use super::{Failure, check_targets, say};
use crate::control::load;
use crate::ports::FragmentTable;
use crate::worker::unix_now;

/// Checks the config at `path` and the files that it names; says what its targets are `at` a time,
/// or now.
pub(super) fn check(path: &Path, at: Option<UnixTime>) -> Result<(), Failure> {
    let snapshot = load(path, None)?.snapshot;
    for warning in &snapshot.config.warnings {
        eprintln!("{warning} (warning)");
    }
    let (services, tunnels) = (snapshot.config.relays.len(), snapshot.config.tunnels.len());
    let services = counted(services, "service");
    let with_tunnels =
        if tunnels > 0 { format!(", {}", counted(tunnels, "tunnel")) } else { String::new() };
    let (digest, targets) = (snapshot.digest(), snapshot.targets_digest());
    let path = path.display();
    say(format_args!(
        "{path}: ok, {services}{with_tunnels}, digest {digest}, of targets {targets}"
    ))?;
    let now = unix_now(snapshot.config.pop.clock_offset_ms);
    for relay in &snapshot.config.relays {
        let time = at.unwrap_or(now);
        check_targets::lines(relay, time, at.is_some()).into_iter().try_for_each(say)?;
    }
    snapshot.config.relays.iter().filter_map(encapsulated).try_for_each(say)?;
    snapshot.config.relays.iter().filter_map(random_tags).try_for_each(say)?;
    snapshot.tunnels().map(tunnel).try_for_each(say)?;
    fragments(&snapshot.config).into_iter().try_for_each(say)?;
    token_epochs(&snapshot, now).into_iter().try_for_each(say)
}

/// What a relay's tunnel to its targets takes of each datagram, and what targets must know of it.
fn encapsulated(relay: &RelayConfig) -> Option<String> {
    let tunnel = relay.egress.encapsulation()?;
    let (name, egress, overhead, mss) = (&relay.name, relay.egress, tunnel.overhead(), relay.mss);
    let then = match tunnel.way_back {
        WayBack::Through => format!("SYNs of both sides offer an MSS of {mss} or less"),
        WayBack::Direct => {
            let fits = usize::from(mss).saturating_sub(overhead);
            format!("targets must offer an MSS of {fits} or less (advmss), as no POP sees them")
        }
    };
    Some(format!("relay {name}: egress {egress} adds {overhead} bytes; {then}"))
}

/// How many tags that somebody makes up stand for a client, behind an IPv6 pool.
fn random_tags(relay: &RelayConfig) -> Option<String> {
    let EgressConfig::Pool6(pool) = relay.egress else { return None };
    let (name, egress, odds) = (&relay.name, relay.egress, pool.random_tags());
    Some(format!(
        "relay {name}: of random tags behind the {egress}, 1 in {odds} stands for a client"
    ))
}

fn tunnel(tunnel: &Tunnel) -> String {
    let Tunnel { name, service, .. } = tunnel;
    let vips = [&service.vip4, &service.vip6].into_iter().flatten();
    let vips: Vec<_> = vips.map(|vip| vip.addr.to_string()).collect();
    let tenants = counted(service.tenants.len(), "tenant");
    let agents = counted(service.agents.count_of(&service.tenants), "agent");
    format!("tunnel {name}: vip {}, {tenants}, {agents}", vips.join(" "))
}

/// The number of things, with their name.
fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// The memory for reassembly, if that is the policy.
fn fragments(config: &Config) -> Option<String> {
    let Fragments::Reassemble(limits) = &config.pop.fragments else { return None };
    let workers = config.workers.iter().filter(|worker| !worker.rx.is_empty()).count();
    let table = FragmentTable::memory(limits).div_ceil(1024);
    let process = ReassemblyTable::memory(limits).div_ceil(1024);
    let (buffers, mbufs) = (limits.buffers, config.dpdk.mbufs);
    Some(format!(
        "fragments: for each of {workers} workers {table} KiB of dpdk.memory_mb, {process} KiB of \
         the process, and up to {buffers} of the {mbufs} frame buffers"
    ))
}

fn token_epochs(snapshot: &Snapshot, now: UnixTime) -> Vec<String> {
    let Some(keys) = snapshot.token_keys() else { return Vec::new() };
    let current = keys.current_epoch(now);
    let line = |Lifetime { epoch, current_from, accepted_before }| {
        let state = match (current == Some(epoch), accepted_before) {
            (true, None) => "current".to_owned(),
            (true, Some(end)) => format!("current, accepted until {}", format_time(end)),
            (false, None) => format!("accepted, current from {} on", format_time(current_from)),
            (false, Some(end)) if end <= now => format!("ended {}", format_time(end)),
            (false, Some(end)) => format!("accepted until {}", format_time(end)),
        };
        format!("token epoch {epoch}: {state}")
    };
    keys.lifetimes().map(line).collect()
}
