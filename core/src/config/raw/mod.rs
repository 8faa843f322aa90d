//! The config file as it is written: names, nesting, types and defaults, without a meaning yet.
//!
//! This file is the reference of the settings: the doc of each field gives its meaning, unit,
//! default and range. Numbers are wide and addresses are text here, so that a value out of its
//! range is reported in the words of [`check`](super::check), together with all other mistakes.

mod limits;
mod neighbours;
mod target;

use serde::Deserialize;

pub(super) use limits::RawLimits;
pub(super) use neighbours::RawNeighbours;
pub(super) use target::{RawTarget, RawTargetsFile};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// `[pop]`. Required.
    pub(super) pop: RawPop,
    /// `[dpdk]`.
    #[serde(default)]
    pub(super) dpdk: RawDpdk,
    /// `[[port]]`. 1 to 16.
    #[serde(default)]
    pub(super) port: Vec<RawPort>,
    /// `[[worker]]`. 1 to 64.
    #[serde(default)]
    pub(super) worker: Vec<RawWorker>,
    /// `[layout]`.
    #[serde(default)]
    pub(super) layout: RawLayout,
    /// `[limits]`.
    #[serde(default)]
    pub(super) limits: RawLimits,
    /// `[neighbours]`.
    #[serde(default)]
    pub(super) neighbours: RawNeighbours,
    /// `[fragments]`. Only with `pop.fragments = "reassemble"`.
    pub(super) fragments: Option<RawFragmentLimits>,
    /// `[[relay]]`. With the tunnels 0 to 256.
    #[serde(default)]
    pub(super) relay: Vec<RawRelay>,
    /// `[[tunnel]]`. With the relays 0 to 256.
    #[serde(default)]
    pub(super) tunnel: Vec<RawTunnel>,
    /// `[metrics]`.
    #[serde(default)]
    pub(super) metrics: RawMetrics,
    /// `[hints]`. Default: none, so that the POP tells nobody and listens to nobody.
    pub(super) hints: Option<RawHints>,
}

/// `[pop]`: the POP itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPop {
    /// The POP's name, for people. Required. 1 to 63 of `A-Z a-z 0-9 _ -`.
    pub(super) name: String,
    /// The POP's number, unique among the POPs. Required. Range: 0 to 255.
    pub(super) id: i64,
    /// Path of the key file, relative to the folder of this file. Required.
    pub(super) keys: String,
    /// Path of the tenants file, relative to the folder of this file. Required with a `[[tunnel]]`.
    pub(super) tenants: Option<String>,
    /// Whether other users may have access to the key file and the tenants file. Default: false, so
    /// that such a file is a mistake.
    #[serde(default)]
    pub(super) open_secrets: bool,
    /// Whether tunnels wait for the kernel to report a synchronised clock. Default: `kernel`.
    #[serde(default)]
    pub(super) clock: RawClock,
    /// Milliseconds that are added to the system's clock, for hosts whose clock cannot be set and
    /// for tests. Default: 0. Range: a day (86,400,000) either way.
    #[serde(default)]
    pub(super) clock_offset_ms: i64,
    /// Whether clients with private addresses (RFC 1918, RFC 6598) are served. Default: false.
    #[serde(default)]
    pub(super) private_clients: bool,
    /// Whether the gateways of ports are served as clients: one that does NAT is. Default: true.
    #[serde(default = "defaults::gateway_clients")]
    pub(super) gateway_clients: bool,
    /// Prefixes, as `ADDRESS/LENGTH` of either family, whose addresses are not served. Default:
    /// none. At most 4096.
    #[serde(default)]
    pub(super) not_clients: Vec<String>,
    /// Seconds that a stopping POP continues to forward. Default: 10. Range: 0 to 3600.
    #[serde(default = "defaults::drain_seconds")]
    pub(super) drain_seconds: i64,
    /// The policy for fragments, the same on all POPs. Default: `drop`.
    #[serde(default)]
    pub(super) fragments: RawFragments,
}

/// `pop.clock`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawClock {
    /// With tunnels, the POP is ready only while the kernel reports that its clock is synchronised.
    #[default]
    Kernel,
    /// The clock is trusted without asking the kernel.
    Trusted,
}

/// `pop.fragments`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFragments {
    /// Fragments are dropped and counted.
    #[default]
    Drop,
    /// Datagrams are reassembled, within the limits of `[fragments]`.
    Reassemble,
}

