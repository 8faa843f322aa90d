//! Targets that need no gateway.

use std::net::IpAddr;

use crate::config::{Config, PortConfig, RelayConfig};
use crate::net::{Address, PortIndex};

/// The targets on the prefix of a port of their side, each with the first such port, once.
pub(super) fn targets_on_link(config: &Config) -> Box<[(PortIndex, IpAddr)]> {
    let targets = config.relays.iter().flat_map(RelayConfig::target_addresses);
    let targets = targets.map(|target| target.ip());
    let mut found: Vec<_> =
        targets.filter_map(|ip| Some((port_of(&config.ports, ip)?, ip))).collect();
    found.sort_by_key(|(port, ip)| (port.0, *ip));
    found.dedup();
    found.into()
}

fn port_of(ports: &[PortConfig], ip: IpAddr) -> Option<PortIndex> {
    let place = match ip {
        IpAddr::V4(ip) => place(ports, ip.to_bits()),
        IpAddr::V6(ip) => place(ports, ip.to_bits()),
    };
    place.map(|place| PortIndex(place as u8))
}

fn place<A: Address>(ports: &[PortConfig], ip: A) -> Option<usize> {
    let holds = |port: &PortConfig| port.nets::<A>().any(|net| net.contains(ip));
    ports.iter().position(|port| port.side.takes_targets() && holds(port))
}
