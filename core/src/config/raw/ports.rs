//! `[dpdk]`, `[[port]]`, `[[worker]]` and `[layout]` as they are written.

use serde::Deserialize;

/// [Install](operations.md#install) makes hugepages and binds NICs.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawDpdk {
    /// Whether DPDK's memory comes from hugepages; false for software ports.
    pub(in crate::config) hugepages: bool,
    /// DPDK's memory in MiB. Range: 32 to 1048576.
    pub(in crate::config) memory_mb: i64,
    /// Frame buffers of the whole POP ([how many](operations.md#frame-buffers)). Range: 1024 to
    /// 16777216.
    pub(in crate::config) mbufs: i64,
    /// Further arguments for EAL.
    pub(in crate::config) args: Vec<String>,
}

impl Default for RawDpdk {
    fn default() -> Self {
        RawDpdk { hugepages: false, memory_mb: 512, mbufs: 16384, args: Vec::new() }
    }
}

/// The POP has no addresses but those of its ports, VIPs and egress.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPort {
    /// The port's name in metrics and in `worker.rx`, unique. Range: 1 to 63 of `A-Z a-z 0-9 _ -`.
    pub(in crate::config) name: String,
    /// A PCI address, or a vdev string of DPDK, unique.
    pub(in crate::config) device: String,
    /// Whose frames the POP accepts on the port.
    pub(in crate::config) side: RawSide,
    /// The port's MAC address, unicast. Default: the device's.
    pub(in crate::config) mac: Option<String>,
    /// The port's own addresses of both families, each with the prefix length of the link, such as
    /// `192.0.2.2/24`; link-local IPv6 addresses (`fe80::2/64`) too. Range: 0 to 16.
    #[serde(default)]
    pub(in crate::config) addresses: Vec<String>,
    /// Addresses of on-link routers, resolved by ARP and neighbour discovery. Each side needs one,
    /// on any of its ports, of each family that is served there. IPv6 ones may be link-local; the
    /// POP solicits them from a link-local address of the port if it has one. Range: 0 to 16.
    #[serde(default)]
    pub(in crate::config) gateways: Vec<String>,
    /// The MAC addresses of the gateways, one for each, which the POP then does not ask for and
    /// does not change. Whether it asks these addresses for a sign of life:
    /// `neighbours.probe_fixed`. Default: none; they are asked for.
    pub(in crate::config) gateway_macs: Option<Vec<String>>,
    /// The 802.1Q VLAN of the port's frames in both directions. Default: none, untagged. Range: 1
    /// to 4094.
    pub(in crate::config) vlan: Option<i64>,
    /// The port's MTU in bytes of IP. `check` warns if it is below 1260 towards clients of IPv6
    /// targets. Range: 576 to 9216; 1280 or more with an IPv6 address.
    #[serde(default = "mtu")]
    pub(in crate::config) mtu: i64,
    /// RX queues of the port, each of which a worker must poll. Range: 1 to 64.
    #[serde(default = "queues")]
    pub(in crate::config) queues: i64,
}

fn mtu() -> i64 {
    1500
}

fn queues() -> i64 {
    1
}

/// `port.side`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawSide {
    /// Frames from clients and agents.
    Client,
    /// Frames from targets.
    Target,
    /// Frames from both.
    Both,
}

/// Each is pinned to a core.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWorker {
    /// The CPU that the worker is pinned to. Range: 0 to 1023.
    pub(in crate::config) core: i64,
    /// The RX queues that it polls, as `port:queue`, queues counted from 0. A worker without one
    /// only sends.
    #[serde(default)]
    pub(in crate::config) rx: Vec<String>,
}

/// Who sends, and what idle workers do.
///
/// Reload: restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RawLayout {
    /// The worker that sends a frame.
    pub(in crate::config) kind: RawLayoutKind,
    /// The policy of a worker while nothing arrives.
    pub(in crate::config) idle: RawIdle,
    /// The vector instructions that workers compute with. A set that the CPU lacks is an error.
    pub(in crate::config) instructions: RawInstructions,
}

/// `layout.kind`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum RawLayoutKind {
    /// The worker that received the frame sends it, by a TX ring of its own on each port. Where a
    /// port has too few rings (af_packet has one, more with `qpairs=`), one worker sends for all.
    #[default]
    RunToCompletion,
    /// One worker for each port sends the frames of all, if possible one that does not receive from
    /// that port.
    Pipeline,
}

/// `layout.instructions`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum RawInstructions {
    /// The largest set of the following that the CPU has and computes right with.
    #[default]
    Auto,
    /// What every x86-64 CPU has.
    Baseline,
    /// AVX2, BMI and AES-NI.
    Avx2,
    /// The same with VAES, 256 bits wide.
    Avx2Vaes,
    /// AVX-512 (F, BW, DQ, VL) with VAES, 512 bits wide.
    Avx512,
}

/// `layout.idle`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawIdle {
    /// The worker polls without a pause.
    Spin,
    /// The worker sleeps between polls, longer and longer, up to 200 microseconds.
    #[default]
    Backoff,
}
