//! What the operator says: one TOML file per POP and one with keys.
//!
//! [`Config::parse`] reads and checks the text of the first, [`keys::KeyFile::parse`](crate::keys)
//! that of the second, and [`Snapshot::build`] makes of both what workers read. All are pure:
//! reading the files is the caller's. A mistake is told as a [`Problem`] with file, key and reason,
//! and all mistakes are told at once.

mod addresses;
mod check;
mod digest;
mod meanings;
mod net;
mod raw;
mod relays6;
mod reload;
mod slots;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod tunnels;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::predict::Constants;
use crate::relay::permutation::PoolBits;
use crate::wire::MacAddr;

pub use crate::relay::prefix::Prefix;
pub use crate::relay::rendezvous::{Endpoint, Endpoint6, MAX_TARGETS};
pub use crate::verdict::PortIndex;
pub use digest::MAPPING_VERSION;
pub use meanings::{is_link_local6, is_unicast, is_unicast6};
pub use net::{Address, IpNet, Ipv4Net, Ipv6Net, Net};
pub use relays6::{Mode6, Service6};
pub use reload::{Conflict, ConflictKind, reload_conflicts};
pub use slots::ServiceSlot;
pub use snapshot::{Destination, Egress, PoolIndex, Service, ServiceIndex, Snapshot};
pub use tunnels::Tunnel;

/// Services of one POP, of both kinds together, and counter slots for them.
pub const MAX_SERVICES: usize = 256;
/// Ports of one POP.
pub const MAX_PORTS: usize = 16;
/// Workers of one POP.
pub const MAX_WORKERS: usize = 64;
/// RX queues of one port.
pub const MAX_QUEUES: usize = 64;
/// Addresses of one port.
pub const MAX_ADDRESSES: usize = 16;
/// Gateways of one port.
pub const MAX_GATEWAYS: usize = 16;

/// A mistake, or something to be warned of, in a file of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The key, such as `relay[0].vip`; indices count from 0 in the order of the file. Empty where
    /// the problem is the whole file.
    pub key: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.file, self.reason)
        } else {
            write!(f, "{}: {}: {}", self.file, self.key, self.reason)
        }
    }
}

/// All mistakes in a file; at least one. Printed one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The POP itself.
    pub pop: PopConfig,
    /// How DPDK is started.
    pub dpdk: DpdkConfig,
    /// The ports, in the order of the file: 1..=[`MAX_PORTS`].
    pub ports: Vec<PortConfig>,
    /// The workers, in the order of the file: 1..=[`MAX_WORKERS`].
    pub workers: Vec<WorkerConfig>,
    /// Who sends what a worker received.
    pub layout: Layout,
    /// What a worker does when nothing arrives.
    pub idle: Idle,
    /// Rate limits and table sizes.
    pub limits: Limits,
    /// The relay services, in the order of the file: with the tunnels 0..=[`MAX_SERVICES`].
    pub services: Vec<ServiceConfig>,
    /// The tunnel services, in the order of the file.
    pub tunnels: Vec<TunnelConfig>,
    /// Where metrics are served, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// `[pop]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopConfig {
    /// The POP's name, for people.
    pub name: String,
    /// The POP's number among all.
    pub id: u8,
    /// The path of the key file, relative to this file's folder.
    pub keys: String,
    /// The path of the tenants file, relative to this file's folder; there when there is a tunnel.
    pub tenants: Option<String>,
    /// Whether the system's clock is believed.
    pub clock: Clock,
    /// Added to the system's wall clock, in milliseconds.
    pub clock_offset_ms: i64,
    /// Whether clients may have private addresses (RFC 1918, RFC 6598).
    pub private_clients: bool,
    /// How long a stopping POP still forwards, in seconds.
    pub drain_seconds: u32,
    /// What happens to fragments.
    pub fragments: Fragments,
    /// The smallest MTU that an ICMP error may announce, in bytes.
    pub icmp_mtu_floor: u16,
}

