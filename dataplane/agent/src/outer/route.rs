//! The kernel's route to the VIP: source address and device. The device comes from rtnetlink(7),
//! the address from a UDP socket. Both are steered as the agent's segments are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::AddressFamily;

use super::link::index_of;
use super::steering::Steering;
use anyrelay_netlink::{self as netlink, Request};

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
        get_route(Some(source), vip.ip(), steering, RTM_F_FIB_MATCH)?;
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
    let body = get_route(from, to, steering, 0)?;
    device_in(&body).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether this host has the address itself.
pub fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The body of the answer to RTM_GETROUTE, for packets to `to`.
fn get_route(
    from: Option<IpAddr>,
    to: IpAddr,
    steering: &Steering,
    flags: u32,
) -> io::Result<Vec<u8>> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (from, to) = (from.map(bytes), bytes(to));
    let bits = (to.len() * 8) as u8;
    let family = if to.len() == 4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let from_bits = if from.is_some() { bits } else { 0 };
    // struct rtmsg: family, lengths of destination and source, five that are zero, flags.
    let mut header = vec![family.as_raw() as u8, bits, from_bits, 0, 0, 0, 0, 0];
    header.extend(flags.to_ne_bytes());
    let mut request = Request::new(RTM_GETROUTE, &header).attribute(RTA_DST, &to);
    if let Some(from) = from {
        request = request.attribute(RTA_SRC, &from);
    }
    if let Some(mark) = steering.mark {
        request = request.attribute(RTA_MARK, &mark.get().to_ne_bytes());
    }
    if let Some(interface) = &steering.interface {
        request = request.attribute(RTA_OIF, &index_of(interface)?.to_ne_bytes());
    }
    request.ask(None, RTM_NEWROUTE)
}

/// The device in the body of an answer.
fn device_in(body: &[u8]) -> Option<u32> {
    netlink::number(body.get(ROUTE_HEADER..)?, RTA_OIF)
}

fn from(source: SocketAddr, vip: SocketAddr, steering: &Steering) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(source)?;
    steering.apply(&socket)?;
    socket.connect(vip)?;
    Ok(socket.local_addr()?.ip())
}

// linux/rtnetlink.h
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_MARK: u16 = 16;
const ROUTE_HEADER: usize = 12;

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
        assert!(is_own(other) && !is_own(IpAddr::from([192, 0, 2, 77])));
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

    #[test]
    fn truncated_replies_are_errors() {
        let body = [
            vec![0; ROUTE_HEADER],
            netlink::attribute(RTA_DST, &[192, 0, 2, 1]),
            netlink::attribute(RTA_OIF, &77u32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(device_in(&body), Some(77));
        for len in 0..body.len() {
            assert_eq!(device_in(&body[..len]), None, "{len} bytes");
        }
    }
}
