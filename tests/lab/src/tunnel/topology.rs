//! The namespaces, links, addresses and fixed routes of a lab for tunnels.
//!
//! | where | interface | IPv4 | IPv6 |
//! |---|---|---|---|
//! | agent N | `net0` | 10.(100+N).0.2/24 | 2001:db8:1:N::2/64 |
//! | NAT N | `in` | 10.(100+N).0.1/24 | 2001:db8:1:N::1/64 |
//! | | `out` | 198.18.N.2/24 | 2001:db8:2:N::2/64 |
//! | router | `site1` ... | 198.18.N.1/24 | 2001:db8:2:N::1/64 |
//! | | `pop1` ... | 10.1.N.1/24 | 2001:db8:3:N::1/64 |
//! | POP N | `wan` | 10.1.N.2/24 | 2001:db8:3:N::2/64 |
//! | outsider | `net0` | 198.18.99.2/24 | 2001:db8:2:99::2/64 |
//!
//! With [`Shape::open`] the POPs have both families, and there is a host outside of the tunnel that
//! has IPv6 alone. Agents' hosts may have IPv6, but have no network of it.
//!
//! | where | interface | IPv6 |
//! |---|---|---|
//! | third party | `net0` | 2001:db8:4::2/64 |
//! | router | `third` | 2001:db8:4::1/64 |
//!
//! The VIP is 203.0.113.20 and 2001:db8:ff::20, port 443. POPs have their addresses themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::{AgentRoutes, Nat};
use crate::middlebox::{Middlebox, Trouble};
use crate::topology::{enable_ipv6, host_sysctls};
use crate::{Namespace, Result, link};

/// Which IP is outside of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, with masquerading.
    V4,
    /// IPv6, with stateful firewalls.
    V6,
}

impl Family {
    /// The VIP.
    #[must_use]
    pub fn vip(self) -> SocketAddr {
        let ip: IpAddr = match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, 20).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x20).into(),
        };
        SocketAddr::new(ip, 443)
    }

    /// Bytes of an IP header.
    #[must_use]
    pub fn header_bytes(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    fn prefix(self, net: Net, n: usize) -> String {
        match (self, net) {
            (Self::V4, Net::Inside) => format!("10.{}.0.", 100 + n),
            (Self::V4, Net::Outside) => format!("198.18.{n}."),
            (Self::V4, Net::Pop) => format!("10.1.{n}."),
            (Self::V6, Net::Inside) => format!("2001:db8:1:{n}::"),
            (Self::V6, Net::Outside) => format!("2001:db8:2:{n}::"),
            (Self::V6, Net::Pop) => format!("2001:db8:3:{n}::"),
        }
    }

    fn length(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// The line of `ip` that gives a host's address to an interface.
    fn address(self, net: Net, n: usize, host: u8, interface: &str) -> String {
        let nodad = if self == Self::V6 { " nodad" } else { "" };
        let (prefix, length) = (self.prefix(net, n), self.length());
        format!("addr add {prefix}{host}/{length} dev {interface}{nodad}")
    }
}

#[derive(Debug, Clone, Copy)]
enum Net {
    Inside,
    Outside,
    Pop,
}

/// The place of one agent.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Timeouts of conntrack in seconds, by what `nf_conntrack_tcp_timeout_` is followed by, such
    /// as `established`.
    pub timeouts: Vec<(&'static str, u32)>,
    /// Whether the NAT answers SYNs itself (nft synproxy), without window scaling.
    pub synproxy: bool,
    /// A middlebox between the agent and its NAT.
    pub inside: Option<Trouble>,
    /// A middlebox between the NAT and the router.
    pub outside: Option<Trouble>,
    /// Whether the agent's interface merges segments that arrive (GRO).
    pub gro: bool,
}

/// What the topology is to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many POPs, 1 to 99.
    pub pops: usize,
    /// The agents' places, 1 to 90.
    pub sites: Vec<Site>,
    /// Outside of the tunnel.
    pub family: Family,
    /// The VIP and the POPs' addresses belong to the POPs' kernels. Otherwise those stay silent.
    pub kernel_pops: bool,
    /// Whether the tunnel has an open side, and there is a third party.
    pub open: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let sites = vec![Site::default(); 2];
        Self { pops: 2, sites, family: Family::V4, kernel_pops: false, open: false }
    }
}

