//! Checks the open sides of tunnels.

use std::net::{IpAddr, Ipv6Addr};

use super::super::open::{OpenConfig, OpenPrefix};
use super::super::raw::{RawOpen, RawTunnel};
use super::super::{PortConfig, RelayConfig, TunnelConfig};
use super::report::{Report, refuse_non_unicast, repeated};
use crate::net::{
    Address, Family, GLOBAL_UNICAST6, IpNet, Ipv4Net, Ipv6Net, NAT64, SIX_TO_FOUR,
    SpecialAddresses, is_link_local6, stand_ins,
};
use crate::wire::ipv6::MTU_MIN;
use crate::wire::tcp::HEADER_LEN;

/// The open side of the tunnel `index`. `None` where it has none, or none that could be read.
pub(super) fn open(report: &mut Report, index: usize, raw: &RawTunnel) -> Option<OpenConfig> {
    let RawOpen { prefix, to, icmp_source } = raw.open.as_ref()?;
    if raw.vip4.is_none() {
        report.error(
            format!("tunnel[{index}].open"),
            "an open address stands for an IPv4 agent, and the tunnel has no vip4; add one",
        );
    }
    if raw.tunnel_mtu < TUNNEL_MTU_MIN.into() {
        report.error(
            format!("tunnel[{index}].tunnel_mtu"),
            format!(
                "IPv6 needs an MTU of 1280 inside, and what is around it takes 44 bytes: with \
                 open, use {TUNNEL_MTU_MIN} or more"
            ),
        );
    }
    let key = |name: &str| format!("tunnel[{index}].open.{name}");
    let prefix = self::prefix(report, &key("prefix"), prefix);
    let to = destinations(report, &key("to"), to);
    let icmp_source = self::icmp_source(report, &key("icmp_source"), icmp_source);
    Some(OpenConfig { prefix: prefix?, to, icmp_source: icmp_source? })
}

/// The prefix of `text` without bits behind it.
fn net(report: &mut Report, key: &str, text: &str, example: &str) -> Option<Ipv6Net> {
    let Some(net) = IpNet::parse(text).and_then(u128::of_net) else {
        let reason = format!("{text:?} is not ADDRESS/LENGTH of IPv6; write it as \"{example}\"");
        report.error(key, reason);
        return None;
    };
    if net.address != net.first() {
        let (first, len) = (net.first().ip(), net.prefix_len);
        report.error(key, format!("{net} has bits set after its prefix; write {first}/{len}"));
        return None;
    }
    Some(net)
}

fn prefix(report: &mut Report, key: &str, text: &str) -> Option<OpenPrefix> {
    let net = net(report, key, text, "2001:db8:a::/48")?;
    let Some(prefix) = OpenPrefix::new(net) else {
        let (least, most) = (OpenPrefix::LEN_MIN, OpenPrefix::LEN_MAX);
        report.error(key, format!("{net} is no prefix of a /{least} to a /{most}; use one"));
        return None;
    };
    refuse_non_unicast(report, key, "an agent's address", net.address.ip());
    let overlaps = |other: &Ipv6Net| IpNet::V6(*other).overlaps(IpNet::V6(net));
    if let Some(other) = [NAT64, SIX_TO_FOUR].iter().find(|other| overlaps(other)) {
        let reason = format!("{net} overlaps {other}, which stands for IPv4; use another prefix");
        report.error(key, reason);
    } else if !GLOBAL_UNICAST6.contains(net.address) {
        let reason =
            format!("{net} is not in {GLOBAL_UNICAST6}: hosts of the Internet have no route to it");
        report.warn(key, &reason);
    }
    Some(prefix)
}

fn destinations(report: &mut Report, key: &str, texts: &[String]) -> Vec<Ipv6Net> {
    if texts.is_empty() {
        report.error(key, "agents may send to nobody; name a prefix, such as \"2000::/3\"");
    }
    report.at_most(key, "prefixes", texts.len(), MAX_DESTINATIONS);
    let texts = texts.iter().take(MAX_DESTINATIONS).enumerate();
    let nets: Vec<_> = texts
        .map(|(at, text)| {
            let key = format!("{key}[{at}]");
            let net = net(report, &key, text, "2000::/3")?;
            let within = |special: &&Ipv6Net| {
                special.prefix_len <= net.prefix_len && special.contains(net.address)
            };
            if let Some(special) = u128::NOT_UNICAST.iter().find(within) {
                report.error(key, format!("{net} is in {special}, where no host is; remove it"));
            }
            Some(net)
        })
        .collect();
    for (first, second) in repeated(&nets).filter(|(first, _)| nets.get(*first) != Some(&None)) {
        report.warn(format!("{key}[{second}]"), format!("the same prefix as {key}[{first}]"));
    }
    nets.into_iter().flatten().collect()
}

fn icmp_source(report: &mut Report, key: &str, text: &str) -> Option<Ipv6Addr> {
    let Ok(ip) = text.parse::<Ipv6Addr>() else {
        let reason = format!("{text:?} is no IPv6 address; write it as \"2001:db8::1\"");
        report.error(key, reason);
        return None;
    };
    refuse_non_unicast(report, key, "the source of ICMPv6 messages", ip.into());
    Some(ip)
}

