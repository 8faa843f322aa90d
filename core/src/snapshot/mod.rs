//! What workers read: config and keys, ready for use, never changed once built.
//!
//! A reload builds a new snapshot beside the old one and swaps them between bursts. The lookups
//! here are those of the packet path: they allocate nothing and take a bounded, small number of
//! steps.

use std::net::{IpAddr, SocketAddr};

mod addresses;
mod digest;
mod meanings;
mod relays6;
mod reload;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod tunnels;

use addresses::AddressMap;
use digest::Fingerprints;
use meanings::{destination, meanings, meanings6};
use table::Table;

pub use digest::MAPPING_VERSION;
pub use relays6::{Mode6, Service6};
pub use reload::{Conflict, ConflictKind, reload_conflicts};
pub use tunnels::Tunnel;

use crate::bucket::BucketHash;
use crate::config::{Config, EgressConfig, Pool, RelayConfig, TunnelConfig};
use crate::crypto::HkdfError;
use crate::fragment::FragmentHash;
use crate::keys::{KeyFile, Secret, Tenants, fragment_id_key, permutation_key, rendezvous_key};
use crate::net::{Endpoint, Endpoint6, MAX_SERVICES, PortIndex, ServiceIndex, ServiceSlot};
use crate::problem::{Problem, Problems};
use crate::relay::fragment_id::FragmentIds;
use crate::relay::permutation::Permutation;
use crate::relay::rendezvous::Rendezvous;
use crate::tunnel::TokenKeys;

/// A pool's place among the different pools of a snapshot, or a prefix's among the prefixes. Services
/// that share one share its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u16);

/// What an address means to the POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The address of at least one service.
    Vip,
    /// An egress address: of this pool, or for IPv6 of this prefix.
    Pool(PoolIndex),
    /// An address of one of the POP's own ports.
    Own(PortIndex),
    /// None of these.
    Other,
}

/// A relay service between IPv4 and IPv4, ready for use. Those with IPv6 are [`Service6`]s.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The place of its counters.
    pub slot: ServiceSlot,
    /// What clients connect to.
    pub vip: Endpoint,
    /// The choice among its targets, and the targets themselves.
    pub rendezvous: Rendezvous,
    /// How the POP appears to the targets.
    pub egress: Egress,
    /// The largest MSS that a SYN may announce, in bytes.
    pub mss: u16,
    /// The IDs of its datagrams that are sent in fragments.
    pub fragment_ids: FragmentIds,
}

impl Service {
    /// The servers, ascending: what the choice is an index into.
    pub fn targets(&self) -> &[Endpoint] {
        self.rendezvous.targets()
    }

    /// The service of `config`, if it is between IPv4 and IPv4.
    fn new(
        config: &RelayConfig,
        slot: ServiceSlot,
        relay: &Secret,
        pools: &[Pool],
    ) -> Result<Option<Service>, HkdfError> {
        let SocketAddr::V4(vip) = config.vip else { return Ok(None) };
        let vip = Endpoint::from(vip);
        let egress = match config.egress {
            EgressConfig::Transparent => Egress::Transparent,
            EgressConfig::Prefix(_) => return Ok(None),
            EgressConfig::Pool(pool) => Egress::Pool {
                pool,
                index: pool_index(pools, pool),
                permutation: Permutation::new(
                    &permutation_key(relay, vip.ip, vip.port)?,
                    pool.bits,
                ),
            },
        };
        let targets = config.targets.iter().filter_map(|target| match *target {
            SocketAddr::V4(target) => Some(target.into()),
            SocketAddr::V6(_) => None,
        });
        let key = rendezvous_key(relay, vip.ip, vip.port)?;
        Ok(Some(Service {
            name: config.name.clone(),
            slot,
            vip,
            rendezvous: Rendezvous::new(&key, &targets.collect::<Vec<_>>()),
            egress,
            mss: config.mss,
            fragment_ids: FragmentIds::new(&fragment_id_key(relay, vip.ip, vip.port)?),
        }))
    }
}

/// How a POP appears to targets.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few, and a box would cost a load per burst"
)]
pub enum Egress {
    /// As the addresses of a pool.
    Pool {
        /// The pool.
        pool: Pool,
        /// Its place among the pools.
        index: PoolIndex,
        /// Which client has which address, port and tag of it.
        permutation: Permutation,
    },
    /// As the client itself.
    Transparent,
}

