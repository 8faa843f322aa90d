//! The configuration of `anyrelay` in a lab, as TOML.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use anyrelay_core::config::WayBack;
use anyrelay_kit::config::{self as kit, PopConfig};
use toml::{Table, Value};

use crate::decapsulator::Encapsulation;
use crate::{LabError, Result, hints, targets, topology};

/// Where a POP's metrics and readiness are, inside its own namespace.
pub const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9100);
/// The port of the VIP that the default service has.
pub const VIP_PORT: u16 = 80;
/// The port of the target that the default service leads to.
pub const TARGET_PORT: u16 = 8080;

/// How a POP appears to the target of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// By an address of the lab's egress pool.
    Pool,
    /// By an address of the lab's IPv6 pool, of this prefix length.
    Pool6(u8),
    /// By an address of the lab's prefix that is made from the client's.
    Prefix,
    /// By the client's own address.
    Transparent,
    /// The same, in a tunnel from an address of the pool, or of the prefix to targets over IPv6.
    Tunnel(Encapsulation, WayBack),
}

/// Which layout the workers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One worker receives from both ports and sends by itself.
    RunToCompletion,
    /// One worker per port, which hand each other what they forward.
    Pipeline,
}

/// What a POP's ports are: ways of DPDK to an interface of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// A packet socket with a ring. The kernel reassembles IPv4 datagrams before the POP sees them.
    AfPacket,
    /// An XDP socket: frames as they are on the link.
    AfXdp,
    /// libpcap: frames as they are on the link.
    Pcap,
}

impl Device {
    /// The device string of the port with this number on an interface.
    fn text(self, number: u32, interface: &str) -> String {
        match self {
            Self::AfPacket => {
                format!("net_af_packet{number},iface={interface},framecnt=4096,qdisc_bypass=1")
            }
            // Busy polling takes the processor from others.
            Self::AfXdp => format!("net_af_xdp{number},iface={interface},busy_budget=0"),
            Self::Pcap => format!("net_pcap{number},iface={interface},phy_mac=1"),
        }
    }
}

/// One relayed service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in configuration and metrics.
    pub name: String,
    /// Where clients connect.
    pub vip: SocketAddr,
    /// Where they are led.
    pub targets: Vec<SocketAddr>,
    /// How.
    pub egress: Egress,
    /// Whether its targets learn of the addresses of clients (`client_address`).
    pub tells_clients: bool,
    /// Whether it relays UDP beside TCP.
    pub has_udp: bool,
}

impl Service {
    /// A service on a port of the lab's VIP, led to a port of the target's first address.
    #[must_use]
    pub fn new(name: &str, vip_port: u16, target_port: u16) -> Self {
        Self {
            name: name.to_owned(),
            vip: SocketAddr::new(topology::VIP.into(), vip_port),
            targets: vec![SocketAddr::new(topology::TARGET.into(), target_port)],
            egress: Egress::Pool,
            tells_clients: false,
            has_udp: false,
        }
    }

    /// The same, whose target learns of the addresses of clients.
    #[must_use]
    pub fn telling(self) -> Self {
        Self { tells_clients: true, ..self }
    }

    /// The default service with its target over IPv6.
    #[must_use]
    pub fn prefix() -> Self {
        let target = SocketAddr::new(topology::TARGET6.into(), TARGET_PORT);
        Self { targets: vec![target], egress: Egress::Prefix, ..Self::default() }
    }

    /// The default service with clients and target over IPv6.
    #[must_use]
    pub fn transparent6() -> Self {
        let vip = SocketAddr::new(topology::VIP6.into(), VIP_PORT);
        Self { vip, egress: Egress::Transparent, ..Self::prefix() }
    }

    /// A service whose clients' datagrams go whole to the target, in a tunnel; each of `over_ipv6`
    /// says whether the VIP and the target are of IPv6. Answers come back through the tunnel.
    #[must_use]
    pub fn tunnel(encapsulation: Encapsulation, over_ipv6: [bool; 2]) -> Self {
        let [vip, target] = over_ipv6;
        let vip: IpAddr = if vip { topology::VIP6.into() } else { topology::VIP.into() };
        let target: IpAddr =
            if target { topology::TARGET6.into() } else { topology::TARGET.into() };
        Self {
            vip: SocketAddr::new(vip, TARGET_PORT),
            targets: vec![SocketAddr::new(target, TARGET_PORT)],
            egress: Egress::Tunnel(encapsulation, WayBack::Through),
            ..Self::default()
        }
    }

    /// The default service with clients and target over IPv6, by the widest of the lab's pools.
    #[must_use]
    pub fn pool6() -> Self {
        Self::pool6_of(topology::POOL6_LEN)
    }

