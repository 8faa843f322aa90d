//! Checks ports: addresses, gateways and sides.

use std::net::IpAddr;

use super::super::raw::{RawConfig, RawPort, RawSide};
use super::super::{
    EgressConfig, Gateway, MAX_ADDRESSES, MAX_GATEWAYS, MAX_QUEUES, PortConfig, RelayConfig,
    TunnelConfig,
};
use super::report::{Report, repeated};
use crate::net::{Address, IpNet, MAX_PORTS, Net, Side, is_link_local6, is_unicast};
use crate::wire::{MacAddr, ipv6};

pub(super) fn ports(report: &mut Report, raw: &RawConfig) -> Vec<PortConfig> {
    if raw.port.is_empty() {
        report.error("port", "there is no port; add a [[port]] with a name, a device and a side");
    }
    report.at_most("port", "ports", raw.port.len(), MAX_PORTS);
    let ports: Vec<_> =
        raw.port.iter().enumerate().map(|(index, raw)| port(report, index, raw)).collect();
    let names: Vec<_> = ports.iter().map(|port| &port.name).collect();
    for (first, second) in repeated(&names) {
        report.error(
            format!("port[{second}].name"),
            format!("port[{first}] has this name too; give each port its own"),
        );
    }
    let devices: Vec<_> = ports.iter().map(|port| &port.device).collect();
    for (first, second) in repeated(&devices) {
        report.error(
            format!("port[{second}].device"),
            format!("port[{first}] has this device too; a device is one port"),
        );
    }
    let macs: Vec<_> = ports.iter().filter_map(|port| port.mac).collect();
    if let Some((_, second)) = repeated(&macs).next()
        && let Some(mac) = macs.get(second)
    {
        report.warn("port", format!("two ports have the MAC address {mac}"));
    }
    if !ports.is_empty() {
        sides(report, raw, &ports);
        routers(report, raw, &ports);
    }
    ports
}

/// A port needs no gateway of its own where another port of its side has one.
fn routers(report: &mut Report, raw: &RawConfig, ports: &[PortConfig]) {
    let has_router = |takes: fn(Side) -> bool| {
        let mut named = ports.iter().zip(&raw.port).filter(|(_, raw)| !raw.gateways.is_empty());
        named.any(|(port, _)| takes(port.side))
    };
    let sides: [fn(Side) -> bool; 2] = [Side::takes_clients, Side::takes_targets];
    for (index, (port, raw)) in ports.iter().zip(&raw.port).enumerate() {
        let stuck = sides.iter().any(|&takes| takes(port.side) && !has_router(takes));
        if raw.gateways.is_empty() && stuck {
            report.error(
                format!("port[{index}].gateways"),
                "there is none, on no port of this side; name the router on this link that \
                 frames go to",
            );
        }
    }
}

/// A side that has gateways needs one of each family that is served there. For a tunnel that is
/// only a warning, because all agents may be on the link.
pub(super) fn gateway_families(
    report: &mut Report,
    ports: &[PortConfig],
    relays: &[RelayConfig],
    tunnels: &[TunnelConfig],
) {
    type Takes = fn(Side) -> bool;
    type MissingGateway = fn(&[PortConfig], &str, Takes, &str) -> Option<String>;
    let (ipv4, ipv6): (MissingGateway, MissingGateway) =
        (no_gateway_of::<u32>, no_gateway_of::<u128>);
    let clients: (&str, Takes) = ("clients", Side::takes_clients);
    let targets: (&str, Takes) = ("targets", Side::takes_targets);
    let vips = |ipv6| relays.iter().any(|relay| relay.vip.is_ipv6() == ipv6);
    let target =
        |ipv6| relays.iter().flat_map(RelayConfig::target_addresses).any(|at| at.is_ipv6() == ipv6);
    let vip4 = tunnels.iter().any(|tunnel| tunnel.vip4.is_some()) && !vips(false);
    let vip6 = tunnels.iter().any(|tunnel| tunnel.vip6.is_some()) && !vips(true);
    let open = tunnels.iter().any(|tunnel| tunnel.open.is_some()) && !vips(true) && !vip6;
    let wanted = [
        (vips(false), ipv4, clients, "a relay has an IPv4 VIP"),
        (vips(true), ipv6, clients, "a relay has an IPv6 VIP"),
        (target(false), ipv4, targets, "a relay has an IPv4 target"),
        (target(true), ipv6, targets, "a relay has an IPv6 target"),
        (vip4, ipv4, clients, "a tunnel has a vip4"),
        (vip6, ipv6, clients, "a tunnel has a vip6"),
        (open, ipv6, clients, "a tunnel has an open prefix"),
    ];
    for (place, (is_wanted, missing, (side, takes), because)) in wanted.into_iter().enumerate() {
        let reason = is_wanted.then(|| missing(ports, side, takes, because)).flatten();
        match reason {
            Some(reason) if place < 4 => report.error("port", reason),
            Some(reason) => report.warn("port", reason),
            None => {}
        }
    }
}

