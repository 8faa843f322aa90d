//! The next hops of one address family: prefixes of ports, gateways, and hosts on the links.

use std::net::IpAddr;
use std::sync::Arc;

use super::gateway::{Gateway, GatewayStatus};
use super::hop::{AddressQuery, Hop, NoHop, Resolved, RouteKey};
use super::neighbour::{Found, Hosts, Told};
use super::times::ProbeTimes;
use crate::config::{NeighboursConfig, PortConfig};
use crate::net::{Address, PortIndex, Towards};
use crate::time::Instant;
use crate::wire::MacAddr;

/// The next hops of one address family.
#[derive(Debug)]
pub(super) struct NextHops<A> {
    clients: Routes<A>,
    targets: Routes<A>,
    /// Of both sides, each once.
    gateways: Vec<Arc<Gateway<A>>>,
    times: ProbeTimes,
    hosts: Hosts,
}

/// The ways of one side.
#[derive(Debug)]
struct Routes<A> {
    prefixes: Vec<OnLinkPrefix<A>>,
    gateways: Vec<Arc<Gateway<A>>>,
}

/// A prefix of a port, and the port's address in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnLinkPrefix<A> {
    pub(super) port: PortIndex,
    pub(super) address: A,
    network: A,
    mask: A,
}

impl<A: Address> NextHops<A> {
    pub fn new(ports: &[PortConfig], neighbours: &NeighboursConfig) -> Self {
        let several = [
            several_gateways::<A>(ports, |port| port.side.takes_clients()),
            several_gateways::<A>(ports, |port| port.side.takes_targets()),
        ];
        let mut gateways = Vec::new();
        for (index, port) in (0..).map(PortIndex).zip(ports) {
            let [clients, targets] = several;
            let shares =
                clients && port.side.takes_clients() || targets && port.side.takes_targets();
            let is_probed = neighbours.probe_fixed.unwrap_or(shares);
            for (ip, fixed) in port.gateways_of::<A>() {
                gateways.push(Arc::new(Gateway::new(index, ip, fixed, is_probed)));
            }
        }
        let routes = |takes: fn(&PortConfig) -> bool| {
            let mut routes = Routes { prefixes: Vec::new(), gateways: Vec::new() };
            for (index, port) in (0..).map(PortIndex).zip(ports).filter(|(_, port)| takes(port)) {
                routes.add(index, port, &gateways);
            }
            routes
        };
        let clients = routes(|port| port.side.takes_clients());
        let targets = routes(|port| port.side.takes_targets());
        // Without a prefix of the family no host of it is on a link.
        let has_links = !(clients.prefixes.is_empty() && targets.prefixes.is_empty());
        let hosts = if has_links { Hosts::new() } else { Hosts::default() };
        NextHops { clients, targets, gateways, times: neighbours.into(), hosts }
    }

    /// The prefixes of a port.
    pub fn prefixes_of(&self, port: PortIndex) -> impl Iterator<Item = &OnLinkPrefix<A>> {
        let prefixes = self.clients.prefixes.iter().chain(&self.targets.prefixes);
        prefixes.filter(move |prefix| prefix.port == port)
    }

    fn routes(&self, towards: Towards) -> &Routes<A> {
        match towards {
            Towards::Clients => &self.clients,
            Towards::Targets => &self.targets,
        }
    }

