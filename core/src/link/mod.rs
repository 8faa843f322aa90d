//! The links of a POP: its own ports, and which station a datagram goes to next.
//!
//! A destination on a port's own prefix is reached directly, everything else through the gateways
//! of that side, spread by destination over those that are resolved. Hardware addresses are soft
//! state, learned by ARP (RFC 826) and neighbour discovery (RFC 4861) only from stations that were
//! asked for, so that nobody else's claims move traffic. All tables are bounded, allocated at start
//! and shared by the workers.

mod neighbour;

use std::net::IpAddr;

use crate::config::PortConfig;
use crate::net::PortIndex;
use crate::net::Towards;
use crate::net::{Address, is_link_local6};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::wire::MacAddr;

use neighbour::{Neighbour, Stations};

/// A neighbour is asked again when its last answer is older than this.
pub const REFRESH_MS: u64 = 20_000;
/// A neighbour whose last answer is older than this is not used.
pub const EXPIRE_MS: u64 = 60_000;
/// A neighbour is asked at most once in this time.
pub const ASK_INTERVAL_MS: u64 = 1_000;
/// On-link stations of each family, gateways aside, that are remembered at most.
pub const HOSTS_MAX: usize = 4096;

/// A port's part in sending.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Hardware address of the port.
    pub mac: MacAddr,
    /// VLAN of the frames that it sends and takes.
    pub vlan: Option<u16>,
    /// Largest IP datagram in bytes.
    pub mtu: u16,
    /// The port's first IPv4 address, 0 when it has none: source of our own ICMP errors.
    pub address: u32,
    /// The port's first IPv6 address that is known beyond the link, 0 when it has none.
    pub address6: u128,
}

/// The station a datagram goes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Port to send through.
    pub port: PortIndex,
    /// Hardware address to send to.
    pub mac: MacAddr,
}

/// A question for a station's hardware address that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<A> {
    /// Port to ask on.
    pub port: PortIndex,
    /// Address to ask for.
    pub ip: A,
}

impl<A: Address> Question<A> {
    /// The question with an address of either family.
    pub fn of_either(self) -> Question<IpAddr> {
        Question { port: self.port, ip: self.ip.ip() }
    }
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHop {
    /// No prefix and no gateway leads there.
    NoRoute,
    /// There is a station, but its hardware address is not known yet.
    Unresolved,
}

/// The outcome of looking for a next hop, and a question to be sent in any case.
pub type Resolved<A> = (Result<Hop, NoHop>, Option<Question<A>>);

/// Ports and next hops.
#[derive(Debug)]
pub struct Links {
    links: Box<[Link]>,
    ipv4: Family<u32>,
    ipv6: Family<u128>,
}

/// Next hops of one address family.
#[derive(Debug)]
struct Family<A> {
    clients: Routes<A>,
    targets: Routes<A>,
    hosts: Stations,
    // Targets on a port's own prefix, resolved ahead of traffic.
    awaited: Box<[Question<A>]>,
}

#[derive(Debug)]
struct Routes<A> {
    prefixes: Vec<Prefix<A>>,
    gateways: Vec<Gateway<A>>,
}

#[derive(Clone, Copy, Debug)]
struct Prefix<A> {
    port: PortIndex,
    address: A,
    network: A,
    mask: A,
}

#[derive(Debug)]
struct Gateway<A> {
    port: PortIndex,
    ip: A,
    fixed: Option<MacAddr>,
    neighbour: Neighbour,
}

impl Links {
    /// The links of the ports of `snapshot`, whose hardware addresses are `macs` in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        let ports = &snapshot.config.ports;
        let targets = snapshot.services.iter().flat_map(|service| service.targets());
        let targets6 = snapshot.services6.iter().flat_map(|service| service.targets());
        let mac = |index| macs.get(index);
        Links {
            links: ports.iter().enumerate().map(|(at, port)| link(port, mac(at))).collect(),
            ipv4: Family::new(ports, targets.map(|target| target.ip)),
            ipv6: Family::new(ports, targets6.map(|target| target.ip)),
        }
    }

