//! Rules for datagrams inside others, on their way to targets.

use anyrelay_core::config::{Encapsulate, RelayConfig};
use anyrelay_kit::carried::{self, Carried};
use anyrelay_kit::frames::addresses;

use super::cases::Case;

/// The datagram inside `ip`, which a POP sent, if it is one to a target; not inside a fragment.
///
/// # Panics
/// If its headers are not those of a service, to one of its targets.
pub fn checked<'a>(case: &Case, ip: &'a [u8]) -> Option<&'a [u8]> {
    let services = &case.snapshot.config.relays;
    let tunnels = services.iter().filter_map(|relay| relay.egress.encapsulation());
    let carried = carried::sent(ip, |src| tunnels.clone().any(|tunnel| tunnel.from == src));
    let carried = carried.unwrap_or_else(|rule| panic!("{rule}: {ip:02x?}"));
    let Carried { is_gue, src, dst, inside } = carried?;
    let protocol = if is_gue { Encapsulate::Gue } else { Encapsulate::IpIp };
    let (_, to) = addresses(inside).unwrap();
    let is_this = |relay: &RelayConfig| {
        let tunnel = relay.egress.encapsulation();
        tunnel.is_some_and(|tunnel| (tunnel.protocol, tunnel.from) == (protocol, src))
            && relay.vip.ip() == to
            && relay.target_addresses().any(|target| target.ip() == dst)
    };
    assert!(services.iter().any(is_this), "a tunnel of no service: {ip:02x?}");
    Some(inside)
}
