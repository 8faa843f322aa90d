//! `tunnel.open` as it is written.

use serde::Deserialize;

/// IPv6 addresses of the agents of an IPv4 VIP
/// ([what they are](protocol-tunnel.md#17-open-addresses)). Hosts that know nothing of the tunnel
/// reach agents at them, and agents reach these hosts, through any POP. Such a tunnel serves one
/// tenant, and has a `tunnel_mtu` of 1324 or more. The same on all POPs, but for `icmp_source`.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawOpen {
    /// The prefix of the addresses, as `ADDRESS/LENGTH`, which all POPs announce; it overlaps
    /// nothing else of the config. Range: a /32 to a /48; each bit less halves the made-up
    /// addresses that pass ([how many](limits.md#open-tunnels)). Reload: yes where there was none;
    /// another one breaks connections.
    pub(in crate::config) prefix: String,
    /// Prefixes that agents may send to, as `ADDRESS/LENGTH`; each other they always may. Never
    /// sent to are VIPs, pools, addresses of ports and other tunnels' open addresses; gateways,
    /// targets, private addresses (RFC 4193), `pop.not_clients` and `hints.peers` only where a
    /// prefix here lies within what is refused; and so for what stands for an IPv4 address of
    /// these. Addresses of other POPs' ports belong into `pop.not_clients`. Range: at least one,
    /// such as `["2000::/3"]`, and at most 64. Reload: yes; who is left out is cut off.
    pub(in crate::config) to: Vec<String>,
    /// The IPv6 address that the POP sends ICMPv6 errors about such packets from, within no
    /// `prefix`. It may be a VIP or an address of a port.
    pub(in crate::config) icmp_source: String,
}