/// `[fragments]`: bounds of reassembly, of each worker that receives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFragmentLimits {
    /// Incomplete datagrams at a time. Default: 1024. Range: 16 to 65536.
    pub(super) datagrams: i64,
    /// Fragments of one datagram. Default: 8. Range: 2 to 8.
    pub(super) per_datagram: i64,
    /// Frame buffers that incomplete datagrams may hold. Default: 2048, or less so that all workers
    /// together hold at most half of `dpdk.mbufs`. Range: 32 to that half.
    pub(super) buffers: Option<i64>,
    /// Milliseconds from the first fragment of a datagram until the datagram expires. Default:
    /// 1000. Range: 10 to 30000.
    pub(super) timeout_ms: i64,
}

impl Default for RawFragmentLimits {
    fn default() -> Self {
        RawFragmentLimits { datagrams: 1024, per_datagram: 8, buffers: None, timeout_ms: 1000 }
    }
}

/// `[dpdk]`: how DPDK is started.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDpdk {
    /// Whether DPDK's memory comes from hugepages. Default: false, for software ports.
    pub(super) hugepages: bool,
    /// DPDK's memory in MiB. Default: 512. Range: 32 to 1048576.
    pub(super) memory_mb: i64,
    /// Frame buffers of the whole POP. Default: 16384. Range: 1024 to 16777216.
    pub(super) mbufs: i64,
    /// Further arguments for EAL. Default: none.
    pub(super) args: Vec<String>,
}

impl Default for RawDpdk {
    fn default() -> Self {
        RawDpdk { hugepages: false, memory_mb: 512, mbufs: 16384, args: Vec::new() }
    }
}

/// `[[port]]`: a port of DPDK.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    /// The port's name in metrics and in `worker.rx`, unique. Required. 1 to 63 of
    /// `A-Z a-z 0-9 _ -`.
    pub(super) name: String,
    /// A PCI address, or a vdev string of DPDK, unique. Required.
    pub(super) device: String,
    /// Whose frames the POP accepts on the port. Required.
    pub(super) side: RawSide,
    /// The port's MAC address, unicast. Default: the device's.
    pub(super) mac: Option<String>,
    /// The port's own addresses, each with the prefix length of the link, such as `192.0.2.2/24`.
    /// Default: none. At most 16.
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    /// On-link routers, resolved by ARP and neighbour discovery; IPv6 ones may be link-local. Each
    /// side needs one, on any of its ports, of each family that is served there. Default: none. At
    /// most 16.
    #[serde(default)]
    pub(super) gateways: Vec<String>,
    /// The MAC addresses of the gateways, one for each. The POP does not ask for them; whether it
    /// asks these addresses for a sign of life is in `[neighbours]`. Default: none.
    pub(super) gateway_macs: Option<Vec<String>>,
    /// The 802.1Q VLAN of the port's frames in both directions. Default: none, untagged. Range: 1
    /// to 4094.
    pub(super) vlan: Option<i64>,
    /// The port's MTU in bytes of IP. Default: 1500. Range: 576 to 9216; 1280 or more with an IPv6
    /// address.
    #[serde(default = "defaults::mtu")]
    pub(super) mtu: i64,
    /// RX queues of the port, each of which a worker must poll. Default: 1. Range: 1 to 64.
    #[serde(default = "defaults::queues")]
    pub(super) queues: i64,
}

/// `port.side`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSide {
    /// Frames from clients and agents.
    Client,
    /// Frames from targets.
    Target,
    /// Frames from both.
    Both,
}

/// `[[worker]]`: a thread of the data plane.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorker {
    /// The CPU that the worker is pinned to. Required. Range: 0 to 1023.
    pub(super) core: i64,
    /// The RX queues that it polls, as `port:queue`. Default: none; it then only sends.
    #[serde(default)]
    pub(super) rx: Vec<String>,
}

/// `[layout]`: the division of work among the workers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLayout {
    /// The worker that sends a frame. Default: `run-to-completion`.
    pub(super) kind: RawLayoutKind,
    /// The policy of a worker while nothing arrives. Default: `backoff`.
    pub(super) idle: RawIdle,
}

/// `layout.kind`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawLayoutKind {
    /// The worker that received the frame sends it. Where a port has too few TX rings, one worker
    /// sends for all.
    #[default]
    RunToCompletion,
    /// One worker for each port sends the frames of all.
    Pipeline,
}

/// `layout.idle`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawIdle {
    /// The worker polls without a pause.
    Spin,
    /// The worker sleeps between polls, up to 200 microseconds.
    #[default]
    Backoff,
}

