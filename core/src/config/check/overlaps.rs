//! What must not meet: VIPs, pools, targets and own addresses.
//!
//! An address has one meaning, or the POP could not tell what a frame is; and what a target sends
//! must lead to one service.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::super::{
    Address, EgressConfig, Endpoint, Pool, PortConfig, ServiceConfig, TunnelConfig, is_link_local6,
};
use super::{Report, dotted};

pub(super) fn check(
    report: &mut Report,
    ports: &[PortConfig],
    services: &[ServiceConfig],
    tunnels: &[TunnelConfig],
) {
    own_addresses(report, ports);
    vips_differ(report, services, tunnels);
    for (index, service) in services.iter().enumerate() {
        let earlier = services.get(..index).unwrap_or_default();
        for (first, other) in earlier.iter().enumerate() {
            pair(report, first, other, index, service);
        }
        targets_are_apart(report, index, service, services);
    }
    for vip in ipv4_vips(services, tunnels) {
        vip_is_apart(report, &vip, services);
    }
    own_is_not_served(report, ports, services, tunnels);
    own_is_no_ipv6_vip(report, ports, tunnels);
}

/// A VIP of either kind of service, and the key that names it.
struct Vip<A> {
    key: String,
    at: A,
}

/// The IPv4 VIPs; one that could not be read has been told of.
fn ipv4_vips(services: &[ServiceConfig], tunnels: &[TunnelConfig]) -> Vec<Vip<Endpoint>> {
    let relays =
        services.iter().enumerate().map(|(i, service)| (format!("relay[{i}].vip"), service.vip));
    let tunnels = tunnels.iter().enumerate().filter_map(|(i, tunnel)| {
        let vip = tunnel.vip4?;
        Some((format!("tunnel[{i}].vip4"), Endpoint { ip: vip.ip().to_bits(), port: vip.port() }))
    });
    let vips = relays.chain(tunnels).map(|(key, at)| Vip { key, at });
    vips.filter(|vip| vip.at != Endpoint::default()).collect()
}

/// The IPv6 VIPs.
fn ipv6_vips(tunnels: &[TunnelConfig]) -> Vec<Vip<SocketAddrV6>> {
    let vips = tunnels
        .iter()
        .enumerate()
        .filter_map(|(i, tunnel)| Some(Vip { key: format!("tunnel[{i}].vip6"), at: tunnel.vip6? }));
    vips.collect()
}

