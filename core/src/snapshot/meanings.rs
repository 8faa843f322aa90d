//! What addresses mean to the POP, as the numbers that the maps of a snapshot hold.

use super::service::{Destination, PoolIndex};
use crate::config::{Config, OpenConfig, RelayConfig};
use crate::net::{Address, IpNet, Net, PortIndex, ServiceIndex, SpecialAddresses, stand_ins};

#[inline]
pub(super) fn destination(value: u32) -> Destination {
    match value & KIND {
        VIP => Destination::Vip,
        POOL => Destination::Pool(PoolIndex((value & !KIND) as u16)),
        OWN => Destination::Own(PortIndex((value & !KIND) as u8)),
        OPEN => Destination::Open(ServiceIndex((value & !KIND) as u16)),
        _ => Destination::Other { client_ok: is_client(value) },
    }
}

/// Prefixes and what they mean. Of equal prefixes the last counts.
pub(super) type Meanings<A> = Vec<(Net<A>, u32)>;

/// Whether addresses that mean this can be a client's.
#[inline(always)]
pub(super) fn is_client(value: u32) -> bool {
    value & KIND == 0
}

/// Whether addresses that mean this are clients and gateways of a port.
pub(super) fn is_gateway(value: u32) -> bool {
    value == GATEWAY
}

/// Whether addresses that mean this are targets of a service.
pub(super) fn is_target(value: u32) -> bool {
    value & KIND == TARGET
}

/// What all addresses of a family mean; `egress` are the different prefixes of egress addresses.
pub(super) fn meanings<A: SpecialAddresses>(config: &Config, egress: &[IpNet]) -> Meanings<A> {
    let mut meanings = outside(no_clients(config), &routed(config, egress));
    meanings.extend(gateways(config, &meanings));
    meanings.extend(opens(config));
    let egress = (0..).zip(egress);
    meanings.extend(egress.filter_map(|(index, net)| Some((A::of_net(*net)?, POOL | index))));
    meanings.extend(served(config));
    meanings.extend(own(config));
    meanings
}

/// Targets, and then VIPs of both kinds of services.
fn served<A: Address>(config: &Config) -> impl Iterator<Item = (Net<A>, u32)> {
    let targets = config.relays.iter().flat_map(RelayConfig::target_addresses);
    let targets = targets.filter_map(|target| Some((host(A::of(target.ip())?), TARGET)));
    let relays = config.relays.iter().map(|service| service.vip);
    let vips = relays.chain(config.tunnels.iter().flat_map(|tunnel| tunnel.vips()));
    targets.chain(vips.filter_map(|vip| Some((host(A::of(vip.ip())?), VIP))))
}

/// The IPv6 addresses that stand for an IPv4 address (NAT64: RFC 6052; 6to4: RFC 3056) that no
/// client can have; `ipv4` is what the latter mean.
pub(super) fn embedded(config: &Config, ipv4: &Meanings<u32>, egress: &[IpNet]) -> Meanings<u128> {
    let no_clients = ipv4.iter().filter(|(_, value)| !is_client(*value));
    let embedded = no_clients.flat_map(|(net, _)| stand_ins(*net)).map(|net| (net, NO_CLIENT));
    outside(embedded.collect(), &routed(config, egress))
}

/// All prefixes that are routed to the POPs: those of egress and of open addresses.
fn routed(config: &Config, egress: &[IpNet]) -> Vec<IpNet> {
    let opens = config.tunnels.iter().filter_map(|tunnel| tunnel.open.as_ref());
    let opens = opens.map(|open| IpNet::V6(open.prefix.net()));
    egress.iter().copied().chain(opens).collect()
}

/// The prefixes of open addresses.
fn opens<A: Address>(config: &Config) -> impl Iterator<Item = (Net<A>, u32)> {
    let first = config.relays.len() as u32;
    let tunnels = (first..).zip(&config.tunnels);
    tunnels.filter_map(|(index, tunnel)| {
        let net = IpNet::V6(tunnel.open.as_ref()?.prefix.net());
        Some((A::of_net(net)?, OPEN | index))
    })
}

/// What agents of `open` may send to, besides each other: 1 for these addresses. The longest prefix
/// counts, be it one of `open` or of what is refused to agents, and of equal ones that of `open`.
/// Refused is all that is of the POPs, their links or services, or can be no client, as `ipv4` and
/// `ipv6` say; private addresses, even if clients may have them; and what stands for an IPv4
/// address of these.
pub(super) fn reachable(
    config: &Config,
    open: &OpenConfig,
    ipv4: &Meanings<u32>,
    ipv6: &Meanings<u128>,
) -> Meanings<u128> {
    let stand_ins = refused(config, ipv4).into_iter().flat_map(stand_ins);
    let source = host(open.icmp_source.to_bits());
    let refused = stand_ins.chain(refused(config, ipv6)).chain([source]).map(|net| (net, 0));
    refused.chain(open.to.iter().map(|net| (*net, 1))).collect()
}

/// What agents may not send to, in one family.
fn refused<A: SpecialAddresses>(config: &Config, meanings: &Meanings<A>) -> Vec<Net<A>> {
    let known = meanings.iter().filter(|(_, value)| *value != 0).map(|(net, _)| *net);
    let peers = config.hints.iter().flat_map(|hints| &hints.peers);
    let peers = peers.filter_map(|peer| A::of(peer.ip())).map(host);
    known.chain(A::PRIVATE.iter().copied()).chain(peers).collect()
}

/// Those of `meanings` that are not within `routed` prefixes, whose meaning would be lost.
fn outside<A: Address>(mut meanings: Meanings<A>, routed: &[IpNet]) -> Meanings<A> {
    let routed: Vec<_> = routed.iter().filter_map(|net| A::of_net(*net)).collect();
    meanings.retain(|(net, _)| {
        !routed.iter().any(|pool| pool.prefix_len < net.prefix_len && pool.contains(net.address))
    });
    meanings
}

/// The gateways of ports, which may be clients unless `no_clients` or the config says otherwise.
fn gateways<A: Address>(config: &Config, no_clients: &Meanings<A>) -> Meanings<A> {
    let gateways = config.ports.iter().flat_map(|port| port.gateways_of::<A>());
    let meaning = |ip| {
        let refused = no_clients.iter().any(|(net, _)| net.contains(ip));
        let served = config.pop.gateway_clients && !refused;
        (host(ip), if served { GATEWAY } else { NO_CLIENT })
    };
    gateways.map(|(ip, _)| meaning(ip)).collect()
}

/// What no client can have, of the whole world, of the ports' links and by the operator's word.
fn no_clients<A: SpecialAddresses>(config: &Config) -> Meanings<A> {
    let private = if config.pop.private_clients { &[] } else { A::PRIVATE };
    let refused = config.pop.not_clients.iter().filter_map(|net| A::of_net(*net));
    let world = A::NOT_UNICAST.iter().chain(private).copied().chain(refused);
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

/// Kinds of addresses in the map; 0 is an address that may be a client's.
const KIND: u32 = 7 << 28;
const NO_CLIENT: u32 = 1 << 28;
const VIP: u32 = 2 << 28;
const POOL: u32 = 3 << 28;
const OWN: u32 = 4 << 28;
const TARGET: u32 = 5 << 28;
const OPEN: u32 = 6 << 28;

/// A gateway of a port, of the kind of clients.
const GATEWAY: u32 = 1;
