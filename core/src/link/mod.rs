//! The links of a POP: its own ports, and the next hop of a datagram.
//!
//! A destination on a port's own prefix is reached directly, everything else through the gateways
//! of that side, spread by destination over those that are resolved. Hardware addresses are soft
//! state, learned by ARP (RFC 826) and neighbour discovery (RFC 4861) only from hosts that the POP
//! queried, so that unsolicited claims move no traffic. All tables are bounded, allocated at start
//! and shared by the workers.

mod neighbour;
pub mod times;

use std::net::IpAddr;

use crate::config::PortConfig;
use crate::net::{Address, PortIndex, Towards, is_link_local6};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::wire::MacAddr;

use neighbour::{Hosts, Neighbour};

pub use times::{ASK_INTERVAL_MS, EXPIRE_MS, HOSTS_MAX, REFRESH_MS};

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

/// The next hop of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Port to send through.
    pub port: PortIndex,
    /// Hardware address to send to.
    pub mac: MacAddr,
}

/// A query for the hardware address of a host: an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressQuery<A> {
    /// Port to send it through.
    pub port: PortIndex,
    /// Address whose hardware address is asked for.
    pub ip: A,
}

impl<A: Address> AddressQuery<A> {
    /// The query with an address of either family.
    pub fn of_either(self) -> AddressQuery<IpAddr> {
        AddressQuery { port: self.port, ip: self.ip.ip() }
    }
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// No prefix and no gateway leads there.
    NoRoute,
    /// The hardware address of the next hop is not known yet.
    Unresolved,
    /// It is not known, and a query for it was not admitted.
    NotAdmitted,
}

/// The outcome of looking for a next hop, and a query that is to be sent in either case.
pub type Resolved<A> = (Result<Hop, NoHop>, Option<AddressQuery<A>>);

/// Ports and next hops.
#[derive(Debug)]
pub struct Links {
    links: Box<[Link]>,
    ipv4: NextHops<u32>,
    ipv6: NextHops<u128>,
}

/// The next hops of one address family.
#[derive(Debug)]
struct NextHops<A> {
    clients: Routes<A>,
    targets: Routes<A>,
    hosts: Hosts,
    // Targets on a port's own prefix, resolved ahead of traffic.
    targets_on_link: Box<[AddressQuery<A>]>,
}

#[derive(Debug)]
struct Routes<A> {
    prefixes: Vec<OnLinkPrefix<A>>,
    gateways: Vec<GatewayState<A>>,
}

#[derive(Clone, Copy, Debug)]
struct OnLinkPrefix<A> {
    port: PortIndex,
    address: A,
    network: A,
    mask: A,
}

#[derive(Debug)]
struct GatewayState<A> {
    port: PortIndex,
    ip: A,
    fixed: Option<MacAddr>,
    neighbour: Neighbour,
}

impl Links {
    /// The links of the ports of `snapshot`, whose hardware addresses are `macs` in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        let ports = &snapshot.config.ports;
        let targets: Vec<IpAddr> = snapshot
            .relays()
            .flat_map(|relay| relay.targets.all())
            .map(|target| target.ip())
            .collect();
        let mac = |index| macs.get(index);
        Links {
            links: ports.iter().enumerate().map(|(at, port)| link(port, mac(at))).collect(),
            ipv4: NextHops::new(ports, &targets),
            ipv6: NextHops::new(ports, &targets),
        }
    }

    /// The port at `port`; `None` when no port has that index.
    #[inline]
    pub fn link(&self, port: PortIndex) -> Option<&Link> {
        self.links.get(usize::from(port.0))
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

    /// Learns a hardware address that ARP or neighbour discovery announced on `port`. A known one
    /// stays unless the new one `replaces` it. False when the POP did not query that host.
    pub fn learn(
        &self,
        now: Instant,
        port: PortIndex,
        ip: IpAddr,
        mac: MacAddr,
        replaces: bool,
    ) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                self.ipv4.learn(now, AddressQuery { port, ip: ip.to_bits() }, mac, replaces)
            }
            IpAddr::V6(ip) => {
                self.ipv6.learn(now, AddressQuery { port, ip: ip.to_bits() }, mac, replaces)
            }
        }
    }

    /// Calls `send` for every query that is due without traffic: for gateways, and for targets on a
    /// port's own prefix.
    pub fn due(&self, now: Instant, mut send: impl FnMut(AddressQuery<IpAddr>)) {
        self.ipv4.due(now, &mut send);
        self.ipv6.due(now, &mut send);
    }

    /// Gateways whose hardware address is not known now.
    pub fn unresolved_gateways(&self, now: Instant) -> Vec<(PortIndex, IpAddr)> {
        let mut unresolved = self.ipv4.unresolved(now);
        unresolved.extend(self.ipv6.unresolved(now));
        unresolved.sort_by_key(|(port, ip)| (port.0, *ip));
        unresolved.dedup();
        unresolved
    }
}

impl<A: Address> NextHops<A> {
    fn new(ports: &[PortConfig], targets: &[IpAddr]) -> Self {
        let routes = |takes: fn(&PortConfig) -> bool| {
            let mut routes = Routes { prefixes: Vec::new(), gateways: Vec::new() };
            for (index, port) in (0..).map(PortIndex).zip(ports).filter(|(_, port)| takes(port)) {
                routes.add(index, port);
            }
            routes
        };
        let clients = routes(|port| port.side.takes_clients());
        let targets_side = routes(|port| port.side.takes_targets());
        let targets_on_link = targets
            .iter()
            .filter_map(|ip| A::of(*ip))
            .filter_map(|ip| Some(AddressQuery { port: targets_side.on_link(ip)?.port, ip }))
            .collect();
        NextHops { clients, targets: targets_side, hosts: Hosts::new(), targets_on_link }
    }

