//! Relay services: VIPs, targets, egress.

use super::super::raw::{RawConfig, RawEgress, RawRelay};
use super::super::{EgressConfig, Endpoint, MAX_TARGETS, Pool, PortConfig, ServiceConfig};
use super::ports::{parse_net, refuse_non_unicast};
use super::{Report, repeated};
use crate::relay::permutation::PoolBits;

pub(super) fn services(
    report: &mut Report,
    raw: &RawConfig,
    ports: &[PortConfig],
) -> Vec<ServiceConfig> {
    let relays = raw.relay.iter().enumerate();
    relays.map(|(index, relay)| service(report, index, relay, ports)).collect()
}

fn service(
    report: &mut Report,
    index: usize,
    raw: &RawRelay,
    ports: &[PortConfig],
) -> ServiceConfig {
    let key = |name: &str| format!("relay[{index}].{name}");
    report.name(&key("name"), &raw.name);
    let vip = endpoint(report, &key("vip"), "a VIP", &raw.vip);
    let mut targets = targets(report, &key("targets"), raw);
    let egress = egress(report, &key("egress"), &raw.egress);
    if egress.is_none() {
        // Without knowing the egress, nothing can be said of who else has these targets.
        targets.clear();
    }
    ServiceConfig {
        name: raw.name.clone(),
        vip: vip.unwrap_or_default(),
        targets,
        egress: egress.unwrap_or(EgressConfig::Transparent),
        mss: mss(report, &key("mss"), raw.mss, ports),
    }
}

fn endpoint(report: &mut Report, key: &str, what: &str, text: &str) -> Option<Endpoint> {
    let Ok(parsed) = text.parse::<std::net::SocketAddrV4>() else {
        let reason = if text.parse::<std::net::SocketAddrV6>().is_ok() {
            format!("{text:?} is IPv6, which is not supported yet; use IPv4")
        } else {
            format!("{text:?} is not ADDRESS:PORT; write it as \"203.0.113.10:443\"")
        };
        report.error(key, reason);
        return None;
    };
    let endpoint = Endpoint { ip: parsed.ip().to_bits(), port: parsed.port() };
    refuse_non_unicast(report, key, what, endpoint.ip);
    if endpoint.port == 0 {
        report.error(key, "port 0 cannot be connected to; use 1 to 65535");
    }
    Some(endpoint)
}

fn targets(report: &mut Report, key: &str, raw: &RawRelay) -> Vec<Endpoint> {
    if raw.targets.is_empty() {
        report.error(key, "there is none; name at least one target as ADDRESS:PORT");
    }
    report.at_most(key, "targets", raw.targets.len(), MAX_TARGETS);
    let texts = raw.targets.iter().enumerate();
    let mut targets: Vec<_> = texts
        .filter_map(|(place, text)| endpoint(report, &format!("{key}[{place}]"), "a target", text))
        .collect();
    for (first, second) in repeated(&targets) {
        report.error(format!("{key}[{second}]"), format!("the same target as {key}[{first}]"));
    }
    targets.sort_unstable();
    targets
}

fn egress(report: &mut Report, key: &str, raw: &RawEgress) -> Option<EgressConfig> {
    match raw {
        RawEgress::Transparent => Some(EgressConfig::Transparent),
        RawEgress::Pool(text) => pool(report, &format!("{key}.pool"), text).map(EgressConfig::Pool),
        RawEgress::Prefix(_) => {
            report.error(
                key,
                "egress = { prefix } is not supported yet; use { pool = \"ADDRESS/LENGTH\" } or \
                 \"transparent\"",
            );
            None
        }
    }
}

fn pool(report: &mut Report, key: &str, text: &str) -> Option<Pool> {
    let Some(net) = parse_net(text) else {
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
    refuse_non_unicast(report, key, "egress addresses", net.first());
    refuse_non_unicast(report, key, "egress addresses", net.last());
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

/// The MSS to clamp to: what is given, or what fits through the narrowest port.
fn mss(report: &mut Report, key: &str, given: Option<i64>, ports: &[PortConfig]) -> u16 {
    let widest = ports.iter().map(|port| port.mtu).min().unwrap_or(1500).saturating_sub(HEADERS);
    let Some(given) = given else { return widest };
    let mss = report.number(key, given, 88, i64::from(u16::MAX)).unwrap_or_default();
    if mss > widest {
        report.error(
            key,
            format!("{mss} does not fit through the narrowest port: use at most {widest}, its mtu - {HEADERS}"),
        );
    }
    mss
}

/// Bytes of the IPv4 and TCP headers without options.
const HEADERS: u16 = 40;

/// Below 2^8 addresses a pool's collisions are felt.
const COMFORTABLE_BITS: u8 = 8;
