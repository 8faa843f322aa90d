//! The open side of a tunnel: the addresses that its agents have on the IPv6 Internet.

use std::net::Ipv6Addr;

use crate::net::{Ipv6Net, Net};

/// `tunnel.open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenConfig {
    /// The prefix of the agents' addresses.
    pub prefix: OpenPrefix,
    /// Where agents may send to, besides each other.
    pub to: Vec<Ipv6Net>,
    /// The source of the POP's own ICMPv6 messages.
    pub icmp_source: Ipv6Addr,
}

/// A prefix of open addresses, which all POPs announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPrefix {
    /// Its lowest address.
    pub first: u128,
    len: u8,
}

impl OpenPrefix {
    /// The shortest prefix.
    pub const LEN_MIN: u8 = 32;
    /// The longest prefix, which leaves 15 bits to tell addresses from made-up ones.
    pub const LEN_MAX: u8 = 48;

    /// The prefix `net`, if its length is right.
    pub fn new(net: Ipv6Net) -> Option<OpenPrefix> {
        let fits = (Self::LEN_MIN..=Self::LEN_MAX).contains(&net.prefix_len);
        fits.then(|| OpenPrefix { first: net.first(), len: net.prefix_len })
    }

    /// Bits of the prefix.
    #[inline]
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// Bits of an address behind the prefix.
    #[inline]
    pub const fn host_bits(self) -> u32 {
        u128::BITS - self.len as u32
    }

    /// The prefix.
    pub const fn net(self) -> Ipv6Net {
        Net { address: self.first, prefix_len: self.len }
    }
}