/// Whether the system's wall clock, which tunnels go by, is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Where the kernel says that it is synchronised.
    Kernel,
    /// Always.
    Trusted,
}

/// What happens to fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// They are dropped and counted.
    Drop,
    /// Datagrams are put together, within these limits.
    Reassemble(FragmentLimits),
}

/// `[fragments]`: bounds of each worker that puts datagrams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams that are not whole at a time.
    pub datagrams: u32,
    /// Fragments of one datagram.
    pub per_datagram: u8,
    /// Frame buffers that they may hold in all.
    pub buffers: u32,
    /// How long a datagram may take from its first fragment on, in milliseconds.
    pub timeout_ms: u32,
}

/// `[dpdk]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkConfig {
    /// Whether its memory comes from hugepages.
    pub hugepages: bool,
    /// Its memory, in MiB.
    pub memory_mb: u32,
    /// Frame buffers of the whole POP.
    pub mbufs: u32,
    /// More arguments for EAL.
    pub args: Vec<String>,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its name, unique.
    pub name: String,
    /// A PCI address or a vdev string of DPDK.
    pub device: String,
    /// Which frames are taken from it.
    pub side: Side,
    /// Its MAC address; without one, the device's own.
    pub mac: Option<MacAddr>,
    /// Its own addresses, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<IpNet>,
    /// Its on-link routers, at most [`MAX_GATEWAYS`].
    pub gateways: Vec<Gateway>,
    /// The VLAN (`vlan = 1..=4094`, optional) whose 802.1Q tag its frames carry both ways; without
    /// one they are untagged, or priority-tagged on the way in.
    pub vlan: Option<u16>,
    /// Its MTU, in bytes of IP.
    pub mtu: u16,
    /// Its RX queues, 1..=[`MAX_QUEUES`].
    pub queues: u16,
}

impl PortConfig {
    /// Its addresses of one family.
    pub fn nets<A: Address>(&self) -> impl Iterator<Item = Net<A>> {
        self.addresses.iter().filter_map(|net| A::of_net(*net))
    }

    /// Its gateways of one family, each with its MAC address, if that is given.
    pub fn gateways_of<A: Address>(&self) -> impl Iterator<Item = (A, Option<MacAddr>)> {
        self.gateways.iter().filter_map(|gateway| Some((A::of(gateway.ip)?, gateway.mac)))
    }

    /// Whether `ip` is one of its own addresses.
    pub fn has_address<A: Address>(&self, ip: A) -> bool {
        self.nets::<A>().any(|net| net.address == ip)
    }
}

/// Which frames are taken from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those from clients.
    Client,
    /// Those from targets.
    Target,
    /// All.
    Both,
}

impl Side {
    /// Whether frames from clients are taken.
    pub const fn takes_clients(self) -> bool {
        matches!(self, Side::Client | Side::Both)
    }

    /// Whether frames from targets are taken.
    pub const fn takes_targets(self) -> bool {
        matches!(self, Side::Target | Side::Both)
    }
}

/// An on-link router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its address; IPv6 ones may be link-local.
    pub ip: IpAddr,
    /// Its MAC address; without one it is asked for, by ARP or neighbour discovery.
    pub mac: Option<MacAddr>,
}

/// `[[worker]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The CPU that it is pinned to.
    pub core: u16,
    /// The RX queues that it polls.
    pub rx: Vec<RxQueue>,
}

/// An RX queue of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RxQueue {
    /// The port.
    pub port: PortIndex,
    /// The queue of that port.
    pub queue: u16,
}

/// Who sends what a worker received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The worker itself, wherever it can.
    RunToCompletion,
    /// The worker that owns the port's TX ring.
    Pipeline,
}

/// What a worker does when nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It polls on.
    Spin,
    /// It sleeps longer and longer.
    Backoff,
}

