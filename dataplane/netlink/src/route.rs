//! The kernel's route to an address (rtnetlink(7)).

use std::io;
use std::net::{IpAddr, UdpSocket};

use rustix::net::AddressFamily;

use super::{Request, number};

/// A question for the route that a packet takes.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuestion {
    /// Its destination.
    pub to: IpAddr,
    /// Its source, of the same family, if that is chosen.
    pub from: Option<IpAddr>,
    /// Its firewall mark.
    pub mark: Option<u32>,
    /// The index of the device that it must leave by.
    pub device: Option<u32>,
    /// Whether the route must be in a table: what a device would find by asking its link is none.
    pub in_table: bool,
}

impl RouteQuestion {
    /// For any packet to `to`.
    pub fn to(to: IpAddr) -> Self {
        RouteQuestion { to, from: None, mark: None, device: None, in_table: false }
    }

    /// The index of the device that the packet leaves by.
    ///
    /// # Errors
    /// When no route exists, or the kernel does not answer.
    pub fn device(&self) -> io::Result<u32> {
        device_in(&self.ask()?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Whether there is a route.
    ///
    /// # Errors
    /// When there is none, or the kernel does not answer.
    pub fn exists(&self) -> io::Result<()> {
        self.ask().map(drop)
    }

    fn ask(&self) -> io::Result<Vec<u8>> {
        let (from, to) = (self.from.map(octets), octets(self.to));
        let bits = (to.len() * 8) as u8;
        let family = if self.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let from_bits = if from.is_some() { bits } else { 0 };
        // struct rtmsg: family, lengths of destination and source, five that are zero, flags.
        let mut header = vec![family.as_raw() as u8, bits, from_bits, 0, 0, 0, 0, 0];
        header.extend(if self.in_table { RTM_F_FIB_MATCH } else { 0 }.to_ne_bytes());
        let mut request = Request::new(RTM_GETROUTE, &header).attribute(RTA_DST, &to);
        if let Some(from) = from {
            request = request.attribute(RTA_SRC, &from);
        }
        for (kind, value) in [(RTA_MARK, self.mark), (RTA_OIF, self.device)] {
            if let Some(value) = value {
                request = request.attribute(kind, &value.to_ne_bytes());
            }
        }
        request.ask(None, RTM_NEWROUTE)
    }
}

/// Whether this host has the address itself.
pub fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The device in the body of an answer.
fn device_in(body: &[u8]) -> Option<u32> {
    number(body.get(ROUTE_HEADER..)?, RTA_OIF)
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
    use crate::attribute;

    #[test]
    fn truncated_replies_are_errors() {
        let body = [
            vec![0; ROUTE_HEADER],
            attribute(RTA_DST, &[192, 0, 2, 1]),
            attribute(RTA_OIF, &77u32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(device_in(&body), Some(77));
        for len in 0..body.len() {
            assert_eq!(device_in(&body[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        let [own, other] = [[127, 0, 0, 1], [192, 0, 2, 77]].map(IpAddr::from);
        assert!(is_own(own) && !is_own(other));
    }
}