/// Open prefixes, and what agents may send to, are apart from all else that the POP serves.
pub(super) fn overlaps(
    report: &mut Report,
    ports: &[PortConfig],
    relays: &[RelayConfig],
    tunnels: &[TunnelConfig],
) {
    let served = served(ports, relays, tunnels);
    let sides = tunnels.iter().enumerate();
    let sides: Vec<_> = sides.filter_map(|(i, tunnel)| Some((i, tunnel.open.as_ref()?))).collect();
    for (place, (index, open)) in sides.iter().enumerate() {
        let own = open.prefix.net();
        let key = format!("tunnel[{index}].open.prefix");
        let earlier = sides.iter().take(place).map(|(other, side)| {
            (IpNet::V6(side.prefix.net()), format!("the open prefix of tunnel[{other}]"), true)
        });
        let clash =
            earlier.chain(served.iter().cloned()).find(|(net, ..)| IpNet::V6(own).overlaps(*net));
        if let Some((net, what, _)) = clash {
            report.error(key, format!("{own} overlaps {net}, {what}; use another prefix"));
        }
        links(report, ports, *index, own);
        for (at, to) in open.to.iter().enumerate() {
            let never = served.iter().filter(|(.., is_never)| *is_never).cloned();
            let opens = sides.iter().map(|(other, side)| {
                (IpNet::V6(side.prefix.net()), format!("the open prefix of tunnel[{other}]"), true)
            });
            let within =
                |net: &IpNet| net.prefix_len() <= to.prefix_len && net.contains(to.address.ip());
            if to.prefix_len == 128 && to.address == open.icmp_source.to_bits() {
                report.error(
                    format!("tunnel[{index}].open.to[{at}]"),
                    "it is open.icmp_source, which agents never send to; remove it",
                );
            }
            if let Some((net, what, _)) = never.chain(opens).find(|(net, ..)| within(net)) {
                report.error(
                    format!("tunnel[{index}].open.to[{at}]"),
                    format!("{to} is in {net}, {what}, which agents never send to; remove it"),
                );
            }
        }
        source_is_apart(report, *index, open, &sides, relays);
    }
}

/// What an open prefix must not overlap, each with what it is, and whether agents are never to send
/// there: of IPv4, what stands for it.
fn served(
    ports: &[PortConfig],
    relays: &[RelayConfig],
    tunnels: &[TunnelConfig],
) -> Vec<(IpNet, String, bool)> {
    let host = |ip: IpAddr| -> Vec<IpNet> {
        match ip {
            IpAddr::V4(ip) => {
                stand_ins(Ipv4Net { address: ip.to_bits(), prefix_len: 32 }).map(IpNet::V6).into()
            }
            IpAddr::V6(ip) => vec![IpNet::V6(Ipv6Net { address: ip.to_bits(), prefix_len: 128 })],
        }
    };
    let mut served = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        // A link-local address is of its link alone.
        let own = port.nets::<u128>().filter(|net| !is_link_local6(net.address));
        let own = own.map(|net| net.address.ip());
        let own = own.chain(port.nets::<u32>().map(|net| net.address.ip())).flat_map(host);
        served.extend(own.map(|net| (net, format!("the own address of port[{index}]"), true)));
        let gateways = port.gateways.iter().flat_map(|gateway| host(gateway.ip));
        served.extend(gateways.map(|net| (net, format!("a gateway of port[{index}]"), false)));
    }
    for (index, relay) in relays.iter().enumerate() {
        let vip =
            host(relay.vip.ip()).into_iter().map(|net| (net, format!("relay[{index}].vip"), true));
        served.extend(vip);
        let egress = relay.egress.net().filter(|net| matches!(net, IpNet::V6(_)));
        served.extend(egress.map(|net| (net, format!("the egress of relay[{index}]"), true)));
        let targets = relay.target_addresses().flat_map(|target| host(target.ip()));
        served.extend(targets.map(|net| (net, format!("a target of relay[{index}]"), false)));
    }
    for (index, tunnel) in tunnels.iter().enumerate() {
        let vips = tunnel.vips().flat_map(|vip| host(vip.ip()));
        served.extend(vips.map(|net| (net, format!("a VIP of tunnel[{index}]"), true)));
    }
    served
}

/// Refuses a prefix that holds a port's network or is in one: hosts there ask the link for its
/// addresses, which the POP does not answer.
fn links(report: &mut Report, ports: &[PortConfig], index: usize, own: Ipv6Net) {
    for (at, port) in ports.iter().enumerate() {
        let on_link = port.nets::<u128>().find(|net| IpNet::V6(*net).overlaps(IpNet::V6(own)));
        // The mistake that it holds a port's own address is reported as such.
        if let Some(net) = on_link.filter(|net| !own.contains(net.address)) {
            report.error(
                format!("tunnel[{index}].open.prefix"),
                format!("{own} is in {net} of port[{at}]; use one that is routed to the POPs"),
            );
        }
    }
}

fn source_is_apart(
    report: &mut Report,
    index: usize,
    open: &OpenConfig,
    sides: &[(usize, &OpenConfig)],
    relays: &[RelayConfig],
) {
    let key = format!("tunnel[{index}].open.icmp_source");
    let ip = open.icmp_source;
    let in_prefix = |(_, side): &&(usize, &OpenConfig)| side.prefix.net().contains(ip.to_bits());
    if let Some((other, _)) = sides.iter().find(in_prefix) {
        report.error(
            key,
            format!(
                "{ip} is in the open prefix of tunnel[{other}], which is for agents; use another"
            ),
        );
        return;
    }
    for (other, relay) in relays.iter().enumerate() {
        let is_target = relay.target_addresses().any(|target| target.ip() == IpAddr::V6(ip));
        if relay.egress.holds(ip.into()) || is_target {
            report.error(
                key.clone(),
                format!("{ip} is of the egress or the targets of relay[{other}]; use another"),
            );
        }
    }
}

/// The smallest `tunnel_mtu` that IPv6's smallest MTU fits into, with the headers around it: IPv4,
/// TCP, and the open header's 4 bytes.
const TUNNEL_MTU_MIN: u16 = (MTU_MIN + Family::V4.ip_header_len() + HEADER_LEN + 4) as u16;
/// Most prefixes that agents may send to.
const MAX_DESTINATIONS: usize = 64;