/// One agent's place.
#[derive(Debug)]
pub struct AgentSite {
    /// Middleboxes, `inside` and `outside`. (First, so that they stop before their links go.)
    pub boxes: [Option<Middlebox>; 2],
    /// Where the agent runs; its interface is `net0`.
    pub host: Arc<Namespace>,
    /// What stands between it and the router.
    pub nat: Nat,
    /// Whether the NAT answers SYNs itself.
    pub synproxy: bool,
    _box_spaces: Vec<Namespace>,
    n: usize,
    family: Family,
}

impl AgentSite {
    /// Its own address, behind the NAT.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        parse(&format!("{}2", self.family.prefix(Net::Inside, self.n)))
    }

    /// The address by which the POPs know it.
    #[must_use]
    pub fn public(&self) -> IpAddr {
        match self.family {
            Family::V4 => parse(&format!("{}2", self.family.prefix(Net::Outside, self.n))),
            Family::V6 => self.address(),
        }
    }

    /// Moves the agent's host to another address of its network: `.3`, `.4` and so on.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn change_address(&self, old: u8, new: u8) -> Result<()> {
        let (family, n) = (self.family, self.n);
        let old = family.address(Net::Inside, n, old, "net0").replace("addr add", "addr del");
        let gateway = format!("route add default via {}1", family.prefix(Net::Inside, n));
        // The route goes with the last address of its network.
        let _ = self.host.ip(&["route del default".to_owned()]);
        self.host.ip(&[old.replace(" nodad", ""), family.address(Net::Inside, n, new, "net0")])?;
        self.host.ip(&[gateway])
    }
}

/// The namespaces of one lab; all gone when dropped.
#[derive(Debug)]
pub struct TunnelTopology {
    /// The agents' places.
    pub sites: Vec<AgentSite>,
    /// The router between them and the POPs.
    pub router: Namespace,
    /// The points of presence.
    pub pops: Vec<Arc<Namespace>>,
    /// A host with an address of its own beside the sites: for attackers.
    pub outsider: Namespace,
    /// A host that knows nothing of the tunnel, with an open side.
    pub third: Option<Arc<Namespace>>,
    /// Outside of the tunnel.
    pub family: Family,
}

impl TunnelTopology {
    /// Makes all of it; `id` begins the name of each namespace.
    ///
    /// # Errors
    /// If a tool is missing or refuses; what was made so far is removed.
    pub fn build(id: &str, shape: &Shape) -> Result<Self> {
        let maker = Maker { id, family: shape.family, open: shape.open };
        let router = maker.namespace("router")?;
        maker.forward(&router)?;
        let sites = (1..)
            .zip(&shape.sites)
            .map(|(n, site)| maker.site(n, site, &router))
            .collect::<Result<_>>()?;
        let outsider = maker.namespace("outsider")?;
        maker.connect_outsider(&outsider, &router)?;
        let pops = (1..=shape.pops)
            .map(|n| maker.pop(n, &router, shape.kernel_pops).map(Arc::new))
            .collect::<Result<_>>()?;
        let third = shape.open.then(|| maker.third(&router).map(Arc::new)).transpose()?;
        Ok(Self { sites, router, pops, outsider, third, family: shape.family })
    }

    /// Takes hold of the moving routes; all begin at the first POP.
    ///
    /// # Errors
    /// If the router cannot be driven.
    pub fn routes(&self, log: &Path) -> Result<AgentRoutes> {
        let gateways = (1..=self.pops.len()).map(|n| self.family.prefix(Net::Pop, n) + "2");
        let (router, sites) = (&self.router, self.sites.len());
        let routes = AgentRoutes::new(router, self.family, sites, gateways.collect(), log)?;
        if self.third.is_none() {
            return Ok(routes);
        }
        let gateways = (1..=self.pops.len()).map(|n| Family::V6.prefix(Net::Pop, n) + "2");
        routes.with_open(router, gateways.collect(), log)
    }
}

struct Maker<'a> {
    id: &'a str,
    family: Family,
    open: bool,
}

