//! `map` for relays: the egress endpoint and target of a client, and the client of an egress
//! endpoint. It uses the same mapping as the packet path.

use std::net::SocketAddr;

use anyrelay_core::net::{Address, IpEndpoint, Protocol};
use anyrelay_core::relay::Relay;
use anyrelay_core::relay::mapping::{EgressSide, Mapping, Tag};
use anyrelay_core::relay::targets::Candidates;
use anyrelay_core::snapshot::{Destination, Snapshot, Tabled};
use anyrelay_core::time::UnixTime;
use anyrelay_core::verdict::DropReason;
use serde::Serialize;

use super::Failure;

/// One line of the answer: a client of a service and its egress endpoint.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    service: String,
    vip: String,
    /// What is relayed.
    protocol: &'static str,
    mode: &'static str,
    client: String,
    egress: String,
    /// The TSval of the client's segments at the target, in pool mode. That of a SYN without
    /// timestamps is one less.
    #[serde(skip_serializing_if = "Option::is_none")]
    tsval: Option<u32>,
    /// The target of new connections; of an egress endpoint, the given one.
    target: String,
    /// Where segments of connections may have to go that began before, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
}

impl Line {
    fn new(relay: &Relay, mapping: &Mapping, candidates: Candidates) -> Self {
        let candidates = candidates.iter().filter_map(|index| relay.targets.at(index));
        let mut candidates: Vec<_> = candidates.map(ToString::to_string).collect();
        if candidates == [mapping.target.to_string()] {
            candidates.clear();
        }
        Line {
            candidates,
            service: relay.name.clone(),
            vip: relay.vip.to_string(),
            protocol: relay.protocols.name(),
            mode: relay.mode.name(),
            client: mapping.client.to_string(),
            egress: mapping.egress.to_string(),
            tsval: mapping.tag.map(Tag::timestamp),
            target: mapping.target.to_string(),
        }
    }

    /// The answer as text.
    pub(super) fn text(&self) -> String {
        let Line { service, vip, protocol, mode, client, egress, tsval, target, candidates } = self;
        let protocol = match *protocol {
            "tcp" => String::new(),
            other => format!(" {other}"),
        };
        let mut tail = match tsval {
            Some(tsval) => format!(" tsval {tsval} target {target}"),
            None if client == egress => format!(" (the client itself) target {target}"),
            None => format!(" target {target}"),
        };
        if !candidates.is_empty() {
            tail += &format!(" candidates {}", candidates.join(" "));
        }
        format!(
            "service {service} vip {vip}{protocol} {mode} client {client} egress {egress}{tail}"
        )
    }
}

/// The requested services: the named one, or all that `client` can connect to.
fn wanted<'a>(
    snapshot: &'a Snapshot,
    name: Option<&str>,
    client: SocketAddr,
) -> Result<Vec<&'a Relay>, Failure> {
    let same_family = |relay: &&Relay| relay.vip.ip().is_ipv6() == client.is_ipv6();
    let Some(name) = name else {
        return Ok(snapshot.relays().filter(same_family).collect());
    };
    let file = &snapshot.config.file;
    let Some(relay) = snapshot.relays().find(|relay| relay.name == name) else {
        let names: Vec<_> = snapshot.relays().map(|relay| relay.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::Config(format!(
            "{file}: relay: no service {name}; there are: {names}"
        )));
    };
    if !same_family(&relay) {
        let vip = relay.vip;
        return Err(Failure::Config(format!(
            "{file}: relay: {client} cannot be a client of {name}, whose VIP is {vip}; give a \
             client \
             of its family"
        )));
    }
    Ok(vec![relay])
}

/// The mappings of `client` at `time` at the service `name`, or at each.
pub(super) fn forward(
    snapshot: &Snapshot,
    name: Option<&str>,
    client: SocketAddr,
    time: UnixTime,
) -> Result<Result<Vec<Line>, DropReason>, Failure> {
    let relays = wanted(snapshot, name, client)?;
    if !snapshot.client_ok(client.ip()) {
        return Ok(Err(DropReason::SourceNotAllowed));
    }
    let client = client.into();
    let line = |relay: &Relay| {
        let candidates = relay.targets.choose(&client, time).candidates;
        Ok(Line::new(relay, &relay.outward(client, time)?, candidates))
    };
    Ok(relays.into_iter().map(line).collect())
}

/// The client of an egress endpoint.
pub(super) fn backward(
    snapshot: &Snapshot,
    egress: SocketAddr,
    tsval: Option<u32>,
    target: SocketAddr,
) -> Result<Result<Line, DropReason>, Failure> {
    let (egress, target) = (IpEndpoint::from(egress), IpEndpoint::from(target));
    let of = |protocol| {
        let found = relay_of::<u32>(snapshot, protocol, egress, target);
        found.or_else(|| relay_of::<u128>(snapshot, protocol, egress, target))
    };
    // Relays of UDP are asked for what none of TCP has.
    let found = match of(Protocol::Tcp) {
        Some(Err(_)) => of(Protocol::Udp),
        found => found,
    };
    let relay = match found.unwrap_or(Err(DropReason::UnknownTarget)) {
        Ok(relay) => relay,
        Err(reason) => return Ok(Err(reason)),
    };
    let reason = match (relay.mode.is_tagged(), tsval) {
        (true, None) => "an egress address of a pool stands for many clients: give its --tsval",
        (false, Some(_)) => "an egress address of a prefix says whose it is: leave out --tsval",
        _ => {
            let side = EgressSide { egress, tag: tsval.map(Tag::of_timestamp) };
            return Ok(line_of(snapshot, relay, side, target));
        }
    };
    Err(Failure::Config(reason.into()))
}

/// The client that `side` stands for at `target`.
fn line_of(
    snapshot: &Snapshot,
    relay: &Relay,
    side: EgressSide,
    target: IpEndpoint,
) -> Result<Line, DropReason> {
    let mapping = relay.inward(side, target)?;
    match snapshot.is_client(&mapping.client) {
        true => Ok(Line::new(relay, &mapping, Candidates::default())),
        false => Err(DropReason::BadTag),
    }
}

/// The relay of `protocol` that `target` sends to `egress` for; `None` if they are not of the
/// family of `A`.
fn relay_of<A: Tabled + Address>(
    snapshot: &Snapshot,
    protocol: Protocol,
    egress: IpEndpoint,
    target: IpEndpoint,
) -> Option<Result<&Relay, DropReason>> {
    let (egress, target) = (egress.of_family::<A>()?, target.of_family::<A>()?);
    let Destination::Pool(pool) = snapshot.classify(egress.ip) else {
        return Some(Err(DropReason::NotOurs));
    };
    let found = snapshot.service_behind(protocol, pool, target.ip, target.port);
    let relay = found.and_then(|found| snapshot.relay(found.service));
    Some(relay.ok_or(DropReason::UnknownTarget))
}