    /// A port's part in sending; `None` for an index that is no port's.
    #[inline]
    pub fn link(&self, port: PortIndex) -> Option<&Link> {
        self.links.get(usize::from(port.0))
    }

    /// The port's own address to ask that station from: the one on its prefix, 0 when there is
    /// none.
    pub fn address_towards(&self, question: Question<u32>) -> u32 {
        let prefixes = self.ipv4.prefixes_of(question.port);
        let mut on_prefix = prefixes.filter(|prefix| prefix.holds(question.ip));
        on_prefix.next().map_or(0, |prefix| prefix.address)
    }

    /// [`Links::address_towards`] for IPv6, where a link-local station can be asked from any
    /// address: from a link-local one if there is one (RFC 4861, section 7.2.2).
    pub fn address_towards6(&self, question: Question<u128>) -> u128 {
        let link_local = is_link_local6(question.ip);
        let fitness = |prefix: &&Prefix<u128>| {
            let same_scope = is_link_local6(prefix.address) == link_local;
            (prefix.holds(question.ip), same_scope)
        };
        // Of equals the first counts.
        let prefixes =
            self.ipv6.prefixes_of(question.port).map(|prefix| (fitness(&prefix), prefix));
        let best = prefixes.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.map_or(0, |(_, prefix)| prefix.address)
    }

    /// The next hop to `dst`.
    #[inline(always)]
    pub fn resolve(&self, now: Instant, towards: Towards, dst: u32) -> Resolved<u32> {
        self.ipv4.resolve(now, towards, dst)
    }

    /// The next hop to `dst`.
    #[inline]
    pub fn resolve6(&self, now: Instant, towards: Towards, dst: u128) -> Resolved<u128> {
        self.ipv6.resolve(now, towards, dst)
    }

    /// Learns from an ARP packet received on `port`. False when nobody asked for that station.
    pub fn learn(&self, now: Instant, port: PortIndex, ip: u32, mac: MacAddr) -> bool {
        self.ipv4.learn(now, Question { port, ip }, mac, true)
    }

    /// Learns from neighbour discovery on `port`: an address that is in use stays unless the new
    /// one `replaces` it. False when nobody asked for that station.
    pub fn learn6(
        &self,
        now: Instant,
        port: PortIndex,
        ip: u128,
        mac: MacAddr,
        replaces: bool,
    ) -> bool {
        self.ipv6.learn(now, Question { port, ip }, mac, replaces)
    }

    /// Calls `ask` for every question that is due without traffic: for gateways, and for targets on
    /// a port's own prefix.
    pub fn due(&self, now: Instant, mut ask: impl FnMut(Question<IpAddr>)) {
        self.ipv4.due(now, &mut ask);
        self.ipv6.due(now, &mut ask);
    }

    /// Gateways that can not be used now.
    pub fn unresolved_gateways(&self, now: Instant) -> Vec<(PortIndex, IpAddr)> {
        let mut unresolved = self.ipv4.unresolved(now);
        unresolved.extend(self.ipv6.unresolved(now));
        unresolved.sort_by_key(|(port, ip)| (port.0, *ip));
        unresolved.dedup();
        unresolved
    }
}

impl<A: Address> Family<A> {
    fn new(ports: &[PortConfig], targets: impl Iterator<Item = A>) -> Self {
        let routes = |takes: fn(&PortConfig) -> bool| {
            let mut routes = Routes { prefixes: Vec::new(), gateways: Vec::new() };
            for (index, port) in (0..).map(PortIndex).zip(ports).filter(|(_, port)| takes(port)) {
                routes.add(index, port);
            }
            routes
        };
        let clients = routes(|port| port.side.takes_clients());
        let targets_side = routes(|port| port.side.takes_targets());
        let awaited = targets
            .filter_map(|ip| Some(Question { port: targets_side.on_link(ip)?.port, ip }))
            .collect();
        Family { clients, targets: targets_side, hosts: Stations::new(), awaited }
    }