impl Maker<'_> {
    fn namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = self.silent_namespace(role)?;
        if self.family == Family::V6 || self.open {
            enable_ipv6(&namespace)?;
        }
        Ok(namespace)
    }

    /// Without IPv6 of its kernel.
    fn silent_namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = Namespace::create(&format!("{}-{role}", self.id))?;
        host_sysctls(&namespace)?;
        Ok(namespace)
    }

    fn forward(&self, namespace: &Namespace) -> Result<()> {
        match self.family {
            Family::V4 => namespace.sysctl("net.ipv4.ip_forward", "1"),
            Family::V6 => namespace.sysctl("net.ipv6.conf.all.forwarding", "1"),
        }
    }

    fn site(&self, n: usize, site: &Site, router: &Namespace) -> Result<AgentSite> {
        let family = self.family;
        let host = Arc::new(self.namespace(&format!("agent{n}"))?);
        let nat = self.namespace(&format!("nat{n}"))?;
        self.forward(&nat)?;
        let mut box_spaces = Vec::new();
        let mut link =
            |name: &str, a: link::End<'_>, b: link::End<'_>, trouble: Option<Trouble>| {
                let Some(trouble) = trouble else {
                    return link::connect(a, b, MTU).map(|()| None);
                };
                let space = self.silent_namespace(&format!("{name}{n}"))?;
                link::connect(a, (&space, "near"), MTU)?;
                link::connect((&space, "far"), b, MTU)?;
                let middlebox = Middlebox::start(&space, ["near", "far"], trouble)?;
                box_spaces.push(space);
                Ok(Some(middlebox))
            };
        let toward = format!("site{n}");
        let boxes = [
            link("inside", (&host, "net0"), (&nat, "in"), site.inside)?,
            link("outside", (&nat, "out"), (router, &toward), site.outside)?,
        ];
        let gateway = |net| format!("route add default via {}1", family.prefix(net, n));
        host.ip(&[family.address(Net::Inside, n, 2, "net0"), gateway(Net::Inside)])?;
        nat.ip(&[
            family.address(Net::Inside, n, 1, "in"),
            family.address(Net::Outside, n, 2, "out"),
            gateway(Net::Outside),
        ])?;
        router.ip(&[family.address(Net::Outside, n, 1, &toward)])?;
        if family == Family::V6 {
            let (inside, via) = (family.prefix(Net::Inside, n), family.prefix(Net::Outside, n));
            router.ip(&[format!("route add {inside}/64 via {via}2")])?;
        }
        if site.gro {
            crate::command::run(host.command("ethtool").args(["-K", "net0", "gro", "on"]))?;
        }
        let nat = Nat::new(nat, site, family)?;
        let synproxy = site.synproxy;
        Ok(AgentSite { boxes, host, nat, synproxy, _box_spaces: box_spaces, n, family })
    }

    /// The host outside, and IPv6 of the router.
    fn third(&self, router: &Namespace) -> Result<Namespace> {
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let third = self.namespace("third")?;
        link::connect((&third, "net0"), (router, "third"), MTU)?;
        router.ip(&["addr add 2001:db8:4::1/64 dev third nodad"])?;
        third.ip(&[
            format!("addr add {THIRD}/64 dev net0 nodad"),
            "route add default via 2001:db8:4::1".to_owned(),
        ])?;
        Ok(third)
    }

    fn connect_outsider(&self, outsider: &Namespace, router: &Namespace) -> Result<()> {
        let family = self.family;
        link::connect((outsider, "net0"), (router, "outsider"), MTU)?;
        router.ip(&[family.address(Net::Outside, OUTSIDER, 1, "outsider")])?;
        let gateway = format!("route add default via {}1", family.prefix(Net::Outside, OUTSIDER));
        outsider.ip(&[family.address(Net::Outside, OUTSIDER, 2, "net0"), gateway])
    }

    fn pop(&self, n: usize, router: &Namespace, kernel: bool) -> Result<Namespace> {
        let (family, role) = (self.family, format!("pop{n}"));
        let pop = if kernel { self.namespace(&role)? } else { self.silent_namespace(&role)? };
        link::connect((&pop, "wan"), (router, &role), MTU)?;
        router.ip(&[family.address(Net::Pop, n, 1, &role)])?;
        if self.open {
            router.ip(&[Family::V6.address(Net::Pop, n, 1, &role)])?;
        }
        if kernel {
            let vip = family.vip().ip();
            let gateway = format!("route add default via {}1", family.prefix(Net::Pop, n));
            pop.ip(&[
                format!("addr add {vip} dev lo"),
                family.address(Net::Pop, n, 2, "wan"),
                gateway,
            ])?;
        }
        Ok(pop)
    }
}

fn parse(ip: &str) -> IpAddr {
    ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// The address of the third party.
pub const THIRD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 2);
/// The open addresses of agents.
pub const OPEN_PREFIX: &str = "2001:db8:a::/48";
/// From which POPs send their own ICMPv6 errors about open packets.
pub const ICMP_SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x99);
/// The outsider's number among the sites.
const OUTSIDER: usize = 99;
const MTU: u32 = 1500;
