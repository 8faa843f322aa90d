//! What the operator says: one TOML file per POP and one with keys.
//!
//! [`Config::parse`] reads and checks the text of the first, [`keys::KeyFile::parse`](crate::keys)
//! that of the second, and [`Snapshot::build`] makes of both what workers read. All are pure:
//! reading the files is the caller's. A mistake is told as a [`Problem`] with file, key and reason,
//! and all mistakes are told at once.

mod check;
mod egress;
mod raw;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::fragment::FragmentLimits;
use crate::net::{Address, IpNet, Net, PortIndex, Side};
use crate::predict::Constants;
use crate::problem::Problem;
use crate::wire::MacAddr;

pub use egress::{EgressConfig, Pool, PoolBits, Prefix, PrefixLen};

/// Targets of one service.
pub const MAX_TARGETS: usize = 64;

/// Workers of one POP.
pub const MAX_WORKERS: usize = 64;
/// RX queues of one port.
pub const MAX_QUEUES: usize = 64;
/// Addresses of one port.
pub const MAX_ADDRESSES: usize = 16;
/// Gateways of one port.
pub const MAX_GATEWAYS: usize = 16;

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The POP itself.
    pub pop: PopConfig,
    /// How DPDK is started.
    pub dpdk: DpdkConfig,
    /// The ports, in the order of the file: 1..=[`MAX_PORTS`](crate::net::MAX_PORTS).
    pub ports: Vec<PortConfig>,
    /// The workers, in the order of the file: 1..=[`MAX_WORKERS`].
    pub workers: Vec<WorkerConfig>,
    /// Who sends what a worker received.
    pub layout: Layout,
    /// What a worker does when nothing arrives.
    pub idle: Idle,
    /// Rate limits and table sizes.
    pub limits: Limits,
    /// The relays, in the order of the file; with the tunnels at most
    /// [`MAX_SERVICES`](crate::net::MAX_SERVICES).
    pub relays: Vec<RelayConfig>,
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
    pub clock: ClockTrust,
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
pub enum ClockTrust {
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
    /// Datagrams are reassembled, within these limits.
    Reassemble(FragmentLimits),
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
    pub rx: Vec<PortQueue>,
}

/// An RX queue of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortQueue {
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
pub struct RelayConfig {
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
