//! This host's route to a target: its source address, and the MTU of its link (rtnetlink(7)).
//!
//! The MTU is the link's own, and not what the kernel has learned of the path.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyrelay_netlink::{self as netlink, Request};
use rustix::net::AddressFamily;

use crate::interfaces;

/// A route of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The source address.
    pub own: IpAddr,
    /// The MTU of the link, in bytes.
    pub link_mtu: u16,
}

impl Route {
    /// The route to `to`.
    ///
    /// # Errors
    /// When there is none, or the kernel does not say.
    pub fn to(to: IpAddr) -> io::Result<Self> {
        let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        // Nothing is sent; the port has no meaning.
        socket.connect(SocketAddr::new(to, DISCARD))?;
        let own = socket.local_addr()?.ip();
        let mtu = interfaces::mtu(interface(to)?)?;
        Ok(Route { own, link_mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
    }
}

/// Whether `ip` is an address of this host.
pub(super) fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// The index of the interface towards `to`.
fn interface(to: IpAddr) -> io::Result<i32> {
    let (family, bytes) = match to {
        IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
    };
    // struct rtmsg: family, lengths of destination and source, and what is zero in a question.
    let mut header = [0; ROUTE_HEADER];
    (header[0], header[1]) = (family.as_raw() as u8, (bytes.len() * 8) as u8);
    let request = Request::new(RTM_GETROUTE, &header).attribute(RTA_DST, &bytes);
    let answer = request.ask(None, RTM_NEWROUTE)?;
    let index = netlink::number(answer.get(ROUTE_HEADER..).unwrap_or_default(), RTA_OIF);
    let index = index.and_then(|index| i32::try_from(index).ok());
    index.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

const DISCARD: u16 = 9;
// linux/rtnetlink.h
const ROUTE_HEADER: usize = 12;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_oneself_is_the_loopback_link() {
        let own = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(Route::to(own).unwrap(), Route { own, link_mtu: u16::MAX });
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(!is_own([192, 0, 2, 77].into()));
    }
}
