//! The digest by which POPs show that they agree.
//!
//! It covers what the answer to a frame depends on, and nothing that may differ from POP to POP.
//! The order of services and of targets does not matter, as it changes no answer.

use std::fmt::Write as _;

use super::{Config, EgressConfig, Fragments, TunnelConfig};
use crate::crypto::{HkdfError, sha256};
use crate::keys::KeyFile;
use crate::predict::Constants;

/// The version of the mapping of `relay::permutation` and `relay::rendezvous`. A change of either
/// needs a new one.
pub const MAPPING_VERSION: &str = "relay-v1";

/// SHA-256, in hex, of the canonical text of `config` and `keys`.
pub(super) fn digest(config: &Config, keys: &KeyFile) -> Result<String, HkdfError> {
    let digest = sha256(canonical_text(config, keys)?.as_bytes());
    Ok(to_hex(&digest))
}

/// One line per thing that POPs must agree on. Writing into a String cannot fail, so results of
/// that are not looked at.
fn canonical_text(config: &Config, keys: &KeyFile) -> Result<String, HkdfError> {
    let mut text = format!("mapping {MAPPING_VERSION}\n");
    for (name, secret) in [("relay", &keys.relay), ("sequence", &keys.sequence)] {
        let _ = writeln!(text, "key {name} {}", to_hex(&secret.fingerprint()?));
    }
    for epoch in keys.tokens.iter() {
        let (number, from) = (epoch.number, epoch.not_before.as_millis());
        let fingerprint = to_hex(&epoch.secret.fingerprint()?);
        let _ = writeln!(text, "key token {number} from {from} {fingerprint}");
    }
    let Fragments::Drop = config.pop.fragments;
    let _ = writeln!(text, "fragments drop");
    let _ = writeln!(text, "private_clients {}", config.pop.private_clients);
    let _ = writeln!(text, "icmp_mtu_floor {}", config.pop.icmp_mtu_floor);
    let mut services: Vec<_> = config.services.iter().collect();
    services.sort_by_key(|service| service.vip);
    for service in services {
        let _ = write!(text, "relay {} mss {} egress ", service.vip, service.mss);
        let _ = match service.egress {
            EgressConfig::Pool(pool) => write!(text, "pool {pool}"),
            EgressConfig::Transparent => write!(text, "transparent"),
        };
        let mut targets = service.targets.clone();
        targets.sort_unstable();
        for target in targets {
            let _ = write!(text, " target {target}");
        }
        text.push('\n');
    }
    let mut tunnels: Vec<_> = config.tunnels.iter().map(tunnel).collect();
    tunnels.sort_unstable();
    text.extend(tunnels);
    Ok(text)
}

/// The line of a tunnel.
fn tunnel(tunnel: &TunnelConfig) -> String {
    let mut line = String::from("tunnel");
    for vip in tunnel.vips() {
        let _ = write!(line, " {vip}");
    }
    let Constants { tick_ms, stride, lag, offset } = tunnel.constants;
    let _ = writeln!(
        line,
        " tick_ms {tick_ms} stride {stride} lag {lag} offset {offset} mtu {}",
        tunnel.tunnel_mtu
    );
    line
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
