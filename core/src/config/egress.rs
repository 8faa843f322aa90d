//! The source addresses that targets see: of a pool, of a prefix, or the client's, in a tunnel or
//! as they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Family, IpNet, Net};
use crate::wire::{gue, ipv4, ipv6};

/// The source addresses that targets see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressConfig {
    /// Addresses of an IPv4 pool.
    Pool(Pool),
    /// Addresses of an IPv6 pool.
    Pool6(Pool6),
    /// Addresses of an IPv6 prefix.
    Prefix(Prefix),
    /// The client's own address.
    Transparent,
    /// The client's own address, to the VIP, inside another datagram.
    Encapsulated(Encapsulation),
}

impl EgressConfig {
    /// The prefix of its addresses; `None` where it has none of its own.
    pub fn net(self) -> Option<IpNet> {
        match self {
            EgressConfig::Pool(pool) => {
                Some(IpNet::V4(Net { address: pool.first, prefix_len: pool.prefix_len() }))
            }
            EgressConfig::Pool6(pool) => {
                Some(IpNet::V6(Net { address: pool.first, prefix_len: pool.len.get() }))
            }
            EgressConfig::Prefix(prefix) => {
                Some(IpNet::V6(Net { address: prefix.first, prefix_len: prefix.len.get() }))
            }
            EgressConfig::Transparent => None,
            EgressConfig::Encapsulated(Encapsulation { from, .. }) => Some(host(from)),
        }
    }

    /// How it is encapsulated, if it is.
    pub fn encapsulation(&self) -> Option<&Encapsulation> {
        match self {
            EgressConfig::Encapsulated(encapsulation) => Some(encapsulation),
            _ => None,
        }
    }

    /// Its name, as the config file and messages have it.
    pub fn kind(self) -> &'static str {
        match self {
            EgressConfig::Pool(_) | EgressConfig::Pool6(_) => "pool",
            EgressConfig::Prefix(_) => "prefix",
            EgressConfig::Transparent => "transparent",
            EgressConfig::Encapsulated(encapsulation) => encapsulation.protocol.name(),
        }
    }

    /// Whether `ip` is one of its addresses.
    pub fn holds(self, ip: IpAddr) -> bool {
        self.net().is_some_and(|net| net.contains(ip))
    }
}

/// Its kind, and the prefix of its addresses; of a tunnel, the way back.
impl fmt::Display for EgressConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            EgressConfig::Encapsulated(Encapsulation { from, way_back, .. }) => {
                write!(f, " {from} return {}", way_back.name())
            }
            _ => self.net().map_or(Ok(()), |net| write!(f, " {net}")),
        }
    }
}

fn host(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(ip) => IpNet::V4(Net { address: ip.to_bits(), prefix_len: u32::BITS as u8 }),
        IpAddr::V6(ip) => IpNet::V6(Net { address: ip.to_bits(), prefix_len: u128::BITS as u8 }),
    }
}

/// A tunnel to targets that take off its header, without state at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// What is between the outer IP header and the datagram inside.
    pub protocol: Encapsulate,
    /// The source of the outer header, of the targets' family.
    pub from: IpAddr,
    /// How the answers of targets get to clients.
    pub way_back: WayBack,
}

impl Encapsulation {
    /// Bytes of all headers around the datagram.
    pub fn overhead(&self) -> usize {
        let header = match Family::of(self.from) {
            Family::V4 => ipv4::HEADER_LEN,
            Family::V6 => ipv6::HEADER_LEN,
        };
        header + self.protocol.header_len()
    }

    /// Whether answers come back through the tunnel.
    pub fn is_through(&self) -> bool {
        self.way_back == WayBack::Through
    }
}

/// Protocols of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulate {
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213).
    IpIp,
    /// Generic UDP Encapsulation, variant 0 without flags (draft-ietf-intarea-gue-09).
    Gue,
}

impl Encapsulate {
    /// Its name, as the config file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Encapsulate::IpIp => "ipip",
            Encapsulate::Gue => "gue",
        }
    }

    /// Bytes of its own headers.
    pub const fn header_len(self) -> usize {
        match self {
            Encapsulate::IpIp => 0,
            Encapsulate::Gue => gue::HEADERS_LEN,
        }
    }
}

/// How the answers of targets get to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// From the target by its own route: no POP sees them.
    Direct,
    /// Through the tunnel and a POP.
    Through,
}

