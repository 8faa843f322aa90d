//! Relay services, compiled: of the config and the keys.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, EgressConfig, RelayConfig};
use crate::crypto::HkdfError;
use crate::net::{IpNet, Protocol, ServiceSlot};
use crate::relay::encapsulated::EncapsulatedMode;
use crate::relay::keys::RelayKeys;
use crate::relay::pool::PoolMode;
use crate::relay::pool6::Pool6Mode;
use crate::relay::prefix::PrefixMode;
use crate::relay::rewrite::DatagramIds;
use crate::relay::targets::Targets;
use crate::relay::transparent::TransparentMode;
use crate::relay::{Mode, Relay};

/// The relay of `config`, which had the name of `before`; `None` for one that the checks refuse.
pub(super) fn relay(
    config: &RelayConfig,
    slot: ServiceSlot,
    keys: &RelayKeys,
    before: Option<&Relay>,
) -> Result<Option<Relay>, HkdfError> {
    let vip = config.vip;
    let mode = match (config.egress, vip) {
        (EgressConfig::Pool(pool), SocketAddr::V4(vip)) => {
            Mode::Pool(PoolMode::new(keys, vip.into(), pool))
        }
        (EgressConfig::Pool6(pool), SocketAddr::V6(vip)) => {
            Mode::Pool6(Pool6Mode::new(keys, vip.into(), pool)?)
        }
        (EgressConfig::Prefix(prefix), SocketAddr::V4(vip)) => {
            Mode::Prefix(PrefixMode::new(keys, vip.into(), prefix))
        }
        (EgressConfig::Transparent, _) => Mode::Transparent(TransparentMode),
        (EgressConfig::Encapsulated(encapsulation), _) => {
            Mode::Encapsulated(EncapsulatedMode::new(Arc::clone(&keys.flows), encapsulation))
        }
        (EgressConfig::Pool(_) | EgressConfig::Prefix(_), SocketAddr::V6(_))
        | (EgressConfig::Pool6(_), SocketAddr::V4(_)) => return Ok(None),
    };
    let before = before.map(|before| &before.targets);
    let targets = Targets::new(keys, vip.into(), &config.targets, &config.kept, before);
    let targets = targets.choosing_by(config.choose_by);
    Ok(Some(Relay {
        name: config.name.clone(),
        slot,
        vip: vip.into(),
        egress: config.egress.net().filter(|_| mode.tunnel().is_none()),
        mode,
        targets,
        mss: config.mss,
        mtu_floor: config.icmp_mtu_floor,
        client_address: config.client_address,
        protocols: config.protocols,
        ids: if vip.is_ipv4() || config.protocols.has(Protocol::Udp) {
            Some(DatagramIds::new(&keys.secret, vip)?)
        } else {
            None
        },
    }))
}

/// The different prefixes of egress addresses, in the order of the file.
pub(super) fn distinct_egress(config: &Config) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for net in config.relays.iter().filter_map(|service| service.egress.net()) {
        if !nets.contains(&net) {
            nets.push(net);
        }
    }
    nets
}
