//! Relay services with IPv6 on at least one side, made ready for use.

use std::net::SocketAddr;

use super::PoolIndex;
use crate::config::{Config, EgressConfig, Prefix, RelayConfig};
use crate::crypto::HkdfError;
use crate::keys::{Secret, fragment_id_key, packet_id_key, prefix_check_key, rendezvous_key6};
use crate::net::{Endpoint, Endpoint6, ServiceSlot};
use crate::relay::fragment_id::FragmentIds;
use crate::relay::packet_id::PacketIds;
use crate::relay::prefix::PrefixMap;
use crate::relay::rendezvous6::Rendezvous6;

/// A relay service with IPv6 on at least one side, ready for use.
#[derive(Clone, Debug)]
pub struct Service6 {
    /// Its name.
    pub name: String,
    /// The place of its counters.
    pub slot: ServiceSlot,
    /// The choice among its targets, and the targets themselves.
    pub rendezvous: Rendezvous6,
    /// Its VIP, and how the POP appears to the targets.
    pub mode: Mode6,
    /// The largest MSS that a SYN may announce, in bytes.
    pub mss: u16,
}

/// The VIP of a service with IPv6, and how the POP appears to its targets.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few, and a box would cost a load")]
pub enum Mode6 {
    /// Clients are of IPv4, and appear as the addresses of a prefix.
    Prefix {
        /// What clients connect to.
        vip: Endpoint,
        /// Which address is whose.
        map: PrefixMap,
        /// Its place among the prefixes.
        index: PoolIndex,
        /// The IDs of datagrams to clients.
        ids: PacketIds,
        /// The IDs of datagrams to targets that are sent in fragments.
        fragment_ids: FragmentIds,
    },
    /// Clients are of IPv6, and appear as themselves.
    Transparent {
        /// What clients connect to.
        vip: Endpoint6,
    },
}

impl Service6 {
    /// What clients connect to.
    pub fn vip(&self) -> SocketAddr {
        match self.mode {
            Mode6::Prefix { vip, .. } => vip.into(),
            Mode6::Transparent { vip } => vip.into(),
        }
    }

    /// The servers, ascending.
    pub fn targets(&self) -> &[Endpoint6] {
        self.rendezvous.targets()
    }

    /// The service of `config`, if it has IPv6 on a side.
    pub(super) fn new(
        config: &RelayConfig,
        slot: ServiceSlot,
        relay: &Secret,
        prefixes: &[Prefix],
    ) -> Result<Option<Service6>, HkdfError> {
        let mode = match (config.egress, config.vip) {
            (EgressConfig::Prefix(prefix), SocketAddr::V4(vip)) => Mode6::Prefix {
                vip: vip.into(),
                map: PrefixMap::new(&prefix_check_key(relay, config.vip)?, prefix),
                index: prefix_index(prefixes, prefix),
                ids: PacketIds::new(&packet_id_key(relay, config.vip)?),
                fragment_ids: FragmentIds::new(&fragment_id_key(
                    relay,
                    vip.ip().to_bits(),
                    vip.port(),
                )?),
            },
            (EgressConfig::Transparent, SocketAddr::V6(vip)) => {
                Mode6::Transparent { vip: vip.into() }
            }
            // No others pass the checks.
            _ => return Ok(None),
        };
        let targets: Vec<_> = config.targets.iter().filter_map(endpoint6).collect();
        let key = rendezvous_key6(relay, config.vip)?;
        Ok(Some(Service6 {
            name: config.name.clone(),
            slot,
            rendezvous: Rendezvous6::new(&key, &targets),
            mode,
            mss: config.mss,
        }))
    }
}

fn endpoint6(target: &SocketAddr) -> Option<Endpoint6> {
    match *target {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(target) => Some(target.into()),
    }
}

/// The different prefixes, in the order of the file.
pub(super) fn distinct_prefixes(config: &Config) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for service in &config.relays {
        if let EgressConfig::Prefix(prefix) = service.egress
            && !prefixes.contains(&prefix)
        {
            prefixes.push(prefix);
        }
    }
    prefixes
}

fn prefix_index(prefixes: &[Prefix], prefix: Prefix) -> PoolIndex {
    PoolIndex(prefixes.iter().position(|other| *other == prefix).unwrap_or_default() as u16)
}
