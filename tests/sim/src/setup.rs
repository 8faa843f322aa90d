//! What all POPs of a run are configured with: services, addresses, keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::keys::{AgentEntry, Epochs, KeyFile, Secret, Tenant, Tenants};
use anyrelay_kit::config::{self, Egress, PopConfig, Table, mac_text};
use anyrelay_kit::frames::Mac;
use anyrelay_kit::rng::Rng;

use crate::services::{self, vip4, vip6};
pub use crate::services::{Mode, POOLED, Rollout, Service, Targets, is_egress};
use crate::wire::SegmentView;

/// A port of a POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Wan = 0,
    Lan = 1,
}

/// What all POPs of a run have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    pub services: Vec<Service>,
    /// Largest MSS of version 0 of the config.
    pub mss: u16,
    /// SYNs a second that a worker lets through to a service.
    pub syn_limit: Option<u32>,
    pub keys: KeyFile,
    /// Token secrets from version 1 on: another epoch, which becomes current when all POPs have it.
    pub rotated: Option<Epochs>,
    pub tenants: Tenants,
    pub pops: usize,
    /// When late targets begin to accept each SYN at once.
    pub opens_us: u64,
    /// How many hints a second a worker sends, if the POPs tell each other of refusals.
    pub hints: Option<u32>,
    /// How many RSTs and SYNs a POP remembers, where those are few.
    pub memo: Option<[u32; 2]>,
    pub rollout: Rollout,
}

pub const TUNNEL4: SocketAddr = vip4(20, 443);
pub const TUNNEL6: SocketAddr = vip6(0x20, 443);
pub const MTU: u16 = 1500;
/// The prefix of open addresses, a /48, and the source of the POPs' errors about their packets.
pub const OPEN_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa00, 0, 0, 0, 0, 0);
pub const OPEN_SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1);

impl Setup {
    pub fn new(rng: &mut Rng, pops: usize, unix_ms: u64) -> Result<Self, String> {
        let keys = KeyFile::from_random([rng.bytes(), rng.bytes(), rng.bytes()]);
        let agent = |id| AgentEntry { id, name: format!("agent-{id}"), revoked: false };
        let tenant = Tenant {
            id: 1,
            name: "acme".into(),
            key: Secret::new(rng.bytes()),
            agents: (0..8).map(agent).collect(),
        };
        let (services, rollout) = services::draw(rng, &keys.relay, unix_ms)?;
        let mss = [1460, 1400, 1220, 536][rng.below(4) as usize];
        let syn_limit = rng.happens(250).then(|| 1 + rng.below(4) as u32);
        let tenants = Tenants { tenants: vec![tenant] };
        let opens_us = 500_000 + rng.below(8_000_000);
        let hints = (pops > 1 && rng.happens(500)).then(|| rng.pick(&[1000, 1000, 3]));
        let memo = rng.happens(100).then(|| [(); 2].map(|()| 1 + rng.below(8) as u32));
        Ok(Setup {
            services,
            mss,
            syn_limit,
            keys,
            rotated: None,
            tenants,
            pops,
            opens_us,
            hints,
            memo,
            rollout,
        })
    }

    /// The service in pool mode whose targets change.
    pub fn moving_pool(&self) -> usize {
        let moves = |service: &Service| service.is_pool() && service.changes.is_some();
        self.services.iter().position(moves).unwrap_or(0)
    }

    /// Whether the targets of the service of that name change.
    pub fn moves(&self, name: &str) -> bool {
        let moves = |service: &Service| service.name == name && service.changes.is_some();
        self.services.iter().any(moves)
    }

    /// Whether a segment that a host gets is of a service whose targets change.
    pub fn is_of_moving(&self, segment: &SegmentView<'_>) -> bool {
        let of_target = || self.service_of(segment.dst, segment.src.ip());
        let service = self.service_at(segment.src).or_else(of_target);
        service.is_some_and(|at| self.services[at].changes.is_some())
    }

    /// How many changes of targets there are, of the service that has most.
    pub fn changes(&self) -> usize {
        (0..).find(|change| self.dates_ms(*change).is_empty()).unwrap_or(0)
    }

    /// When the change of that number is in force, at each service that has so many.
    pub fn dates_ms(&self, change: usize) -> Vec<u64> {
        let changes = self.services.iter().filter_map(|service| service.changes.as_ref());
        changes.filter_map(|changes| changes.dates_ms.get(change)).copied().collect()
    }

    /// The largest MSS of a service in that version of the config. A rollout of a new one is under
    /// way when POPs have different versions.
    pub fn mss(&self, service: usize, version: u32) -> u16 {
        let v6 = self.services[service].targets[0].is_ipv6();
        let most = if v6 { MTU - 60 } else { MTU - 40 };
        // Timestamps of a pool are within the MSS.
        let mode = self.services[service].mode;
        let most = if mode.is_pool() { most } else { most - mode.growth() };
        self.mss.min(most) - 8 * ((version + service as u32) % 3) as u16
    }

