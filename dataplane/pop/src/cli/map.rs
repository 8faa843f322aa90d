//! `map`: the stateless mapping on the command line, in both directions.
//!
//! Forward it answers "who is this client at the target", backward "which client is behind this
//! address, port and tag", as for an abuse report; of tunnels it tells what a token holds and which
//! numbers an agent's are. What does not decode ends with the name of the drop reason and exit code
//! 1, just as the POP would drop it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use anyrelay_core::config::{Destination, Egress, Endpoint, Service, Snapshot};
use anyrelay_core::relay::permutation::{Case, Client, DecodeError, Mapped, WalkError};
use anyrelay_core::tunnel::PublicToken;
use anyrelay_core::verdict::DropReason;
use clap::Args;
use serde::Serialize;

use super::map_tunnel::{self, Moment, Question};
use super::{Failure, print_json, say};
use crate::control::load;
use crate::worker::unix_now;

/// The arguments of `map`: a client, what a target saw, a token, or an agent.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct MapArguments {
    /// The POP's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A client, to be shown as its target sees it.
    #[arg(long, value_name = "IP:PORT")]
    client: Option<SocketAddrV4>,
    /// The service that the client or agent connects to; without it, all.
    #[arg(long, value_name = "NAME", conflicts_with = "egress")]
    service: Option<String>,
    /// Whether the client's segments carry timestamps (0) or not (1); without it, both.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1), conflicts_with_all = ["egress", "token", "agent"])]
    case: Option<u8>,
    /// The address and port that a target saw, to be turned into the client.
    #[arg(
        long,
        value_name = "IP:PORT",
        conflicts_with = "client",
        requires = "tag",
        requires = "target"
    )]
    egress: Option<SocketAddrV4>,
    /// The timestamp (TSval) that the target saw.
    #[arg(long, value_name = "N", requires = "egress")]
    tag: Option<u32>,
    /// The target.
    #[arg(long, value_name = "IP:PORT", requires = "egress")]
    target: Option<SocketAddrV4>,
    /// An agent's token, to be shown with what it holds and its agent's numbers.
    #[arg(long, conflicts_with_all = ["client", "egress"])]
    token: Option<PublicToken>,
    /// An agent's address as POPs see it, to be shown with its numbers.
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["client", "egress", "token"])]
    agent: Option<SocketAddr>,
    /// The tick of the numbers; without it, the present one.
    #[arg(long, value_name = "N", conflicts_with_all = ["client", "egress"])]
    tick: Option<u64>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the answer: a client of a service and what stands for it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Mapping {
    service: String,
    vip: String,
    mode: &'static str,
    /// Absent in transparent mode, as the tag is.
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<u8>,
    client: String,
    egress: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<u32>,
    target: String,
}

/// Why there is no answer: what the POP would drop a segment for.
#[derive(Debug, Serialize)]
struct Drop {
    drop: &'static str,
    text: &'static str,
}

#[derive(Serialize)]
struct Mappings {
    mappings: Vec<Mapping>,
}

#[derive(Serialize)]
struct Tunnels {
    tunnels: Vec<map_tunnel::Answer>,
}

/// Answers the question in `arguments`.
pub(super) fn map(arguments: &MapArguments) -> Result<(), Failure> {
    let snapshot = load(&arguments.config, None)?;
    let question = arguments.token.map(Question::Token);
    if let Some(question) = question.or(arguments.agent.map(Question::Agent)) {
        return map_tunnel(&snapshot, question, arguments);
    }
    let answer = match (arguments.client, arguments.egress, arguments.tag, arguments.target) {
        (Some(client), ..) => {
            let services = wanted(&snapshot, arguments)?;
            let cases = arguments.case.map_or(vec![0, 1], |case| vec![case]);
            forward(&snapshot, &services, endpoint(client), &cases)
        }
        (None, Some(egress), Some(tag), Some(target)) => {
            backward(&snapshot, endpoint(egress), tag, endpoint(target)).map(|found| vec![found])
        }
        // clap asks for one or the other.
        _ => {
            return Err(Failure::Config(
                "give --client, or --egress, --tag and --target, or --token, or --agent".into(),
            ));
        }
    };
    tell(answer, arguments.json)
}

fn tell(answer: Result<Vec<Mapping>, DropReason>, json: bool) -> Result<(), Failure> {
    match answer {
        Ok(mappings) if json => print_json(&Mappings { mappings }),
        Ok(mappings) => mappings.iter().try_for_each(|mapping| say(line(mapping))),
        Err(reason) => tell_drop(reason, json),
    }
}

fn tell_drop(reason: DropReason, json: bool) -> Result<(), Failure> {
    let drop = Drop { drop: reason.label(), text: reason.text() };
    if json {
        print_json(&drop)?;
    } else {
        say(format_args!("drop {}: {}", drop.drop, drop.text))?;
    }
    Err(Failure::Told)
}