    /// See [`Links::resolve`](super::Links::resolve).
    #[inline(always)]
    pub fn resolve(
        &self,
        now: Instant,
        towards: Towards,
        dst: A,
        admit: impl FnOnce(IpAddr) -> bool,
    ) -> Resolved<A> {
        let routes = self.routes(towards);
        if let Some(prefix) = routes.on_link(dst) {
            return self.resolve_host(now, AddressQuery { port: prefix.port, ip: dst }, admit);
        }
        let (count, start) = (routes.gateways.len(), routes.first_gateway(dst));
        let (after, before) = routes.gateways.split_at_checked(start).unwrap_or_default();
        let mut query = None;
        let mut silent = None;
        for gateway in before.iter().chain(after) {
            let Found { mac, answers, due } = gateway.find(now, &self.times, query.is_none());
            if due {
                query = Some(AddressQuery { port: gateway.port, ip: gateway.ip });
            }
            let Some(mac) = mac else { continue };
            let hop = Hop { port: gateway.port, mac };
            if answers {
                return (Ok(hop), query);
            }
            silent = silent.or(Some(hop));
        }
        // Where none answers, the place that one had is better than none.
        let none = if count == 0 { NoHop::NoRoute } else { NoHop::Unresolved };
        (silent.ok_or(none), query)
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

    /// See [`Links::learn`](super::Links::learn).
    pub fn learn(&self, now: Instant, query: AddressQuery<A>, mac: MacAddr, told: Told) -> bool {
        if !mac.is_unicast() {
            return false;
        }
        let AddressQuery { port, ip } = query;
        let mut wanted = false;
        for gateway in self.gateways.iter().filter(|gateway| gateway.is(port, ip)) {
            wanted |= gateway.learn(now, mac, told, &self.times);
        }
        if let Some(host) = self.hosts.find(port, ip) {
            wanted |= host.learn(now, mac, told) || told.confirms;
        }
        wanted
    }

    /// See [`Links::confirm`](super::Links::confirm).
    pub fn confirm(&self, now: Instant, query: AddressQuery<A>, mac: MacAddr) -> bool {
        let by_gateway = self.gateway(query).is_some_and(|it| it.confirm(now, mac, &self.times));
        let host = self.hosts.find(query.port, query.ip);
        host.is_some_and(|host| host.confirm(now, mac)) || by_gateway
    }

    /// The gateway that a query is about, if it is about one.
    pub fn gateway(&self, query: AddressQuery<A>) -> Option<&Gateway<A>> {
        let mut gateways = self.gateways.iter().map(AsRef::as_ref);
        gateways.find(|gateway: &&Gateway<A>| gateway.is(query.port, query.ip))
    }

    /// Calls `send` for every query that is due without traffic: for gateways, and for `targets`.
    pub fn due(
        &self,
        now: Instant,
        targets: impl Iterator<Item = AddressQuery<A>>,
        send: &mut impl FnMut(AddressQuery<IpAddr>),
    ) {
        for gateway in &self.gateways {
            if gateway.is_due(now, &self.times) {
                send(AddressQuery { port: gateway.port, ip: gateway.ip }.of_either());
            }
        }
        for query in targets {
            if let (_, Some(query)) = self.resolve_host(now, query, |_| true) {
                send(query.of_either());
            }
        }
    }

    /// All gateways.
    pub fn statuses(&self, now: Instant) -> impl Iterator<Item = GatewayStatus> {
        self.gateways.iter().map(move |gateway| gateway.status(now, &self.times))
    }

    /// The gateways of sides on which none answers.
    pub fn cut_off(&self, now: Instant) -> impl Iterator<Item = GatewayStatus> {
        let sides = [&self.clients, &self.targets].into_iter();
        sides.flat_map(move |routes| {
            let gateways = routes.gateways.iter();
            let statuses: Vec<_> =
                gateways.map(|gateway| gateway.status(now, &self.times)).collect();
            let is_cut_off = statuses.iter().all(|status| !status.is_used);
            statuses.into_iter().filter(move |_| is_cut_off)
        })
    }
}

impl NextHops<u32> {
    /// See [`Links::common_route`](super::Links::common_route).
    #[inline]
    pub fn common_route(&self, towards: Towards) -> Option<RouteKey> {
        let is_one = self.routes(towards).gateways.len() <= 1;
        is_one.then_some(RouteKey::gateway(towards, 0))
    }

    /// See [`Links::on_link`](super::Links::on_link).
    #[inline]
    pub fn on_link(&self, towards: Towards) -> impl Iterator<Item = (u32, u32)> {
        self.routes(towards).prefixes.iter().map(|prefix| (prefix.network, prefix.mask))
    }

    /// See [`Links::route_key`](super::Links::route_key).
    #[inline(always)]
    pub fn route_key(&self, towards: Towards, dst: u32) -> RouteKey {
        let routes = self.routes(towards);
        match routes.on_link(dst) {
            Some(_) => RouteKey::host(towards, dst),
            None => RouteKey::gateway(towards, routes.first_gateway(dst)),
        }
    }
}

impl<A: Address> Routes<A> {
    fn add(&mut self, index: PortIndex, port: &PortConfig, gateways: &[Arc<Gateway<A>>]) {
        for net in port.nets::<A>() {
            let (address, network, mask) = (net.address, net.first(), net.mask());
            self.prefixes.push(OnLinkPrefix { port: index, address, network, mask });
        }
        self.gateways.extend(gateways.iter().filter(|gateway| gateway.port == index).cloned());
    }

    /// The place of the gateway that is tried first for `dst`.
    #[inline(always)]
    fn first_gateway(&self, dst: A) -> usize {
        let count = self.gateways.len();
        if count > 1 { dst.spread() as usize % count } else { 0 }
    }

    #[inline]
    fn on_link(&self, ip: A) -> Option<&OnLinkPrefix<A>> {
        self.prefixes.iter().find(|prefix| prefix.holds(ip))
    }
}

impl<A: Address> OnLinkPrefix<A> {
    #[inline]
    pub fn holds(&self, ip: A) -> bool {
        ip & self.mask == self.network
    }
}

/// Whether the ports of a side have several gateways of the family, of which one can take over the
/// share of another.
fn several_gateways<A: Address>(ports: &[PortConfig], takes: fn(&PortConfig) -> bool) -> bool {
    let side = ports.iter().filter(|port| takes(port));
    side.flat_map(|port| port.gateways_of::<A>()).count() > 1
}
