//! The links of a POP: its own ports, and which station a datagram goes to next.
//!
//! A destination on a port's own prefix is reached directly, everything else through the gateways
//! of that side, spread by destination over those that are resolved. Hardware addresses are soft
//! state, learned by ARP (RFC 826) only from stations that were asked for, so that nobody else's
//! claims move traffic. All tables are bounded, allocated at start and shared by the workers.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{PortConfig, Snapshot};
use crate::time::Instant;
use crate::verdict::PortIndex;
use crate::wire::MacAddr;

/// A neighbour is asked again when its last answer is older than this.
pub const REFRESH_MS: u64 = 20_000;
/// A neighbour whose last answer is older than this is not used.
pub const EXPIRE_MS: u64 = 60_000;
/// A neighbour is asked at most once in this time.
pub const ASK_INTERVAL_MS: u64 = 1_000;
/// On-link stations, gateways aside, that are remembered at most.
pub const HOSTS_MAX: usize = 4096;

/// Slots that an on-link station may be in.
const WAYS: usize = 8;

/// A side of the relay, as a direction to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The clients.
    Clients,
    /// The targets.
    Targets,
}

/// A port's part in sending.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Hardware address of the port.
    pub mac: MacAddr,
    /// VLAN of the frames that it sends and takes.
    pub vlan: Option<u16>,
    /// Largest IP datagram in bytes.
    pub mtu: u16,
    /// The port's first address, 0 when it has none: source of our own ICMP errors.
    pub address: u32,
}

/// The station a datagram goes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Port to send through.
    pub port: PortIndex,
    /// Hardware address to send to.
    pub mac: MacAddr,
}

/// An ARP request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Port to ask on.
    pub port: PortIndex,
    /// Address to ask for.
    pub ip: u32,
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
pub type Resolved = (Result<Hop, NoHop>, Option<Question>);

/// Ports and next hops.
#[derive(Debug)]
pub struct Links {
    links: Box<[Link]>,
    clients: Routes,
    targets: Routes,
    hosts: Box<[Neighbour]>,
    // Targets on a port's own prefix, resolved ahead of traffic.
    awaited: Box<[Question]>,
}

#[derive(Debug, Default)]
struct Routes {
    prefixes: Vec<Prefix>,
    gateways: Vec<Gateway>,
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    port: PortIndex,
    address: u32,
    network: u32,
    mask: u32,
}

#[derive(Debug)]
struct Gateway {
    port: PortIndex,
    ip: u32,
    fixed: Option<MacAddr>,
    neighbour: Neighbour,
}

/// A station's hardware address, or the wish for it.
#[derive(Debug, Default)]
struct Neighbour {
    // Port and address with the top bit set; 0 when free.
    key: AtomicU64,
    // Bit 48 says that it is known.
    mac: AtomicU64,
    seen_ms: AtomicU64,
    // Time of the last question plus one, so that 0 is never.
    asked_ms: AtomicU64,
}

impl Links {
    /// The links of the ports of `snapshot`, whose hardware addresses are `macs` in the same order.
    pub fn new(snapshot: &Snapshot, macs: &[MacAddr]) -> Self {
        let ports = || (0u8..).map(PortIndex).zip(&snapshot.config.ports);
        let links =
            ports().map(|(index, port)| link(port, macs.get(usize::from(index.0)))).collect();
        let mut routes = Links {
            links,
            clients: Routes::default(),
            targets: Routes::default(),
            hosts: (0..HOSTS_MAX).map(|_| Neighbour::default()).collect(),
            awaited: Box::default(),
        };
        for (index, port) in ports() {
            if port.side.takes_clients() {
                routes.clients.add(index, port);
            }
            if port.side.takes_targets() {
                routes.targets.add(index, port);
            }
        }
        let targets = snapshot.services.iter().flat_map(|service| service.targets());
        routes.awaited = targets
            .filter_map(|target| {
                let prefix = routes.targets.on_link(target.ip)?;
                Some(Question { port: prefix.port, ip: target.ip })
            })
            .collect();
        routes
    }

