//! What `map` answers of relay services: who a client is at its target, and who is behind what a
//! target sees.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use anyrelay_core::net::{Endpoint, Endpoint6};
use anyrelay_core::relay::permutation::{
    Client, ClientTimestamps, CycleLimit, DecodeError, Mapped,
};
use anyrelay_core::snapshot::{Destination, Egress, Mode6, Service, Service6, Snapshot};
use anyrelay_core::verdict::DropReason;
use serde::Serialize;

use super::Failure;

/// One line of the answer: a client of a service and what stands for it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mapping {
    service: String,
    vip: String,
    mode: &'static str,
    /// There in pool mode only, as the tag is.
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<u8>,
    client: String,
    egress: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<u32>,
    target: String,
}

impl Mapping {
    /// The answer in words.
    pub(super) fn line(&self) -> String {
        let Mapping { service, vip, mode, case, client, egress, tag, target } = self;
        let head = format!("service {service} vip {vip} {mode}");
        match (case, tag) {
            (Some(case), Some(tag)) => {
                format!(
                    "{head} case {case} client {client} egress {egress} tag {tag} target {target}"
                )
            }
            _ if client == egress => {
                format!(
                    "{head} client {client} egress {egress} (the client itself) target {target}"
                )
            }
            _ => format!("{head} client {client} egress {egress} target {target}"),
        }
    }
}

/// A relay service of either kind.
#[derive(Clone, Copy)]
enum Relay<'a> {
    V4(&'a Service),
    V6(&'a Service6),
}

impl Relay<'_> {
    fn name_and_vip(self) -> (String, SocketAddr) {
        match self {
            Relay::V4(service) => (service.name.clone(), service.vip.into()),
            Relay::V6(service) => (service.name.clone(), service.vip()),
        }
    }
}

/// The services of `snapshot` in the order of its file.
fn relays(snapshot: &Snapshot) -> Vec<Relay<'_>> {
    let find = |name: &str| {
        let named = snapshot.services.iter().find(|service| service.name == name);
        let named6 = || snapshot.services6.iter().find(|service| service.name == name);
        named.map(Relay::V4).or_else(|| named6().map(Relay::V6))
    };
    snapshot.config.relays.iter().filter_map(|service| find(&service.name)).collect()
}

/// The services asked for: the one named, or all that `client` can connect to.
fn wanted<'a>(
    snapshot: &'a Snapshot,
    name: Option<&str>,
    client: SocketAddr,
) -> Result<Vec<Relay<'a>>, Failure> {
    let mut relays = relays(snapshot);
    let same_family = |relay: &Relay<'_>| relay.name_and_vip().1.is_ipv6() == client.is_ipv6();
    let Some(name) = name else {
        relays.retain(same_family);
        return Ok(relays);
    };
    let file = &snapshot.config.file;
    let names: Vec<_> = relays.iter().map(|relay| relay.name_and_vip().0).collect();
    relays.retain(|relay| relay.name_and_vip().0 == name);
    let Some(relay) = relays.first() else {
        let names = names.join(", ");
        return Err(Failure::Config(format!(
            "{file}: relay: no service {name}; there are: {names}"
        )));
    };
    if !same_family(relay) {
        let vip = relay.name_and_vip().1;
        return Err(Failure::Config(format!(
            "{file}: relay: {client} cannot be a client of {name}, whose VIP is {vip}; give a client \
             of its family"
        )));
    }
    Ok(relays)
}

