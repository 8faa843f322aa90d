//! The links of a POP: its own ports, and the next hop of a datagram.
//!
//! A destination on a port's own prefix is reached directly, everything else through the gateways
//! of that side, spread by destination over those that answer. Hardware addresses are soft state,
//! learned by ARP (RFC 826) and neighbour discovery (RFC 4861) only of hosts that the POP queried,
//! so that claims about others move no traffic. All tables are bounded, allocated at start and
//! shared by the workers.

mod gateway;
mod hop;
mod neighbour;
mod routes;
pub mod times;

use std::net::IpAddr;

use crate::config::PortConfig;
use crate::net::{Address, PortIndex, Towards, is_link_local6};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::wire::MacAddr;

use gateway::Gateway;
use routes::{NextHops, OnLinkPrefix};

pub use gateway::GatewayStatus;
pub use hop::{AddressQuery, Hop, NoHop, Resolved, RouteKey};
pub use neighbour::Told;
pub use times::{ASK_INTERVAL_MS, EXPIRE_MS, HOSTS_MAX, PROBES, ProbeTimes, REFRESH_MS};

/// A port, as far as sending needs it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Hardware address of the port.
    pub mac: MacAddr,
    /// VLAN of the frames that it sends and accepts.
    pub vlan: Option<u16>,
    /// Largest IP datagram in bytes.
    pub mtu: u16,
    /// The port's first IPv4 address, 0 when it has none: source of our own ICMP errors.
    pub ipv4: u32,
    /// The port's first IPv6 address that is known beyond the link, 0 when it has none.
    pub ipv6: u128,
}

/// Ports and next hops.
#[derive(Debug)]
pub struct Links {
    links: Box<[Link]>,
    min_mtu: u16,
    ipv4: NextHops<u32>,
    ipv6: NextHops<u128>,
}

