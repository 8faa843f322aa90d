//! Checks that VIPs, pools, prefixes, targets and own addresses do not overlap.
//!
//! An address must have one meaning, so that the POP can classify frames, and a segment of a target
//! must belong to one relay.

use std::net::{IpAddr, SocketAddr};

use super::super::{Encapsulation, PortConfig, Protocols, RelayConfig, TunnelConfig};
use super::report::{Report, UNREAD};
use crate::net::{Address, IpNet, is_link_local6};

pub(super) fn check(
    report: &mut Report,
    ports: &[PortConfig],
    relays: &[RelayConfig],
    tunnels: &[TunnelConfig],
) {
    own_addresses(report, ports);
    let vips = vips(relays, tunnels);
    vips_differ(report, &vips);
    for (index, relay) in relays.iter().enumerate() {
        let earlier = relays.get(..index).unwrap_or_default();
        for (first, other) in earlier.iter().enumerate() {
            pair(report, first, other, index, relay);
        }
        targets_are_apart(report, index, relay, relays);
    }
    for vip in &vips {
        vip_is_apart(report, vip, relays);
    }
    let reserved = ["network address of the link", "broadcast address of the link"];
    own_is_not_served::<u32>(report, ports, relays, &vips, &reserved);
    let reserved = ["address of all routers on the link"];
    own_is_not_served::<u128>(report, ports, relays, &vips, &reserved);
    egress_is_routed(report, ports, relays);
    vips_are_routed(report, ports, &vips);
    targets_are_on_their_side(report, ports, relays);
}

/// A VIP of a relay or a tunnel, and the key that names it.
struct NamedVip {
    key: String,
    at: SocketAddr,
    protocols: Protocols,
}

/// All VIPs, those of IPv4 first, without those that could not be read.
fn vips(relays: &[RelayConfig], tunnels: &[TunnelConfig]) -> Vec<NamedVip> {
    let relays = relays.iter().enumerate();
    let relays = relays.map(|(i, relay)| (format!("relay[{i}].vip"), relay.vip, relay.protocols));
    let tunnels = tunnels.iter().enumerate().flat_map(|(i, tunnel)| {
        let vip4 = tunnel.vip4.map(|vip| (format!("tunnel[{i}].vip4"), SocketAddr::V4(vip)));
        let vip6 = tunnel.vip6.map(|vip| (format!("tunnel[{i}].vip6"), SocketAddr::V6(vip)));
        [vip4, vip6].into_iter().flatten().map(|(key, at)| (key, at, Protocols::Tcp))
    });
    let named = |(key, at, protocols)| NamedVip { key, at, protocols };
    let vips = relays.chain(tunnels).map(named);
    let mut vips: Vec<_> = vips.filter(|vip| vip.at != UNREAD).collect();
    vips.sort_by_key(|vip| vip.at.is_ipv6());
    vips
}

/// No two services of one protocol have the same address and port.
fn vips_differ(report: &mut Report, vips: &[NamedVip]) {
    for (place, vip) in vips.iter().enumerate() {
        let is_same = |other: &&NamedVip| other.at == vip.at && other.protocols.meet(vip.protocols);
        let earlier = vips.iter().take(place).find(is_same);
        if let Some((owner, _)) = earlier.and_then(|other| other.key.split_once('.')) {
            report.error(
                vip.key.clone(),
                format!("{owner} is at {} already; use another address or port", vip.at),
            );
        }
    }
}

fn own_addresses(report: &mut Report, ports: &[PortConfig]) {
    let mut seen: Vec<(IpAddr, usize)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        for (place, net) in port.addresses.iter().enumerate() {
            let ip = net.ip();
            // A link-local address is valid on its own link only (RFC 4007, section 6).
            let own_link = u128::of(ip).is_some_and(is_link_local6);
            let same = |(other, at): &&(IpAddr, usize)| *other == ip && (!own_link || *at == index);
            if let Some((_, first)) = seen.iter().find(same) {
                report.error(
                    format!("port[{index}].addresses[{place}]"),
                    format!("port[{first}] has {ip} already"),
                );
            }
            seen.push((ip, index));
        }
    }
}

