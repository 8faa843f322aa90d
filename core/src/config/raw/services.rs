//! `[[relay]]` and `[[tunnel]]` as they are written.

use serde::Deserialize;

use super::open::RawOpen;
use super::target::RawTarget;

/// The same on all POPs. Relays may be added and removed while the POP runs.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRelay {
    /// The service's name, unique among relays and tunnels. Range: 1 to 63 of `A-Z a-z 0-9 _ -`.
    pub(in crate::config) name: String,
    /// `ADDRESS:PORT` that clients connect to, unique; IPv6 as `[2001:db8::10]:443`. `check` warns
    /// if it lies within the network of a port, where hosts ask for it by ARP or neighbour
    /// discovery, which the POP does not answer. Reload: yes; another VIP is another service.
    pub(in crate::config) vip: String,
    /// Servers, all of one family, each as `ADDRESS:PORT` or as a table
    /// ([below](#relaytargets)). This or `targets_file` is required. `check` warns of one within
    /// the network of a port that is towards clients alone. Range: 1 to 256 entries, of 1 to 64
    /// addresses. Reload: yes, with dates ahead ([how](operations.md#changing-targets)); others
    /// break connections.
    #[serde(default)]
    pub(in crate::config) targets: Vec<RawTarget>,
    /// Path of a file in place of `targets`, `memory` and `skew`
    /// ([a targets file](#a-targets-file)), relative to the folder of the config. The POP reads it
    /// again when it changes. Default: none. Reload: as `targets`.
    pub(in crate::config) targets_file: Option<String>,
    /// How long a connection is looked for at the target where it began, after new ones go
    /// elsewhere, as a number with `ms`, `s`, `m`, `h` or `d`. Default: `24h`. Range: `1s` to
    /// `30d`. Reload: yes; shorter than the changes that it must still remember breaks connections.
    pub(in crate::config) memory: Option<String>,
    /// The largest difference between the clocks of two POPs, written as `memory` is. Default:
    /// `3s`. Range: `0s` to `60s`, and less than `memory`.
    pub(in crate::config) skew: Option<String>,
    /// The source addresses that targets see. A pool or prefix is routed to the POPs: they answer
    /// no ARP or neighbour discovery for it, and `check` warns if it lies within the network of a
    /// port. Reload: breaks connections.
    pub(in crate::config) egress: RawEgress,
    /// How answers get from targets to clients, with an egress of `ipip` or `gue` alone. Default:
    /// with such an egress `"through"`. Reload: breaks connections.
    pub(in crate::config) r#return: Option<RawReturn>,
    /// What it relays: `"tcp"`, `"udp"`, or `"both"`. UDP needs an egress other than a pool, whose
    /// tag only TCP carries. Two relays may have one VIP, each with one of the protocols. Default:
    /// `"tcp"`. Reload: yes; without a protocol that it has, the flows of that end.
    pub(in crate::config) protocol: Option<RawProtocol>,
    /// What of a client decides which target it has; not with a pool, where it is always the
    /// endpoint ([UDP](operations.md#udp)). Default: with UDP `"address"`, else `"endpoint"`.
    /// Reload: breaks connections.
    pub(in crate::config) choose_by: Option<RawChooseBy>,
    /// The largest MSS in SYNs, in bytes. `check` warns below 536 (IPv6: 1220), which every path
    /// carries. Default: the smallest port MTU less 40, or less 60 with IPv6 on a side, and less
    /// the headers of a tunnel that answers come back through. Range: 256 to that default.
    pub(in crate::config) mss: Option<i64>,
    /// The smallest MTU, in bytes, that an ICMP error over IPv4 about its segments may announce
    /// ([why](operations.md#the-path-mtu-at-the-targets)); IPv6 has its own minimum of 1280.
    /// Default: 1280 with a pool, else 552. Range: 68 to 1500.
    pub(in crate::config) icmp_mtu_floor: Option<i64>,
    /// How targets learn of a client's address and port, with a pool alone
    /// ([how they read it](operations.md#the-addresses-of-clients)). Default: none; they see the
    /// addresses of the pool.
    pub(in crate::config) client_address: Option<RawClientAddress>,
}

