//! Checks of one target: what a relay in each egress mode needs of it, seen from this host.
//!
//! A probe sends the target's application not one byte, and leaves no connection behind. With both
//! tunnels and n tries ([`Patience`]) it sends at most 5 n + 20 packets, and takes at most 4 n + 17
//! timeouts, and those of others that try GUE before it. It needs CAP_NET_RAW; without it, the
//! kernel's TCP tells what it can, and the findings say so. It touches no port of a POP.
//!
//! [`probe`] looks, [`judge`] says which modes fit what was seen, [`explain`] says it in words.

mod connection;
mod explain;
mod findings;
mod judge;
mod mss;
mod path;
mod plain;
mod route;
mod segment;
mod sockets;
mod tunnel;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyrelay_core::config::Encapsulate;
use anyrelay_core::net::Family;
use anyrelay_core::wire::icmp_error::{IcmpError, Unreachable};
use anyrelay_core::wire::{icmp, icmpv6};

pub use explain::{Check, explain};
pub use findings::{Echo, Echoes, Findings, Opening, Options, Path, Reset, Tunnel, TunnelAnswer};
pub use judge::{Fit, Mode, Verdict, judge, recommended};

use connection::Connection;
use route::Route;
use segment::Quoted;

/// How long the probe waits for answers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For each answer.
    pub timeout: Duration,
    /// How often a segment is sent that is not answered.
    pub tries: u32,
}

/// What to probe besides the target itself.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long to wait.
    pub patience: Patience,
    /// The longest datagram that a relay sends to the target, in bytes; without it, one with a
    /// segment of the MSS that the target announces.
    pub longest: Option<u16>,
    /// The VIP inside tunnels; without it none is tried.
    pub vip: Option<SocketAddr>,
    /// The outer source of tunnels; without it, this host's address.
    pub from: Option<IpAddr>,
    /// The tunnels to try.
    pub protocols: Vec<Encapsulate>,
}

/// Probes `target`.
pub fn probe(target: SocketAddr, plan: &Plan) -> Findings {
    let mut findings = Findings::new(target);
    let own = match Route::to(target.ip()) {
        Ok(route) => {
            findings.from = Some(route.own);
            look(&mut findings, route, plan);
            route.own
        }
        Err(error) => {
            let reason = error.to_string();
            findings.limited = Some(reason.clone());
            findings.opening = Opening::Unreachable { reason };
            target.ip()
        }
    };
    if let Some(vip) = plan.vip {
        let ends = (plan.from.unwrap_or(own), target.ip());
        let tunnels = plan.protocols.iter().map(|&protocol| match findings.limited.clone() {
            None => tunnel::try_one(protocol, ends, vip, plan.patience),
            Some(reason) => {
                let answer = TunnelAnswer::Untried { reason };
                Tunnel { protocol, vip, from: ends.0, deaf: None, answer }
            }
        });
        findings.tunnels = tunnels.collect();
    }
    findings
}

/// Looks at the target's own address, by raw sockets if they are allowed.
fn look(findings: &mut Findings, route: Route, plan: &Plan) {
    let (target, patience) = (findings.target, plan.patience);
    let longest = plan.longest.unwrap_or(u16::MAX);
    match Connection::prepare(route.own, target, patience) {
        Ok(mut connection) => {
            if let Err(error) = by_raw_sockets(findings, &mut connection, [route.link_mtu, longest])
            {
                // The network went away meanwhile: what was seen stays seen.
                findings.limited = Some(error.to_string());
            }
        }
        Err(error) => {
            findings.limited = Some(match error.kind() {
                io::ErrorKind::PermissionDenied => findings::NO_CAPABILITY.to_owned(),
                _ => error.to_string(),
            });
            findings.opening = plain::open(target, patience.timeout * patience.tries);
        }
    }
}

fn by_raw_sockets(
    findings: &mut Findings,
    connection: &mut Connection,
    mtus: [u16; 2],
) -> io::Result<()> {
    (findings.opening, findings.echoes.syn_ack, findings.reset) = connection.open()?;
    let Some(&options) = findings.options() else { return Ok(()) };
    let seen = while_open(findings, connection, options.mss, mtus);
    // Whatever came, nothing stays at the target.
    let reset = connection.end()?;
    if findings.reset == Reset::Unseen {
        findings.reset = reset;
    }
    seen
}

/// Looks at what a connection shows while it lasts. The path is searched up to datagrams
/// of `mss`, and `longest`.
fn while_open(
    findings: &mut Findings,
    connection: &mut Connection,
    mss: Option<u16>,
    [link, longest]: [u16; 2],
) -> io::Result<()> {
    (findings.echoes.later, findings.reset) = connection.later()?;
    if matches!(findings.echoes.later, Echo::Reset | Echo::Silent) {
        return Ok(());
    }
    let flow = connection.flow();
    let announced = mss.unwrap_or_else(|| mss_unsaid(flow.family()));
    let announced = announced.saturating_add(flow.headers_len() as u16);
    let passes = |len| connection.passes(len);
    findings.path = Some(path::search(flow.family(), announced.min(longest), link, passes)?);
    Ok(())
}

/// An ICMP error in words.
fn words(quoted: &Quoted) -> String {
    let [kind, code] = quoted.code;
    let (family, is_protocol) = match quoted.src {
        IpAddr::V4(_) => ("ICMP", (kind, code) == (icmp::UNREACHABLE, 2)),
        IpAddr::V6(_) => ("ICMPv6", (kind, code) == (icmpv6::PARAMETER_PROBLEM, 1)),
    };
    let meaning = match quoted.error {
        _ if is_protocol => ": protocol unreachable",
        Some(IcmpError::TooBig(_)) => ": too big",
        Some(IcmpError::Unreachable(Unreachable::Port)) => ": port unreachable",
        Some(IcmpError::Unreachable(Unreachable::Prohibited)) => ": prohibited",
        Some(IcmpError::Unreachable(Unreachable::Host)) => ": host unreachable",
        Some(IcmpError::TimeExceeded | IcmpError::ReassemblyTimeExceeded) => ": time exceeded",
        None => "",
    };
    format!("{family} type {kind}, code {code}{meaning}")
}

/// The MSS of a SYN-ACK that has none (RFC 9293, section 3.7.1).
const fn mss_unsaid(family: Family) -> u16 {
    match family {
        Family::V4 => 536,
        Family::V6 => 1220,
    }
}

/// Most tries that a probe makes of one segment.
pub const TRIES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mss_that_is_not_announced_is_what_every_host_takes() {
        assert_eq!([Family::V4, Family::V6].map(mss_unsaid), [576 - 40, 1280 - 60]);
    }
}