impl WayBack {
    /// Its name, as the config file has it.
    pub const fn name(self) -> &'static str {
        match self {
            WayBack::Direct => "direct",
            WayBack::Through => "through",
        }
    }
}

/// A prefix of IPv4 egress addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The lowest address, as the number that its dotted form stands for.
    pub first: u32,
    /// The base-2 logarithm of their number.
    pub bits: PoolBits,
}

impl Pool {
    /// The prefix length in bits.
    pub const fn prefix_len(self) -> u8 {
        32 - self.bits.get()
    }

    /// The address with this index in the pool.
    pub const fn address(self, index: u16) -> u32 {
        self.first | index as u32
    }

    /// The index of `ip`, an address of the pool.
    pub const fn index(self, ip: u32) -> u16 {
        (ip & (self.bits.addresses() - 1)) as u16
    }

    /// The highest address.
    pub const fn last(self) -> u32 {
        self.first | (self.bits.addresses() - 1)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix_len())
    }
}

/// The base-2 logarithm of the number of a pool's addresses, 2..=16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolBits(u8);

impl PoolBits {
    /// The smallest pool: 4 addresses, a /30.
    pub const MIN: PoolBits = PoolBits(2);
    /// The largest pool: 65,536 addresses, a /16.
    pub const MAX: PoolBits = PoolBits(16);

    /// `bits`, if it is in 2..=16.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(PoolBits(bits)) } else { None }
    }

    /// The number of bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number of addresses.
    pub const fn addresses(self) -> u32 {
        1 << self.0
    }
}

/// A prefix of IPv6 egress addresses, each of which stands for many clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool6 {
    /// The lowest address: no bit behind the prefix is set.
    pub first: u128,
    /// The length of the prefix.
    pub len: Pool6Len,
}

impl Pool6 {
    /// The index of `ip`, an address of the pool.
    pub const fn index(self, ip: u128) -> u128 {
        ip & (u128::MAX >> self.len.0)
    }

    /// Of how many random tags one stands for a client: the clients of 2000::/3 among 2^31 tags of
    /// 64512 ports and all addresses, 63 * 2^(28 - p).
    pub const fn random_tags(self) -> u64 {
        63 << (Pool6Len::MAX - self.len.0)
    }
}

/// The length of the prefix of an IPv6 pool in bits, 8..=28.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool6Len(u8);

impl Pool6Len {
    /// The shortest prefix: 2^120 addresses.
    pub const MIN: u8 = 8;
    /// The longest prefix: with 2^100 addresses, one random tag of 63 stands for a client.
    pub const MAX: u8 = 28;

    /// A prefix of `bits` bits, if that is in range.
    pub const fn new(bits: u8) -> Option<Self> {
        if Self::MIN <= bits && bits <= Self::MAX { Some(Pool6Len(bits)) } else { None }
    }

    /// The number of bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Bits of an address behind the prefix.
    pub const fn host_bits(self) -> u32 {
        Self::host_bits_of(self.0)
    }

    /// Bits of an address behind a prefix of `bits` bits.
    pub const fn host_bits_of(bits: u8) -> u32 {
        128 - bits as u32
    }
}

/// The length of an egress prefix in bits, 32..=80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLen(u8);

impl PrefixLen {
    /// The shortest prefix.
    pub const MIN: u8 = 32;
    /// The longest prefix: it leaves 16 bits for the check.
    pub const MAX: u8 = 80;

    /// A prefix of `bits` bits, if that is in range.
    pub const fn new(bits: u8) -> Option<Self> {
        if Self::MIN <= bits && bits <= Self::MAX { Some(PrefixLen(bits)) } else { None }
    }

    /// The number of bits.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Bits of the check behind the client's address.
    pub const fn check_bits(self) -> u32 {
        let room = 96 - self.0 as u32;
        if room < 32 { room } else { 32 }
    }
}

/// A prefix of IPv6 egress addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The lowest address: no bit behind the prefix is set.
    pub first: u128,
    /// The length of the prefix.
    pub len: PrefixLen,
}

impl Prefix {
    /// The highest address.
    pub const fn last(self) -> u128 {
        self.first | (u128::MAX >> self.len.0)
    }

    /// Whether `ip` is in it.
    pub const fn contains(self, ip: u128) -> bool {
        self.first <= ip && ip <= self.last()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from_bits(self.first), self.len.0)
    }
}
