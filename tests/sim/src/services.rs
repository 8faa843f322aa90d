//! The services of a run, and how their targets change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyrelay_core::keys::Secret;
use anyrelay_core::time::UnixTime;
use anyrelay_kit::carried;
use anyrelay_kit::config::{self, Egress, Table};
use anyrelay_kit::rng::Rng;

use crate::targets::{self, Changes, Entry, Hashes, NEVER, TargetList};

/// How a POP appears to a service's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As addresses of a pool: the first one, and how many bits of index there are.
    Pool(u32, u8),
    /// As addresses of an IPv6 pool: the first one, and the prefix's length.
    Pool6(u128, u8),
    /// As the client.
    Transparent,
    /// As addresses of an IPv6 prefix that hold the client's: the first one, and the prefix's
    /// length.
    Prefix(u128, u8),
    /// As the client, in a tunnel from that address: by GUE, or IP in IP.
    Tunnel(IpAddr, bool),
}

impl Mode {
    /// Whether it is a pool, of either family.
    pub fn is_pool(self) -> bool {
        matches!(self, Mode::Pool(..) | Mode::Pool6(..))
    }

    /// How much longer a segment to a target may become.
    pub fn growth(self) -> u16 {
        match self {
            Mode::Pool(..) | Mode::Pool6(..) => 12,
            Mode::Tunnel(from, is_gue) => carried::overhead(from, is_gue),
            _ => 0,
        }
    }
}

/// A relay service.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: &'static str,
    pub vip: SocketAddr,
    /// All that it ever has.
    pub targets: Vec<SocketAddr>,
    pub mode: Mode,
    pub targets_are: Targets,
    /// How its targets change, if they do.
    pub changes: Option<Changes>,
    pub hashes: Hashes,
}

/// How POPs learn of changes of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// They know all from the beginning.
    Known,
    /// Some learn of each some seconds before it is in force.
    Ahead,
    /// Some learn of it too late.
    Late,
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
        self.mode.is_pool()
    }

    /// Whether its targets are told the addresses of clients.
    pub fn tells_clients(&self) -> bool {
        self.is_pool() && ["web", "moving"].contains(&self.name)
    }

    /// Whether a RST of a target may wait for a client's segment.
    pub fn has_refusals(&self) -> bool {
        self.is_pool() || self.changes.is_some()
    }

    /// Its targets, as a POP knows them that knows of so many changes.
    pub fn list(&self, known: usize) -> TargetList {
        match &self.changes {
            Some(changes) => changes.list(known).clone(),
            None => TargetList::always(&self.targets),
        }
    }

    /// Its table in the config, without the MSS.
    pub fn table(&self, known: usize) -> Table {
        let Some(changes) = &self.changes else { return self.undated() };
        let list = changes.list(known);
        let seconds = |ms: u64| format!("{}s", ms / 1000);
        let entries: Vec<_> = list.entries.iter().map(entry_table).collect();
        let table = self.undated().with("targets", config::inline(&entries));
        table.with("memory", seconds(list.memory_ms)).with("skew", seconds(list.skew_ms))
    }

    fn undated(&self) -> Table {
        let relay = |egress| {
            let table = config::relay(self.name, self.vip, &self.targets, egress);
            match self.tells_clients() {
                true => table.with("client_address", "toa"),
                false => table,
            }
        };
        match self.mode {
            Mode::Pool(first, bits) => {
                relay(Egress::Pool(&format!("{}/{}", Ipv4Addr::from_bits(first), 32 - bits)))
            }
            Mode::Pool6(first, len) => {
                relay(Egress::Pool(&format!("{}/{len}", Ipv6Addr::from_bits(first))))
            }
            Mode::Prefix(first, len) => {
                relay(Egress::Prefix(&format!("{}/{len}", Ipv6Addr::from_bits(first))))
            }
            Mode::Transparent => relay(Egress::Transparent),
            Mode::Tunnel(from, false) => relay(Egress::Ipip(&from.to_string())),
            Mode::Tunnel(from, true) => relay(Egress::Gue(&from.to_string())),
        }
    }
}

fn entry_table(entry: &Entry) -> Table {
    let mut table = Table::default().with("address", entry.address.to_string());
    table.set("weight", entry.weight);
    let dates = [("since", entry.since_ms), ("until", entry.until_ms), ("gone", entry.gone_ms)];
    for (name, ms) in dates.into_iter().filter(|date| ![0, NEVER].contains(&date.1)) {
        table.set(name, UnixTime::from_millis(ms));
    }
    table
}

/// The VIPs of the services in pool mode that work.
pub const POOLED: [SocketAddr; 3] = [vip4(10, 443), vip4(10, 80), vip4(15, 443)];

pub const fn vip4(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, host)), port)
}

