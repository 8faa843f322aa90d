//! The snapshot itself: it is built once, and then answers the lookups of workers.

use std::net::{IpAddr, SocketAddr};

use cpu_vector::Isa;

use super::digest::{self, Fingerprints};
use super::plans::Plans;
use super::service::{Destination, PoolIndex, Service, TargetPlace};
use super::tables::{Lookups, Tabled};
use super::tunnels::{self, Tunnel};
use super::udp::{UdpEnds, ascending};
use super::{meanings, on_link, relays, slots};

use crate::bucket::BucketHash;
use crate::config::{Config, RelayConfig};
use crate::crypto::HkdfError;
use crate::fragment::FragmentHash;
use crate::keys::{KeyFile, Tenants};
use crate::net::{Endpoint, IpEndpoint, PortIndex, Protocol, ServiceIndex, ServiceSlot};
use crate::problem::{Problem, Problems};
use crate::relay::Relay;
use crate::relay::hints::HintKey;
use crate::relay::keys::RelayKeys;
use crate::relay::memo::MemoKey;
use crate::relay::pool::plan::Plan;
use crate::time::UnixTime;
use crate::tunnel::TokenKeys;
use crate::tunnel::open::Outside;

/// Config and keys, ready for use.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The config that it was built from.
    pub config: Config,
    /// Which worker reassembles a datagram.
    pub fragment_hash: FragmentHash,
    /// Which token bucket a network has.
    pub bucket_hash: BucketHash,
    /// Under which keys a POP remembers what it knows of egress endpoints.
    pub memo_key: MemoKey,
    /// Seals and opens hints between POPs.
    pub hint_key: HintKey,
    services: Vec<Service>,
    relay_keys: RelayKeys,
    plans: Plans,
    digest: String,
    targets_digest: String,
    fingerprints: Fingerprints,
    lookups: Lookups,
    /// Of transparent services, ascending.
    passing_targets: Vec<IpAddr>,
    tunnel_ends: Vec<IpAddr>,
    targets_on_link: Box<[(PortIndex, IpAddr)]>,
    udp: Option<UdpEnds>,
}

impl Snapshot {
    /// Makes `config`, `keys` and `tenants`, whose file is empty where `config` names none, ready
    /// for use. Counter slots are those of `previous` for services whose names it has.
    ///
    /// # Errors
    /// When `config` names a tenant that is not in `tenants`, an open tunnel serves several, or
    /// keys cannot be derived.
    pub fn build(
        config: &Config,
        keys: &KeyFile,
        tenants: &Tenants,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        let mut mistakes = tunnels::unknown_tenants(config, tenants);
        mistakes.extend(tunnels::several_tenants(config, tenants));
        if !mistakes.is_empty() {
            return Err(Problems(mistakes));
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
        let slots = slots::assign(config, previous.map_or(&[], Snapshot::services));
        let (slots, tunnel_slots) =
            slots.split_at_checked(config.relays.len()).unwrap_or((&slots, &[]));
        let relay_keys =
            RelayKeys::new(&keys.relay, config.instructions.unwrap_or(Isa::largest()).or_less())?;
        let mut services = Vec::new();
        for (service, &slot) in config.relays.iter().zip(slots) {
            let mut before = previous.into_iter().flat_map(Snapshot::relays);
            let before = before.find(|relay| relay.name == service.name);
            let relay = relays::relay(service, slot, &relay_keys, before)?;
            services.extend(relay.map(Box::new).map(Service::Relay));
        }
        let tunnels = tunnels::tunnels(config, keys, tenants, tunnel_slots)?;
        services.extend(tunnels.into_iter().map(Box::new).map(Service::Tunnel));
        let egress = relays::distinct_egress(config);
        Ok(Snapshot {
            fragment_hash: FragmentHash::new(&keys.relay)?,
            bucket_hash: BucketHash::new(&keys.sequence)?,
            memo_key: MemoKey::new(&keys.sequence)?,
            hint_key: HintKey::new(&keys.relay)?,
            digest: digest::digest(config, keys, tenants)?,
            targets_digest: digest::targets_digest(config),
            fingerprints: Fingerprints::new(keys, tenants)?,
            lookups: Lookups::new(config, &services, &egress),
            passing_targets: passing_targets(config),
            tunnel_ends: tunnel_ends(config),
            targets_on_link: on_link::targets_on_link(config),
            udp: UdpEnds::new(config),
            config: config.clone(),
            plans: Plans::new(&services),
            relay_keys,
            services,
        })
    }

    /// SHA-256, in hex, of all that POPs must agree on to be one: services, egress, MSS, policies,
    /// the mapping's version and the keys, but neither targets nor what is a POP's own.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// SHA-256, in hex, of the targets of all relays as they are written.
    pub fn targets_digest(&self) -> &str {
        &self.targets_digest
    }

    /// SHA-256, in hex, of what the targets of all relays are for segments that arrive at `now`.
    /// POPs must agree on it; those that differ in later dates alone do.
    pub fn targets_in_force(&self, now: UnixTime) -> String {
        digest::targets_in_force(&self.config, now)
    }

    pub(super) fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// All services: relays, then tunnels, each in the order of the file.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The names of all services and the places of their counters.
    pub fn names(&self) -> impl Iterator<Item = (&str, ServiceSlot)> {
        self.services.iter().map(|service| (service.name(), service.slot()))
    }

    /// The places of the services' counters.
    pub fn slots(&self) -> impl Iterator<Item = ServiceSlot> {
        self.services.iter().map(Service::slot)
    }

    /// The relays, in the order of the file.
    pub fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.services.iter().filter_map(|service| match service {
            Service::Relay(relay) => Some(&**relay),
            Service::Tunnel(_) => None,
        })
    }

