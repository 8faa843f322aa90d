//! Checks relays: VIPs, targets, egress.

use std::net::{IpAddr, SocketAddr};

use super::super::raw::{RawClientAddress, RawConfig, RawEgress, RawRelay, RawReturn};
use super::super::targets::TargetList;
use super::super::{
    ClientAddress, EgressConfig, Encapsulate, Encapsulation, Pool, PortConfig, Prefix, RelayConfig,
    WayBack,
};
use super::files::TargetsFiles;
use super::report::{Report, UNREAD, endpoint, refuse_non_unicast};
use super::targets;
use crate::config::{PoolBits, PrefixLen};
use crate::net::{Address, IpNet};

pub(super) fn relays(
    report: &mut Report,
    raw: &RawConfig,
    ports: &[PortConfig],
    files: &TargetsFiles<'_>,
) -> Vec<RelayConfig> {
    let relays = raw.relay.iter().enumerate();
    relays.map(|(index, raw)| relay(report, index, raw, ports, files)).collect()
}

fn relay(
    report: &mut Report,
    index: usize,
    raw: &RawRelay,
    ports: &[PortConfig],
    files: &TargetsFiles<'_>,
) -> RelayConfig {
    let key = |name: &str| format!("relay[{index}].{name}");
    report.name(&key("name"), &raw.name);
    let vip = endpoint(report, &key("vip"), "a VIP", &raw.vip);
    let mut targets = targets::targets(report, &key, raw, files);
    let mut egress = egress(report, index, raw);
    let encapsulation = egress.and_then(|egress| egress.encapsulation().copied());
    match (vip, encapsulation) {
        (Some(vip), None) => families(report, index, vip, raw, &targets),
        (Some(vip), Some(tunnel)) => tunnel_ends(report, index, vip, tunnel.from, &targets),
        (None, _) => {}
    }
    let over_ipv6 = vip.is_some_and(|vip| vip.is_ipv6());
    if over_ipv6 {
        let has_room = |egress: &EgressConfig| {
            matches!(egress, EgressConfig::Transparent | EgressConfig::Encapsulated(_))
        };
        egress = egress.filter(has_room);
    }
    if egress.is_none() {
        // With an unknown egress, these targets cannot be compared with those of others.
        targets.entries.clear();
    }
    // The segments of clients stay of their family in a tunnel.
    let behind_ipv6 = || targets.addresses().any(|target| target.is_ipv6());
    let has_ipv6 = over_ipv6 || encapsulation.is_none() && behind_ipv6();
    // What answers at once by its own route has its own MSS.
    let through = encapsulation.filter(Encapsulation::is_through);
    let headers = if has_ipv6 { HEADERS6 } else { HEADERS };
    let headers = headers + through.map_or(0, |tunnel| tunnel.overhead() as u16);
    RelayConfig {
        name: raw.name.clone(),
        vip: vip.unwrap_or(UNREAD),
        mss: mss(report, &key("mss"), raw.mss, ports, (has_ipv6, headers)),
        targets,
        targets_file: raw.targets_file.clone(),
        kept: Vec::new(),
        egress: egress.unwrap_or(EgressConfig::Transparent),
        icmp_mtu_floor: mtu_floor(report, &key("icmp_mtu_floor"), raw, over_ipv6),
        client_address: client_address(report, &key("client_address"), raw),
    }
}

/// Reports a VIP, targets and an egress that do not match: each pair of families of clients and
/// targets has its kinds of egress.
fn families(
    report: &mut Report,
    index: usize,
    vip: SocketAddr,
    raw: &RawRelay,
    targets: &TargetList,
) {
    let has_no_room = matches!(raw.egress, RawEgress::Pool(_) | RawEgress::Prefix(_));
    if vip.is_ipv6() && has_no_room {
        report.error(
            format!("relay[{index}].egress"),
            format!(
                "the VIP {vip} is IPv6, and neither a pool nor a prefix has room for its clients' \
                 addresses; use \"transparent\", {{ ipip = \"ADDRESS\" }}, or an IPv4 VIP"
            ),
        );
        return;
    }
    let reason = match (&raw.egress, vip) {
        (RawEgress::Prefix(_), _) => {
            "is IPv4, and a prefix gives clients IPv6 addresses; use { pool = \"ADDRESS/LENGTH\" \
             }, or an IPv6 target"
        }
        (RawEgress::Pool(_), _) => {
            "is IPv6, and a pool gives clients IPv4 addresses; use { prefix = \"ADDRESS/LENGTH\" \
             }, or an IPv4 target"
        }
        // A tunnel that could not be read.
        (RawEgress::Ipip(_) | RawEgress::Gue(_), _) => return,
        (RawEgress::Transparent, SocketAddr::V4(_)) => {
            "is IPv6, and transparent egress leaves clients of an IPv4 VIP their IPv4 addresses; \
             use { prefix = \"ADDRESS/LENGTH\" }, or an IPv4 target"
        }
        (RawEgress::Transparent, SocketAddr::V6(_)) => {
            "is IPv4, and transparent egress leaves clients of an IPv6 VIP their IPv6 addresses; \
             use an IPv6 target, or an IPv4 VIP"
        }
    };
    let wants_ipv6 = vip.is_ipv6() || matches!(raw.egress, RawEgress::Prefix(_));
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

fn egress(report: &mut Report, index: usize, raw: &RawRelay) -> Option<EgressConfig> {
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
        let Ok(from) = text.parse::<IpAddr>() else {
            report.error(
                format!("{key}.{}", protocol.name()),
                format!("{text:?} is no IP address; write it as \"100.64.8.1\""),
            );
            return None;
        };
        refuse_non_unicast(report, key, "the source of a tunnel", from);
        Some(EgressConfig::Encapsulated(Encapsulation { protocol, from, way_back }))
    };
    match &raw.egress {
        RawEgress::Ipip(from) => tunnel(Encapsulate::IpIp, from),
        RawEgress::Gue(from) => tunnel(Encapsulate::Gue, from),
        RawEgress::Transparent => Some(EgressConfig::Transparent),
        RawEgress::Pool(text) => pool(report, &format!("{key}.pool"), text).map(EgressConfig::Pool),
        RawEgress::Prefix(text) => {
            prefix(report, &format!("{key}.prefix"), text).map(EgressConfig::Prefix)
        }
    }
}

