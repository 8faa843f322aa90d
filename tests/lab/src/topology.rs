//! The namespaces, links, addresses and fixed routes of a lab.
//!
//! | where | interface | address |
//! |---|---|---|
//! | client | `net0` | 192.0.2.10 to .17 /24, default via .1 |
//! | client router | `client`, `pop1` ... | 192.0.2.1/24, 10.1.N.1/24 |
//! | POP N | `wan`, `lan` | 10.1.N.2/24, 10.2.N.2/24: the POP's own, or the kernel's |
//! | target router | `pop1` ..., `target` | 10.2.N.1/24, 198.51.100.1/24 |
//! | target | `net0` | 198.51.100.10 to .17 /24, default via .1 |
//!
//! The VIPs are 203.0.113.0/24. Only the routers forward.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use crate::routes::{Mover, Moving, Routes};
use crate::{Namespace, Result, link};

/// The first of the client's addresses.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The first of the target's addresses.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The anycast address of the lab's services.
pub const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// How many addresses the client and the target have each.
pub const HOST_ADDRESSES: u8 = 8;

const CLIENT_NET: &str = "192.0.2.0/24";
const TARGET_NET: &str = "198.51.100.0/24";
const VIP_NET: &str = "203.0.113.0/24";
/// Said per route: the sysctl of a namespace may only name what its parent allows there.
const CONGESTION: &str = "congctl cubic";

/// What the topology is to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many POPs, 1 to 99.
    pub pops: usize,
    /// The egress pool that is routed from the target to the POPs.
    pub pool: String,
    /// The addresses of a POP, and the VIP, belong to its kernel: for programs that use its TCP.
    /// Otherwise the POP's interfaces have no address and its kernel stays silent.
    pub kernel_pops: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { pops: 3, pool: "100.64.8.0/24".to_owned(), kernel_pops: false }
    }
}

/// The namespaces of one lab; all gone when dropped.
#[derive(Debug)]
pub struct Topology {
    /// The host that connects.
    pub client: Arc<Namespace>,
    /// The router between the client and the POPs: holds the routes up.
    pub client_router: Namespace,
    /// The points of presence.
    pub pops: Vec<Arc<Namespace>>,
    /// The router between the POPs and the target: holds the routes down.
    pub target_router: Namespace,
    /// The host that is connected to.
    pub target: Arc<Namespace>,
}

impl Topology {
    /// Makes all of it; `id` begins the name of each namespace.
    ///
    /// # Errors
    /// If a tool is missing or refuses; what was made so far is removed.
    pub fn build(id: &str, shape: &Shape) -> Result<Self> {
        let make = |role: &str| {
            let namespace = Namespace::create(&format!("{id}-{role}"))?;
            host_sysctls(&namespace)?;
            Ok(namespace)
        };
        let topology = Self {
            client: make("client")?.into(),
            client_router: make("router1")?,
            pops: (1..=shape.pops)
                .map(|n| make(&format!("pop{n}")).map(Arc::new))
                .collect::<Result<_>>()?,
            target_router: make("router2")?,
            target: make("target")?.into(),
        };
        topology.connect_hosts()?;
        for (pop, n) in topology.pops.iter().zip(1..) {
            topology.connect_pop(pop, n)?;
            if shape.kernel_pops {
                address_kernel_pop(pop, n)?;
            }
        }
        for router in [&topology.client_router, &topology.target_router] {
            router.sysctl("net.ipv4.ip_forward", "1")?;
        }
        Ok(topology)
    }

    /// Takes hold of the moving routes; both directions begin at the first POP.
    ///
    /// # Errors
    /// If the routers cannot be driven.
    pub fn routes(&self, shape: &Shape, log: &Path) -> Result<Routes> {
        let gateways = |side: u8| {
            (1..=self.pops.len()).map(|n| format!("10.{side}.{n}.2")).collect::<Vec<_>>()
        };
        // Transparent services answer to the clients' own addresses.
        let down = vec![shape.pool.clone(), CLIENT_NET.to_owned()];
        let moving = |prefixes, side| Moving {
            prefixes,
            gateways: gateways(side),
            ipv6: false,
            interface: None,
        };
        let up = Mover::new(&self.client_router, moving(vec![VIP_NET.to_owned()], 1), log)?;
        let down = Mover::new(&self.target_router, moving(down, 2), log)?;
        Ok(Routes::new(up, down))
    }

    fn connect_hosts(&self) -> Result<()> {
        let sides = [
            (&self.client, &self.client_router, "client", CLIENT),
            (&self.target, &self.target_router, "target", TARGET),
        ];
        for (host, router, interface, first) in sides {
            link::connect((host, "net0"), (router, interface), 1500)?;
            let [a, b, c, d] = first.octets();
            let mut lines: Vec<String> = (d..d + HOST_ADDRESSES)
                .map(|last| format!("addr add {a}.{b}.{c}.{last}/24 dev net0"))
                .collect();
            lines.push(format!("route add default via {a}.{b}.{c}.1 {CONGESTION}"));
            host.ip(&lines)?;
            router.ip(&[format!("addr add {a}.{b}.{c}.1/24 dev {interface}")])?;
        }
        Ok(())
    }

    fn connect_pop(&self, pop: &Namespace, n: usize) -> Result<()> {
        let sides = [(&self.client_router, "wan", 1), (&self.target_router, "lan", 2)];
        for (router, interface, side) in sides {
            let toward = format!("pop{n}");
            link::connect((pop, interface), (router, &toward), 1500)?;
            router.ip(&[format!("addr add 10.{side}.{n}.1/24 dev {toward}")])?;
        }
        Ok(())
    }
}

/// The same starting point on every machine, whatever the settings of its own namespace are.
pub(crate) fn host_sysctls(namespace: &Namespace) -> Result<()> {
    let settings = [
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv4.tcp_timestamps", "1"),
        ("net.ipv4.tcp_no_metrics_save", "1"),
    ];
    settings.iter().try_for_each(|(key, value)| namespace.sysctl(key, value))
}

fn address_kernel_pop(pop: &Namespace, n: usize) -> Result<()> {
    pop.ip(&[
        format!("addr add {VIP}/32 dev lo"),
        format!("addr add 10.1.{n}.2/24 dev wan"),
        format!("addr add 10.2.{n}.2/24 dev lan"),
        format!("route add {CLIENT_NET} via 10.1.{n}.1 {CONGESTION}"),
        format!("route add {TARGET_NET} via 10.2.{n}.1 {CONGESTION}"),
    ])
}
