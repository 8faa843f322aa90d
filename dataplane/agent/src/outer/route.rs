//! The kernel's route to the VIP: source address and device. The device comes from rtnetlink(7),
//! the address from a UDP socket. Both are steered as the agent's segments are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyrelay_netlink::RouteQuestion;

use super::link::index_of;
use super::steering::Steering;

/// The source address that the kernel chooses towards `vip`. Sends nothing.
///
/// # Errors
/// When no route exists, or the family is disabled.
pub fn source_towards(vip: SocketAddr, steering: &Steering) -> io::Result<IpAddr> {
    let any: SocketAddr = match vip {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let source = from(any, vip, steering)?;
    if steering.interface.is_some() && vip.is_ipv4() {
        // A bound socket without a route would look for the VIP on the link itself.
        let question = question(Some(source), vip.ip(), steering)?;
        RouteQuestion { in_table: true, ..question }.exists()?;
    }
    Ok(source)
}

/// The source address from now on: `current` as long as possible. A host that moved takes another
/// one, but a host whose IPv6 privacy address was replaced (RFC 8981) does not: the old address
/// stays valid beside the new one, in the same /64.
///
/// # Errors
/// As [`source_towards`].
pub fn keep_or_move(current: IpAddr, vip: SocketAddr, steering: &Steering) -> io::Result<IpAddr> {
    let chosen = source_towards(vip, steering)?;
    let same_link = match (current, chosen) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    };
    if same_link && from((current, 0).into(), vip, steering).is_ok() {
        return Ok(current);
    }
    Ok(chosen)
}

/// The index of the device through which packets to `to` leave, those from `from` if it is given.
///
/// # Errors
/// When no route exists, or the kernel does not answer.
pub fn device_towards(from: Option<IpAddr>, to: IpAddr, steering: &Steering) -> io::Result<u32> {
    question(from, to, steering)?.device()
}

/// The question for the route of packets to `to`, steered as the agent's segments are.
fn question(from: Option<IpAddr>, to: IpAddr, steering: &Steering) -> io::Result<RouteQuestion> {
    let device = steering.interface.as_ref().map(|name| index_of(name)).transpose()?;
    let mark = steering.mark.map(|mark| mark.get());
    Ok(RouteQuestion { from, mark, device, ..RouteQuestion::to(to) })
}

fn from(source: SocketAddr, vip: SocketAddr, steering: &Steering) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(source)?;
    steering.apply(&socket)?;
    socket.connect(vip)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_reaches_loopback() {
        let (vip, steering) = ("127.0.0.1:443".parse().unwrap(), Steering::default());
        let address = source_towards(vip, &steering).unwrap();
        assert_eq!(address, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(keep_or_move(address, vip, &steering).unwrap(), address);
        let other = IpAddr::from([127, 0, 0, 9]);
        assert_eq!(keep_or_move(other, vip, &steering).unwrap(), address);
    }

    #[test]
    fn loopback_is_reached_by_its_device() {
        let (loopback, steering) = (index_of("lo").unwrap(), Steering::default());
        for ip in ["127.0.0.1", "::1"] {
            let ip = ip.parse().unwrap();
            assert_eq!(device_towards(Some(ip), ip, &steering).unwrap(), loopback);
            assert_eq!(device_towards(None, ip, &steering).unwrap(), loopback);
        }
        // An address that this host does not have cannot be a source.
        let (from, to) = (IpAddr::from([192, 0, 2, 77]), IpAddr::from([192, 0, 2, 78]));
        assert!(device_towards(Some(from), to, &steering).is_err());
    }
}
