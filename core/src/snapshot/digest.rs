//! The digest by which POPs show that they agree.
//!
//! It covers what the answer to a frame depends on, and nothing that may differ from POP to POP.
//! The order of services and of targets does not matter, as it changes no answer.

use std::fmt::Write as _;

use super::tunnels;
use crate::config::{ClientAddress, Config, Fragments, Target, TargetList, TunnelConfig, choice};
use crate::crypto::{HkdfError, sha256};
use crate::keys::{KeyFile, Tenant, Tenants};
use crate::net::{Address, IpNet};
use crate::predict::Constants;
use crate::time::UnixTime;

/// The version of the mapping of `relay::permutation`, `relay::prefix` and `relay::rendezvous`. A
/// change of any needs a new one.
pub const MAPPING_VERSION: &str = "relay-v2";

/// SHA-256, in hex, of the canonical text of `config`, `keys` and `tenants`.
pub(super) fn digest(
    config: &Config,
    keys: &KeyFile,
    tenants: &Tenants,
) -> Result<String, HkdfError> {
    let digest = sha256(canonical_text(config, keys, tenants)?.as_bytes());
    Ok(to_hex(&digest))
}

/// SHA-256, in hex, of the entries of all relays as they are written.
pub(super) fn targets_digest(config: &Config) -> String {
    targets_text(config, |list, text| {
        for entry in &list.entries {
            write_entry(text, entry);
        }
    })
}

/// SHA-256, in hex, of what the targets of all relays are for segments that arrive at `now`: POPs
/// that differ in later dates alone have the same.
pub(super) fn targets_in_force(config: &Config, now: UnixTime) -> String {
    targets_text(config, |list, text| {
        let (from, until) = list.window(now);
        let epochs = list.epochs();
        for epoch in epochs.iter().filter(|epoch| epoch.until > from && epoch.from <= until) {
            // When the first one began, and the last one ends, is nothing to them.
            let began = if epoch.from > from { epoch.from.as_millis() } else { 0 };
            let _ = write!(text, " from {began}");
            let asked = epoch.members.iter().filter(|target| target.gone > until);
            for (address, weight) in choice(&asked.copied().collect::<Vec<_>>()) {
                let _ = write!(text, " target {address} weight {weight}");
            }
        }
    })
}

fn targets_text(config: &Config, write: impl Fn(&TargetList, &mut String)) -> String {
    let mut services: Vec<_> = config.relays.iter().collect();
    services.sort_by_key(|service| (service.vip, service.protocols.name()));
    let mut text = String::new();
    for service in services {
        let _ = write!(text, "relay {} {}", service.vip, service.protocols.name());
        write(&service.targets, &mut text);
        text.push('\n');
    }
    to_hex(&sha256(text.as_bytes()))
}

fn write_entry(text: &mut String, entry: &Target) {
    let Target { address, since, until, gone, weight } = entry;
    let dates = [since, until, gone].map(|date| date.as_millis());
    let _ = write!(text, " target {address} weight {weight} dates {dates:?}");
}

/// What tells secrets apart without telling anything else of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprints {
    pub relay: Fingerprint,
    pub sequence: Fingerprint,
    /// The epochs of tokens.
    pub tokens: Vec<EpochFingerprint>,
    /// The tenants' numbers and keys.
    pub tenants: Vec<(u16, Fingerprint)>,
}

pub(super) type Fingerprint = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpochFingerprint {
    pub number: u8,
    pub secret: Fingerprint,
    /// From when on its tokens are no longer accepted, if that is known.
    pub accepted_before: Option<UnixTime>,
}

impl Fingerprints {
    /// Those of all secrets.
    ///
    /// # Errors
    /// [`HkdfError`] of a derivation.
    pub fn new(keys: &KeyFile, tenants: &Tenants) -> Result<Self, HkdfError> {
        let mut tokens = Vec::new();
        for epoch in keys.tokens.iter() {
            tokens.push(EpochFingerprint {
                number: epoch.number,
                secret: epoch.secret.fingerprint()?,
                accepted_before: keys.tokens.accepted_before(epoch),
            });
        }
        let tenants = tenants.tenants.iter();
        let tenants = tenants.map(|tenant| Ok((tenant.id, tenant.key.fingerprint()?)));
        Ok(Fingerprints {
            relay: keys.relay.fingerprint()?,
            sequence: keys.sequence.fingerprint()?,
            tokens,
            tenants: tenants.collect::<Result<_, HkdfError>>()?,
        })
    }
}