/// Two relays of one protocol must not share targets on one egress, and no two parts of pools or
/// prefixes.
fn pair(report: &mut Report, first: usize, other: &RelayConfig, index: usize, relay: &RelayConfig) {
    let has = |target: &SocketAddr| other.target_addresses().any(|address| address == *target);
    let shared = relay.target_addresses().find(has);
    let shared = shared.filter(|_| other.protocols.meet(relay.protocols));
    let same = other.egress == relay.egress;
    let kind = relay.egress.kind();
    match (other.egress.net(), relay.egress.net(), shared) {
        (Some(a), Some(b), _) if !same && a.overlaps(b) => {
            let tunnels = (other.egress.encapsulation(), relay.egress.encapsulation());
            let reason = match tunnels {
                (Some(there), Some(here)) => tunnels_differ(first, there, here),
                _ if other.egress.kind() == kind => format!(
                    "{b} overlaps {a} of relay[{first}]; use the same {kind} or one apart from it"
                ),
                _ => format!("{b} overlaps {a} of relay[{first}]; use one apart from it"),
            };
            report.error(egress_key(index, relay), reason);
        }
        // Those that answer in a tunnel say by which VIP they do.
        (Some(_), Some(_), Some(target)) if same && relay.egress.encapsulation().is_none() => {
            report.error(
            format!("relay[{index}].targets"),
            format!(
                "relay[{first}] has the target {target} on the {} too, so its answers could not be \
                 told apart; use another {kind}",
                relay.egress
            ),
        );
        }
        (None, None, Some(target)) => {
            let or_else = if target.is_ipv6() { "" } else { " or a pool" };
            report.error(
                format!("relay[{index}].targets"),
                format!(
                    "relay[{first}] is transparent and has the target {target} too, so its answers \
                     could not be told apart; use another target{or_else}"
                ),
            );
        }
        _ => {}
    }
}

/// Why the tunnel `here` cannot have the source of another one, `there` at relay[`first`].
fn tunnels_differ(first: usize, there: &Encapsulation, here: &Encapsulation) -> String {
    let written = |tunnel: &Encapsulation| {
        let Encapsulation { protocol, from, way_back } = tunnel;
        format!("{{ {} = \"{from}\" }} with return = \"{}\"", protocol.name(), way_back.name())
    };
    let same = match (there.protocol == here.protocol, there.way_back == here.way_back) {
        (true, _) => "return",
        (_, true) => "protocol",
        _ => "protocol and return",
    };
    let (there, here) = (written(there), written(here));
    format!(
        "relay[{first}] has {there}, and this is {here}: all tunnels from one address are alike; \
         use the same {same}, or another address"
    )
}

