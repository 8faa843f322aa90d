//! `[pop]` and `[fragments]` as they are written.

use serde::Deserialize;

/// Name, secrets, clock, and whom the POP serves.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPop {
    /// The POP's name, for people. Range: 1 to 63 of `A-Z a-z 0-9 _ -`. Reload: restart.
    pub(in crate::config) name: String,
    /// The POP's number, unique among the POPs. Range: 0 to 255. Reload: restart.
    pub(in crate::config) id: i64,
    /// Path of the key file, relative to the folder of the config. The same keys on all POPs.
    /// Reload: yes, with a new token epoch; another relay or sequence secret breaks connections.
    pub(in crate::config) keys: String,
    /// Path of the tenants file, relative to the folder of the config. Default: none; required with
    /// a `[[tunnel]]`. Reload: yes; another key of a tenant breaks connections.
    pub(in crate::config) tenants: Option<String>,
    /// Whether other users may have access to the key file and the tenants file (any mode beyond
    /// 0600). Without it that is a mistake, for `check`, `run` and a reload.
    #[serde(default)]
    pub(in crate::config) open_secrets: bool,
    /// Whether tunnels wait for a clock that the kernel reports as good
    /// ([the clock](operations.md#the-clock)).
    #[serde(default)]
    pub(in crate::config) clock: RawClock,
    /// Milliseconds that are added to the system's clock, for hosts whose clock cannot be set and
    /// for tests. Range: -86400000 to 86400000, a day either way. Reload: restart.
    #[serde(default)]
    pub(in crate::config) clock_offset_ms: i64,
    /// Whether clients with private addresses (RFC 1918, and 100.64.0.0/10 of RFC 6598) are served.
    /// Reload: yes; from true to false breaks connections.
    #[serde(default)]
    pub(in crate::config) private_clients: bool,
    /// Whether clients with the address of a gateway of a port are served. A gateway that does NAT
    /// has it; if none does, set it to false: the address is then forged, or of infrastructure. The
    /// POP counts SYNs from gateways (`anyrelay_gateway_syns_total`), and logs the first. Reload:
    /// yes; from true to false breaks connections.
    #[serde(default = "gateway_clients")]
    pub(in crate::config) gateway_clients: bool,
    /// Prefixes of either family, as `ADDRESS/LENGTH`, whose addresses are no clients or agents,
    /// such as infrastructure. An IPv6 address that stands for an IPv4 address (NAT64, 6to4) is
    /// refused with it. The same on all POPs. Range: 0 to 4096. Reload: yes; who is added is cut
    /// off.
    #[serde(default)]
    pub(in crate::config) not_clients: Vec<String>,
    /// Seconds that a stopping POP continues to forward. Range: 0 to 3600.
    #[serde(default = "drain_seconds")]
    pub(in crate::config) drain_seconds: i64,
    /// The policy for fragments ([fragments](operations.md#fragments)). The same on all POPs.
    /// Reload: restart.
    #[serde(default)]
    pub(in crate::config) fragments: RawFragments,
}

fn gateway_clients() -> bool {
    true
}

fn drain_seconds() -> i64 {
    10
}

/// `pop.clock`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawClock {
    /// The POP is ready for tunnels only while the estimated error of its clock is at most half of
    /// a tick.
    #[default]
    Kernel,
    /// The kernel is not asked: for labs, and for clocks that are synchronised by something that
    /// does not tell the kernel.
    Trusted,
}

/// `pop.fragments`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawFragments {
    /// Fragments are dropped and counted.
    #[default]
    Drop,
    /// Datagrams are reassembled, within the limits of `[fragments]`.
    Reassemble,
}

/// Each bound holds for each worker that receives. [Fragments](operations.md#fragments) says what
/// they cost.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawFragmentLimits {
    /// Incomplete datagrams at a time. Range: 16 to 65536.
    pub(in crate::config) datagrams: i64,
    /// Fragments of one datagram. Range: 2 to 8.
    pub(in crate::config) per_datagram: i64,
    /// Frame buffers that incomplete datagrams may hold. Default: 2048, or less so that all workers
    /// together hold at most half of `dpdk.mbufs`. Range: 32 to that half.
    pub(in crate::config) buffers: Option<i64>,
    /// Milliseconds from the first fragment of a datagram until the datagram expires. Range: 10 to
    /// 30000.
    pub(in crate::config) timeout_ms: i64,
}

impl Default for RawFragmentLimits {
    fn default() -> Self {
        RawFragmentLimits { datagrams: 1024, per_datagram: 8, buffers: None, timeout_ms: 1000 }
    }
}