/// `relay.protocol`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawProtocol {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// Both, with the same targets: HTTP/2 beside HTTP/3, for example.
    Both,
}

/// `relay.choose_by`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawChooseBy {
    /// Its address: all that a host sends goes to one target, by TCP and by UDP, also when a NAT
    /// gives it another port.
    Address,
    /// Its address and port: the flows of a host are spread over the targets.
    Endpoint,
}

/// `relay.client_address`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawClientAddress {
    /// In a TCP option (TOA) of its SYNs and of its segments without data: kind 254 with 8 bytes of
    /// IPv4 clients, kind 253 with 20 bytes of IPv6 clients, where their options leave room for it.
    Toa,
}

/// `relay.egress`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawEgress {
    /// Addresses of that IPv4 prefix, a /16 to a /30, from IPv4 clients to IPv4 targets; or of that
    /// IPv6 prefix, a /8 to a /28, from IPv6 clients in 2000::/3 to IPv6 targets.
    Pool(String),
    /// Addresses of that IPv6 prefix, a /32 to a /80, from IPv4 clients to IPv6 targets.
    Prefix(String),
    /// The client's own address; VIP and targets are of one family.
    Transparent,
    /// The client's own address: the client's datagram goes to the target whole, to the VIP, inside
    /// another from this address (IP in IP). VIP and targets may be of different families, and the
    /// port of a target is that of the VIP.
    Ipip(String),
    /// The same in UDP (GUE, port 6080), of which routers and NICs spread the flows.
    Gue(String),
}

/// `relay.return`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawReturn {
    /// Back in the tunnel, to the address that it comes from, which is routed to the POPs.
    Through,
    /// As the VIP by the target's own route to the client, past the POPs. A change of targets
    /// breaks the connections that it moves.
    Direct,
}

/// The same on all POPs. Tunnels may be added and removed while the POP runs.
///
/// Reload: yes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTunnel {
    /// The service's name, unique among relays and tunnels. Range: 1 to 63 of `A-Z a-z 0-9 _ -`.
    pub(in crate::config) name: String,
    /// `ADDRESS:PORT` that agents connect to over IPv4. One of `vip4` and `vip6` is required.
    /// Default: none. Reload: yes where there was none; another one breaks connections.
    pub(in crate::config) vip4: Option<String>,
    /// `[ADDRESS]:PORT` that agents connect to over IPv6. Default: none. Reload: as `vip4`.
    pub(in crate::config) vip6: Option<String>,
    /// Names of the tenants that it serves, at least one. Default: all of the tenants file.
    pub(in crate::config) tenants: Option<Vec<String>>,
    /// T, the length of a tick in milliseconds. Default: 8000. Range: 100 to 60000. Reload: breaks
    /// connections.
    pub(in crate::config) tick_ms: Option<i64>,
    /// STRIDE, the distance of the sequence numbers of successive ticks, in bytes. Default: 4096.
    /// Range: 128 to 4096. Reload: breaks connections.
    pub(in crate::config) stride: Option<i64>,
    /// LAG, the number of ticks that the acks of data stay behind. Default: 4. Range: 1 to 8.
    /// Reload: breaks connections.
    pub(in crate::config) lag: Option<i64>,
    /// OFFSET, the range beyond a tick's number that sequence numbers of data vary in, in bytes.
    /// Default: 16384. Range: 1024 to 16384, a multiple of 64, and no less than the TCP payload of
    /// a datagram of `tunnel_mtu` bytes. Reload: breaks connections.
    pub(in crate::config) offset: Option<i64>,
    /// The largest IP datagram between agents and POPs, in bytes. Range: 576 to the smallest MTU of
    /// a port towards clients. Reload: yes; while it falls, longer datagrams are dropped for up to
    /// a tick.
    #[serde(default = "tunnel_mtu")]
    pub(in crate::config) tunnel_mtu: i64,
    /// Addresses of agents on the IPv6 Internet. Default: none; agents reach agents alone. Reload:
    /// yes where there was none; without it connections break.
    pub(in crate::config) open: Option<RawOpen>,
}

fn tunnel_mtu() -> i64 {
    1400
}