    /// The service at a VIP.
    pub fn service_at(&self, vip: SocketAddr) -> Option<usize> {
        self.services.iter().position(|service| service.vip == vip)
    }

    /// The service of a target that was reached at `from` by somebody at `to`.
    pub fn service_of(&self, from: SocketAddr, to: IpAddr) -> Option<usize> {
        let fits = |service: &Service| match service.mode {
            Mode::Transparent | Mode::Tunnel(..) => service.targets.contains(&from),
            _ => service.targets.contains(&from) && is_egress(service.mode, to),
        };
        self.services.iter().position(fits)
    }

    /// The config of a POP, in one of its versions; with `fixed_macs`, it has the hardware
    /// addresses of its gateways.
    pub fn config(&self, pop: usize, at: Revision, fixed_macs: bool) -> PopConfig {
        let Revision { version, known } = at;
        let ports = [Port::Wan, Port::Lan].map(|port| port_table(pop, port, fixed_macs));
        let id = pop as u8 + 1;
        let mut config = PopConfig::new(&format!("pop{id}"), id, &ports).set("fragments", "drop");
        for limit in LIMITS {
            config.limits.set(limit, 1_000_000 + version);
        }
        // The judge, whose macs are fixed, limits nothing.
        if let Some(limit) = self.syn_limit.filter(|_| !fixed_macs) {
            config.limits.set("syn_per_service_per_second", limit);
        }
        config.limits.set("remembered_answers", 65_536);
        for (limit, most) in
            ["remembered_answers", "remembered_syns"].iter().zip(self.memo.iter().flatten())
        {
            config.limits.set(limit, *most);
        }
        if let Some(rate) = self.hints {
            let listen = |pop: usize| format!("10.9.0.{}:4791", 1 + pop);
            let peers: Vec<_> = (0..self.pops).filter(|peer| *peer != pop).map(listen).collect();
            let hints = Table::default().with("listen", listen(pop)).with("peers", peers);
            config = config.other("hints", hints.with("per_second", rate));
        }
        // Another order, and services that come and go, break nothing either.
        let count = self.services.len();
        for number in (0..count).map(|number| (number + version as usize) % count) {
            let service = &self.services[number];
            config.relays.push(service.table(known).with("mss", self.mss(number, version)));
        }
        if version % 2 == 1 {
            let vip = format!("203.0.113.19:{}", 1000 + version);
            let egress = Egress::Pool("100.127.0.0/24");
            config.relays.push(config::relay("extra", vip, &["198.51.100.90:80"], egress));
        }
        let open = Table::default().with("prefix", format!("{OPEN_PREFIX}/48"));
        let open = open.with("to", ["2000::/3"]).with("icmp_source", OPEN_SOURCE.to_string());
        let tunnel = config::tunnel("tunnel", &[TUNNEL4, TUNNEL6]).with("tunnel_mtu", 1400);
        config.tunnel(tunnel.with("open", &open))
    }
}

/// A config of a POP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    pub version: u32,
    /// How many changes of each service's targets it has.
    pub known: usize,
}

/// Limits of a POP that grow with the version of its config.
const LIMITS: [&str; 5] = [
    "rst_per_second",
    "echo_per_second",
    "icmp_per_second",
    "syn_ack_per_second",
    "icmp_forward_per_second",
];

fn port_table(pop: usize, port: Port, fixed_macs: bool) -> Table {
    let (name, side) = [("wan", "client"), ("lan", "target")][port as usize];
    let (own4, own6) = own_addresses(pop, port);
    let (gateway4, gateway6) = gateways(port);
    let mut table = config::port(name, side, &[&format!("{own4}/24"), &format!("{own6}/64")]);
    table.set("mac", mac_text(mac(pop, port)));
    table.set("gateways", [IpAddr::from(gateway4), gateway6.into()]);
    if fixed_macs {
        table.set("gateway_macs", [mac_text(router_mac(port)), mac_text(router_mac(port))]);
    }
    table
}

/// Hardware address of a POP's port.
pub fn mac(pop: usize, port: Port) -> Mac {
    [2, 0, 0, 1, pop as u8, port as u8]
}

/// Hardware address of the router on the other side of a port.
pub fn router_mac(port: Port) -> Mac {
    [2, 0, 0, 2, 0, port as u8]
}

/// The addresses of a POP's port.
pub fn own_addresses(pop: usize, port: Port) -> (Ipv4Addr, Ipv6Addr) {
    let host = pop as u8 + 2;
    match port {
        Port::Wan => (
            Ipv4Addr::new(192, 0, 2, host),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host.into()),
        ),
        Port::Lan => (
            Ipv4Addr::new(10, 1, 0, host),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host.into()),
        ),
    }
}

/// The routers of a link.
pub fn gateways(port: Port) -> (Ipv4Addr, Ipv6Addr) {
    match port {
        Port::Wan => (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
        Port::Lan => (Ipv4Addr::new(10, 1, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
    }
}
