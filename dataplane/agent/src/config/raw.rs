//! The config file as written: names, nesting and types, before any check.
//!
//! The docs of these structs are the reference of the settings: docs/config.md is made from them
//! by `scripts/reference`. Numbers are wide and addresses are text here, so that a value out of
//! range is reported like all other problems.

use anyrelay_core::problem::{Problem, Problems};
use serde::Deserialize;

/// The config of `anyrelay-agent run`. `anyrelay-agent check --config FILE` reports all mistakes at
/// once, each as `FILE: KEY: REASON`, and changes nothing. Relative paths are relative to the
/// file's folder. An agent has either a TUN device with peers, or a UDP side, and may have an open
/// address beside it or alone. It reads the file at start alone.
///
/// Reload: restart.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// The agent itself.
    pub(super) agent: RawAgent,
    /// The TUN device. Default: none; then `[udp]` or `[open]` is required.
    pub(super) tun: Option<RawTun>,
    /// A peer that the TUN device reaches. Range: 1 to 256 with `[tun]`, else 0.
    #[serde(default)]
    pub(super) peer: Vec<RawPeer>,
    /// UDP forwarding, without encryption. Default: none; then `[tun]` or `[open]` is required.
    pub(super) udp: Option<RawUdp>,
    /// The open address, beside `[tun]` or `[udp]`, or alone. Default: none; then `[tun]` or
    /// `[udp]` is required.
    pub(super) open: Option<RawOpen>,
}

/// The tunnel to the POPs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    /// `ADDRESS:PORT` of the POPs for tunnels; IPv6 as `[2001:db8::20]:443`.
    pub(super) vip: String,
    /// Path of the agent's key file, from `anyrelay agent issue`.
    pub(super) key: String,
    /// Path of the file that keeps port and numbers, so that the token stays valid over a restart.
    /// Default: none, not kept.
    pub(super) state: Option<String>,
    /// Where the agent publishes its own token at each change: `file:PATH` or `command:COMMAND`
    /// ([tokens](agent.md#tokens-where-an-agent-is)).
    #[serde(default)]
    pub(super) publish: Vec<String>,
    /// Path of the socket that `anyrelay-agent status --control SOCKET` uses. Default: none.
    pub(super) control: Option<String>,
    /// The mark of the agent's own traffic (SO_MARK), for policy rules; as `--mark`. Default: none.
    /// Range: 1 to 4294967295.
    pub(super) mark: Option<i64>,
    /// The interface that the agent's own traffic leaves by (SO_BINDTODEVICE); as `--interface`.
    /// Default: the route's.
    pub(super) interface: Option<String>,
}

/// Encrypts IP packets end to end ([the TUN device](agent.md#run-a-tun-device)).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTun {
    /// Name of the device. Range: 1 to 15 of `A-Z a-z 0-9 _ - .`.
    pub(super) name: String,
    /// This host's inner addresses (its addresses inside the tunnel), IPv4 and IPv6, each with the
    /// prefix length of the link, such as `10.9.0.1/24`. Range: at least one.
    pub(super) addresses: Vec<String>,
    /// The device's MTU in bytes. Default: it follows the tunnel. Range: 576 to 9000; 1280 or more
    /// with an IPv6 address.
    pub(super) mtu: Option<i64>,
    /// Path of the private key file, from `anyrelay-agent keygen FILE`.
    pub(super) private_key: String,
    /// Whether the agent adds routes for the `allowed` prefixes of peers to the device; never for a
    /// prefix of length 0.
    #[serde(default = "routes")]
    pub(super) routes: bool,
}

/// [Allowed addresses](agent.md#the-config-file-of-run) says which peer a packet goes to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPeer {
    /// The peer's name, for people, unique. Range: 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub(super) name: String,
    /// The peer's identity, as `anyrelay-agent pubkey` prints it. Range: 64 hex digits.
    pub(super) public_key: String,
    /// Path of a file with a secret that both peers have, from
    /// `anyrelay-agent keygen --preshared FILE`. Default: none.
    pub(super) preshared_key: Option<String>,
    /// Where to find the peer's token: `token:TOKEN`, `file:PATH` or `dns:NAME`. Default: none; the
    /// peer must connect to this agent.
    pub(super) at: Option<String>,
    /// Prefixes of inner addresses, as `ADDRESS/LENGTH`, that the peer may use, and that are sent
    /// to it. Range: at least one.
    pub(super) allowed: Vec<String>,
    /// A keepalive keeps a session up after so many seconds without sending; 0 sends none. Range: 0
    /// to 3600.
    #[serde(default)]
    pub(super) keepalive_seconds: i64,
}

/// In place of `[tun]`: either `listen` and `peer`, or `target`
/// ([forwarding](agent.md#run-forward-udp)).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUdp {
    /// `ADDRESS:PORT` that programs send their datagrams to. Default: none.
    pub(super) listen: Option<String>,
    /// Where to find the token of the peer that they are forwarded to, as `peer.at`. Default: none;
    /// required with `listen`.
    pub(super) peer: Option<String>,
    /// `ADDRESS:PORT` of the UDP server that datagrams of peers are forwarded to. Default: none.
    pub(super) target: Option<String>,
}

/// An IPv6 address of this host that anybody reaches ([open addresses](agent.md#an-open-address)).
/// The POPs' tunnel must have an open side, and `agent.vip` must be of IPv4.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOpen {
    /// Name of the TUN device that has the open address. Range: 1 to 15 of `A-Z a-z 0-9 _ - .`, and
    /// not `tun.name`.
    pub(super) device: String,
    /// Prefixes of IPv6, as `ADDRESS/LENGTH`, whose hosts this host reaches by the open address,
    /// such as `::/0`. Packets from the open address leave by the device in any case.
    #[serde(default)]
    pub(super) routes: Vec<String>,
    /// Where the agent publishes its open address at each change: `file:PATH`, or
    /// `run:PROGRAM ARGUMENTS`, without a shell and with the address in the variable
    /// `ANYRELAY_OPEN_ADDRESS` ([publishing](agent.md#an-open-address)).
    #[serde(default)]
    pub(super) publish: Vec<String>,
}

fn routes() -> bool {
    true
}

/// Parses the text of a config file.
pub(super) fn parse(file: &str, text: &str) -> Result<RawConfig, Problems> {
    let line_of =
        |offset: usize| 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    let problems = |key: String, error: &toml::de::Error| {
        let mut reason = error.message().trim().replace('\n', ": ");
        if let Some(span) = error.span() {
            reason = format!("{reason} (line {})", line_of(span.start));
        }
        Problems(vec![Problem { file: file.to_owned(), key, reason }])
    };
    let reader =
        toml::Deserializer::parse(text).map_err(|error| problems(String::new(), &error))?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        // The path of the whole file is a dot.
        let key = error.path().to_string().trim_end_matches(['.', '?']).to_owned();
        problems(key, &error.into_inner())
    })
}
