//! What must not meet: VIPs, pools, targets and own addresses.
//!
//! An address has one meaning, or the POP could not tell what a frame is; and what a target sends
//! must lead to one service.

use super::super::{EgressConfig, Endpoint, Pool, PortConfig, ServiceConfig};
use super::{Report, dotted};

pub(super) fn check(report: &mut Report, ports: &[PortConfig], services: &[ServiceConfig]) {
    own_addresses(report, ports);
    for (index, service) in services.iter().enumerate() {
        let earlier = services.get(..index).unwrap_or_default();
        for (first, other) in earlier.iter().enumerate() {
            pair(report, first, other, index, service);
        }
        own_is_not_relayed(report, ports, index, service);
    }
    // Targets, pools and VIPs also of different services.
    for (index, service) in services.iter().enumerate() {
        for (other_index, other) in services.iter().enumerate() {
            vip_is_apart(report, index, service, other_index, other);
        }
    }
}

fn own_addresses(report: &mut Report, ports: &[PortConfig]) {
    let mut seen: Vec<(u32, usize)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        for (place, net) in port.addresses.iter().enumerate() {
            if let Some((_, first)) = seen.iter().find(|(address, _)| *address == net.address) {
                report.error(
                    format!("port[{index}].addresses[{place}]"),
                    format!("port[{first}] has {} already", dotted(net.address)),
                );
            }
            seen.push((net.address, index));
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
    if other.vip == service.vip && is_set(service.vip) {
        report.error(
            format!("relay[{index}].vip"),
            format!("relay[{first}] is at {} already; use another address or port", service.vip),
        );
    }
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
fn own_is_not_relayed(
    report: &mut Report,
    ports: &[PortConfig],
    index: usize,
    service: &ServiceConfig,
) {
    for (port_index, port) in ports.iter().enumerate() {
        let mut own: Vec<_> =
            port.addresses.iter().map(|net| (net.address, "own address")).collect();
        own.extend(port.gateways.iter().map(|gateway| (gateway.ip, "gateway")));
        // What is nobody's on a link is never taken for a VIP's or a client's.
        let links = port.addresses.iter().filter(|net| net.prefix_len <= 30);
        own.extend(links.clone().map(|net| (net.first(), "network address of the link")));
        own.extend(links.map(|net| (net.last(), "broadcast address of the link")));
        for (ip, what) in own {
            let clash = if is_set(service.vip) && ip == service.vip.ip {
                "vip"
            } else if matches!(service.egress, EgressConfig::Pool(pool) if holds(pool, ip)) {
                "egress.pool"
            } else if what == "own address" && has_target(service, ip) {
                "targets"
            } else {
                continue;
            };
            report.error(
                format!("relay[{index}].{clash}"),
                format!("{} is the {what} of port[{port_index}]; use another", dotted(ip)),
            );
        }
    }
}

/// A VIP must be in no pool and be no target; a target must be in no pool.
fn vip_is_apart(
    report: &mut Report,
    index: usize,
    service: &ServiceConfig,
    other_index: usize,
    other: &ServiceConfig,
) {
    if let EgressConfig::Pool(pool) = other.egress {
        if is_set(service.vip) && holds(pool, service.vip.ip) {
            report.error(
                format!("relay[{index}].vip"),
                format!(
                    "{} is in the pool {pool} of relay[{other_index}]; use another",
                    dotted(service.vip.ip)
                ),
            );
        }
        for target in service.targets.iter().filter(|target| holds(pool, target.ip)) {
            report.error(
                format!("relay[{index}].targets"),
                format!("{target} is in the pool {pool} of relay[{other_index}]; use another pool"),
            );
        }
    }
    if is_set(service.vip) && has_target(other, service.vip.ip) {
        report.error(
            format!("relay[{index}].vip"),
            format!(
                "{} is a target of relay[{other_index}]; a VIP cannot be one",
                dotted(service.vip.ip)
            ),
        );
    }
}

fn has_target(service: &ServiceConfig, ip: u32) -> bool {
    service.targets.iter().any(|target| target.ip == ip)
}

/// Whether it is there at all: one that could not be read has been told of.
fn is_set(vip: Endpoint) -> bool {
    vip != Endpoint::default()
}