pub const fn vip6(host: u16, port: u16) -> SocketAddr {
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

/// All services, and how POPs learn of changes of their targets.
pub fn draw(
    rng: &mut Rng,
    relay: &Secret,
    unix_ms: u64,
) -> Result<(Vec<Service>, Rollout), String> {
    let target = |host, port| SocketAddr::from(([198, 51, 100, host], port));
    let mut targets = |host: u8, port| -> Vec<_> {
        (0..1 + rng.below(4) as u8).map(|number| target(host + number, port)).collect()
    };
    let lists = [
        targets(10, 8443),
        targets(20, 80),
        targets(40, 443),
        targets(10, 9),
        targets(50, 80),
        targets(60, 80),
    ];
    let [web, many, raw, shut, old, late] = lists;
    let six = |targets: &[SocketAddr]| -> Vec<_> {
        let six = |target: &SocketAddr| SocketAddr::new(six_of(target.ip()), target.port());
        targets.iter().map(six).collect()
    };
    let [far, raw6] = [targets(10, 8443), targets(30, 443)].map(|targets| six(&targets));
    let deep = six(&targets(90, 8443));
    // From 16 addresses, where a guessed tag often decodes, to 65,536.
    let bits = [4, 8, 12, 14, 16][rng.below(5) as usize];
    let pool = Mode::Pool(u32::from(Ipv4Addr::new(100, 64, 0, 0)), bits);
    let second = Mode::Pool(u32::from(Ipv4Addr::new(100, 96, 0, 0)), 16);
    let shared = if rng.happens(500) { pool } else { second };
    let len = [32, 40, 48, 56, 64, 72, 80][rng.below(7) as usize];
    let prefix = Mode::Prefix(0x3fff_0064_0001_0002_0003 << 48 & u128::MAX << (128 - len), len);
    let len = [8, 12, 15, 20, 24, 28][rng.below(6) as usize];
    // Private addresses are martians to the checks, so one that nobody was given.
    let pool6 = Mode::Pool6(0x4d12_3456 << 96 & u128::MAX << (128 - len), len);
    // Targets see clients as they are, at the port of the VIP: in half of the runs in tunnels.
    let has_tunnels = rng.clone().happens(500);
    let raw_by = |from: IpAddr, is_gue| match has_tunnels {
        true => Mode::Tunnel(from, is_gue),
        false => Mode::Transparent,
    };
    let from = |last| IpAddr::from([100, 127, 1, last]);
    let from6 = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0x21, 0, 0, 0, 0, last));
    let service = |name, vip, targets, mode, targets_are| -> Result<Service, String> {
        let (changes, hashes) = (None, Hashes::new(relay, vip)?);
        Ok(Service { name, vip, targets, mode, targets_are, changes, hashes })
    };
    let [at_web, at_many, at_moving] = POOLED;
    let mut services = vec![
        service("web", at_web, web, pool, Targets::Open)?,
        service("many", at_many, many, shared, Targets::Open)?,
        service("raw", vip4(12, 443), raw, raw_by(from(1), false), Targets::Open)?,
        service("shut", vip4(13, 80), shut, pool, Targets::Shut)?,
        service("old", vip4(13, 81), old, second, Targets::Old)?,
        service("late", vip4(13, 82), late, pool, Targets::Late)?,
        service("far", vip4(14, 443), far, prefix, Targets::Open)?,
        service("raw6", vip6(0x30, 443), raw6, raw_by(from6(1), true), Targets::Open)?,
        service("deep", vip6(0x32, 443), deep, pool6, Targets::Open)?,
    ];
    let rollout = match rng.below(10) {
        0..7 => Rollout::Known,
        7..9 => Rollout::Ahead,
        _ => Rollout::Late,
    };
    let moving: Vec<_> = (0..6).map(|number| target(70 + number, 8443)).collect();
    let other: Vec<_> = (0..6).map(|number| target(80 + number, 443)).collect();
    for (name, vip, targets, mode) in [
        ("moving", at_moving, moving.clone(), pool),
        ("moving-raw", vip4(16, 443), other.clone(), raw_by(from(2), true)),
        ("moving-far", vip4(17, 443), six(&moving), prefix),
        ("moving-raw6", vip6(0x31, 443), six(&other), raw_by(from6(2), false)),
        ("moving-deep", vip6(0x33, 443), six(&moving), pool6),
    ] {
        let first_ms = match rollout {
            Rollout::Known => 300 + rng.below(8000),
            Rollout::Ahead | Rollout::Late => 6000 + rng.below(6000),
        };
        let changes = targets::draw(rng, unix_ms + first_ms, &targets);
        let plain = service(name, vip, targets, mode, Targets::Open)?;
        services.push(Service { changes: Some(changes), ..plain });
    }
    Ok((services, rollout))
}

/// Whether an address is one of those that clients of that mode's services appear as.
pub fn is_egress(mode: Mode, ip: IpAddr) -> bool {
    match (mode, ip) {
        (Mode::Pool(first, bits), IpAddr::V4(ip)) => (ip.to_bits() ^ first) >> bits == 0,
        (Mode::Prefix(first, len) | Mode::Pool6(first, len), IpAddr::V6(ip)) => {
            (ip.to_bits() ^ first) >> (128 - len) == 0
        }
        _ => false,
    }
}