    /// The same by a pool of this prefix length.
    #[must_use]
    pub fn pool6_of(prefix_len: u8) -> Self {
        Self { egress: Egress::Pool6(prefix_len), ..Self::transparent6() }
    }

    /// The same with UDP beside TCP.
    #[must_use]
    pub fn with_udp(self) -> Self {
        Self { has_udp: true, ..self }
    }

    /// The same, whose answers pass the POPs by.
    #[must_use]
    pub fn direct(mut self) -> Self {
        if let Egress::Tunnel(_, way_back) = &mut self.egress {
            *way_back = WayBack::Direct;
        }
        self
    }

    /// Whether answers of its targets pass the POPs by.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        matches!(self.egress, Egress::Tunnel(_, WayBack::Direct))
    }

    /// Where the POPs' tunnel to its targets comes from, if it has one.
    #[must_use]
    pub fn tunnel_from(&self) -> Option<IpAddr> {
        let Egress::Tunnel(encapsulation, way_back) = self.egress else { return None };
        let last = match (encapsulation, way_back) {
            (Encapsulation::Ipip, WayBack::Through) => 1,
            (Encapsulation::Gue, WayBack::Through) => 2,
            (Encapsulation::Ipip, WayBack::Direct) => 3,
            (Encapsulation::Gue, WayBack::Direct) => 4,
        };
        Some(match self.targets.iter().any(SocketAddr::is_ipv6) {
            true => Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, last).into(),
            false => Ipv4Addr::new(100, 64, 8, last as u8).into(),
        })
    }

    /// The MSS with which segments fit what leads to its targets, over links of 1500 bytes.
    #[must_use]
    pub fn mss(&self) -> u16 {
        let own = if self.vip.is_ipv6() { 60 } else { 40 };
        let outer = match (self.egress, self.targets.iter().any(SocketAddr::is_ipv6)) {
            (Egress::Tunnel(Encapsulation::Ipip, _), false) => 20,
            (Egress::Tunnel(Encapsulation::Ipip, _), true) => 40,
            (Egress::Tunnel(Encapsulation::Gue, _), false) => 32,
            (Egress::Tunnel(Encapsulation::Gue, _), true) => 52,
            _ => 0,
        };
        1500 - own - outer
    }

    /// Whether any of it is IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.vip.is_ipv6() || self.targets.iter().any(SocketAddr::is_ipv6)
    }
}

impl Default for Service {
    fn default() -> Self {
        Self::new("web", VIP_PORT, TARGET_PORT)
    }
}

/// What the relays of a lab have in common.
#[derive(Debug, Clone)]
pub(crate) struct RelayConfig {
    /// The targets of the first service are in a file.
    pub targets_file: bool,
    /// By the index of the POP; 0 if it is not said.
    pub clock_offsets_ms: Vec<i64>,
    pub pool: String,
    pub ipv6: bool,
    pub device: Device,
    pub layout: Layout,
    pub services: Vec<Service>,
    /// How many POPs tell each other hints; none if 0.
    pub hinting: usize,
    pub overlay: Table,
}

impl RelayConfig {
    /// The text of the configuration of the POP with this index, counted from 0.
    pub fn text(&self, index: usize, cores: usize) -> Result<String> {
        let core = index % cores;
        let sides = [("wan", "client", 1, 0), ("lan", "target", 2, 1)];
        let ports = sides.map(|(name, side, net, number)| {
            let of = |host: u32| {
                let v4 = format!("10.{net}.{}.{host}", index + 1);
                let v6 = format!("2001:db8:{}:{}::{host}", net + 2, index + 1);
                if self.ipv6 { vec![v4, v6] } else { vec![v4] }
            };
            let lengths = ["/24", "/64"];
            let addresses = of(2).into_iter().zip(lengths).map(|(ip, length)| ip + length);
            kit::port(name, side, &[])
                .with("device", self.device.text(number, name))
                .with("addresses", addresses.collect::<Vec<_>>())
                .with("gateways", of(1))
        });
        let mut config = pop_config(index, &ports);
        if self.targets_file {
            // Of one clock, whatever the kernel thinks of it.
            config = config.set("clock", "trusted");
        }
        if let Some(offset) = self.clock_offsets_ms.get(index) {
            config = config.set("clock_offset_ms", *offset);
        }
        let kind = match self.layout {
            Layout::RunToCompletion => {
                config.workers = vec![kit::worker(core, &["wan:0", "lan:0"])];
                "run-to-completion"
            }
            Layout::Pipeline => {
                let second = kit::worker((core + 1) % cores, &["lan:0"]);
                config.workers = vec![kit::worker(core, &["wan:0"]), second];
                "pipeline"
            }
        };
        config.relays = self.services.iter().map(|service| self.relay(service)).collect();
        if let Some(first) = config.relays.first_mut().filter(|_| self.targets_file) {
            first.remove("targets").set("targets_file", targets::FILE);
        }
        config = config.other("layout", layout(kind));
        if self.hinting > 0 {
            config = config.other("hints", self.hints(index));
        }
        laid_over(&config, &self.overlay)
    }

