//! Checks the egress of relays: what it is, and whether VIP and targets are of its families.

use std::net::{IpAddr, SocketAddr};

use super::super::raw::{RawEgress, RawRelay, RawReturn};
use super::super::targets::TargetList;
use super::super::{EgressConfig, Encapsulate, Encapsulation, Pool, Pool6, Prefix, WayBack};
use super::report::{Report, refuse_non_unicast};
use crate::config::{Pool6Len, PoolBits, PrefixLen};
use crate::net::{Address, GLOBAL_UNICAST6, IpNet, Ipv4Net, Ipv6Net};

/// The egress of a relay; `None` for one that is reported.
pub(super) fn read(report: &mut Report, index: usize, raw: &RawRelay) -> Option<EgressConfig> {
    let key = &format!("relay[{index}].egress");
    let way_back = match raw.r#return {
        Some(RawReturn::Direct) => WayBack::Direct,
        Some(RawReturn::Through) | None => WayBack::Through,
    };
    if raw.r#return.is_some() && !matches!(raw.egress, RawEgress::Ipip(_) | RawEgress::Gue(_)) {
        let reason = "says how answers leave a tunnel, and this egress is none; remove it, or use \
                      { ipip = \"ADDRESS\" } or { gue = \"ADDRESS\" }";
        report.error(format!("relay[{index}].return"), reason);
    }
    let mut tunnel = |protocol: Encapsulate, text: &str| {
        let key = format!("{key}.{}", protocol.name());
        let Ok(from) = text.parse::<IpAddr>() else {
            let reason = format!("{text:?} is no IP address; write it as \"100.64.8.1\"");
            report.error(key, reason);
            return None;
        };
        refuse_non_unicast(report, &key, "the source of a tunnel", from);
        Some(EgressConfig::Encapsulated(Encapsulation { protocol, from, way_back }))
    };
    match &raw.egress {
        RawEgress::Ipip(from) => tunnel(Encapsulate::IpIp, from),
        RawEgress::Gue(from) => tunnel(Encapsulate::Gue, from),
        RawEgress::Transparent => Some(EgressConfig::Transparent),
        RawEgress::Pool(text) => pool(report, &format!("{key}.pool"), text),
        RawEgress::Prefix(text) => {
            prefix(report, &format!("{key}.prefix"), text).map(EgressConfig::Prefix)
        }
    }
}

/// Reports a VIP, targets and an egress that do not match: each pair of families of clients and
/// targets has its kinds of egress. Whether VIP and egress do.
pub(super) fn families_match(
    report: &mut Report,
    index: usize,
    vip: SocketAddr,
    egress: EgressConfig,
    targets: &TargetList,
) -> bool {
    let reason = match (egress, vip) {
        (EgressConfig::Prefix(_), SocketAddr::V6(_)) => {
            "is IPv6, and a prefix has no room for its clients' addresses; use an IPv6 pool \
             (a /8 to a /28), \"transparent\", { ipip = \"ADDRESS\" }, or an IPv4 VIP"
        }
        (EgressConfig::Pool(_), SocketAddr::V6(_)) => {
            "is IPv6, and an IPv4 pool has no room for its clients' addresses; use an IPv6 pool \
             (a /8 to a /28), \"transparent\", { ipip = \"ADDRESS\" }, or an IPv4 VIP"
        }
        (EgressConfig::Pool6(_), SocketAddr::V4(_)) => {
            "is IPv4, and an IPv6 pool is for clients of an IPv6 VIP; use an IPv4 pool for IPv4 \
             targets, { prefix = \"ADDRESS/LENGTH\" } for IPv6 targets, or an IPv6 VIP"
        }
        (EgressConfig::Encapsulated(tunnel), _) => {
            tunnel_ends(report, index, vip, tunnel.from, targets);
            return true;
        }
        _ => {
            targets_match(report, index, vip, egress, targets);
            return true;
        }
    };
    report.error(format!("relay[{index}].egress"), format!("the VIP {vip} {reason}"));
    false
}

fn targets_match(
    report: &mut Report,
    index: usize,
    vip: SocketAddr,
    egress: EgressConfig,
    targets: &TargetList,
) {
    let reason = match (egress, vip) {
        (EgressConfig::Prefix(_), _) => {
            "is IPv4, and a prefix gives clients IPv6 addresses; use { pool = \"ADDRESS/LENGTH\" \
             }, or an IPv6 target"
        }
        (EgressConfig::Pool(_), _) => {
            "is IPv6, and an IPv4 pool gives clients IPv4 addresses; use { prefix = \
             \"ADDRESS/LENGTH\" }, or an IPv4 target"
        }
        (EgressConfig::Pool6(_), _) => {
            "is IPv4, and an IPv6 pool gives clients IPv6 addresses; use an IPv6 target, or an \
             IPv4 VIP"
        }
        (EgressConfig::Encapsulated(_), _) => return,
        (EgressConfig::Transparent, SocketAddr::V4(_)) => {
            "is IPv6, and transparent egress leaves clients of an IPv4 VIP their IPv4 addresses; \
             use { prefix = \"ADDRESS/LENGTH\" }, or an IPv4 target"
        }
        (EgressConfig::Transparent, SocketAddr::V6(_)) => {
            "is IPv4, and transparent egress leaves clients of an IPv6 VIP their IPv6 addresses; \
             use an IPv6 target, or an IPv4 VIP"
        }
    };
    let wants_ipv6 = vip.is_ipv6() || matches!(egress, EgressConfig::Prefix(_));
    for target in targets.addresses().filter(|target| target.is_ipv6() != wants_ipv6) {
        report.error(format!("relay[{index}].targets"), format!("{target} {reason}"));
    }
}

