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
//! With [`Shape::target_hosts`] there are hosts of one target each: 198.51.100.33 and so on, on
//! links of their own to the target router, 10.6.N.0/24.
//!
//! The VIPs are 203.0.113.0/24. Only the routers forward. With [`Shape::hints`] the kernels of POPs
//! have an address on another network ([`crate::hints`]).
//!
//! With IPv6 ([`Shape::ipv6`]) all but the POPs' kernels have both families:
//!
//! | where | interface | address |
//! |---|---|---|
//! | client | `net0` | 2001:db8:1::10/64, default via ::1 |
//! | client router | `client`, `pop1` ... | 2001:db8:1::1/64, 2001:db8:3:N::1/64 |
//! | POP N | `wan`, `lan` | 2001:db8:3:N::2/64, 2001:db8:4:N::2/64 |
//! | target router | `pop1` ..., `target` | 2001:db8:4:N::1/64, 2001:db8:2::1/64 |
//! | target | `net0` | 2001:db8:2::10 to ::17 /64, default via ::1 |
//!
//! The VIPs are 2001:db8:ff::/64, the prefix of IPv4 clients is 2001:db8:64::/64, the pool
//! of IPv6 clients fd40::/12.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use crate::hints::HintNetwork;
use crate::middlebox::{Middlebox, Trouble};
use crate::routes::{Mover, Movers, Moving, Routes};
use crate::{Namespace, Result, link};

/// The first of the client's addresses.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The first of the target's addresses.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The anycast address of the lab's services.
pub const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The client's address over IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10);
/// The target's address over IPv6.
pub const TARGET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x10);
/// The anycast address of the lab's services over IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10);
/// By which IPv4 clients appear to targets over IPv6.
pub const PREFIX: &str = "2001:db8:64::/64";
/// By which IPv6 clients appear to targets over IPv6.
pub const POOL6: Ipv6Addr = Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, 0);
/// The prefix length of the widest pool there.
pub const POOL6_LEN: u8 = 12;
/// How many addresses the client and the target have each.
pub const HOST_ADDRESSES: u8 = 8;

/// The address of the host with this number, of those that are a target each.
#[must_use]
pub fn target_host(n: u8) -> Ipv4Addr {
    let [a, b, c, _] = TARGET.octets();
    Ipv4Addr::new(a, b, c, FIRST_TARGET_HOST.saturating_add(n))
}

const FIRST_TARGET_HOST: u8 = 33;
const CLIENT_NET: &str = "192.0.2.0/24";
const TARGET_NET: &str = "198.51.100.0/24";
const VIP_NET: &str = "203.0.113.0/24";
const CLIENT_NET6: &str = "2001:db8:1::/64";
const VIP_NET6: &str = "2001:db8:ff::/64";
/// Said per route: the sysctl of a namespace may only name what its parent allows there.
const CONGESTION: &str = "congctl cubic";

/// What the topology is to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many POPs, 1 to 99; or none, with [`Self::direct`].
    pub pops: usize,
    /// The egress pool that is routed from the target to the POPs.
    pub pool: String,
    /// The addresses of a POP, and the VIP, belong to its kernel: for programs that use its TCP.
    /// Otherwise the POP's interfaces have no address and its kernel stays silent.
    pub kernel_pops: bool,
    /// The addresses of a POP belong to its kernel, and the VIP to nobody: for kernels that rewrite
    /// and forward.
    pub routing_pops: bool,
    /// IPv6 beside IPv4.
    pub ipv6: bool,
    /// The MTU of a link that IPv4 packets of the hosts pass on their way to the POPs, if there is
    /// one. Routes and sprays are of what comes out of it: of fragments each one for itself.
    pub path_mtu: Option<u32>,
    /// What boxes beside the client and the target do, where there is one. Its first side is the
    /// host's.
    pub boxes: [Option<Trouble>; 2],
    /// A second path between the hosts, to their own addresses, that passes no POP: the control of
    /// what POPs do. It carries what targets answer directly. Not with transparent services, whose
    /// answers it would carry too.
    pub direct: bool,
    /// A network between the POPs for their hints.
    pub hints: bool,
    /// How many hosts there are besides the target that are a target each, 0 to 9.
    pub target_hosts: usize,
}