    /// A port's part in sending; `None` for an index that is no port's.
    #[inline]
    pub fn link(&self, port: PortIndex) -> Option<&Link> {
        self.links.get(usize::from(port.0))
    }

    /// The port's own address on the prefix of the station in question, 0 when it has none.
    pub fn address_towards(&self, question: Question) -> u32 {
        let prefixes = self.clients.prefixes.iter().chain(&self.targets.prefixes);
        let mut same_port = prefixes.filter(|prefix| prefix.port == question.port);
        let holds = |prefix: &&Prefix| question.ip & prefix.mask == prefix.network;
        same_port.find(holds).map_or(0, |prefix| prefix.address)
    }

    /// The next hop to `dst`.
    #[inline(always)]
    pub fn resolve(&self, now: Instant, towards: Towards, dst: u32) -> Resolved {
        let routes = self.routes(towards);
        if let Some(prefix) = routes.on_link(dst) {
            return self.resolve_host(now, Question { port: prefix.port, ip: dst });
        }
        let count = routes.gateways.len();
        let start = if count > 1 { spread(dst) as usize % count } else { 0 };
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

    /// Learns from an ARP packet received on `port`. False when nobody asked for that station.
    pub fn learn(&self, now: Instant, port: PortIndex, ip: u32, mac: MacAddr) -> bool {
        if !mac.is_unicast() {
            return false;
        }
        let gateways = self.clients.gateways.iter().chain(&self.targets.gateways);
        let mut wanted = false;
        for gateway in gateways.filter(|gateway| gateway.port == port && gateway.ip == ip) {
            gateway.neighbour.learn(now, mac);
            wanted = true;
        }
        if let Some(host) = self.find_host(host_key(port, ip)) {
            host.learn(now, mac);
            wanted = true;
        }
        wanted
    }

    /// Calls `ask` for every ARP request that is due without traffic: gateways, and targets on a
    /// port's own prefix.
    pub fn due(&self, now: Instant, mut ask: impl FnMut(Question)) {
        for gateway in self.clients.gateways.iter().chain(&self.targets.gateways) {
            if gateway.resolve(now).1 {
                ask(Question { port: gateway.port, ip: gateway.ip });
            }
        }
        for question in &self.awaited {
            if let (_, Some(question)) = self.resolve_host(now, *question) {
                ask(question);
            }
        }
    }

    /// Gateways that can not be used now.
    pub fn unresolved_gateways(&self, now: Instant) -> Vec<(PortIndex, Ipv4Addr)> {
        let gateways = self.clients.gateways.iter().chain(&self.targets.gateways);
        let mut unresolved: Vec<_> = gateways
            .filter(|gateway| gateway.fixed.is_none() && gateway.neighbour.known(now).0.is_none())
            .map(|gateway| (gateway.port, Ipv4Addr::from(gateway.ip)))
            .collect();
        unresolved.sort_by_key(|(port, ip)| (port.0, *ip));
        unresolved.dedup();
        unresolved
    }

    fn routes(&self, towards: Towards) -> &Routes {
        match towards {
            Towards::Clients => &self.clients,
            Towards::Targets => &self.targets,
        }
    }

    fn resolve_host(&self, now: Instant, question: Question) -> Resolved {
        let key = host_key(question.port, question.ip);
        let host = self.find_host(key).or_else(|| self.claim_host(key));
        let Some(host) = host else { return (Err(NoHop::Unresolved), None) };
        let (mac, due) = host.resolve(now);
        let hop = mac.map(|mac| Hop { port: question.port, mac }).ok_or(NoHop::Unresolved);
        (hop, due.then_some(question))
    }

    fn find_host(&self, key: u64) -> Option<&Neighbour> {
        self.ways(key).find(|host| host.key.load(Ordering::Acquire) == key)
    }

    /// Takes a free slot for `key`, or that of the station which was silent for longest.
    fn claim_host(&self, key: u64) -> Option<&Neighbour> {
        let seen = |host: &&Neighbour| {
            let used = host.key.load(Ordering::Acquire) != 0;
            (used, host.seen_ms.load(Ordering::Relaxed))
        };
        let host = self.ways(key).min_by_key(seen)?;
        let held = host.key.load(Ordering::Acquire);
        host.key.compare_exchange(held, key, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        host.mac.store(0, Ordering::Release);
        host.seen_ms.store(0, Ordering::Relaxed);
        host.asked_ms.store(0, Ordering::Relaxed);
        Some(host)
    }

    fn ways(&self, key: u64) -> impl Iterator<Item = &Neighbour> {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let start = hash as usize % (HOSTS_MAX / WAYS) * WAYS;
        self.hosts.get(start..start + WAYS).unwrap_or_default().iter()
    }
}

impl Routes {
    fn add(&mut self, index: PortIndex, port: &PortConfig) {
        for net in port.nets::<u32>() {
            let mask = net.mask();
            let network = net.first();
            self.prefixes.push(Prefix { port: index, address: net.address, network, mask });
        }
        for (ip, fixed) in port.gateways_of::<u32>() {
            self.gateways.push(Gateway { port: index, ip, fixed, neighbour: Neighbour::default() });
        }
    }

    #[inline]
    fn on_link(&self, ip: u32) -> Option<&Prefix> {
        self.prefixes.iter().find(|prefix| ip & prefix.mask == prefix.network)
    }
}

impl Gateway {
    #[inline(always)]
    fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        match self.fixed {
            Some(mac) => (Some(mac), false),
            None => self.neighbour.resolve(now),
        }
    }
}

impl Neighbour {
    /// The address, when it is known and not too old; and whether a question is due.
    #[inline]
    fn resolve(&self, now: Instant) -> (Option<MacAddr>, bool) {
        let (known, age_ms) = self.known(now);
        if known.is_some() && age_ms < REFRESH_MS {
            return (known, false);
        }
        (known, self.ask(now))
    }

