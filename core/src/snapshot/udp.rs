//! Where UDP that is relayed comes from and goes to.

use std::net::IpAddr;

use crate::config::{Config, EgressConfig, RelayConfig};
use crate::net::{IpNet, Protocol};

/// The addresses that datagrams of relays with UDP have.
#[derive(Clone, Debug)]
pub(super) struct UdpEnds {
    /// VIPs, ascending.
    vips: Vec<IpAddr>,
    /// Prefixes that targets answer to.
    egress: Vec<IpNet>,
    /// Targets that answer to clients themselves, ascending.
    targets: Vec<IpAddr>,
}

impl UdpEnds {
    /// Those of `config`; `None` where no relay has UDP.
    pub fn new(config: &Config) -> Option<Self> {
        let relays = config.relays.iter().filter(|relay| relay.protocols.has(Protocol::Udp));
        let relays: Vec<_> = relays.collect();
        let is_transparent = |relay: &&&RelayConfig| relay.egress == EgressConfig::Transparent;
        let transparent = relays.iter().filter(is_transparent);
        let targets = transparent.flat_map(|relay| relay.target_addresses());
        let prefixes = relays.iter().filter(|relay| relay.egress.encapsulation().is_none());
        let udp = UdpEnds {
            vips: ascending(relays.iter().map(|relay| relay.vip.ip())),
            egress: prefixes.filter_map(|relay| relay.egress.net()).collect(),
            targets: ascending(targets.map(|target| target.ip())),
        };
        (!relays.is_empty()).then_some(udp)
    }

    /// Whether a datagram from `src` to `dst` may be of UDP that is relayed.
    pub fn may_relay(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.vips.binary_search(&dst).is_ok()
            || self.targets.binary_search(&src).is_ok()
            || self.egress.iter().any(|net| net.contains(dst))
    }
}

/// `addresses` in rising order, each once.
pub(super) fn ascending(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