fn pool(report: &mut Report, key: &str, text: &str) -> Option<Pool> {
    let Some(net) = IpNet::parse(text).and_then(u32::of_net) else {
        report.error(key, format!("{text:?} is not ADDRESS/LENGTH; write it as \"100.64.8.0/24\""));
        return None;
    };
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

/// The MSS to clamp to: the configured one, or the largest that fits through every port.
fn mss(
    report: &mut Report,
    key: &str,
    given: Option<i64>,
    ports: &[PortConfig],
    (has_ipv6, headers): (bool, u16),
) -> u16 {
    let widest = ports.iter().map(|port| port.mtu).min().unwrap_or(1500).saturating_sub(headers);
    let Some(given) = given else { return widest };
    let mss = u16::try_from(given).unwrap_or(if given < 0 { 0 } else { u16::MAX });
    let least = if has_ipv6 { ANY_MSS6 } else { ANY_MSS };
    if mss < MSS_MIN {
        report.error(
            key,
            format!(
                "{given} is far too small: hosts announce no less than {MSS_MIN} by themselves; \
                 use {least} or more, or leave the key out: the default fits all ports"
            ),
        );
    } else if mss < least.min(widest) {
        report.warn(
            key,
            format!(
                "{mss} is smaller than what every path carries: use {least} or more, or leave the \
                 key out: the default fits all ports"
            ),
        );
    }
    if mss > widest {
        report.error(
            key,
            format!(
                "{given} does not fit through the narrowest port: use at most {widest}, its mtu - \
                 {headers}"
            ),
        );
    }
    mss
}

/// The smallest MTU that an error over IPv4 may announce.
fn mtu_floor(report: &mut Report, key: &str, raw: &RawRelay, over_ipv6: bool) -> u16 {
    let has_pool = matches!(raw.egress, RawEgress::Pool(_));
    let default = if has_pool { SHARED_MTU_FLOOR } else { MTU_FLOOR };
    let Some(given) = raw.icmp_mtu_floor else { return default };
    // 68 is the smallest MTU of IPv4 (RFC 791).
    let floor = report.number(key, given, 68, 1500).unwrap_or(default);
    if over_ipv6 {
        report.warn(key, "without effect at an IPv6 VIP: IPv6 has a floor of 1280; remove it");
    } else if floor > SHARED_MTU_FLOOR {
        report.warn(
            key,
            format!(
                "clients behind a path with an MTU below {floor} cannot learn of it, and \
                 connections stall there; use {SHARED_MTU_FLOOR} or less"
            ),
        );
    } else if has_pool && floor < SHARED_MTU_FLOOR {
        report.warn(
            key,
            format!(
                "a target keeps the MTU of an egress address, which many clients share: one \
                 client's error makes the segments of the others as small as {floor} bytes; use \
                 {SHARED_MTU_FLOOR}, or lock the MTU at the targets"
            ),
        );
    } else if floor < MTU_FLOOR {
        report.warn(
            key,
            format!(
                "no link is as small, and a forged error makes segments of {floor} bytes; use \
                 {MTU_FLOOR} or more"
            ),
        );
    }
    floor
}

/// How targets learn of a client's address.
fn client_address(report: &mut Report, key: &str, raw: &RawRelay) -> Option<ClientAddress> {
    let given = match raw.client_address? {
        RawClientAddress::Toa => ClientAddress::Toa,
    };
    let reason = match raw.egress {
        RawEgress::Pool(_) => return Some(given),
        RawEgress::Prefix(_) => {
            "needs a pool: the IPv6 address that a target sees holds the client's already, as \
             `anyrelay map` shows it; remove it"
        }
        RawEgress::Transparent | RawEgress::Ipip(_) | RawEgress::Gue(_) => {
            "needs a pool: with this egress targets see the client's own address; remove it"
        }
    };
    report.error(key, reason);
    None
}

/// The floor where each client has its own path at a target: what hosts go down to (Linux's
/// `net.ipv4.route.min_pmtu`).
const MTU_FLOOR: u16 = 552;
/// The floor where clients share addresses: what every IPv6 link has, and nearly every other.
const SHARED_MTU_FLOOR: u16 = 1280;

/// Bytes of the IPv4 and TCP headers without options.
const HEADERS: u16 = 40;
/// Bytes of the IPv6 and TCP headers without options.
const HEADERS6: u16 = 60;

/// The smallest MSS that hosts announce by themselves (Linux's `net.ipv4.route.min_adv_mss`).
const MSS_MIN: u16 = 256;
/// The MSS that every host accepts over IPv4 and over IPv6 (RFC 9293, section 3.7.1).
const ANY_MSS: u16 = 536;
const ANY_MSS6: u16 = 1220;

/// With fewer than 2^8 addresses, collisions in a pool are frequent.
const COMFORTABLE_BITS: u8 = 8;
