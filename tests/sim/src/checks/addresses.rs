//! Addresses that a client can have, by the config.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::setup::{self, Port, Setup, TUNNEL4, TUNNEL6, is_egress};

/// Whether no host of the Internet has that address.
pub(super) fn is_martian(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.octets()[0] >= 224
        }
        IpAddr::V6(ip) => {
            let high = ip.segments()[0];
            let low = ip.to_bits() >> 32;
            high >= 0xfc00 || high == 0x0100 || low == 0 || low == 0xffff
        }
    }
}

/// Whether a client can have that address and port, as far as a POP knows its own addresses.
pub(super) fn is_client(setup: &Setup, pop: usize, client: SocketAddr) -> bool {
    let private = |ip: Ipv4Addr| {
        let [a, b, ..] = ip.octets();
        ip.is_private() || (a == 100 && b & 0xc0 == 64)
    };
    let ours = setup.services.iter().any(|service| {
        let target = service.targets.iter().any(|target| target.ip() == client.ip());
        target || service.vip.ip() == client.ip() || is_egress(service.mode, client.ip())
    });
    let tunnel = [TUNNEL4.ip(), TUNNEL6.ip()].contains(&client.ip());
    let (own4, own6) = setup::own_addresses(pop, Port::Wan);
    let held = match client.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let of_link = [a, b, c] == [192, 0, 2] && [0, 255].contains(&d);
            private(ip) || of_link || ip == own4
        }
        // Each port's own address, and that of its link's routers (RFC 4291, section 2.6.1).
        IpAddr::V6(ip)
            if stands_for(ip).is_some_and(|ip| {
                !is_client(setup, pop, SocketAddr::new(ip.into(), client.port()))
            }) =>
        {
            true
        }
        IpAddr::V6(ip) => {
            let (_, other6) = setup::own_addresses(pop, Port::Lan);
            let anycast = [own6, other6].map(|own| own.to_bits() & !0xffff);
            [own6, other6].contains(&ip) || anycast.contains(&ip.to_bits())
        }
    };
    !is_martian(client.ip()) && !ours && !tunnel && !held && client.port() != 0
}

/// The IPv4 address that one of NAT64 or of 6to4 stands for.
fn stands_for(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::from_bits(ip.to_bits() as u32)),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((ip.to_bits() >> 80) as u32)),
        _ => None,
    }
}