/// The report on a side that has gateways, but none of the family that `because` needs.
fn no_gateway_of<A: Address>(
    ports: &[PortConfig],
    side: &str,
    takes: fn(Side) -> bool,
    because: &str,
) -> Option<String> {
    let side_ports = || ports.iter().filter(|port| takes(port.side));
    let some = side_ports().any(|port| !port.gateways.is_empty());
    if !some || side_ports().any(|port| port.gateways_of::<A>().next().is_some()) {
        return None;
    }
    let family = if A::BITS == u32::BITS as u8 { "IPv4" } else { "IPv6" };
    Some(format!(
        "no port towards the {side} has an {family} gateway, and {because}; name the {family} \
         router of that side in `gateways`"
    ))
}

fn sides(report: &mut Report, raw: &RawConfig, ports: &[PortConfig]) {
    if !ports.iter().any(|port| port.side.takes_clients()) {
        report.error(
            "port",
            "no port takes frames from clients; give one side = \"client\" or \"both\"",
        );
    }
    // Tunnels have no targets.
    let only_tunnels = raw.relay.is_empty() && !raw.tunnel.is_empty();
    if !only_tunnels && !ports.iter().any(|port| port.side.takes_targets()) {
        report.error(
            "port",
            "no port takes frames from targets; give one side = \"target\" or \"both\"",
        );
    }
}

fn port(report: &mut Report, index: usize, raw: &RawPort) -> PortConfig {
    let key = |name: &str| format!("port[{index}].{name}");
    report.name(&key("name"), &raw.name);
    if raw.device.is_empty() || raw.device.contains('\0') {
        report.error(
            key("device"),
            "empty; name a PCI address such as \"0000:01:00.0\" or a vdev such as \
             \"net_af_packet0,iface=eth0\"",
        );
    }
    let mac = raw.mac.as_ref().and_then(|text| unicast_mac(report, &key("mac"), text));
    let addresses = addresses(report, index, raw);
    let gateways = gateways(report, index, raw, &addresses);
    let mtu = mtu(report, &key("mtu"), raw.mtu);
    if usize::from(mtu) < ipv6::MTU_MIN && addresses.iter().any(|net| net.ip().is_ipv6()) {
        report.error(
            key("mtu"),
            format!(
                "{mtu} is too small for a port with an IPv6 address: use {} or more",
                ipv6::MTU_MIN
            ),
        );
    }
    PortConfig {
        name: raw.name.clone(),
        device: raw.device.clone(),
        side: match raw.side {
            RawSide::Client => Side::Client,
            RawSide::Target => Side::Target,
            RawSide::Both => Side::Both,
        },
        mac,
        addresses,
        gateways,
        vlan: raw.vlan.and_then(|vlan| report.number(&key("vlan"), vlan, 1, 4094)),
        mtu,
        queues: report.number(&key("queues"), raw.queues, 1, MAX_QUEUES as i64).unwrap_or_default(),
    }
}

fn mtu(report: &mut Report, key: &str, given: i64) -> u16 {
    let reason = if given > i64::from(MTU_MAX) {
        "more than Ethernet ports have"
    } else if given < i64::from(MTU_MIN) {
        "less than TCP needs"
    } else {
        return given as u16;
    };
    report.error(
        key,
        format!(
            "{given} is {reason}: it must be {MTU_MIN} to {MTU_MAX}; 1500 is usual, and 9000 where \
             the NIC and all of the link have it"
        ),
    );
    given.clamp(i64::from(MTU_MIN), i64::from(MTU_MAX)) as u16
}

/// Warns of ports towards clients that are too narrow for what IPv6 targets may send them: 1280
/// bytes, whatever the path, which are 20 less over IPv4 (RFC 8200, section 5; RFC 7915).
pub(super) fn widths(report: &mut Report, ports: &[PortConfig], relays: &[RelayConfig]) {
    let over_both = |relay: &RelayConfig| matches!(relay.egress, EgressConfig::Prefix(_));
    let Some(relay) = relays.iter().position(over_both) else { return };
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| port.side.takes_clients()) {
        let (mtu, least) = (port.mtu, ipv6::MTU_MIN - 20);
        if usize::from(mtu) < least {
            report.warn(
                format!("port[{index}].mtu"),
                format!(
                    "{mtu} is too small for the IPv6 targets of relay[{relay}], which may send \
                     1280 bytes whatever the path: use {least} or more"
                ),
            );
        }
    }
}

fn unicast_mac(report: &mut Report, key: &str, text: &str) -> Option<MacAddr> {
    match text.parse::<MacAddr>() {
        Ok(mac) if mac.is_unicast() => Some(mac),
        Ok(mac) => {
            report.error(
                key,
                format!("{mac} is a multicast, broadcast or zero address; use a host's own"),
            );
            None
        }
        Err(error) => {
            report.error(key, format!("{text:?} is {error}"));
            None
        }
    }
}