/// Reports targets that a tunnel from `from` does not lead to, or where nobody listens.
fn tunnel_ends(
    report: &mut Report,
    index: usize,
    vip: SocketAddr,
    from: IpAddr,
    targets: &TargetList,
) {
    let mut error = |reason| report.error(format!("relay[{index}].targets"), reason);
    for target in targets.addresses() {
        if target.is_ipv6() != from.is_ipv6() {
            error(format!(
                "{target} is of another family than {from}, from which datagrams come to it; use \
                 an address of its family in relay[{index}].egress"
            ));
        }
        if target.port() != vip.port() {
            error(format!(
                "{target} has another port than the VIP {vip}, to which clients' segments go as \
                 they are; use port {}",
                vip.port()
            ));
        }
    }
}

/// Warns of clients that are served, and for which an IPv6 pool has no place.
pub(super) fn without_private_clients(report: &mut Report, key: &str) {
    report.warn(
        key,
        "an IPv6 pool has a place for clients of 2000::/3 alone: those of fc00::/7, which \
         pop.private_clients admits, are dropped; use \"transparent\" for them",
    );
}

/// The pool in `text`, of either family.
fn pool(report: &mut Report, key: &str, text: &str) -> Option<EgressConfig> {
    match IpNet::parse(text) {
        Some(IpNet::V4(net)) => pool4(report, key, net).map(EgressConfig::Pool),
        Some(IpNet::V6(net)) => pool6(report, key, net).map(EgressConfig::Pool6),
        None => {
            report.error(
                key,
                format!(
                    "{text:?} is not ADDRESS/LENGTH; write it as \"100.64.8.0/24\", or for an IPv6 \
                     VIP as \"fd40::/12\""
                ),
            );
            None
        }
    }
}

fn pool4(report: &mut Report, key: &str, net: Ipv4Net) -> Option<Pool> {
    let Some(bits) = 32_u8.checked_sub(net.prefix_len).and_then(PoolBits::new) else {
        let size = if net.prefix_len > 16 { "small" } else { "large" };
        report.error(
            key,
            format!("{net} is too {size} a pool: use a /16 to a /30, at best a /24 or larger"),
        );
        return None;
    };
    if net.address != net.first() {
        let pool = Pool { first: net.first(), bits };
        report.error(key, format!("{net} has bits set after its prefix; write {pool}"));
        return None;
    }
    refuse_non_unicast(report, key, "egress addresses", net.first().ip());
    refuse_non_unicast(report, key, "egress addresses", net.last().ip());
    if bits.get() < COMFORTABLE_BITS {
        report.warn(
            key,
            format!(
                "{net} has only {} addresses: connections will collide; use a /24 or larger",
                bits.addresses()
            ),
        );
    }
    Some(Pool { first: net.first(), bits })
}

fn pool6(report: &mut Report, key: &str, net: Ipv6Net) -> Option<Pool6> {
    let Some(len) = Pool6Len::new(net.prefix_len) else {
        let (size, why) = match net.prefix_len > Pool6Len::MAX {
            true => ("small", ": it must hold the addresses of all IPv6 clients, and more"),
            false => ("large", ""),
        };
        report.error(
            key,
            format!(
                "{net} is too {size} an IPv6 pool{why}; use a /{} to a /{}",
                Pool6Len::MIN,
                Pool6Len::MAX
            ),
        );
        return None;
    };
    if net.address != net.first() {
        let first = Ipv6Net { address: net.first(), ..net };
        report.error(key, format!("{net} has bits set after its prefix; write {first}"));
        return None;
    }
    refuse_non_unicast(report, key, "egress addresses", net.first().ip());
    refuse_non_unicast(report, key, "egress addresses", net.last().ip());
    if GLOBAL_UNICAST6.contains(net.first()) {
        report.warn(
            key,
            format!(
                "{net} is in {GLOBAL_UNICAST6}, where clients are: those with an address of the \
                 pool are dropped; use one of fd00::/8, such as fd40::/12, or one where no client \
                 is"
            ),
        );
    }
    Some(Pool6 { first: net.first(), len })
}

fn prefix(report: &mut Report, key: &str, text: &str) -> Option<Prefix> {
    let Some(net) = IpNet::parse(text).and_then(u128::of_net) else {
        report.error(
            key,
            format!("{text:?} is not ADDRESS/LENGTH of IPv6; write it as \"2001:db8:64::/64\""),
        );
        return None;
    };
    let Some(len) = PrefixLen::new(net.prefix_len) else {
        let size = if net.prefix_len > PrefixLen::MAX { "small" } else { "large" };
        report.error(
            key,
            format!(
                "{net} is too {size} a prefix: use a /{} to a /{}, at best a /64 or larger",
                PrefixLen::MIN,
                PrefixLen::MAX
            ),
        );
        return None;
    };
    let prefix = Prefix { first: net.first(), len };
    if net.address != net.first() {
        report.error(key, format!("{net} has bits set after its prefix; write {prefix}"));
        return None;
    }
    refuse_non_unicast(report, key, "egress addresses", net.first().ip());
    refuse_non_unicast(report, key, "egress addresses", net.last().ip());
    Some(prefix)
}

/// With fewer than 2^8 addresses, collisions in a pool are frequent.
const COMFORTABLE_BITS: u8 = 8;
