//! The operator's config: one TOML file for each POP.
//!
//! [`Config::parse`] reads and checks the text of the file; [`snapshot`](crate::snapshot) compiles
//! a config and keys into the state that workers read. A mistake is reported as a [`Problem`] with
//! file, key and reason, and all mistakes are reported at once. `raw.rs` is the reference of the
//! settings, with their units, defaults and ranges.

mod check;
mod egress;
mod open;
mod parse;
mod raw;
mod relay;
mod targets;
#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::fragment::FragmentLimits;
use crate::net::{Address, IpNet, Net, PortIndex, Side};
use crate::predict::Constants;
use crate::problem::Problem;
use crate::wire::MacAddr;

pub use check::{NamedFile, TargetsFiles};
pub use cpu_vector::Isa;
pub use egress::{
    EgressConfig, Encapsulate, Encapsulation, Pool, Pool6, Pool6Len, PoolBits, Prefix, PrefixLen,
    WayBack,
};
pub use open::{OpenConfig, OpenPrefix};
pub use parse::parse as parse_toml;
pub use relay::{ChooseBy, ClientAddress, Protocols, RelayConfig};
pub use targets::{
    Epoch, Harm, MAX_CANDIDATES, MAX_ENTRIES, MAX_EVENTS, MAX_TARGETS, MAX_WEIGHT, MEMORY_MS,
    SKEW_MS, Target, TargetList, choice, harm, kept_epochs, most_candidates, moved_share,
};

/// Most workers of one POP.
pub const MAX_WORKERS: usize = 64;
/// Most RX queues of one port.
pub const MAX_QUEUES: usize = 64;
/// Most addresses of one port.
pub const MAX_ADDRESSES: usize = 16;
/// Most gateways of one port.
pub const MAX_GATEWAYS: usize = 16;
/// Most POPs that hints are exchanged with.
pub const MAX_PEERS: usize = 64;

/// How long the hardware address of a neighbour is used without an answer, in milliseconds.
pub const NEIGHBOUR_EXPIRE_MS: u32 = 60_000;

/// Most prefixes whose addresses are no clients.
pub const MAX_NOT_CLIENTS: usize = 4096;

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name of the file, as the caller gave it.
    pub file: String,
    /// The POP itself.
    pub pop: PopConfig,
    /// How DPDK is started.
    pub dpdk: DpdkConfig,
    /// The ports, in the order of the file: 1..=[`MAX_PORTS`](crate::net::MAX_PORTS).
    pub ports: Vec<PortConfig>,
    /// The workers, in the order of the file: 1..=[`MAX_WORKERS`].
    pub workers: Vec<WorkerConfig>,
    /// The worker that sends a frame.
    pub layout: Layout,
    /// The policy of a worker while nothing arrives.
    pub idle: Idle,
    /// The vector instructions that workers compute with; `None` for the most that the CPU has.
    pub instructions: Option<Isa>,
    /// Rate limits and table sizes.
    pub limits: LimitsConfig,
    /// When gateways are queried.
    pub neighbours: NeighboursConfig,
    /// The relays, in the order of the file; with the tunnels at most
    /// [`MAX_SERVICES`](crate::net::MAX_SERVICES).
    pub relays: Vec<RelayConfig>,
    /// The tunnels, in the order of the file.
    pub tunnels: Vec<TunnelConfig>,
    /// Address and port of the HTTP listener, if there is one.
    pub metrics_listen: Option<SocketAddr>,
    /// The peers that refusals of targets are exchanged with, if there are any.
    pub hints: Option<HintsConfig>,
    /// Settings that are valid, but probably not intended.
    pub warnings: Vec<Problem>,
}

/// `[pop]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PopConfig {
    /// The POP's name, for people.
    pub name: String,
    /// The POP's number, unique among the POPs.
    pub id: u8,
    /// The path of the key file, relative to this file's folder.
    pub keys: String,
    /// The path of the tenants file, relative to this file's folder; required by tunnels.
    pub tenants: Option<String>,
    /// Whether the files with secrets may be open to other users.
    pub open_secrets: bool,
    /// Whether the system's clock is trusted.
    pub clock: ClockTrust,
    /// Added to the system's wall clock, in milliseconds.
    pub clock_offset_ms: i64,
    /// Whether clients with private addresses (RFC 1918, RFC 6598) are served.
    pub private_clients: bool,
    /// Whether the gateways of ports are served as clients.
    pub gateway_clients: bool,
    /// Prefixes whose addresses are not served, at most [`MAX_NOT_CLIENTS`].
    pub not_clients: Vec<IpNet>,
    /// How long a stopping POP continues to forward, in seconds.
    pub drain_seconds: u32,
    /// The policy for fragments.
    pub fragments: Fragments,
}