/// One line per thing that POPs must agree on. Writing into a String cannot fail, so results of
/// that are not looked at.
fn canonical_text(config: &Config, keys: &KeyFile, tenants: &Tenants) -> Result<String, HkdfError> {
    let mut text = format!("mapping {MAPPING_VERSION}\n");
    for (name, secret) in [("relay", &keys.relay), ("sequence", &keys.sequence)] {
        let _ = writeln!(text, "key {name} {}", to_hex(&secret.fingerprint()?));
    }
    for epoch in keys.tokens.iter() {
        let (number, from) = (epoch.number, epoch.not_before.as_millis());
        let fingerprint = to_hex(&epoch.secret.fingerprint()?);
        let _ = writeln!(text, "key token {number} from {from} {fingerprint}");
    }
    // The limits are a POP's own.
    let policy = match config.pop.fragments {
        Fragments::Drop => "drop",
        Fragments::Reassemble(_) => "reassemble",
    };
    let _ = writeln!(text, "fragments {policy}");
    let _ = writeln!(text, "private_clients {}", config.pop.private_clients);
    let _ = writeln!(text, "gateway_clients {}", config.pop.gateway_clients);
    let mut refused: Vec<_> = config.pop.not_clients.iter().map(IpNet::to_string).collect();
    refused.sort_unstable();
    refused.dedup();
    let _ = writeln!(text, "not_clients {}", refused.join(" "));
    let mut services: Vec<_> = config.relays.iter().collect();
    services.sort_by_key(|service| (service.vip, service.protocols.name()));
    for service in services {
        let (protocols, choose_by) = (service.protocols.name(), service.choose_by.name());
        let (vip, mss, floor) = (service.vip, service.mss, service.icmp_mtu_floor);
        let TargetList { memory_ms, skew_ms, .. } = service.targets;
        let told = service.client_address.map_or("none", ClientAddress::name);
        let _ = writeln!(
            text,
            "relay {vip} mss {mss} floor {floor} egress {} memory {memory_ms} skew {skew_ms} \
             client_address {told} protocol {protocols} choose_by {choose_by}",
            service.egress
        );
    }
    let mut tunnels: Vec<_> = config.tunnels.iter().map(|config| tunnel(config, tenants)).collect();
    tunnels.sort_unstable();
    text.extend(tunnels);
    // Tenants that no tunnel serves change no answer.
    let served: Vec<_> =
        config.tunnels.iter().flat_map(|tunnel| tunnels::served(tunnel, tenants)).collect();
    let mut tenants: Vec<_> =
        tenants.tenants.iter().filter(|tenant| served.contains(&tenant.id)).collect();
    tenants.sort_unstable_by_key(|tenant| tenant.id);
    for served in tenants {
        tenant(&mut text, served)?;
    }
    Ok(text)
}

/// The line of a tenant: its agents are those that may come, so a revoked one is not there.
fn tenant(text: &mut String, tenant: &Tenant) -> Result<(), HkdfError> {
    let _ = write!(text, "tenant {} {} agents", tenant.id, to_hex(&tenant.key.fingerprint()?));
    let known = tenant.agents.iter().filter(|agent| !agent.revoked);
    let mut known: Vec<_> = known.map(|agent| agent.id).collect();
    known.sort_unstable();
    for agent in known {
        let _ = write!(text, " {agent}");
    }
    text.push('\n');
    Ok(())
}

/// The line of a tunnel.
fn tunnel(tunnel: &TunnelConfig, tenants: &Tenants) -> String {
    let mut line = String::from("tunnel");
    for vip in tunnel.vips() {
        let _ = write!(line, " {vip}");
    }
    let Constants { tick_ms, stride, lag, offset } = tunnel.constants;
    let _ = write!(
        line,
        " tick_ms {tick_ms} stride {stride} lag {lag} offset {offset} mtu {} tenants",
        tunnel.tunnel_mtu
    );
    for tenant in tunnels::served(tunnel, tenants) {
        let _ = write!(line, " {tenant}");
    }
    if let Some(open) = &tunnel.open {
        let _ = write!(line, " open {} to", open.prefix.net());
        let mut to: Vec<_> = open.to.iter().map(|net| (net.address, net.prefix_len)).collect();
        to.sort_unstable();
        for (address, len) in to {
            let _ = write!(line, " {}/{len}", address.ip());
        }
    }
    line.push('\n');
    line
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
