//! Relays, as checked.

use std::net::SocketAddr;

use super::{EgressConfig, Epoch, TargetList};
use crate::net::Protocol;

/// `[[relay]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Its name, unique.
    pub name: String,
    /// The endpoint that clients connect to.
    pub vip: SocketAddr,
    /// The servers, all of one family.
    pub targets: TargetList,
    /// The path of the file that has them, relative to this file's folder.
    pub targets_file: Option<String>,
    /// Epochs of the list that a POP ran before a late change of its targets file, whose
    /// connections it still asks for. None is in the file.
    pub kept: Vec<Epoch>,
    /// The source addresses that they see.
    pub egress: EgressConfig,
    /// The largest MSS that a SYN may announce, in bytes.
    pub mss: u16,
    /// The smallest MTU that an ICMP error over IPv4 about its segments may announce, in bytes.
    pub icmp_mtu_floor: u16,
    /// How targets learn of a client's address, if they do; with a pool alone.
    pub client_address: Option<ClientAddress>,
    /// What it relays.
    pub protocols: Protocols,
    /// What of a client decides which target it has.
    pub choose_by: ChooseBy,
}

/// The transport protocols of a relay, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// Both.
    Both,
}

impl Protocols {
    /// Whether `protocol` is one of them.
    #[inline]
    pub const fn has(self, protocol: Protocol) -> bool {
        match self {
            Protocols::Both => true,
            Protocols::Tcp => matches!(protocol, Protocol::Tcp),
            Protocols::Udp => matches!(protocol, Protocol::Udp),
        }
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL.into_iter().filter(move |protocol| self.has(*protocol))
    }

    /// Whether one of them is one of `other`.
    pub fn meet(self, other: Protocols) -> bool {
        self.iter().any(|protocol| other.has(protocol))
    }

    /// The name, as the config file has it.
    pub fn name(self) -> &'static str {
        match self {
            Protocols::Tcp => "tcp",
            Protocols::Udp => "udp",
            Protocols::Both => "both",
        }
    }
}

/// What of a client decides which target it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChooseBy {
    /// Its address.
    Address,
    /// Its address and port.
    Endpoint,
}

impl ChooseBy {
    /// The name, as the config file has it.
    pub fn name(self) -> &'static str {
        match self {
            ChooseBy::Address => "address",
            ChooseBy::Endpoint => "endpoint",
        }
    }
}

/// How targets learn of a client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// By a TCP option (TOA).
    Toa,
}

impl ClientAddress {
    /// Its name, as the config file has it.
    pub fn name(self) -> &'static str {
        match self {
            ClientAddress::Toa => "toa",
        }
    }
}

impl RelayConfig {
    /// The addresses of its targets.
    pub fn target_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.targets.addresses()
    }
}
