//! Interfaces of this host by number: name and kind, from rtnetlink(7).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use rustix::net::netdevice::name_to_index;

use anyrelay_netlink::{self as netlink, Request};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The kind of a virtual interface, such as `wireguard` or `tun`.
    pub kind: Option<String>,
}

impl Link {
    /// The interface with this index.
    ///
    /// # Errors
    /// When it does not exist, or the kernel does not answer.
    pub fn by_index(index: u32) -> io::Result<Link> {
        // struct ifinfomsg: family, padding, type, index, flags, change.
        let mut header = [0; HEADER];
        if let Some(place) = header.get_mut(4..).and_then(<[u8]>::first_chunk_mut) {
            *place = index.to_ne_bytes();
        }
        Link::parse(&Request::new(RTM_GETLINK, &header).ask(None, RTM_NEWLINK)?)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether a program of this host, or WireGuard, sends what goes into it in packets of its own.
    pub fn is_tunnel(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind))
    }

    fn parse(body: &[u8]) -> Option<Link> {
        let attributes = body.get(HEADER..)?;
        let text = |bytes: &[u8]| {
            let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        };
        let kind = netlink::find(attributes, IFLA_LINKINFO)
            .and_then(|info| netlink::find(info, IFLA_INFO_KIND));
        let name = netlink::find(attributes, IFLA_IFNAME)?;
        Some(Link { name: text(name), kind: kind.map(text) })
    }
}

/// The index of the interface `name`.
///
/// # Errors
/// When it does not exist.
pub fn index_of(name: &str) -> io::Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    Ok(name_to_index(&socket, name)?)
}

/// Kinds whose packets leave as UDP (or TCP), which an agent can carry. That of WireGuard in a
/// program is `tun`, as are other programs'.
const TUNNELS: [&str; 4] = ["wireguard", "amneziawg", "tun", "ovpn"];
// linux/rtnetlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_no_tunnel() {
        let link = Link::by_index(index_of("lo").unwrap()).unwrap();
        assert_eq!(link, Link { name: "lo".to_owned(), kind: None });
        assert!(!link.is_tunnel());
        assert!(index_of("no-such-device").is_err());
        assert!(Link::by_index(0x7fff_ffff).is_err());
    }

    #[test]
    fn the_kind_is_nested() {
        let kind = netlink::attribute(IFLA_INFO_KIND, b"wireguard\0");
        let body = [
            vec![0; HEADER],
            netlink::attribute(IFLA_IFNAME, b"wg0\0"),
            netlink::attribute(IFLA_LINKINFO, &kind),
        ]
        .concat();
        let link = Link::parse(&body).unwrap();
        assert_eq!(link, Link { name: "wg0".to_owned(), kind: Some("wireguard".to_owned()) });
        assert!(link.is_tunnel());
        assert_eq!(Link::parse(&body[..HEADER]), None);
    }
}
