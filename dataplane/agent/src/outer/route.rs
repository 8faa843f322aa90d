//! The kernel's route to the VIP: source address and device. The device comes from rtnetlink(7),
//! the address from a UDP socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// The source address that the kernel chooses towards `vip`. Sends nothing.
///
/// # Errors
/// When no route exists, or the family is disabled.
pub fn source_towards(vip: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match vip {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    from(any, vip)
}

/// The source address from now on: `current` as long as possible. A host that moved takes another
/// one, but a host whose IPv6 privacy address was replaced (RFC 8981) does not: the old address
/// stays valid beside the new one, in the same /64.
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

/// The index of the device through which segments from `from` to `vip` leave.
///
/// # Errors
/// When no route exists, or the kernel does not answer.
pub fn device_towards(from: IpAddr, vip: IpAddr) -> io::Result<u32> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &route_request(from, vip), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; ANSWER_MAX];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    device_in_reply(answer.get(..len).unwrap_or_default())
}

/// The index of the device `name`.
///
/// # Errors
/// When it does not exist.
pub fn index_of(name: &str) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(name_to_index(&socket, name)?)
}

/// RTM_GETROUTE for packets from `from` to `to`.
fn route_request(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (from, to) = (bytes(from), bytes(to));
    let bits = (to.len() * 8) as u8;
    let family = if to.len() == 4 { AddressFamily::INET } else { AddressFamily::INET6 };
    // struct rtmsg: family, lengths of destination and source; the rest is zero.
    let mut body = vec![family.as_raw() as u8, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (kind, address) in [(RTA_DST, to), (RTA_SRC, from)] {
        body.extend(((ATTRIBUTE_HEADER + address.len()) as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(address);
    }
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = ((MESSAGE_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(RTM_GETROUTE.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The device in the answer to a [`route_request`].
fn device_in_reply(answer: &[u8]) -> io::Result<u32> {
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    let word = |at: usize| {
        let bytes = answer.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let half = |at: usize| {
        let bytes = answer.get(at..)?.first_chunk()?;
        Some(u16::from_ne_bytes(*bytes))
    };
    match half(4).ok_or_else(short)? {
        NLMSG_ERROR => {
            let errno = word(MESSAGE_HEADER).ok_or_else(short)?.cast_signed();
            return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
        }
        RTM_NEWROUTE => {}
        _ => return Err(short()),
    }
    let mut at = MESSAGE_HEADER + ROUTE_HEADER;
    while let (Some(len), Some(kind)) = (half(at), half(at + 2)) {
        if kind == RTA_OIF {
            return word(at + ATTRIBUTE_HEADER).ok_or_else(short);
        }
        at += usize::from(len).max(ATTRIBUTE_HEADER).next_multiple_of(4);
    }
    Err(short())
}

fn from(source: SocketAddr, vip: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(source)?;
    socket.connect(vip)?;
    Ok(socket.local_addr()?.ip())
}

// linux/netlink.h, linux/rtnetlink.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const MESSAGE_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const ATTRIBUTE_HEADER: usize = 4;
const ANSWER_MAX: usize = 4096;

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

    #[test]
    fn loopback_is_reached_by_its_device() {
        let loopback = index_of("lo").unwrap();
        for ip in ["127.0.0.1", "::1"] {
            let ip = ip.parse().unwrap();
            assert_eq!(device_towards(ip, ip).unwrap(), loopback);
        }
        // An address that this host does not have cannot be a source.
        let (from, to) = (IpAddr::from([192, 0, 2, 77]), IpAddr::from([192, 0, 2, 78]));
        assert!(device_towards(from, to).is_err());
        assert!(index_of("no-such-device").is_err());
    }

    #[test]
    fn truncated_replies_are_errors() {
        let mut answer = vec![0; MESSAGE_HEADER + ROUTE_HEADER];
        answer[4..6].copy_from_slice(&RTM_NEWROUTE.to_ne_bytes());
        for (kind, value) in [(RTA_DST, 1u32), (RTA_OIF, 77)] {
            answer.extend(8u16.to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            answer.extend(value.to_ne_bytes());
        }
        assert_eq!(device_in_reply(&answer).unwrap(), 77);
        for len in 0..answer.len() {
            assert!(device_in_reply(&answer[..len]).is_err(), "{len} bytes");
        }
    }
}