/// Addresses of ports must be neither VIPs, nor targets, nor egress addresses. `reserved` names the
/// reserved addresses of a link.
fn own_is_not_served<A: Address>(
    report: &mut Report,
    ports: &[PortConfig],
    relays: &[RelayConfig],
    vips: &[NamedVip],
    reserved: &[&'static str],
) {
    for (port_index, port) in ports.iter().enumerate() {
        let mut own: Vec<_> = port.nets::<A>().map(|net| (net.address, OWN_ADDRESS)).collect();
        own.extend(port.gateways_of::<A>().map(|(ip, _)| (ip, "gateway")));
        // Reserved addresses of a link are never those of VIPs or clients.
        let on_links = port.nets::<A>().flat_map(|net| net.reserved().zip(reserved));
        own.extend(on_links.map(|(ip, what)| (ip, *what)));
        for (ip, what) in own.into_iter().map(|(ip, what)| (ip.ip(), what)) {
            let mut clashes: Vec<_> =
                vips.iter().filter(|vip| vip.at.ip() == ip).map(|vip| vip.key.clone()).collect();
            for (index, relay) in relays.iter().enumerate() {
                if relay.egress.holds(ip) {
                    clashes.push(egress_key(index, relay));
                } else if what == OWN_ADDRESS && has_target(relay, ip) {
                    clashes.push(format!("relay[{index}].targets"));
                }
            }
            for key in clashes {
                report.error(key, format!("{ip} is the {what} of port[{port_index}]; use another"));
            }
        }
    }
}

fn egress_key(index: usize, relay: &RelayConfig) -> String {
    match relay.egress.net() {
        Some(_) => format!("relay[{index}].egress.{}", relay.egress.kind()),
        None => format!("relay[{index}].egress"),
    }
}

/// Warns of egress addresses within the network of a link: hosts there query the link for them, but
/// the POP answers for those of its ports only. Egress addresses that cover a network hold the
/// port's own address, which is reported as a mistake.
fn egress_is_routed(report: &mut Report, ports: &[PortConfig], relays: &[RelayConfig]) {
    for (index, relay) in relays.iter().enumerate() {
        let Some(first) = relay.egress.net().map(IpNet::ip) else { continue };
        let protocol = if first.is_ipv4() { "ARP" } else { "neighbour discovery" };
        for (port_index, port) in ports.iter().enumerate() {
            let around = |net: &&IpNet| net.contains(first) && !relay.egress.holds(net.ip());
            for net in port.addresses.iter().filter(around) {
                report.warn(
                    egress_key(index, relay),
                    format!(
                        "the {} is in {net} of port[{port_index}]: hosts on that link ask for its \
                         addresses by {protocol}, which the POP does not answer; use one apart \
                         from it, or route it to the POP on every host of the link",
                        relay.egress
                    ),
                );
            }
        }
    }
}

/// Warns of VIPs within the network of a link, as [`egress_is_routed`] does.
fn vips_are_routed(report: &mut Report, ports: &[PortConfig], vips: &[NamedVip]) {
    for NamedVip { key, at, .. } in vips {
        let ip = at.ip();
        let protocol = if ip.is_ipv4() { "ARP" } else { "neighbour discovery" };
        for (port_index, port) in ports.iter().enumerate() {
            // The mistake that it is a port's own address is reported as such.
            let around = |net: &&IpNet| net.contains(ip) && net.ip() != ip;
            for net in port.addresses.iter().filter(around) {
                report.warn(
                    key.clone(),
                    format!(
                        "{ip} is in {net} of port[{port_index}]: hosts and routers on that link \
                         ask for it by {protocol}, which the POP does not answer; use a VIP apart \
                         from the network, or route it to the POP on every host of the link"
                    ),
                );
            }
        }
    }
}

/// Warns of targets on a link that only clients are on: the POP sends to the gateways of the side
/// towards targets, and does not accept a target's answers from a port towards clients.
fn targets_are_on_their_side(report: &mut Report, ports: &[PortConfig], relays: &[RelayConfig]) {
    let net_of = |port: &PortConfig, ip| port.addresses.iter().copied().find(|n| n.contains(ip));
    for (index, relay) in relays.iter().enumerate() {
        for ip in relay.target_addresses().map(|target| target.ip()) {
            let mut of_targets = ports.iter().filter(|port| port.side.takes_targets());
            if of_targets.any(|port| net_of(port, ip).is_some()) {
                continue;
            }
            let mut networks = ports.iter().enumerate();
            let found = networks.find_map(|(at, port)| Some((at, net_of(port, ip)?)));
            if let Some((at, net)) = found {
                report.warn(
                    format!("relay[{index}].targets"),
                    format!(
                        "{ip} is in {net} of port[{at}], which is towards clients alone: the POP \
                         sends to it by a gateway of the other side, and drops what it answers \
                         through this port; use side = \"both\", or a target on the other side"
                    ),
                );
            }
        }
    }
}

/// A target must not be in a pool or a prefix.
fn targets_are_apart(
    report: &mut Report,
    index: usize,
    relay: &RelayConfig,
    relays: &[RelayConfig],
) {
    for (other_index, other) in relays.iter().enumerate() {
        for target in relay.target_addresses().filter(|target| other.egress.holds(target.ip())) {
            let egress = other.egress;
            report.error(
                format!("relay[{index}].targets"),
                format!("{target} is in the {egress} of relay[{other_index}]; use another"),
            );
        }
    }
}

/// A VIP must not be in a pool or a prefix, nor be a target.
fn vip_is_apart(report: &mut Report, vip: &NamedVip, relays: &[RelayConfig]) {
    let ip = vip.at.ip();
    for (other_index, other) in relays.iter().enumerate() {
        if other.egress.holds(ip) {
            let egress = other.egress;
            report.error(
                vip.key.clone(),
                format!("{ip} is in the {egress} of relay[{other_index}]; use another"),
            );
        }
        if has_target(other, ip) {
            report.error(
                vip.key.clone(),
                format!("{ip} is a target of relay[{other_index}]; a VIP cannot be one"),
            );
        }
    }
}

fn has_target(relay: &RelayConfig, ip: IpAddr) -> bool {
    relay.target_addresses().any(|target| target.ip() == ip)
}

const OWN_ADDRESS: &str = "own address";