/// Config and keys, ready for use.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The config that it was built from.
    pub config: Config,
    /// The relay services between IPv4 and IPv4, in the order of the file.
    pub services: Vec<Service>,
    /// The relay services with IPv6 on a side, in the order of the file.
    pub services6: Vec<Service6>,
    /// The tunnel services, in the order of the file.
    pub tunnels: Vec<Tunnel>,
    /// Which worker puts a datagram of fragments together.
    pub fragment_hash: FragmentHash,
    /// Which token bucket a network has.
    pub bucket_hash: BucketHash,
    digest: String,
    fingerprints: Fingerprints,
    addresses: AddressMap<u32>,
    addresses6: AddressMap<u128>,
    endpoints: Table<u64>,
    endpoints6: Table<(u128, u32)>,
    /// Of transparent services, ascending.
    passing_targets: Vec<IpAddr>,
}

impl Snapshot {
    /// Makes `config`, `keys` and `tenants`, whose file is empty where `config` names none, ready for
    /// use. Counter slots are those of `previous` for services whose names it has.
    ///
    /// # Errors
    /// When `config` names a tenant that nobody is, or keys cannot be derived.
    pub fn build(
        config: &Config,
        keys: &KeyFile,
        tenants: &Tenants,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        let unknown = tunnels::unknown_tenants(config, tenants);
        if !unknown.is_empty() {
            return Err(Problems(unknown));
        }
        Self::derive(config, keys, tenants, previous).map_err(|error| {
            let (file, key) = (config.file.clone(), "pop.keys".to_owned());
            Problems(vec![Problem { file, key, reason: error.to_string() }])
        })
    }

    fn derive(
        config: &Config,
        keys: &KeyFile,
        tenants: &Tenants,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, HkdfError> {
        let (pools, prefixes) = (distinct_pools(config), relays6::distinct_prefixes(config));
        let slots = slots::assign(config, previous);
        let (slots, tunnel_slots) =
            slots.split_at_checked(config.relays.len()).unwrap_or((&slots, &[]));
        let (mut services, mut services6) = (Vec::new(), Vec::new());
        for (service, &slot) in config.relays.iter().zip(slots) {
            match Service6::new(service, slot, &keys.relay, &prefixes)? {
                Some(service6) => services6.push(service6),
                None => services.extend(Service::new(service, slot, &keys.relay, &pools)?),
            }
        }
        let endpoints = endpoints(&services, &services6, &config.tunnels);
        let endpoints6 = endpoints6(services.len(), &services6, &config.tunnels);
        Ok(Snapshot {
            fragment_hash: FragmentHash::new(&keys.relay)?,
            bucket_hash: BucketHash::new(&keys.sequence)?,
            digest: digest::digest(config, keys, tenants)?,
            fingerprints: Fingerprints::new(keys, tenants)?,
            addresses: AddressMap::new(&meanings(config, &pools)),
            addresses6: AddressMap::new(&meanings6(config, &prefixes)),
            endpoints: Table::new(&endpoints),
            endpoints6: Table::new(&endpoints6),
            passing_targets: passing_targets(config),
            tunnels: tunnels::tunnels(config, keys, tenants, tunnel_slots)?,
            config: config.clone(),
            services,
            services6,
        })
    }

    /// SHA-256, in hex, of all that POPs must agree on to be one: services, targets, egress, MSS,
    /// policies, the mapping's version and the keys, but not what is a POP's own.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// The names of all services and the places of their counters.
    pub fn names(&self) -> impl Iterator<Item = (&str, ServiceSlot)> {
        let relays = self.services.iter().map(|service| (service.name.as_str(), service.slot));
        let relays6 = self.services6.iter().map(|service| (service.name.as_str(), service.slot));
        relays
            .chain(relays6)
            .chain(self.tunnels.iter().map(|tunnel| (tunnel.name.as_str(), tunnel.slot)))
    }

    /// The keys of tokens, of any VIP: epochs are the same at all. Nothing without tunnels.
    pub fn token_keys(&self) -> Option<&TokenKeys> {
        let service = &self.tunnels.first()?.service;
        service.vip4.as_ref().or(service.vip6.as_ref()).map(|vip| &vip.tokens)
    }

    /// What the address `dst` means to the POP.
    #[inline]
    pub fn classify(&self, dst: u32) -> Destination {
        destination(self.addresses.get(dst))
    }

    /// What the IPv6 address `dst` means to the POP. A link-local one may be that of several ports.
    #[inline]
    pub fn classify6(&self, dst: u128) -> Destination {
        destination(self.addresses6.get(dst))
    }

    /// Whether `ip` can be a client's: unicast, not private unless the config allows that, and not
    /// a VIP, egress, target or own address.
    #[inline]
    pub fn client_ok(&self, ip: u32) -> bool {
        self.addresses.get(ip) == 0
    }

    /// [`Snapshot::client_ok`] for IPv6, where the private addresses are the unique local ones (RFC
    /// 4193).
    #[inline]
    pub fn client_ok6(&self, ip: u128) -> bool {
        self.addresses6.get(ip) == 0
    }

    /// [`Snapshot::client_ok`] for either family.
    #[inline]
    pub fn client_ok_ip(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.client_ok(ip.to_bits()),
            IpAddr::V6(ip) => self.client_ok6(ip.to_bits()),
        }
    }