impl Links {
    /// The links of the ports of `snapshot`, whose hardware addresses are `macs` in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        let (ports, neighbours) = (&snapshot.config.ports, &snapshot.config.neighbours);
        let mac = |index| macs.get(index);
        Links {
            links: ports.iter().enumerate().map(|(at, port)| link(port, mac(at))).collect(),
            min_mtu: ports.iter().map(|port| port.mtu).min().unwrap_or_default(),
            ipv4: NextHops::new(ports, neighbours),
            ipv6: NextHops::new(ports, neighbours),
        }
    }

    /// The port at `port`; `None` when no port has that index.
    #[inline]
    pub fn link(&self, port: PortIndex) -> Option<&Link> {
        self.links.get(usize::from(port.0))
    }

    /// Bytes of the largest IP datagram that fits every port.
    #[inline]
    pub fn min_mtu(&self) -> u64 {
        self.min_mtu.into()
    }

    /// What the next hop to the IPv4 address `dst` depends on: at one time, all addresses with the
    /// same key have the same one.
    #[inline(always)]
    pub fn route_key(&self, towards: Towards, dst: u32) -> RouteKey {
        self.ipv4.route_key(towards, dst)
    }

    /// The [key](Links::route_key) of all IPv4 addresses that are not [on a link](Links::on_link);
    /// `None` where there are several gateways to choose from.
    #[inline]
    pub fn common_route(&self, towards: Towards) -> Option<RouteKey> {
        self.ipv4.common_route(towards)
    }

    /// The IPv4 prefixes of that side's ports: addresses and masks.
    #[inline]
    pub fn on_link(&self, towards: Towards) -> impl Iterator<Item = (u32, u32)> {
        self.ipv4.on_link(towards)
    }

    /// The source address of an ARP request: the port's own address on the prefix of the host, 0
    /// when the port has none.
    pub fn arp_source(&self, query: AddressQuery<u32>) -> u32 {
        let prefixes = self.ipv4.prefixes_of(query.port);
        let mut on_prefix = prefixes.filter(|prefix| prefix.holds(query.ip));
        on_prefix.next().map_or(0, |prefix| prefix.address)
    }

    /// The source address of a neighbour solicitation: as [`Links::arp_source`], but a
    /// link-local host is queried from a link-local address if the port has one (RFC 4861, 7.2.2).
    pub fn solicitation_source(&self, query: AddressQuery<u128>) -> u128 {
        let link_local = is_link_local6(query.ip);
        let fitness = |prefix: &&OnLinkPrefix<u128>| {
            let same_scope = is_link_local6(prefix.address) == link_local;
            (prefix.holds(query.ip), same_scope)
        };
        // Of prefixes that fit equally well the first is used.
        let prefixes = self.ipv6.prefixes_of(query.port).map(|prefix| (fitness(&prefix), prefix));
        let best = prefixes.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map_or(0, |(_, prefix)| prefix.address)
    }

    /// The next hop to `dst`. `admit` is asked for a query about a host on a link whose hardware
    /// address is not known.
    #[inline(always)]
    pub fn resolve(
        &self,
        now: Instant,
        towards: Towards,
        dst: IpAddr,
        admit: impl FnOnce(IpAddr) -> bool,
    ) -> Resolved<IpAddr> {
        match dst {
            IpAddr::V4(dst) => {
                let (hop, query) = self.ipv4.resolve(now, towards, dst.to_bits(), admit);
                (hop, query.map(AddressQuery::of_either))
            }
            IpAddr::V6(dst) => {
                let (hop, query) = self.ipv6.resolve(now, towards, dst.to_bits(), admit);
                (hop, query.map(AddressQuery::of_either))
            }
        }
    }

    /// Learns a hardware address that ARP or neighbour discovery told on `port`. False when the POP
    /// did not query that host, or knows all of it already.
    pub fn learn(
        &self,
        now: Instant,
        port: PortIndex,
        ip: IpAddr,
        mac: MacAddr,
        told: Told,
    ) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                self.ipv4.learn(now, AddressQuery { port, ip: ip.to_bits() }, mac, told)
            }
            IpAddr::V6(ip) => {
                self.ipv6.learn(now, AddressQuery { port, ip: ip.to_bits() }, mac, told)
            }
        }
    }

    /// Takes an answer that the station `mac` sent for the host `ip` without an address in it, as
    /// solicitations to the host itself are answered (RFC 4861, section 4.4). False when that is
    /// not the known address of a host that the POP asks for.
    pub fn confirm(&self, now: Instant, port: PortIndex, ip: IpAddr, mac: MacAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ipv4.confirm(now, AddressQuery { port, ip: ip.to_bits() }, mac),
            IpAddr::V6(ip) => self.ipv6.confirm(now, AddressQuery { port, ip: ip.to_bits() }, mac),
        }
    }

    /// Calls `send` for every query that is due without traffic: for gateways, and for targets of
    /// `snapshot` on a port's own prefix.
    pub fn due(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        mut send: impl FnMut(AddressQuery<IpAddr>),
    ) {
        self.ipv4.due(now, targets_on_link(snapshot), &mut send);
        self.ipv6.due(now, targets_on_link(snapshot), &mut send);
    }

    /// The hardware address that a query goes to, if not to all: that of a gateway whose address is
    /// fixed.
    pub fn unicast(&self, query: AddressQuery<IpAddr>) -> Option<MacAddr> {
        let port = query.port;
        match query.ip {
            IpAddr::V4(ip) => self.ipv4.gateway(AddressQuery { port, ip: ip.to_bits() })?.unicast(),
            IpAddr::V6(ip) => self.ipv6.gateway(AddressQuery { port, ip: ip.to_bits() })?.unicast(),
        }
    }

    /// A query could not be sent: that it gets no answer does not tell against a gateway.
    pub fn take_back(&self, query: AddressQuery<IpAddr>) {
        let port = query.port;
        match query.ip {
            IpAddr::V4(ip) => {
                let gateway = self.ipv4.gateway(AddressQuery { port, ip: ip.to_bits() });
                gateway.into_iter().for_each(Gateway::take_back);
            }
            IpAddr::V6(ip) => {
                let gateway = self.ipv6.gateway(AddressQuery { port, ip: ip.to_bits() });
                gateway.into_iter().for_each(Gateway::take_back);
            }
        }
    }

    /// All gateways, by port.
    pub fn gateways(&self, now: Instant) -> Vec<GatewayStatus> {
        ordered(self.ipv4.statuses(now).chain(self.ipv6.statuses(now)))
    }

    /// Gateways of sides on which none of a family answers: nothing gets through there.
    pub fn cut_off_gateways(&self, now: Instant) -> Vec<(PortIndex, IpAddr)> {
        let gateways = ordered(self.ipv4.cut_off(now).chain(self.ipv6.cut_off(now)));
        gateways.into_iter().map(|status| (status.port, status.ip)).collect()
    }
}

/// Gateways by port and address, each once.
fn ordered(gateways: impl Iterator<Item = GatewayStatus>) -> Vec<GatewayStatus> {
    let mut gateways: Vec<_> = gateways.collect();
    gateways.sort_by_key(|status| (status.port.0, status.ip));
    gateways.dedup_by_key(|status| (status.port, status.ip));
    gateways
}

/// The targets of one family that are on a port's own prefix.
fn targets_on_link<A: Address>(snapshot: &Snapshot) -> impl Iterator<Item = AddressQuery<A>> {
    let targets = snapshot.targets_on_link().iter();
    targets.filter_map(|(port, ip)| Some(AddressQuery { port: *port, ip: A::of(*ip)? }))
}

fn link(port: &PortConfig, mac: Option<&MacAddr>) -> Link {
    let mut global = port.nets::<u128>().filter(|net| !is_link_local6(net.address));
    Link {
        mac: mac.copied().or(port.mac).unwrap_or_default(),
        vlan: port.vlan,
        mtu: port.mtu,
        ipv4: port.nets::<u32>().next().map_or(0, |net| net.address),
        ipv6: global.next().map_or(0, |net| net.address),
    }
}