/// `[limits]`: token buckets per worker, with room for one second's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// RSTs of our own, per second.
    pub rst_per_second: u32,
    /// RSTs and ICMP errors that are sent in two variants, per second.
    pub variant_per_second: u32,
    /// Echo replies, per second.
    pub echo_per_second: u32,
    /// ICMP errors of our own, per second.
    pub icmp_per_second: u32,
    /// ICMP errors that are passed on about the segments of one network (an IPv4 /24 or an IPv6 /56) and
    /// one service, per second.
    pub icmp_forward_per_second: u32,
    /// Slots of the table of pending RSTs.
    pub pending_rsts: u32,
    /// SYN-ACKs of tunnels to one network (an IPv4 /24 or an IPv6 /56), per second.
    pub syn_ack_per_second: u32,
    /// Keepalive requests with a wrong MAC that are looked at, per second.
    pub keepalive_mac_per_second: u32,
    /// SYNs that one network (an IPv4 /24 or an IPv6 /56) may send to one relay service, per second.
    pub syn_per_prefix_per_second: u32,
    /// SYNs that one relay service takes, per second.
    pub syn_per_service_per_second: u32,
}

/// `[[relay]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its name, unique.
    pub name: String,
    /// What clients connect to. An IPv6 VIP has transparent egress.
    pub vip: SocketAddr,
    /// The servers, ascending: 1..=[`MAX_TARGETS`]. Behind a prefix, all are of IPv6; else they are
    /// of the VIP's family.
    pub targets: Vec<SocketAddr>,
    /// How the POP appears to them.
    pub egress: EgressConfig,
    /// The largest MSS that a SYN may announce, in bytes.
    pub mss: u16,
}

/// `[[tunnel]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Its name, unique among services of both kinds.
    pub name: String,
    /// What agents reach over IPv4. There is at least one of the two.
    pub vip4: Option<SocketAddrV4>,
    /// What agents reach over IPv6.
    pub vip6: Option<SocketAddrV6>,
    /// Names of the tenants that it serves; without a list, all of the tenants file.
    pub tenants: Option<Vec<String>>,
    /// What its sequence numbers are predicted with.
    pub constants: Constants,
    /// The largest IP datagram that it carries, in bytes.
    pub tunnel_mtu: u16,
}

impl TunnelConfig {
    /// Its one or two VIPs.
    pub fn vips(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let vip4 = self.vip4.map(SocketAddr::V4);
        vip4.into_iter().chain(self.vip6.map(SocketAddr::V6))
    }
}

/// How a POP appears to targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressConfig {
    /// As the addresses of a pool.
    Pool(Pool),
    /// As the addresses of an IPv6 prefix.
    Prefix(Prefix),
    /// As the client itself.
    Transparent,
}

impl EgressConfig {
    /// Whether `ip` is one of its addresses.
    pub fn holds(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (EgressConfig::Pool(pool), IpAddr::V4(ip)) => {
                (pool.first..=pool.last()).contains(&ip.to_bits())
            }
            (EgressConfig::Prefix(prefix), IpAddr::V6(ip)) => prefix.contains(ip.to_bits()),
            _ => false,
        }
    }
}

/// A prefix of IPv4 egress addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The lowest address, as the number that its dotted form stands for.
    pub first: u32,
    /// How many there are.
    pub bits: PoolBits,
}

impl Pool {
    /// Bits of the prefix.
    pub const fn prefix_len(self) -> u8 {
        32 - self.bits.get()
    }

    /// The address with this index in the pool.
    pub const fn address(self, index: u16) -> u32 {
        self.first | index as u32
    }

    /// The index in the pool of an address that is in it.
    pub const fn index(self, ip: u32) -> u16 {
        (ip & (self.bits.addresses() - 1)) as u16
    }

    /// The highest address.
    pub const fn last(self) -> u32 {
        self.first | (self.bits.addresses() - 1)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix_len())
    }
}
