//! The peer of an inner address: the one with the longest allowed prefix that contains it.
//!
//! Each packet is looked up: an outgoing one by its destination, an incoming one by its source.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The number of a peer in the order of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u16);

/// A prefix of inner addresses, with all bits after its length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    first: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// The lowest address.
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// The length in bits.
    pub const fn bits(self) -> u8 {
        self.len
    }

    /// Whether the prefix contains `ip`.
    pub fn contains(self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && masked(ip, self.len) == number(self.first)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// The syntax is wrong.
    #[error("not ADDRESS/BITS, such as 10.9.0.2/32 or fd00::2/128")]
    Form,
    /// The address has bits after the prefix length.
    #[error("the address has bits past the prefix; {0} is meant, or another length")]
    HostBits(IpPrefix),
}

impl FromStr for IpPrefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, len) = text.split_once('/').ok_or(ParsePrefixError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| ParsePrefixError::Form)?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        let len = len.parse().ok().filter(|&len: &u8| digits && len <= max);
        let len = len.ok_or(ParsePrefixError::Form)?;
        let prefix = IpPrefix { first: from_number(masked(address, len), address.is_ipv4()), len };
        if prefix.first == address { Ok(prefix) } else { Err(ParsePrefixError::HostBits(prefix)) }
    }
}

/// The allowed prefixes of all peers.
#[derive(Clone, Debug, Default)]
pub struct PeerRoutes {
    v4: Table,
    v6: Table,
}

/// The prefixes of one address family: longest first, and by address within a length.
#[derive(Clone, Debug, Default)]
struct Table(Vec<(u8, Vec<(u128, PeerIndex)>)>);

impl PeerRoutes {
    /// The routes to these peers. Of two equal prefixes one wins; a checked config has none.
    pub fn new(prefixes: impl IntoIterator<Item = (IpPrefix, PeerIndex)>) -> PeerRoutes {
        let mut routes = PeerRoutes::default();
        for (prefix, peer) in prefixes {
            let Table(lengths) =
                if prefix.first.is_ipv4() { &mut routes.v4 } else { &mut routes.v6 };
            let at = lengths.partition_point(|(len, _)| *len > prefix.len);
            if lengths.get(at).is_none_or(|(len, _)| *len != prefix.len) {
                lengths.insert(at, (prefix.len, Vec::new()));
            }
            if let Some((_, entries)) = lengths.get_mut(at) {
                entries.push((number(prefix.first), peer));
            }
        }
        for (_, entries) in routes.v4.0.iter_mut().chain(&mut routes.v6.0) {
            entries.sort_unstable();
        }
        routes
    }

    /// The peer of `ip`.
    pub fn peer_of(&self, ip: IpAddr) -> Option<PeerIndex> {
        let Table(lengths) = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths.iter().find_map(|(len, entries)| {
            let first = masked(ip, *len);
            let at = entries.binary_search_by_key(&first, |(first, _)| *first).ok()?;
            entries.get(at).map(|(_, peer)| *peer)
        })
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

fn masked(ip: IpAddr, len: u8) -> u128 {
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let past = u32::from(u8::saturating_sub(width, len));
    number(ip) & u128::MAX.checked_shl(past).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few bits vary, so that prefixes nest and addresses hit them.
    fn address() -> impl Strategy<Value = IpAddr> {
        (any::<bool>(), any::<u8>(), any::<u8>()).prop_map(|(v4, high, low)| {
            let number = u128::from(high & 3) << 20 | u128::from(low & 7);
            if v4 { from_number(0x0a00_0000 | number, true) } else { from_number(number, false) }
        })
    }

    fn prefix() -> impl Strategy<Value = IpPrefix> {
        (address(), 0..=128u8).prop_map(|(address, len)| {
            let len = if address.is_ipv4() { len / 4 } else { len };
            IpPrefix { first: from_number(masked(address, len), address.is_ipv4()), len }
        })
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_of_all_prefixes_finds(
            prefixes in prop::collection::hash_set(prefix(), 0..30),
            addresses in prop::collection::vec(address(), 1..30),
        ) {
            let all: Vec<_> = prefixes.into_iter().zip((0..).map(PeerIndex)).collect();
            let routes = PeerRoutes::new(all.iter().copied());
            for ip in addresses {
                let slow = all.iter().filter(|(prefix, _)| prefix.contains(ip));
                let slow = slow.max_by_key(|(prefix, _)| prefix.len).map(|(_, peer)| *peer);
                prop_assert_eq!(routes.peer_of(ip), slow, "{}", ip);
            }
        }

        #[test]
        fn prefixes_round_trip_as_text(prefix in prefix()) {
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
    }

    #[test]
    fn refuses_texts_that_are_not_prefixes() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "x/8", "10.0.0.0/"] {
            assert_eq!(text.parse::<IpPrefix>(), Err(ParsePrefixError::Form), "{text}");
        }
        let error = "10.9.0.2/24".parse::<IpPrefix>().unwrap_err();
        assert!(error.to_string().contains("10.9.0.0/24"), "{error}");
    }

    #[test]
    fn families_do_not_mix() {
        let routes = PeerRoutes::new([("::/0".parse().unwrap(), PeerIndex(1))]);
        assert_eq!(routes.peer_of([10, 0, 0, 1].into()), None);
        assert_eq!(routes.peer_of("fd00::1".parse().unwrap()), Some(PeerIndex(1)));
    }
}