/// `[[relay]]`: a relay service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    /// The service's name, unique among relays and tunnels. Required. 1 to 63 of
    /// `A-Z a-z 0-9 _ -`.
    pub(super) name: String,
    /// `ADDRESS:PORT` that clients connect to, unique; IPv6 as `[2001:db8::10]:443`. Required.
    pub(super) vip: String,
    /// Servers, all of one family, each as `ADDRESS:PORT` or as a table. This or `targets_file` is
    /// required. 1 to 256 entries, of 1 to 64 addresses.
    #[serde(default)]
    pub(super) targets: Vec<RawTarget>,
    /// Path of the file with the servers, relative to the folder of this file. The POP reads it
    /// again when it changes. Default: none.
    pub(super) targets_file: Option<String>,
    /// How long a server that gets no new connections, or fewer, is still asked about those that it
    /// may have, as a number with `ms`, `s`, `m`, `h` or `d`. Default: `24h`. Range: `1s` to `30d`.
    pub(super) memory: Option<String>,
    /// The largest difference between the clocks of two POPs, as `memory`. Default: `3s`. Range:
    /// `0s` to `60s`, and less than `memory`.
    pub(super) skew: Option<String>,
    /// The source addresses that targets see. Required.
    pub(super) egress: RawEgress,
    /// The largest MSS in SYNs, in bytes. Default: the smallest port MTU less 40, or less 60 with
    /// IPv6 on a side. Range: 256 to that default.
    pub(super) mss: Option<i64>,
    /// The smallest MTU, in bytes, that an ICMP error over IPv4 about its segments may announce.
    /// Default: 1280 with a pool, else 552. Range: 68 to 1500.
    pub(super) icmp_mtu_floor: Option<i64>,
}

/// `relay.egress`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEgress {
    /// Addresses of an IPv4 prefix that is routed to the POPs, from IPv4 clients to IPv4 targets.
    /// Range: /16 to /30.
    Pool(String),
    /// Addresses of an IPv6 prefix that is routed to the POPs, from IPv4 clients to IPv6 targets.
    /// Range: /32 to /80.
    Prefix(String),
    /// The client's own address; VIP and targets are of one family.
    Transparent,
}

/// `[[tunnel]]`: a tunnel service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTunnel {
    /// The service's name, unique among relays and tunnels. Required. 1 to 63 of
    /// `A-Z a-z 0-9 _ -`.
    pub(super) name: String,
    /// `ADDRESS:PORT` that agents connect to over IPv4. Default: none. One of `vip4` and `vip6` is
    /// required.
    pub(super) vip4: Option<String>,
    /// `[ADDRESS]:PORT` that agents connect to over IPv6. Default: none.
    pub(super) vip6: Option<String>,
    /// Names of the tenants that it serves. Default: all of the tenants file.
    pub(super) tenants: Option<Vec<String>>,
    /// T, the length of a tick in milliseconds. Default: 8000. Range: 100 to 60000.
    pub(super) tick_ms: Option<i64>,
    /// STRIDE, the distance of the sequence numbers of successive ticks, in bytes. Default: 4096.
    /// Range: 128 to 4096.
    pub(super) stride: Option<i64>,
    /// LAG, the number of ticks that the acks of data stay behind. Default: 4. Range: 1 to 8.
    pub(super) lag: Option<i64>,
    /// OFFSET, the range beyond a tick's number that sequence numbers of data vary in, in bytes.
    /// Default: 16384. Range: 1024 to 16384, a multiple of 64, and no less than the TCP payload of
    /// a datagram of `tunnel_mtu` bytes.
    pub(super) offset: Option<i64>,
    /// The largest IP datagram between agents and POPs, in bytes. Default: 1400. Range: 576 to the
    /// smallest MTU of a port towards clients.
    #[serde(default = "defaults::tunnel_mtu")]
    pub(super) tunnel_mtu: i64,
}

/// `[hints]`: refusals of targets that POPs tell each other of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHints {
    /// `ADDRESS:PORT` of the UDP socket that hints are sent from and received at, on a network that
    /// only the POPs see. Required.
    pub(super) listen: String,
    /// `ADDRESS:PORT` of each other POP. Required. 1 to 64.
    pub(super) peers: Vec<String>,
    /// RSTs that each worker tells of. Default: 1000. Range: 1 to 1000000000.
    #[serde(default = "defaults::hints_per_second")]
    pub(super) per_second: i64,
}

/// `[metrics]`: the HTTP listener.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    /// `ADDRESS:PORT` that it listens on. Default: none, no listener.
    pub(super) listen: Option<String>,
}

/// The defaults of single keys.
mod defaults {
    pub(super) fn gateway_clients() -> bool {
        true
    }

    pub(super) fn drain_seconds() -> i64 {
        10
    }

    pub(super) fn hints_per_second() -> i64 {
        1000
    }

    pub(super) fn mtu() -> i64 {
        1500
    }

    pub(super) fn queues() -> i64 {
        1
    }

    pub(super) fn tunnel_mtu() -> i64 {
        1400
    }
}