    /// The relay service between IPv4 and IPv4, if it is one.
    #[inline]
    pub fn service(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(usize::from(index.0))
    }

    /// The relay service with IPv6 on a side, if it is one.
    #[inline]
    pub fn service6(&self, index: ServiceIndex) -> Option<&Service6> {
        self.services6.get(usize::from(index.0).checked_sub(self.services.len())?)
    }

    /// The tunnel service, if it is one.
    #[inline]
    pub fn tunnel(&self, index: ServiceIndex) -> Option<&Tunnel> {
        let relays = self.services.len() + self.services6.len();
        self.tunnels.get(usize::from(index.0).checked_sub(relays)?)
    }

    /// The name of a service of either kind, and the place of its counters.
    #[inline]
    pub fn name_and_slot(&self, index: ServiceIndex) -> Option<(&str, ServiceSlot)> {
        if let Some(service) = self.service(index) {
            return Some((&service.name, service.slot));
        }
        match self.service6(index) {
            Some(service) => Some((&service.name, service.slot)),
            None => self.tunnel(index).map(|tunnel| (tunnel.name.as_str(), tunnel.slot)),
        }
    }

    /// The service of either kind at the VIP `ip`:`port`.
    #[inline]
    pub fn service_at(&self, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.find(AT_VIP, ip, port)
    }

    /// The service of either kind at the IPv6 VIP `ip`:`port`.
    #[inline]
    pub fn service_at6(&self, ip: u128, port: u16) -> Option<ServiceIndex> {
        self.find6(AT_VIP, ip, port)
    }

    /// The tunnel at the VIP `vip`.
    pub fn tunnel_at(&self, vip: SocketAddr) -> Option<&Tunnel> {
        let index = match vip.ip() {
            IpAddr::V4(ip) => self.service_at(ip.to_bits(), vip.port()),
            IpAddr::V6(ip) => self.service_at6(ip.to_bits(), vip.port()),
        };
        self.tunnel(index?)
    }

    /// The service that uses `pool` towards the target `ip`:`port`.
    #[inline]
    pub fn service_from_pool(&self, pool: PoolIndex, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.find(pool.0, ip, port)
    }

    /// The transparent service that has the target `ip`:`port`.
    #[inline]
    pub fn transparent_service(&self, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.find(TRANSPARENT, ip, port)
    }

    /// The service that uses `prefix` towards the target `ip`:`port`.
    #[inline]
    pub fn service_from_prefix(
        &self,
        prefix: PoolIndex,
        ip: u128,
        port: u16,
    ) -> Option<ServiceIndex> {
        self.find6(prefix.0, ip, port)
    }

    /// The transparent service that has the IPv6 target `ip`:`port`.
    #[inline]
    pub fn transparent_service6(&self, ip: u128, port: u16) -> Option<ServiceIndex> {
        self.find6(TRANSPARENT, ip, port)
    }

