//! Which of this host's addresses reaches the VIP: what the kernel's routing says right now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The source address that the kernel chooses towards `vip`. Nothing is sent.
///
/// # Errors
/// When there is no route, or the family is turned off.
pub fn source_towards(vip: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match vip {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    from(any, vip)
}

/// The source address to use from now on: `current` stays as long as it may. Only a host that
/// moved takes another, not one whose IPv6 privacy address was replaced (RFC 8981): then the old
/// one lives on beside it, in the same /64.
///
/// # Errors
/// As [`source_towards`].
pub fn keep_or_move(current: IpAddr, vip: SocketAddr) -> io::Result<IpAddr> {
    let chosen = source_towards(vip)?;
    let same_link = match (current, chosen) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    };
    if same_link && from((current, 0).into(), vip).is_ok() {
        return Ok(current);
    }
    Ok(chosen)
}

fn from(source: SocketAddr, vip: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(source)?;
    socket.connect(vip)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_reaches_loopback() {
        let vip = "127.0.0.1:443".parse().unwrap();
        let address = source_towards(vip).unwrap();
        assert_eq!(address, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(keep_or_move(address, vip).unwrap(), address);
        assert_eq!(keep_or_move(IpAddr::from([127, 0, 0, 9]), vip).unwrap(), address);
    }
}
