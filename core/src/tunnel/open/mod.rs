//! The open side of a tunnel: an agent behind a NAT has an IPv6 address of its own, which hosts
//! that know nothing of the tunnel reach, and are reached from, through any POP.
//!
//! The address holds what a token holds ([`address`]), so POPs keep no state here either: up, it
//! proves that the agent may send, and down, it says where to and with which numbers.
//! docs/protocol-tunnel.md, section 17, describes it.

pub mod address;
pub mod down;
pub mod quote;
pub mod up;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4};

use crate::config::OpenConfig;
use crate::crypto::{Cmac, HkdfError};
use crate::keys::{KeyFile, open_offset_key};

pub use address::{OpenAddressError, OpenAddresses, OpenAgent};
pub use down::OpenDown;
pub use up::{OpenUp, Outside};

/// The open side of a tunnel service.
#[derive(Clone, Debug)]
pub struct OpenService {
    /// The addresses of its agents.
    pub addresses: OpenAddresses,
    /// The source of the POP's own ICMPv6 messages.
    pub icmp_source: Ipv6Addr,
    /// The key of the offsets of packets down.
    offsets: Cmac,
}

impl OpenService {
    /// The open side, as `config` says, of the tunnel at `vip`, which `tenant` has to itself.
    ///
    /// # Errors
    /// When HKDF fails, which it does not for keys of this length.
    pub fn new(
        config: &OpenConfig,
        vip: SocketAddrV4,
        tenant: u16,
        keys: &KeyFile,
    ) -> Result<Self, HkdfError> {
        Ok(OpenService {
            addresses: OpenAddresses::new(&keys.tokens, vip, tenant, config.prefix)?,
            icmp_source: config.icmp_source,
            offsets: Cmac::new(&open_offset_key(&keys.sequence, SocketAddr::V4(vip))?),
        })
    }
}