    /// Whether `ip` is a target of a transparent service: what it sends to clients passes here.
    pub fn is_passing_target(&self, ip: IpAddr) -> bool {
        self.passing_targets.binary_search(&ip).is_ok()
    }

    #[inline]
    fn find(&self, space: u16, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.endpoints.get(endpoint_key(space, ip, port)).map(|index| ServiceIndex(index as u16))
    }

    #[inline]
    fn find6(&self, space: u16, ip: u128, port: u16) -> Option<ServiceIndex> {
        let at = Endpoint { ip, port };
        self.endpoints6.get(endpoint_key6(space, at)).map(|index| ServiceIndex(index as u16))
    }
}

/// The targets of transparent services, ascending.
fn passing_targets(config: &Config) -> Vec<IpAddr> {
    let services = config.relays.iter();
    let transparent = services.filter(|service| service.egress == EgressConfig::Transparent);
    let mut targets: Vec<_> =
        transparent.flat_map(|service| service.targets.iter().map(SocketAddr::ip)).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// The different pools, in the order of the file.
fn distinct_pools(config: &Config) -> Vec<Pool> {
    let mut pools = Vec::new();
    for service in &config.relays {
        if let EgressConfig::Pool(pool) = service.egress
            && !pools.contains(&pool)
        {
            pools.push(pool);
        }
    }
    pools
}

fn pool_index(pools: &[Pool], pool: Pool) -> PoolIndex {
    PoolIndex(pools.iter().position(|other| *other == pool).unwrap_or_default() as u16)
}

/// The entries of the table of IPv4 endpoints.
fn endpoints(
    services: &[Service],
    services6: &[Service6],
    tunnels: &[TunnelConfig],
) -> Vec<(u64, u32)> {
    let at_vip = |vip: Endpoint| endpoint_key(AT_VIP, vip.ip, vip.port);
    let mut entries = Vec::new();
    let first = (services.len() + services6.len()) as u32;
    for (index, tunnel) in (first..).zip(tunnels) {
        entries.extend(tunnel.vip4.map(|vip| (at_vip(vip.into()), index)));
    }
    for (index, service) in (services.len() as u32..).zip(services6) {
        if let Mode6::Prefix { vip, .. } = service.mode {
            entries.push((at_vip(vip), index));
        }
    }
    for (index, service) in (0..).zip(services) {
        entries.push((at_vip(service.vip), index));
        let space = match service.egress {
            Egress::Pool { index, .. } => index.0,
            Egress::Transparent => TRANSPARENT,
        };
        let targets = service.targets().iter();
        entries.extend(targets.map(|target| (endpoint_key(space, target.ip, target.port), index)));
    }
    entries
}

/// The entries of the table of IPv6 endpoints; before the services with IPv6 come `relays` others.
fn endpoints6(
    relays: usize,
    services6: &[Service6],
    tunnels: &[TunnelConfig],
) -> Vec<((u128, u32), u32)> {
    let mut entries = Vec::new();
    for (index, tunnel) in ((relays + services6.len()) as u32..).zip(tunnels) {
        entries.extend(tunnel.vip6.map(|vip| (endpoint_key6(AT_VIP, vip.into()), index)));
    }
    for (index, service) in (relays as u32..).zip(services6) {
        let space = match service.mode {
            Mode6::Prefix { index, .. } => index.0,
            Mode6::Transparent { vip } => {
                entries.push((endpoint_key6(AT_VIP, vip), index));
                TRANSPARENT
            }
        };
        let targets = service.targets().iter();
        entries.extend(targets.map(|target| (endpoint_key6(space, *target), index)));
    }
    entries
}

#[inline]
fn endpoint_key6(space: u16, at: Endpoint6) -> (u128, u32) {
    (at.ip, u32::from(space) << 16 | u32::from(at.port))
}

#[inline]
fn endpoint_key(space: u16, ip: u32, port: u16) -> u64 {
    u64::from(space) << 48 | u64::from(ip) << 16 | u64::from(port)
}

/// Spaces of endpoints beside those of the pools and prefixes, which are below [`MAX_SERVICES`].
const AT_VIP: u16 = u16::MAX;
const TRANSPARENT: u16 = u16::MAX - 1;

const _: () = assert!(MAX_SERVICES < TRANSPARENT as usize);