/// When the system's wall clock, by which tunnels compute the tick, is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// While the kernel reports that it is synchronised.
    Kernel,
    /// Always.
    Trusted,
}

/// The policy for fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// Fragments are dropped and counted.
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
    /// Further arguments for EAL.
    pub args: Vec<String>,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its name, unique.
    pub name: String,
    /// A PCI address or a vdev string of DPDK.
    pub device: String,
    /// Whose frames are accepted on it.
    pub side: Side,
    /// Its MAC address; the device's if there is none.
    pub mac: Option<MacAddr>,
    /// Its own addresses, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<IpNet>,
    /// Its on-link routers, at most [`MAX_GATEWAYS`].
    pub gateways: Vec<Gateway>,
    /// The 802.1Q VLAN of its frames in both directions. Without one, sent frames are untagged, and
    /// received ones untagged or priority-tagged.
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

    /// Its gateways of one family, each with its MAC address, if that is configured.
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
    /// Its MAC address; resolved by ARP or neighbour discovery if there is none.
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

/// The worker that sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The worker that received it, wherever the port has a TX ring for it.
    RunToCompletion,
    /// The worker that owns the port's TX ring.
    Pipeline,
}

/// The policy of a worker while nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It polls without a pause.
    Spin,
    /// It sleeps between polls, longer and longer.
    Backoff,
}

/// `[limits]`: rates of token buckets for each worker, with room for one second's worth, and table
/// sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// RSTs that the POP originates, to clients and to targets each, per second.
    pub rst_per_second: u32,
    /// Echo replies, per second.
    pub echo_per_second: u32,
    /// ICMP errors that the POP originates, per second and kind.
    pub icmp_per_second: u32,
    /// Queries for clients on a port's link whose hardware addresses are not known, per second.
    pub neighbour_per_second: u32,
    /// ICMP errors that are passed on about the segments of one network (an IPv4 /24 or an IPv6
    /// /56) and one service, per second.
    pub icmp_forward_per_second: u32,
    /// Slots of the table of what targets answered.
    pub remembered_answers: u32,
    /// Slots of the table of remembered SYNs.
    pub remembered_syns: u32,
    /// SYN-ACKs of tunnels to one network (an IPv4 /24 or an IPv6 /56), per second.
    pub syn_ack_per_second: u32,
    /// Keepalive requests of one host with a wrong MAC that are verified, per second.
    pub keepalive_mac_per_second: u32,
    /// SYNs of one network (an IPv4 /24 or an IPv6 /56) to one relay, per second.
    pub syn_per_prefix_per_second: u32,
    /// Packets from the open address of one agent, and packets to it, per second.
    pub open_per_agent_per_second: u32,
    /// Packets from the open addresses of one tunnel, and packets to them, per second.
    pub open_per_service_per_second: u32,
    /// SYNs to one relay, per second.
    pub syn_per_service_per_second: u32,
}

/// `[neighbours]`: when gateways are queried, and when one is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighboursConfig {
    /// Age of the last answer from which on a gateway is queried again, in milliseconds.
    pub refresh_ms: u32,
    /// Least time between two queries, in milliseconds.
    pub probe_interval_ms: u32,
    /// Unanswered queries after which a gateway is silent.
    pub probes: u32,
    /// Whether gateways with configured MAC addresses are queried; without a word, where a side has
    /// several gateways of the family.
    pub probe_fixed: Option<bool>,
}

/// `[hints]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintsConfig {
    /// The address and port of the UDP socket.
    pub listen: SocketAddr,
    /// Those of the other POPs, 1..=[`MAX_PEERS`], of the same family.
    pub peers: Vec<SocketAddr>,
    /// RSTs that each worker tells of, per second.
    pub per_second: u32,
}

/// `[[tunnel]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Its name, unique among services of both kinds.
    pub name: String,
    /// The endpoint that agents connect to over IPv4. It has this or `vip6`, or both.
    pub vip4: Option<SocketAddrV4>,
    /// The endpoint that agents connect to over IPv6.
    pub vip6: Option<SocketAddrV6>,
    /// Names of the tenants that it serves; without a list, all of the tenants file.
    pub tenants: Option<Vec<String>>,
    /// The constants of its predicted sequence numbers.
    pub constants: Constants,
    /// The largest IP datagram between agents and POPs, in bytes.
    pub tunnel_mtu: u16,
    /// Its open side, if it has one; it then has a `vip4`.
    pub open: Option<OpenConfig>,
}

impl TunnelConfig {
    /// Its VIPs, one or two.
    pub fn vips(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let vip4 = self.vip4.map(SocketAddr::V4);
        vip4.into_iter().chain(self.vip6.map(SocketAddr::V6))
    }
}
