//! What all POPs of a run are configured with: services, addresses, keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::keys::{AgentEntry, Epochs, KeyFile, Secret, Tenant, Tenants};
use anyrelay_kit::config::{self, Egress, PopConfig, Table, mac_text};
use anyrelay_kit::frames::Mac;
use anyrelay_kit::rng::Rng;

/// How a POP appears to a service's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As addresses of a pool: the first one, and how many bits of index there are.
    Pool(u32, u8),
    /// As the client.
    Transparent,
    /// As addresses of an IPv6 prefix that hold the client's: the first one, and the prefix's
    /// length.
    Prefix(u128, u8),
}

/// A relay service.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: &'static str,
    pub vip: SocketAddr,
    pub targets: Vec<SocketAddr>,
    pub mode: Mode,
    pub targets_are: Targets,
}

/// What a service's targets are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    Open,
    /// Nothing listens there.
    Shut,
    /// They have no timestamps: a pool cannot work.
    Old,
    /// At first, they refuse each SYN once.
    Late,
}

impl Service {
    pub fn is_pool(&self) -> bool {
        matches!(self.mode, Mode::Pool(..))
    }

    /// Its table in the config, without the MSS.
    fn table(&self) -> Table {
        let relay = |egress| config::relay(self.name, self.vip, &self.targets, egress);
        match self.mode {
            Mode::Pool(first, bits) => {
                relay(Egress::Pool(&format!("{}/{}", Ipv4Addr::from_bits(first), 32 - bits)))
            }
            Mode::Prefix(first, len) => {
                relay(Egress::Prefix(&format!("{}/{len}", Ipv6Addr::from_bits(first))))
            }
            Mode::Transparent => relay(Egress::Transparent),
        }
    }
}

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
}

/// The VIP of a service in pool mode.
pub const WEB: SocketAddr = vip4(10, 443);
pub const TUNNEL4: SocketAddr = vip4(20, 443);
pub const TUNNEL6: SocketAddr = vip6(0x20, 443);
pub const MTU: u16 = 1500;

const fn vip4(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)), port)
}

const fn vip6(host: u16, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, host)), port)
}

/// A target's IPv6 address, by its IPv4 one.
fn six_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            Ipv6Addr::from_bits(0x2001_0db8_0040 << 80 | u128::from(ip.to_bits())).into()
        }
        IpAddr::V6(_) => ip,
    }
}

impl Setup {
    pub fn new(rng: &mut Rng, pops: usize) -> Self {
        let keys = KeyFile::from_random([rng.bytes(), rng.bytes(), rng.bytes()]);
        let agent = |id| AgentEntry { id, name: format!("agent-{id}"), revoked: false };
        let tenant = Tenant {
            id: 1,
            name: "acme".into(),
            key: Secret::new(rng.bytes()),
            agents: (0..8).map(agent).collect(),
        };
        let target = |host, port| SocketAddr::from(([198, 51, 100, host], port));
        let mut targets = |host: u8, port| -> Vec<_> {
            (0..1 + rng.below(4) as u8).map(|number| target(host + number, port)).collect()
        };
        let lists = [
            targets(10, 8443),
            targets(20, 80),
            targets(40, 8443),
            targets(10, 9),
            targets(50, 80),
            targets(60, 80),
        ];
        let [web, many, raw, shut, old, late] = lists;
        let lists6 = [targets(10, 8443), targets(30, 8443)].map(|targets| {
            let six = |target: &SocketAddr| SocketAddr::new(six_of(target.ip()), target.port());
            targets.iter().map(six).collect()
        });
        let [far, raw6] = lists6;
        // From 16 addresses, where a guessed tag often decodes, to 65,536.
        let bits = [4, 8, 12, 14, 16][rng.below(5) as usize];
        let pool = Mode::Pool(u32::from(Ipv4Addr::new(100, 64, 0, 0)), bits);
        let second = Mode::Pool(u32::from(Ipv4Addr::new(100, 96, 0, 0)), 16);
        let shared = if rng.happens(500) { pool } else { second };
        let len = [32, 40, 48, 56, 64, 72, 80][rng.below(7) as usize];
        let prefix = Mode::Prefix(0x3fff_0064_0001_0002_0003 << 48 & u128::MAX << (128 - len), len);
        let service = |name, vip, targets, mode, targets_are| Service {
            name,
            vip,
            targets,
            mode,
            targets_are,
        };
        let services = vec![
            service("web", WEB, web, pool, Targets::Open),
            service("many", vip4(10, 80), many, shared, Targets::Open),
            service("raw", vip4(12, 443), raw, Mode::Transparent, Targets::Open),
            service("shut", vip4(13, 80), shut, pool, Targets::Shut),
            service("old", vip4(13, 81), old, second, Targets::Old),
            service("late", vip4(13, 82), late, pool, Targets::Late),
            service("far", vip4(14, 443), far, prefix, Targets::Open),
            service("raw6", vip6(0x30, 443), raw6, Mode::Transparent, Targets::Open),
        ];
        let mss = [1460, 1400, 1220, 536][rng.below(4) as usize];
        let syn_limit = rng.happens(250).then(|| 1 + rng.below(4) as u32);
        let tenants = Tenants { tenants: vec![tenant] };
        let opens_us = 500_000 + rng.below(8_000_000);
        let hints = (pops > 1 && rng.happens(500)).then(|| rng.pick(&[1000, 1000, 3]));
        let memo = rng.happens(100).then(|| [(); 2].map(|()| 1 + rng.below(8) as u32));
        Setup {
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
        }
    }

    /// The largest MSS of a service in that version of the config. A rollout of a new one is under
    /// way when POPs have different versions.
    pub fn mss(&self, service: usize, version: u32) -> u16 {
        let v6 = self.services[service].targets[0].is_ipv6();
        let most = if v6 { MTU - 60 } else { MTU - 40 };
        self.mss.min(most) - 8 * ((version + service as u32) % 3) as u16
    }

    /// The service at a VIP.
    pub fn service_at(&self, vip: SocketAddr) -> Option<usize> {
        self.services.iter().position(|service| service.vip == vip)
    }

    /// The service of a target that was reached at `from` by somebody at `to`.
    pub fn service_of(&self, from: SocketAddr, to: IpAddr) -> Option<usize> {
        let fits = |service: &Service| match service.mode {
            Mode::Transparent => service.targets.contains(&from),
            _ => service.targets.contains(&from) && is_egress(service.mode, to),
        };
        self.services.iter().position(fits)
    }

    /// The config of a POP, in one of its versions; with `fixed_macs`, it has the hardware
    /// addresses of its gateways.
    pub fn config(&self, pop: usize, version: u32, fixed_macs: bool) -> PopConfig {
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
            config.relays.push(service.table().with("mss", self.mss(number, version)));
        }
        if version % 2 == 1 {
            let vip = format!("203.0.113.19:{}", 1000 + version);
            let egress = Egress::Pool("100.127.0.0/24");
            config.relays.push(config::relay("extra", vip, &["198.51.100.90:80"], egress));
        }
        config.tunnel(config::tunnel("tunnel", &[TUNNEL4, TUNNEL6]).with("tunnel_mtu", 1400))
    }
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

/// Whether an address is one of those that clients of that mode's services appear as.
pub fn is_egress(mode: Mode, ip: IpAddr) -> bool {
    match (mode, ip) {
        (Mode::Pool(first, bits), IpAddr::V4(ip)) => (ip.to_bits() ^ first) >> bits == 0,
        (Mode::Prefix(first, len), IpAddr::V6(ip)) => (ip.to_bits() ^ first) >> (128 - len) == 0,
        _ => false,
    }
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