/// What stands for `client` at the target of the service of that `name`, or of each.
pub(super) fn forward(
    snapshot: &Snapshot,
    name: Option<&str>,
    client: SocketAddr,
    cases: &[u8],
) -> Result<Result<Vec<Mapping>, DropReason>, Failure> {
    let relays = wanted(snapshot, name, client)?;
    if !snapshot.client_ok_ip(client.ip()) {
        return Ok(Err(DropReason::SourceNotAllowed));
    }
    let mut mappings = Vec::new();
    for relay in relays {
        let found = match (relay, client) {
            (Relay::V4(service), SocketAddr::V4(client)) => forward4(service, client, cases),
            (Relay::V6(service), client) => Ok(forward6(service, client).into_iter().collect()),
            (Relay::V4(_), SocketAddr::V6(_)) => Ok(Vec::new()),
        };
        match found {
            Ok(found) => mappings.extend(found),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(mappings))
}

fn forward4(
    service: &Service,
    client: SocketAddrV4,
    cases: &[u8],
) -> Result<Vec<Mapping>, DropReason> {
    let at: Endpoint = client.into();
    let target = target(service, at).into();
    let relay = Relay::V4(service);
    let Egress::Pool { pool, permutation, .. } = &service.egress else {
        let ends = Ends { client: at.into(), egress: at.into(), target };
        return Ok(vec![mapping(relay, "transparent", None, ends)]);
    };
    let mut mappings = Vec::new();
    for case in cases.iter().map(|&number| to_case(number)) {
        let asked = [Client { timestamps: case, ip: at.ip, port: at.port }];
        let mut answer = [Err(CycleLimit)];
        permutation.forward(&asked, &mut answer);
        let [Ok(mapped)] = answer else { return Err(DropReason::CycleLimit) };
        let egress = Endpoint { ip: pool.address(mapped.index), port: mapped.port };
        let ends = Ends { client: at.into(), egress: egress.into(), target };
        mappings.push(mapping(relay, "pool", Some((case, mapped.tag)), ends));
    }
    Ok(mappings)
}

/// The answer of a service with IPv6, whose VIP is of the client's family.
fn forward6(service: &Service6, client: SocketAddr) -> Option<Mapping> {
    let (mode, egress, target) = match (&service.mode, client) {
        (Mode6::Prefix { map, .. }, SocketAddr::V4(client)) => {
            let client = Endpoint::from(client);
            let egress = Endpoint { ip: map.address(client.ip), port: client.port };
            ("prefix", SocketAddr::from(egress), service.rendezvous.choose4(client)?)
        }
        (Mode6::Transparent { .. }, SocketAddr::V6(client)) => {
            let client = Endpoint::from(client);
            ("transparent", client.into(), service.rendezvous.choose6(client)?)
        }
        _ => return None,
    };
    Some(mapping(Relay::V6(service), mode, None, Ends { client, egress, target: target.into() }))
}

/// The client behind what a target saw.
pub(super) fn backward(
    snapshot: &Snapshot,
    egress: SocketAddr,
    tag: Option<u32>,
    target: SocketAddr,
) -> Result<Result<Mapping, DropReason>, Failure> {
    Ok(match (egress, tag, target) {
        (SocketAddr::V4(egress), Some(tag), SocketAddr::V4(target)) => {
            backward4(snapshot, egress.into(), tag, target.into())
        }
        (SocketAddr::V6(egress), None, SocketAddr::V6(target)) => {
            backward6(snapshot, egress, target)
        }
        (SocketAddr::V4(_), None, _) => {
            let reason = "an IPv4 egress address stands for many clients: give its --tag";
            return Err(Failure::Config(reason.into()));
        }
        (SocketAddr::V6(_), Some(_), _) => {
            let reason = "an IPv6 egress address says whose it is without a tag: leave out --tag";
            return Err(Failure::Config(reason.into()));
        }
        _ => Err(DropReason::UnknownTarget),
    })
}

fn backward4(
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
        DecodeError::CycleLimit => DropReason::CycleLimit,
    })?;
    if !snapshot.client_ok(found.ip) {
        return Err(DropReason::BadTag);
    }
    let client = Endpoint { ip: found.ip, port: found.port };
    let ends = Ends { client: client.into(), egress: egress.into(), target: target.into() };
    Ok(mapping(Relay::V4(service), "pool", Some((found.timestamps, tag)), ends))
}

fn backward6(
    snapshot: &Snapshot,
    egress: SocketAddrV6,
    target: SocketAddrV6,
) -> Result<Mapping, DropReason> {
    let (from, to) = (Endpoint6::from(egress), Endpoint6::from(target));
    let Destination::Pool(place) = snapshot.classify6(from.ip) else {
        return Err(DropReason::NotOurs);
    };
    let index = snapshot.service_from_prefix(place, to.ip, to.port);
    let service = index.and_then(|index| snapshot.service6(index));
    let Some((service, Mode6::Prefix { map, .. })) =
        service.map(|service| (service, &service.mode))
    else {
        return Err(DropReason::UnknownTarget);
    };
    let client_ok = |ip: &u32| snapshot.client_ok(*ip) && from.port != 0;
    let ip = map.client(from.ip).filter(client_ok).ok_or(DropReason::BadTag)?;
    let client = Endpoint { ip, port: from.port };
    let ends = Ends { client: client.into(), egress: egress.into(), target: target.into() };
    Ok(mapping(Relay::V6(service), "prefix", None, ends))
}

/// Where a mapping's addresses are.
struct Ends {
    client: SocketAddr,
    egress: SocketAddr,
    target: SocketAddr,
}

fn mapping(
    relay: Relay<'_>,
    mode: &'static str,
    tagged: Option<(ClientTimestamps, u32)>,
    ends: Ends,
) -> Mapping {
    let (service, vip) = relay.name_and_vip();
    Mapping {
        service,
        vip: vip.to_string(),
        mode,
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

fn to_case(number: u8) -> ClientTimestamps {
    if number == 0 { ClientTimestamps::Present } else { ClientTimestamps::Absent }
}