fn addresses(report: &mut Report, index: usize, raw: &RawPort) -> Vec<IpNet> {
    report.at_most(
        &format!("port[{index}].addresses"),
        "addresses",
        raw.addresses.len(),
        MAX_ADDRESSES,
    );
    let mut nets = Vec::new();
    for (place, text) in raw.addresses.iter().enumerate() {
        let key = format!("port[{index}].addresses[{place}]");
        let Some(net) = IpNet::parse(text) else {
            report.error(
                key,
                format!(
                    "{text:?} is not ADDRESS/LENGTH; write it as \"192.0.2.2/24\" or \
                     \"2001:db8::2/64\""
                ),
            );
            continue;
        };
        if let Some(reason) = not_a_hosts(net) {
            report.error(key, format!("{net} {reason}; use a host's address"));
            continue;
        }
        nets.push(net);
    }
    nets
}

/// The reason that an address with its prefix cannot be a host's, if it cannot.
fn not_a_hosts(net: IpNet) -> Option<&'static str> {
    let (is_host, len, reserved) = match net {
        IpNet::V4(net) => (is_unicast(net.address), net.prefix_len, is_reserved(net)),
        IpNet::V6(net) => {
            let is_host = is_unicast(net.address) || is_link_local6(net.address);
            (is_host, net.prefix_len, is_reserved(net))
        }
    };
    match (net, reserved) {
        _ if !is_host => Some("is not a unicast address"),
        _ if len == 0 => Some("has the whole world on its link"),
        (IpNet::V4(_), true) => Some("is the network or broadcast address of its prefix"),
        (IpNet::V6(_), true) => Some("is the anycast address of the routers of its prefix"),
        _ => None,
    }
}

fn is_reserved<A: Address>(net: Net<A>) -> bool {
    net.reserved().any(|reserved| reserved == net.address)
}

fn gateways(report: &mut Report, index: usize, raw: &RawPort, nets: &[IpNet]) -> Vec<Gateway> {
    let key = format!("port[{index}].gateways");
    report.at_most(&key, "gateways", raw.gateways.len(), MAX_GATEWAYS);
    let macs = gateway_macs(report, index, raw);
    let mut gateways: Vec<Gateway> = Vec::new();
    for (place, text) in raw.gateways.iter().enumerate() {
        let key = format!("{key}[{place}]");
        let Ok(ip) = text.parse::<IpAddr>() else {
            report.error(key, format!("{text:?} is not an IP address"));
            continue;
        };
        if let Some(reason) = not_a_gateway(ip, nets) {
            report.error(key, format!("{ip} {reason}"));
        } else if gateways.iter().any(|gateway| gateway.ip == ip) {
            report.error(key, format!("{ip} is named twice"));
        }
        gateways.push(Gateway { ip, mac: macs.get(place).copied().flatten() });
    }
    gateways
}

/// The reason that `ip` cannot be a gateway on a link with these addresses, if it cannot.
fn not_a_gateway(ip: IpAddr, nets: &[IpNet]) -> Option<&'static str> {
    let holding = || nets.iter().filter(|net| net.contains(ip));
    let as_host = |net: &IpNet| match (*net, ip) {
        (IpNet::V4(net), IpAddr::V4(ip)) => IpNet::V4(Net { address: ip.to_bits(), ..net }),
        (IpNet::V6(net), IpAddr::V6(ip)) => IpNet::V6(Net { address: ip.to_bits(), ..net }),
        (net, _) => net,
    };
    // Every IPv6 link has the link-local addresses (RFC 4291, section 2.1).
    let link_local = u128::of(ip).is_some_and(is_link_local6);
    if nets.iter().any(|net| net.ip() == ip) {
        Some("is this port's own address")
    } else if link_local && !nets.iter().any(|net| net.ip().is_ipv6()) {
        Some("is on a port without an IPv6 address to ask from; add one to `addresses`")
    } else if !link_local && holding().next().is_none() {
        Some("is in no prefix of this port's addresses; a gateway must be on-link")
    } else if ip.is_ipv4() && holding().any(|net| not_a_hosts(as_host(net)).is_some()) {
        Some("is the network or broadcast address of its link")
    } else {
        None
    }
}

fn gateway_macs(report: &mut Report, index: usize, raw: &RawPort) -> Vec<Option<MacAddr>> {
    let Some(texts) = &raw.gateway_macs else { return Vec::new() };
    let key = format!("port[{index}].gateway_macs");
    if texts.len() != raw.gateways.len() {
        report.error(
            &key,
            format!(
                "{} MAC addresses for {} gateways; write one per gateway, in their order",
                texts.len(),
                raw.gateways.len()
            ),
        );
    }
    let macs = texts.iter().enumerate();
    macs.map(|(place, text)| unicast_mac(report, &format!("{key}[{place}]"), text)).collect()
}

/// Every host must accept 576 bytes (RFC 791).
const MTU_MIN: u16 = 576;
/// The usual size of jumbo frames.
const MTU_MAX: u16 = 9216;