    fn hints(&self, index: usize) -> kit::Table {
        let others = (0..self.hinting).filter(|other| *other != index);
        let peers = others.map(|other| hints::peer(index, other).to_string());
        let table = kit::Table::default().with("listen", hints::listens(index).to_string());
        table.with("peers", peers.collect::<Vec<_>>())
    }

    fn relay(&self, service: &Service) -> kit::Table {
        let from = service.tunnel_from().map(|from| from.to_string()).unwrap_or_default();
        let pool = match service.egress {
            Egress::Pool6(prefix_len) => format!("{}/{prefix_len}", topology::POOL6),
            _ => self.pool.clone(),
        };
        let egress = match service.egress {
            Egress::Pool | Egress::Pool6(_) => kit::Egress::Pool(&pool),
            Egress::Prefix => kit::Egress::Prefix(topology::PREFIX),
            Egress::Transparent => kit::Egress::Transparent,
            Egress::Tunnel(Encapsulation::Ipip, _) => kit::Egress::Ipip(&from),
            Egress::Tunnel(Encapsulation::Gue, _) => kit::Egress::Gue(&from),
        };
        let mut table = kit::relay(&service.name, service.vip, &service.targets, egress);
        if service.is_direct() {
            table.set("return", WayBack::Direct.name());
        }
        if service.has_udp {
            table.set("protocol", "both");
        }
        match service.tells_clients {
            true => table.with("client_address", "toa"),
            false => table,
        }
    }
}

/// What all POPs of a lab have in common.
pub(crate) fn pop_config(index: usize, ports: &[kit::Table]) -> PopConfig {
    let id = index as u8 + 1;
    let dpdk = kit::Table::default().with("hugepages", false);
    let dpdk = dpdk.with("memory_mb", 128).with("mbufs", 16_384);
    let metrics = kit::Table::default().with("listen", METRICS.to_string());
    PopConfig::new(&format!("pop{id}"), id, ports)
        .set("drain_seconds", 0)
        .other("dpdk", dpdk)
        .other("metrics", metrics)
}

/// A layout whose workers sleep when they are idle.
pub(crate) fn layout(kind: &str) -> kit::Table {
    kit::Table::default().with("kind", kind).with("idle", "backoff")
}

/// The text of a config with a table laid over it.
pub(crate) fn laid_over(config: &PopConfig, over: &Table) -> Result<String> {
    let parsed = config.text().parse();
    let mut table: Table =
        parsed.map_err(|error| LabError::Unexpected(format!("own TOML: {error}")))?;
    overlay(&mut table, over);
    Ok(table.to_string())
}

/// Lays one table over another: tables merge, everything else is replaced.
fn overlay(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_merges_tables_and_replaces_the_rest() {
        let config = RelayConfig {
            pool: "100.64.8.0/24".to_owned(),
            ipv6: true,
            device: Device::Pcap,
            layout: Layout::Pipeline,
            services: vec![Service::default()],
            hinting: 3,
            targets_file: true,
            clock_offsets_ms: vec![0, -1000],
            overlay: "[pop]\ndrain_seconds = 3\n[limits]\nrst_per_second = 7".parse().unwrap(),
        };
        let table: Table = config.text(1, 2).unwrap().parse().unwrap();
        assert_eq!(table["pop"]["drain_seconds"].as_integer(), Some(3));
        assert_eq!(table["pop"]["name"].as_str(), Some("pop2"));
        assert_eq!(table["pop"]["clock_offset_ms"].as_integer(), Some(-1000));
        assert_eq!(table["relay"][0].get("targets"), None);
        assert_eq!(table["relay"][0]["targets_file"].as_str(), Some("targets.toml"));
        assert_eq!(table["limits"]["rst_per_second"].as_integer(), Some(7));
        assert_eq!(table["worker"].as_array().unwrap().len(), 2);
        assert_eq!(table["relay"][0]["vip"].as_str(), Some("203.0.113.10:80"));
        assert_eq!(table["port"][0]["device"].as_str(), Some("net_pcap0,iface=wan,phy_mac=1"));
        assert_eq!(table["hints"]["listen"].as_str(), Some("10.5.2.2:4791"));
        assert_eq!(table["hints"]["peers"][1].as_str(), Some("10.5.2.1:4794"));
        assert_eq!(table["port"][1]["gateways"][1].as_str(), Some("2001:db8:4:2::1"));
    }
}