/// No two services are at the same address and port.
fn vips_differ(report: &mut Report, services: &[ServiceConfig], tunnels: &[TunnelConfig]) {
    let ipv4 = ipv4_vips(services, tunnels).into_iter().map(|vip| {
        let at = SocketAddr::from((dotted(vip.at.ip), vip.at.port));
        Vip { key: vip.key, at }
    });
    let ipv6 = ipv6_vips(tunnels).into_iter().map(|Vip { key, at }| Vip { key, at: at.into() });
    let vips: Vec<_> = ipv4.chain(ipv6).collect();
    for (place, vip) in vips.iter().enumerate() {
        let earlier = vips.iter().take(place).find(|other| other.at == vip.at);
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
            // A link-local address says nothing of other links (RFC 4007, section 6).
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

/// What two services must not share.
fn pair(
    report: &mut Report,
    first: usize,
    other: &ServiceConfig,
    index: usize,
    service: &ServiceConfig,
) {
    let shared = service.targets.iter().find(|target| other.targets.contains(target));
    match (other.egress, service.egress, shared) {
        (EgressConfig::Pool(a), EgressConfig::Pool(b), _) if a != b && overlap(a, b) => {
            report.error(
                format!("relay[{index}].egress.pool"),
                format!(
                    "{b} overlaps {a} of relay[{first}]; use the same pool or one apart from it"
                ),
            );
        }
        (EgressConfig::Pool(a), EgressConfig::Pool(b), Some(target)) if a == b => report.error(
            format!("relay[{index}].targets"),
            format!(
                "relay[{first}] has the target {target} on the pool {a} too, so its answers could \
                 not be told apart; use another pool"
            ),
        ),
        (EgressConfig::Transparent, EgressConfig::Transparent, Some(target)) => report.error(
            format!("relay[{index}].targets"),
            format!(
                "relay[{first}] is transparent and has the target {target} too, so its answers \
                 could not be told apart; use another target or a pool"
            ),
        ),
        _ => {}
    }
}

fn overlap(a: Pool, b: Pool) -> bool {
    a.first <= b.last() && b.first <= a.last()
}

fn holds(pool: Pool, ip: u32) -> bool {
    (pool.first..=pool.last()).contains(&ip)
}

/// Addresses of ports must be neither VIPs, nor targets, nor in pools.
fn own_is_not_served(
    report: &mut Report,
    ports: &[PortConfig],
    services: &[ServiceConfig],
    tunnels: &[TunnelConfig],
) {
    ipv6_own_is_no_vip(report, ports, tunnels);
    let vips = ipv4_vips(services, tunnels);
    for (port_index, port) in ports.iter().enumerate() {
        let mut own: Vec<_> = port.nets::<u32>().map(|net| (net.address, "own address")).collect();
        own.extend(port.gateways_of::<u32>().map(|(ip, _)| (ip, "gateway")));
        // What is nobody's on a link is never taken for a VIP's or a client's.
        let reserved = ["network address of the link", "broadcast address of the link"];
        own.extend(port.nets::<u32>().flat_map(|net| net.reserved().zip(reserved)));
        for (ip, what) in own {
            let mut clashes: Vec<_> =
                vips.iter().filter(|vip| vip.at.ip == ip).map(|vip| vip.key.clone()).collect();
            for (index, service) in services.iter().enumerate() {
                if matches!(service.egress, EgressConfig::Pool(pool) if holds(pool, ip)) {
                    clashes.push(format!("relay[{index}].egress.pool"));
                } else if what == "own address" && has_target(service, ip) {
                    clashes.push(format!("relay[{index}].targets"));
                }
            }
            for key in clashes {
                report.error(
                    key,
                    format!("{} is the {what} of port[{port_index}]; use another", dotted(ip)),
                );
            }
        }
    }
}

/// The same for IPv6, where there are only VIPs.
fn ipv6_own_is_no_vip(report: &mut Report, ports: &[PortConfig], tunnels: &[TunnelConfig]) {
    for (port_index, port) in ports.iter().enumerate() {
        let mut own: Vec<_> = port.nets::<u128>().map(|net| (net.address, "own address")).collect();
        own.extend(port.gateways_of::<u128>().map(|(ip, _)| (ip, "gateway")));
        own.extend(
            port.nets::<u128>()
                .flat_map(|net| net.reserved().map(|ip| (ip, "reserved address of the link"))),
        );
        for vip in ipv6_vips(tunnels) {
            for (_, what) in own.iter().filter(|(ip, _)| *ip == vip.at.ip().to_bits()) {
                report.error(
                    vip.key.clone(),
                    format!("{} is the {what} of port[{port_index}]; use another", vip.at.ip()),
                );
            }
        }
    }
}

/// [`own_is_not_served`] for IPv6, which has VIPs only.
fn own_is_no_ipv6_vip(report: &mut Report, ports: &[PortConfig], tunnels: &[TunnelConfig]) {
    for (port_index, port) in ports.iter().enumerate() {
        let mut own: Vec<_> = port.nets::<u128>().map(|net| (net.address, "own address")).collect();
        own.extend(port.gateways_of::<u128>().map(|(ip, _)| (ip, "gateway")));
        let reserved = port.nets::<u128>().flat_map(|net| net.reserved());
        own.extend(reserved.map(|ip| (ip, "address of all routers on the link")));
        for (index, tunnel) in tunnels.iter().enumerate() {
            let Some(vip) = tunnel.vip6.map(|vip| *vip.ip()) else { continue };
            if let Some((_, what)) = own.iter().find(|(ip, _)| *ip == vip.to_bits()) {
                report.error(
                    format!("tunnel[{index}].vip6"),
                    format!("{vip} is the {what} of port[{port_index}]; use another"),
                );
            }
        }
    }
}

/// A target must be in no pool.
fn targets_are_apart(
    report: &mut Report,
    index: usize,
    service: &ServiceConfig,
    services: &[ServiceConfig],
) {
    for (other_index, other) in services.iter().enumerate() {
        let EgressConfig::Pool(pool) = other.egress else { continue };
        for target in service.targets.iter().filter(|target| holds(pool, target.ip)) {
            report.error(
                format!("relay[{index}].targets"),
                format!("{target} is in the pool {pool} of relay[{other_index}]; use another pool"),
            );
        }
    }
}

/// A VIP must be in no pool and be no target.
fn vip_is_apart(report: &mut Report, vip: &Vip<Endpoint>, services: &[ServiceConfig]) {
    for (other_index, other) in services.iter().enumerate() {
        if let EgressConfig::Pool(pool) = other.egress
            && holds(pool, vip.at.ip)
        {
            report.error(
                vip.key.clone(),
                format!(
                    "{} is in the pool {pool} of relay[{other_index}]; use another",
                    dotted(vip.at.ip)
                ),
            );
        }
        if has_target(other, vip.at.ip) {
            report.error(
                vip.key.clone(),
                format!(
                    "{} is a target of relay[{other_index}]; a VIP cannot be one",
                    dotted(vip.at.ip)
                ),
            );
        }
    }
}

fn has_target(service: &ServiceConfig, ip: u32) -> bool {
    service.targets.iter().any(|target| target.ip == ip)
}
