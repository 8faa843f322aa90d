//! What a WireGuard interface does with a packet to the VIP, from the program `wg`, which knows
//! those of the kernel and those of programs such as wireguard-go.
//!
//! The options that print secret keys are not used.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use super::capability;
use crate::inner::routes::IpPrefix;

/// A WireGuard interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireGuard {
    /// The port that it receives at.
    pub listen_port: Option<u16>,
    /// The mark of its own packets, for policy rules.
    pub fwmark: Option<NonZeroU32>,
    peers: Vec<WireGuardPeer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct WireGuardPeer {
    /// As printed; `(none)` while it has none.
    endpoint: String,
    allowed: Vec<IpPrefix>,
}

/// Where a packet goes that is routed into the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To this endpoint.
    Endpoint(SocketAddr),
    /// To a peer that has no endpoint yet.
    Unset,
    /// Nowhere that matters here: no peer takes it, or its endpoint is on a link.
    Elsewhere,
}

impl WireGuard {
    /// Asks for the interface `name`.
    ///
    /// # Errors
    /// The reason that it cannot be told: it is no WireGuard interface, `wg` is not installed, or
    /// does not answer this user.
    pub fn query(name: &str) -> Result<WireGuard, String> {
        let show = |what: &str| {
            let output = capability::run("wg", &["show", name, what], "").map_err(|error| {
                match error.kind() {
                    ErrorKind::NotFound => "the program wg is not installed".to_owned(),
                    _ => format!("wg cannot be run: {error}"),
                }
            })?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text.lines().next().unwrap_or("wg gives no reason").to_owned())
        };
        let (endpoints, allowed) = (show("endpoints")?, show("allowed-ips")?);
        Ok(WireGuard::parse(&endpoints, &allowed, &show("listen-port")?, &show("fwmark")?))
    }

    /// Where the interface sends a packet to `ip`: to the peer with the longest allowed prefix.
    pub fn hop(&self, ip: IpAddr) -> Hop {
        let longest = |peer: &WireGuardPeer| {
            let containing = peer.allowed.iter().filter(|prefix| prefix.contains(ip));
            containing.map(|prefix| prefix.bits()).max()
        };
        let taken = self.peers.iter().filter_map(|peer| Some((longest(peer)?, peer)));
        match taken.max_by_key(|(bits, _)| *bits) {
            Some((_, peer)) if peer.endpoint == "(none)" => Hop::Unset,
            Some((_, peer)) => peer.endpoint.parse().map_or(Hop::Elsewhere, Hop::Endpoint),
            None => Hop::Elsewhere,
        }
    }

    /// Both lists have one line for each peer: its key, and what is asked for.
    fn parse(endpoints: &str, allowed: &str, listen_port: &str, fwmark: &str) -> WireGuard {
        let allowed_of = |key: &str| -> Vec<IpPrefix> {
            let mut lines = allowed.lines().map(|line| line.split_whitespace());
            let line = lines.find_map(|mut words| (words.next() == Some(key)).then_some(words));
            line.into_iter().flatten().filter_map(|word| word.parse().ok()).collect()
        };
        let peers = endpoints.lines().filter_map(|line| {
            let (key, endpoint) = line.split_once(char::is_whitespace)?;
            Some(WireGuardPeer { endpoint: endpoint.trim().to_owned(), allowed: allowed_of(key) })
        });
        let mark = fwmark.trim().trim_start_matches("0x");
        WireGuard {
            listen_port: listen_port.trim().parse().ok().filter(|port| *port != 0),
            // It is `off` without a mark.
            fwmark: u32::from_str_radix(mark, 16).ok().and_then(NonZeroU32::new),
            peers: peers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(wireguard: &WireGuard, ip: &str) -> Hop {
        wireguard.hop(ip.parse().unwrap())
    }

    #[test]
    fn the_longest_allowed_prefix_selects_the_peer() {
        let endpoints = "A=\t127.0.0.1:51820\nB=\t(none)\nC=\t[2001:db8::1]:7\nD=\t[fe80::1%e]:7\n";
        let allowed =
            "A=\t0.0.0.0/0 10.0.0.0/8\nB=\t10.1.0.0/16\nC=\t2001:db8::/32\nD=\tfd00::/8\n";
        let wireguard = WireGuard::parse(endpoints, allowed, "40000\n", "0xca6c\n");
        assert_eq!(
            (wireguard.listen_port, wireguard.fwmark),
            (Some(40_000), NonZeroU32::new(51_820))
        );
        let first = Hop::Endpoint("127.0.0.1:51820".parse().unwrap());
        assert_eq!(hop(&wireguard, "203.0.113.20"), first);
        assert_eq!(hop(&wireguard, "10.2.0.1"), first);
        assert_eq!(hop(&wireguard, "10.1.0.1"), Hop::Unset);
        let third = Hop::Endpoint("[2001:db8::1]:7".parse().unwrap());
        assert_eq!(hop(&wireguard, "2001:db8::9"), third);
        assert_eq!(hop(&wireguard, "fd00::9"), Hop::Elsewhere, "on a link");
        assert_eq!(hop(&wireguard, "3fff::9"), Hop::Elsewhere, "no peer takes it");
        let none = WireGuard::parse("A=\t(none)\n", "A=\t(none)\n", "0\n", "off\n");
        assert_eq!((none.listen_port, none.fwmark), (None, None));
        assert_eq!(hop(&none, "10.0.0.1"), Hop::Elsewhere);
    }
}