    /// The address, when it is known and not too old; and its age.
    #[inline]
    fn known(&self, now: Instant) -> (Option<MacAddr>, u64) {
        let word = self.mac.load(Ordering::Acquire);
        let age_ms = now.as_millis().saturating_sub(self.seen_ms.load(Ordering::Relaxed));
        let usable = word & KNOWN != 0 && age_ms < EXPIRE_MS;
        (usable.then(|| MacAddr::from_u64(word)), age_ms)
    }

    /// Whether a question may be sent now; then it counts as sent.
    fn ask(&self, now: Instant) -> bool {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        if asked != 0 && now.as_millis() + 1 < asked + ASK_INTERVAL_MS {
            return false;
        }
        let asked_now = now.as_millis() + 1;
        self.asked_ms
            .compare_exchange(asked, asked_now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn learn(&self, now: Instant, mac: MacAddr) {
        self.seen_ms.store(now.as_millis(), Ordering::Relaxed);
        self.mac.store(mac.to_u64() | KNOWN, Ordering::Release);
    }
}

const KNOWN: u64 = 1 << 48;

fn link(port: &PortConfig, mac: Option<&MacAddr>) -> Link {
    Link {
        mac: mac.copied().or(port.mac).unwrap_or_default(),
        vlan: port.vlan,
        mtu: port.mtu,
        address: port.nets::<u32>().next().map_or(0, |net| net.address),
    }
}

fn host_key(port: PortIndex, ip: u32) -> u64 {
    1 << 63 | u64::from(port.0) << 32 | u64::from(ip)
}

fn spread(ip: u32) -> u32 {
    ip.wrapping_mul(0x9e37_79b9) >> 8
}
