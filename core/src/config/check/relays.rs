//! Checks relays: VIPs, targets, egress, sizes.

use super::super::raw::{
    RawChooseBy, RawClientAddress, RawConfig, RawEgress, RawProtocol, RawRelay,
};
use super::super::{
    ChooseBy, ClientAddress, EgressConfig, Encapsulation, PortConfig, Protocols, RelayConfig,
};
use super::files::TargetsFiles;
use super::report::{Report, UNREAD, endpoint};
use super::{egress, targets};
use crate::net::Protocol;

pub(super) fn relays(
    report: &mut Report,
    raw: &RawConfig,
    ports: &[PortConfig],
    files: &TargetsFiles<'_>,
) -> Vec<RelayConfig> {
    let relays = raw.relay.iter().enumerate();
    let private_clients = raw.pop.private_clients;
    relays.map(|(index, raw)| relay(report, index, raw, ports, files, private_clients)).collect()
}

fn relay(
    report: &mut Report,
    index: usize,
    raw: &RawRelay,
    ports: &[PortConfig],
    files: &TargetsFiles<'_>,
    private_clients: bool,
) -> RelayConfig {
    let key = |name: &str| format!("relay[{index}].{name}");
    report.name(&key("name"), &raw.name);
    let vip = endpoint(report, &key("vip"), "a VIP", &raw.vip);
    let mut targets = targets::targets(report, &key, raw, files);
    let mut egress = egress::read(report, index, raw);
    let over_ipv6 = vip.is_some_and(|vip| vip.is_ipv6());
    if let (Some(vip), Some(read)) = (vip, egress)
        && !egress::families_match(report, index, vip, read, &targets)
    {
        egress = None;
    }
    if let Some(EgressConfig::Pool6(_)) = egress
        && private_clients
    {
        egress::without_private_clients(report, &key("egress.pool"));
    }
    let encapsulation = egress.and_then(|egress| egress.encapsulation().copied());
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
    let protocols = protocols(report, &key("protocol"), raw);
    if raw.mss.is_some() && protocols == Protocols::Udp {
        report.warn(key("mss"), "without effect: UDP has no MSS; remove it");
    }
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
        protocols,
        choose_by: choose_by(report, &key("choose_by"), raw, protocols),
    }
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

/// What is relayed.
fn protocols(report: &mut Report, key: &str, raw: &RawRelay) -> Protocols {
    let given = match raw.protocol {
        None | Some(RawProtocol::Tcp) => Protocols::Tcp,
        Some(RawProtocol::Udp) => Protocols::Udp,
        Some(RawProtocol::Both) => Protocols::Both,
    };
    if let RawEgress::Pool(_) = raw.egress
        && given.has(Protocol::Udp)
    {
        report.error(
            key,
            "a pool needs TCP, whose timestamps carry a part of the client's address; relay UDP \
             with an egress of \"transparent\", prefix, ipip or gue, in a relay of its own at the \
             same VIP",
        );
    }
    given
}

/// What of a client decides which target it has.
fn choose_by(report: &mut Report, key: &str, raw: &RawRelay, protocols: Protocols) -> ChooseBy {
    let has_pool = matches!(raw.egress, RawEgress::Pool(_));
    match raw.choose_by {
        None if protocols.has(Protocol::Udp) && !has_pool => ChooseBy::Address,
        None | Some(RawChooseBy::Endpoint) => ChooseBy::Endpoint,
        Some(RawChooseBy::Address) => {
            if has_pool {
                report.error(key, "with a pool it is always the endpoint; remove it");
            }
            ChooseBy::Address
        }
    }
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
