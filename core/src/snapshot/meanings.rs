//! What addresses mean to the POP, as the numbers that the maps of a snapshot hold.

use super::service::{Destination, PoolIndex};
use crate::config::Config;
use crate::net::{Address, IpNet, Net, PortIndex, SpecialAddresses};

#[inline]
pub(super) fn destination(value: u32) -> Destination {
    match value & KIND {
        VIP => Destination::Vip,
        POOL => Destination::Pool(PoolIndex((value & !KIND) as u16)),
        OWN => Destination::Own(PortIndex((value & !KIND) as u8)),
        _ => Destination::Other,
    }
}

/// Prefixes and what they mean. Of equal prefixes the last counts.
pub(super) type Meanings<A> = Vec<(Net<A>, u32)>;

/// What all addresses of a family mean; `egress` are the different prefixes of egress addresses.
pub(super) fn meanings<A: SpecialAddresses>(config: &Config, egress: &[IpNet]) -> Meanings<A> {
    let mut meanings = no_clients(config);
    let egress = (0..).zip(egress);
    meanings.extend(egress.filter_map(|(index, net)| Some((A::of_net(*net)?, POOL | index))));
    meanings.extend(served(config));
    meanings.extend(own(config));
    meanings
}

/// Targets, and then VIPs of both kinds of services.
fn served<A: Address>(config: &Config) -> impl Iterator<Item = (Net<A>, u32)> {
    let targets = config.relays.iter().flat_map(|service| &service.targets);
    let targets = targets.filter_map(|target| Some((host(A::of(target.ip())?), NO_CLIENT)));
    let relays = config.relays.iter().map(|service| service.vip);
    let vips = relays.chain(config.tunnels.iter().flat_map(|tunnel| tunnel.vips()));
    targets.chain(vips.filter_map(|vip| Some((host(A::of(vip.ip())?), VIP))))
}

/// What no client can have, of the whole world and of the ports' links.
fn no_clients<A: SpecialAddresses>(config: &Config) -> Meanings<A> {
    let private = if config.pop.private_clients { &[] } else { A::PRIVATE };
    let world = A::NOT_UNICAST.iter().chain(private).copied();
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
