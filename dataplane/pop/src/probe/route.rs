//! This host's route to a target: its source address, and the MTU of its link (rtnetlink(7)).
//!
//! The MTU is the link's own, and not what the kernel has learned of the path.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyrelay_netlink::RouteQuestion;

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
        let device = RouteQuestion::to(to).device()?;
        let device = i32::try_from(device).map_err(|_| io::ErrorKind::InvalidData)?;
        let mtu = interfaces::mtu(device)?;
        Ok(Route { own, link_mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
    }
}

const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_oneself_is_the_loopback_link() {
        let own = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(Route::to(own).unwrap(), Route { own, link_mtu: u16::MAX });
    }
}
