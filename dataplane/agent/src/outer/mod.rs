//! The outer side: segments between this host and the VIP, without the kernel's own TCP.
//!
//! The kernel must neither process these segments (it would answer each with a RST) nor use their
//! port for its own connections. [`ReservedPort`] reserves the port, [`Firewall`] drops the
//! segments before the kernel's TCP and after its connection tracking, [`Receiver`] receives them
//! before that through a packet socket with a filter, and [`Sender`] sends through a raw socket.
//!
//! This takes CAP_NET_RAW and CAP_NET_ADMIN alone: [`capability::check`] names a missing one.

pub mod capability;
pub mod conntrack;
pub mod counts;
pub mod deferred;
pub mod errors;
pub mod filter;
pub mod firewall;
pub mod link;
pub mod loops;
pub mod path;
pub mod port;
pub mod receiver;
pub mod route;
pub mod segment;
pub mod sender;
pub mod steering;
pub mod uplink;
pub mod wireguard;

pub use counts::UplinkCounts;
pub use firewall::{Firewall, FirewallError};
pub use loops::{Carried, RouteWatch};
pub use port::{ReservePortError, ReservedPort};
pub use receiver::Receiver;
pub use sender::Sender;
pub use steering::{Steering, SteeringError};
pub use uplink::{Uplink, UplinkConfig, UplinkError};

use std::net::{IpAddr, SocketAddr};

/// Checks that `address` can be a VIP.
///
/// # Errors
/// The reason and the remedy.
pub fn check_vip(address: SocketAddr) -> Result<SocketAddr, &'static str> {
    let ip = address.ip();
    if address.port() == 0 {
        return Err("port 0 is no port; give the port of the tunnel service");
    }
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err("an IPv4-mapped address; write it as IPv4, such as 192.0.2.1:443")
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err("a link-local address, which no POP announces; give the VIP")
        }
        IpAddr::V4(v4) if v4.is_broadcast() => Err("the broadcast address; give the VIP"),
        _ if ip.is_unspecified() => {
            Err("the unspecified address; give the VIP that the POPs announce")
        }
        _ if ip.is_multicast() => Err("a multicast address; TCP, and so a VIP, is unicast"),
        _ => Ok(address),
    }
}

/// The endpoints of the segments as this host sees them, before any NAT on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEndpoints {
    /// This host's address and the agent's port.
    pub local: SocketAddr,
    /// The VIP, of the same family.
    pub vip: SocketAddr,
}

/// The longest segment with its header, in bytes; longer ones are not received. Fits a jumbo frame.
pub const SEGMENT_LEN_MAX: usize = 9216;

/// Segments sent or received by one system call.
pub const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_vips_are_refused() {
        for (text, reason) in [
            ("192.0.2.1:0", "port 0"),
            ("0.0.0.0:443", "the unspecified address"),
            ("[::]:443", "the unspecified address"),
            ("224.0.0.1:443", "multicast"),
            ("[ff02::1]:443", "multicast"),
            ("255.255.255.255:443", "broadcast"),
            ("[::ffff:192.0.2.1]:443", "write it as IPv4"),
            ("[fe80::1]:443", "link-local"),
        ] {
            let error = check_vip(text.parse().unwrap()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for text in ["192.0.2.1:443", "10.0.0.1:1", "[2001:db8::1]:443", "[fd00::1]:65535"] {
            assert!(check_vip(text.parse().unwrap()).is_ok(), "{text}");
        }
    }
}
