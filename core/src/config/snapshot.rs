//! What workers read: config and keys, ready for use, never changed once built.
//!
//! A reload builds a new snapshot beside the old one and swaps them between bursts. The lookups
//! here are those of the packet path: they allocate nothing and take a bounded, small number of
//! steps.

use std::net::{IpAddr, SocketAddr};

use super::addresses::AddressMap;
use super::digest::{self, Fingerprints};
use super::slots::{self, ServiceSlot};
use super::table::Table;
use super::tunnels::{self, Tunnel};
use super::{
    Address, Config, EgressConfig, Endpoint, Ipv4Net, Ipv6Net, MAX_SERVICES, Net, Pool, Problem,
    Problems, TunnelConfig,
};
use crate::bucket::BucketHash;
use crate::crypto::HkdfError;
use crate::keys::{KeyFile, Tenants, permutation_key, rendezvous_key};
use crate::relay::permutation::Permutation;
use crate::relay::rendezvous::Rendezvous;
use crate::tunnel::TokenKeys;
use crate::verdict::PortIndex;

/// A service's place: the relays in the order of the file, then the tunnels. Another snapshot may
/// have it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(pub u16);

/// A pool's place among the different pools of a snapshot. Services that share a pool share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIndex(pub u16);

/// What an address means to the POP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The address of at least one service.
    Vip,
    /// An egress address.
    Pool(PoolIndex),
    /// An address of one of the POP's own ports.
    Own(PortIndex),
    /// None of these.
    Other,
}

/// A service, ready for use.
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
}

impl Service {
    /// The servers, ascending: what the choice is an index into.
    pub fn targets(&self) -> &[Endpoint] {
        self.rendezvous.targets()
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
    /// The relay services, in the order of the file.
    pub services: Vec<Service>,
    /// The tunnel services, in the order of the file.
    pub tunnels: Vec<Tunnel>,
    /// Which token bucket a network has.
    pub bucket_hash: BucketHash,
    digest: String,
    fingerprints: Fingerprints,
    addresses: AddressMap<u32>,
    addresses6: AddressMap<u128>,
    endpoints: Table,
    // Ascending.
    vips6: Vec<((u128, u16), ServiceIndex)>,
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
        let pools = distinct_pools(config);
        let slots = slots::assign(config, previous);
        let (slots, tunnel_slots) =
            slots.split_at_checked(config.services.len()).unwrap_or((&slots, &[]));
        let mut services = Vec::with_capacity(config.services.len());
        for (service, &slot) in config.services.iter().zip(slots) {
            let Endpoint { ip, port } = service.vip;
            let egress = match service.egress {
                EgressConfig::Transparent => Egress::Transparent,
                EgressConfig::Pool(pool) => Egress::Pool {
                    pool,
                    index: pool_index(&pools, pool),
                    permutation: Permutation::new(
                        &permutation_key(&keys.relay, ip, port)?,
                        pool.bits,
                    ),
                },
            };
            let key = rendezvous_key(&keys.relay, ip, port)?;
            services.push(Service {
                name: service.name.clone(),
                slot,
                vip: service.vip,
                rendezvous: Rendezvous::new(&key, &service.targets),
                egress,
                mss: service.mss,
            });
        }
        Ok(Snapshot {
            bucket_hash: BucketHash::new(&keys.sequence)?,
            digest: digest::digest(config, keys, tenants)?,
            fingerprints: Fingerprints::new(keys, tenants)?,
            addresses: AddressMap::new(&meanings(config, &pools)),
            addresses6: AddressMap::new(&meanings6(config)),
            endpoints: Table::new(&endpoints(&services, &config.tunnels)),
            vips6: vips6(services.len(), &config.tunnels),
            tunnels: tunnels::tunnels(config, keys, tenants, tunnel_slots)?,
            config: config.clone(),
            services,
        })
    }