    fn gateways(&self) -> impl Iterator<Item = &Gateway<A>> {
        self.clients.gateways.iter().chain(&self.targets.gateways)
    }

    fn prefixes_of(&self, port: PortIndex) -> impl Iterator<Item = &Prefix<A>> {
        let prefixes = self.clients.prefixes.iter().chain(&self.targets.prefixes);
        prefixes.filter(move |prefix| prefix.port == port)
    }

    #[inline(always)]
    fn resolve(&self, now: Instant, towards: Towards, dst: A) -> Resolved<A> {
        let routes = match towards {
            Towards::Clients => &self.clients,
            Towards::Targets => &self.targets,
        };
        if let Some(prefix) = routes.on_link(dst) {
            return self.resolve_host(now, Question { port: prefix.port, ip: dst });
        }
        let count = routes.gateways.len();
        let start = if count > 1 { dst.spread() as usize % count } else { 0 };
        let (after, before) = routes.gateways.split_at_checked(start).unwrap_or_default();
        let mut question = None;
        for gateway in before.iter().chain(after) {
            let (mac, due) = gateway.resolve(now);
            question = question.or(due.then_some(Question { port: gateway.port, ip: gateway.ip }));
            if let Some(mac) = mac {
                return (Ok(Hop { port: gateway.port, mac }), question);
            }
        }
        (Err(if count == 0 { NoHop::NoRoute } else { NoHop::Unresolved }), question)
    }

    fn resolve_host(&self, now: Instant, question: Question<A>) -> Resolved<A> {
        let Question { port, ip } = question;
        let host = self.hosts.find(port, ip).or_else(|| self.hosts.claim(port, ip));
        let Some(host) = host else { return (Err(NoHop::Unresolved), None) };
        let (mac, due) = host.resolve(now);
        let hop = mac.map(|mac| Hop { port, mac }).ok_or(NoHop::Unresolved);
        (hop, due.then_some(question))
    }

    fn learn(&self, now: Instant, station: Question<A>, mac: MacAddr, replaces: bool) -> bool {
        if !mac.is_unicast() {
            return false;
        }
        let Question { port, ip } = station;
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

    fn due(&self, now: Instant, ask: &mut impl FnMut(Question<IpAddr>)) {
        for gateway in self.gateways() {
            if gateway.resolve(now).1 {
                ask(Question { port: gateway.port, ip: gateway.ip.ip() });
            }
        }
        for question in &self.awaited {
            if let (_, Some(question)) = self.resolve_host(now, *question) {
                ask(question.of_either());
            }
        }
    }

    fn unresolved(&self, now: Instant) -> Vec<(PortIndex, IpAddr)> {
        let unknown =
            |gateway: &&Gateway<A>| gateway.fixed.is_none() && !gateway.neighbour.is_known(now);
        self.gateways().filter(unknown).map(|gateway| (gateway.port, gateway.ip.ip())).collect()
    }
}

impl<A: Address> Routes<A> {
    fn add(&mut self, index: PortIndex, port: &PortConfig) {
        for net in port.nets::<A>() {
            let (address, network, mask) = (net.address, net.first(), net.mask());
            self.prefixes.push(Prefix { port: index, address, network, mask });
        }
        for (ip, fixed) in port.gateways_of::<A>() {
            let neighbour = Neighbour::default();
            self.gateways.push(Gateway { port: index, ip, fixed, neighbour });
        }
    }

    #[inline]
    fn on_link(&self, ip: A) -> Option<&Prefix<A>> {
        self.prefixes.iter().find(|prefix| prefix.holds(ip))
    }
}

impl<A: Address> Prefix<A> {
    #[inline]
    fn holds(&self, ip: A) -> bool {
        ip & self.mask == self.network
    }
}

impl<A> Gateway<A> {
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
        address: port.nets::<u32>().next().map_or(0, |net| net.address),
        address6: global.next().map_or(0, |net| net.address),
    }
}