impl Default for Shape {
    fn default() -> Self {
        let pool = "100.64.8.0/24".to_owned();
        Self {
            pops: 3,
            pool,
            kernel_pops: false,
            routing_pops: false,
            ipv6: false,
            path_mtu: None,
            boxes: [None; 2],
            direct: false,
            hints: false,
            target_hosts: 0,
        }
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
    /// The hosts that are a target each, if there are any, at [`target_host`].
    pub target_hosts: Vec<Arc<Namespace>>,
    /// The boxes beside the client and the target, if there are any.
    pub boxes: Vec<Middlebox>,
    /// The network of hints, if there is one.
    pub hints: Option<HintNetwork>,
    box_spaces: Vec<Namespace>,
}

impl Topology {
    /// Makes all of it; `id` begins the name of each namespace.
    ///
    /// # Errors
    /// If a tool is missing or refuses; what was made so far is removed.
    pub fn build(id: &str, shape: &Shape) -> Result<Self> {
        let silent = |role: &str| {
            let namespace = Namespace::create(&format!("{id}-{role}"))?;
            host_sysctls(&namespace)?;
            Ok(namespace)
        };
        let make = |role: &str| {
            let namespace = silent(role)?;
            if shape.ipv6 {
                enable_ipv6(&namespace)?;
            }
            Result::Ok(namespace)
        };
        let mut topology = Self {
            client: make("client")?.into(),
            client_router: make("router1")?,
            pops: (1..=shape.pops)
                .map(|n| silent(&format!("pop{n}")).map(Arc::new))
                .collect::<Result<_>>()?,
            target_router: make("router2")?,
            target: make("target")?.into(),
            target_hosts: (0..shape.target_hosts)
                .map(|n| make(&format!("host{n}")).map(Arc::new))
                .collect::<Result<_>>()?,
            boxes: Vec::new(),
            hints: None,
            box_spaces: Vec::new(),
        };
        topology.connect_hosts(id, shape)?;
        for (host, n) in topology.target_hosts.iter().zip(0..) {
            topology.connect_target_host(host, n)?;
        }
        if let Some(mtu) = shape.path_mtu {
            narrow(&topology.client_router, "client", mtu)?;
            narrow(&topology.target_router, "target", mtu)?;
        }
        for (pop, n) in topology.pops.iter().zip(1..) {
            topology.connect_pop(pop, n)?;
            if shape.kernel_pops || shape.routing_pops {
                address_kernel_pop(pop, n)?;
            }
            if shape.kernel_pops {
                pop.ip(&[format!("addr add {VIP}/32 dev lo")])?;
            }
        }
        if shape.hints {
            topology.hints = Some(HintNetwork::build(&format!("{id}-hints"), &topology.pops)?);
        }
        if shape.direct {
            topology.connect_directly(shape.ipv6)?;
        }
        for router in [&topology.client_router, &topology.target_router] {
            router.sysctl("net.ipv4.ip_forward", "1")?;
        }
        if shape.ipv6 {
            topology.add_ipv6()?;
        }
        Ok(topology)
    }

    /// Gives everything that has addresses those of IPv6 too.
    fn add_ipv6(&self) -> Result<()> {
        for router in [&self.client_router, &self.target_router] {
            router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        }
        let sides = [
            (&self.client, &self.client_router, "client", CLIENT6),
            (&self.target, &self.target_router, "target", TARGET6),
        ];
        for (host, router, interface, address) in sides {
            let mut gateway = address.octets();
            gateway[15] = 1;
            let gateway = Ipv6Addr::from(gateway);
            router.ip(&[format!("addr add {gateway}/64 dev {interface} nodad")])?;
            host.ip(&[
                format!("addr add {address}/64 dev net0 nodad"),
                format!("route add default via {gateway} {CONGESTION}"),
            ])?;
        }
        let [.., first] = TARGET6.segments();
        let others = (first + 1..first + u16::from(HOST_ADDRESSES))
            .map(|last| format!("addr add 2001:db8:2::{last:x}/64 dev net0 nodad"));
        self.target.ip(&others.collect::<Vec<_>>())?;
        for n in 1..=self.pops.len() {
            for (router, side) in [(&self.client_router, 3), (&self.target_router, 4)] {
                router.ip(&[format!("addr add 2001:db8:{side}:{n}::1/64 dev pop{n} nodad")])?;
            }
        }
        Ok(())
    }

    /// Takes hold of the moving routes; both directions begin at the first POP.
    ///
    /// # Errors
    /// If the routers cannot be driven.
    pub fn routes(&self, shape: &Shape, log: &Path) -> Result<Routes> {
        let numbers = 1..=self.pops.len();
        let movers = |router, side: u8, prefixes: &[&str], prefixes6: &[&str]| {
            let make = |prefixes: &[&str], gateways, ipv6| {
                let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
                Mover::new(router, Moving { prefixes, gateways, ipv6, interface: None }, log)
            };
            let gateways = numbers.clone().map(|n| format!("10.{side}.{n}.2")).collect();
            let gateways6 =
                numbers.clone().map(|n| format!("2001:db8:{}:{n}::2", side + 2)).collect();
            let ipv4 = make(prefixes, gateways, false)?;
            let ipv6 = shape.ipv6.then(|| make(prefixes6, gateways6, true)).transpose()?;
            Result::Ok(Movers { ipv4, ipv6 })
        };
        let up = movers(&self.client_router, 1, &[VIP_NET], &[VIP_NET6])?;
        // Transparent services answer to the clients' own addresses.
        let pool = [shape.pool.as_str(), CLIENT_NET];
        let pool6 = format!("{POOL6}/{POOL6_LEN}");
        let down = movers(&self.target_router, 2, &pool, &[PREFIX, &pool6, CLIENT_NET6])?;
        Ok(Routes::new(up, down))
    }