    /// The vector instructions that workers compute with: those of the config, or the largest set
    /// below them that the CPU has and computes right with.
    #[inline(always)]
    pub fn isa(&self) -> Isa {
        self.relay_keys.isa
    }

    /// The keys that all relays share.
    #[inline]
    pub fn relay_keys(&self) -> &RelayKeys {
        &self.relay_keys
    }

    /// Whether any relay has a [plan](Snapshot::plan).
    #[inline]
    pub fn has_plans(&self) -> bool {
        !self.plans.is_empty()
    }

    /// The plan of a relay in pool mode, whose clients have one candidate each at `now`.
    #[inline]
    pub fn plan(&self, service: ServiceIndex, now: UnixTime) -> Option<&Plan> {
        self.plans.get(service, now)
    }

    /// The tunnels, in the order of the file.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.services.iter().filter_map(|service| match service {
            Service::Relay(_) => None,
            Service::Tunnel(tunnel) => Some(&**tunnel),
        })
    }

    /// The service with this index.
    #[inline]
    pub fn service(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(usize::from(index.0))
    }

    /// The relay with this index; `None` for a tunnel.
    #[inline]
    pub fn relay(&self, index: ServiceIndex) -> Option<&Relay> {
        match self.service(index)? {
            Service::Relay(relay) => Some(relay),
            Service::Tunnel(_) => None,
        }
    }

    /// The tunnel with this index; `None` for a relay.
    #[inline]
    pub fn tunnel(&self, index: ServiceIndex) -> Option<&Tunnel> {
        match self.service(index)? {
            Service::Relay(_) => None,
            Service::Tunnel(tunnel) => Some(tunnel),
        }
    }

    /// The keys of tokens, of any VIP: epochs are the same at all. `None` without tunnels.
    pub fn token_keys(&self) -> Option<&TokenKeys> {
        let service = &self.tunnels().next()?.service;
        service.vip4.as_ref().or(service.vip6.as_ref()).map(|vip| &vip.tokens)
    }

    /// What the address `dst` means to the POP. A link-local one may be that of several ports.
    #[inline]
    pub fn classify<A: Tabled>(&self, dst: A) -> Destination {
        meanings::destination(A::tables(&self.lookups).meanings.get(dst))
    }

    /// [`Snapshot::classify`] for an address of either family.
    #[inline]
    pub fn classify_ip(&self, dst: IpAddr) -> Destination {
        match dst {
            IpAddr::V4(ip) => self.classify(ip.to_bits()),
            IpAddr::V6(ip) => self.classify(ip.to_bits()),
        }
    }

    /// Whether `ip` can be a client's: unicast, not private (RFC 1918, RFC 6598, RFC 4193) unless
    /// the config allows that, not a VIP, egress, target or own address, none that the config
    /// refuses, and no IPv6 address that stands for an IPv4 address of these.
    #[inline]
    pub fn client_ok(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.lookups.ipv4.can_be_client(ip.to_bits()),
            IpAddr::V6(ip) => self.lookups.ipv6.can_be_client(ip.to_bits()),
        }
    }

    /// Whether `client` can be a client: its address can be one ([`Snapshot::client_ok`]), and it
    /// has a port.
    #[inline(always)]
    pub fn is_client(&self, client: &IpEndpoint) -> bool {
        match client {
            IpEndpoint::V4(at) => self.lookups.ipv4.can_be_client(at.ip) && at.port != 0,
            IpEndpoint::V6(at) => self.lookups.ipv6.can_be_client(at.ip) && at.port != 0,
        }
    }

    /// Of an IPv4 address that can be a client's, whether it is a gateway of a port.
    #[inline]
    pub fn client_is_gateway(&self, ip: u32) -> Option<bool> {
        let meaning = self.lookups.ipv4.meanings.get(ip);
        meanings::is_client(meaning).then(|| meanings::is_gateway(meaning))
    }

    /// Whether `ip` can be a client's and is a gateway of a port.
    pub fn is_gateway(&self, ip: IpAddr) -> bool {
        meanings::is_gateway(self.meaning(ip))
    }

    /// The targets on a prefix of a port, and that port.
    pub fn targets_on_link(&self) -> &[(PortIndex, IpAddr)] {
        &self.targets_on_link
    }

    /// Whether `ip` is a target's.
    pub fn is_target(&self, ip: IpAddr) -> bool {
        meanings::is_target(self.meaning(ip))
    }

    fn meaning(&self, ip: IpAddr) -> u32 {
        match ip {
            IpAddr::V4(ip) => self.lookups.ipv4.meanings.get(ip.to_bits()),
            IpAddr::V6(ip) => self.lookups.ipv6.meanings.get(ip.to_bits()),
        }
    }

    /// Where `ip`, which is no open address of the tunnel `index`, is for its agents.
    #[inline]
    pub fn outside_of(&self, index: ServiceIndex, ip: u128) -> Outside {
        if self.lookups.may_reach(index, ip) {
            return Outside::Allowed;
        }
        match self.classify(ip) {
            Destination::Open(_) => Outside::OtherService,
            _ => Outside::Refused,
        }
    }

    /// The service of either kind at the VIP `ip`:`port`; tunnels are of TCP.
    #[inline]
    pub fn service_at<A: Tabled>(
        &self,
        protocol: Protocol,
        ip: A,
        port: u16,
    ) -> Option<ServiceIndex> {
        A::tables(&self.lookups).at_vip(protocol, Endpoint { ip, port })
    }

    /// The tunnel at the VIP `vip`.
    pub fn tunnel_at(&self, vip: SocketAddr) -> Option<&Tunnel> {
        let index = match vip.ip() {
            IpAddr::V4(ip) => self.service_at(Protocol::Tcp, ip.to_bits(), vip.port()),
            IpAddr::V6(ip) => self.service_at(Protocol::Tcp, ip.to_bits(), vip.port()),
        };
        self.tunnel(index?)
    }

    /// The service that appears as addresses of `egress` to the target `ip`:`port`.
    #[inline]
    pub fn service_behind<A: Tabled>(
        &self,
        protocol: Protocol,
        egress: PoolIndex,
        ip: A,
        port: u16,
    ) -> Option<TargetPlace> {
        A::tables(&self.lookups).behind(protocol, egress, Endpoint { ip, port })
    }

    /// The transparent service that has the target `ip`:`port`.
    #[inline]
    pub fn transparent_service<A: Tabled>(
        &self,
        protocol: Protocol,
        ip: A,
        port: u16,
    ) -> Option<TargetPlace> {
        A::tables(&self.lookups).transparent(protocol, Endpoint { ip, port })
    }

    /// Whether any relay has UDP.
    #[inline]
    pub fn has_udp(&self) -> bool {
        self.udp.is_some()
    }

    /// Whether a datagram from `src` to `dst` may be of UDP that is relayed.
    pub fn may_relay_udp(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.udp.as_ref().is_some_and(|udp| udp.may_relay(src, dst))
    }

    /// Whether targets answer to `ip` in tunnels.
    pub fn is_tunnel_end(&self, ip: IpAddr) -> bool {
        self.tunnel_ends.binary_search(&ip).is_ok()
    }

    /// Whether `ip` is a target of a transparent service: its answers to clients pass here.
    pub fn is_passing_target(&self, ip: IpAddr) -> bool {
        self.passing_targets.binary_search(&ip).is_ok()
    }
}

/// The targets of transparent services, ascending.
fn passing_targets(config: &Config) -> Vec<IpAddr> {
    let services = config.relays.iter();
    let transparent = services.filter(|service| service.egress.net().is_none());
    ascending(transparent.flat_map(RelayConfig::target_addresses).map(|target| target.ip()))
}

/// The POP's ends of the tunnels that answers come through, ascending.
fn tunnel_ends(config: &Config) -> Vec<IpAddr> {
    let tunnels = config.relays.iter().filter_map(|service| service.egress.encapsulation());
    ascending(tunnels.filter(|tunnel| tunnel.is_through()).map(|tunnel| tunnel.from))
}
