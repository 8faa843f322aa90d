//! The config file as it is written: names, nesting and types, but no meaning yet.
//!
//! Numbers are wide and addresses are text here, so that a value out of its range is told of in
//! our own words, beside all other mistakes of the file.

use serde::Deserialize;

use crate::problem::{Problem, Problems};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) pop: RawPop,
    #[serde(default)]
    pub(super) dpdk: RawDpdk,
    #[serde(default)]
    pub(super) port: Vec<RawPort>,
    #[serde(default)]
    pub(super) worker: Vec<RawWorker>,
    #[serde(default)]
    pub(super) layout: RawLayout,
    #[serde(default)]
    pub(super) limits: RawLimits,
    pub(super) fragments: Option<RawFragmentLimits>,
    #[serde(default)]
    pub(super) relay: Vec<RawRelay>,
    #[serde(default)]
    pub(super) tunnel: Vec<RawTunnel>,
    #[serde(default)]
    pub(super) metrics: RawMetrics,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPop {
    pub(super) name: String,
    pub(super) id: i64,
    pub(super) keys: String,
    pub(super) tenants: Option<String>,
    #[serde(default)]
    pub(super) clock: RawClock,
    #[serde(default)]
    pub(super) clock_offset_ms: i64,
    #[serde(default)]
    pub(super) private_clients: bool,
    #[serde(default = "defaults::drain_seconds")]
    pub(super) drain_seconds: i64,
    #[serde(default)]
    pub(super) fragments: RawFragments,
    #[serde(default = "defaults::icmp_mtu_floor")]
    pub(super) icmp_mtu_floor: i64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawClock {
    #[default]
    Kernel,
    Trusted,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFragments {
    #[default]
    Drop,
    Reassemble,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFragmentLimits {
    pub(super) datagrams: i64,
    pub(super) per_datagram: i64,
    pub(super) buffers: Option<i64>,
    pub(super) timeout_ms: i64,
}

impl Default for RawFragmentLimits {
    fn default() -> Self {
        RawFragmentLimits { datagrams: 1024, per_datagram: 8, buffers: None, timeout_ms: 1000 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDpdk {
    pub(super) hugepages: bool,
    pub(super) memory_mb: i64,
    pub(super) mbufs: i64,
    pub(super) args: Vec<String>,
}

impl Default for RawDpdk {
    fn default() -> Self {
        RawDpdk { hugepages: false, memory_mb: 512, mbufs: 16384, args: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPort {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) side: RawSide,
    pub(super) mac: Option<String>,
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    #[serde(default)]
    pub(super) gateways: Vec<String>,
    pub(super) gateway_macs: Option<Vec<String>>,
    pub(super) vlan: Option<i64>,
    #[serde(default = "defaults::mtu")]
    pub(super) mtu: i64,
    #[serde(default = "defaults::queues")]
    pub(super) queues: i64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSide {
    Client,
    Target,
    Both,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorker {
    pub(super) core: i64,
    #[serde(default)]
    pub(super) rx: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLayout {
    pub(super) kind: RawLayoutKind,
    pub(super) idle: RawIdle,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawLayoutKind {
    #[default]
    RunToCompletion,
    Pipeline,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawIdle {
    Spin,
    #[default]
    Backoff,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) rst_per_second: i64,
    pub(super) variant_per_second: i64,
    pub(super) echo_per_second: i64,
    pub(super) icmp_per_second: i64,
    pub(super) icmp_forward_per_second: i64,
    pub(super) pending_rsts: i64,
    pub(super) syn_ack_per_second: i64,
    pub(super) keepalive_mac_per_second: i64,
    pub(super) syn_per_prefix_per_second: i64,
    pub(super) syn_per_service_per_second: i64,
}

impl Default for RawLimits {
    fn default() -> Self {
        RawLimits {
            rst_per_second: 1000,
            variant_per_second: 1000,
            echo_per_second: 1000,
            icmp_per_second: 1000,
            icmp_forward_per_second: 1000,
            pending_rsts: 4096,
            syn_ack_per_second: 100,
            keepalive_mac_per_second: 1000,
            syn_per_prefix_per_second: 5000,
            syn_per_service_per_second: 200_000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRelay {
    pub(super) name: String,
    pub(super) vip: String,
    pub(super) targets: Vec<String>,
    pub(super) egress: RawEgress,
    pub(super) mss: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEgress {
    Pool(String),
    Prefix(String),
    Transparent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTunnel {
    pub(super) name: String,
    pub(super) vip4: Option<String>,
    pub(super) vip6: Option<String>,
    pub(super) tenants: Option<Vec<String>>,
    pub(super) tick_ms: Option<i64>,
    pub(super) stride: Option<i64>,
    pub(super) lag: Option<i64>,
    pub(super) offset: Option<i64>,
    #[serde(default = "defaults::tunnel_mtu")]
    pub(super) tunnel_mtu: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<String>,
}

/// What a key is when it is not given.
mod defaults {
    pub(super) fn drain_seconds() -> i64 {
        10
    }

    pub(super) fn icmp_mtu_floor() -> i64 {
        552
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

/// Reads the text of a config file.
pub(super) fn parse(file: &str, text: &str) -> Result<RawConfig, Problems> {
    let syntax = |error: toml::de::Error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let reason = line.map_or_else(String::new, |line| format!("line {line}: "))
            + &one_line(error.message());
        Problems(vec![Problem { file: file.to_owned(), key: String::new(), reason }])
    };
    let reader = toml::Deserializer::parse(text).map_err(syntax)?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        // The path of a whole file is a dot, and it ends in a dot where an unknown variant is.
        let key = error.path().to_string().trim_end_matches(['.', '?']).to_owned();
        let inner = error.into_inner();
        let mut reason = one_line(inner.message());
        if let Some(span) = inner.span() {
            reason = format!("{reason} (line {})", line_of(text, span.start));
        }
        Problems(vec![Problem { file: file.to_owned(), key, reason }])
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', ": ")
}