    /// SHA-256, in hex, of all that POPs must agree on to be one: services, targets, egress, MSS,
    /// policies, the mapping's version and the keys, but not what is a POP's own.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// The names of all services and the places of their counters.
    pub fn names(&self) -> impl Iterator<Item = (&str, ServiceSlot)> {
        let relays = self.services.iter().map(|service| (service.name.as_str(), service.slot));
        relays.chain(self.tunnels.iter().map(|tunnel| (tunnel.name.as_str(), tunnel.slot)))
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

    /// The relay service, if it is one.
    #[inline]
    pub fn service(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(usize::from(index.0))
    }

    /// The tunnel service, if it is one.
    #[inline]
    pub fn tunnel(&self, index: ServiceIndex) -> Option<&Tunnel> {
        self.tunnels.get(usize::from(index.0).checked_sub(self.services.len())?)
    }

    /// The name of a service of either kind, and the place of its counters.
    #[inline]
    pub fn name_and_slot(&self, index: ServiceIndex) -> Option<(&str, ServiceSlot)> {
        match self.service(index) {
            Some(service) => Some((&service.name, service.slot)),
            None => self.tunnel(index).map(|tunnel| (tunnel.name.as_str(), tunnel.slot)),
        }
    }

    /// The service of either kind at the VIP `ip`:`port`.
    #[inline]
    pub fn service_at(&self, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.find(AT_VIP, ip, port)
    }

    /// The service at the IPv6 VIP `ip`:`port`: a tunnel.
    #[inline]
    pub fn service_at6(&self, ip: u128, port: u16) -> Option<ServiceIndex> {
        let place = self.vips6.binary_search_by_key(&(ip, port), |(vip, _)| *vip).ok()?;
        self.vips6.get(place).map(|(_, index)| *index)
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

    #[inline]
    fn find(&self, space: u16, ip: u32, port: u16) -> Option<ServiceIndex> {
        self.endpoints.get(endpoint_key(space, ip, port)).map(|index| ServiceIndex(index as u16))
    }
}

/// The different pools, in the order of the file.
fn distinct_pools(config: &Config) -> Vec<Pool> {
    let mut pools = Vec::new();
    for service in &config.services {
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

#[inline]
fn destination(value: u32) -> Destination {
    match value & KIND {
        VIP => Destination::Vip,
        POOL => Destination::Pool(PoolIndex((value & !KIND) as u16)),
        OWN => Destination::Own(PortIndex((value & !KIND) as u8)),
        _ => Destination::Other,
    }
}

/// Prefixes and what they mean. Of equal prefixes the last counts.
type Meanings<A> = Vec<(Net<A>, u32)>;

/// What all IPv4 addresses mean.
fn meanings(config: &Config, pools: &[Pool]) -> Meanings<u32> {
    let mut meanings = no_clients(&NOT_UNICAST, &PRIVATE, config);
    for (index, pool) in (0..).zip(pools) {
        let net = Net { address: pool.first, prefix_len: pool.prefix_len() };
        meanings.push((net, POOL | index));
    }
    for service in &config.services {
        meanings.extend(service.targets.iter().map(|target| (host(target.ip), NO_CLIENT)));
        meanings.push((host(service.vip.ip), VIP));
    }
    let tunnels = config.tunnels.iter().filter_map(|tunnel| tunnel.vip4);
    meanings.extend(tunnels.map(|vip| (host(vip.ip().to_bits()), VIP)));
    meanings.extend(own(config));
    meanings
}

/// What all IPv6 addresses mean.
fn meanings6(config: &Config) -> Meanings<u128> {
    let mut meanings = no_clients(&NOT_UNICAST6, &PRIVATE6, config);
    let tunnels = config.tunnels.iter().filter_map(|tunnel| tunnel.vip6);
    meanings.extend(tunnels.map(|vip| (host(vip.ip().to_bits()), VIP)));
    meanings.extend(own(config));
    meanings
}

/// What no client can have, of the whole world and of the ports' links.
fn no_clients<A: Address>(
    not_unicast: &[Net<A>],
    private: &[Net<A>],
    config: &Config,
) -> Meanings<A> {
    let private = if config.pop.private_clients { &[] } else { private };
    let world = not_unicast.iter().chain(private).copied();
    let links = config.ports.iter().flat_map(|port| port.nets::<A>());
    let reserved = links.flat_map(|net| net.reserved()).map(host);
    world.chain(reserved).map(|net| (net, NO_CLIENT)).collect()
}

/// The POP's own addresses.
fn own<A: Address>(config: &Config) -> impl Iterator<Item = (Net<A>, u32)> {
    (0..)
        .zip(&config.ports)
        .flat_map(|(index, port)| port.nets::<A>().map(move |net| (host(net.address), OWN | index)))
}

/// The prefix of one address.
fn host<A: Address>(address: A) -> Net<A> {
    Net { address, prefix_len: A::BITS }
}

/// The entries of the table of endpoints.
fn endpoints(services: &[Service], tunnels: &[TunnelConfig]) -> Vec<(u64, u32)> {
    let mut entries = Vec::new();
    for (index, tunnel) in (services.len() as u32..).zip(tunnels) {
        let vip = tunnel.vip4.map(|vip| endpoint_key(AT_VIP, vip.ip().to_bits(), vip.port()));
        entries.extend(vip.map(|vip| (vip, index)));
    }
    for (index, service) in (0..).zip(services) {
        entries.push((endpoint_key(AT_VIP, service.vip.ip, service.vip.port), index));
        let space = match service.egress {
            Egress::Pool { index, .. } => index.0,
            Egress::Transparent => TRANSPARENT,
        };
        let targets = service.targets().iter();
        entries.extend(targets.map(|target| (endpoint_key(space, target.ip, target.port), index)));
    }
    entries
}

/// The IPv6 VIPs, ascending, of `tunnels` that come after `relays` others.
fn vips6(relays: usize, tunnels: &[TunnelConfig]) -> Vec<((u128, u16), ServiceIndex)> {
    let indices = (relays as u16..).map(ServiceIndex);
    let vips = indices.zip(tunnels).filter_map(|(index, tunnel)| {
        tunnel.vip6.map(|vip| ((vip.ip().to_bits(), vip.port()), index))
    });
    let mut vips: Vec<_> = vips.collect();
    vips.sort_unstable();
    vips
}

#[inline]
fn endpoint_key(space: u16, ip: u32, port: u16) -> u64 {
    u64::from(space) << 48 | u64::from(ip) << 16 | u64::from(port)
}

/// Spaces of endpoints beside those of the pools, which are below [`MAX_SERVICES`].
const AT_VIP: u16 = u16::MAX;
const TRANSPARENT: u16 = u16::MAX - 1;

/// Kinds of addresses in the map; 0 is an address that may be a client's.
const KIND: u32 = 7 << 28;
const NO_CLIENT: u32 = 1 << 28;
const VIP: u32 = 2 << 28;
const POOL: u32 = 3 << 28;
const OWN: u32 = 4 << 28;

/// Addresses that no host on the Internet has (RFC 6890): this network, loopback, link-local,
/// multicast, reserved.
const NOT_UNICAST: [Ipv4Net; 5] = [
    Net { address: 0, prefix_len: 8 },
    Net { address: 0x7f00_0000, prefix_len: 8 },
    Net { address: 0xa9fe_0000, prefix_len: 16 },
    Net { address: 0xe000_0000, prefix_len: 4 },
    Net { address: 0xf000_0000, prefix_len: 4 },
];

/// Addresses that no host on the Internet has (RFC 6890, RFC 4291): unspecified, loopback and
/// IPv4-compatible, IPv4-mapped, discard-only, link-local, site-local, multicast.
const NOT_UNICAST6: [Ipv6Net; 6] = [
    Net { address: 0, prefix_len: 96 },
    Net { address: 0xffff_0000_0000, prefix_len: 96 },
    Net { address: 0x0100 << 112, prefix_len: 64 },
    LINK_LOCAL6,
    Net { address: 0xfec0 << 112, prefix_len: 10 },
    Net { address: 0xff00 << 112, prefix_len: 8 },
];

const LINK_LOCAL6: Ipv6Net = Net { address: 0xfe80 << 112, prefix_len: 10 };

/// Whether a host of the Internet could have this address.
pub fn is_unicast(ip: u32) -> bool {
    !NOT_UNICAST.iter().any(|net| net.contains(ip))
}

/// Whether a host of the Internet could have this IPv6 address.
pub fn is_unicast6(ip: u128) -> bool {
    !NOT_UNICAST6.iter().any(|net| net.contains(ip))
}

/// Whether it is an IPv6 address of one link only.
pub fn is_link_local6(ip: u128) -> bool {
    LINK_LOCAL6.contains(ip)
}

/// Private addresses (RFC 1918, RFC 6598).
const PRIVATE: [Ipv4Net; 4] = [
    Net { address: 0x0a00_0000, prefix_len: 8 },
    Net { address: 0x6440_0000, prefix_len: 10 },
    Net { address: 0xac10_0000, prefix_len: 12 },
    Net { address: 0xc0a8_0000, prefix_len: 16 },
];

/// Unique local addresses (RFC 4193).
const PRIVATE6: [Ipv6Net; 1] = [Net { address: 0xfc00 << 112, prefix_len: 7 }];

const _: () = assert!(MAX_SERVICES < TRANSPARENT as usize);