/// Answers a question about a tunnel.
fn map_tunnel(
    snapshot: &Snapshot,
    question: Question,
    arguments: &MapArguments,
) -> Result<(), Failure> {
    let now = unix_now(snapshot.config.pop.clock_offset_ms);
    let moment = Moment { now, tick: arguments.tick };
    match map_tunnel::answer(snapshot, arguments.service.as_deref(), question, moment)? {
        Ok(tunnels) if arguments.json => print_json(&Tunnels { tunnels }),
        Ok(tunnels) => tunnels.iter().flat_map(map_tunnel::Answer::lines).try_for_each(say),
        Err(reason) => tell_drop(reason, arguments.json),
    }
}

fn line(mapping: &Mapping) -> String {
    let Mapping { service, vip, mode, case, client, egress, tag, target } = mapping;
    let head = format!("service {service} vip {vip} {mode}");
    match (case, tag) {
        (Some(case), Some(tag)) => {
            format!("{head} case {case} client {client} egress {egress} tag {tag} target {target}")
        }
        _ => format!("{head} client {client} egress {egress} (the client itself) target {target}"),
    }
}

/// The services asked for: the one named, or all.
fn wanted<'a>(
    snapshot: &'a Snapshot,
    arguments: &MapArguments,
) -> Result<Vec<&'a Service>, Failure> {
    let Some(name) = &arguments.service else { return Ok(snapshot.services.iter().collect()) };
    match snapshot.services.iter().find(|service| service.name == *name) {
        Some(service) => Ok(vec![service]),
        None => {
            let names: Vec<_> = snapshot.services.iter().map(|other| other.name.as_str()).collect();
            let (file, names) = (&snapshot.config.file, names.join(", "));
            Err(Failure::Config(format!("{file}: relay: no service {name}; there are: {names}")))
        }
    }
}

/// What stands for `client` at the target of each of `services`.
fn forward(
    snapshot: &Snapshot,
    services: &[&Service],
    client: Endpoint,
    cases: &[u8],
) -> Result<Vec<Mapping>, DropReason> {
    if !snapshot.client_ok(client.ip) {
        return Err(DropReason::SourceNotAllowed);
    }
    let mut mappings = Vec::new();
    for service in services {
        let Egress::Pool { pool, permutation, .. } = &service.egress else {
            let ends = Ends { client, egress: client, target: target(service, client) };
            mappings.push(mapping(service, None, ends));
            continue;
        };
        for case in cases.iter().map(|&number| to_case(number)) {
            let asked = [Client { case, ip: client.ip, port: client.port }];
            let mut answer = [Err(WalkError)];
            permutation.forward(&asked, &mut answer);
            let [Ok(mapped)] = answer else { return Err(DropReason::Walk) };
            let egress = Endpoint { ip: pool.address(mapped.index), port: mapped.port };
            let ends = Ends { client, egress, target: target(service, client) };
            mappings.push(mapping(service, Some((case, mapped.tag)), ends));
        }
    }
    Ok(mappings)
}

/// The client behind what a target saw.
fn backward(
    snapshot: &Snapshot,
    egress: Endpoint,
    tag: u32,
    target: Endpoint,
) -> Result<Mapping, DropReason> {
    let Destination::Pool(place) = snapshot.classify(egress.ip) else {
        return Err(DropReason::NotOurs);
    };
    let index = snapshot.service_from_pool(place, target.ip, target.port);
    let service = index.and_then(|index| snapshot.service(index));
    let Some((service, Egress::Pool { pool, permutation, .. })) =
        service.map(|service| (service, &service.egress))
    else {
        return Err(DropReason::UnknownTarget);
    };
    let asked = [Mapped { tag, port: egress.port, index: pool.index(egress.ip) }];
    let mut answer = [Err(DecodeError::BadTag)];
    permutation.inverse(&asked, &mut answer);
    let [found] = answer;
    let found = found.map_err(|error| match error {
        DecodeError::BadTag => DropReason::BadTag,
        DecodeError::Walk => DropReason::Walk,
    })?;
    if !snapshot.client_ok(found.ip) {
        return Err(DropReason::BadTag);
    }
    let client = Endpoint { ip: found.ip, port: found.port };
    Ok(mapping(service, Some((found.case, tag)), Ends { client, egress, target }))
}

/// Where a mapping's addresses are.
struct Ends {
    client: Endpoint,
    egress: Endpoint,
    target: Endpoint,
}

fn mapping(service: &Service, tagged: Option<(Case, u32)>, ends: Ends) -> Mapping {
    Mapping {
        service: service.name.clone(),
        vip: service.vip.to_string(),
        mode: if tagged.is_some() { "pool" } else { "transparent" },
        case: tagged.map(|(case, _)| case as u8),
        client: ends.client.to_string(),
        egress: ends.egress.to_string(),
        tag: tagged.map(|(_, tag)| tag),
        target: ends.target.to_string(),
    }
}

/// The target that the service chooses for a client.
fn target(service: &Service, client: Endpoint) -> Endpoint {
    let mut choice = [0];
    service.rendezvous.choose(&[client], &mut choice);
    let [index] = choice;
    service.targets().get(usize::from(index)).copied().unwrap_or_default()
}

fn to_case(number: u8) -> Case {
    if number == 0 { Case::WithTimestamps } else { Case::WithoutTimestamps }
}

fn endpoint(address: SocketAddrV4) -> Endpoint {
    Endpoint { ip: Ipv4Addr::to_bits(*address.ip()), port: address.port() }
}