    fn connect_hosts(&mut self, id: &str, shape: &Shape) -> Result<()> {
        let sides = [
            (&self.client, &self.client_router, "client", CLIENT),
            (&self.target, &self.target_router, "target", TARGET),
        ];
        for ((host, router, interface, first), trouble) in sides.into_iter().zip(shape.boxes) {
            if let Some(trouble) = trouble {
                let space = Namespace::create(&format!("{id}-{interface}-box"))?;
                link::connect((host, "net0"), (&space, "near"), 1500)?;
                link::connect((&space, "far"), (router, interface), 1500)?;
                self.boxes.push(Middlebox::start(&space, ["near", "far"], trouble)?);
                self.box_spaces.push(space);
            } else {
                link::connect((host, "net0"), (router, interface), 1500)?;
            }
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

    fn connect_target_host(&self, host: &Namespace, n: u8) -> Result<()> {
        let link = format!("host{n}");
        link::connect((host, "net0"), (&self.target_router, &link), 1500)?;
        let address = target_host(n);
        self.target_router.ip(&[
            format!("addr add 10.6.{n}.1/24 dev {link}"),
            format!("route add {address} via 10.6.{n}.2"),
        ])?;
        host.ip(&[
            format!("addr add 10.6.{n}.2/24 dev net0"),
            format!("addr add {address}/32 dev net0"),
            format!("route add default via 10.6.{n}.1 {CONGESTION}"),
        ])
    }

    fn connect_directly(&self, ipv6: bool) -> Result<()> {
        let (near, far) = (&self.client_router, &self.target_router);
        link::connect((near, "direct"), (far, "direct"), 1500)?;
        let route = format!("route add {TARGET_NET} via 10.4.0.2");
        near.ip(&["addr add 10.4.0.1/24 dev direct".to_owned(), route])?;
        // More specific than the moving route to the clients, and covers all of their addresses.
        let route = "route add 192.0.2.0/27 via 10.4.0.1".to_owned();
        far.ip(&["addr add 10.4.0.2/24 dev direct".to_owned(), route])?;
        if ipv6 {
            let route = "route add 2001:db8:2::/64 via 2001:db8:6::2";
            near.ip(&["addr add 2001:db8:6::1/64 dev direct nodad", route])?;
            let route = "route add 2001:db8:1::/96 via 2001:db8:6::1";
            far.ip(&["addr add 2001:db8:6::2/64 dev direct nodad", route])?;
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

/// Leads IPv4 that a router receives from an interface over a link of the router to itself: before
/// it, it cuts what is too long; behind it, it chooses a way for each fragment, as the next router
/// would.
fn narrow(router: &Namespace, from: &str, mtu: u32) -> Result<()> {
    const MAC: &str = "02:00:00:00:66:02";
    link::connect((router, "narrow"), (router, "narrowed"), mtu)?;
    router.ip(&[
        format!("link set narrowed address {MAC}"),
        "addr add 10.3.0.1/24 dev narrow".to_owned(),
        format!("neigh add 10.3.0.2 lladdr {MAC} dev narrow nud permanent"),
        "route add default via 10.3.0.2 dev narrow table 100".to_owned(),
        format!("rule add pref 100 iif {from} lookup 100"),
    ])
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

/// IPv6 with addresses that are usable at once, without looking for others that have them.
pub(crate) fn enable_ipv6(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        for (key, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")] {
            namespace.sysctl(&format!("net.ipv6.conf.{scope}.{key}"), value)?;
        }
    }
    Ok(())
}

fn address_kernel_pop(pop: &Namespace, n: usize) -> Result<()> {
    pop.ip(&[
        format!("addr add 10.1.{n}.2/24 dev wan"),
        format!("addr add 10.2.{n}.2/24 dev lan"),
        format!("route add {CLIENT_NET} via 10.1.{n}.1 {CONGESTION}"),
        format!("route add {TARGET_NET} via 10.2.{n}.1 {CONGESTION}"),
    ])
}