    fn gateways(&self) -> impl Iterator<Item = &GatewayState<A>> {
        self.clients.gateways.iter().chain(&self.targets.gateways)
    }

    fn prefixes_of(&self, port: PortIndex) -> impl Iterator<Item = &OnLinkPrefix<A>> {
        let prefixes = self.clients.prefixes.iter().chain(&self.targets.prefixes);
        prefixes.filter(move |prefix| prefix.port == port)
    }

    #[inline(always)]
    fn resolve(
        &self,
        now: Instant,
        towards: Towards,
        dst: A,
        admit: impl FnOnce(IpAddr) -> bool,
    ) -> Resolved<A> {
        let routes = match towards {
            Towards::Clients => &self.clients,
            Towards::Targets => &self.targets,
        };
        if let Some(prefix) = routes.on_link(dst) {
            return self.resolve_host(now, AddressQuery { port: prefix.port, ip: dst }, admit);
        }
        let count = routes.gateways.len();
        let start = if count > 1 { dst.spread() as usize % count } else { 0 };
        let (after, before) = routes.gateways.split_at_checked(start).unwrap_or_default();
        let mut query = None;
        for gateway in before.iter().chain(after) {
            let (mac, due) = gateway.resolve(now);
            query = query.or(due.then_some(AddressQuery { port: gateway.port, ip: gateway.ip }));
            if let Some(mac) = mac {
                return (Ok(Hop { port: gateway.port, mac }), query);
            }
        }
        (Err(if count == 0 { NoHop::NoRoute } else { NoHop::Unresolved }), query)
    }

    /// A known host is asked again without `admit`: those are few, and in use.
    fn resolve_host(
        &self,
        now: Instant,
        query: AddressQuery<A>,
        admit: impl FnOnce(IpAddr) -> bool,
    ) -> Resolved<A> {
        let AddressQuery { port, ip } = query;
        if let Some(host) = self.hosts.find(port, ip) {
            return match host.resolve(now) {
                (Some(mac), due) => (Ok(Hop { port, mac }), due.then_some(query)),
                (None, false) => (Err(NoHop::Unresolved), None),
                (None, true) if admit(ip.ip()) => (Err(NoHop::Unresolved), Some(query)),
                (None, true) => (Err(NoHop::NotAdmitted), None),
            };
        }
        if !admit(ip.ip()) {
            return (Err(NoHop::NotAdmitted), None);
        }
        let due = self.hosts.claim(port, ip).is_some_and(|host| host.resolve(now).1);
        (Err(NoHop::Unresolved), due.then_some(query))
    }

    fn learn(&self, now: Instant, query: AddressQuery<A>, mac: MacAddr, replaces: bool) -> bool {
        if !mac.is_unicast() {
            return false;
        }
        let AddressQuery { port, ip } = query;
        let mut wanted = false;
        for gateway in self.gateways().filter(|gateway| gateway.port == port && gateway.ip == ip) {
            gateway.neighbour.learn(now, mac, replaces);
            wanted = true;
        }
        if let Some(host) = self.hosts.find(port, ip) {
            host.learn(now, mac, replaces);
            wanted = true;
        }
        wanted
    }

    fn due(&self, now: Instant, send: &mut impl FnMut(AddressQuery<IpAddr>)) {
        for gateway in self.gateways() {
            if gateway.resolve(now).1 {
                send(AddressQuery { port: gateway.port, ip: gateway.ip.ip() });
            }
        }
        for query in &self.targets_on_link {
            if let (_, Some(query)) = self.resolve_host(now, *query, |_| true) {
                send(query.of_either());
            }
        }
    }

    fn unresolved(&self, now: Instant) -> Vec<(PortIndex, IpAddr)> {
        let unknown = |gateway: &&GatewayState<A>| {
            gateway.fixed.is_none() && !gateway.neighbour.is_known(now)
        };
        self.gateways().filter(unknown).map(|gateway| (gateway.port, gateway.ip.ip())).collect()
    }
}

impl<A: Address> Routes<A> {
    fn add(&mut self, index: PortIndex, port: &PortConfig) {
        for net in port.nets::<A>() {
            let (address, network, mask) = (net.address, net.first(), net.mask());
            self.prefixes.push(OnLinkPrefix { port: index, address, network, mask });
        }
        for (ip, fixed) in port.gateways_of::<A>() {
            let neighbour = Neighbour::default();
            self.gateways.push(GatewayState { port: index, ip, fixed, neighbour });
        }
    }

    #[inline]
    fn on_link(&self, ip: A) -> Option<&OnLinkPrefix<A>> {
        self.prefixes.iter().find(|prefix| prefix.holds(ip))
    }
}

impl<A: Address> OnLinkPrefix<A> {
    #[inline]
    fn holds(&self, ip: A) -> bool {
        ip & self.mask == self.network
    }
}

impl<A> GatewayState<A> {
    #[inline(always)]
    fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        match self.fixed {
            Some(mac) => (Some(mac), false),
            None => self.neighbour.resolve(now),
        }
    }
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
